//! What is left to decide about pods that are created in a namespace, once everything but the pod is known: the policies in
//! order, with all that can be refused beforehand taken out. Whoever decides elsewhere than here (the API server itself, by
//! expressions that are compiled from this) asks the same questions of the pod that [`crate::Program::create`] asks.

use std::sync::Arc;

use podpolicy_api::{ContainerRule, LifecycleHandler, PolicyRules, Port, Precedence, Probe, StopSignal};

use crate::{
    Field, Finding, HookKind, NamespaceFacts, Policy, ProbeKind, Program, Selector, Support,
    metadata::LARGEST_ANNOTATION_AT_CREATION,
    policy::{rule_hook, rule_probe, rule_stop_signal},
    probe::{defaulted_hook, spelled_out, spelled_out_hook, stored},
    refusal::{self, Impact, LabelClaim},
};

/// Where pods are created.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In this namespace.
    Namespace(&'a str),
    /// In any namespace of which nothing is known yet but its labels: it has no PodPolicies, and nothing there selects pods.
    Anywhere,
}

/// A policy, as far as the pod still has a say.
#[derive(Clone, Debug)]
pub struct Remaining<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The condition on the namespace's labels; none where the namespace is known.
    pub namespaces: Option<&'a Selector>,
    /// Labels by key.
    pub labels: Vec<RemainingLabel<'a>>,
    /// Annotations by key.
    pub annotations: Vec<RemainingAnnotation<'a>>,
    /// The grace period, in seconds.
    pub grace_period: Option<i64>,
    /// Probes, in the order of the policy's rules: the first whose names match is the policy's for the container.
    pub probes: Vec<RemainingProbe<'a>>,
    /// Hooks, likewise.
    pub hooks: Vec<RemainingHook<'a>>,
    /// Stop signals, likewise.
    pub stop_signals: Vec<RemainingSignal<'a>>,
}

/// A label that a policy sets if the pod lacks it, or has the value already, or another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RemainingLabel<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
    /// Whether the policy may set it where the pod lacks the label.
    pub if_absent: bool,
    /// Whether the policy may set it where the pod has another value.
    pub if_other: bool,
}

/// An annotation that a policy sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RemainingAnnotation<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
    /// Whether it is too large to be set at creation. It still wins the key.
    pub is_large: bool,
}

/// A probe, hook or stop signal that a policy gives.
#[derive(Clone, Debug, PartialEq)]
pub struct RemainingSetting<'a, Kind, Setting> {
    /// Which of them.
    pub kind: Kind,
    /// Globs over container names.
    pub names: &'a [String],
    /// As the API server stores it; for a probe without a handler, the numbers to tune.
    pub value: Setting,
    /// Another form of the same value, in which a pod may have it.
    pub other_form: Option<Setting>,
    /// The name of the port that the container must have.
    pub port: Option<&'a str>,
    /// Whether it is refused for every container. It still hides the policy's later rules.
    pub is_refused: bool,
}

/// A probe that a policy gives.
pub type RemainingProbe<'a> = RemainingSetting<'a, ProbeKind, Probe>;

/// A hook that a policy gives.
pub type RemainingHook<'a> = RemainingSetting<'a, HookKind, LifecycleHandler>;

/// A stop signal that a policy gives.
pub type RemainingSignal<'a> = RemainingSetting<'a, (), StopSignal>;

impl Remaining<'_> {
    /// Whether the policy replaces what a workload declares.
    pub fn replaces(&self) -> bool {
        self.policy.precedence() == Precedence::Policy
    }

    /// What the policy gives, to be compared: the same from the same policy is decided in the same way.
    pub fn settings(&self) -> impl PartialEq + '_ {
        let Self { policy, namespaces: _, labels, annotations, grace_period, probes, hooks, stop_signals } = self;
        (policy.id(), policy.exempt(), labels, annotations, grace_period, probes, hooks, stop_signals)
    }

    /// Whether no pod can get anything from the policy.
    fn is_empty(&self) -> bool {
        self.labels.is_empty()
            && self.annotations.is_empty()
            && self.grace_period.is_none()
            && self.probes.iter().all(|probe| probe.is_refused)
            && self.hooks.iter().all(|hook| hook.is_refused)
            && self.stop_signals.iter().all(|signal| signal.is_refused)
    }
}

/// The enforcing policies that may give something to a pod that is created there, in order.
pub(crate) fn residue<'a>(program: &'a Program, place: Place<'a>) -> Vec<Remaining<'a>> {
    let (policies, facts) = match place {
        Place::Namespace(name) => (program.policies_in(name), program.facts(name)),
        Place::Anywhere => (program.cluster_policies(), None),
    };
    let remaining = policies.into_iter().filter(|policy| !policy.is_audit()).map(|policy| {
        let namespaces = match place {
            Place::Namespace(_) => None,
            Place::Anywhere => policy.namespace_selector().filter(|selector| !selector.is_empty()),
        };
        remaining(program, policy, namespaces, facts)
    });
    remaining.filter(|remaining| !remaining.is_empty()).collect()
}

fn remaining<'a>(
    program: &'a Program,
    policy: &'a Arc<Policy>,
    namespaces: Option<&'a Selector>,
    facts: Option<&'a NamespaceFacts>,
) -> Remaining<'a> {
    let rules = policy.rules();
    let settings = program.settings();
    let is_allowed = |key: &str| refusal::protected_key(key, settings).is_none();
    let labels = rules.labels.iter().filter(|(key, _)| is_allowed(key)).map(|(key, value)| {
        let other = if value.is_empty() { "other" } else { "" };
        let may_set = |own: Option<&str>| {
            let claim = LabelClaim { policy, key, value, own, current: own };
            match refusal::selector_impact(&claim, facts, settings) {
                Impact::None | Impact::Reported(_) => true,
                Impact::Refused(_) | Impact::Held(_) => false,
            }
        };
        RemainingLabel { key, value, if_absent: may_set(None), if_other: may_set(Some(other)) }
    });
    let annotations = rules.annotations.iter().filter(|(key, _)| is_allowed(key));
    Remaining {
        policy,
        namespaces,
        labels: labels.collect(),
        annotations: annotations
            .map(|(key, value)| RemainingAnnotation { key, value, is_large: value.len() > LARGEST_ANNOTATION_AT_CREATION })
            .collect(),
        grace_period: rules.termination_grace_period_seconds,
        probes: policy.container_rules().iter().flat_map(|rule| probes(policy, rule, &settings.support)).collect(),
        hooks: policy.container_rules().iter().flat_map(|rule| hooks(policy, rule, &settings.support)).collect(),
        stop_signals: policy.container_rules().iter().filter_map(|rule| stop_signal(rule, &settings.support)).collect(),
    }
}

/// What of a policy no pod gets, wherever it is.
pub(crate) fn refused_everywhere(program: &Program, policy: &Policy) -> Vec<Finding> {
    let PolicyRules { labels, annotations, .. } = policy.rules();
    let key = |key: &String, field: fn(String) -> Field| {
        refusal::protected_key(key, program.settings()).map(|refusal| refusal.finding(field(key.clone())))
    };
    let mut findings: Vec<_> = labels.keys().filter_map(|name| key(name, Field::Label)).collect();
    findings.extend(annotations.keys().filter_map(|name| key(name, Field::Annotation)));
    let support = &program.settings().support;
    for rule in policy.container_rules() {
        let container = rule.names.join(",");
        findings.extend(ProbeKind::ALL.into_iter().filter_map(|kind| {
            let refusal = refusal::probe_in_any(rule_probe(rule, kind)?, policy, support)?;
            Some(refusal.finding(Field::Probe { container: container.clone(), kind }))
        }));
        findings.extend(HookKind::ALL.into_iter().filter_map(|kind| {
            let refusal = refusal::hook_in_any(rule_hook(rule, kind)?, policy, support)?;
            Some(refusal.finding(Field::Hook { container: container.clone(), kind }))
        }));
        let refusal = rule_stop_signal(rule).and_then(|_| refusal::stop_signal_in_any(support));
        findings.extend(refusal.map(|refusal| refusal.finding(Field::StopSignal { container })));
    }
    findings
}

fn probes<'a>(policy: &Policy, rule: &'a ContainerRule, support: &Support) -> impl Iterator<Item = RemainingProbe<'a>> {
    ProbeKind::ALL.into_iter().filter_map(|kind| {
        let probe = rule_probe(rule, kind)?;
        let value = if probe.has_handler() { stored(probe.clone()) } else { probe.clone() };
        Some(RemainingSetting {
            kind,
            names: &rule.names,
            other_form: spelled_out(value.clone()),
            value,
            port: refusal::probe_port(probe).and_then(name),
            is_refused: refusal::probe_in_any(probe, policy, support).is_some(),
        })
    })
}

fn hooks<'a>(policy: &Policy, rule: &'a ContainerRule, support: &Support) -> impl Iterator<Item = RemainingHook<'a>> {
    HookKind::ALL.into_iter().filter_map(|kind| {
        let hook = rule_hook(rule, kind)?;
        let value = defaulted_hook(hook.clone());
        Some(RemainingSetting {
            kind,
            names: &rule.names,
            other_form: spelled_out_hook(value.clone()),
            value,
            port: refusal::hook_port(hook).and_then(name),
            is_refused: refusal::hook_in_any(hook, policy, support).is_some(),
        })
    })
}

fn stop_signal<'a>(rule: &'a ContainerRule, support: &Support) -> Option<RemainingSignal<'a>> {
    let signal = rule_stop_signal(rule)?;
    let is_refused = refusal::stop_signal_in_any(support).is_some();
    Some(RemainingSetting { kind: (), names: &rule.names, value: signal.clone(), other_form: None, port: None, is_refused })
}

fn name(port: &Port) -> Option<&str> {
    match port {
        Port::Number(_) => None,
        Port::Name(name) => Some(name),
    }
}
