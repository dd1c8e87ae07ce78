//! `docs/gitops.md`: what Argo CD, Flux and tools with kstatus make of policies as the real operator leaves them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use cel::{Context, Program, Value as Cel};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::{Stage, shared};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How a policy stands, in the words of each tool.
struct Case {
    name: &'static str,
    policy: Value,
    argo: &'static str,
    /// Also kstatus'.
    flux: &'static str,
    /// What Argo CD's message has.
    says: &'static str,
}

#[tokio::test]
async fn tools_see_policies_as_the_page_says() -> anyhow::Result<()> {
    let stage = Stage::set("gitops").await?;
    let mut cases = Vec::new();
    stage.create_pod("web", &[("app", "web")]).await?;
    let get = async || -> anyhow::Result<Value> { Ok(serde_json::to_value(stage.policies.get("standard").await?)?) };
    let spec = |more: &str| format!("{{ selector: {{ matchLabels: {{ app: web }} }}, {more} }}");

    stage.policy("standard", &spec("labels: { team: shop }")).await?;
    let policy = get().await?;
    ensure!(policy["status"].is_null(), "nobody has looked at it: {policy:#}");
    cases.push(Case { name: "new", policy, argo: "Progressing", flux: "InProgress", says: "has not looked at" });

    let failing = stage.tap.disturb(Disturbance::Break, |exchange| exchange.writes("pods"));
    // Nothing comes after the first status, in which all is unknown.
    let first = stage.tap.disturb(Disturbance::LoseAnswer, |exchange| exchange.writes_status("podpolicies"));
    let operator = stage.operator().await?;
    stage.status("standard", "unknown", |status| verdict(status, "Ready") == "Unknown Pending").await?;
    let policy = get().await?;
    if policy["status"]["conditions"][0]["status"] == "Unknown" {
        cases.push(Case { name: "seen", policy, argo: "Progressing", flux: "InProgress", says: "Pending" });
    }
    first.end();
    stage.status("standard", "failing", |status| verdict(status, "Reconciling") == "True WriteFailed").await?;
    cases.push(Case { name: "failing", policy: get().await?, argo: "Progressing", flux: "InProgress", says: "WriteFailed: 1 of 1 pod" });
    failing.end();

    stage.status("standard", "in force", |status| verdict(status, "Ready") == "True InForce").await?;
    cases.push(Case { name: "in force", policy: get().await?, argo: "Healthy", flux: "Current", says: "InForce: in force on 1 pod" });

    stage.policy("standard", &spec("terminationGracePeriodSeconds: 60")).await?;
    stage.status("standard", "outdated", |status| status.pods.is_some_and(|pods| pods.outdated == 1)).await?;
    cases.push(Case { name: "outdated", policy: get().await?, argo: "Healthy", flux: "Current", says: "must be replaced" });

    stage.policy("standard", &spec("labels: { pod-template-hash: '1' }")).await?;
    stage.status("standard", "refused", |status| verdict(status, "Stalled") == "True Refused").await?;
    cases.push(Case { name: "refused", policy: get().await?, argo: "Degraded", flux: "Failed", says: "Refused: fields of 1 of 1 pod" });

    stage.policy("standard", &spec("enforcement: Audit, labels: { team: shop }")).await?;
    stage.status("standard", "auditing", |status| verdict(status, "Ready") == "True Auditing").await?;
    cases.push(Case { name: "auditing", policy: get().await?, argo: "Healthy", flux: "Current", says: "Auditing" });
    operator.stop().await?;

    stage.policy("standard", &spec("labels: { team: front }")).await?;
    cases.push(Case { name: "changed since", policy: get().await?, argo: "Progressing", flux: "InProgress", says: "has not looked at" });

    let page = std::fs::read_to_string(root().join("docs/gitops.md"))?;
    let [argo_cm, kustomization] = yaml_blocks(&page)?.try_into().map_err(|blocks| anyhow::anyhow!("other blocks than two: {blocks:?}"))?;
    for kind in ["PodPolicy", "ClusterPodPolicy"] {
        let script = argo_cm["data"][format!("resource.customizations.health.podpolicy.dev_{kind}")].as_str().context("no script")?;
        let checks = kustomization["spec"]["healthCheckExprs"].as_array().context("no expressions")?;
        let check = checks.iter().find(|check| check["kind"] == kind).context("no expressions for the kind")?;
        assert_eq!(check["apiVersion"], "podpolicy.dev/v1alpha1");
        for Case { name, policy, argo, flux, says } in &cases {
            let (status, message) = argo_health(script, policy)?;
            assert_eq!(status, *argo, "Argo CD, {name}: {policy:#}");
            assert!(message.contains(says), "Argo CD, {name}: {message}");
            assert_eq!(flux_status(check, policy)?, *flux, "Flux, {name}: {policy:#}");
            // An object without conditions is done to kstatus.
            let wanted = if *name == "new" { "Current" } else { flux };
            assert_eq!(kstatus(policy), wanted, "kstatus, {name}: {policy:#}");
        }
    }
    Ok(())
}

/// Helm's `--wait` is the real kstatus.
#[tokio::test(flavor = "multi_thread")]
async fn helm_waits_until_a_change_is_in_force_and_fails_when_it_cannot_be() -> anyhow::Result<()> {
    let stage = Stage::set("helm").await?;
    let operator = stage.operator().await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let helm = Helm::new(shared().await.kubeconfig_path(), stage.name())?;
    helm.call(&["install"], "shop", "labels: { team: shop }")?;
    stage.status("standard", "in force", |status| verdict(status, "Ready") == "True InForce").await?;

    let writes = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods") && exchange.name == "web");
    let waiting = {
        let helm = helm.clone();
        tokio::task::spawn_blocking(move || helm.call(&["upgrade", "--wait", "--timeout", "60s"], "shop", "labels: { team: front }"))
    };
    stage.status("standard", "being written", |status| verdict(status, "Reconciling") == "True Progressing").await?;
    // A while in which it could have taken the policy for done.
    stage.create_pod("another", &[("app", "other")]).await?;
    stage.policy("others", "{ selector: { matchLabels: { app: other } }, annotations: { example.com/a: b } }").await?;
    stage.settled("others", 1).await?;
    assert!(!waiting.is_finished(), "it does not wait");
    writes.end();
    waiting.await??;
    let status = stage.policies.get("standard").await?.status.context("it has been looked at")?;
    assert_eq!((status.observed_generation, verdict(&status, "Ready").as_str()), (Some(2), "True InForce"));

    let refused = tokio::task::spawn_blocking(move || {
        helm.call(&["upgrade", "--wait", "--timeout", "15s"], "shop", "labels: { team: front, pod-template-hash: '1' }")
    });
    let error = refused.await?.expect_err("the policy is refused").to_string();
    assert!(error.contains("standard") && error.contains("Failed"), "{error}");
    operator.stop().await
}

/// The real helm, with a chart that is one policy.
#[derive(Clone)]
struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    directory: Arc<TempDir>,
}

impl Helm {
    fn new(kubeconfig: &Path, namespace: &str) -> anyhow::Result<Self> {
        let built = Command::new(root().join("e2e/manifest-tools/build.sh")).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(built.status.success(), "helm cannot be built; see above");
        let program = Path::new(String::from_utf8(built.stdout)?.trim_end()).join("helm");
        let directory = Arc::new(TempDir::new()?);
        std::fs::create_dir(directory.path().join("templates"))?;
        std::fs::write(directory.path().join("Chart.yaml"), "apiVersion: v2\nname: policies\nversion: 0.1.0\n")?;
        Ok(Self { program, kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned(), directory })
    }

    /// Installs or upgrades the release to a policy that says this.
    fn call(&self, verb: &[&str], release: &str, says: &str) -> anyhow::Result<()> {
        let policy = format!(
            "apiVersion: podpolicy.dev/v1alpha1\nkind: PodPolicy\nmetadata: {{ name: standard }}\nspec: {{ selector: {{ matchLabels: {{ app: web }} }}, {says} }}\n"
        );
        std::fs::write(self.directory.path().join("templates/policy.yaml"), policy)?;
        let mut command = Command::new(&self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.directory.path().join("home"));
        }
        command.args(verb).arg(release).arg(self.directory.path()).args(["--namespace", &self.namespace]);
        let output = command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null()).output()?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "helm {verb:?} ended with {}: {stdout}{stderr}", output.status);
        Ok(())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml_blocks(page: &str) -> anyhow::Result<Vec<Value>> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    blocks.map(|block| serde_saphyr::from_str(block).with_context(|| format!("no YAML:\n{block}"))).collect()
}

/// Status and message of a health script, run by the interpreter that Argo CD uses, with the object as the global `obj`.
fn argo_health(script: &str, object: &Value) -> anyhow::Result<(String, String)> {
    let interpreter = Command::new(root().join("e2e/lua/build.sh")).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(interpreter.status.success(), "the interpreter cannot be built; see above");
    let directory = TempDir::new()?;
    let file = directory.path().join("health.lua");
    let text =
        format!("obj = {}\nlocal health = (function()\n{script}\nend)()\nprint(health.status)\nprint(health.message)\n", lua(object));
    std::fs::write(&file, &text)?;
    let output = Command::new(String::from_utf8(interpreter.stdout)?.trim_end()).arg(&file).stdin(Stdio::null()).output()?;
    let stdout = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{text}\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let (status, message) = stdout.trim_end().split_once('\n').with_context(|| format!("no two lines: {stdout}"))?;
    Ok((status.to_owned(), message.to_owned()))
}

/// The value as Lua has it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => {
            let mut quoted = String::from("\"");
            for byte in text.bytes() {
                let _ = write!(quoted, "\\{byte:03}");
            }
            quoted + "\""
        }
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("[{}] = {}", lua(&json!(key)), lua(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// What Flux makes of the object by these expressions: it compares the generations, and asks in this order.
fn flux_status(check: &Value, object: &Value) -> anyhow::Result<&'static str> {
    if is_behind(object) {
        return Ok("InProgress");
    }
    for (name, status) in [("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")] {
        let Some(expression) = check[name].as_str() else { continue };
        let program = Program::compile(expression).map_err(|error| anyhow::anyhow!("{expression}: {error}"))?;
        let mut context = Context::default();
        for (key, value) in object.as_object().context("an object")? {
            context.add_variable(key.as_str(), value.clone()).map_err(|error| anyhow::anyhow!("{key}: {error}"))?;
        }
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => return Ok(status),
            Ok(Cel::Bool(false)) => {}
            // Flux takes it for unknown, and looks again.
            Err(_) if object["status"].is_null() => return Ok("InProgress"),
            other => anyhow::bail!("{expression}: {other:?}"),
        }
    }
    Ok("InProgress")
}

/// The rules of kstatus for kinds that it does not know.
fn kstatus(object: &Value) -> &'static str {
    let is_true = |kind: &str| condition(object, kind) == Some("True");
    if is_behind(object) || is_true("Reconciling") {
        "InProgress"
    } else if is_true("Stalled") {
        "Failed"
    } else if condition(object, "Ready").is_some_and(|status| status != "True") {
        "InProgress"
    } else {
        "Current"
    }
}

fn is_behind(object: &Value) -> bool {
    let observed = &object["status"]["observedGeneration"];
    !observed.is_null() && *observed != object["metadata"]["generation"]
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}
