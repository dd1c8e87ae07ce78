//! Pods right from birth: the switch between the two backends, and what the loop learns of them. What pods are given is
//! `podpolicy-admission`'s business; here it is brought to the API server.
//!
//! Everything here runs beside the loop, which never waits for it: programs go in, states come out. The webhook is served on every replica;
//! all else is done by the one that leads.

mod compiled;
mod failures;
mod force;
mod native;
mod objects;
mod probe;
mod scope;
mod serving;
mod standing;
mod steps;
mod versions;
mod webhook;
mod write;

use std::{sync::Arc, time::Duration};

use kube::Client;
use podpolicy_admission::webhook::Observer;
use podpolicy_api::AdmissionBackend;
use podpolicy_engine::Program;
use tokio::{sync::watch, task::JoinSet};

use crate::{Config, Metrics, beside::Beside, config::AdmissionMode};

use serving::Serving;
use standing::Standings;
pub(crate) use standing::{AdmissionState, AtCreation, Problem, Progress};

/// The API that the native backend needs.
const NATIVE_API: &str = "admissionregistration.k8s.io/v1";
const NATIVE_RESOURCE: &str = "mutatingadmissionpolicies";

/// How long every API server may take to see a changed binding or configuration, which nothing tells.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How often an API server that does not serve the native API is asked again: it may have been upgraded.
const ASK_AGAIN: Duration = Duration::from_mins(5);
/// How long to wait before an API server that did not answer is asked again.
const ASK_SOON: Duration = Duration::from_secs(5);

/// Starts the tasks that give pods their settings when they are created: programs go in. `leading` says whether this operator may write.
pub(crate) fn start(
    client: &Client,
    config: &Config,
    leading: watch::Receiver<bool>,
    metrics: &Arc<Metrics>,
) -> Beside<Option<Arc<Program>>, AdmissionState> {
    let (inputs, received) = watch::channel(None);
    let first = match config.admission {
        AdmissionMode::None => AdmissionState::Off,
        AdmissionMode::Auto | AdmissionMode::Native | AdmissionMode::Webhook => AdmissionState::Starting,
    };
    let (sender, states) = watch::channel(Arc::new(first));
    let (name, scope) = (config.webhook_name(), scope::Scope::of(&config.watched));
    let mut tasks = JoinSet::new();
    let (told, serving) = watch::channel(Serving::default());
    if let Some(options) = config.webhook.clone() {
        let need = serving::Need { mode: config.admission, client: client.clone(), configuration: name.clone() };
        let observer: Arc<dyn Observer> = Arc::<Metrics>::clone(metrics);
        tasks.spawn(serving::keep(need, options, received.clone(), observer, told));
    }
    let webhook = Webhook { options: config.webhook.clone(), name };
    let context = Context { client: client.clone(), webhook, serving, scope, programs: received, states: sender };
    tasks.spawn(run(config.admission, leading, context));
    Beside { inputs, states, tasks }
}

/// What every backend works with.
struct Context {
    client: Client,
    webhook: Webhook,
    /// Whether this operator answers the webhook.
    serving: watch::Receiver<Serving>,
    /// The objects that are the operator's to write and to remove.
    scope: scope::Scope,
    /// The programs, as they are made.
    programs: watch::Receiver<Option<Arc<Program>>>,
    /// What the loop is told.
    states: watch::Sender<Arc<AdmissionState>>,
}

/// The webhook as it is configured.
#[derive(Clone)]
struct Webhook {
    /// None where API servers could not reach it.
    options: Option<podpolicy_admission::webhook::Options>,
    /// The name of its configuration.
    name: String,
}

impl Context {
    fn tell(&self, state: AdmissionState) {
        self.states.send_replace(Arc::new(state));
    }
}

/// Who gives pods their settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Backend {
    Native,
    Webhook,
    None,
    /// The native backend is asked for, and the API server does not serve what it needs.
    NotServed,
}

fn choose(mode: AdmissionMode, is_served: bool) -> Backend {
    match (mode, is_served) {
        (AdmissionMode::Auto | AdmissionMode::Native, true) => Backend::Native,
        (AdmissionMode::Auto, false) | (AdmissionMode::Webhook, _) => Backend::Webhook,
        (AdmissionMode::Native, false) => Backend::NotServed,
        (AdmissionMode::None, _) => Backend::None,
    }
}

/// Keeps one backend right, as long as this operator leads.
async fn run(mode: AdmissionMode, mut leading: watch::Receiver<bool>, mut ctx: Context) {
    if mode == AdmissionMode::None {
        ctx.tell(AdmissionState::Off);
    }
    while leading.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = lead(mode, &mut ctx) => return,
            lost = leading.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
        ctx.tell(AdmissionState::Starting);
    }
}

/// Keeps one backend right. Ends when there is nothing left to do, once and for all.
async fn lead(mode: AdmissionMode, ctx: &mut Context) {
    let mut told = None;
    loop {
        let is_served = match is_native_served(&ctx.client).await {
            Ok(is_served) => is_served,
            Err(error) => {
                tracing::debug!(%error, "could not ask the API server whether it serves {NATIVE_RESOURCE}");
                tokio::time::sleep(ASK_SOON).await;
                continue;
            }
        };
        let backend = choose(mode, is_served);
        if told.replace(backend) != Some(backend) {
            log(backend);
        }
        match backend {
            // Ends when the API server no longer serves it.
            Backend::Native => {
                let mut retiring = JoinSet::new();
                retiring.spawn(webhook::retire(ctx.client.clone(), ctx.webhook.name.clone(), ctx.states.subscribe()));
                native::run(ctx).await;
            }
            // Ends when it is time to ask again what the API server serves.
            Backend::Webhook => {
                let options = ctx.webhook.options.clone();
                webhook::run(ctx, options.as_ref(), is_served, mode == AdmissionMode::Auto).await;
            }
            Backend::None => {
                if is_served {
                    write::remove_all(&ctx.client, &ctx.scope).await;
                }
                if let Err(error) = podpolicy_admission::webhook::remove(ctx.client.clone(), &ctx.webhook.name).await {
                    tracing::debug!(%error, "could not look for a webhook configuration to remove");
                }
                return;
            }
            Backend::NotServed => {
                ctx.tell(AdmissionState::On(Standings::stuck(AdmissionBackend::Native, Problem::NotServed)));
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

fn log(backend: Backend) {
    match backend {
        Backend::Native => tracing::info!("pods are given their settings at creation by the API server ({NATIVE_RESOURCE})"),
        Backend::Webhook => tracing::info!("pods are given their settings at creation by the webhook"),
        Backend::None => tracing::debug!("pods are given nothing at creation"),
        Backend::NotServed => tracing::warn!("{}", Problem::NotServed),
    }
}

async fn is_native_served(client: &Client) -> kube::Result<bool> {
    match client.list_api_group_resources(NATIVE_API).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == NATIVE_RESOURCE)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_native_where_it_is_served_and_the_webhook_elsewhere() {
        use AdmissionMode::{Auto, Native, None, Webhook};
        let chosen = [(Auto, true), (Auto, false), (Native, true), (Native, false), (Webhook, true), (Webhook, false), (None, true)]
            .map(|(mode, is_served)| choose(mode, is_served));
        let wanted =
            [Backend::Native, Backend::Webhook, Backend::Native, Backend::NotServed, Backend::Webhook, Backend::Webhook, Backend::None];
        assert_eq!(chosen, wanted);
    }
}
