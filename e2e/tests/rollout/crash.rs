//! An operator that dies after any of its writes: the next one goes on, and no pod goes twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use podpolicy_e2e::tap::{Disturbance, Exchange};

use crate::scene::{Scene, grace};

/// A write that a rollout relies on.
fn matters(sent: &Exchange) -> bool {
    let is_status = sent.writes_status("podpolicies");
    let is_eviction = sent.subresource == "eviction" && sent.method == Method::POST;
    is_status || is_eviction || sent.writes("deployments")
}

async fn survives(strategy: &str) -> anyhow::Result<()> {
    let scene = Scene::with("crash", &[("one", 1), ("web", 3)]).await?;
    scene.kubelet.watch_out();
    scene.policy("standard", &grace(60, &format!("strategy: {strategy}"))).await?;
    let mut deaths = 0;
    loop {
        // The first write of the first operator, the second of the second and so on arrives, and it dies before it learns so.
        let count = AtomicUsize::new(0);
        let lost = scene.tap.disturb(Disturbance::LoseAnswer, move |sent| matters(sent) && count.fetch_add(1, Ordering::Relaxed) >= deaths);
        let operator = scene.native().await?;
        let is_over = tokio::select! {
            met = lost.met(1) => { met?; false }
            complete = scene.complete("standard") => { complete?; true }
        };
        drop(operator);
        lost.end();
        if is_over {
            break;
        }
        deaths += 1;
        anyhow::ensure!(deaths < 60, "it never ends");
    }
    let _operator = scene.native().await?;
    scene.complete("standard").await?;
    assert_eq!(scene.graces().await?, [60; 4]);
    assert!(deaths >= 4, "{deaths}");
    assert!(scene.kubelet.fewest("web") >= 2, "{}", scene.kubelet.fewest("web"));
    if strategy == "Evict" {
        // One that was cut off before it left is sent again.
        let names: BTreeSet<_> = scene.evictions().into_iter().map(|Exchange { name, .. }| name).collect();
        assert_eq!(names.len(), 4, "{:?}", scene.evictions());
    }
    Ok(())
}

#[tokio::test]
async fn eviction_survives_a_death_after_each_write() -> anyhow::Result<()> {
    survives("Evict").await
}

#[tokio::test]
async fn restart_survives_a_death_after_each_write() -> anyhow::Result<()> {
    survives("Restart").await
}
