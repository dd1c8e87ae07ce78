//! The webhook as a backend: served, told to API servers, and taken away again when the native backend has taken over. What it answers
//! and how it is kept is `podpolicy-admission`'s business.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use podpolicy_admission::webhook::{self, Options, State};
use podpolicy_api::AdmissionBackend;
use podpolicy_engine::{Policy, PolicyId, Program};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{
    Context, HAND_OVER,
    standing::{AdmissionState, Problem, Progress, Standing, Standings},
    write,
};

/// How long the webhook still answers after its configuration is gone.
const AFTERLIFE: Duration = Duration::from_secs(10);
/// How often the native backend looks whether somebody has told API servers of the webhook again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How long to wait before it is served again after it could not be, or before the API server is asked again what it serves.
const AGAIN: Duration = Duration::from_mins(5);

/// Serves the webhook and keeps it right. Ends when the native backend is to take over because the API server has come to serve it, or
/// after a while when there is nothing to serve. The server goes on as long as what is returned is kept.
pub(super) async fn run(ctx: &mut Context, options: Option<&Options>, is_native_served: bool, may_become_native: bool) -> JoinSet<()> {
    let Some(options) = options else { return stay_stuck(ctx, Problem::NotReachable).await };
    let mut serving = match serve(ctx.client.clone(), options, ctx.programs.clone()).await {
        Ok(serving) => serving,
        Err(error) => return stay_stuck(ctx, Problem::Failing(error.to_string())).await,
    };
    let mut upkeep = JoinSet::new();
    // With several operators these are for the one that leads to say.
    let (_leads, leading) = watch::channel(true);
    let (_wanted, wanting) = watch::channel(true);
    let (sender, mut states) = watch::channel(State::default());
    upkeep.spawn(webhook::maintain(ctx.client.clone(), options.clone(), ctx.programs.clone(), leading, wanting, sender));
    let mut is_native_gone = !is_native_served;
    let mut ask_at = Instant::now() + AGAIN;
    loop {
        let now = Instant::now();
        let state = states.borrow_and_update().clone();
        let program = ctx.programs.borrow_and_update().clone();
        let standings = standings(&state, program.as_deref(), now);
        let is_settled = program.is_some() && standings.are_all_in_force();
        ctx.tell(AdmissionState::On(standings));
        if is_settled && !is_native_gone {
            write::remove_all(&ctx.client, &ctx.scope).await;
            is_native_gone = true;
        }
        if may_become_native && now >= ask_at {
            ask_at = now + AGAIN;
            if super::is_native_served(&ctx.client).await.unwrap_or_default() {
                return serving;
            }
        }
        let wake = settles_at(&state).filter(|at| *at > now).map_or(ask_at, |at| at.min(ask_at));
        tokio::select! {
            changed = ctx.programs.changed() => if changed.is_err() {
                // The operator stops.
                std::future::pending::<()>().await;
            },
            _ = states.changed() => {}
            Some(ended) = join_either(&mut serving, &mut upkeep) => {
                if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
                return stay_stuck(ctx, Problem::Failing("the webhook can no longer be served".to_owned())).await;
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Says what is in the way, and waits before it is looked at again.
async fn stay_stuck(ctx: &Context, problem: Problem) -> JoinSet<()> {
    ctx.tell(AdmissionState::On(Standings::stuck(AdmissionBackend::Webhook, problem)));
    tokio::time::sleep(AGAIN).await;
    JoinSet::new()
}

/// The next task of either set that ends.
async fn join_either(one: &mut JoinSet<()>, other: &mut JoinSet<()>) -> Option<Result<(), JoinError>> {
    tokio::select! {
        Some(ended) = one.join_next() => Some(ended),
        Some(ended) = other.join_next() => Some(ended),
        else => None,
    }
}

/// Lets a webhook that an earlier operator has told API servers of go on until the native backend stands, and takes it away then. Looks again from
/// time to time: an operator that is still there while this one starts could bring it back.
pub(super) async fn retire(
    client: kube::Client,
    options: Option<Options>,
    name: String,
    programs: webhook::Programs,
    mut states: watch::Receiver<Arc<AdmissionState>>,
) {
    loop {
        if webhook::is_configured(&client, &name).await {
            let unserved =
                |error: &webhook::ServeError| tracing::debug!(%error, "could not serve the webhook until the API server takes over");
            let _serving = match &options {
                Some(options) => serve(client.clone(), options, programs.clone()).await.inspect_err(unserved).ok(),
                None => None,
            };
            if states.wait_for(stands).await.is_err() {
                return;
            }
            // What looks in force can be what another operator has just removed, and what this one wrote is still on its way.
            tokio::time::sleep(HAND_OVER).await;
            match webhook::remove(client.clone(), &name).await {
                Ok(()) => tracing::info!("the API server itself gives pods their settings now; the webhook is no longer asked"),
                Err(error) => tracing::warn!(%error, "could not take the webhook's configuration away; trying again"),
            }
            tokio::time::sleep(AFTERLIFE).await;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether pods are given all that they should be, and nothing is in the way.
fn stands(state: &Arc<AdmissionState>) -> bool {
    match &**state {
        AdmissionState::On(standings) => standings.problem.is_none() && standings.are_all_in_force(),
        AdmissionState::Starting | AdmissionState::Off => false,
    }
}

/// Serves the webhook as long as what is returned is kept.
async fn serve(client: kube::Client, options: &Options, programs: webhook::Programs) -> Result<JoinSet<()>, webhook::ServeError> {
    let (address, served) = webhook::serve(client, options, programs, std::future::pending()).await?;
    tracing::info!(%address, "serving the admission webhook");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the webhook ended");
        }
    });
    Ok(serving)
}

/// When every API server has seen the configuration as it is.
fn settles_at(state: &State) -> Option<Instant> {
    state.written.map(|written| written + HAND_OVER)
}

/// How the policies of a program stand.
fn standings(state: &State, program: Option<&Program>, now: Instant) -> Standings {
    let in_force: HashMap<&PolicyId, &Arc<Policy>> =
        state.in_force.iter().flat_map(|program| program.policies()).map(|policy| (policy.id(), policy)).collect();
    let problem = state.problem.clone().map(Problem::Failing);
    let is_settled = settles_at(state).is_none_or(|at| at <= now);
    let policies = program.into_iter().flat_map(Program::policies).map(|policy| {
        let is_asked_about = in_force.get(policy.id()).is_some_and(|known| **known == *policy);
        let progress = if is_asked_about && is_settled {
            Progress::InForce
        } else if let (Some(problem), false) = (&problem, is_asked_about) {
            Progress::Stuck(problem.clone())
        } else {
            Progress::Waiting("API servers are being told whom to ask about new pods".to_owned())
        };
        (policy.id().clone(), Standing { policy: Arc::clone(policy), progress, omitted: None })
    });
    Standings { backend: AdmissionBackend::Webhook, policies: policies.collect(), problem }
}
