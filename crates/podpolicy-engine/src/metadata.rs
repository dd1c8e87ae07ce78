//! Labels and annotations: which policy sets each key, what the workload keeps, and what is taken back.

use std::collections::{BTreeMap, BTreeSet};

use podpolicy_api::{APPLIED_ANNOTATION, FindingReason, Precedence};

use crate::{
    Entry, Field, FieldOutcome, MetadataPlan, Pod, Record, Source, Value,
    decide::{Ledger, Scene},
    policy::{ANNOTATIONS_LIMIT, annotations_size},
    refusal::{self, Impact, LabelClaim},
};

/// What a pod has of its own: what is on it, less what policies put there, with what they replaced.
pub(crate) struct Own {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Own {
    /// `theirs` are managed keys whose value somebody changed, and that no policy restores.
    pub(crate) fn of(pod: &Pod, record: &Record, theirs: &BTreeSet<Field>) -> Self {
        let mut labels = pod.labels.clone();
        take_back(&mut labels, &record.labels, |key| theirs.contains(&Field::Label(key.to_owned())));
        let mut annotations = pod.annotations.clone();
        annotations.remove(APPLIED_ANNOTATION);
        take_back(&mut annotations, &record.annotations, |key| theirs.contains(&Field::Annotation(key.to_owned())));
        Self { labels, annotations }
    }
}

fn take_back(values: &mut BTreeMap<String, String>, entries: &BTreeMap<String, Entry>, is_theirs: impl Fn(&str) -> bool) {
    for (key, entry) in entries {
        if is_theirs(key) {
            continue;
        }
        match &entry.was {
            Some(was) => values.insert(key.clone(), was.clone()),
            None => values.remove(key),
        };
    }
}

/// The managed keys whose value is no longer what the record says.
pub(crate) fn drifted(pod: &Pod, record: &Record) -> BTreeSet<Field> {
    let changed = |current: Option<&String>, entry: &Entry| current.is_some_and(|current| *current != entry.value);
    let labels = record.labels.iter().filter(|(key, entry)| changed(pod.labels.get(*key), entry)).map(|(key, _)| Field::Label(key.clone()));
    let annotations = record
        .annotations
        .iter()
        .filter(|(key, entry)| changed(pod.annotations.get(*key), entry))
        .map(|(key, _)| Field::Annotation(key.clone()));
    labels.chain(annotations).collect()
}

/// The largest value of an annotation, in bytes, that is set when a pod is created. Larger ones follow once the pod is there: they would
/// not fit into the expressions that the API server takes.
pub(crate) const LARGEST_ANNOTATION_AT_CREATION: usize = 4096;

/// What becomes of one key.
#[derive(Debug)]
struct Decided {
    field: Field,
    /// The value in the end; none when the key is absent.
    value: Option<String>,
    /// The record of it; none when the value is the pod's own.
    entry: Option<Entry>,
    /// The policies that the key is attributed to: the winner and then those that want the same, or the one that wrote what
    /// is taken back.
    policies: Vec<usize>,
}

/// What becomes of all keys that policies speak of or that are recorded.
#[derive(Debug)]
pub(crate) struct Metadata {
    keys: Vec<Decided>,
    record: Record,
}

impl Metadata {
    /// Whether a policy restores the managed key that somebody changed.
    pub(crate) fn restores(&self, field: &Field, scene: &Scene<'_>) -> bool {
        let decided = self.keys.iter().find(|decided| decided.field == *field);
        decided.is_some_and(|decided| {
            decided.entry.is_some()
                && decided.policies.first().is_some_and(|&winner| scene.policies[winner].precedence() == Precedence::Policy)
        })
    }

    /// Leaves out annotations with values so large that they are not set at creation. The controller sets them right after it.
    pub(crate) fn leave_large_annotations_out(&mut self, own: &Own, old: &Record) {
        for decided in &mut self.keys {
            let (Field::Annotation(key), Some(entry)) = (&decided.field, &decided.entry) else { continue };
            if entry.value.len() > LARGEST_ANNOTATION_AT_CREATION && !old.annotations.contains_key(key) {
                decided.value = own.annotations.get(key).cloned();
                decided.entry = None;
            }
        }
        self.record = self.to_record(old);
    }

    /// Leaves only what is taken back: pods that have ended get nothing new.
    pub(crate) fn keep_only_undo(&mut self, old: &Record, pod: &Pod) {
        for decided in &mut self.keys {
            let (entries, current) = match &decided.field {
                Field::Label(key) => (old.labels.get(key), pod.labels.get(key)),
                Field::Annotation(key) => (old.annotations.get(key), pod.annotations.get(key)),
                Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => continue,
            };
            let still_in_force = entries.is_some() && decided.entry.is_some();
            if still_in_force || entries.is_none() {
                decided.entry = entries.cloned();
                decided.value = current.cloned();
            }
        }
        self.record = self.to_record(old);
    }

    fn to_record(&self, old: &Record) -> Record {
        let mut record = Record { created: old.created.clone(), ..Record::default() };
        for Decided { field, entry, .. } in &self.keys {
            let Some(entry) = entry else { continue };
            match field {
                Field::Label(key) => record.labels.insert(key.clone(), entry.clone()),
                Field::Annotation(key) => record.annotations.insert(key.clone(), entry.clone()),
                Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => None,
            };
        }
        record
    }

    /// What to write, and which policies wait for it.
    pub(crate) fn plan(&self, pod: &Pod, old: &Record, ledger: &mut Ledger<'_>) -> MetadataPlan {
        let mut plan = MetadataPlan::default();
        for decided in &self.keys {
            let (key, current, target, old_entry) = match &decided.field {
                Field::Label(key) => (key, pod.labels.get(key), &mut plan.labels, old.labels.get(key)),
                Field::Annotation(key) => (key, pod.annotations.get(key), &mut plan.annotations, old.annotations.get(key)),
                Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => continue,
            };
            let done = current == decided.value.as_ref() && old_entry == decided.entry.as_ref();
            if current != decided.value.as_ref() {
                target.insert(key.clone(), decided.value.clone());
            }
            if !done {
                ledger.pending(&decided.policies);
            }
            let writer = decided.entry.as_ref().filter(|entry| decided.value.as_ref() == Some(&entry.value));
            ledger.fields.push(FieldOutcome {
                field: decided.field.clone(),
                value: decided.value.clone().map(Value::Text),
                source: writer.map_or(Source::Workload, |entry| Source::Policy(entry.by.clone())),
                done,
            });
        }
        if self.record != *old {
            plan.annotations.insert(APPLIED_ANNOTATION.to_owned(), self.record.to_annotation());
        }
        plan
    }
}

/// Decides every label and annotation of the pod.
pub(crate) fn decide(scene: &Scene<'_>, own: &Own, record: &Record, ledger: &mut Ledger<'_>) -> Metadata {
    let mut held = if scene.is_creation() { recorded(record, |_| true) } else { unseen(scene, record) };
    let mut claims: BTreeMap<Field, Vec<(usize, &str)>> = BTreeMap::new();
    let written_unseen = held.clone();
    for (index, policy) in scene.policies.iter().enumerate() {
        for (key, value) in &policy.rules().labels {
            let field = Field::Label(key.clone());
            if scene.is_settled(&field) || is_written_unseen(&field, index, &written_unseen, ledger) {
                continue;
            }
            // What would lose anyway is told only that: what else stands against it depends on what the winner has written so far.
            let loses = claims.get(&field).is_some_and(|claims| claims[0].1 != value);
            if loses || label_is_allowed(scene, own, index, (key, value), ledger, &mut held) {
                claims.entry(field).or_default().push((index, value));
            }
        }
        for (key, value) in &policy.rules().annotations {
            let field = Field::Annotation(key.clone());
            if scene.is_settled(&field) || is_written_unseen(&field, index, &written_unseen, ledger) {
                continue;
            }
            match refusal::protected_key(key, scene.settings) {
                Some(refusal) => ledger.refuse(index, field, refusal),
                None => claims.entry(field).or_default().push((index, value)),
            }
        }
    }
    let mut keys: Vec<_> = claims.iter().map(|(field, claims)| resolve(scene, own, field, claims, ledger)).collect();
    let recorded = record.labels.iter().map(|(key, entry)| (Field::Label(key.clone()), key, entry, &own.labels, &scene.pod.labels));
    let annotated = record
        .annotations
        .iter()
        .map(|(key, entry)| (Field::Annotation(key.clone()), key, entry, &own.annotations, &scene.pod.annotations));
    for (field, key, entry, own, on_pod) in recorded.chain(annotated) {
        if claims.contains_key(&field) {
            continue;
        }
        let policies = scene.policies.iter().position(|policy| policy.in_record() == entry.by).into_iter().collect();
        let decided = if held.contains(&field) {
            Decided { field, value: on_pod.get(key).cloned(), entry: Some(entry.clone()), policies }
        } else {
            Decided { field, value: own.get(key).cloned(), entry: None, policies }
        };
        keys.push(decided);
    }
    let mut metadata = Metadata { keys, record: Record::default() };
    metadata.record = metadata.to_record(record);
    if !scene.is_creation() {
        fit(&mut metadata, own, record, ledger);
    }
    metadata
}

/// The labels and annotations in a record whose entries are meant.
fn recorded(record: &Record, is_meant: impl Fn(&Entry) -> bool) -> BTreeSet<Field> {
    let labels = record.labels.iter().filter(|(_, entry)| is_meant(entry)).map(|(key, _)| Field::Label(key.clone()));
    let annotations = record.annotations.iter().filter(|(_, entry)| is_meant(entry)).map(|(key, _)| Field::Annotation(key.clone()));
    labels.chain(annotations).collect()
}

/// The keys that policies wrote which may still exist, but cannot be seen.
fn unseen(scene: &Scene<'_>, record: &Record) -> BTreeSet<Field> {
    recorded(record, |entry| scene.settings.unseen_kinds.iter().any(|kind| kind.is_in_record(&entry.by)))
}

/// Whether the key stays as a policy wrote it that cannot be seen. Reports it.
fn is_written_unseen(field: &Field, index: usize, unseen: &BTreeSet<Field>, ledger: &mut Ledger<'_>) -> bool {
    let stays = unseen.contains(field);
    if stays {
        let message = "a policy set it that the operator cannot see now; let the operator list both kinds of policies, and namespaces";
        ledger.report(index, FindingReason::Overridden, field.clone(), message);
    }
    stays
}

/// Whether the policy may set the label here. Reports what stands against it.
fn label_is_allowed(
    scene: &Scene<'_>,
    own: &Own,
    index: usize,
    (key, value): (&str, &str),
    ledger: &mut Ledger<'_>,
    held: &mut BTreeSet<Field>,
) -> bool {
    let field = Field::Label(key.to_owned());
    // The API server refuses a pod with such a label: replacing it would let the pod in, with a record that can never be undone.
    if scene.is_creation() && own.labels.get(key).is_some_and(|own| !has_label_characters(own)) {
        return false;
    }
    if let Some(refusal) = refusal::protected_key(key, scene.settings) {
        ledger.refuse(index, field, refusal);
        return false;
    }
    let claim = LabelClaim {
        policy: scene.policies[index],
        key,
        value,
        own: own.labels.get(key).map(String::as_str),
        current: scene.pod.labels.get(key).map(String::as_str),
    };
    match refusal::selector_impact(&claim, scene.facts, scene.settings) {
        Impact::None => true,
        Impact::Reported(message) => {
            ledger.report(index, FindingReason::SelectorImpact, field, message);
            true
        }
        Impact::Refused(refusal) => {
            ledger.refuse(index, field, refusal);
            false
        }
        Impact::Held(refusal) => {
            held.insert(field.clone());
            ledger.refuse(index, field, refusal);
            false
        }
    }
}

/// Whether a label's value has no character that Kubernetes does not allow there.
fn has_label_characters(value: &str) -> bool {
    value.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

/// The first claim wins; precedence decides between it and what the pod has of its own.
fn resolve(scene: &Scene<'_>, own: &Own, field: &Field, claims: &[(usize, &str)], ledger: &mut Ledger<'_>) -> Decided {
    let (winner, value) = claims[0];
    let policies = ledger.contest(field, claims, |a, b| a == b, |value| Value::Text((*value).to_owned()));
    let own = match field {
        Field::Label(key) => own.labels.get(key),
        Field::Annotation(key) => own.annotations.get(key),
        Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => None,
    };
    let policy = scene.policies[winner];
    let kept = own.filter(|own| own.as_str() == value || policy.precedence() == Precedence::Workload);
    if let Some(kept) = kept {
        if kept != value {
            ledger.kept(&policies, field, &format!("the pod says {kept:?}, the policy {value:?}"));
        }
        return Decided { field: field.clone(), value: Some(kept.clone()), entry: None, policies };
    }
    let entry = Entry { by: policy.in_record().to_owned(), value: value.to_owned(), was: own.cloned() };
    Decided { field: field.clone(), value: Some(value.to_owned()), entry: Some(entry), policies }
}

/// Leaves out what would make the pod's annotations larger than Kubernetes allows: first annotations, then labels (for
/// their record), those of the last policies first.
fn fit(metadata: &mut Metadata, own: &Own, old: &Record, ledger: &mut Ledger<'_>) {
    while !metadata.record.is_empty() && metadata.annotations_size(own) > ANNOTATIONS_LIMIT {
        let last = metadata.keys.iter_mut().filter(|decided| decided.entry.is_some()).max_by_key(|decided| {
            (matches!(decided.field, Field::Annotation(_)), decided.policies.first().copied(), decided.field.clone())
        });
        let Some(decided) = last else { return };
        let own = match &decided.field {
            Field::Label(key) => own.labels.get(key),
            Field::Annotation(key) => own.annotations.get(key),
            Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => None,
        };
        decided.entry = None;
        decided.value = own.cloned();
        for &policy in &decided.policies {
            ledger.refuse(policy, decided.field.clone(), refusal::too_large(ANNOTATIONS_LIMIT));
        }
        metadata.record = metadata.to_record(old);
    }
}

impl Metadata {
    /// The size of the pod's annotations in the end.
    fn annotations_size(&self, own: &Own) -> usize {
        let (mut more, mut less) = (0, 0);
        for decided in &self.keys {
            if let (Field::Annotation(key), Some(entry)) = (&decided.field, &decided.entry) {
                more += key.len() + entry.value.len();
                less += own.annotations.get(key).map_or(0, |value| key.len() + value.len());
            }
        }
        let record = self.record.to_annotation().map_or(0, |text| APPLIED_ANNOTATION.len() + text.len());
        annotations_size(&own.annotations) + more + record - less
    }
}
