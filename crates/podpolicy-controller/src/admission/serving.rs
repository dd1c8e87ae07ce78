//! The webhook's server, on every replica: it answers as long as API servers may ask, whoever leads and whoever decides now.

use std::{sync::Arc, time::Duration};

use kube::Client;
use podpolicy_admission::webhook::{self, Observer, Options};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{Backend, choose, is_native_served};
use crate::config::AdmissionMode;

/// How often it is asked whether the webhook is needed.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How long the webhook still answers once it is not needed any more.
const AFTERLIFE: Duration = Duration::from_secs(10);

/// Whether this replica answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Serving {
    #[default]
    No,
    Yes,
    /// It cannot, and tries again.
    Failed(String),
}

/// What decides whether the webhook is needed.
pub(super) struct Need {
    pub(super) mode: AdmissionMode,
    pub(super) client: Client,
    /// The name of the webhook's configuration.
    pub(super) configuration: String,
}

impl Need {
    /// Whether API servers ask, or are about to; none if nobody can tell.
    async fn is_there(&self) -> Option<bool> {
        let is_chosen = match self.mode {
            AdmissionMode::Webhook => true,
            AdmissionMode::Auto => choose(self.mode, is_native_served(&self.client).await.ok()?) == Backend::Webhook,
            AdmissionMode::Native | AdmissionMode::None => false,
        };
        if is_chosen {
            return Some(true);
        }
        webhook::is_configured(&self.client, &self.configuration).await.ok()
    }
}

/// Serves the webhook while it is needed.
pub(super) async fn keep(
    need: Need,
    options: Options,
    programs: webhook::Programs,
    observer: Arc<dyn Observer>,
    told: watch::Sender<Serving>,
) {
    loop {
        if need.is_there().await == Some(true) {
            match webhook::serve(need.client.clone(), &options, programs.clone(), Arc::clone(&observer), std::future::pending()).await {
                Ok((address, server)) => {
                    tracing::info!(%address, "serving the admission webhook");
                    told.send_replace(Serving::Yes);
                    let mut serving = JoinSet::new();
                    serving.spawn(server);
                    told.send_replace(serve_while_needed(&need, serving).await);
                }
                Err(error) => tell_failure(&told, error.to_string()),
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn serve_while_needed(need: &Need, mut serving: JoinSet<Result<(), webhook::ServeError>>) -> Serving {
    let mut was_needed = true;
    loop {
        let wait = if was_needed { LOOK_AGAIN } else { AFTERLIFE };
        tokio::select! {
            Some(ended) = serving.join_next() => return Serving::Failed(why(ended)),
            () = tokio::time::sleep(wait) => {
                let Some(is_needed) = need.is_there().await else { continue };
                if !is_needed && !was_needed {
                    tracing::info!("the admission webhook is not needed any more");
                    return Serving::No;
                }
                was_needed = is_needed;
            }
        }
    }
}

fn why(ended: Result<Result<(), webhook::ServeError>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the webhook's server ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => error.to_string(),
        },
    }
}

fn tell_failure(told: &watch::Sender<Serving>, message: String) {
    let failed = Serving::Failed(message);
    if *told.borrow() != failed
        && let Serving::Failed(message) = &failed
    {
        tracing::warn!("cannot serve the admission webhook: {message}");
    }
    told.send_replace(failed);
}
