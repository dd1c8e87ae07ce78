//! Labels that selectors read: refused, or set where that is wanted, and never so that a pod leaves its owner.
//!
//! What a selector reads is known to the operator before the policy is: otherwise the selector would be the one that appears later.

use std::collections::BTreeSet;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::{Finding, FindingReason, PodPolicy, PodPolicyStatus};
use podpolicy_controller::{Config, Watched};
use podpolicy_e2e::objects::apply;
use podpolicy_e2e::policies::{self, in_force, verdict};
use podpolicy_e2e::workload::{Kind, StageNode, Workload};
use podpolicy_e2e::{ControlPlane, InProcess, Options, Stage, TestNamespace, objects, pods};
use serde_json::json;

/// A policy that sets `team`, which selectors read, and `grade`, which none does.
const TEAM: &str = "{ selector: {}, labels: { team: shop, grade: gold } }";

/// The same where the impact is wanted.
const TEAM_ALLOWED: &str = "{ selector: {}, allowSelectorImpact: true, labels: { team: shop, grade: gold } }";

const SERVICE: &str =
    "{ apiVersion: v1, kind: Service, metadata: { name: reader }, spec: { selector: { team: shop }, ports: [{ port: 80 }] } }";

const DISRUPTION_BUDGET: &str = "
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: { name: reader }
    spec: { maxUnavailable: 1, selector: { matchExpressions: [{ key: team, operator: In, values: [bank, shop] }] } }
";

#[tokio::test]
async fn key_that_a_service_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_is_set_only_where_allowed("Service", SERVICE).await
}

#[tokio::test]
async fn key_that_a_network_policy_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    let selector = "{ matchExpressions: [{ key: team, operator: DoesNotExist }] }";
    key_is_set_only_where_allowed("NetworkPolicy", &network_policy(&format!("{{ podSelector: {selector} }}"))).await
}

#[tokio::test]
async fn key_that_a_peer_of_a_network_policy_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    let peer = "{ podSelector: { matchExpressions: [{ key: team, operator: Exists }] } }";
    key_is_set_only_where_allowed("NetworkPolicy", &network_policy(&format!("{{ podSelector: {{}}, ingress: [{{ from: [{peer}] }}] }}")))
        .await
}

#[tokio::test]
async fn key_that_a_peer_in_all_namespaces_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    let peer = "{ podSelector: { matchLabels: { team: shop } }, namespaceSelector: {} }";
    key_is_set_only_where_allowed("NetworkPolicy", &network_policy(&format!("{{ podSelector: {{}}, egress: [{{ to: [{peer}] }}] }}"))).await
}

#[tokio::test]
async fn key_that_a_disruption_budget_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_is_set_only_where_allowed("PodDisruptionBudget", DISRUPTION_BUDGET).await
}

#[tokio::test]
async fn key_that_a_deployment_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::Deployment).await
}

#[tokio::test]
async fn key_that_a_replica_set_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::ReplicaSet).await
}

#[tokio::test]
async fn key_that_a_stateful_set_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::StatefulSet).await
}

#[tokio::test]
async fn key_that_a_daemon_set_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::DaemonSet).await
}

#[tokio::test]
async fn key_that_a_job_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::Job).await
}

#[tokio::test]
async fn key_that_a_replication_controller_reads_is_set_only_where_allowed() -> anyhow::Result<()> {
    key_of_workload_is_set_only_where_allowed(Kind::ReplicationController).await
}

/// A selector reads a key also when there is no pod that it selects.
async fn key_of_workload_is_set_only_where_allowed(kind: Kind) -> anyhow::Result<()> {
    let mut reader = Workload::new(kind, "reader");
    reader.pods = 0;
    reader.labels.insert("team".to_owned(), "bank".to_owned());
    key_is_set_only_where_allowed(&format!("{kind:?}"), &reader.manifest("nowhere").to_string()).await
}

fn network_policy(spec: &str) -> String {
    format!("{{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{ name: reader }}, spec: {spec} }}")
}

/// `reader` is an object of the kind with the name `reader`, whose selector reads the key `team`.
async fn key_is_set_only_where_allowed(kind: &str, reader: &str) -> anyhow::Result<()> {
    let stage = Stage::set("impact").await?;
    apply(&stage.client, stage.name(), reader).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;

    stage.policy("standard", TEAM).await?;
    let status = stage.status("standard", "team refused", |status| is_refused(status, "team")).await?;
    let finding = impact(&status, "team").context("the finding")?;
    assert_eq!((finding.pods, finding.example.as_str()), (1, "web"));
    let object = format!("{kind} {}/reader", stage.name());
    assert!(finding.message.starts_with(&object), "the message names {object}: {finding:?}");
    assert!(finding.message.contains("allowSelectorImpact"), "the message says what to do: {finding:?}");
    assert_eq!(verdict(&status, "Ready"), "False Refused");
    let counts = status.pods.context("the counts")?;
    assert_eq!((counts.matched, counts.refused), (1, 1));
    let pod = stage.pods.get("web").await?;
    assert_eq!((label(&pod, "team"), label(&pod, "grade")), (None, Some("gold")));

    stage.policy("standard", TEAM_ALLOWED).await?;
    let status = in_force(&stage.policies, "standard", 1).await?;
    assert_eq!(status.findings, []);
    assert_eq!(label(&stage.pods.get("web").await?, "team"), Some("shop"));
    Ok(())
}

#[tokio::test]
async fn key_of_a_deployments_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::Deployment).await
}

#[tokio::test]
async fn key_of_a_replica_sets_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::ReplicaSet).await
}

#[tokio::test]
async fn key_of_a_stateful_sets_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::StatefulSet).await
}

#[tokio::test]
async fn key_of_a_daemon_sets_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::DaemonSet).await
}

#[tokio::test]
async fn key_of_a_jobs_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::Job).await
}

#[tokio::test]
async fn key_of_a_replication_controllers_selector_is_filled_in_but_never_replaced() -> anyhow::Result<()> {
    key_of_selector_is_filled_in_but_never_replaced(Kind::ReplicationController).await
}

async fn key_of_selector_is_filled_in_but_never_replaced(kind: Kind) -> anyhow::Result<()> {
    let stage = Stage::set("filled-in").await?;
    let nodes = [StageNode::create(&stage).await?, StageNode::create(&stage).await?];
    let mut web = Workload::new(kind, "web");
    web.labels.insert("team".to_owned(), "bank".to_owned());
    web.apply_and_wait(&stage).await?;
    stage.create_pod("bare", &[("app", "bare")]).await?;
    let original = web.standing(&stage).await?;
    let _operator = stage.operator().await?;

    let spec = "{ selector: {}, allowSelectorImpact: true, precedence: Policy, labels: { team: shop, grade: gold } }";
    stage.policy("standard", spec).await?;
    let status = stage.status("standard", "team refused on two of three pods", |status| is_refused(status, "team")).await?;
    let counts = status.pods.context("the counts")?;
    assert_eq!((counts.matched, counts.refused, counts.compliant), (3, 2, 1), "{status:?}");
    let finding = impact(&status, "team").context("the finding")?;
    assert!(finding.message.contains(&format!("{kind:?} {}/web", stage.name())), "{finding:?}");
    assert_eq!(label(&stage.pods.get("bare").await?, "team"), Some("shop"), "filled in");

    // The controller has seen the labels once it has dealt with what came later.
    let marker = Workload::new(kind, "marker");
    marker.apply_and_wait(&stage).await?;
    marker.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&original);
    for pod in pods::when(&stage.pods, &web.selector(), "two", |pods| pods.len() == 2).await? {
        assert_eq!((label(&pod, "team"), label(&pod, "grade")), (Some("bank"), Some("gold")));
    }
    // No selector but that of `web` reads the key, so that the pods of `marker` get it.
    let pods = pods::when(&stage.pods, &format!("{},team=shop", marker.selector()), "two", |pods| pods.len() == 2).await?;
    assert_eq!(pods.len(), 2);
    for node in nodes {
        node.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn key_that_a_deployment_excludes_is_never_set() -> anyhow::Result<()> {
    excluded_key_is_never_set(Kind::Deployment).await
}

#[tokio::test]
async fn key_that_a_replica_set_excludes_is_never_set() -> anyhow::Result<()> {
    excluded_key_is_never_set(Kind::ReplicaSet).await
}

#[tokio::test]
async fn key_that_a_stateful_set_excludes_is_never_set() -> anyhow::Result<()> {
    excluded_key_is_never_set(Kind::StatefulSet).await
}

#[tokio::test]
async fn key_that_a_daemon_set_excludes_is_never_set() -> anyhow::Result<()> {
    excluded_key_is_never_set(Kind::DaemonSet).await
}

#[tokio::test]
async fn key_that_a_job_excludes_is_never_set() -> anyhow::Result<()> {
    excluded_key_is_never_set(Kind::Job).await
}

async fn excluded_key_is_never_set(kind: Kind) -> anyhow::Result<()> {
    let stage = Stage::set("excluded").await?;
    let nodes = [StageNode::create(&stage).await?, StageNode::create(&stage).await?];
    let mut web = Workload::new(kind, "web");
    web.expressions =
        vec![json!({ "key": "team", "operator": "DoesNotExist" }), json!({ "key": "stage", "operator": "NotIn", "values": ["canary"] })];
    web.apply_and_wait(&stage).await?;
    stage.create_pod("bare", &[("app", "bare")]).await?;
    let original = web.standing(&stage).await?;
    let _operator = stage.operator().await?;

    // Not the value that NotIn names: keys are judged, not values.
    let labels = "{ team: shop, stage: main, grade: gold }";
    let spec = format!("{{ selector: {{}}, allowSelectorImpact: true, precedence: Policy, labels: {labels} }}");
    stage.policy("standard", &spec).await?;
    let status =
        stage.status("standard", "team and stage refused", |status| is_refused(status, "team") && is_refused(status, "stage")).await?;
    for key in ["team", "stage"] {
        let finding = impact(&status, key).context("the finding")?;
        assert_eq!(finding.pods, 3, "{finding:?}");
        assert!(finding.message.contains(&format!("{kind:?} {}/web", stage.name())), "{finding:?}");
        assert!(!finding.message.contains("allowSelectorImpact"), "it is of no use here: {finding:?}");
    }
    let marker = Workload::new(kind, "marker");
    marker.apply_and_wait(&stage).await?;
    marker.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&original);
    pods::when(&stage.pods, "grade=gold,!team,!stage", "all five", |pods| pods.len() == 5).await?;
    for node in nodes {
        node.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn label_that_a_later_selector_reads_stays_and_is_reported_and_new_pods_get_it() -> anyhow::Result<()> {
    let stage = Stage::set("later").await?;
    stage.create_pod("old", &[("app", "web")]).await?;
    let operator = stage.operator().await?;
    stage.policy("standard", TEAM).await?;
    in_force(&stage.policies, "standard", 1).await?;
    let before = stage.pods.get("old").await?;

    apply(&stage.client, stage.name(), SERVICE).await?;
    let status = stage.status("standard", "the Service reported", |status| impact(status, "team").is_some()).await?;
    let finding = impact(&status, "team").context("the finding")?;
    assert!(finding.message.starts_with(&format!("Service {}/reader", stage.name())), "{finding:?}");
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    assert_eq!(status.pods.context("the counts")?.compliant, 1);

    stage.create_pod("new", &[("app", "web")]).await?;
    stage.label("new", "team", Some("shop")).await?;
    let status = in_force(&stage.policies, "standard", 2).await?;
    assert_eq!(impact(&status, "team").context("the finding")?.pods, 2);

    // The records on the pods say what was carried, so that another operator knows it, too.
    operator.stop().await?;
    let operator = stage.operator().await?;
    stage.create_pod("newer", &[("app", "web")]).await?;
    stage.label("newer", "team", Some("shop")).await?;
    in_force(&stage.policies, "standard", 3).await?;
    assert_eq!(stage.pods.get("old").await?.resource_version(), before.resource_version(), "nothing was written to the old pod");

    let services: Api<Service> = Api::namespaced(stage.client.clone(), stage.name());
    services.delete("reader", &DeleteParams::default()).await?;
    let status = stage.status("standard", "nothing to report", |status| status.findings.is_empty()).await?;
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    operator.stop().await
}

#[tokio::test]
async fn what_one_policy_carries_allows_nothing_to_another() -> anyhow::Result<()> {
    let stage = Stage::set("carried").await?;
    stage.create_pod("old", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("first", "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }").await?;
    in_force(&stage.policies, "first", 1).await?;
    apply(&stage.client, stage.name(), SERVICE).await?;
    stage.status("first", "the Service reported", |status| impact(status, "team").is_some()).await?;

    stage.create_pod("other", &[("app", "other")]).await?;
    stage.policy("second", "{ selector: { matchLabels: { app: other } }, labels: { team: shop, grade: gold } }").await?;
    stage.status("second", "team refused", |status| is_refused(status, "team")).await?;
    let other = stage.pods.get("other").await?;
    assert_eq!((label(&other, "team"), label(&other, "grade")), (None, Some("gold")));
    Ok(())
}

#[tokio::test]
async fn refused_label_is_set_once_no_selector_reads_its_key_any_more() -> anyhow::Result<()> {
    let stage = Stage::set("gone").await?;
    for reader in [SERVICE, DISRUPTION_BUDGET, &network_policy("{ podSelector: { matchLabels: { team: shop } } }")] {
        apply(&stage.client, stage.name(), reader).await?;
    }
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", TEAM).await?;
    let named = async |wanted: &[&str]| {
        let what = format!("{wanted:?} named");
        let names = |finding: &Finding| ["Service", "PodDisruptionBudget", "NetworkPolicy"].map(|kind| finding.message.contains(kind));
        let wanted = ["Service", "PodDisruptionBudget", "NetworkPolicy"].map(|kind| wanted.contains(&kind));
        stage.status("standard", &what, |status| impact(status, "team").map(names) == Some(wanted) && is_refused(status, "team")).await
    };
    named(&["Service", "PodDisruptionBudget", "NetworkPolicy"]).await?;

    let services: Api<Service> = Api::namespaced(stage.client.clone(), stage.name());
    services.delete("reader", &DeleteParams::default()).await?;
    named(&["PodDisruptionBudget", "NetworkPolicy"]).await?;
    // A selector that reads another key from now on.
    let changed = json!({ "spec": { "podSelector": { "matchLabels": { "team": null, "app": "web" } } } });
    let network_policies: Api<NetworkPolicy> = Api::namespaced(stage.client.clone(), stage.name());
    network_policies.patch("reader", &PatchParams::default(), &Patch::Merge(changed)).await?;
    named(&["PodDisruptionBudget"]).await?;
    assert_eq!(label(&stage.pods.get("web").await?, "team"), None);

    let budgets: Api<PodDisruptionBudget> = Api::namespaced(stage.client.clone(), stage.name());
    budgets.delete("reader", &DeleteParams::default()).await?;
    let status = in_force(&stage.policies, "standard", 1).await?;
    assert_eq!(status.findings, []);
    assert_eq!(label(&stage.pods.get("web").await?, "team"), Some("shop"));
    Ok(())
}

#[tokio::test]
async fn key_that_a_later_workload_excludes_is_not_set_on_its_pods() -> anyhow::Result<()> {
    let stage = Stage::set("later-excluded").await?;
    stage.create_pod("old", &[("app", "old")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", TEAM_ALLOWED).await?;
    in_force(&stage.policies, "standard", 1).await?;

    let mut web = Workload::new(Kind::Deployment, "web");
    web.expressions = vec![json!({ "key": "team", "operator": "DoesNotExist" })];
    web.apply_and_wait(&stage).await?;
    let original = web.standing(&stage).await?;
    stage
        .status("standard", "team refused on the new pods", |status| {
            is_refused(status, "team") && status.pods.is_some_and(|counts| (counts.matched, counts.refused, counts.compliant) == (3, 2, 1))
        })
        .await?;
    assert_eq!(label(&stage.pods.get("old").await?, "team"), Some("shop"), "no label is taken away");

    let marker = Workload::new(Kind::Deployment, "marker");
    marker.apply_and_wait(&stage).await?;
    marker.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&original);
    pods::when(&stage.pods, "app=web,grade=gold,!team", "two", |pods| pods.len() == 2).await?;
    Ok(())
}

#[tokio::test]
async fn label_by_which_a_later_workload_owns_a_pod_stays_when_the_policy_changes_its_value() -> anyhow::Result<()> {
    let stage = Stage::set("adopted").await?;
    stage.create_pod("bare", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let policy = |team: &str| format!("{{ selector: {{}}, allowSelectorImpact: true, precedence: Policy, labels: {{ team: {team} }} }}");
    stage.policy("standard", &policy("shop")).await?;
    in_force(&stage.policies, "standard", 1).await?;

    // It takes the pod as its own for the label that the policy has put on it.
    let mut web = Workload::new(Kind::ReplicaSet, "web");
    web.labels.insert("team".to_owned(), "shop".to_owned());
    web.apply_and_wait(&stage).await?;
    let original = web.standing(&stage).await?;
    assert!(original.pods().contains_key("bare"), "{original:?}");
    let owned = stage.pod("bare", "an owner", |pod| !pod.owner_references().is_empty()).await?;

    stage.policy("standard", &policy("bank")).await?;
    let status = stage.status("standard", "team refused", |status| is_refused(status, "team")).await?;
    assert_eq!(impact(&status, "team").context("the finding")?.pods, 2);
    let marker = Workload::new(Kind::ReplicaSet, "marker");
    marker.apply_and_wait(&stage).await?;
    marker.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&original);
    let now = stage.pods.get("bare").await?;
    assert_eq!((label(&now, "team"), now.uid()), (Some("shop"), owned.uid()));
    Ok(())
}

#[tokio::test]
async fn selector_in_another_namespace_has_no_influence() -> anyhow::Result<()> {
    let (stage, other) = (Stage::set("here").await?, Stage::set("there").await?);
    for reader in [
        SERVICE,
        DISRUPTION_BUDGET,
        &network_policy("{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { team: shop } } }] }] }"),
    ] {
        apply(&other.client, other.name(), reader).await?;
    }
    for stage in [&stage, &other] {
        stage.create_pod("web", &[("app", "web")]).await?;
        stage.policy("standard", TEAM).await?;
    }
    let _operator = operator_for(&[&stage, &other]).await?;
    other.status("standard", "team refused", |status| is_refused(status, "team")).await?;
    let status = in_force(&stage.policies, "standard", 1).await?;
    assert_eq!(status.findings, []);
    assert_eq!(label(&stage.pods.get("web").await?, "team"), Some("shop"));
    Ok(())
}

/// The operator does not watch Namespaces here: all that it knows of one is its name.
#[tokio::test]
async fn peer_in_another_namespace_may_read_where_labels_of_namespaces_are_unknown() -> anyhow::Result<()> {
    let (stage, other, third) = (Stage::set("here").await?, Stage::set("there").await?, Stage::set("third").await?);
    let peers = [
        "{ podSelector: { matchLabels: { team: shop } }, namespaceSelector: { matchLabels: { env: prod } } }".to_owned(),
        format!(
            "{{ podSelector: {{ matchLabels: {{ grade: gold }} }}, namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {} }} }} }}",
            third.name()
        ),
    ];
    let spec = format!("{{ podSelector: {{}}, ingress: [{{ from: [{}] }}] }}", peers.join(", "));
    apply(&other.client, other.name(), &network_policy(&spec)).await?;
    for stage in [&stage, &third] {
        stage.create_pod("web", &[("app", "web")]).await?;
        stage.policy("standard", TEAM).await?;
    }
    let _operator = operator_for(&[&stage, &other, &third]).await?;

    let object = format!("NetworkPolicy {}/reader", other.name());
    let status = stage.status("standard", "team refused", |status| is_refused(status, "team")).await?;
    let finding = impact(&status, "team").context("the finding")?;
    assert!(finding.message.starts_with(&object), "{finding:?}");
    assert_eq!(impact(&status, "grade"), None, "the name is known");
    let pod = stage.pods.get("web").await?;
    assert_eq!((label(&pod, "team"), label(&pod, "grade")), (None, Some("gold")));
    let status = third.status("standard", "both refused", |status| is_refused(status, "team") && is_refused(status, "grade")).await?;
    assert!(impact(&status, "grade").context("the finding")?.message.starts_with(&object), "{status:?}");
    Ok(())
}

/// The operator of this test watches the whole cluster, so that the cluster is its own.
#[tokio::test]
async fn peer_in_another_namespace_reads_the_namespaces_that_it_selects() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let client = plane.client();
    let [selected, other, home] = [
        TestNamespace::create(&plane.config(), "selected").await?,
        TestNamespace::create(&plane.config(), "other").await?,
        TestNamespace::create(&plane.config(), "home").await?,
    ];
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let set_env = async |name: &str, value: &str| {
        let labels = json!({ "metadata": { "labels": { "env": value } } });
        namespaces.patch(name, &PatchParams::default(), &Patch::Merge(labels)).await
    };
    set_env(selected.name(), "prod").await?;
    let peer = "{ podSelector: { matchLabels: { team: shop } }, namespaceSelector: { matchLabels: { env: prod } } }";
    apply(&client, home.name(), &network_policy(&format!("{{ podSelector: {{}}, ingress: [{{ from: [{peer}] }}] }}"))).await?;
    let policy = format!("{{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{ name: standard }}, spec: {TEAM} }}");
    for namespace in [&selected, &other, &home] {
        Api::<Pod>::namespaced(client.clone(), namespace.name()).create(&PostParams::default(), &objects::pod("web", &[])).await?;
        apply(&client, namespace.name(), &policy).await?;
    }
    let operator = InProcess::start(plane.client(), Config::default()).await?;

    let policies = |namespace: &TestNamespace| Api::<PodPolicy>::namespaced(client.clone(), namespace.name());
    let status = policies::status(&policies(&selected), "standard", "team refused", |status| is_refused(status, "team")).await?;
    let object = format!("NetworkPolicy {}/reader", home.name());
    assert!(impact(&status, "team").context("the finding")?.message.starts_with(&object), "{status:?}");
    // Not in its own namespace either: the peer's namespaceSelector does not select it.
    for namespace in [&other, &home] {
        in_force(&policies(namespace), "standard", 1).await?;
    }

    set_env(other.name(), "prod").await?;
    let reported = policies::status(&policies(&other), "standard", "the peer reported", |status| impact(status, "team").is_some()).await?;
    assert_eq!(verdict(&reported, "Ready"), "True InForce");
    set_env(selected.name(), "test").await?;
    in_force(&policies(&selected), "standard", 1).await?;
    operator.stop().await
}

/// One operator that acts in all of these namespaces.
async fn operator_for(stages: &[&Stage]) -> anyhow::Result<InProcess> {
    let namespaces: BTreeSet<_> = stages.iter().map(|stage| stage.name().to_owned()).collect();
    let client = stages.first().context("at least one namespace")?.client.clone();
    InProcess::start(client, Config { watched: Watched::Namespaces(namespaces), ..Config::default() }).await
}

/// The finding that says who reads the key.
fn impact<'a>(status: &'a PodPolicyStatus, key: &str) -> Option<&'a Finding> {
    let field = format!("labels[{key}]");
    status.findings.iter().find(|finding| finding.reason == FindingReason::SelectorImpact && finding.field == field)
}

/// Whether the policy has come to rest with the label refused because of a selector.
fn is_refused(status: &PodPolicyStatus, key: &str) -> bool {
    verdict(status, "Ready") == "False Refused" && impact(status, key).is_some()
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.labels().get(key).map(String::as_str)
}
