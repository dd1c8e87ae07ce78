//! Several operators, of which one writes.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use podpolicy_controller::{Config, Election, ElectionTimes, Watched};
use podpolicy_e2e::requests::Codes;
use podpolicy_e2e::tap::{Disturbance, Exchange};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Operator, Options, Requests, Stage, Tap, TestNamespace, objects, shared};

const LEASE: &str = "podpolicy";
const TEAM: &str = "{ selector: {}, labels: { team: shop } }";

/// An operator beside others, on a line of its own.
async fn operator(stage: &Stage, identity: &str, tap: &Tap) -> anyhow::Result<InProcess> {
    let election = Election {
        namespace: stage.name().to_owned(),
        name: LEASE.to_owned(),
        identity: identity.to_owned(),
        times: ElectionTimes { duration: Duration::from_secs(3), deadline: Duration::from_secs(2), period: Duration::from_millis(300) },
    };
    let watched = Watched::Namespaces([stage.name().to_owned()].into());
    let config = Config { watched, election: Some(election), ..Config::default() };
    InProcess::start(tap.client(shared().await.config())?, config).await
}

async fn led_by(stage: &Stage, identity: &str) -> anyhow::Result<Lease> {
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), stage.name());
    eventually(&format!("{identity} to hold the Lease"), DEADLINE, async || {
        let lease = leases.get_opt(LEASE).await?;
        let holder = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        Ok(match lease {
            Some(lease) if holder.as_deref() == Some(identity) => Seen::Done(lease),
            _ => Seen::NotYet(format!("{holder:?}")),
        })
    })
    .await
}

/// Everything that was written, but for the Lease and the dry run of a PodTemplate.
fn writes(tap: &Tap) -> Vec<String> {
    let is_write =
        |exchange: &&Exchange| exchange.method != http::Method::GET && !["leases", "podtemplates"].contains(&exchange.resource.as_str());
    tap.exchanges().iter().filter(is_write).map(ToString::to_string).collect()
}

#[tokio::test]
async fn one_writes_and_the_next_goes_on_when_it_stops() -> anyhow::Result<()> {
    let stage = Stage::set("leads").await?;
    let (one, other) = (Tap::default(), Tap::default());
    let first = operator(&stage, "first", &one).await?;
    led_by(&stage, "first").await?;
    let second = operator(&stage, "second", &other).await?;
    stage.policy("team", TEAM).await?;
    stage.create_pod("early", &[]).await?;
    stage.label("early", "team", Some("shop")).await?;
    stage.status("team", "one pod", |status| status.pods.is_some_and(|pods| pods.compliant == 1)).await?;
    assert_eq!(writes(&other), Vec::<String>::new());

    first.stop().await?;
    let lease = led_by(&stage, "second").await?;
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
    let before = writes(&one);
    stage.create_pod("late", &[]).await?;
    stage.label("late", "team", Some("shop")).await?;
    assert_eq!(writes(&one), before);
    assert_eq!(other.writes("pods", "early").await?, [], "it was written already");
    second.stop().await
}

#[tokio::test]
async fn when_the_leader_dies_the_next_goes_on_and_no_pod_is_written_twice() -> anyhow::Result<()> {
    let stage = Stage::set("dies").await?;
    let (one, other) = (Tap::default(), Tap::default());
    let first = operator(&stage, "first", &one).await?;
    led_by(&stage, "first").await?;
    let second = operator(&stage, "second", &other).await?;
    for number in 0..20 {
        stage.create_pod(&format!("web-{number}"), &[]).await?;
    }
    // It dies in the middle: some pods are written, and the others are not.
    let late = |exchange: &Exchange| exchange.writes("pods") && exchange.name.len() > "web-0".len();
    let held = one.disturb(Disturbance::Hang, late);
    stage.policy("team", TEAM).await?;
    held.met(1).await?;
    for number in 0..10 {
        stage.label(&format!("web-{number}"), "team", Some("shop")).await?;
    }
    drop(first);
    led_by(&stage, "second").await?;
    for number in 0..20 {
        stage.label(&format!("web-{number}"), "team", Some("shop")).await?;
        let by_second = other.writes("pods", &format!("web-{number}")).await?.len();
        assert_eq!(by_second, usize::from(number >= 10), "web-{number}");
    }
    second.stop().await
}

#[tokio::test]
async fn leader_that_cannot_renew_stops_writing_before_another_starts() -> anyhow::Result<()> {
    let stage = Stage::set("cut-off").await?;
    let (one, other) = (Tap::default(), Tap::default());
    let first = operator(&stage, "first", &one).await?;
    led_by(&stage, "first").await?;
    let second = operator(&stage, "second", &other).await?;
    stage.policy("team", TEAM).await?;
    stage.create_pod("early", &[]).await?;
    stage.label("early", "team", Some("shop")).await?;
    // All else goes on for it.
    let renewals = one.disturb(Disturbance::Hang, |exchange| exchange.resource == "leases");
    led_by(&stage, "second").await?;
    let before = writes(&one);
    stage.create_pod("late", &[]).await?;
    stage.label("late", "team", Some("shop")).await?;
    stage.status("team", "two pods", |status| status.pods.is_some_and(|pods| pods.compliant == 2)).await?;
    assert_eq!(writes(&one), before);

    // It is a candidate like any other again.
    renewals.end();
    second.stop().await?;
    led_by(&stage, "first").await?;
    stage.create_pod("last", &[]).await?;
    stage.label("last", "team", Some("shop")).await?;
    first.stop().await
}

#[tokio::test]
async fn leader_that_was_stopped_for_long_writes_nothing_when_it_goes_on() -> anyhow::Result<()> {
    const PODS: usize = 400;
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let namespace = TestNamespace::create(&plane.config(), "stopped").await?;
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    let arguments = ["run", "--leader-elect", "--own-namespace", namespace.name(), "--metrics-address", "", "--concurrency", "1"];
    let mut first = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    eventually("the operator to lead", DEADLINE, async || Ok(Seen::when(first.output().contains("this operator leads"), first.output())))
        .await?;
    let mut second = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    for number in 0..PODS {
        pods.create(&PostParams::default(), &objects::pod(&format!("web-{number}"), &[])).await?;
    }
    let start = Requests::settled(&plane.client(), "pods").await?;
    let policies: Api<podpolicy_api::PodPolicy> = Api::namespaced(plane.client(), namespace.name());
    let policy = format!("{{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{ name: team }}, spec: {TEAM} }}");
    policies.create(&PostParams::default(), &objects::yaml(&policy)).await?;
    let labelled = async || -> anyhow::Result<usize> {
        let selected = kube::api::ListParams::default().labels("team=shop");
        Ok(pods.list_metadata(&selected).await?.items.len())
    };
    eventually("some pods to be written", DEADLINE, async || Ok(Seen::when(labelled().await? > 0, ()))).await?;
    first.process().pause()?;
    let written = labelled().await?;
    anyhow::ensure!(written < PODS / 2, "it was stopped too late: {written} pods are written");
    eventually("the other to lead", DEADLINE, async || Ok(Seen::when(second.output().contains("this operator leads"), second.output())))
        .await?;
    eventually("all pods to be written", DEADLINE, async || {
        let count = labelled().await?;
        Ok(Seen::when(count == PODS, count))
    })
    .await?;
    first.process().resume()?;
    eventually("the first to see that it does not lead", DEADLINE, async || {
        Ok(Seen::when(first.output().contains("another operator may lead now"), first.output()))
    })
    .await?;
    first.terminate()?;
    first.wait(DEADLINE).await?;
    let asked = Requests::settled(&plane.client(), "pods").await?.since(&start);
    // The one that was on its way when it was stopped can arrive late.
    let writes = asked.count("PATCH", "pods", "", Codes::Any);
    assert!((PODS..=PODS + 1).contains(&usize::try_from(writes)?), "each pod once: {writes} writes");
    second.terminate()?;
    second.wait(DEADLINE).await?;
    Ok(())
}
