//! Pods are evicted one safe step at a time, each once, until all have the settings.

use podpolicy_e2e::tap::Exchange;
use podpolicy_e2e::workload::Kind;

use crate::scene::{Scene, grace, rollout};

#[tokio::test]
async fn every_pod_is_evicted_once_with_never_more_down_than_allowed() -> anyhow::Result<()> {
    let scene = Scene::with("evict", &[("web", 4), ("small", 2)]).await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    let status = scene.complete("standard").await?;
    assert_eq!(scene.graces().await?, [60; 6]);
    assert_eq!((rollout(&status).updated, rollout(&status).total), (6, 6));
    assert_eq!((fewest.ready("web"), fewest.ready("small")), (3, 1));
    let names: Vec<_> = scene.evictions().into_iter().map(|Exchange { name, .. }| name).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names[..2].iter().all(|name| name.starts_with("small-")), "the smallest first: {names:?}");
    scene.pass().await?;
    assert_eq!(scene.evictions().len(), 6, "nothing is left to do");
    Ok(())
}

#[tokio::test]
async fn stateful_set_goes_from_its_highest_ordinal_down() -> anyhow::Result<()> {
    let scene = Scene::set("evict-stateful").await?;
    scene.workload(Kind::StatefulSet, "db", 3).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.complete("standard").await?;
    let names: Vec<_> = scene.evictions().into_iter().map(|Exchange { name, .. }| name).collect();
    assert_eq!(names, ["db-2", "db-1", "db-0"]);
    Ok(())
}

#[tokio::test]
async fn bare_pods_and_pods_of_jobs_are_reported_and_left_alone() -> anyhow::Result<()> {
    let scene = Scene::with("evict-bare", &[("web", 1)]).await?;
    scene.create_pod("bare", &[]).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    let status = scene.complete("standard").await?;
    assert!(
        rollout(&status).message.as_ref().is_some_and(|message| message.starts_with("the outdated pod bare is of no Deployment")),
        "{status:?}"
    );
    assert_eq!((rollout(&status).updated, rollout(&status).total), (1, 2));
    assert_eq!(scene.evicted(), 1);
    Ok(())
}
