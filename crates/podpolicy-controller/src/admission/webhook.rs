//! The webhook as a backend: told to API servers, and taken away again when the native backend has taken over. What it answers and how it
//! is kept is `podpolicy-admission`'s business.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use podpolicy_admission::webhook::{self, LeftOut, Options, State};
use podpolicy_api::AdmissionBackend;
use podpolicy_engine::{Policy, PolicyId, Program};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Context, HAND_OVER,
    serving::Serving,
    standing::{AdmissionState, Problem, Progress, Standing, Standings},
    write,
};

/// How often the native backend looks whether somebody has told API servers of the webhook again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How long to wait before the API server is asked again what it serves.
const AGAIN: Duration = Duration::from_mins(5);

/// Keeps the webhook right that this operator serves. Ends when the native backend is to take over because the API server has come to serve
/// it, or after a while when API servers could not reach the webhook.
pub(super) async fn run(ctx: &mut Context, options: Option<&Options>, is_native_served: bool, may_become_native: bool) {
    let Some(options) = options else {
        ctx.tell(AdmissionState::On(Standings::stuck(AdmissionBackend::Webhook, Problem::NotReachable)));
        return tokio::time::sleep(AGAIN).await;
    };
    let mut upkeep = JoinSet::new();
    let (sender, mut states) = watch::channel(State::default());
    let mut is_native_gone = !is_native_served;
    let mut ask_at = Instant::now() + AGAIN;
    loop {
        let now = Instant::now();
        let serving = ctx.serving.borrow_and_update().clone();
        if serving == Serving::Yes && upkeep.is_empty() {
            upkeep.spawn(webhook::maintain(ctx.client.clone(), options.clone(), ctx.programs.clone(), sender.clone()));
        }
        let state = states.borrow_and_update().clone();
        let program = ctx.programs.borrow_and_update().clone();
        let standings = match serving {
            Serving::Failed(message) => Standings::stuck(AdmissionBackend::Webhook, Problem::Failing(message)),
            Serving::Yes | Serving::No => standings(&state, program.as_deref(), now),
        };
        let is_settled = program.is_some() && standings.problem.is_none() && standings.are_all_in_force();
        ctx.tell(AdmissionState::On(standings));
        if is_settled && !is_native_gone {
            write::remove_all(&ctx.client, &ctx.scope).await;
            is_native_gone = true;
        }
        if may_become_native && now >= ask_at {
            ask_at = now + AGAIN;
            if super::is_native_served(&ctx.client).await.unwrap_or_default() {
                return;
            }
        }
        let wake = settles_at(&state).filter(|at| *at > now).map_or(ask_at, |at| at.min(ask_at));
        tokio::select! {
            changed = ctx.programs.changed() => if changed.is_err() {
                // The operator stops.
                std::future::pending::<()>().await;
            },
            _ = states.changed() => {}
            Ok(()) = ctx.serving.changed() => {}
            Some(Err(error)) = upkeep.join_next() => if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            },
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Takes away a webhook that an earlier operator has told API servers of, once the native backend stands. Looks again from
/// time to time: an operator that is still there while this one starts could bring it back.
pub(super) async fn retire(client: kube::Client, name: String, mut states: watch::Receiver<Arc<AdmissionState>>) {
    loop {
        if webhook::is_configured(&client, &name).await.unwrap_or_default() {
            if states.wait_for(stands).await.is_err() {
                return;
            }
            // What looks in force can be what another operator has just removed, and what this one wrote is still on its way.
            tokio::time::sleep(HAND_OVER).await;
            match webhook::remove(client.clone(), &name).await {
                Ok(()) => tracing::info!("the API server itself gives pods their settings now; the webhook is no longer asked"),
                Err(error) => tracing::warn!(%error, "could not take the webhook's configuration away; trying again"),
            }
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
    let policies = program.into_iter().flat_map(|program| program.policies().iter().map(move |policy| (program, policy)));
    let policies = policies.map(|(program, policy)| {
        let is_asked_about = in_force.get(policy.id()).is_some_and(|known| **known == *policy);
        let progress = if is_asked_about && is_settled {
            Progress::InForce
        } else if let (Some(problem), false) = (&problem, is_asked_about) {
            Progress::Stuck(problem.clone())
        } else {
            Progress::Waiting("API servers are being told whom to ask about new pods".to_owned())
        };
        let (omitted, narrowed) = left_out(state, policy, program);
        (policy.id().clone(), Standing { policy: Arc::clone(policy), progress, omitted, narrowed })
    });
    Standings { backend: AdmissionBackend::Webhook, policies: policies.collect(), problem }
}

/// Why no pod of the policy, or why not all, are asked about although the configuration is as the operator wants it.
fn left_out(state: &State, policy: &Policy, program: &Program) -> (Option<String>, Option<String>) {
    let Some(narrowed) = &state.narrowed else { return (None, None) };
    let message = || Some(narrowed.message.clone());
    match narrowed.leaves_out(policy, program) {
        LeftOut::Nothing => (None, None),
        LeftOut::Partly => (None, message()),
        LeftOut::Wholly => (message(), None),
    }
}

#[cfg(test)]
mod tests {
    use podpolicy_admission::webhook::Narrowed;
    use podpolicy_engine::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn policy_is_left_out_where_somebody_else_keeps_all_of_its_pods_from_the_webhook() {
        let policies = ["shop", "bank", "club"].map(|namespace| {
            let metadata = json!({ "name": "all", "namespace": namespace });
            let policy = json!({ "metadata": metadata, "spec": { "selector": {}, "labels": { "team": "a" } } });
            Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()))
        });
        let program = Arc::new(Program::new(policies, HashMap::new(), Settings::default()));
        let namespaces = [("shop".to_owned(), LeftOut::Wholly), ("bank".to_owned(), LeftOut::Partly)].into();
        let narrowed = Some(Arc::new(Narrowed { message: "narrowed".to_owned(), namespaces }));
        let state = State { in_force: Some(Arc::clone(&program)), narrowed, ..State::default() };
        let standings = standings(&state, Some(&program), Instant::now());
        let of = |namespace: &str| {
            let standing = &standings.policies[&PolicyId::namespaced(namespace, "all")];
            assert_eq!(standing.progress, Progress::InForce);
            (standing.omitted.as_deref(), standing.narrowed.as_deref())
        };
        assert_eq!(of("shop"), (Some("narrowed"), None));
        assert_eq!(of("bank"), (None, Some("narrowed")));
        assert_eq!(of("club"), (None, None));
    }
}
