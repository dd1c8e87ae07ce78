//! The settings that Kubernetes allows only at creation: the grace period, probes, hooks and stop signals. On a live pod they are
//! compared, never written.

use std::collections::BTreeSet;

use podpolicy_api::{FindingReason, LifecycleHandler, Precedence, Probe, StopSignal};
use serde::de::DeserializeOwned;

use crate::{
    Container, Field, FieldOutcome, HookKind, Policy, ProbeKind, Record, Source, Value,
    decide::{Ledger, Scene},
    glob,
    pod::DEFAULT_GRACE_PERIOD,
    probe::{defaulted, defaulted_hook, tune},
    refusal,
};

/// What a field ends up with, and where from.
struct Settled<T> {
    value: T,
    source: Source,
}

/// Decides the grace period, and each probe, each hook and the stop signal of each eligible container.
pub(crate) fn decide(scene: &Scene<'_>, record: &Record, ledger: &mut Ledger<'_>) {
    let grace_period = decide_grace_period(scene, record, ledger);
    report_missing_containers(scene, ledger);
    for container in scene.pod.template.containers.iter().filter(|container| container.is_eligible()) {
        for kind in ProbeKind::ALL {
            decide_probe(scene, record, container, kind, ledger);
        }
        for kind in HookKind::ALL {
            decide_hook(scene, record, container, kind, grace_period, ledger);
        }
        decide_stop_signal(scene, record, container, ledger);
    }
}

/// Returns the grace period that the pod ends up with.
fn decide_grace_period(scene: &Scene<'_>, record: &Record, ledger: &mut Ledger<'_>) -> i64 {
    let current = scene.pod.template.grace_period;
    if scene.is_settled(&Field::GracePeriod) {
        return current;
    }
    let own = own::<i64>(record, &Field::GracePeriod, Some(current)).unwrap_or(DEFAULT_GRACE_PERIOD);
    let is_kept = |policy: usize| own != DEFAULT_GRACE_PERIOD && scene.policies[policy].precedence() == Precedence::Workload;
    let mut claims = Vec::new();
    for (index, policy) in scene.policies.iter().enumerate() {
        let Some(seconds) = policy.rules().termination_grace_period_seconds else { continue };
        let shortens = seconds < own && !is_kept(index);
        match shortens.then(|| refusal::grace_period(seconds, &own_hooks(scene, record))).flatten() {
            Some(refusal) => ledger.refuse(index, Field::GracePeriod, refusal),
            None => claims.push((index, seconds)),
        }
    }
    let Some(&(winner, wanted)) = claims.first() else { return current };
    let policies = ledger.contest(&Field::GracePeriod, &claims, |a, b| a == b, |&seconds| Value::Seconds(seconds));
    let settled = if own == wanted || is_kept(winner) {
        if own != wanted {
            ledger.kept(&policies, &Field::GracePeriod, &format!("the workload declares {own}, the policy {wanted}"));
        }
        Settled { value: own, source: Source::Workload }
    } else {
        Settled { value: wanted, source: by(scene, winner) }
    };
    let seconds = settled.value;
    settle(Field::GracePeriod, settled, Some(&current), Value::Seconds, &policies, ledger);
    seconds
}

/// The hooks that the workload declares itself, by container and kind.
fn own_hooks<'a>(scene: &Scene<'a>, record: &Record) -> Vec<(&'a str, HookKind, LifecycleHandler)> {
    let eligible = scene.pod.template.containers.iter().filter(|container| container.is_eligible());
    let hooks = eligible.flat_map(|container| HookKind::ALL.map(|kind| (container, kind)));
    hooks
        .filter_map(|(container, kind)| {
            let field = Field::Hook { container: container.name.clone(), kind };
            Some((container.name.as_str(), kind, own(record, &field, container.hook(kind).cloned())?))
        })
        .collect()
}

fn report_missing_containers(scene: &Scene<'_>, ledger: &mut Ledger<'_>) {
    for (index, policy) in scene.policies.iter().enumerate() {
        let names = policy.container_rules().iter().flat_map(|rule| &rule.names);
        let missing: BTreeSet<_> = names.filter(|name| !named(scene, name).any(Container::is_eligible)).collect();
        for name in missing {
            let message = if named(scene, name).next().is_none() {
                format!("no container of the pod is named {name}; correct the name, or narrow the selector")
            } else {
                format!(
                    "only ordinary init containers are named {name}, which get no probes, hooks or stop signals; name an application container"
                )
            };
            ledger.report(index, FindingReason::ContainerNotFound, Field::Container(name.clone()), message);
        }
    }
}

/// The containers of the pod whose names match the glob.
fn named<'a>(scene: &Scene<'a>, glob: &'a str) -> impl Iterator<Item = &'a Container> {
    scene.pod.template.containers.iter().filter(move |container| glob::matches(glob, &container.name))
}

/// What policies say of one setting, in their order.
fn wishes<'a, T>(scene: &Scene<'a>, of: impl Fn(&'a Policy) -> Option<&'a T>) -> Vec<(usize, &'a T)> {
    scene.policies.iter().enumerate().filter_map(|(index, &policy)| Some((index, of(policy)?))).collect()
}

fn decide_probe(scene: &Scene<'_>, record: &Record, container: &Container, kind: ProbeKind, ledger: &mut Ledger<'_>) {
    let wishes = wishes(scene, |policy| policy.probe(&container.name, kind));
    if wishes.is_empty() {
        return;
    }
    let field = Field::Probe { container: container.name.clone(), kind };
    if scene.is_settled(&field) {
        return;
    }
    let current = container.probe(kind).cloned().map(defaulted);
    let ends_for_good = ends_for_good(scene, container, kind);
    let mut claims = Vec::with_capacity(wishes.len());
    for (index, wanted) in wishes {
        if let Some(message) = &ends_for_good {
            ledger.report(index, FindingReason::RestartPolicy, field.clone(), message);
        } else if let Some(refusal) = refusal::probe(wanted, container, scene.policies[index], &scene.settings.support) {
            ledger.refuse(index, field.clone(), refusal);
        } else {
            claims.push((index, Wanted { said: wanted, defaulted: defaulted(wanted.clone()) }));
        }
    }
    if claims.is_empty() {
        return;
    }
    let own = own::<Probe>(record, &field, current.clone()).map(defaulted);
    if own.is_none() {
        leave_tuning_out(scene, &field, &mut claims, ledger);
    }
    let Some((_, wanted)) = claims.first() else { return };
    let policies = ledger.contest(&field, &claims, Wanted::is_same, |wanted| Value::Probe(Box::new(wanted.said.clone())));
    let settled = settle_probe(scene, &field, &policies, wanted, own.as_ref(), ledger);
    settle(field, settled, current.as_ref(), |probe| Value::Probe(Box::new(probe)), &policies, ledger);
}

/// Why the container gets no such probe: it is not always started again, so a failing probe could end it permanently. A failing readiness
/// probe ends nothing, but in pods that run to their end it is left out as well.
fn ends_for_good(scene: &Scene<'_>, container: &Container, kind: ProbeKind) -> Option<String> {
    let template = &scene.pod.template;
    if template.restarts(container, &scene.settings.support) {
        return None;
    }
    if !template.always_restarts {
        let message = "the pod's restartPolicy is not Always, and a failing probe could end the container permanently; nothing to do, or narrow the selector";
        return Some(message.to_owned());
    }
    match kind {
        ProbeKind::Readiness => None,
        ProbeKind::Liveness | ProbeKind::Startup => Some(format!(
            "container {} has a restartPolicy of its own that is not Always, and a failing probe could end it permanently; nothing to do, or leave it out of names",
            container.name
        )),
    }
}

/// Where the container has no probe of its own there is nothing to tune, whether or not another policy supplies one.
fn leave_tuning_out(scene: &Scene<'_>, field: &Field, claims: &mut Vec<(usize, Wanted<'_>)>, ledger: &mut Ledger<'_>) {
    let supplier = claims.iter().find(|(_, wanted)| wanted.said.has_handler()).map(|&(index, _)| scene.policies[index].id().clone());
    claims.retain(|(index, wanted)| {
        if wanted.said.has_handler() {
            return true;
        }
        let message = match &supplier {
            Some(policy) => {
                format!("{policy} supplies the probe, and a probe without a handler only tunes the container's own; set the numbers there")
            }
            None => "the container has no probe of its own to tune; give the policy's probe a handler (httpGet, tcpSocket, grpc or exec)"
                .to_owned(),
        };
        ledger.report(*index, FindingReason::NoProbeToTune, field.clone(), message);
        false
    });
}

/// The probe that a policy wants.
struct Wanted<'a> {
    said: &'a Probe,
    defaulted: Probe,
}

impl Wanted<'_> {
    /// Whether two policies want the same probe. Tuning says nothing about the numbers that it leaves out, so that they have no
    /// defaults.
    fn is_same(&self, other: &Self) -> bool {
        if self.said.has_handler() && other.said.has_handler() { self.defaulted == other.defaulted } else { self.said == other.said }
    }
}

fn settle_probe(
    scene: &Scene<'_>,
    field: &Field,
    policies: &[usize],
    Wanted { said, defaulted }: &Wanted<'_>,
    own: Option<&Probe>,
    ledger: &mut Ledger<'_>,
) -> Settled<Probe> {
    let winner = policies[0];
    let precedence = scene.policies[winner].precedence();
    let from_workload = |own: &Probe| Settled { value: own.clone(), source: Source::Workload };
    let Some(own) = own else {
        return Settled { value: defaulted.clone(), source: by(scene, winner) };
    };
    if !said.has_handler() {
        let tuned = tune(own, said, precedence);
        if !tuned.kept.is_empty() {
            ledger.kept(policies, field, &format!("the workload declares {} itself", tuned.kept.join(", ")));
        }
        let source = if tuned.probe == *own { Source::Workload } else { by(scene, winner) };
        return Settled { value: tuned.probe, source };
    }
    if own == defaulted {
        return from_workload(own);
    }
    match precedence {
        Precedence::Workload => {
            ledger.kept(policies, field, "the workload declares one itself");
            from_workload(own)
        }
        Precedence::Policy => Settled { value: defaulted.clone(), source: by(scene, winner) },
    }
}

fn decide_hook(scene: &Scene<'_>, record: &Record, container: &Container, kind: HookKind, grace_period: i64, ledger: &mut Ledger<'_>) {
    let wishes = wishes(scene, |policy| policy.hook(&container.name, kind));
    if wishes.is_empty() {
        return;
    }
    let field = Field::Hook { container: container.name.clone(), kind };
    if scene.is_settled(&field) {
        return;
    }
    let current = container.hook(kind).cloned().map(defaulted_hook);
    let mut claims = Vec::with_capacity(wishes.len());
    for (index, wanted) in wishes {
        let too_long = || refusal::sleep(kind, wanted, grace_period);
        match refusal::hook(wanted, container, scene.policies[index], &scene.settings.support).or_else(too_long) {
            Some(refusal) => ledger.refuse(index, field.clone(), refusal),
            None => claims.push((index, defaulted_hook(wanted.clone()))),
        }
    }
    let own = own::<LifecycleHandler>(record, &field, current.clone()).map(defaulted_hook);
    settle_whole(scene, field, &claims, own.as_ref(), current.as_ref(), |hook| Value::Hook(Box::new(hook)), ledger);
}

fn decide_stop_signal(scene: &Scene<'_>, record: &Record, container: &Container, ledger: &mut Ledger<'_>) {
    let wishes = wishes(scene, |policy| policy.stop_signal(&container.name));
    if wishes.is_empty() {
        return;
    }
    let field = Field::StopSignal { container: container.name.clone() };
    if scene.is_settled(&field) {
        return;
    }
    let mut claims = Vec::with_capacity(wishes.len());
    for (index, wanted) in wishes {
        match refusal::stop_signal(wanted, scene.pod.template.os, &scene.settings.support) {
            Some(refusal) => ledger.refuse(index, field.clone(), refusal),
            None => claims.push((index, wanted.clone())),
        }
    }
    let current = container.stop_signal.clone();
    let own = own::<StopSignal>(record, &field, current.clone());
    settle_whole(scene, field, &claims, own.as_ref(), current.as_ref(), Value::Signal, ledger);
}

/// Settles what is given as a whole or not at all: a hook or a stop signal.
fn settle_whole<T: Clone + PartialEq>(
    scene: &Scene<'_>,
    field: Field,
    claims: &[(usize, T)],
    own: Option<&T>,
    current: Option<&T>,
    to_value: impl Fn(T) -> Value,
    ledger: &mut Ledger<'_>,
) {
    let Some((winner, wanted)) = claims.first() else { return };
    let policies = ledger.contest(&field, claims, |a, b| a == b, |value| to_value(value.clone()));
    let keeps = own.filter(|own| *own == wanted || scene.policies[*winner].precedence() == Precedence::Workload);
    let settled = match keeps {
        Some(own) => {
            if own != wanted {
                ledger.kept(&policies, &field, "the workload declares one itself");
            }
            Settled { value: own.clone(), source: Source::Workload }
        }
        None => Settled { value: wanted.clone(), source: by(scene, *winner) },
    };
    settle(field, settled, current, to_value, &policies, ledger);
}

/// The value that the workload declares: what the record says a policy replaced, or what is there.
fn own<T: DeserializeOwned>(record: &Record, field: &Field, current: Option<T>) -> Option<T> {
    if record.created.is_empty() {
        return current;
    }
    match record.created.get(&field.to_string()) {
        Some(entry) => entry.was.as_ref().and_then(|was| T::deserialize(was).ok()),
        None => current,
    }
}

fn by(scene: &Scene<'_>, winner: usize) -> Source {
    Source::Policy(scene.policies[winner].in_record().to_owned())
}

/// Notes what the field ends up with, and whether the pod must be replaced to get it.
fn settle<T: PartialEq>(
    field: Field,
    settled: Settled<T>,
    current: Option<&T>,
    to_value: impl Fn(T) -> Value,
    policies: &[usize],
    ledger: &mut Ledger<'_>,
) {
    let done = Some(&settled.value) == current;
    if !done {
        ledger.outdated(policies);
    }
    ledger.fields.push(FieldOutcome { field, value: Some(to_value(settled.value)), source: settled.source, done });
}
