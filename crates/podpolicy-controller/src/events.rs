//! Events about policies: what people should learn without reading a status. Told once, when a status that says so has been written, and by
//! whoever wrote it. The reasons are those of the conditions Ready and Conflicted; `docs/findings.md` lists them.
//!
//! Telling never waits and never fails anything: events go through a short queue to a task of their own, and those that find it full, or
//! come too often, are dropped. The status has it all.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams, PostParams},
};
use podpolicy_api::{ClusterPodPolicy, ConditionReason, ConditionType, PodPolicy, PodPolicyStatus};
use podpolicy_engine::{PolicyId, PolicyKind};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Election, Metrics,
    apply::{FIELD_MANAGER, WriteError, within},
    leadership::NotLeading,
    metrics::EventResult,
    retry::Pace,
    world::PolicySlot,
};

/// Events that wait to be sent.
const QUEUE: usize = 256;
/// How many events one policy may have in a while.
const MOST_EVENTS: u32 = 10;
const WHILE: Duration = Duration::from_mins(10);
/// How long one that is told again is counted up in place of made anew.
const SERIES: Duration = Duration::from_mins(6);
/// How many are remembered for that.
const MOST_REMEMBERED: usize = 1024;
/// The API server takes no longer note; names have an end as well.
const LONGEST_NOTE: usize = 1024;
const LONGEST_NAME: usize = 253 - 20;
/// Where events about objects without a namespace are.
const CLUSTER_NAMESPACE: &str = "default";

/// How much an event matters.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Weight {
    Normal,
    Warning,
}

/// What is to be told of a policy.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct News {
    weight: Weight,
    reason: ConditionReason,
    note: String,
}

/// What has been told of a policy: the same is not told again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Told {
    /// The generation of the spec that `ready` is about.
    generation: Option<i64>,
    ready: Option<ConditionReason>,
    conflicted: Option<ConditionReason>,
}

impl Told {
    /// What a status that was written earlier has told.
    fn by(status: &PodPolicyStatus) -> Self {
        let mut told = Self::default();
        told.news(status);
        told
    }

    /// What a status tells that was not told; afterwards it is.
    fn news(&mut self, status: &PodPolicyStatus) -> Vec<News> {
        let mut news = Vec::new();
        if let Some((reason, condition)) = reason(status, ConditionType::Ready)
            && let Some(weight) = weight(reason)
            && (self.ready, self.generation) != (Some(reason), status.observed_generation)
        {
            (self.ready, self.generation) = (Some(reason), status.observed_generation);
            news.push(News { weight, reason, note: condition.message.clone() });
        }
        if let Some((reason, condition)) = reason(status, ConditionType::Conflicted) {
            let is_first_peace = self.conflicted.is_none() && reason == ConditionReason::NoConflict;
            if self.conflicted.replace(reason) != Some(reason)
                && !is_first_peace
                && let Some(weight) = weight(reason)
            {
                news.push(News { weight, reason, note: condition.message.clone() });
            }
        }
        news
    }
}

fn reason(status: &PodPolicyStatus, kind: ConditionType) -> Option<(ConditionReason, &Condition)> {
    let condition = status.condition(kind)?;
    let reason = ConditionReason::ALL.into_iter().find(|reason| reason.to_string() == condition.reason)?;
    Some((reason, condition))
}

/// Whether a reason of Ready or Conflicted is told. What passes by itself is not.
fn weight(reason: ConditionReason) -> Option<Weight> {
    match reason {
        ConditionReason::InForce
        | ConditionReason::Auditing
        | ConditionReason::RolloutPaused
        | ConditionReason::Overrides
        | ConditionReason::NoConflict => Some(Weight::Normal),
        ConditionReason::Invalid
        | ConditionReason::RolloutBlocked
        | ConditionReason::RolloutFailed
        | ConditionReason::Refused
        | ConditionReason::WriteFailed
        | ConditionReason::Forbidden
        | ConditionReason::NotAtCreation
        | ConditionReason::Overridden => Some(Weight::Warning),
        // Those that pass, and those of other conditions.
        ConditionReason::Pending
        | ConditionReason::Progressing
        | ConditionReason::RollingOut
        | ConditionReason::Accepted
        | ConditionReason::AllCompliant
        | ConditionReason::NoPods
        | ConditionReason::Outdated
        | ConditionReason::WouldChange => None,
    }
}

/// Tells events.
pub(crate) struct Events {
    told: HashMap<PolicyId, (String, Told)>,
    pace: Pace<PolicyId>,
    queue: mpsc::Sender<(ObjectReference, News)>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// The task that sends them ends when it is dropped. The client's writes fail where another operator leads.
    pub(crate) fn start(client: &Client, election: Option<&Election>, metrics: &Arc<Metrics>) -> (Self, JoinSet<()>) {
        let (queue, received) = mpsc::channel(QUEUE);
        let reporter = election.map_or(FIELD_MANAGER, |election| &election.identity).chars().take(128).collect();
        let desk = Desk { client: client.clone(), reporter, sent: HashMap::new(), trouble: None };
        let mut telling = JoinSet::new();
        telling.spawn(desk.send_all(received, Arc::clone(metrics)));
        let pace = Pace::of(MOST_EVENTS, WHILE);
        (Self { told: HashMap::new(), pace, queue, metrics: Arc::clone(metrics) }, telling)
    }

    /// Notes what the policy's status says before it is written: that has been told, maybe by another operator.
    pub(crate) fn look_at(&mut self, id: &PolicyId, uid: &str, status: &PodPolicyStatus) {
        let (known, told) = self.told.entry(id.clone()).or_insert_with(|| (uid.to_owned(), Told::by(status)));
        if known != uid {
            (*known, *told) = (uid.to_owned(), Told::by(status));
        }
    }

    /// Tells what is new in the policy's status, which has been written.
    pub(crate) fn tell(&mut self, id: &PolicyId, slot: &PolicySlot, now: Instant) {
        let (_, told) = self.told.entry(id.clone()).or_insert_with(|| (slot.uid.clone(), Told::default()));
        for news in told.news(&slot.status) {
            let is_dropped = self.pace.take(id, now).is_err() || self.queue.try_send((reference(id, slot), news)).is_err();
            if is_dropped {
                self.metrics.event(EventResult::Dropped);
            }
        }
    }

    /// Others tell from now on.
    pub(crate) fn forget_all(&mut self) {
        self.told.clear();
    }

    /// The policy is gone.
    pub(crate) fn forget(&mut self, id: &PolicyId) {
        self.told.remove(id);
    }
}

fn reference(id: &PolicyId, slot: &PolicySlot) -> ObjectReference {
    let api_version = match id.kind {
        PolicyKind::PodPolicy => PodPolicy::api_version(&()),
        PolicyKind::ClusterPodPolicy => ClusterPodPolicy::api_version(&()),
    };
    let kind = match id.kind {
        PolicyKind::PodPolicy => PodPolicy::kind(&()),
        PolicyKind::ClusterPodPolicy => ClusterPodPolicy::kind(&()),
    };
    ObjectReference {
        api_version: Some(api_version.into_owned()),
        kind: Some(kind.into_owned()),
        namespace: (!id.namespace.is_empty()).then(|| id.namespace.clone()),
        name: Some(id.name.clone()),
        uid: Some(slot.uid.clone()),
        ..ObjectReference::default()
    }
}

/// Sends events, one at a time.
struct Desk {
    client: Client,
    reporter: String,
    /// What was sent lately, by the policy's UID and what was said.
    sent: HashMap<(String, News), (Instant, Event)>,
    /// The trouble that was logged last.
    trouble: Option<String>,
}

impl Desk {
    async fn send_all(mut self, mut queue: mpsc::Receiver<(ObjectReference, News)>, metrics: Arc<Metrics>) {
        while let Some((regarding, news)) = queue.recv().await {
            let result = match self.send(regarding, news).await {
                Ok(()) => {
                    self.trouble = None;
                    EventResult::Ok
                }
                Err(error) => self.failed(&error),
            };
            metrics.event(result);
        }
    }

    async fn send(&mut self, regarding: ObjectReference, news: News) -> Result<(), WriteError> {
        let now = Instant::now();
        self.sent.retain(|_, (since, _)| now.duration_since(*since) < SERIES);
        if self.sent.len() >= MOST_REMEMBERED {
            self.sent.clear();
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE));
        let key = (regarding.uid.clone().unwrap_or_default(), news.clone());
        let event = if let Some((_, event)) = self.sent.get(&key) {
            let count = event.series.as_ref().map_or(2, |series| series.count + 1);
            let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
            let name = event.metadata.name.clone().unwrap_or_default();
            let patch = Patch::Merge(serde_json::json!({ "series": series }));
            within(api.patch(&name, &PatchParams::default(), &patch)).await?;
            Event { series: Some(series), ..event.clone() }
        } else {
            let event = event(regarding, &news, &self.reporter, Timestamp::now());
            within(api.create(&PostParams::default(), &event)).await?;
            event
        };
        self.sent.insert(key, (now, event));
        Ok(())
    }

    fn failed(&mut self, error: &WriteError) -> EventResult {
        let text = error.to_string();
        let is_worth_saying = match error {
            WriteError::Forbidden(_) => true,
            // The namespace is being deleted: nobody looks there any more.
            WriteError::Refused(_) => !text.contains("because it is being terminated"),
            // Who does not lead any more leaves it to the next.
            WriteError::Unavailable(_) => !text.contains(NotLeading.to_string().as_str()),
            WriteError::Gone | WriteError::Changed | WriteError::ChangedBack => false,
        };
        if is_worth_saying && self.trouble.as_ref() != Some(&text) {
            tracing::warn!("could not tell an event: {text}");
            self.trouble = Some(text);
        } else {
            tracing::debug!("could not tell an event: {text}");
        }
        EventResult::Failed
    }
}

fn event(regarding: ObjectReference, news: &News, reporter: &str, now: Timestamp) -> Event {
    let name = regarding.name.as_deref().unwrap_or_default();
    let name = name.get(..LONGEST_NAME).unwrap_or(name).trim_end_matches(['.', '-']);
    Event {
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(regarding.namespace.clone().unwrap_or_else(|| CLUSTER_NAMESPACE.to_owned())),
            ..ObjectMeta::default()
        },
        note: Some(cut(&news.note, LONGEST_NOTE)),
        reason: Some(news.reason.to_string()),
        regarding: Some(regarding),
        reporting_controller: Some("podpolicy.dev/podpolicy".to_owned()),
        reporting_instance: Some(reporter.to_owned()),
        type_: Some(
            match news.weight {
                Weight::Normal => "Normal",
                Weight::Warning => "Warning",
            }
            .to_owned(),
        ),
        ..Event::default()
    }
}

/// The text, or as much of its start as there is room for.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(most - '…'.len_utf8())]) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(generation: i64, ready: &str, conflicted: &str) -> PodPolicyStatus {
        let condition = |kind: &str, reason: &str| Condition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: reason.into(),
            message: format!("because {reason}"),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: Some(generation),
        };
        let conditions = vec![condition("Ready", ready), condition("Conflicted", conflicted)];
        PodPolicyStatus { observed_generation: Some(generation), conditions, ..PodPolicyStatus::default() }
    }

    #[test]
    fn what_was_told_is_told_again_only_of_another_spec() {
        let mut told = Told::default();
        for (generation, ready, conflicted, wanted) in [
            (1, "Pending", "NoConflict", vec![]),
            (1, "Progressing", "NoConflict", vec![]),
            (1, "InForce", "NoConflict", vec!["Normal InForce"]),
            (1, "Progressing", "NoConflict", vec![]),
            (1, "InForce", "NoConflict", vec![]),
            (1, "Refused", "Overridden", vec!["Warning Refused", "Warning Overridden"]),
            (1, "InForce", "Overridden", vec!["Normal InForce"]),
            (2, "Progressing", "NoConflict", vec!["Normal NoConflict"]),
            (2, "InForce", "NoConflict", vec!["Normal InForce"]),
        ] {
            let status = status(generation, ready, conflicted);
            let before = told.clone();
            let news = told.news(&status);
            let said: Vec<_> = news.iter().map(|News { weight, reason, .. }| format!("{weight:?} {reason}")).collect();
            assert_eq!(said, wanted, "{generation} {ready} {conflicted}");
            assert!(news.iter().all(|news| news.note == format!("because {}", news.reason)));
            assert_eq!(before.clone().news(&status), news, "the same before gives the same");
            assert_eq!(told.news(&status), [], "it has been told");
        }
        assert_eq!(Told::by(&status(2, "InForce", "NoConflict")).news(&status(2, "InForce", "NoConflict")), [], "by another operator");
    }

    #[test]
    fn events_fit_into_what_the_api_server_takes() {
        let news = News { weight: Weight::Warning, reason: ConditionReason::Refused, note: "ä".repeat(LONGEST_NOTE) };
        let regarding = ObjectReference { name: Some(format!("{}.b", "a".repeat(251))), ..ObjectReference::default() };
        let event = event(regarding, &news, "podpolicy", Timestamp::now());
        let (note, name) = (event.note.unwrap(), event.metadata.name.unwrap());
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ä…"), "{note}");
        assert!(name.len() <= 253, "{name}");
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    }
}
