//! Labels and annotations: which policy sets each key, what the workload keeps, and what is taken back.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use podpolicy_api::{APPLIED_ANNOTATION, FindingReason, Precedence};

use crate::{
    Entry, Field, FieldOutcome, MetadataPlan, Pod, Record, Source, Value,
    decide::{Ledger, Moment, Scene},
    policy::{ANNOTATIONS_LIMIT, annotations_size},
    record::EntryRef,
    refusal::{self, Impact, LabelClaim},
};

/// The key of a label or an annotation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Key<'a> {
    Label(&'a str),
    Annotation(&'a str),
}

impl Key<'_> {
    /// What is under the key in the one of the two maps that it belongs to.
    fn find<'m, T>(self, labels: &'m BTreeMap<String, T>, annotations: &'m BTreeMap<String, T>) -> Option<&'m T> {
        match self {
            Self::Label(key) => labels.get(key),
            Self::Annotation(key) => annotations.get(key),
        }
    }

    fn on_pod(self, pod: &Pod) -> Option<&str> {
        self.find(&pod.labels, &pod.annotations).map(String::as_str)
    }

    fn in_record(self, record: &Record) -> Option<&Entry> {
        self.find(&record.labels, &record.annotations)
    }

    fn field(self) -> Field {
        match self {
            Self::Label(key) => Field::Label(key.to_owned()),
            Self::Annotation(key) => Field::Annotation(key.to_owned()),
        }
    }
}

/// The labels and annotations in a record.
fn entries(record: &Record) -> impl Iterator<Item = (Key<'_>, &Entry)> {
    let labels = record.labels.iter().map(|(key, entry)| (Key::Label(key), entry));
    labels.chain(record.annotations.iter().map(|(key, entry)| (Key::Annotation(key), entry)))
}

/// What a pod has of its own: what is on it, less what policies put there, with what they replaced.
pub(crate) struct Own<'a> {
    pub(crate) labels: Cow<'a, BTreeMap<String, String>>,
    pub(crate) annotations: Cow<'a, BTreeMap<String, String>>,
}

impl<'a> Own<'a> {
    /// `theirs` are managed keys whose value somebody changed, and that no policy restores.
    pub(crate) fn of(pod: &'a Pod, record: &Record, theirs: &BTreeSet<Key<'_>>) -> Self {
        let mut own = Self { labels: Cow::Borrowed(&pod.labels), annotations: Cow::Borrowed(&pod.annotations) };
        if own.annotations.contains_key(APPLIED_ANNOTATION) {
            own.annotations.to_mut().remove(APPLIED_ANNOTATION);
        }
        take_back(&mut own.labels, &record.labels, |key| theirs.contains(&Key::Label(key)));
        take_back(&mut own.annotations, &record.annotations, |key| theirs.contains(&Key::Annotation(key)));
        own
    }

    fn get(&self, key: Key<'_>) -> Option<&str> {
        key.find(&self.labels, &self.annotations).map(String::as_str)
    }
}

fn take_back(values: &mut Cow<'_, BTreeMap<String, String>>, entries: &BTreeMap<String, Entry>, is_theirs: impl Fn(&str) -> bool) {
    for (key, entry) in entries {
        if is_theirs(key) {
            continue;
        }
        match &entry.was {
            Some(was) => values.to_mut().insert(key.clone(), was.clone()),
            None => values.to_mut().remove(key),
        };
    }
}

/// The managed keys whose value is no longer what the record says.
pub(crate) fn drifted<'a>(pod: &Pod, record: &'a Record) -> BTreeSet<Key<'a>> {
    let is_changed = |&(key, entry): &(Key<'_>, &Entry)| key.on_pod(pod).is_some_and(|current| current != entry.value);
    entries(record).filter(is_changed).map(|(key, _)| key).collect()
}

/// The largest value of an annotation, in bytes, that is set when a pod is created. Larger ones follow once the pod is there: they would
/// not fit into the expressions that the API server takes.
pub(crate) const LARGEST_ANNOTATION_AT_CREATION: usize = 4096;

/// What becomes of one key.
#[derive(Debug)]
struct Decided<'a> {
    key: Key<'a>,
    /// The value in the end; none when the key is absent.
    value: Option<&'a str>,
    /// The record of it; none when the value is the pod's own.
    entry: Option<EntryRef<'a>>,
    /// The policies that the key is attributed to: the winner and then those that want the same, or the one that wrote what
    /// is taken back.
    policies: Vec<usize>,
}

/// What becomes of all keys that policies speak of or that are recorded.
#[derive(Debug)]
pub(crate) struct Metadata<'a> {
    keys: Vec<Decided<'a>>,
    record: Record,
}

impl<'a> Metadata<'a> {
    /// Whether a policy restores the managed key that somebody changed.
    pub(crate) fn restores(&self, key: Key<'_>, scene: &Scene<'_>) -> bool {
        let decided = self.keys.iter().find(|decided| decided.key == key);
        decided.is_some_and(|decided| {
            decided.entry.is_some()
                && decided.policies.first().is_some_and(|&winner| scene.policies[winner].precedence() == Precedence::Policy)
        })
    }

    /// Leaves only what is taken back: pods that have ended get nothing new.
    pub(crate) fn keep_only_undo(&mut self, old: &'a Record, pod: &'a Pod) {
        for decided in &mut self.keys {
            let entry = decided.key.in_record(old);
            let still_in_force = entry.is_some() && decided.entry.is_some();
            if still_in_force || entry.is_none() {
                decided.entry = entry.map(EntryRef::from);
                decided.value = decided.key.on_pod(pod);
            }
        }
        self.record = to_record(&self.keys, old);
    }

    /// What to write. Notes which policies wait for it.
    pub(crate) fn plan(&self, pod: &Pod, old: &Record, ledger: &mut Ledger<'_>) -> MetadataPlan {
        let mut plan = MetadataPlan::default();
        for decided in &self.keys {
            if decided.key.on_pod(pod) != decided.value {
                let (key, changes) = match decided.key {
                    Key::Label(key) => (key, &mut plan.labels),
                    Key::Annotation(key) => (key, &mut plan.annotations),
                };
                changes.insert(key.to_owned(), decided.value.map(str::to_owned));
            }
            if !decided.is_done(pod, old) {
                ledger.pending(&decided.policies);
            }
        }
        if self.record != *old {
            plan.annotations.insert(APPLIED_ANNOTATION.to_owned(), self.record.to_annotation());
        }
        plan
    }

    /// What each key ends up with, and where from.
    pub(crate) fn fields(&self, pod: &Pod, old: &Record) -> impl Iterator<Item = FieldOutcome> {
        self.keys.iter().map(|decided| {
            let writer = decided.entry.filter(|entry| decided.value == Some(entry.value));
            FieldOutcome {
                field: decided.key.field(),
                value: decided.value.map(|value| Value::Text(value.to_owned())),
                source: writer.map_or(Source::Workload, |entry| Source::Policy(entry.by.to_owned())),
                done: decided.is_done(pod, old),
            }
        })
    }
}

impl Decided<'_> {
    /// Whether value and record are on the pod already.
    fn is_done(&self, pod: &Pod, old: &Record) -> bool {
        self.key.on_pod(pod) == self.value && self.key.in_record(old).map(EntryRef::from) == self.entry
    }
}

/// Decides every label and annotation of the pod.
pub(crate) fn decide<'a>(scene: &Scene<'a>, own: &'a Own<'_>, record: &'a Record, ledger: &mut Ledger<'_>) -> Metadata<'a> {
    let is_settled = |key: Key<'_>| scene.is_creation() && key.in_record(record).is_some();
    let mut held = if scene.is_creation() { recorded(record, |_| true) } else { unseen(scene, record) };
    let mut claims: BTreeMap<Key<'a>, Vec<(usize, &'a str)>> = BTreeMap::new();
    let written_unseen = held.clone();
    for (index, policy) in scene.policies.iter().enumerate() {
        for (name, value) in &policy.rules().labels {
            let key = Key::Label(name);
            if is_settled(key) || is_written_unseen(key, index, &written_unseen, ledger) {
                continue;
            }
            // What would lose anyway is told only that: what else stands against it depends on what the winner has written so far.
            let loses = claims.get(&key).is_some_and(|claims| claims[0].1 != value);
            if loses || label_is_allowed(scene, own, index, (name, value), ledger, &mut held) {
                claims.entry(key).or_default().push((index, value));
            }
        }
        for (name, value) in &policy.rules().annotations {
            let key = Key::Annotation(name);
            if is_settled(key) || is_written_unseen(key, index, &written_unseen, ledger) {
                continue;
            }
            match refusal::protected_key(name, scene.settings) {
                Some(refusal) => ledger.refuse(index, key.field(), refusal),
                None => claims.entry(key).or_default().push((index, value)),
            }
        }
    }
    let mut keys: Vec<_> = claims.iter().map(|(&key, claims)| resolve(scene, own, key, claims, ledger)).collect();
    for (key, entry) in entries(record) {
        if claims.contains_key(&key) {
            continue;
        }
        let policies = scene.policies.iter().position(|policy| policy.in_record() == entry.by).into_iter().collect();
        keys.push(if held.contains(&key) {
            Decided { key, value: key.on_pod(scene.pod), entry: Some(entry.into()), policies }
        } else {
            Decided { key, value: own.get(key), entry: None, policies }
        });
    }
    let record = match scene.moment {
        Moment::Live => fit(&mut keys, own, record, ledger),
        Moment::Creation(_) => {
            leave_large_annotations_out(&mut keys, own, record);
            to_record(&keys, record)
        }
        Moment::File(_) => record.clone(),
    };
    Metadata { keys, record }
}

/// The labels and annotations in a record whose entries are meant.
fn recorded(record: &Record, is_meant: impl Fn(&Entry) -> bool) -> BTreeSet<Key<'_>> {
    entries(record).filter(|(_, entry)| is_meant(entry)).map(|(key, _)| key).collect()
}

/// The keys that policies wrote which may still exist, but cannot be seen.
fn unseen<'a>(scene: &Scene<'_>, record: &'a Record) -> BTreeSet<Key<'a>> {
    recorded(record, |entry| scene.settings.unseen_kinds.iter().any(|kind| kind.is_in_record(&entry.by)))
}

/// Whether the key stays as a policy wrote it that cannot be seen. Reports it.
fn is_written_unseen(key: Key<'_>, index: usize, unseen: &BTreeSet<Key<'_>>, ledger: &mut Ledger<'_>) -> bool {
    let stays = unseen.contains(&key);
    if stays {
        let message = "a policy set it that the operator cannot see now; let the operator list both kinds of policies, and namespaces";
        ledger.report(index, FindingReason::Overridden, key.field(), message);
    }
    stays
}

/// Whether the policy may set the label here. Reports what stands against it.
fn label_is_allowed<'a>(
    scene: &Scene<'a>,
    own: &Own<'_>,
    index: usize,
    (name, value): (&'a str, &str),
    ledger: &mut Ledger<'_>,
    held: &mut BTreeSet<Key<'a>>,
) -> bool {
    let key = Key::Label(name);
    // The API server refuses a pod with such a label: replacing it would let the pod in, with a record that can never be undone.
    if scene.is_creation() && own.get(key).is_some_and(|own| !has_label_characters(own)) {
        return false;
    }
    if let Some(refusal) = refusal::protected_key(name, scene.settings) {
        ledger.refuse(index, key.field(), refusal);
        return false;
    }
    let claim = LabelClaim { policy: scene.policies[index], key: name, value, own: own.get(key), current: key.on_pod(scene.pod) };
    match refusal::selector_impact(&claim, scene.facts, scene.settings) {
        Impact::None => true,
        Impact::Reported(message) => {
            ledger.report(index, FindingReason::SelectorImpact, key.field(), message);
            true
        }
        Impact::Refused(refusal) => {
            ledger.refuse(index, key.field(), refusal);
            false
        }
        Impact::Held(refusal) => {
            held.insert(key);
            ledger.refuse(index, key.field(), refusal);
            false
        }
    }
}

/// Whether a label's value has no character that Kubernetes does not allow there.
fn has_label_characters(value: &str) -> bool {
    value.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

/// The first claim wins; precedence decides between it and what the pod has of its own.
fn resolve<'a>(scene: &Scene<'a>, own: &'a Own<'_>, key: Key<'a>, claims: &[(usize, &'a str)], ledger: &mut Ledger<'_>) -> Decided<'a> {
    let (winner, value) = claims[0];
    let policies = ledger.contest(&key.field(), claims, |a, b| a == b, |value| Value::Text((*value).to_owned()));
    let own = own.get(key);
    let policy = scene.policies[winner];
    let kept = own.filter(|own| *own == value || policy.precedence() == Precedence::Workload);
    if let Some(kept) = kept {
        if kept != value {
            ledger.kept(&policies, &key.field(), &format!("the pod says {kept:?}, the policy {value:?}"));
        }
        return Decided { key, value: Some(kept), entry: None, policies };
    }
    let entry = EntryRef { by: policy.in_record(), value, was: own };
    Decided { key, value: Some(value), entry: Some(entry), policies }
}

/// Leaves out annotations with values so large that they are not set at creation. The controller sets them right after it.
fn leave_large_annotations_out<'a>(keys: &mut [Decided<'a>], own: &'a Own<'_>, old: &Record) {
    for decided in keys {
        let (Key::Annotation(key), Some(entry)) = (decided.key, decided.entry) else { continue };
        if entry.value.len() > LARGEST_ANNOTATION_AT_CREATION && !old.annotations.contains_key(key) {
            decided.value = own.get(decided.key);
            decided.entry = None;
        }
    }
}

/// Leaves out what would make the pod's annotations larger than Kubernetes allows: first annotations, then labels (for
/// their record), those of the last policies first. Returns the record of the rest.
fn fit<'a>(keys: &mut [Decided<'a>], own: &'a Own<'_>, old: &Record, ledger: &mut Ledger<'_>) -> Record {
    loop {
        let record = to_record(keys, old);
        if record.is_empty() || annotations_size_after(keys, own, &record) <= ANNOTATIONS_LIMIT {
            return record;
        }
        let last = keys
            .iter_mut()
            .filter(|decided| decided.entry.is_some())
            .max_by_key(|decided| (matches!(decided.key, Key::Annotation(_)), decided.policies.first().copied(), decided.key));
        let Some(decided) = last else { return record };
        decided.entry = None;
        decided.value = own.get(decided.key);
        for &policy in &decided.policies {
            ledger.refuse(policy, decided.key.field(), refusal::too_large(ANNOTATIONS_LIMIT));
        }
    }
}

fn to_record(keys: &[Decided<'_>], old: &Record) -> Record {
    let mut record = Record { created: old.created.clone(), ..Record::default() };
    for Decided { key, entry, .. } in keys {
        let Some(entry) = entry else { continue };
        match *key {
            Key::Label(key) => record.labels.insert(key.to_owned(), (*entry).into()),
            Key::Annotation(key) => record.annotations.insert(key.to_owned(), (*entry).into()),
        };
    }
    record
}

/// The size of the pod's annotations in the end.
fn annotations_size_after(keys: &[Decided<'_>], own: &Own<'_>, record: &Record) -> usize {
    let (mut more, mut less) = (0, 0);
    for decided in keys {
        if let (Key::Annotation(key), Some(entry)) = (decided.key, decided.entry) {
            more += key.len() + entry.value.len();
            less += own.get(decided.key).map_or(0, |value| key.len() + value.len());
        }
    }
    let record = record.to_annotation().map_or(0, |text| APPLIED_ANNOTATION.len() + text.len());
    annotations_size(&own.annotations) + more + record - less
}
