//! Deciding about a pod that is about to be created: labels, annotations and record as on a live pod, and the settings that
//! Kubernetes allows only now.
//!
//! Admission can pass over one pod several times, because others change it in between. Each pass leaves alone what an earlier one
//! recorded, so that passing again changes nothing, and adds what has become due since: a container that was injected, say.
//!
//! A pod in a file is decided in the same way. Nobody takes anything back there, so nothing is recorded.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value as Json;

use crate::{
    CreatedEntry, Field, Life, MetadataPlan, Pod, Policy, PolicyId, Program, Record, Source, Value, Verdict, container,
    decide::{Ledger, Moment, Scene},
    metadata::{self, Own},
    pod::DEFAULT_GRACE_PERIOD,
    policy::{ANNOTATIONS_LIMIT, annotations_size},
};

/// What policies give a pod that is about to be created, or that a file describes.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// What each policy that selects the pod has to say, in the policies' order.
    pub verdicts: Vec<Verdict>,
    /// The labels and annotations to write, the record included where there is one.
    pub metadata: MetadataPlan,
    /// The probes, hooks, stop signals and the grace period to write, by field, as the API server stores them.
    pub settings: Vec<Setting>,
    /// What the pod's annotations have no room for.
    pub omitted: Omitted,
}

/// A setting to write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The field.
    pub field: Field,
    /// Its value.
    pub value: Value,
}

/// What is not written, because the pod's annotations would be larger than Kubernetes allows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Omitted {
    /// Nothing: all has room.
    #[default]
    Nothing,
    /// Labels and annotations. On the live pod as many follow as fit.
    Metadata,
    /// Everything: not even the record of the settings has room.
    Everything,
}

impl Creation {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.settings.is_empty()
    }

    /// Makes the pod what the API server stores once all of it is written.
    pub fn apply(&self, pod: &mut Pod) {
        self.metadata.apply(pod);
        if self.settings.is_empty() {
            return;
        }
        let template = Arc::make_mut(&mut pod.template);
        for Setting { field, value } in &self.settings {
            match (field, value) {
                (Field::GracePeriod, Value::Seconds(seconds)) => template.grace_period = *seconds,
                (Field::Probe { container, kind }, Value::Probe(probe)) => {
                    if let Some(container) = template.container_mut(container) {
                        *container.probe_mut(*kind) = Some(probe.clone());
                    }
                }
                (Field::Hook { container, kind }, Value::Hook(hook)) => {
                    if let Some(container) = template.container_mut(container) {
                        *container.hook_mut(*kind) = Some(hook.clone());
                        container.has_lifecycle = true;
                    }
                }
                (Field::StopSignal { container }, Value::Signal(signal)) => {
                    if let Some(container) = template.container_mut(container) {
                        container.stop_signal = Some(signal.clone());
                        container.has_lifecycle = true;
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the policies give a pod that is about to be created.
pub(crate) fn create(program: &Program, pod: &Pod) -> Creation {
    give(program, pod, |earlier| Moment::Creation(earlier))
}

/// What the policies give a pod that a file describes.
pub(crate) fn render(program: &Program, pod: &Pod) -> Creation {
    give(program, pod, |earlier| Moment::File(earlier))
}

/// The policy that selects a pod only once it has the labels that policies give it.
pub(crate) fn selects_once_given<'a>(program: &'a Program, pod: &Pod, creation: &Creation) -> Option<&'a PolicyId> {
    if creation.metadata.labels.is_empty() {
        return None;
    }
    let mut labels = Own::of(pod, &Record::of(pod), &BTreeSet::new()).labels.into_owned();
    for (key, change) in &creation.metadata.labels {
        match change {
            Some(value) => labels.insert(key.clone(), value.clone()),
            None => labels.remove(key),
        };
    }
    let is_new = |policy: &Policy| !policy.is_audit() && creation.verdicts.iter().all(|verdict| verdict.policy.id() != policy.id());
    program.select(pod, &labels).into_iter().find(|policy| is_new(policy)).map(|policy| policy.id())
}

fn give(program: &Program, pod: &Pod, moment: fn(&Record) -> Moment<'_>) -> Creation {
    if pod.life != Life::Live {
        return Creation::default();
    }
    let old = Record::of(pod);
    let own = Own::of(pod, &old, &BTreeSet::new());
    let policies: Vec<_> = program.select(pod, &own.labels).into_iter().filter(|policy| !policy.is_audit()).collect();
    if policies.is_empty() {
        return Creation::default();
    }
    let facts = program.facts(&pod.namespace);
    let scene = Scene { pod, policies, facts, settings: program.settings(), moment: moment(&old) };
    let mut ledger = Ledger::new(scene.policies.clone());
    // What an earlier pass gave counts as the pod's own now: whatever is added must go with it.
    container::decide(&scene, &Record::default(), &mut ledger);
    let given = given(&mut ledger);
    let mut with_settings = old.clone();
    if let Moment::Creation(_) = scene.moment {
        with_settings.created.extend(given.iter().map(|(setting, by)| created(pod, setting, by)));
    }
    let settings = given.into_iter().map(|(setting, _)| setting).collect();
    let plan = metadata::decide(&scene, &own, &with_settings, &mut ledger).plan(pod, &old, &mut ledger);
    let verdicts = ledger.into_outcome().verdicts;
    if fits(pod, &plan) {
        return Creation { verdicts, metadata: plan, settings, omitted: Omitted::Nothing };
    }
    let mut only_record = MetadataPlan::default();
    if with_settings != old {
        only_record.annotations.insert(podpolicy_api::APPLIED_ANNOTATION.to_owned(), with_settings.to_annotation());
    }
    if fits(pod, &only_record) {
        return Creation { verdicts, metadata: only_record, settings, omitted: Omitted::Metadata };
    }
    Creation { verdicts, omitted: Omitted::Everything, ..Creation::default() }
}

/// The settings that must be written, by field, each with the policy that gives it.
fn given(ledger: &mut Ledger<'_>) -> Vec<(Setting, String)> {
    let outcomes = std::mem::take(&mut ledger.fields).into_iter();
    let given = outcomes.filter_map(|outcome| match (outcome.source, outcome.value, outcome.done) {
        (Source::Policy(by), Some(value), false) => Some((Setting { field: outcome.field, value: value.stored() }, by)),
        _ => None,
    });
    let mut given: Vec<_> = given.collect();
    given.sort_by(|(a, _), (b, _)| a.field.cmp(&b.field));
    given
}

/// How the record remembers a setting.
fn created(pod: &Pod, setting: &Setting, by: &str) -> (String, CreatedEntry) {
    (setting.field.to_string(), CreatedEntry { by: by.to_owned(), was: declared(pod, &setting.field) })
}

/// What the pod says about the field; a grace period of Kubernetes' default says nothing.
fn declared(pod: &Pod, field: &Field) -> Option<Json> {
    let container = |name: &str| pod.template.containers.iter().find(|container| container.name == name);
    match field {
        Field::GracePeriod => Some(pod.template.grace_period).filter(|&seconds| seconds != DEFAULT_GRACE_PERIOD).map(Json::from),
        Field::Probe { container: name, kind } => container(name)?.probe(*kind).and_then(|probe| serde_json::to_value(probe).ok()),
        Field::Hook { container: name, kind } => container(name)?.hook(*kind).and_then(|hook| serde_json::to_value(hook).ok()),
        Field::StopSignal { container: name } => container(name)?.stop_signal.as_ref().map(|signal| signal.name().into()),
        Field::Label(_) | Field::Annotation(_) | Field::Container(_) => None,
    }
}

/// Whether the pod's annotations are small enough once the plan is written.
fn fits(pod: &Pod, plan: &MetadataPlan) -> bool {
    if plan.annotations.is_empty() {
        return true;
    }
    let written: usize = plan.annotations.iter().filter_map(|(key, value)| Some(key.len() + value.as_ref()?.len())).sum();
    let replaced: usize = plan.annotations.keys().filter_map(|key| Some(key.len() + pod.annotations.get(key)?.len())).sum();
    annotations_size(&pod.annotations) + written - replaced <= ANNOTATIONS_LIMIT
}
