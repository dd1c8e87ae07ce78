//! What pods are created with, and what policies say of it.

use kube::ResourceExt as _;
use podpolicy_api::AdmissionBackend;
use podpolicy_controller::AdmissionMode;
use podpolicy_e2e::History;
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::stage::record;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};

use crate::scene::{Scene, WEB, admission, team};

#[tokio::test]
async fn pod_that_is_created_once_its_policy_is_ready_has_the_settings_of_that_generation() -> anyhow::Result<()> {
    let scene = Scene::set("ready").await?;
    let _operator = scene.native().await?;
    for generation in 1..=5 {
        let name = format!("team-{generation}");
        scene.policy("standard", &team(&name)).await?;
        let status = scene.ready("standard").await?;
        assert_eq!(admission(&status).generation, generation);
        assert_eq!(admission(&status).backend, AdmissionBackend::Native);
        assert_eq!(admission(&status).message, None);
        assert_eq!(scene.new_team(&format!("web-{generation}")).await?, Some(name), "from its birth on");
    }
    Ok(())
}

#[tokio::test]
async fn policy_that_is_changed_and_changed_back_at_once_is_ready_only_when_no_pod_gets_what_it_said_in_between() -> anyhow::Result<()> {
    let scene = Scene::set("and-back").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("a")).await?;
    scene.ready("standard").await?;
    for round in 1..=3 {
        let writes = scene.writes();
        scene.policy("standard", &team("b")).await?;
        eventually("the change to be written", DEADLINE, async || Ok(Seen::when(scene.writes() > writes, writes))).await?;
        scene.policy("standard", &team("a")).await?;
        let status = scene.ready("standard").await?;
        assert_eq!(admission(&status).generation, 1 + 2 * round);
        for number in 0..300 {
            assert_eq!(scene.would_be().await?.labels()["team"], "a", "pod {number} in round {round}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_only_creation_can_give_are_there_and_recorded() -> anyhow::Result<()> {
    let scene = Scene::set("settings").await?;
    let _operator = scene.native().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        terminationGracePeriodSeconds: 60
        containers: [{ readinessProbe: { httpGet: { path: /ready, port: http } } }]
    ";
    scene.policy("standard", spec).await?;
    scene.ready("standard").await?;
    let pod = scene.create_pod("web", &WEB).await?;
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.termination_grace_period_seconds, Some(60));
    let probe = spec.containers[0].readiness_probe.as_ref().unwrap();
    assert_eq!(probe.http_get.as_ref().unwrap().path.as_deref(), Some("/ready"));
    assert_eq!(record(&pod)["created"].as_object().map(serde_json::Map::len), Some(2), "{}", record(&pod));
    let status = scene.settled("standard", 1).await?;
    assert_eq!(status.pods.unwrap().compliant, 1, "{status:?}");
    Ok(())
}

#[tokio::test]
async fn policy_is_not_ready_before_creation_is_in_force_and_says_what_it_waits_for() -> anyhow::Result<()> {
    let scene = Scene::set("waits").await?;
    scene.policy("standard", &team("shop")).await?;
    let history = History::of(scene.policies.clone(), "standard").await?;
    let _operator = scene.native().await?;
    scene.ready("standard").await?;
    history.reaches(&scene.policies.clone().get("standard").await?.resource_version().unwrap()).await?;
    let seen = history.map(|policy| policy.status.as_ref().map(|status| (verdict(status, "Ready"), verdict(status, "Reconciling"))));
    let said = |ready: &str, reconciling: &str| Some((ready.to_owned(), reconciling.to_owned()));
    assert_eq!(seen[..3], [None, said("Unknown Pending", "True Pending"), said("False Progressing", "True Progressing")], "{seen:?}");
    assert_eq!(seen.last().unwrap(), &said("True InForce", ""), "{seen:?}");
    let messages = history.map(|policy| {
        let status = policy.status.clone().unwrap_or_default();
        let ready = condition(&status, "Ready").map(|ready| ready.message.clone());
        (status.admission.and_then(|admission| admission.message), ready)
    });
    let waiting = format!("the API server has not yet taken up MutatingAdmissionPolicy {}", scene.unit());
    let is_said = messages.iter().any(|(admission, ready)| {
        let has = |message: &Option<String>| message.as_ref().is_some_and(|message| message.contains(&waiting));
        has(admission) && has(ready)
    });
    assert!(is_said, "{messages:?}");
    Ok(())
}

#[tokio::test]
async fn changed_policy_keeps_the_generation_that_is_in_force_until_the_new_one_is() -> anyhow::Result<()> {
    let scene = Scene::set("generations").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("one")).await?;
    scene.ready("standard").await?;
    let history = History::of(scene.policies.clone(), "standard").await?;
    scene.policy("standard", &team("two")).await?;
    scene.ready("standard").await?;
    history.reaches(&scene.policies.clone().get("standard").await?.resource_version().unwrap()).await?;
    let seen = history.map(|policy| {
        let status = policy.status.clone().unwrap_or_default();
        (status.observed_generation, status.admission.map(|admission| admission.generation))
    });
    assert_eq!(seen, [(Some(1), Some(1)), (Some(2), Some(1)), (Some(2), Some(2))]);
    Ok(())
}

#[tokio::test]
async fn pods_get_their_settings_while_no_operator_runs() -> anyhow::Result<()> {
    let scene = Scene::set("dead").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    drop(operator);
    assert_eq!(scene.new_team("web").await?.as_deref(), Some("shop"));
    Ok(())
}

#[tokio::test]
async fn policy_that_only_audits_gives_new_pods_nothing_once_it_says_so() -> anyhow::Result<()> {
    let scene = Scene::set("audit").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    assert_eq!(scene.new_team("enforced").await?.as_deref(), Some("shop"));
    scene.policy("standard", &team("shop").replace("labels:", "enforcement: Audit, labels:")).await?;
    let status = scene.ready("standard").await?;
    assert_eq!((verdict(&status, "Ready"), admission(&status).generation), ("True Auditing".to_owned(), 2));
    assert_eq!(scene.new_team("audited").await?, None);
    scene.wait_for_objects(false).await
}

#[tokio::test]
async fn policy_beside_another_one_that_only_audits_gives_new_pods_nothing_once_it_says_so() -> anyhow::Result<()> {
    let scene = Scene::set("audit-beside").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.policy("other", "{ selector: {}, labels: { other: stays } }").await?;
    scene.ready("standard").await?;
    scene.policy("standard", &team("shop").replace("labels:", "enforcement: Audit, labels:")).await?;
    scene.ready("standard").await?;
    let pod = scene.create_pod("audited", &WEB).await?;
    assert_eq!((pod.labels().get("team"), pod.labels()["other"].as_str()), (None, "stays"));
    Ok(())
}

#[tokio::test]
async fn deleted_policy_gives_new_pods_nothing() -> anyhow::Result<()> {
    let scene = Scene::set("deleted").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.policy("other", "{ selector: {}, labels: { other: stays } }").await?;
    scene.ready("standard").await?;
    scene.ready("other").await?;
    scene.delete_policy("standard").await?;
    scene.team_at_creation(None).await?;
    assert_eq!(scene.would_be().await?.labels()["other"], "stays");
    scene.delete_policy("other").await?;
    scene.wait_for_objects(false).await
}

#[tokio::test]
async fn other_policies_stay_ready_while_one_changes() -> anyhow::Result<()> {
    let scene = Scene::set("calm").await?;
    let _operator = scene.native().await?;
    scene.policy("calm", "{ selector: {}, labels: { other: stays } }").await?;
    scene.policy("standard", &team("one")).await?;
    scene.ready("calm").await?;
    scene.ready("standard").await?;
    let history = History::of(scene.policies.clone(), "calm").await?;
    for name in ["two", "three"] {
        scene.policy("standard", &team(name)).await?;
        scene.ready("standard").await?;
    }
    // A change of its own is the last version there is.
    scene.policy("calm", "{ selector: {}, labels: { other: changed } }").await?;
    history.reaches(&scene.policies.clone().get("calm").await?.resource_version().unwrap()).await?;
    let seen = history.map(|policy| (policy.metadata.generation, verdict(policy.status.as_ref().unwrap(), "Ready")));
    let of_first: Vec<_> = seen.iter().filter(|(generation, _)| *generation == Some(1)).map(|(_, ready)| ready.as_str()).collect();
    assert_eq!(of_first, ["True InForce"]);
    Ok(())
}

#[tokio::test]
async fn policy_says_nothing_of_creation_where_the_operator_does_nothing_then() -> anyhow::Result<()> {
    let scene = Scene::set("none").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    operator.stop().await?;
    let _operator = scene.operator_with(AdmissionMode::None).await?;
    scene.status("standard", "without admission", |status| status.admission.is_none()).await?;
    scene.wait_for_objects(false).await?;
    scene.team_at_creation(None).await
}
