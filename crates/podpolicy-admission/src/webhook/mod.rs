//! The webhook: an HTTPS server that API servers ask about each pod that is about to be created, the certificates that it needs,
//! and the MutatingWebhookConfiguration that tells API servers of it.
//!
//! [`serve`] runs on every replica, [`maintain`] acts on the one that leads. A pod is never refused here; what happens when nobody answers is
//! the configuration's failure policy.

mod certificate;
mod configuration;
mod fights;
mod keys;
mod options;
mod others;
mod review;
mod safety;
pub mod server;
mod upkeep;
mod validity;
mod warnings;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::StatusCode;
use jiff::Timestamp;
use kube::Client;
use podpolicy_engine::Program;
use tokio::sync::watch;

pub use certificate::Lifetimes;
pub use keys::keep_files;
pub use options::{CONFIGURATION_NAME, Certificates, Endpoint, EndpointError, FailurePolicy, Options, configuration_name};
pub use others::{LeftOut, Narrowed};
pub use review::{ReviewError, answer};
pub use server::ServeError;
pub use upkeep::{State, UpkeepError, is_configured, maintain, remove};

pub use crate::https::Limits;

use crate::https::Certificate;
use server::{Handler, Refusal};
use validity::Validity;

/// The program in force; none as long as not everything has been listed.
pub type Programs = watch::Receiver<Option<Arc<Program>>>;

/// Is told what the webhook does, to count it.
pub trait Observer: Send + Sync + 'static {
    /// A request was answered with this status.
    fn answered(&self, status: StatusCode, took: Duration);
    /// A certificate is served from now on.
    fn certificate_served(&self, expiry: Timestamp);
}

/// Listens, and serves in the future that is returned until `stop` ends.
///
/// Without a certificate handshakes fail, and without a program the answer is 503: then the failure policy decides.
pub async fn serve<Stop>(
    client: Client,
    options: &Options,
    programs: Programs,
    observer: Arc<dyn Observer>,
    stop: Stop,
) -> Result<(SocketAddr, impl Future<Output = Result<(), ServeError>> + Send + use<Stop>), ServeError>
where
    Stop: Future<Output = ()> + Send,
{
    let (local, listener) = server::bind(options.address).await?;
    let (sender, certificate) = watch::channel(None);
    let keeping = keys::keep(client, options.certificates.clone(), sender);
    let observing = observe(certificate.clone(), Arc::clone(&observer));
    let serving = server::serve(listener, certificate, Mutate { programs, observer }, options.limits, stop);
    let all = async move {
        tokio::select! {
            served = serving => served,
            never = keeping => match never {},
            never = observing => match never {},
        }
    };
    Ok((local, all))
}

/// Tells of each certificate when it ends.
async fn observe(mut certificate: Certificate, observer: Arc<dyn Observer>) -> Infallible {
    loop {
        let leaf = certificate.borrow_and_update().as_ref().and_then(|key| key.cert.first().cloned());
        if let Some(validity) = leaf.and_then(|leaf| Validity::of(&leaf)) {
            observer.certificate_served(validity.to);
        }
        if certificate.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Gives pods what the program says.
struct Mutate {
    programs: Programs,
    observer: Arc<dyn Observer>,
}

impl Handler for Mutate {
    fn answered(&self, status: StatusCode, took: Duration) {
        self.observer.answered(status, took);
    }

    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let program = self.programs.borrow().clone();
        let unready = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not everything has been listed yet; ask again later");
        let program = program.ok_or_else(unready)?;
        answer(&program, body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
    }
}
