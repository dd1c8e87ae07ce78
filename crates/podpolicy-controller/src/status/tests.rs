//! What a status says of pods as they stand.

use std::collections::HashSet;

use podpolicy_api::{AdmissionBackend, AdmissionStatus};
use serde_json::{Value, json};

use super::*;
use crate::{
    Config,
    admission::Progress,
    observe::{self, Observation, Observed, What},
    source::{SelectingKind, Source, Watchable},
    world::World,
};

struct Cluster(World);

impl Cluster {
    /// One in which everything was listed, and nothing is there.
    fn new() -> Self {
        let config = Config::default();
        let sources = observe::sources(&config.watched);
        let mut world = World::new(config, &sources);
        for source in sources {
            world.observe(Observation { source, what: What::Listed(HashSet::new()) });
        }
        Self(world)
    }

    fn see(&mut self, resource: Watchable, object: Observed) {
        let source = Source { resource, namespace: None };
        self.0.observe(Observation { source, what: What::Applied(Box::new(object)) });
    }

    fn namespace(&mut self, name: &str, labels: &Value) {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        self.see(Watchable::Namespaces, Observed::Namespace(serde_json::from_value(namespace).unwrap()));
    }

    /// A pod of a ReplicaSet of that name.
    fn pod(&mut self, name: &str, owner: &str) {
        let owners = json!([{ "apiVersion": "apps/v1", "controller": true, "kind": "ReplicaSet", "name": owner, "uid": owner }]);
        let metadata = json!({ "namespace": "shop", "name": name, "uid": name, "resourceVersion": "1", "ownerReferences": owners });
        let pod = json!({ "metadata": metadata, "spec": { "containers": [{ "name": "web" }] } });
        self.see(Watchable::Pods, Observed::Pod(serde_json::from_value(pod).unwrap()));
    }

    fn replica_set(&mut self, name: &str) {
        let kind = SelectingKind::ReplicaSet;
        let object = json!({ "metadata": { "namespace": "shop", "name": name, "uid": name }, "spec": { "replicas": 1, "selector": {} } });
        self.see(Watchable::Selecting(kind), Observed::Selecting(serde_json::from_value(object).unwrap()));
    }

    fn policy(&mut self, spec: &Value, status: &Value) {
        let metadata = json!({ "namespace": "shop", "name": "all", "uid": "1", "resourceVersion": "1", "generation": 1 });
        let policy =
            json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec, "status": status });
        self.see(Watchable::PodPolicies, Observed::PodPolicy(serde_json::from_value(policy).unwrap()));
    }

    fn cluster_policy(&mut self, spec: &Value) {
        let metadata = json!({ "name": "all", "uid": "1", "resourceVersion": "1", "generation": 1 });
        let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "ClusterPodPolicy", "metadata": metadata, "spec": spec });
        self.see(Watchable::ClusterPodPolicies, Observed::ClusterPodPolicy(serde_json::from_value(policy).unwrap()));
    }

    fn status_of(&mut self, id: &PolicyId, at_creation: Option<&AtCreation>) -> PodPolicyStatus {
        self.0.plan(usize::MAX);
        let (slot, pods) = self.0.policy(id).unwrap();
        let around =
            Around { blindness: None, at_creation, exec_checked: None, refused_everywhere: &[], aside: &self.0.aside(slot), rollout: None };
        of(slot, pods, around, Timestamp::UNIX_EPOCH)
    }

    fn status(&mut self) -> PodPolicyStatus {
        self.status_of(&PolicyId::namespaced("shop", "all"), None)
    }
}

fn message(status: &PodPolicyStatus, kind: ConditionType) -> &str {
    &status.condition(kind).unwrap().message
}

/// A failure that has exempted the pods of an owner.
fn failure(owner: &str) -> Value {
    let failure = json!({
        "workload": "Deployment/web", "workloadUid": "1", "template": "", "pod": "a", "exempt": owner, "message": "it failed",
        "time": "2026-01-02T03:04:05Z",
    });
    json!({ "rollout": { "phase": "Paused", "updated": 0, "total": 0, "generation": 1, "failure": failure } })
}

#[test]
fn refusals_are_among_the_findings_however_many_harmless_ones_there_are() {
    let mut cluster = Cluster::new();
    let names: Vec<_> = (1..=11).map(|number| format!("a{number}")).chain(["web".to_owned()]).collect();
    let probe = json!({ "httpGet": { "port": "http" } });
    cluster.policy(&json!({ "selector": {}, "containers": [{ "names": names, "livenessProbe": probe }] }), &json!({}));
    cluster.pod("a", "web-1");
    let status = cluster.status();
    let reasons: Vec<_> = status.findings.iter().map(|finding| finding.reason).collect();
    assert_eq!(reasons[..2], [FindingReason::PortNotFound, FindingReason::ContainerNotFound], "as many pods: refusals first");
    assert_eq!(reasons.len(), MOST_FINDINGS);
    for kind in [ConditionType::Compliant, ConditionType::Ready] {
        assert!(message(&status, kind).ends_with("; 10 of 12 findings are listed"), "{}", message(&status, kind));
    }
}

#[test]
fn findings_of_the_most_pods_are_listed_first() {
    let sighting = |pods, refused| Sighting { pods, refused, example: String::new(), message: String::new() };
    let mut tally = Tally::default();
    for (number, pods) in (0..).zip([9, 8, 7, 6, 5, 4, 3, 2, 2, 2]) {
        tally.findings.insert((FindingReason::Kept, format!("labels[{number}]")), sighting(pods, false));
    }
    tally.findings.insert((FindingReason::ProtectedKey, "labels[rare]".to_owned()), sighting(1, true));
    tally.findings.insert((FindingReason::ProtectedKey, "labels[x]".to_owned()), sighting(9, true));
    let findings = tally.into_findings(None);
    let listed: Vec<_> = findings.iter().map(|finding| (finding.pods, finding.field.as_str())).collect();
    let kept =
        [(9, "labels[0]"), (8, "labels[1]"), (7, "labels[2]"), (6, "labels[3]"), (5, "labels[4]"), (4, "labels[5]"), (3, "labels[6]")];
    let wanted: Vec<_> = [(9, "labels[x]")].into_iter().chain(kept).chain([(2, "labels[7]"), (1, "labels[rare]")]).collect();
    assert_eq!(listed, wanted);
}

#[test]
fn further_refusals_are_counted() {
    let mut cluster = Cluster::new();
    cluster.policy(&json!({ "selector": {}, "labels": { "example.k8s.io/a": "1", "example.k8s.io/b": "1", "job-name": "1" } }), &json!({}));
    cluster.pod("a", "web-1");
    let status = cluster.status();
    let ready = message(&status, ConditionType::Ready);
    assert!(ready.starts_with("fields of 1 of 1 pod are refused; labels[example.k8s.io/a]: "), "{ready}");
    assert!(ready.ends_with("(ProtectedKey); and 2 more"), "{ready}");
}

#[test]
fn pods_that_are_exempt_since_the_rollout_failed_are_told() {
    let mut cluster = Cluster::new();
    cluster.policy(&json!({ "selector": {}, "terminationGracePeriodSeconds": 60 }), &failure("web-1"));
    cluster.replica_set("web-1");
    cluster.pod("a", "web-1");
    cluster.pod("b", "web-1");
    let status = cluster.status();
    let exempt = "2 pods of ReplicaSet/web-1 are exempt since the rollout failed";
    assert_eq!(message(&status, ConditionType::Compliant), format!("the policy selects no other pod: {exempt}"));
    assert_eq!(status.condition(ConditionType::Compliant).unwrap().reason, "NoPods");

    // Of a new pod of the owner the policy says so too, and of one of another owner what it lacks.
    cluster.0.take_changed_policies();
    cluster.pod("c", "web-1");
    cluster.status();
    assert!(!cluster.0.take_changed_policies().is_empty());
    cluster.pod("d", "web-2");
    let status = cluster.status();
    let compliant = message(&status, ConditionType::Compliant);
    assert!(compliant.starts_with("1 of 1 pod is not compliant: 1 outdated; replace it to"), "{compliant}");
    assert!(compliant.ends_with("; 3 pods of ReplicaSet/web-1 are exempt since the rollout failed"), "{compliant}");
    assert_eq!(message(&status, ConditionType::Ready), "in force on 1 pod, which must be replaced to get the create-time settings");
}

#[test]
fn namespaces_that_are_excluded_are_told_where_the_policy_selects_no_other() {
    let mut cluster = Cluster::new();
    let id = PolicyId::cluster("all");
    cluster.namespace("kube-system", &json!({ "tier": "system" }));
    cluster.namespace("shop", &json!({ "tier": "shop" }));
    cluster.cluster_policy(
        &json!({ "selector": {}, "namespaceSelector": { "matchLabels": { "tier": "system" } }, "labels": { "team": "a" } }),
    );
    let status = cluster.status_of(&id, None);
    for kind in [ConditionType::Ready, ConditionType::Compliant] {
        assert!(message(&status, kind).ends_with("(--exclude-namespaces), and it selects only kube-system"), "{}", message(&status, kind));
    }
    cluster.0.take_changed_policies();
    cluster.namespace("shop", &json!({ "tier": "system" }));
    assert_eq!(cluster.0.take_changed_policies(), std::slice::from_ref(&id), "it may say something else now");
    assert_eq!(message(&cluster.status_of(&id, None), ConditionType::Compliant), "the policy selects no pod");
}

#[test]
fn pods_that_somebody_else_leaves_out_at_creation_are_a_finding_and_the_policy_stays_ready() {
    let mut cluster = Cluster::new();
    cluster.policy(&json!({ "selector": {}, "labels": { "team": "shop" } }), &json!({}));
    let id = PolicyId::namespaced("shop", "all");
    let narrowed = Some("somebody else narrowed the webhook".to_owned());
    let backend = Some(AdmissionBackend::Webhook);
    let mut at_creation = AtCreation { backend, progress: Progress::InForce, omitted: None, narrowed };
    let status = cluster.status_of(&id, Some(&at_creation));
    assert_eq!(status.condition(ConditionType::Ready).unwrap().status, "True");
    assert_eq!(status.admission.unwrap().message, None, "the present generation is in force");
    let found: Vec<_> = status.findings.iter().map(|finding| (finding.reason, finding.message.as_str())).collect();
    assert_eq!(found, [(FindingReason::NotAtCreation, "somebody else narrowed the webhook")]);

    // Where no pod is asked about, it is not in force at all.
    at_creation.omitted = at_creation.narrowed.take();
    let status = cluster.status_of(&id, Some(&at_creation));
    let ready = status.condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NotAtCreation"));
}

#[test]
fn numbers_and_texts_can_wait_and_nothing_else() {
    let condition = |status: &str, reason: &str, message: &str| Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: Some(1),
    };
    let admission = |generation| AdmissionStatus { backend: AdmissionBackend::Native, generation, message: None };
    let present = PodPolicyStatus {
        observed_generation: Some(1),
        conditions: vec![condition("False", "Progressing", "3 of 5 pods")],
        admission: Some(admission(1)),
        ..PodPolicyStatus::default()
    };
    let waits = |change: &dyn Fn(&mut PodPolicyStatus)| {
        let mut wanted = present.clone();
        change(&mut wanted);
        can_wait(&present, &wanted)
    };
    assert!(waits(&|status| status.pods = Some(PodCounts { matched: 1, ..PodCounts::default() })));
    assert!(waits(&|status| status.conditions = vec![condition("False", "Progressing", "4 of 5 pods")]));
    assert!(!waits(&|status| status.conditions = vec![condition("True", "Progressing", "3 of 5 pods")]));
    assert!(!waits(&|status| status.conditions = vec![condition("False", "WriteFailed", "3 of 5 pods")]));
    assert!(!waits(&|status| status.conditions.clear()));
    assert!(!waits(&|status| status.observed_generation = Some(2)));
    assert!(!waits(&|status| status.admission = Some(admission(2))));
    assert!(!waits(&|status| status.exec_checked = Some(ExecChecked { guard: "guard".into(), generation: 1 })));
}
