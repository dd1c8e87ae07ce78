//! What `podpolicy cleanup` takes away once the operator is gone, and what it leaves.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::{APPLIED_ANNOTATION, PodPolicy};
use podpolicy_e2e::backend::has_native;
use podpolicy_e2e::environment::free_address;
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{settled, status, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, Operator, Options, TestNamespace, program, shared};

const POLICY: &str = "
    apiVersion: podpolicy.dev/v1alpha1
    kind: PodPolicy
    metadata: { name: standard }
    spec:
      selector: {}
      precedence: Policy
      labels: { team: shop, tier: front }
      annotations: { example.com/oncall: shop@example.com }
      terminationGracePeriodSeconds: 60
";

/// A control plane that a test has for itself, with an operator that has given one live and one new pod what the policy says, and is gone.
async fn left_behind() -> anyhow::Result<(ControlPlane, TestNamespace, Api<Pod>)> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let namespace = TestNamespace::create(&plane.config(), "cleanup").await?;
    let (client, name) = (plane.client(), namespace.name());
    let (pods, policies): (Api<Pod>, Api<PodPolicy>) = (Api::namespaced(client.clone(), name), Api::namespaced(client.clone(), name));
    pods.create(&PostParams::default(), &objects::pod("live", &[("app", "web"), ("tier", "back")])).await?;
    apply(&client, name, POLICY).await?;
    let webhook = free_address()?.to_string();
    let url = format!("https://{webhook}/mutate");
    let run = [
        "run",
        "--admission",
        "auto",
        "--metrics-address",
        "",
        "--own-namespace",
        name,
        "--webhook-address",
        &webhook,
        "--webhook-url",
        &url,
    ];
    let mut operator = Operator::spawn(plane.kubeconfig_path(), &run, &[])?;
    status(&policies, "standard", "ready", |status| status.admission.is_some() && verdict(status, "Ready").starts_with("True")).await?;
    pods.create(&PostParams::default(), &objects::pod("new", &[("app", "web")])).await?;
    settled(&policies, "standard", 2).await?;
    operator.terminate()?;
    operator.wait(DEADLINE).await?;
    policies.delete("standard", &DeleteParams::default()).await?;
    for name in ["live", "new"] {
        let pod = pods.get(name).await?;
        assert!(pod.annotations().contains_key(APPLIED_ANNOTATION), "{name}: {:?}", pod.annotations());
        assert_eq!(pod.labels()["team"], "shop");
    }
    Ok((plane, namespace, pods))
}

/// Runs `podpolicy cleanup` to its end.
fn cleanup(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program()?);
    command.arg("cleanup").args(arguments).env("KUBECONFIG", plane.kubeconfig_path()).env_remove("POD_NAMESPACE");
    Ok(command.stdin(Stdio::null()).output()?)
}

/// What it printed. Fails when it did not end well.
fn printed(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn records_and_objects_go_while_pods_and_what_policies_wrote_stay() -> anyhow::Result<()> {
    let (plane, namespace, pods) = left_behind().await?;
    let before: Vec<_> = pods.list(&ListParams::default()).await?.items.iter().map(|pod| pod.uid().unwrap()).collect();
    let name = namespace.name();
    let objects = if has_native(&plane).await? {
        ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"].map(|kind| format!("{kind}/podpolicy-namespace-{name}")).to_vec()
    } else {
        vec!["mutatingwebhookconfiguration/podpolicy".to_owned()]
    };

    let would = printed(&cleanup(&plane, &["--dry-run"])?);
    let wanted = |delete: &str, take: &str| {
        let objects: Vec<_> = objects.iter().map(|object| format!("{delete} {object}\n")).collect();
        format!("{}{take} the record off 2 pods in namespace {name}\n", objects.concat())
    };
    assert_eq!(would, wanted("would delete", "would take"));
    assert!(pods.get("live").await?.annotations().contains_key(APPLIED_ANNOTATION), "a dry run writes nothing");

    assert_eq!(printed(&cleanup(&plane, &[])?), wanted("deleted", "took"));
    let after = pods.list(&ListParams::default()).await?.items;
    assert_eq!(after.iter().map(|pod| pod.uid().unwrap()).collect::<Vec<_>>(), before, "no pod is replaced");
    for pod in &after {
        assert_eq!(pod.annotations(), &pairs(&[("example.com/oncall", "shop@example.com")]), "{}", pod.name_any());
        assert_eq!(pod.labels(), &pairs(&[("app", "web"), ("team", "shop"), ("tier", "front")]), "{}", pod.name_any());
    }
    assert_eq!(at_creation(&plane).await?, 0);
    // The API server forgets a policy a moment after it is deleted.
    eventually("new pods to come as they are", DEADLINE, async || {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let labels = pods.create(&dry_run, &objects::pod("later", &[("app", "web")])).await?.metadata.labels;
        Ok(Seen::when(labels == Some(pairs(&[("app", "web")])), labels))
    })
    .await?;

    assert_eq!(printed(&cleanup(&plane, &[])?), "nothing to clean up\n");
    Ok(())
}

#[tokio::test]
async fn undo_takes_back_what_policies_wrote_in_one_namespace_only() -> anyhow::Result<()> {
    let (plane, namespace, pods) = left_behind().await?;
    let other = TestNamespace::create(&plane.config(), "cleanup-other").await?;
    let others: Api<Pod> = Api::namespaced(plane.client(), other.name());
    let mut pod = objects::pod("recorded", &[("team", "sales")]);
    let record = r#"{"labels":{"team":{"by":"PodPolicy/standard","value":"sales"}}}"#;
    pod.metadata.annotations = Some(pairs(&[(APPLIED_ANNOTATION, record)]));
    others.create(&PostParams::default(), &pod).await?;

    let would = printed(&cleanup(&plane, &["--undo", "--dry-run", "-n", namespace.name()])?);
    let undone = "annotations[example.com/oncall], labels[team], labels[tier]";
    assert_eq!(would, format!("would take the record off 2 pods in namespace {}, and undo {undone}\n", namespace.name()));
    let done = printed(&cleanup(&plane, &["--undo", "-n", namespace.name()])?);
    assert_eq!(done, format!("took the record off 2 pods in namespace {}, and undid {undone}\n", namespace.name()));
    let (live, new) = (pods.get("live").await?, pods.get("new").await?);
    assert_eq!(live.labels(), &pairs(&[("app", "web"), ("tier", "back")]), "what was replaced is back");
    assert_eq!(new.labels(), &pairs(&[("app", "web")]));
    assert!(live.annotations().is_empty() && new.annotations().is_empty(), "{:?} {:?}", live.annotations(), new.annotations());
    assert_eq!(new.spec.unwrap().termination_grace_period_seconds, Some(60), "no live pod can change it");
    assert!(others.get("recorded").await?.annotations().contains_key(APPLIED_ANNOTATION));
    assert_ne!(at_creation(&plane).await?, 0, "they are not of one namespace");
    Ok(())
}

/// How many objects there are by which pods are given settings at creation.
async fn at_creation(plane: &ControlPlane) -> anyhow::Result<usize> {
    let (client, all) = (plane.client(), ListParams::default());
    let webhooks = Api::<MutatingWebhookConfiguration>::all(client.clone()).list(&all).await?.items.len();
    if !has_native(plane).await? {
        return Ok(webhooks);
    }
    let bindings = Api::<MutatingAdmissionPolicyBinding>::all(client.clone()).list(&all).await?.items.len();
    Ok(webhooks + bindings + Api::<MutatingAdmissionPolicy>::all(client).list(&all).await?.items.len())
}

#[tokio::test]
async fn it_does_not_start_while_an_operator_runs_unless_forced() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "cleanup-running").await?;
    let name = namespace.name();
    let run = ["run", "--leader-elect", "--namespaces", name, "--metrics-address", "", "--own-namespace", name];
    let (policies, pods): (Api<PodPolicy>, Api<Pod>) = (Api::namespaced(plane.client(), name), Api::namespaced(plane.client(), name));
    apply(&plane.client(), name, POLICY).await?;
    pods.create(&PostParams::default(), &objects::pod("web", &[])).await?;
    let mut operator = Operator::spawn(plane.kubeconfig_path(), &run, &[])?;
    settled(&policies, "standard", 1).await?;

    let arguments = ["-n", name, "--own-namespace", name];
    let refused = cleanup(plane, &arguments)?;
    let message = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("an operator runs") && message.contains(&format!("{name}/podpolicy")), "{message}");
    assert!(message.contains("delete its Deployment first, or give --force") && refused.stdout.is_empty(), "{message}");
    let forced = printed(&cleanup(plane, &[&arguments[..], &["--force"]].concat())?);
    assert_eq!(forced, format!("took the record off 1 pod in namespace {name}\n"));

    let would = printed(&cleanup(plane, &[&arguments[..], &["--dry-run"]].concat())?);
    assert!(would.starts_with("would take") || would == "nothing to clean up\n", "{would}");

    // One that ended in peace gives its Lease back; its policies are there, as they are for an operator without a Lease.
    operator.terminate()?;
    operator.wait(Duration::from_secs(30)).await?;
    let refused = cleanup(plane, &arguments)?;
    let message = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(
        message.contains(&format!("there are policies (PodPolicy {name}/standard)")) && message.contains("or give --force"),
        "{message}"
    );
    policies.delete("standard", &DeleteParams::default()).await?;
    printed(&cleanup(plane, &arguments)?);
    pods.delete("web", &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}
