//! An operator that dies after any one of its writes: the next one goes on, it ends as if nothing had been, and no pod goes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use podpolicy_api::RolloutPhase;
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::tap::{Disturbance, Disturbed, Exchange, Outcome};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Fewest, Tap, shared};

use crate::scene::{Scene, grace_of, rollout};

/// How many stories of a series are told at once: each mostly waits.
const AT_ONCE: usize = 2;

/// What an operator writes falls into series, each in an order of its own; between them the order may differ from run to run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Series {
    Evictions,
    Stamps,
    Statuses,
    /// What gives new pods their settings, and whatever else there may be.
    Others,
}

impl Series {
    const ALL: [Self; 4] = [Self::Evictions, Self::Stamps, Self::Statuses, Self::Others];

    /// Of a write. Events are left out, on which nothing relies, and dry runs, which write nothing.
    fn of(sent: &Exchange) -> Option<Self> {
        let is_dry_run = sent.method == Method::POST && (sent.writes("pods") || sent.writes("podtemplates"));
        if sent.method == Method::GET || sent.resource == "events" || is_dry_run {
            None
        } else if sent.subresource == "eviction" {
            Some(Self::Evictions)
        } else if sent.writes("deployments") {
            Some(Self::Stamps)
        } else if sent.writes_status("podpolicies") {
            Some(Self::Statuses)
        } else {
            Some(Self::Others)
        }
    }
}

/// Lets an operator write until so many writes of a series have arrived. It learns nothing of the last, and after it writes nothing.
struct Gate<'a> {
    tap: &'a Tap,
    _rules: [Disturbed; 2],
}

impl<'a> Gate<'a> {
    fn after(tap: &'a Tap, series: Series, number: usize) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let is_last = move |sent: &Exchange| Series::of(sent) == Some(series) && counted.fetch_add(1, Ordering::Relaxed) + 1 == number;
        let is_late = move |sent: &Exchange| Series::of(sent).is_some() && count.load(Ordering::Relaxed) >= number;
        Self { tap, _rules: [tap.disturb(Disturbance::LoseAnswer, is_last), tap.disturb(Disturbance::Hang, is_late)] }
    }

    fn is_shut(&self) -> bool {
        self.tap.exchanges().iter().any(|sent| sent.outcome == Outcome::Broken)
    }

    async fn shut(&self) -> anyhow::Result<()> {
        eventually("the last write to arrive", DEADLINE, async || Ok(Seen::when(self.is_shut(), ()))).await
    }
}

/// What is there when all is over.
#[derive(Debug, PartialEq)]
struct End {
    /// Of the pods of each workload: their grace periods, how many there ever were, and the fewest that were ready.
    pods: BTreeMap<&'static str, (Vec<Option<i64>>, usize, usize)>,
    phase: RolloutPhase,
    updated: (u32, u32),
    /// Types, with status and reason.
    conditions: BTreeSet<String>,
    /// The stamps, without the policy's UID.
    stamps: BTreeMap<String, Option<String>>,
}

impl End {
    async fn of(scene: &Scene, fewest: &Fewest) -> anyhow::Result<Self> {
        let status = scene.complete("standard").await?;
        assert_eq!(rollout(&status).failure, None);
        let mut pods = BTreeMap::new();
        for (name, count) in WORKLOADS {
            let graces = scene.ready(name, count).await?.iter().map(grace_of).collect();
            pods.insert(name, (graces, scene.kubelet.made(name), fewest.ready(name)));
        }
        let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), scene.name());
        let stamp = |deployment: &Deployment| {
            let template = deployment.spec.template.metadata.as_ref()?.annotations.as_ref()?;
            template.get("podpolicy.dev/restarted-for")?.rsplit_once(':').map(|(stamp, _)| stamp.to_owned())
        };
        let deployments = deployments.list(&ListParams::default()).await?;
        Ok(Self {
            pods,
            phase: rollout(&status).phase,
            updated: (rollout(&status).updated, rollout(&status).total),
            conditions: status.conditions.iter().map(|it| format!("{} {} {}", it.type_, it.status, it.reason)).collect(),
            stamps: deployments.iter().map(|deployment| (deployment.name_any(), stamp(deployment))).collect(),
        })
    }
}

const WORKLOADS: [(&str, usize); 2] = [("one", 1), ("web", 3)];

/// The story of a rollout whose first operator dies after so many writes of a series. Says how it ends; nothing where the operator was done
/// before.
async fn story(strategy: &str, series: Series, number: usize) -> anyhow::Result<Option<End>> {
    let scene = Scene::with("crash", &WORKLOADS).await?;
    let fewest = scene.fewest().await?;
    let spec = format!(
        "{{ selector: {{ matchExpressions: [{{ key: app, operator: Exists }}] }}, terminationGracePeriodSeconds: 60, \
           rollout: {{ strategy: {strategy}, minReadySeconds: 1 }} }}"
    );
    scene.policy("standard", &spec).await?;
    let gate = Gate::after(&scene.tap, series, number);
    let operator = scene.operator().await?;
    tokio::select! {
        shut = gate.shut() => shut?,
        complete = scene.complete("standard") => { complete?; }
    }
    if gate.is_shut() {
        drop(operator);
    } else {
        operator.stop().await?;
        if !gate.is_shut() {
            return Ok(None);
        }
    }
    drop(gate);
    let _next = scene.operator().await?;
    scene.complete("standard").await?;
    scene.pass().await?;
    End::of(&scene, &fewest).await.map(Some)
}

/// How the story ends for an operator that dies after each write of the series in turn.
async fn stories(strategy: &str, series: Series) -> anyhow::Result<Vec<End>> {
    let told = stream::iter(1..).map(|number| story(strategy, series, number)).buffered(AT_ONCE);
    let until_it_lives = told.try_take_while(|end| std::future::ready(Ok(end.is_some())));
    until_it_lives.try_filter_map(|end| std::future::ready(Ok(end))).try_collect().await
}

/// All of them: how often the operator died in each series.
async fn survives(strategy: &str, stamp: Option<&str>, fewest: [usize; 2]) -> anyhow::Result<[usize; 4]> {
    let pods = WORKLOADS.into_iter().zip(fewest).map(|((name, count), fewest)| (name, (vec![Some(60); count], 2 * count, fewest)));
    let wanted = End {
        pods: pods.collect(),
        phase: RolloutPhase::Complete,
        updated: (4, 4),
        conditions: ["Accepted True Accepted", "Compliant True AllCompliant", "Conflicted False NoConflict", "Ready True InForce"]
            .map(str::to_owned)
            .into(),
        stamps: WORKLOADS.map(|(name, _)| (name.to_owned(), stamp.map(str::to_owned))).into(),
    };
    let ends = try_join_all(Series::ALL.map(|series| stories(strategy, series))).await?;
    for (series, ends) in Series::ALL.iter().zip(&ends) {
        for (number, end) in ends.iter().enumerate() {
            assert_eq!(*end, wanted, "after write {} of {series:?}", number + 1);
        }
    }
    let deaths: Vec<_> = ends.iter().map(Vec::len).collect();
    Ok(deaths.try_into().expect("there is one for each series"))
}

#[tokio::test]
async fn eviction_survives_a_death_after_each_write() -> anyhow::Result<()> {
    // A webhook dies with its only operator: pods that are created meanwhile lack the settings, and go a second time.
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let [evictions, stamps, statuses, others] = survives("Evict", None, [0, 2]).await?;
    assert_eq!((evictions, stamps), (4, 0));
    assert!(statuses >= 4 && others >= 2, "{statuses} {others}");
    Ok(())
}

#[tokio::test]
async fn restart_survives_a_death_after_each_write() -> anyhow::Result<()> {
    // A webhook dies with its only operator: pods that are created meanwhile lack the settings, and go a second time.
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let [evictions, stamps, statuses, others] = survives("Restart", Some("PodPolicy/standard:1"), [1, 3]).await?;
    assert_eq!((evictions, stamps), (0, 2));
    assert!(statuses >= 4 && others >= 2, "{statuses} {others}");
    Ok(())
}
