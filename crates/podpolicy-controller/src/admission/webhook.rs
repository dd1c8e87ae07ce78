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
    Context,
    standing::{AdmissionState, Problem, Progress, Standing, Standings},
    write,
};

/// How long every API server may take to see a changed configuration, which nothing tells.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long the webhook still answers after its configuration is gone.
const AFTERLIFE: Duration = Duration::from_secs(10);
/// How often the native backend looks whether somebody has told API servers of the webhook again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How long to wait before it is served again after it could not be, or before the API server is asked again what it serves.
const AGAIN: Duration = Duration::from_mins(5);

/// Serves the webhook and keeps it right. Ends when the native backend is to take over because the API server has come to serve it, or
/// after a while when there is nothing to serve. The server goes on as long as what is returned is kept.
pub(super) async fn run(ctx: &mut Context, options: Option<&Options>, is_native_served: bool, may_become_native: bool) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    let Some(options) = options else {
        ctx.tell(AdmissionState::On(stuck(Problem::NotReachable)));
        tokio::time::sleep(AGAIN).await;
        return serving;
    };
    if let Err(problem) = serve(ctx, options, &mut serving).await {
        ctx.tell(AdmissionState::On(stuck(problem)));
        tokio::time::sleep(AGAIN).await;
        return serving;
    }
    let mut upkeep = JoinSet::new();
    // With several operators these are for the one that leads to say.
    let (_leads, leading) = watch::channel(true);
    let (_wanted, wanting) = watch::channel(true);
    let (sender, mut states) = watch::channel(State::default());
    upkeep.spawn(webhook::maintain(ctx.client.clone(), options.clone(), ctx.programs.clone(), leading, wanting, sender));
    let mut is_native_gone = !is_native_served;
    let mut force = Force::default();
    let mut ask_at = Instant::now() + AGAIN;
    loop {
        let now = Instant::now();
        force.take_in(&states.borrow_and_update().clone(), now);
        let program = ctx.programs.borrow_and_update().clone();
        let standings = force.standings(program.as_deref(), now);
        let is_settled = program.is_some() && standings.policies.values().all(|standing| standing.progress == Progress::InForce);
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
        let wake = force.settles_at().filter(|at| *at > now).map_or(ask_at, |at| at.min(ask_at));
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
                ctx.tell(AdmissionState::On(stuck(Problem::Failing("the webhook can no longer be served".to_owned()))));
                tokio::time::sleep(AGAIN).await;
                return JoinSet::new();
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
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
            let mut serving = JoinSet::new();
            if let Some(options) = &options {
                match webhook::serve(client.clone(), options, programs.clone(), std::future::pending()).await {
                    Ok((_, served)) => _ = serving.spawn(async move { _ = served.await }),
                    Err(error) => tracing::debug!(%error, "could not serve the webhook until the API server takes over"),
                }
            }
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

/// Whether pods are given all that they should be.
fn stands(state: &Arc<AdmissionState>) -> bool {
    match &**state {
        AdmissionState::On(standings) => {
            standings.problem.is_none() && standings.policies.values().all(|standing| standing.progress == Progress::InForce)
        }
        AdmissionState::Starting | AdmissionState::Off => false,
    }
}

async fn serve(ctx: &Context, options: &Options, serving: &mut JoinSet<()>) -> Result<(), Problem> {
    let served = webhook::serve(ctx.client.clone(), options, ctx.programs.clone(), std::future::pending()).await;
    let (address, served) = served.map_err(|error| Problem::Failing(error.to_string()))?;
    tracing::info!(%address, "serving the admission webhook");
    serving.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the webhook ended");
        }
    });
    Ok(())
}

fn stuck(problem: Problem) -> Standings {
    Standings { backend: AdmissionBackend::Webhook, policies: HashMap::new(), problem: Some(problem) }
}

/// What is in force.
#[derive(Default)]
struct Force {
    /// What API servers are asked about.
    program: Option<Arc<Program>>,
    /// When every API server has seen the configuration as it is.
    settles_at: Option<Instant>,
    written: Option<Instant>,
    problem: Option<String>,
}

impl Force {
    fn take_in(&mut self, state: &State, now: Instant) {
        let State { in_force, written, problem } = state;
        if *written != self.written {
            self.written = *written;
            self.settles_at = written.map(|_| now + HAND_OVER);
        }
        self.program.clone_from(in_force);
        self.problem.clone_from(problem);
    }

    fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    fn standings(&self, program: Option<&Program>, now: Instant) -> Standings {
        let in_force: HashMap<&PolicyId, &Arc<Policy>> =
            self.program.iter().flat_map(|program| program.policies()).map(|policy| (policy.id(), policy)).collect();
        let problem = self.problem.clone().map(Problem::Failing);
        let is_settled = self.settles_at.is_none_or(|at| at <= now);
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
}
