//! How pods end: hooks and the grace period.

use podpolicy_api::LifecycleHandler;
use podpolicy_engine::{Field, HookKind};

use crate::{
    Rule, Severity, Step,
    check::subject::{Spot, Subject},
};

/// Kubernetes' grace period of pods that say none, in seconds.
const DEFAULT_GRACE_PERIOD: i64 = 30;

/// How many seconds cluster autoscalers wait for a pod of a node that they drain, if not told otherwise.
const DRAIN_PATIENCE: i64 = 600;

pub(super) const PRE_STOP_FILLS_GRACE: Rule = Rule {
    id: "pre-stop-fills-grace",
    severity: Severity::Error,
    summary: "a preStop hook sleeps through the whole grace period",
    why: "The hook runs within the grace period. When nothing of that is left, the process is killed without having been told to stop, and what it was \
          doing is lost. A sleep that is longer than the grace period the API server refuses.",
    remedy: "Shorten the sleep, or set a terminationGracePeriodSeconds that covers the sleep and the time that the process needs to stop.",
};

pub(super) const LONG_GRACE_PERIOD: Rule = Rule {
    id: "long-grace-period",
    severity: Severity::Warning,
    summary: "the grace period is longer than 600 s",
    why: "Cluster autoscalers wait 600 s for the pods of a node that they drain, if not told otherwise, and then go on without waiting. Upgrades of \
          nodes hang as long.",
    remedy: "Make what the pod does at its end shorter, or resumable; terminationGracePeriodSeconds of at most 600.",
};

pub(super) fn pre_stop_fills_grace(subject: &Subject<'_>) -> Vec<Spot> {
    let grace = grace_period(subject);
    let mut spots = Vec::new();
    for placed in subject.running() {
        let Some(seconds) = placed.container.hook(HookKind::PreStop).and_then(sleep) else { continue };
        if seconds >= grace {
            let message = format!("it sleeps {seconds} s, and the grace period is {grace} s");
            spots.push(placed.spot(&["lifecycle", "preStop"], message));
        }
    }
    spots
}

pub(super) fn long_grace_period(subject: &Subject<'_>) -> Vec<Spot> {
    let grace = grace_period(subject);
    if grace <= DRAIN_PATIENCE {
        return Vec::new();
    }
    let field = "terminationGracePeriodSeconds";
    let path = Step::keys(["spec", field]);
    vec![Spot {
        path,
        field: field.to_owned(),
        message: format!("{grace} s is longer than {DRAIN_PATIENCE} s"),
        of: Some(Field::GracePeriod),
    }]
}

fn grace_period(subject: &Subject<'_>) -> i64 {
    subject.template.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD)
}

/// How many seconds a hook sleeps, by itself or by the command of that name.
fn sleep(hook: &LifecycleHandler) -> Option<i64> {
    if let Some(sleep) = &hook.sleep {
        return Some(sleep.seconds);
    }
    let command = hook.exec.as_ref()?.command.join(" ");
    let words: Vec<_> = command.split([' ', '\t', '\n', ';', '&', '|', '(', ')', '"', '\'']).filter(|word| !word.is_empty()).collect();
    let seconds = |pair: &[&str]| match pair {
        [program, time] if *program == "sleep" || program.ends_with("/sleep") => time.strip_suffix('s').unwrap_or(time).parse().ok(),
        _ => None,
    };
    let sleeps: Vec<i64> = words.windows(2).filter_map(seconds).collect();
    sleeps.into_iter().reduce(i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use podpolicy_api::ExecAction;

    use super::*;

    #[test]
    fn sleeps_are_found_in_commands() {
        for (command, wanted) in [
            (&["sleep", "20"][..], Some(20)),
            (&["/bin/sleep", "20s"], Some(20)),
            (&["/bin/sh", "-c", "sleep 15; nginx -s quit"], Some(15)),
            (&["sh", "-c", "sleep 5 && drain && sleep 10"], Some(15)),
            (&["sh", "-c", "sleep $DELAY"], None),
            (&["nginx", "-s", "quit"], None),
            (&["sleep"], None),
            (&["sleep", "9223372036854775807", "sleep", "1"], Some(i64::MAX)),
        ] {
            let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
            let hook = LifecycleHandler { exec: Some(ExecAction { command: command.clone() }), ..LifecycleHandler::default() };
            assert_eq!(sleep(&hook), wanted, "{command:?}");
        }
    }
}
