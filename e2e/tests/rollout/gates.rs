//! What must be right before a step is taken, and what is said while it is not.

use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::kubelet::Fate;
use podpolicy_e2e::objects;

use crate::scene::{Scene, grace, rollout};

#[tokio::test]
async fn nothing_is_evicted_where_pods_would_not_be_created_with_the_settings() -> anyhow::Result<()> {
    let scene = Scene::with("gate-none", &[("web", 2)]).await?;
    let _operator = scene.operator_with(Config { admission: AdmissionMode::None, ..Config::default() }).await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False NotAtCreation", &["--admission none"]).await?;
    scene.pass().await?;
    assert_eq!(scene.evictions().len(), 0);
    Ok(())
}

#[tokio::test]
async fn paused_rollout_evicts_nothing_until_it_is_not() -> anyhow::Result<()> {
    let scene = Scene::with("gate-paused", &[("web", 2)]).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict, paused: true")).await?;
    scene.stands("standard", "False RolloutPaused", &["0 of 2"]).await?;
    assert_eq!(scene.evictions().len(), 0);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.evicted(), 2);
    Ok(())
}

#[tokio::test]
async fn workload_that_is_not_healthy_is_left_alone() -> anyhow::Result<()> {
    let scene = Scene::set("gate-ill").await?;
    scene.kubelet.script(|pod| {
        let is_ill = pod.metadata.labels.as_ref().is_some_and(|labels| labels.get("app").is_some_and(|app| app == "ill"));
        if is_ill { Fate::NeverReady("Readiness probe failed: no".to_owned()) } else { Fate::Ready }
    });
    let ill = podpolicy_e2e::workload::Workload::new(podpolicy_e2e::workload::Kind::Deployment, "ill");
    ill.apply_and_wait(&scene).await?;
    scene.workload(podpolicy_e2e::workload::Kind::Deployment, "web", 3).await?;
    let before = scene.uids("ill").await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutBlocked", &["3 of 5", "Deployment/ill is not healthy", "2 of its 2 pods"]).await?;
    assert_eq!(scene.uids("ill").await?, before);
    scene.kubelet.script(|_| Fate::Ready);
    scene.complete("standard").await?;
    assert_eq!(scene.evicted(), 5);
    Ok(())
}

#[tokio::test]
async fn disruption_budget_blocks_its_workload_and_no_other() -> anyhow::Result<()> {
    let scene = Scene::with("gate-budget", &[("held", 2), ("web", 3)]).await?;
    let budget = "{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: { name: held },
        spec: { minAvailable: 100%, selector: { matchLabels: { app: held } } } }";
    objects::apply(&scene.client, scene.name(), budget).await?;
    let before = scene.uids("held").await?;
    let operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    let status = scene.stands("standard", "False RolloutBlocked", &["3 of 5", "Deployment/held cannot be evicted now"]).await?;
    assert_eq!((scene.evicted(), scene.uids("held").await?), (3, before), "{status:?}");
    scene.told("RolloutBlocked", &["Deployment/held cannot be evicted now"]).await?;
    let counted = operator.metrics.to_text();
    let blocked = counted.lines().find_map(|line| line.strip_prefix("podpolicy_rollout_evictions_total{result=\"blocked\"} "));
    assert!(blocked.is_some_and(|count| count != "0"), "{counted}");
    scene.kubectl(&["delete", "poddisruptionbudget", "held"]).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.evicted(), 5);
    Ok(())
}

#[tokio::test]
async fn only_replica_is_not_evicted_against_a_disruption_budget_and_a_restart_surges() -> anyhow::Result<()> {
    let scene = Scene::with("gate-single", &[("one", 1)]).await?;
    let budget = "{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: { name: one },
        spec: { minAvailable: 1, selector: { matchLabels: { app: one } } } }";
    objects::apply(&scene.client, scene.name(), budget).await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutBlocked", &["Deployment/one cannot be evicted now"]).await?;
    assert_eq!(scene.evicted(), 0);
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.complete("standard").await?;
    assert_eq!((fewest.ready("one"), scene.graces().await?), (1, vec![60]));
    Ok(())
}

#[tokio::test]
async fn two_disruption_budgets_on_a_pod_are_said() -> anyhow::Result<()> {
    let scene = Scene::with("gate-budgets", &[("web", 2)]).await?;
    for name in ["one", "two"] {
        let budget = format!(
            "{{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{ name: {name} }},
               spec: {{ minAvailable: 1, selector: {{ matchLabels: {{ app: web }} }} }} }}"
        );
        objects::apply(&scene.client, scene.name(), &budget).await?;
    }
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutBlocked", &["more than one PodDisruptionBudget"]).await?;
    Ok(())
}

#[tokio::test]
async fn quota_that_is_full_is_said_and_waited_for() -> anyhow::Result<()> {
    let scene = Scene::with("gate-quota", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    let quota = "{ apiVersion: v1, kind: ResourceQuota, metadata: { name: full }, spec: { hard: { pods: '1' } } }";
    objects::apply(&scene.client, scene.name(), quota).await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutBlocked", &["Deployment/web cannot make pods", "exceeded quota"]).await?;
    assert_eq!(scene.evicted(), 1);
    scene.kubectl(&["delete", "resourcequota", "full"]).await?;
    // The controller waits longer after each failure; a person need not.
    scene.kubectl(&["annotate", "replicaset", "--all", "again=true"]).await?;
    let status = scene.complete("standard").await?;
    assert_eq!((scene.evicted(), rollout(&status).updated), (3, 3));
    Ok(())
}

#[tokio::test]
async fn pod_that_no_node_takes_is_said_and_waited_for() -> anyhow::Result<()> {
    let scene = Scene::with("gate-schedule", &[("web", 2)]).await?;
    let old = scene.uids("web").await?;
    scene.kubelet.script(move |pod| {
        let is_old = pod.metadata.uid.as_ref().is_some_and(|uid| old.contains(uid));
        if is_old { Fate::Ready } else { Fate::Unschedulable("0/3 nodes are available".to_owned()) }
    });
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutBlocked", &["cannot be scheduled", "0/3 nodes are available"]).await?;
    assert_eq!(scene.evicted(), 1);
    scene.kubelet.script(|_| Fate::Ready);
    scene.complete("standard").await?;
    Ok(())
}

#[tokio::test]
async fn no_more_pods_are_down_than_the_operator_allows_in_all() -> anyhow::Result<()> {
    let scene = Scene::with("gate-all", &[("web", 4)]).await?;
    let config = Config { rollout_max_unavailable: 1, ..scene.config(AdmissionMode::Auto)? };
    let _operator = scene.operator_with(config).await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Evict, maxUnavailable: 100%")).await?;
    scene.complete("standard").await?;
    assert_eq!(fewest.ready("web"), 3);
    Ok(())
}
