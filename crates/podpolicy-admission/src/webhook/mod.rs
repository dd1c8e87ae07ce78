//! The webhook: an HTTPS server that API servers ask about each pod that is about to be created, the certificates that it needs,
//! and the MutatingWebhookConfiguration that tells API servers of it.
//!
//! [`serve`] runs on every replica, [`maintain`] acts on the one that leads. A pod is never refused here; what happens when nobody answers is
//! the configuration's failure policy.

mod certificate;
mod configuration;
mod keys;
mod options;
mod review;
mod safety;
pub mod server;
mod upkeep;
mod validity;
mod warnings;

use std::{net::SocketAddr, sync::Arc};

use hyper::StatusCode;
use kube::Client;
use podpolicy_engine::Program;
use tokio::sync::watch;

pub use certificate::Lifetimes;
pub use options::{CONFIGURATION_NAME, Certificates, Endpoint, EndpointError, FailurePolicy, Options, configuration_name};
pub use review::{ReviewError, answer};
pub use server::{Limits, ServeError};
pub use upkeep::{State, UpkeepError, is_configured, maintain, remove};

use server::{Handler, Refusal};

/// The program in force; none as long as not everything has been listed.
pub type Programs = watch::Receiver<Option<Arc<Program>>>;

/// Listens, and serves in the future that is returned until `stop` ends.
///
/// Without a certificate handshakes fail, and without a program the answer is 503: then the failure policy decides.
pub async fn serve<Stop>(
    client: Client,
    options: &Options,
    programs: Programs,
    stop: Stop,
) -> Result<(SocketAddr, impl Future<Output = Result<(), ServeError>> + Send + use<Stop>), ServeError>
where
    Stop: Future<Output = ()> + Send,
{
    let (local, listener) = server::bind(options.address).await?;
    let (sender, certificate) = watch::channel(None);
    let keeping = keys::keep(client, options.certificates.clone(), sender);
    let serving = server::serve(listener, certificate, Mutate(programs), options.limits, stop);
    let both = async move {
        tokio::select! {
            served = serving => served,
            never = keeping => match never {},
        }
    };
    Ok((local, both))
}

/// Gives pods what the program says.
struct Mutate(Programs);

impl Handler for Mutate {
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let program = self.0.borrow().clone();
        let unready = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not everything has been listed yet; ask again later");
        let program = program.ok_or_else(unready)?;
        answer(&program, body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
    }
}
