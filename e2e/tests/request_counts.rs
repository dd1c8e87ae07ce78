//! How much the operator asks of the API server: one PATCH for a pod that differs, and nothing once nothing differs. The counts are
//! those of the API server, which cover all its clients: this control plane has nobody else, and one test runs at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use podpolicy_api::{PodPolicy, PodPolicyStatus};
use podpolicy_controller::Config;
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{settled, status, verdict};
use podpolicy_e2e::requests::Codes;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, Proxy, Requests, TestNamespace};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Longer than the loop of the operator sleeps, so that it has woken up at least once.
const IDLE: Duration = Duration::from_secs(7);

#[tokio::test]
async fn each_pod_that_differs_gets_one_patch_and_a_pod_that_complies_none() -> anyhow::Result<()> {
    let scene = Scene::set("one-patch").await?;
    scene.create_pods("differs", 30, &[]).await?;
    let compliant: Vec<_> = (0..5).map(|number| format!("l{number}")).collect();
    let labels: Vec<_> = compliant.iter().map(|key| (key.as_str(), "on")).collect();
    scene.create_pods("complies", 10, &labels).await?;
    let policies: Vec<_> = (0..5).map(|number| (format!("p{number}"), format!("l{number}"))).collect();
    for (name, key) in &policies {
        scene.apply_policy(name, &format!("labels: {{ {key}: 'on' }}")).await?;
    }

    let before = scene.requests().await?;
    let operator = scene.operator().await?;
    for (name, _) in &policies {
        let status = settled(&scene.policies(), name, 40).await?;
        assert_eq!(status.pods.unwrap().compliant, 40);
    }
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Success), 30, "{sent}");
    assert_eq!(sent.writes("pods"), 30, "{sent}");
    for pod in scene.pods().list(&ListParams::default()).await? {
        assert!(policies.iter().all(|(_, key)| pod.labels().get(key).is_some_and(|value| value == "on")), "{:?}", pod.labels());
        let recorded = pod.annotations().contains_key("podpolicy.dev/applied");
        assert_eq!(recorded, pod.name_any().starts_with("differs"), "only what was written is recorded: {pod:?}");
    }
    operator.stop().await
}

#[tokio::test]
async fn each_new_pod_gets_one_patch() -> anyhow::Result<()> {
    let scene = Scene::set("new-pods").await?;
    scene.apply_policy("label", "labels: { team: shop }").await?;
    scene.apply_policy("annotation", "annotations: { example.com/oncall: shop }").await?;
    let operator = scene.operator().await?;
    settled(&scene.policies(), "label", 0).await?;
    settled(&scene.policies(), "annotation", 0).await?;

    let before = scene.requests().await?;
    scene.create_pods("web", 25, &[]).await?;
    settled(&scene.policies(), "label", 25).await?;
    settled(&scene.policies(), "annotation", 25).await?;
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 25, "{sent}");
    operator.stop().await
}

#[tokio::test]
async fn policy_that_goes_from_a_to_b_and_back_patches_each_pod_once_a_change_and_restores_a() -> anyhow::Result<()> {
    let scene = Scene::set("back-and-forth").await?;
    scene.create_pods("web", 20, &[("colour", "own")]).await?;
    let a = "{ precedence: Policy, labels: { colour: red, team: shop }, annotations: { example.com/a: a } }";
    let b = "{ precedence: Policy, labels: { colour: blue }, annotations: { example.com/b: b } }";
    scene.apply_spec("changing", a).await?;
    let operator = scene.operator().await?;
    settled(&scene.policies(), "changing", 20).await?;
    let first = scene.metadata().await?;

    for (name, spec, restored) in [("B", b, false), ("A again", a, true)] {
        let before = scene.requests().await?;
        scene.apply_spec("changing", spec).await?;
        settled(&scene.policies(), "changing", 20).await?;
        let sent = scene.quiet().await?.since(&before);
        assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 20, "{name}: {sent}");
        assert_eq!(scene.metadata().await? == first, restored, "{name}");
    }

    let before = scene.requests().await?;
    scene.policies().delete("changing", &DeleteParams::default()).await?;
    eventually("the pods as they were", DEADLINE, async || {
        let metadata = scene.metadata().await?;
        let own = (BTreeMap::from([("colour".to_owned(), "own".to_owned())]), BTreeMap::new());
        Ok(Seen::when(metadata.values().all(|found| *found == own), metadata))
    })
    .await?;
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 20, "a deletion: {sent}");
    operator.stop().await
}

#[tokio::test]
async fn edit_that_changes_no_pod_sends_no_patch_to_pods() -> anyhow::Result<()> {
    let scene = Scene::set("edits").await?;
    scene.create_pods("web", 10, &[("app", "web")]).await?;
    scene.apply_spec("edited", "{ labels: { team: shop } }").await?;
    let operator = scene.operator().await?;
    settled(&scene.policies(), "edited", 10).await?;

    let before = scene.requests().await?;
    for spec in [
        "{ priority: 7, labels: { team: shop } }",
        "{ labels: { team: shop, app: web } }",
        "{ labels: { team: shop }, terminationGracePeriodSeconds: 45 }",
        "{ labels: { team: shop } }",
    ] {
        scene.apply_spec("edited", spec).await?;
        settled(&scene.policies(), "edited", 10).await?;
    }
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.writes("pods"), 0, "{sent}");
    operator.stop().await
}

#[tokio::test]
async fn fight_between_policies_is_over_after_one_patch_for_each_pod() -> anyhow::Result<()> {
    let scene = Scene::set("fight").await?;
    scene.create_pods("web", 10, &[]).await?;
    scene.apply_spec("older", "{ precedence: Policy, labels: { team: older } }").await?;
    let operator = scene.operator().await?;
    settled(&scene.policies(), "older", 10).await?;

    let before = scene.requests().await?;
    scene.apply_spec("stronger", "{ priority: 1, precedence: Policy, labels: { team: stronger } }").await?;
    settled(&scene.policies(), "stronger", 10).await?;
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 10, "{sent}");

    let before = scene.requests().await?;
    scene.apply_spec("older", "{ precedence: Policy, labels: { team: still-weaker } }").await?;
    let status = settled(&scene.policies(), "older", 10).await?;
    assert_eq!(verdict(&status, "Conflicted"), "True Overridden");
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.writes("pods"), 0, "the loser has nothing to say: {sent}");
    for (name, (labels, _)) in scene.metadata().await? {
        assert_eq!(labels["team"], "stronger", "{name}");
    }
    operator.stop().await
}

#[tokio::test]
async fn value_of_a_person_is_answered_at_most_once() -> anyhow::Result<()> {
    let scene = Scene::set("person").await?;
    scene.create_pods("web", 1, &[]).await?;
    scene.apply_spec("fills", "{ labels: { filled: policy } }").await?;
    scene.apply_spec("replaces", "{ precedence: Policy, labels: { replaced: policy } }").await?;
    let operator = scene.operator().await?;
    settled(&scene.policies(), "fills", 1).await?;
    settled(&scene.policies(), "replaces", 1).await?;

    // One PATCH is kubectl's own, one the operator's: the record no longer names what is theirs, or the value comes back.
    for (change, kept) in [("filled=person", "person"), ("replaced=person", "policy"), ("filled-", "policy"), ("replaced-", "policy")] {
        let before = scene.requests().await?;
        scene.plane.kubectl_output(&["label", "--overwrite", "-n", scene.namespace.name(), "pod", "web-0", change])?;
        let key = change.split(['=', '-']).next().unwrap_or_default();
        eventually(&format!("{key}={kept} after {change}, and the record to say so"), DEADLINE, async || {
            let pod = scene.pods().get("web-0").await?;
            let record = pod.annotations().get("podpolicy.dev/applied").cloned().unwrap_or_default();
            let done = pod.labels().get(key).is_some_and(|value| value == kept) && record.contains(key) == (kept == "policy");
            Ok(Seen::when(done, (pod.labels(), record)))
        })
        .await?;
        let sent = scene.quiet().await?.since(&before);
        assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 2, "{change}: {sent}");
    }
    operator.stop().await
}

#[tokio::test]
async fn restart_writes_nothing() -> anyhow::Result<()> {
    let scene = Scene::set("restart").await?;
    scene.create_pods("web", 20, &[("app", "web"), ("kept", "own"), ("replaced", "own")]).await?;
    scene.diverse_policies().await?;
    let operator = scene.operator().await?;
    scene.diverse_policies_settled(20).await?;
    scene.quiet().await?;
    operator.stop().await?;

    let (before, pods) = (scene.requests().await?, scene.pods().list(&ListParams::default()).await?);
    for _ in 0..2 {
        let operator = scene.operator().await?;
        let sent = scene.quiet().await?.since(&before);
        assert_eq!((sent.writes("pods"), sent.writes("podpolicies")), (0, 0), "{sent}");
        assert!(operator.metrics.to_text().contains("podpolicy_pods_queued 0"), "{}", operator.metrics.to_text());
        operator.stop().await?;
    }
    assert_eq!(scene.pods().list(&ListParams::default()).await?.items, pods.items);
    Ok(())
}

#[tokio::test]
async fn connections_that_are_cut_cause_no_write() -> anyhow::Result<()> {
    let scene = Scene::set("cut").await?;
    scene.create_pods("web", 20, &[("app", "web"), ("kept", "own"), ("replaced", "own")]).await?;
    scene.diverse_policies().await?;
    let door = Proxy::to(scene.plane, true).await?;
    let operator = InProcess::in_namespace(Client::try_from(door.config(scene.plane)?)?, scene.namespace.name()).await?;
    scene.diverse_policies_settled(20).await?;

    let before = scene.quiet().await?;
    door.close();
    door.open();
    // Only a watch that has come back brings it.
    scene.create_pods("new", 1, &[("app", "web"), ("kept", "own"), ("replaced", "own")]).await?;
    scene.diverse_policies_settled(21).await?;
    let sent = scene.quiet().await?.since(&before);
    assert!(sent.matching(|request| request.verb == "WATCH" && request.resource == "pods") > 0, "the watch was cut: {sent}");
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 1, "the new pod: {sent}");
    assert!(operator.health.is_ready());
    operator.stop().await
}

#[tokio::test]
async fn status_of_200_pods_is_written_a_few_times_only() -> anyhow::Result<()> {
    let scene = Scene::set("statuses").await?;
    scene.create_pods("web", 200, &[]).await?;
    let operator = scene.operator().await?;

    let before = scene.requests().await?;
    scene.apply_policy("label", "labels: { team: shop }").await?;
    let status = settled(&scene.policies(), "label", 200).await?;
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");
    let sent = scene.quiet().await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Any), 200, "{sent}");
    // Unknown, then once a second while pods are being written, and the result.
    let statuses = sent.count("PATCH", "podpolicies", "status", Codes::Any);
    assert!((2..=6).contains(&statuses), "{sent}");

    let before = scene.requests().await?;
    scene.create_pods("more", 100, &[]).await?;
    settled(&scene.policies(), "label", 300).await?;
    let sent = scene.quiet().await?.since(&before);
    let statuses = sent.count("PATCH", "podpolicies", "status", Codes::Any);
    assert!((1..=6).contains(&statuses), "100 pods, one after the other: {sent}");
    operator.stop().await
}

#[tokio::test]
async fn idle_operator_asks_for_nothing() -> anyhow::Result<()> {
    let scene = Scene::set("idle").await?;
    scene.create_pods("web", 10, &[]).await?;
    scene.apply_policy("label", "labels: { team: shop }").await?;
    let operator = InProcess::start(scene.plane.client(), Config::default()).await?;
    settled(&scene.policies(), "label", 10).await?;
    scene.quiet().await?;

    let before = scene.requests().await?;
    // Not a wait for something: the length of the observation.
    tokio::time::sleep(IDLE).await;
    let asked = Requests::read(&scene.client).await?.since(&before);
    // The API server looks after these by itself.
    let own = ["", "leases", "services", "endpoints", "endpointslices", "ipaddresses", "servicecidrs", "namespaces", "configmaps"];
    let asked_by_operator = asked.matching(|request| !own.contains(&request.resource.as_str()) && request.verb != "WATCH");
    assert_eq!(asked_by_operator, 0, "{asked}");
    operator.stop().await
}

/// The control plane for as long as one test has it to itself, with a namespace.
struct Scene {
    // Dropped in this order: the namespace while nobody else counts.
    namespace: TestNamespace,
    client: Client,
    plane: &'static ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    async fn set(name: &str) -> anyhow::Result<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let start = || ControlPlane::start(Options { crds: true, controller_manager: false });
        let plane = PLANE.get_or_try_init(start).await?;
        let namespace = TestNamespace::create(&plane.config(), name).await?;
        Ok(Self { namespace, client: plane.client(), plane, _turn: turn })
    }

    /// An operator in this namespace only.
    async fn operator(&self) -> anyhow::Result<InProcess> {
        InProcess::in_namespace(self.plane.client(), self.namespace.name()).await
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    fn policies(&self) -> Api<PodPolicy> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    async fn create_pods(&self, prefix: &str, count: usize, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let (pods, params) = (self.pods(), PostParams::default());
        let wanted: Vec<_> = (0..count).map(|number| objects::pod(&format!("{prefix}-{number}"), labels)).collect();
        try_join_all(wanted.iter().map(|pod| pods.create(&params, pod))).await?;
        Ok(())
    }

    /// Applies a policy for every pod, with this field.
    async fn apply_policy(&self, name: &str, field: &str) -> anyhow::Result<()> {
        self.apply_spec(name, &format!("{{ {field} }}")).await
    }

    /// Applies a policy for every pod, with these fields.
    async fn apply_spec(&self, name: &str, fields: &str) -> anyhow::Result<()> {
        let fields = fields.trim_start_matches('{');
        let policy = format!(
            "{{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{ name: {name} }}, spec: {{ selector: {{}}, {fields} }}"
        );
        apply(&self.client, self.namespace.name(), &policy).await?;
        Ok(())
    }

    /// Policies with every kind of outcome on pods that have the labels `app`, `kept` and `replaced`.
    async fn diverse_policies(&self) -> anyhow::Result<()> {
        let service = "
            apiVersion: v1
            kind: Service
            metadata: { name: web }
            spec: { selector: { tier: front }, ports: [{ port: 80 }] }
        ";
        apply(&self.client, self.namespace.name(), service).await?;
        for (name, spec) in [
            ("winner", "{ priority: 1, precedence: Policy, labels: { team: winner, replaced: policy } }"),
            ("loser", "{ labels: { team: loser, kept: policy }, annotations: { example.com/a: '1' } }"),
            ("refused", "{ labels: { tier: front, pod-template-hash: x }, annotations: { example.com/b: '2' } }"),
            ("audit", "{ enforcement: Audit, labels: { audited: 'yes' } }"),
            ("create-time", "{ terminationGracePeriodSeconds: 45, containers: [{ readinessProbe: { httpGet: { port: http } } }] }"),
        ] {
            self.apply_spec(name, spec).await?;
        }
        Ok(())
    }

    /// Waits until each of these policies has decided about so many pods.
    async fn diverse_policies_settled(&self, matched: u32) -> anyhow::Result<()> {
        for name in ["winner", "loser", "refused", "create-time"] {
            settled(&self.policies(), name, matched).await?;
        }
        // Pods that an Audit policy would change count as pending.
        let counted = |found: &PodPolicyStatus| found.pods.is_some_and(|pods| pods.pending == matched);
        status(&self.policies(), "audit", "all pods counted", counted).await?;
        Ok(())
    }

    /// The counts, once pods and policies are at rest.
    async fn requests(&self) -> anyhow::Result<Requests> {
        Requests::settled(&self.client, "podpolicies").await?;
        Requests::settled(&self.client, "pods").await
    }

    /// The same, and that they stay at rest: whatever the last write caused would be sent now.
    async fn quiet(&self) -> anyhow::Result<Requests> {
        let first = self.requests().await?;
        let second = self.requests().await?;
        let late = second.since(&first);
        assert_eq!((late.writes("pods"), late.writes("podpolicies")), (0, 0), "writes after everything was at rest: {late}");
        Ok(second)
    }

    /// Labels and annotations of each pod.
    async fn metadata(&self) -> anyhow::Result<BTreeMap<String, (BTreeMap<String, String>, BTreeMap<String, String>)>> {
        let pods = self.pods().list(&ListParams::default()).await?;
        Ok(pods.iter().map(|pod| (pod.name_any(), (pod.labels().clone(), pod.annotations().clone()))).collect())
    }
}
