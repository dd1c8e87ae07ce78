//! ClusterPodPolicies on a real API server: where they act, where they never do, and how they stand to PodPolicies.
//!
//! An operator for the whole cluster acts in the namespaces of all tests, so that one test runs at a time.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use podpolicy_api::{ClusterPodPolicy, FindingReason, PodPolicy};
use podpolicy_controller::Config;
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{condition, settled, status, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, TestNamespace};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Only the pods of these tests have it.
const SELECTOR: &str = "selector: { matchLabels: { test: cluster-policies } }";

#[tokio::test]
async fn acts_in_the_namespaces_that_its_selector_selects_and_in_no_other() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (inside, outside) = (scene.namespace("inside").await?, scene.namespace("outside").await?);
    scene.label_namespace(&inside, json!({ "stage": "live" })).await?;
    scene.label_namespace(&outside, json!({ "stage": "trial" })).await?;
    for namespace in [&inside, &outside] {
        scene.create_pod(namespace.name(), "web").await?;
    }
    scene.apply_cluster_policy("stages", "namespaceSelector: { matchLabels: { stage: live } }, labels: { team: shop }").await?;

    let operator = scene.operator(Config::default()).await?;
    let status = settled(&scene.cluster_policies(), "stages", 1).await?;
    assert_eq!((status.pods.unwrap().compliant, verdict(&status, "Ready")), (1, "True InForce".to_owned()));
    scene.wait_for_label(inside.name(), "web", "team", Some("shop")).await?;
    scene.marker(&[inside.name(), outside.name()], &[outside.name()]).await?;
    operator.stop().await
}

#[tokio::test]
async fn pods_follow_when_their_namespace_gets_or_loses_the_label() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let namespace = scene.namespace("moves").await?;
    scene.create_pod(namespace.name(), "web").await?;
    scene.apply_cluster_policy("moves", "namespaceSelector: { matchExpressions: [{ key: stage, operator: In, values: [live, trial] }] }, labels: { team: shop }, annotations: { example.com/a: a }").await?;
    let operator = scene.operator(Config::default()).await?;
    settled(&scene.cluster_policies(), "moves", 0).await?;

    for (stage, team) in [(json!("live"), Some("shop")), (json!(null), None), (json!("trial"), Some("shop")), (json!("gone"), None)] {
        scene.label_namespace(&namespace, json!({ "stage": stage })).await?;
        let pod = scene.wait_for_label(namespace.name(), "web", "team", team).await?;
        assert_eq!(pod.annotations().contains_key("example.com/a"), team.is_some(), "{stage}: {:?}", pod.annotations());
        assert_eq!(pod.annotations().contains_key("podpolicy.dev/applied"), team.is_some(), "{stage}: {:?}", pod.annotations());
        settled(&scene.cluster_policies(), "moves", team.map_or(0, |_| 1)).await?;
    }
    operator.stop().await
}

#[tokio::test]
async fn namespace_that_comes_later_is_acted_in() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.apply_cluster_policy("later", "labels: { team: shop }").await?;
    let operator = scene.operator(Config::default()).await?;
    let namespace = scene.namespace("later").await?;
    scene.create_pod(namespace.name(), "web").await?;
    scene.wait_for_label(namespace.name(), "web", "team", Some("shop")).await?;
    operator.stop().await
}

#[tokio::test]
async fn never_acts_in_the_namespaces_of_kubernetes_and_of_the_operator() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (own, ordinary) = (scene.namespace("operator").await?, scene.namespace("ordinary").await?);
    let spared = ["kube-system", "kube-public", "kube-node-lease", own.name()];
    let everywhere: Vec<_> = spared.into_iter().chain([ordinary.name()]).collect();
    for namespace in &everywhere {
        scene.create_pod(namespace, "web").await?;
    }
    scene.apply_cluster_policy("everywhere", "labels: { team: shop }").await?;
    let mut config = Config::default();
    config.excluded_namespaces.insert(own.name().to_owned());

    let operator = scene.operator(config).await?;
    scene.wait_for_label(ordinary.name(), "web", "team", Some("shop")).await?;
    settled(&scene.cluster_policies(), "everywhere", 1).await?;
    scene.marker(&everywhere, &spared).await?;
    operator.stop().await
}

#[tokio::test]
async fn acts_in_the_namespaces_of_kubernetes_when_configured_to() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let excluded = scene.namespace("excluded").await?;
    for namespace in ["kube-system", excluded.name()] {
        scene.create_pod(namespace, "web").await?;
    }
    scene.apply_cluster_policy("configured", "labels: { team: shop }").await?;

    let operator =
        scene.operator(Config { excluded_namespaces: BTreeSet::from([excluded.name().to_owned()]), ..Config::default() }).await?;
    scene.wait_for_label("kube-system", "web", "team", Some("shop")).await?;
    scene.marker(&["kube-system", excluded.name()], &[excluded.name()]).await?;
    operator.stop().await?;

    // With the usual configuration the label goes away again.
    let operator = scene.operator(Config::default()).await?;
    scene.wait_for_label("kube-system", "web", "team", None).await?;
    operator.stop().await
}

#[tokio::test]
async fn pod_policy_acts_in_kube_system_and_in_its_own_namespace_only() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (home, other) = (scene.namespace("home").await?, scene.namespace("other").await?);
    for namespace in ["kube-system", home.name(), other.name()] {
        scene.create_pod(namespace, "web").await?;
    }
    scene.apply_policy(home.name(), "home", "labels: { team: home }").await?;
    scene.apply_policy("kube-system", "system", "labels: { team: system }").await?;

    let operator = scene.operator(Config::default()).await?;
    scene.wait_for_label(home.name(), "web", "team", Some("home")).await?;
    scene.wait_for_label("kube-system", "web", "team", Some("system")).await?;
    scene.marker(&[home.name(), other.name()], &[other.name()]).await?;
    operator.stop().await
}

#[tokio::test]
async fn pod_policy_beats_one_of_the_same_priority_and_loses_against_a_higher_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let namespace = scene.namespace("rank").await?;
    scene.create_pod(namespace.name(), "web").await?;
    // The older of the two, which counts for less than being the more specific. Ages are in whole seconds.
    scene.apply_cluster_policy("rank", "labels: { team: cluster }").await?;
    let created = scene.cluster_policies().get("rank").await?.creation_timestamp();
    let policies: Api<PodPolicy> = Api::namespaced(scene.client.clone(), namespace.name());
    eventually("a PodPolicy that is younger", DEADLINE, async || {
        scene.apply_policy(namespace.name(), "rank", "labels: { team: namespace }").await?;
        let later = policies.get("rank").await?.creation_timestamp();
        if later <= created {
            policies.delete("rank", &DeleteParams::default()).await?;
        }
        Ok(Seen::when(later > created, later))
    })
    .await?;
    let operator = scene.operator(Config::default()).await?;

    scene.wait_for_label(namespace.name(), "web", "team", Some("namespace")).await?;
    let clusterwide = scene.cluster_policies();
    let overridden = status(&clusterwide, "rank", "overridden", |status| verdict(status, "Conflicted") == "True Overridden").await?;
    let [finding] = overridden.findings.as_slice() else { panic!("{overridden:#?}") };
    assert_eq!((finding.reason, finding.field.as_str(), finding.pods), (FindingReason::Overridden, "labels[team]", 1));
    assert_eq!(finding.example, format!("{namespace}/web"), "the example of a ClusterPodPolicy names the namespace");
    let loser = condition(&overridden, "Conflicted").unwrap();
    assert!(loser.message.contains(&format!("PodPolicy {namespace}/rank")), "{}", loser.message);
    let winner = status(&policies, "rank", "overriding", |status| verdict(status, "Conflicted") == "True Overrides").await?;
    assert!(condition(&winner, "Conflicted").unwrap().message.contains("ClusterPodPolicy rank"), "{winner:#?}");

    // Above 1000, where no PodPolicy can follow.
    scene.apply_cluster_policy("rank", "priority: 1001, labels: { team: cluster }").await?;
    scene.wait_for_label(namespace.name(), "web", "team", Some("cluster")).await?;
    status(&clusterwide, "rank", "overriding", |status| verdict(status, "Conflicted") == "True Overrides").await?;
    let overridden = status(&policies, "rank", "overridden", |status| verdict(status, "Conflicted") == "True Overridden").await?;
    assert_eq!(overridden.findings[0].example, "web", "the example of a PodPolicy needs no namespace");
    operator.stop().await
}

#[tokio::test]
async fn status_says_how_the_pods_of_all_namespaces_stand() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (one, two) = (scene.namespace("one").await?, scene.namespace("two").await?);
    for (namespace, pod) in [(&one, "a"), (&one, "b"), (&two, "a")] {
        scene.create_pod(namespace.name(), pod).await?;
    }
    let service = "{ apiVersion: v1, kind: Service, metadata: { name: web }, spec: { selector: { team: x }, ports: [{ port: 80 }] } }";
    apply(&scene.client, two.name(), service).await?;
    scene.apply_cluster_policy("status", "labels: { team: shop }, terminationGracePeriodSeconds: 45").await?;

    let operator = scene.operator(Config::default()).await?;
    let status = settled(&scene.cluster_policies(), "status", 3).await?;
    let verdicts = ["Accepted", "Ready", "Compliant", "Conflicted", "Stalled"].map(|kind| verdict(&status, kind));
    assert_eq!(verdicts, ["True Accepted", "False Refused", "False Outdated", "False NoConflict", "True Refused"], "{status:#?}");
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == status.observed_generation), "{status:#?}");
    assert_eq!(status.pods.unwrap().outdated, 3, "{status:#?}");
    let refused = status.findings.iter().find(|finding| finding.reason == FindingReason::SelectorImpact).unwrap();
    assert_eq!((refused.pods, refused.example.as_str()), (1, format!("{two}/a").as_str()));
    assert!(refused.message.contains(&format!("Service {two}/web")), "a selector counts in its own namespace: {}", refused.message);
    scene.wait_for_label(one.name(), "a", "team", Some("shop")).await?;
    operator.stop().await
}

#[tokio::test]
async fn one_that_was_deleted_while_the_operator_was_down_is_undone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let namespace = scene.namespace("deleted").await?;
    scene.create_pod(namespace.name(), "web").await?;
    let before = scene.pods(namespace.name()).get("web").await?;
    scene
        .apply_cluster_policy("deleted", "precedence: Policy, labels: { team: shop, own: policy }, annotations: { example.com/a: a }")
        .await?;
    let operator = scene.operator(Config::default()).await?;
    scene.wait_for_label(namespace.name(), "web", "own", Some("policy")).await?;
    operator.stop().await?;

    scene.cluster_policies().delete("deleted", &DeleteParams::default()).await?;
    let operator = scene.operator(Config::default()).await?;
    let after = scene.wait_for_label(namespace.name(), "web", "own", Some("pod")).await?;
    assert_eq!((after.labels(), after.annotations()), (before.labels(), before.annotations()));
    operator.stop().await
}

#[tokio::test]
async fn operator_for_some_namespaces_leaves_cluster_pod_policies_alone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let namespace = scene.namespace("limited").await?;
    scene.create_pod(namespace.name(), "web").await?;
    scene.apply_cluster_policy("limited", "labels: { cluster: policy }").await?;
    scene.apply_policy(namespace.name(), "limited", "labels: { team: shop }").await?;

    let operator = InProcess::in_namespace(scene.plane.client(), namespace.name()).await?;
    let pod = scene.wait_for_label(namespace.name(), "web", "team", Some("shop")).await?;
    assert!(!pod.labels().contains_key("cluster"), "{:?}", pod.labels());
    let policies: Api<PodPolicy> = Api::namespaced(scene.client.clone(), namespace.name());
    settled(&policies, "limited", 1).await?;
    let policy = scene.cluster_policies().get("limited").await?;
    assert_eq!(policy.status, None, "nobody who acts on it says so");
    operator.stop().await
}

/// The control plane for as long as one test has it to itself. All policies and pods of the test are gone afterwards.
struct Scene {
    client: Client,
    plane: &'static ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let start = || ControlPlane::start(Options { crds: true, controller_manager: false });
        let plane = PLANE.get_or_try_init(start).await?;
        let scene = Self { client: plane.client(), plane, _turn: turn };
        scene.clear().await?;
        Ok(scene)
    }

    /// Removes what an earlier test has left outside its own namespaces.
    async fn clear(&self) -> anyhow::Result<()> {
        let (all, at_once) = (ListParams::default(), DeleteParams::default().grace_period(0));
        self.cluster_policies().delete_collection(&DeleteParams::default(), &all).await?;
        for namespace in ["kube-system", "kube-public", "kube-node-lease"] {
            let policies: Api<PodPolicy> = Api::namespaced(self.client.clone(), namespace);
            policies.delete_collection(&DeleteParams::default(), &all).await?;
            self.pods(namespace).delete_collection(&at_once, &all).await?;
        }
        Ok(())
    }

    async fn namespace(&self, prefix: &str) -> anyhow::Result<TestNamespace> {
        TestNamespace::create(&self.plane.config(), prefix).await
    }

    /// An operator for the whole cluster.
    async fn operator(&self, config: Config) -> anyhow::Result<InProcess> {
        InProcess::start(self.plane.client(), config).await
    }

    fn cluster_policies(&self) -> Api<ClusterPodPolicy> {
        Api::all(self.client.clone())
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let pod = objects::pod(name, &[("test", "cluster-policies"), ("own", "pod")]);
        // kube-controller-manager would make the service account that other pods get.
        self.pods(namespace).create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    async fn label_namespace(&self, namespace: &TestNamespace, labels: serde_json::Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(namespace.name(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn apply_cluster_policy(&self, name: &str, fields: &str) -> anyhow::Result<()> {
        self.apply_spec("ClusterPodPolicy", "default", name, fields).await
    }

    async fn apply_policy(&self, namespace: &str, name: &str, fields: &str) -> anyhow::Result<()> {
        self.apply_spec("PodPolicy", namespace, name, fields).await
    }

    async fn apply_spec(&self, kind: &str, namespace: &str, name: &str, fields: &str) -> anyhow::Result<()> {
        let policy = format!(
            "{{ apiVersion: podpolicy.dev/v1alpha1, kind: {kind}, metadata: {{ name: {name} }}, spec: {{ {SELECTOR}, {fields} }} }}"
        );
        apply(&self.client, namespace, &policy).await?;
        Ok(())
    }

    async fn wait_for_label(&self, namespace: &str, pod: &str, key: &str, value: Option<&str>) -> anyhow::Result<Pod> {
        let pods = self.pods(namespace);
        eventually(&format!("label {key}={value:?} on pod {namespace}/{pod}"), DEADLINE, async || {
            let found = pods.get(pod).await?;
            let done = found.labels().get(key).map(String::as_str) == value;
            Ok(if done { Seen::Done(found) } else { Seen::NotYet(format!("{:?} {:?}", found.labels(), found.annotations())) })
        })
        .await
    }

    /// Shows that the pods in `untouched` stay as they were made, although the operator has seen them: it has decided about pods that
    /// came later in each of the namespaces.
    async fn marker(&self, namespaces: &[&str], untouched: &[&str]) -> anyhow::Result<()> {
        for namespace in namespaces {
            // A policy of its own namespace acts everywhere.
            self.apply_policy(namespace, "marker", "annotations: { example.com/marker: seen }").await?;
            eventually(&format!("the marker in {namespace}"), DEADLINE, async || {
                let pod = self.pods(namespace).get("web").await?;
                Ok(Seen::when(pod.annotations().contains_key("example.com/marker"), pod.annotations()))
            })
            .await?;
        }
        for namespace in untouched {
            let pod = self.pods(namespace).get("web").await?;
            let labels: Vec<_> = pod.labels().keys().map(String::as_str).collect();
            assert_eq!(labels, ["own", "test"], "in {namespace}");
        }
        Ok(())
    }
}
