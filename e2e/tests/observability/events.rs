//! What the operator tells of policies in events.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_controller::{Config, Election, ElectionTimes, Watched};
use podpolicy_e2e::objects;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, Stage, Tap, shared};
use serde_json::json;

const WEB: &str = "selector: { matchLabels: { app: web } }";

#[tokio::test]
async fn each_new_state_is_told_once() -> anyhow::Result<()> {
    let stage = Stage::set("told").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let operator = stage.operator().await?;
    let spec = |more: &str| format!("{{ {WEB}, {more} }}");
    let mut wanted = Vec::new();

    stage.policy("standard", &spec("labels: { team: shop }")).await?;
    wanted.push("Normal InForce: in force on 1 pod");
    told(&stage, "standard", &wanted).await?;
    // Pods come and go: the state is the same.
    stage.create_pod("web-2", &[("app", "web")]).await?;
    stage.settled("standard", 2).await?;
    stage.delete_pod("web-2").await?;
    stage.settled("standard", 1).await?;

    stage.policy("standard", &spec("labels: { team: shop, pod-template-hash: '1' }")).await?;
    wanted.push("Warning Refused: fields of 1 of 1 pod are refused");
    told(&stage, "standard", &wanted).await?;
    stage.policy("standard", &spec("enforcement: Audit, labels: { team: shop }")).await?;
    wanted.push("Normal Auditing: the policy decides and reports");
    told(&stage, "standard", &wanted).await?;
    stage.policy("standard", &spec("labels: { team: front }")).await?;
    stage.settled("standard", 1).await?;
    stage.policy("first", &spec("priority: 5, labels: { team: back }")).await?;
    wanted.extend(["Normal InForce: in force on 1 pod", "Warning Overridden: overridden: labels[team] by PodPolicy"]);
    told(&stage, "standard", &wanted).await?;
    told(&stage, "first", &["Normal InForce: in force", "Normal Overrides: overrides: labels[team] of PodPolicy"]).await?;
    stage.delete_policy("first").await?;
    wanted.push("Normal NoConflict: no other policy");
    told(&stage, "standard", &wanted).await?;
    operator.stop().await?;

    // The next operator has nothing new to tell.
    let operator = stage.operator().await?;
    stage.pass().await?;
    told(&stage, "standard", &wanted).await?;
    operator.stop().await
}

#[tokio::test]
async fn event_names_the_policy_and_is_shown_by_kubectl() -> anyhow::Result<()> {
    let stage = Stage::set("shown").await?;
    let operator = stage.operator().await?;
    let policy = stage.policy("standard", "{ selector: {}, labels: { team: shop } }").await?;
    told(&stage, "standard", &["Normal InForce: in force; the policy selects no pod"]).await?;
    let events: Api<Event> = Api::namespaced(stage.client.clone(), stage.name());
    let event = events.list(&ListParams::default()).await?.items.remove(0);
    let regarding = event.regarding.unwrap();
    assert_eq!(regarding.kind.as_deref(), Some("PodPolicy"));
    assert_eq!(regarding.api_version.as_deref(), Some("podpolicy.dev/v1alpha1"));
    assert_eq!(regarding.uid, policy.uid());
    assert_eq!(event.reporting_controller.as_deref(), Some("podpolicy.dev/podpolicy"));
    let shown = stage.kubectl(&["events", "--for", "podpolicy/standard"]).await?;
    assert!(shown.contains("InForce"), "{shown}");
    operator.stop().await
}

#[tokio::test]
async fn same_event_again_is_counted_up() -> anyhow::Result<()> {
    let stage = Stage::set("series").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let operator = stage.operator().await?;
    stage.policy("standard", &format!("{{ {WEB}, labels: {{ team: shop }} }}")).await?;
    told(&stage, "standard", &["Normal InForce: in force on 1 pod"]).await?;
    stage.policy("standard", &format!("{{ {WEB}, labels: {{ team: front }} }}")).await?;
    eventually("the series", DEADLINE, async || {
        let counts: Vec<_> =
            events(&stage, "standard").await?.iter().map(|event| event.series.as_ref().map(|series| series.count)).collect();
        Ok(Seen::when(counts == [Some(2)], counts))
    })
    .await?;
    operator.stop().await
}

#[tokio::test]
async fn too_many_events_are_dropped_and_hold_up_nothing() -> anyhow::Result<()> {
    let stage = Stage::set("too-many").await?;
    let operator = stage.operator().await?;
    for number in 0..15 {
        // Each is another spec, and so another event.
        stage.policy("standard", &format!("{{ selector: {{}}, labels: {{ team: team-{number} }} }}")).await?;
        stage.status("standard", "in force", |status| verdict(status, "Ready") == "True InForce").await?;
    }
    // The status can be seen before the operator has the answer to its write, with which it tells.
    eventually("five to be dropped", DEADLINE, async || {
        let text = operator.metrics.to_text();
        Ok(Seen::when(text.contains("podpolicy_events_total{result=\"dropped\"} 5\n"), text))
    })
    .await?;
    operator.stop().await
}

#[tokio::test]
async fn events_that_cannot_be_told_hold_up_nothing() -> anyhow::Result<()> {
    for disturbance in [Disturbance::Hang, Disturbance::Break, Disturbance::Answer(http::StatusCode::FORBIDDEN)] {
        let stage = Stage::set("silent").await?;
        stage.create_pod("web", &[("app", "web")]).await?;
        let disturbed = stage.tap.disturb(disturbance, |exchange| exchange.resource == "events");
        let operator = stage.operator().await?;
        stage.policy("standard", &format!("{{ {WEB}, labels: {{ team: shop }} }}")).await?;
        disturbed.met(1).await?;
        stage.policy("standard", &format!("{{ {WEB}, labels: {{ team: front }} }}")).await?;
        stage.label("web", "team", Some("front")).await?;
        stage.status("standard", "in force", |status| verdict(status, "Ready") == "True InForce").await?;
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn namespace_that_is_being_deleted_is_passed_over_in_silence() -> anyhow::Result<()> {
    // Without the controller manager the namespace stays as it is.
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let (client, namespaces) = (plane.client(), Api::<Namespace>::all(plane.client()));
    let create = json!({ "metadata": { "name": "ending" } });
    namespaces.create(&PostParams::default(), &serde_json::from_value(create)?).await?;
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), "ending");
    let policy = "{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: { name: standard }, spec: { selector: {}, labels: { team: a } } }";
    policies.create(&PostParams::default(), &objects::yaml(policy)).await?;
    namespaces.delete("ending", &DeleteParams::default()).await?;
    let tap = Tap::default();
    let watched = Watched::Namespaces(["ending".to_owned()].into());
    let operator = InProcess::start(tap.client(plane.config())?, Config { watched, ..Config::default() }).await?;
    eventually("the event to be refused", DEADLINE, async || {
        let text = operator.metrics.to_text();
        Ok(Seen::when(text.contains("podpolicy_events_total{result=\"failed\"} 1\n"), text))
    })
    .await?;
    let status = podpolicy_e2e::policies::settled(&policies, "standard", 0).await?;
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    let change = Patch::Merge(json!({ "spec": { "labels": { "team": "b" } } }));
    policies.patch("standard", &PatchParams::default(), &change).await?;
    podpolicy_e2e::policies::settled(&policies, "standard", 0).await?;
    operator.stop().await
}

#[tokio::test]
async fn only_the_leader_tells_and_of_cluster_policies_in_the_namespace_default() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let (leading, standing_by) = (Tap::default(), Tap::default());
    let config = |identity: &str| Config {
        election: Some(Election {
            namespace: "default".to_owned(),
            name: "podpolicy".to_owned(),
            identity: identity.to_owned(),
            times: ElectionTimes::default(),
        }),
        ..Config::default()
    };
    let first = InProcess::start(leading.client(plane.config())?, config("first")).await?;
    eventually("the first to lead", DEADLINE, async || {
        let text = first.metrics.to_text();
        Ok(Seen::when(text.contains("podpolicy_leader 1\n"), text))
    })
    .await?;
    let second = InProcess::start(standing_by.client(plane.config())?, config("second")).await?;
    let policy = "{ apiVersion: podpolicy.dev/v1alpha1, kind: ClusterPodPolicy, metadata: { name: everywhere }, spec: { selector: {}, labels: { team: a } } }";
    let policies: Api<ClusterPodPolicy> = Api::all(plane.client());
    policies.create(&PostParams::default(), &objects::yaml(policy)).await?;
    let events: Api<Event> = Api::namespaced(plane.client(), "default");
    let event = eventually("an event", DEADLINE, async || {
        let found = events
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .find(|event| event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some("everywhere")));
        Ok(found.map_or(Seen::NotYet("none".to_owned()), Seen::Done))
    })
    .await?;
    assert_eq!((event.reason.as_deref(), event.reporting_instance.as_deref()), (Some("InForce"), Some("first")));
    assert!(second.metrics.to_text().contains("podpolicy_leader 0\n"));
    first.stop().await?;
    eventually("the second to lead", DEADLINE, async || {
        let text = second.metrics.to_text();
        Ok(Seen::when(text.contains("podpolicy_leader 1\n"), text))
    })
    .await?;
    // It has seen the status of the first, which has told.
    let change = Patch::Merge(json!({ "spec": { "labels": { "team": "b" } } }));
    policies.patch("everywhere", &PatchParams::default(), &change).await?;
    podpolicy_e2e::policies::settled(&policies, "everywhere", 0).await?;
    eventually("the second to tell", DEADLINE, async || {
        let text = second.metrics.to_text();
        Ok(Seen::when(text.contains("podpolicy_events_total{result=\"ok\"} 1\n"), text))
    })
    .await?;
    assert_eq!(standing_by.exchanges().iter().filter(|exchange| exchange.resource == "events").count(), 1);
    second.stop().await
}

/// The events about a policy, the oldest first.
async fn events(stage: &Stage, policy: &str) -> anyhow::Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(shared().await.client(), stage.name());
    let mut events = api.list(&ListParams::default()).await?.items;
    events.retain(|event| event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(policy)));
    events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
    Ok(events)
}

/// Waits until exactly these events have been told of a policy, each with this type, reason and beginning of a note. One that was told
/// again counts as often.
async fn told(stage: &Stage, policy: &str, wanted: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("{wanted:?} of policy {policy}"), DEADLINE, async || {
        let mut told = Vec::new();
        for event in events(stage, policy).await? {
            let text =
                format!("{} {}: {}", event.type_.unwrap_or_default(), event.reason.unwrap_or_default(), event.note.unwrap_or_default());
            let count = event.series.map_or(1, |series| series.count);
            told.extend((0..count).map(|_| text.clone()));
        }
        let mut wanted: Vec<_> = wanted.to_vec();
        told.sort_unstable();
        wanted.sort_unstable();
        let is_as_wanted = told.len() == wanted.len() && told.iter().zip(&wanted).all(|(told, wanted)| told.starts_with(wanted));
        Ok(Seen::when(is_as_wanted, told))
    })
    .await
}
