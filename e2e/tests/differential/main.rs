//! Pods that are created through the API server are what the engine predicts, record included, whichever backend gives them their settings:
//! policies, pods and surroundings are generated, many at a time, each in a namespace of its own.
//!
//! `PODPOLICY_PAIRS` says how many pairs of policies and pods there are, and `PODPOLICY_SEED` (a number, printed by each run) repeats a run.
//! A pair that differs is made smaller as long as it differs.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

#[path = "../../../crates/podpolicy-engine/tests/cluster/mod.rs"]
#[allow(dead_code, reason = "the engine's own tests use the rest")]
mod cluster;
#[path = "../../../crates/podpolicy-engine/tests/generator/mod.rs"]
#[allow(dead_code, reason = "the engine's own tests use the rest")]
mod generator;
mod native;
mod pair;
mod webhook;

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use generator::{World, worlds};
use pair::{Backend, Case, Pair, differences};
use podpolicy_e2e::environment::number;
use podpolicy_e2e::{ControlPlane, Options};
use proptest::collection::vec;
use proptest::strategy::{Strategy as _, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many sets of policies are in the cluster at once, and how many pods are created with each.
const BATCH: usize = 60;
const PODS: usize = 8;

/// How often a pair that differs is made smaller.
const SHRINKS: usize = 40;

#[tokio::test]
async fn native_admission_gives_the_pod_that_the_engine_predicts() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    if podpolicy_e2e::backend::lacks_native(&plane).await? {
        return Ok(());
    }
    let backend = native::Native::new(plane.client());
    compare(&plane, &backend, "native").await
}

#[tokio::test]
async fn webhook_gives_the_pod_that_the_engine_predicts() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let backend = webhook::Webhook::start(plane.client()).await?;
    compare(&plane, &backend, "webhook").await
}

/// Compares pair after pair, a batch at a time.
async fn compare(plane: &ControlPlane, backend: &impl Backend, name: &str) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (pairs, seed) = (number("PODPOLICY_PAIRS", 2000)?, number("PODPOLICY_SEED", now)?);
    say(&format!("{name}: {pairs} pairs, PODPOLICY_SEED={seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    // The API server has its default feature gates: it drops the newest fields.
    let worlds = || worlds().prop_map(World::by_default_gates);
    let cases = (worlds(), vec(worlds().prop_map(|world| world.pod), PODS)).prop_map(|(world, pods)| Case { world, pods });
    let (mut compared, mut changed, mut settled) = (0, 0, 0);
    while compared < pairs {
        let mut trees: Vec<_> = (0..BATCH).map(|_| cases.new_tree(&mut runner).unwrap()).collect();
        let batch: Vec<Case> = trees.iter().map(ValueTree::current).collect();
        for (number, outcomes) in differences(plane, backend, &batch).await?.into_iter().enumerate() {
            for outcome in outcomes {
                match outcome {
                    Pair::Same { is_changed, has_settings } => {
                        compared += 1;
                        changed += u64::from(is_changed);
                        settled += u64::from(has_settings);
                    }
                    // Not every generated pod is one that the API server takes.
                    Pair::Refused => {}
                    Pair::Different(difference) => {
                        let smallest = shrink(plane, backend, &mut trees[number], difference).await?;
                        anyhow::bail!("PODPOLICY_SEED={seed}: after {compared} pairs that are the same: {smallest}");
                    }
                }
            }
        }
    }
    say(&format!("{name}: {compared} pairs compared, {changed} pods changed, {settled} given settings, no difference"));
    anyhow::ensure!(changed * 3 > compared && settled * 5 > compared, "too few pods are changed for the comparison to say much");
    Ok(())
}

/// Says it also when the test passes, past what captures its output: a run must be repeatable.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Makes a case that differs smaller.
async fn shrink(
    plane: &ControlPlane,
    backend: &impl Backend,
    tree: &mut impl ValueTree<Value = Case>,
    mut smallest: String,
) -> anyhow::Result<String> {
    for _ in 0..SHRINKS {
        if !tree.simplify() {
            break;
        }
        loop {
            let outcomes = differences(plane, backend, &[tree.current()]).await?;
            let differing = outcomes.into_iter().flatten().find_map(|outcome| match outcome {
                Pair::Different(difference) => Some(difference),
                Pair::Same { .. } | Pair::Refused => None,
            });
            match differing {
                Some(difference) => {
                    smallest = difference;
                    break;
                }
                None if !tree.complicate() => return Ok(smallest),
                None => {}
            }
        }
    }
    Ok(smallest)
}
