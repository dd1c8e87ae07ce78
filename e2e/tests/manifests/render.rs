//! Objects as kustomize and helm render them. Must never change a file of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// What can be added to the default: the component's folder in `config/`, and the chart's value.
pub(crate) const OPTIONS: [(&str, &str); 6] = [
    ("components/evict", "rollout.evict"),
    ("components/restart", "rollout.restart"),
    ("grafana", "grafanaDashboard"),
    ("network-policy", "networkPolicy"),
    ("prometheus", "prometheus"),
    ("certmanager", "certManager"),
];

/// Rendered objects, by kind, namespace and name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder with kustomize and helm, which are built if need be.
pub(crate) fn tools() -> anyhow::Result<&'static Path> {
    static TOOLS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        let script = root().join("e2e/manifest-tools/build.sh");
        let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("{} ended with {}; see above", script.display(), output.status));
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
    };
    TOOLS.get_or_init(build).as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// A kustomization of a user's own.
pub(crate) struct Overlay(podpolicy_e2e::Overlay);

impl Overlay {
    pub(crate) fn new(components: &[&str], more: &str) -> anyhow::Result<Self> {
        podpolicy_e2e::Overlay::new(components, more).map(Self)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path()
    }

    pub(crate) fn objects(&self) -> anyhow::Result<Objects> {
        kustomize(self.path())
    }
}

/// What `kustomize build FOLDER` renders.
pub(crate) fn kustomize(folder: &str) -> anyhow::Result<Objects> {
    objects(&output(Command::new(tools()?.join("kustomize")).args(["build", folder]))?)
}

/// What `helm template` renders with these values.
pub(crate) fn helm(namespace: &str, values: &[&str]) -> anyhow::Result<Objects> {
    objects(&helm_text(namespace, values)?)
}

pub(crate) fn helm_text(namespace: &str, values: &[&str]) -> anyhow::Result<String> {
    let home = TempDir::new()?;
    let mut command = Command::new(tools()?.join("helm"));
    command.args(["template", "podpolicy", "charts/podpolicy", "--namespace", namespace]);
    for value in values {
        command.args(["--set", value]);
    }
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    output(&mut command)
}

/// What a command prints; an error with all that it says when it fails.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.current_dir(root()).stdin(Stdio::null()).output().with_context(|| format!("{command:?} does not start"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ended with {}: {stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}

pub(crate) fn objects(text: &str) -> anyhow::Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("what was rendered is no YAML")?;
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|document| !document.is_null()) {
        let say = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let key = format!("{} {} {}", say("/kind"), say("/metadata/namespace"), say("/metadata/name"));
        ensure!(objects.insert(key.clone(), object).is_none(), "{key} is rendered twice");
    }
    ensure!(!objects.is_empty(), "nothing is rendered");
    Ok(objects)
}

#[test]
fn kubectl_renders_what_kustomize_renders() -> anyhow::Result<()> {
    let control_plane = output(&mut Command::new("e2e/control-plane/build.sh"))?;
    let kubectl = Path::new(control_plane.trim_end()).join("kubectl");
    let rendered = objects(&output(Command::new(kubectl).args(["kustomize", "config/default"]))?)?;
    assert_eq!(rendered, kustomize("config/default")?);
    Ok(())
}

#[test]
fn operator_moves_to_another_namespace_as_a_whole() -> anyhow::Result<()> {
    for (component, _) in OPTIONS {
        let objects = Overlay::new(&[component], "namespace: elsewhere\n")?.objects()?;
        let mut text = serde_json::to_string_pretty(&objects)?;
        // Whom the certificate is for has to be changed by hand.
        text = text.lines().filter(|line| !line.contains(".svc")).collect::<Vec<_>>().join("\n");
        assert!(!text.contains("podpolicy-system"), "{component}: {text}");
        let names: BTreeSet<_> = objects.keys().filter(|key| key.starts_with("Namespace")).cloned().collect();
        assert_eq!(names, BTreeSet::from(["Namespace - elsewhere".to_owned()]));
    }
    Ok(())
}

#[test]
fn image_has_the_version_of_the_program() -> anyhow::Result<()> {
    let objects = kustomize("config/default")?;
    let image = &objects["Deployment podpolicy-system podpolicy"]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &format!("podpolicy:{}", env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn prometheus_verifies_the_operator_once_cert_manager_makes_its_certificate() -> anyhow::Result<()> {
    let monitor = |components: &[&str]| -> anyhow::Result<Value> {
        Ok(Overlay::new(components, "")?.objects()?["ServiceMonitor podpolicy-system podpolicy"]["spec"].clone())
    };
    let (alone, verified) = (monitor(&["prometheus"])?, monitor(&["prometheus", "certmanager"])?);
    let mut wanted = alone.clone();
    assert_eq!(wanted["endpoints"][0]["tlsConfig"], serde_json::json!({ "insecureSkipVerify": true }));
    wanted["endpoints"][0]["tlsConfig"] = verified["endpoints"][0]["tlsConfig"].clone();
    assert_eq!(verified, wanted, "nothing else differs");
    let objects = Overlay::new(&["prometheus", "certmanager"], "")?.objects()?;
    let tls = &verified["endpoints"][0]["tlsConfig"];
    let certificate = &objects["Certificate podpolicy-system podpolicy-webhook"]["spec"];
    assert!(certificate["dnsNames"].as_array().unwrap().contains(&tls["serverName"]), "{certificate:#}");
    assert_eq!(tls["ca"]["secret"]["name"], certificate["secretName"]);
    let deployment = &objects["Deployment podpolicy-system podpolicy"]["spec"]["template"]["spec"];
    assert_eq!(deployment["volumes"][0]["secret"]["secretName"], certificate["secretName"]);
    let service = &objects["Service podpolicy-system podpolicy-metrics"]["metadata"];
    assert_eq!(tls["serverName"], format!("{}.{}.svc", service["name"].as_str().unwrap(), service["namespace"].as_str().unwrap()));
    Ok(())
}

#[test]
fn samples_are_rendered() -> anyhow::Result<()> {
    kustomize("config/samples").map(drop)
}
