//! How the pods that a rollout replaces end: nobody who asks them goes without an answer, and they have the time that the policy gives them.

use anyhow::Context as _;
use serde_json::json;

use super::{complete, deployment, grace, policy, settled};
use crate::manifest::{OBEDIENT, pod, web};
use crate::scene::{Scene, exit_code, is_ready, seconds_to_end, state};

const REPLICAS: usize = 4;

/// Asks the Service `web`, over a new connection each time, from the first answer until it is told to end. Its last words are how often it has
/// asked, and how often in vain.
const ASK: &str = "ask() { timeout 5 wget -q -O /dev/null http://$WEB_SERVICE_HOST/; }
asked=0 failed=0
trap 'echo $asked $failed >/dev/termination-log; exit 0' TERM
until ask; do sleep 0.1; done; touch /tmp/up
while :; do asked=$((asked + 1)); ask || failed=$((failed + 1)); sleep 0.02; done";

/// Ends by itself, eight seconds after it was told to.
const SLOW: &str = "trap 'sleep 8; exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done";

#[tokio::test]
async fn no_request_fails_while_pods_are_replaced_that_sleep_before_they_end() -> anyhow::Result<()> {
    let scene = Scene::with_operator("rollout-requests").await?;
    let hooked = |strategy, grace| {
        let hook = json!({ "preStop": { "sleep": { "seconds": 5 } } });
        policy(strategy, "Pause", json!({ "terminationGracePeriodSeconds": grace, "containers": [{ "lifecycle": hook }] }))
    };
    // Pods have the hook from their birth: one that came before the policy would end at once.
    scene.apply(&hooked("Evict", 30)).await?;
    complete(&scene).await?;
    // Before the client: kubelet tells it of Services that it knows.
    scene
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
        .await?;
    // It ends at once when it is told to, with all connections.
    let mut server = web(OBEDIENT);
    server["readinessProbe"] = json!({ "httpGet": { "port": 8080 }, "periodSeconds": 1 });
    scene.apply(&deployment(REPLICAS, &server)).await?;
    settled(&scene, REPLICAS, |pod| grace(pod) == Some(30)).await?;
    let mut client = web(ASK);
    client["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    let mut client = pod("client", &client);
    client["spec"]["terminationGracePeriodSeconds"] = 30.into();
    scene.apply(&client).await?;
    scene.pod("client", "to have got an answer", is_ready).await?;

    for (strategy, seconds) in [("Evict", 40), ("Restart", 50)] {
        scene.apply(&hooked(strategy, seconds)).await?;
        complete(&scene).await?;
        settled(&scene, REPLICAS, |pod| grace(pod) == Some(seconds)).await?;
    }
    let client = scene.ended("client").await?;
    let said = state(&client).and_then(|state| state.terminated.as_ref()?.message.as_deref()).context("it had no last words")?;
    let (asked, failed) = said.trim().split_once(' ').with_context(|| format!("two numbers are not {said:?}"))?;
    let (asked, failed): (u32, u32) = (asked.parse()?, failed.parse()?);
    // It went on all the time: more often than pods were replaced, and than their sleeps had seconds.
    assert!(asked > 100, "{asked} requests");
    assert_eq!(failed, 0, "of {asked} requests");
    scene.end().await
}

#[tokio::test]
async fn replaced_pod_has_the_time_to_end_that_the_policy_gives_it_and_no_more() -> anyhow::Result<()> {
    let scene = Scene::with_operator("rollout-grace").await?;
    let mut slow = web(SLOW);
    slow["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    scene.apply(&deployment(1, &slow)).await?;
    settled(&scene, 1, |pod| grace(pod) == Some(1)).await?;
    // Each rollout gives the next pod its time, and ends the one before, which has what the rollout before has given it.
    for (next, present, code) in [(60, 1, 137), (2, 60, 0), (60, 2, 137)] {
        let old = settled(&scene, 1, |pod| grace(pod) == Some(present)).await?.remove(0);
        let name = old.metadata.name.context("a pod has a name")?;
        scene.keep(&name).await?;
        scene.apply(&policy("Evict", "Pause", json!({ "terminationGracePeriodSeconds": next }))).await?;
        let ended = scene.end_of(&name).await?;
        complete(&scene).await?;
        assert_eq!((exit_code(&ended), ended.metadata.deletion_grace_period_seconds), (Some(code), Some(present)), "{ended:?}");
        // Whole seconds, rounded down at both ends.
        let took = seconds_to_end(&ended)?;
        assert!(if code == 0 { (7..60).contains(&took) } else { took >= present - 1 }, "a pod with {present} s took {took} s");
    }
    scene.end().await
}
