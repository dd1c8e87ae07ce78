//! Deciding about one pod: select, then labels and annotations, then create-time settings, then audits.

use std::{collections::BTreeSet, sync::Arc};

use podpolicy_api::FindingReason;

use crate::{
    Conflict, Field, FieldOutcome, Finding, HookKind, Life, NamespaceFacts, Outcome, Pod, PodState, Policy, Program, Record, Settings,
    Value, Verdict, audit, container,
    metadata::{self, Metadata, Own},
    refusal::Refusal,
};

/// What one decision looks at: a pod, the policies in force on it in order, and the facts.
pub(crate) struct Scene<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) policies: Vec<&'a Arc<Policy>>,
    pub(crate) facts: Option<&'a NamespaceFacts>,
    pub(crate) settings: &'a Settings,
    pub(crate) moment: Moment<'a>,
}

/// When a pod is decided on. Before it is there, with the record of an earlier pass over it: the fields in that stay as they are.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    /// It runs.
    Live,
    /// It is about to be created.
    Creation(&'a Record),
    /// A file describes it; it gets no record.
    File(&'a Record),
}

impl Scene<'_> {
    /// Whether the pod is not there yet.
    pub(crate) fn is_creation(&self) -> bool {
        self.settled().is_some()
    }

    fn settled(&self) -> Option<&Record> {
        match self.moment {
            Moment::Live => None,
            Moment::Creation(record) | Moment::File(record) => Some(record),
        }
    }

    /// Whether an earlier pass at the pod's creation has given the setting.
    pub(crate) fn is_settled(&self, field: &Field) -> bool {
        self.settled().is_some_and(|record| match field {
            // A grace period was judged by the hooks that the workload declares, some of which are gone by now.
            Field::GracePeriod => {
                let is_hook = |path: &String| HookKind::ALL.iter().any(|kind| is_path_of_hook(path, *kind));
                record.created.keys().any(|path| *path == field.to_string() || is_hook(path))
            }
            Field::Label(_)
            | Field::Annotation(_)
            | Field::Container(_)
            | Field::Probe { .. }
            | Field::Hook { .. }
            | Field::StopSignal { .. } => !record.created.is_empty() && record.created.contains_key(&field.to_string()),
        })
    }
}

/// Whether the path in a record is that of such a hook of some container.
fn is_path_of_hook(path: &str, kind: HookKind) -> bool {
    path.strip_suffix(kind.field_name()).is_some_and(|rest| rest.ends_with("].lifecycle."))
}

/// What the policies do to the pod.
pub(crate) fn decide(program: &Program, pod: &Pod) -> Outcome {
    if pod.life == Life::Untouchable {
        return Outcome::default();
    }
    let record = Record::of(pod);
    let drifted = metadata::drifted(pod, &record);
    // Managed keys that somebody changed count as the policy's while a policy restores them, and as theirs otherwise. Which
    // of the two depends on who is selected, and that on the labels: so ask until nothing more becomes theirs.
    let mut theirs = BTreeSet::new();
    loop {
        let own = Own::of(pod, &record, &theirs);
        let selected = program.select(pod, &own.labels);
        let (audits, enforcing): (Vec<_>, Vec<_>) = selected.into_iter().partition(|policy| policy.is_audit());
        let facts = program.facts(&pod.namespace);
        let scene = Scene { pod, policies: enforcing, facts, settings: program.settings(), moment: Moment::Live };
        let mut ledger = Ledger::new(scene.policies.clone());
        let metadata = metadata::decide(&scene, &own, &record, &mut ledger);
        let lost: Vec<_> = drifted.iter().filter(|key| !theirs.contains(*key) && !metadata.restores(**key, &scene)).copied().collect();
        if lost.is_empty() {
            let mut outcome = conclude(&scene, &record, metadata, ledger, &audits);
            if pod.life == Life::Live {
                outcome.exempting = program.exempting(pod, &own.labels);
            }
            return outcome;
        }
        theirs.extend(lost);
    }
}

fn conclude<'a>(
    scene: &Scene<'a>,
    record: &'a Record,
    mut metadata: Metadata<'a>,
    mut ledger: Ledger<'_>,
    audits: &[&Arc<Policy>],
) -> Outcome {
    if scene.pod.life == Life::Ended {
        metadata.keep_only_undo(record, scene.pod);
        return Outcome { metadata: metadata.plan(scene.pod, record, &mut ledger), ..Outcome::default() };
    }
    let plan = metadata.plan(scene.pod, record, &mut ledger);
    ledger.fields.extend(metadata.fields(scene.pod, record));
    container::decide(scene, record, &mut ledger);
    let audited = audit::decide(scene, &plan, record, &ledger.fields, audits);
    let mut outcome = ledger.into_outcome();
    for verdict in &mut outcome.verdicts {
        verdict.has_given = record.created.values().any(|entry| verdict.policy.in_record() == entry.by);
    }
    outcome.metadata = plan;
    outcome.verdicts.extend(audited);
    outcome.verdicts.sort_by(|a, b| a.policy.order(&b.policy));
    outcome
}

/// Collects, policy by policy, what a decision finds.
pub(crate) struct Ledger<'a> {
    policies: Vec<&'a Arc<Policy>>,
    pages: Vec<Page>,
    conflicts: Vec<Conflict>,
    pub(crate) fields: Vec<FieldOutcome>,
}

/// What is found for one policy.
#[derive(Clone, Default)]
struct Page {
    findings: Vec<Finding>,
    pending: bool,
    outdated: bool,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(policies: Vec<&'a Arc<Policy>>) -> Self {
        let pages = vec![Page::default(); policies.len()];
        Self { policies, pages, conflicts: Vec::new(), fields: Vec::new() }
    }

    /// Notes that a label or annotation of the policies must still be written.
    pub(crate) fn pending(&mut self, policies: &[usize]) {
        for &policy in policies {
            self.pages[policy].pending = true;
        }
    }

    /// Notes that the pod must be replaced to get a setting of the policies.
    pub(crate) fn outdated(&mut self, policies: &[usize]) {
        for &policy in policies {
            self.pages[policy].outdated = true;
        }
    }

    /// Notes that the policy's value is withheld.
    pub(crate) fn refuse(&mut self, policy: usize, field: Field, refusal: Refusal) {
        let Refusal { reason, message } = refusal;
        self.pages[policy].findings.push(Finding { reason, field, refused: true, message });
    }

    /// Notes something that withholds nothing.
    pub(crate) fn report(&mut self, policy: usize, reason: FindingReason, field: Field, message: impl Into<String>) {
        self.pages[policy].findings.push(Finding { reason, field, refused: false, message: message.into() });
    }

    /// Notes that the workload's value stays, for the policy that wins the field and those that want the same.
    pub(crate) fn kept(&mut self, policies: &[usize], field: &Field, what: &str) {
        let Some((&winner, others)) = policies.split_first() else { return };
        self.report(winner, FindingReason::Kept, field.clone(), format!("{what}; set precedence: Policy to replace it"));
        let id = self.policies[winner].id();
        for &other in others {
            let message =
                format!("{what}, and {id}, which wants the same, goes first and keeps it; set precedence: Policy there to replace it");
            self.report(other, FindingReason::Kept, field.clone(), message);
        }
    }

    /// Lets the first claim on a field win. Those that want something else are overridden. Returns the winner, and after
    /// it those that want the same.
    pub(crate) fn contest<T>(
        &mut self,
        field: &Field,
        claims: &[(usize, T)],
        is_same: impl Fn(&T, &T) -> bool,
        value: impl Fn(&T) -> Value,
    ) -> Vec<usize> {
        let Some(((winner, wanted), others)) = claims.split_first() else { return Vec::new() };
        let mut agreeing = Vec::with_capacity(claims.len());
        agreeing.push(*winner);
        for (loser, other) in others {
            if is_same(wanted, other) {
                agreeing.push(*loser);
            } else {
                self.overridden(field, *winner, *loser, &value(wanted));
            }
        }
        agreeing
    }

    /// Notes that one policy wins a field from another with another value.
    fn overridden(&mut self, field: &Field, winner: usize, loser: usize, value: &Value) {
        let (winning, losing) = (self.policies[winner], self.policies[loser]);
        let why = if winning.priority() == losing.priority() {
            format!("both have priority {}", winning.priority())
        } else {
            format!("priority {} over {}", winning.priority(), losing.priority())
        };
        let message = format!(
            "{} sets it to {value} and goes first ({why}); give one of the two another priority, or remove the field from one",
            winning.id()
        );
        self.conflicts.push(Conflict { field: field.clone(), winner: Arc::clone(winning), loser: Arc::clone(losing) });
        self.report(loser, FindingReason::Overridden, field.clone(), message);
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        let Self { policies, pages, conflicts, mut fields } = self;
        fields.sort_by(|a, b| a.field.cmp(&b.field));
        let verdicts = policies
            .into_iter()
            .zip(pages)
            .map(|(policy, page)| Verdict {
                policy: Arc::clone(policy),
                state: page.state(),
                is_outdated: page.outdated,
                has_given: false,
                findings: page.findings,
            })
            .collect();
        Outcome { verdicts, fields, conflicts, ..Outcome::default() }
    }
}

impl Page {
    /// The first that is the case: something is left to write, to replace, or was refused.
    fn state(&self) -> PodState {
        if self.pending {
            PodState::Pending
        } else if self.outdated {
            PodState::Outdated
        } else if self.findings.iter().any(|finding| finding.refused) {
            PodState::Refused
        } else {
            PodState::Compliant
        }
    }
}
