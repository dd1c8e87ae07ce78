//! A real API server takes what is rendered, restricted pod security included, and the rights in it are what the operator and people need.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::core::discovery::Scope;
use kube::{Api, Client, ResourceExt, discovery};
use podpolicy_admission::webhook::{Endpoint, Options as Webhook};
use podpolicy_api::{PodPolicy, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::environment::free_address;
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, backend};
use serde_json::json;

use crate::render::{Objects, Overlay, helm_text, kustomize, objects as parsed, root, tools};

const BARE: Options = Options { crds: false, controller_manager: true };
const NAMESPACE: &str = "podpolicy-system";

/// The options that need no definitions of others.
const OWN_OPTIONS: [&str; 3] = ["components/evict", "components/restart", "network-policy"];

#[tokio::test(flavor = "multi_thread")]
async fn default_is_taken_and_a_second_time_changes_nothing() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    kubectl(&plane, &["apply", "--server-side", "-k", "config/default"])?;
    let wanted = kustomize("config/default")?;
    let pod = settled(&client).await?;
    let before = found(&client, &wanted).await?;

    kubectl(&plane, &["apply", "--server-side", "-k", "config/default"])?;
    assert_eq!(found(&client, &wanted).await?, before, "something was written again");
    assert_eq!(settled(&client).await?, pod);

    // A rendered file is the same, options too.
    let overlay = Overlay::new(&OWN_OPTIONS, "")?;
    for _ in 0..2 {
        kubectl(&plane, &["apply", "--server-side", "-k", overlay.path()])?;
    }
    kubectl(&plane, &["diff", "--server-side", "-k", overlay.path()])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_operator_are_let_in_where_privileged_ones_are_not() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    for components in [&[][..], &OWN_OPTIONS] {
        kubectl(&plane, &["apply", "--server-side", "-k", Overlay::new(components, "")?.path()])?;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = settled(&client).await?;
    let pod = pods.get(&pod).await?;
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    assert_eq!(spec.service_account_name.as_deref(), Some("podpolicy"));
    assert_eq!(spec.priority, Some(1_000_000));

    let refused = pods.create(&PostParams::default(), &objects::pod("ordinary", &[])).await;
    let refused = refused.expect_err("a pod without any restriction is let in").to_string();
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn service_account_has_the_rights_that_the_operator_needs() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    kubectl(&plane, &["apply", "--server-side", "-k", "config/default"])?;
    let user = format!("system:serviceaccount:{NAMESPACE}:podpolicy");
    let groups = ["system:serviceaccounts", "system:serviceaccounts:podpolicy-system", "system:authenticated"];
    namespace(&client, "shop").await?;
    apply(
        &client,
        "shop",
        "
        apiVersion: podpolicy.dev/v1alpha1
        kind: PodPolicy
        metadata: { name: own }
        spec: { selector: {}, labels: { team: shop } }
        ",
    )
    .await?;
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), "shop");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let native = backend::has_native(&plane).await?.then_some((AdmissionMode::Auto, "Native"));
    for (admission, backend) in [(AdmissionMode::Webhook, "Webhook")].into_iter().chain(native) {
        let address = free_address()?;
        let webhook = Webhook::new(address, Endpoint::url(&format!("https://{address}"))?, NAMESPACE);
        let config = Config { admission, webhook: Some(webhook), ..Config::default() };
        let operator = InProcess::start(plane.client_as(&user, &groups), config).await?;
        let acts = |status: &PodPolicyStatus| {
            let is_by_backend = serde_json::to_value(&status.admission).is_ok_and(|admission| admission.to_string().contains(backend));
            is_by_backend && verdict(status, "Ready") == "True InForce"
        };
        status(&policies, "own", &format!("in force by {backend}"), acts).await?;
        let pod = pods.create(&PostParams::default(), &objects::pod(&backend.to_lowercase(), &[])).await?;
        assert_eq!(pod.labels().get("team").map(String::as_str), Some("shop"), "{backend}");
        operator.stop().await?;
    }
    assert!(secrets.get_opt("podpolicy-webhook").await?.is_some());

    for (verb, what, allowed) in [
        ("get", "secret/podpolicy-webhook", "yes"),
        ("get", "secret/another", "no"),
        ("list", "secrets", "no"),
        ("create", "secrets", "yes"),
        ("create", "leases.coordination.k8s.io", "yes"),
        ("update", "lease.coordination.k8s.io/podpolicy", "yes"),
        ("patch", "lease.coordination.k8s.io/another", "no"),
    ] {
        assert_eq!(can(&plane, &user, NAMESPACE, verb, what)?, allowed, "{verb} {what} in its own namespace");
    }
    for (verb, what) in [
        ("create", "secrets"),
        ("create", "leases.coordination.k8s.io"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("create", "pods/eviction"),
        ("patch", "deployments.apps"),
        ("patch", "namespaces"),
        ("update", "podpolicies.podpolicy.dev"),
    ] {
        assert_eq!(can(&plane, &user, "shop", verb, what)?, "no", "{verb} {what} elsewhere");
    }
    kubectl(&plane, &["apply", "--server-side", "-k", Overlay::new(&OWN_OPTIONS, "")?.path()])?;
    for (verb, what) in [("create", "pods/eviction"), ("patch", "deployments.apps")] {
        assert_eq!(can(&plane, &user, "shop", verb, what)?, "yes", "{verb} {what} with the component");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_namespace_have_rights_on_its_policies_only() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    kubectl(&plane, &["apply", "--server-side", "-k", "config/default"])?;
    namespace(&client, "shop").await?;
    for role in ["view", "edit", "admin"] {
        kubectl(
            &plane,
            &["create", "rolebinding", role, "--namespace", "shop", &format!("--clusterrole={role}"), &format!("--user={role}er")],
        )?;
    }
    eventually("the roles to be aggregated", DEADLINE, async || {
        let answer = can(&plane, "adminer", "shop", "deletecollection", "podpolicies.podpolicy.dev")?;
        Ok(Seen::when(answer == "yes", answer))
    })
    .await?;
    for (user, verb, what, allowed) in [
        ("viewer", "list", "podpolicies.podpolicy.dev", "yes"),
        ("viewer", "create", "podpolicies.podpolicy.dev", "no"),
        ("editer", "create", "podpolicies.podpolicy.dev", "yes"),
        ("editer", "delete", "podpolicies.podpolicy.dev", "yes"),
        ("editer", "deletecollection", "podpolicies.podpolicy.dev", "no"),
        ("editer", "patch", "podpolicies.podpolicy.dev/status", "no"),
        ("adminer", "create", "podpolicies.podpolicy.dev", "yes"),
        ("adminer", "get", "clusterpodpolicies.podpolicy.dev", "no"),
        ("adminer", "create", "clusterpodpolicies.podpolicy.dev", "no"),
    ] {
        assert_eq!(can(&plane, user, "shop", verb, what)?, allowed, "{user}: {verb} {what}");
    }
    assert_eq!(can(&plane, "adminer", "default", "get", "podpolicies.podpolicy.dev")?, "no");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn release_can_be_installed_upgraded_and_taken_away() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    let wanted = parsed(&helm_text(NAMESPACE, &[])?)?;
    helm(&plane, &["install", "podpolicy", "charts/podpolicy", "--namespace", NAMESPACE, "--create-namespace"])?;
    found(&client, &wanted).await?;
    settled(&client).await?;
    let more = ["--set", "rollout.evict=true,networkPolicy=true"];
    helm(&plane, &[&["upgrade", "podpolicy", "charts/podpolicy", "--namespace", NAMESPACE][..], &more].concat())?;
    found(&client, &parsed(&helm_text(NAMESPACE, &["rollout.evict=true", "networkPolicy=true"])?)?).await?;

    helm(&plane, &["uninstall", "podpolicy", "--namespace", NAMESPACE])?;
    for (key, object) in &wanted {
        let stays = key.starts_with("CustomResourceDefinition");
        let there = get(&client, &serde_json::from_value(object.clone())?).await?;
        let there = there.filter(|object| object.metadata.deletion_timestamp.is_none());
        assert_eq!(there.is_some(), stays, "{key}");
    }
    Ok(())
}

/// Waits until the operator's Deployment has been looked at and has made its pods, and returns the name of one.
async fn settled(client: &Client) -> anyhow::Result<String> {
    let deployments: Api<DynamicObject> = {
        let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
        let (resource, _) = discovery::pinned_kind(client, &kind).await?;
        Api::namespaced_with(client.clone(), NAMESPACE, &resource)
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("the operator's pods to be created", DEADLINE, async || {
        let deployment = deployments.get("podpolicy").await?;
        let observed = deployment.data["status"]["observedGeneration"].as_i64();
        let names: Vec<_> = pods.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        let is_done = observed == deployment.metadata.generation && names.len() == 2;
        Ok(if is_done { Seen::Done(names[0].clone()) } else { Seen::NotYet(format!("{names:?}, {}", deployment.data["status"])) })
    })
    .await
}

/// The generation, or for what has none the version, of each object. Fails where one is missing.
async fn found(client: &Client, wanted: &Objects) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (key, object) in wanted {
        let object = get(client, &serde_json::from_value(object.clone())?).await?.with_context(|| format!("{key} is not there"))?;
        let written = object.metadata.managed_fields.iter().flatten();
        let written: Vec<_> = written.filter(|entry| entry.subresource.is_none()).map(|entry| (&entry.manager, &entry.time)).collect();
        found.insert(key.clone(), format!("generation {:?}, written {written:?}", object.metadata.generation));
    }
    Ok(found)
}

async fn get(client: &Client, wanted: &DynamicObject) -> anyhow::Result<Option<DynamicObject>> {
    let kind = GroupVersionKind::try_from(wanted.types.as_ref().context("an object has a kind")?)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match (capabilities.scope, wanted.metadata.namespace.as_deref()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, namespace) => Api::namespaced_with(client.clone(), namespace.context("it has a namespace")?, &resource),
    };
    Ok(api.get_opt(&wanted.name_any()).await?)
}

async fn namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}

/// What `kubectl auth can-i` says of a user.
fn can(plane: &ControlPlane, user: &str, namespace: &str, verb: &str, what: &str) -> anyhow::Result<String> {
    let (what, part) = what.split_once('/').map_or((what.to_owned(), None), |(kind, part)| match part {
        "status" | "exec" | "eviction" => (kind.to_owned(), Some(format!("--subresource={part}"))),
        name => (format!("{kind}/{name}"), None),
    });
    let output = plane.kubectl().args(["auth", "can-i", verb, &what, "--as", user, "--namespace", namespace]).args(part).output()?;
    // It says no by its exit code too.
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(["yes", "no"].contains(&answer.as_str()), "{answer}{}", String::from_utf8_lossy(&output.stderr));
    Ok(answer)
}

/// Runs kubectl in the project's folder. Fails where it warns, too.
fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    run(plane.kubectl().args(arguments))
}

fn helm(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    let mut helm = Command::new(tools()?.join("helm"));
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, plane.directory().join("helm"));
    }
    run(helm.args(arguments).env("KUBECONFIG", plane.kubeconfig_path()))
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.current_dir(root()).output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && !stderr.contains("Warning"), "{command:?} ended with {}: {stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}
