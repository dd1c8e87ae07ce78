//! What the API server accepts and refuses by the definitions alone, and in which words: `crates/podpolicy-api/tests/bad-specs/`
//! and `good-specs/`, and `config/samples/`. Nothing is stored: every request is a dry run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use http::Request;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_e2e::{TestNamespace, shared};
use serde_json::{Value, json};

/// As `kubectl` asks: unknown and duplicate fields are errors.
const STRICT: &str = "dryRun=All&fieldValidation=Strict";

#[tokio::test]
async fn bad_specs_are_refused_with_the_field_and_what_is_allowed() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "bad-specs").await?;
    let client = plane.client();
    let mut wrong = Vec::new();
    for file in files("crates/podpolicy-api/tests/bad-specs")? {
        let spec = Spec::read(&file)?;
        let wants: Vec<_> = spec.text.lines().map_while(|line| line.strip_prefix("# want: ")).collect();
        ensure!(wants.len() >= 2, "{}: wants a field and what is allowed", file.display());
        match spec.create(&client, &namespace).await {
            Ok(_) => wrong.push(format!("{}: accepted", file.display())),
            Err(message) => {
                let missing: Vec<_> = wants.iter().filter(|want| !message.contains(*want)).collect();
                if !missing.is_empty() {
                    wrong.push(format!("{}: no {missing:?} in {message:?}", file.display()));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} bad specs:\n{}", wrong.len(), wrong.join("\n"));
    namespace.delete().await
}

/// Server-side apply judges types and unknown fields by itself, in other words: it names the field as well.
#[tokio::test]
async fn bad_specs_are_refused_by_server_side_apply() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "bad-specs-apply").await?;
    let client = plane.client();
    let mut wrong = Vec::new();
    for file in files("crates/podpolicy-api/tests/bad-specs")? {
        let spec = Spec::read(&file)?;
        let field = spec.text.lines().find_map(|line| line.strip_prefix("# want: ")).context("no want")?;
        match spec.apply(&client, &namespace).await {
            Ok(_) => wrong.push(format!("{}: accepted", file.display())),
            Err(message) if !message.contains(field) => wrong.push(format!("{}: no {field:?} in {message:?}", file.display())),
            Err(_) => {}
        }
    }
    ensure!(wrong.is_empty(), "{} bad specs:\n{}", wrong.len(), wrong.join("\n"));
    namespace.delete().await
}

#[tokio::test]
async fn good_specs_are_accepted_and_the_types_know_them() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "good-specs").await?;
    for file in files("crates/podpolicy-api/tests/good-specs")? {
        let created = Spec::read(&file)?.create(&plane.client(), &namespace).await;
        let created = created.map_err(|message| anyhow::anyhow!("{}: {message}", file.display()))?;
        parse(&created).with_context(|| format!("{}: the types do not know {created:#}", file.display()))?;
    }
    namespace.delete().await
}

#[tokio::test]
async fn samples_are_accepted_and_the_types_know_them() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "samples").await?;
    for file in files("config/samples")? {
        let spec = Spec::read(&file)?;
        for accepted in [spec.create(&plane.client(), &namespace).await, spec.apply(&plane.client(), &namespace).await] {
            let accepted = accepted.map_err(|message| anyhow::anyhow!("{}: {message}", file.display()))?;
            parse(&accepted).with_context(|| format!("{}: the types do not know {accepted:#}", file.display()))?;
        }
    }
    namespace.delete().await
}

/// Selectors belong to one applier as a whole, as those of Kubernetes do: two that are merged would select what neither wants.
#[tokio::test]
async fn two_who_apply_different_selectors_conflict() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "selectors-apply").await?;
    let policies: Api<PodPolicy> = Api::namespaced(plane.client(), &namespace.to_string());
    let selecting = |key: &str| {
        let spec = json!({ "selector": { "matchLabels": { key: "x" } } });
        json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "both" }, "spec": spec })
    };
    policies.patch("both", &PatchParams::apply("first"), &Patch::Apply(selecting("app"))).await?;
    let second = policies.patch("both", &PatchParams::apply("second"), &Patch::Apply(selecting("tier"))).await;
    let message = second.err().context("it was merged")?.to_string();
    ensure!(message.contains(".spec.selector") && message.contains("first"), "{message}");
    namespace.delete().await
}

/// A file with one policy.
struct Spec {
    text: String,
    policy: Value,
}

impl Spec {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let policy = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", file.display()))?;
        Ok(Self { text, policy })
    }

    /// As `kubectl create` and `kubectl apply` do for an object that is not there. The error is the API server's message.
    async fn create(&self, client: &Client, namespace: &TestNamespace) -> Result<Value, String> {
        let request = Request::post(format!("{}?{STRICT}", self.collection(namespace))).header("Content-Type", "application/json");
        send(client, request, &self.policy).await
    }

    /// As `kubectl apply --server-side` does.
    async fn apply(&self, client: &Client, namespace: &TestNamespace) -> Result<Value, String> {
        let (collection, name) = (self.collection(namespace), self.policy["metadata"]["name"].as_str().unwrap_or_default());
        let request = Request::patch(format!("{collection}/{name}?{STRICT}&fieldManager=e2e"));
        send(client, request.header("Content-Type", "application/apply-patch+yaml"), &self.policy).await
    }

    fn collection(&self, namespace: &TestNamespace) -> String {
        if self.policy["kind"] == "ClusterPodPolicy" {
            return "/apis/podpolicy.dev/v1alpha1/clusterpodpolicies".to_owned();
        }
        format!("/apis/podpolicy.dev/v1alpha1/namespaces/{namespace}/podpolicies")
    }
}

async fn send(client: &Client, request: http::request::Builder, body: &Value) -> Result<Value, String> {
    let request = request.body(body.to_string().into_bytes()).map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        error => error.to_string(),
    })
}

fn parse(policy: &Value) -> anyhow::Result<()> {
    let name = match policy["kind"].as_str() {
        Some("ClusterPodPolicy") => serde_json::from_value::<ClusterPodPolicy>(policy.clone())?.name_any(),
        _ => serde_json::from_value::<PodPolicy>(policy.clone())?.name_any(),
    };
    ensure!(policy["metadata"]["name"] == name, "the name became {name}");
    Ok(())
}

/// The files with policies in a folder of this repository, in order.
fn files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.retain(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml"));
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}
