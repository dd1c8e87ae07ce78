//! PodPolicy as a part of other tools: a function of kustomize, a post-renderer of helm, hooks of pre-commit. The tools are the real ones.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use podpolicy_e2e::program;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::render::{Objects, objects, output, root, tools};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web # the only one
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - {name: web, image: example.invalid/web, ports: [{name: http, containerPort: 80}]}
";

const POLICY: &str = r#"apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata:
  name: standard
  namespace: shop
  annotations: {config.kubernetes.io/function: "exec: {path: ./podpolicy-function}"}
spec:
  selector: {matchLabels: {app: web}}
  labels: {team: shop}
  terminationGracePeriodSeconds: 45
  containers: [{readinessProbe: {httpGet: {path: /ready, port: http}}}]
"#;

/// A folder of a user's.
struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = Self(TempDir::new()?);
        for (name, text) in files {
            folder.write(name, text)?;
        }
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("in a folder")?)?;
        Ok(fs::write(path, text)?)
    }
}

/// The search path with the program in it, under its own name.
fn search_path(folder: &Path) -> anyhow::Result<std::ffi::OsString> {
    let link = folder.join("bin/podpolicy");
    if !link.exists() {
        fs::create_dir_all(folder.join("bin"))?;
        symlink(fs::canonicalize(program()?)?, &link)?;
    }
    let usual = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([folder.join("bin")].into_iter().chain(env::split_paths(&usual)))?)
}

fn kustomize(folder: &Folder) -> anyhow::Result<Command> {
    let link = folder.path("podpolicy-function");
    if !link.exists() {
        symlink(fs::canonicalize(program()?)?, link)?;
    }
    let mut command = Command::new(tools()?.join("kustomize"));
    command.args(["build", "--enable-alpha-plugins", "--enable-exec"]).arg(folder.0.path());
    Ok(command)
}

fn template(objects: &Objects, key: &str) -> Value {
    objects[key]["spec"]["template"].clone()
}

fn wanted() -> Value {
    json!({
        "metadata": { "labels": { "app": "web", "team": "shop" } },
        "spec": {
            "terminationGracePeriodSeconds": 45,
            "containers": [{
                "name": "web",
                "image": "example.invalid/web",
                "ports": [{ "name": "http", "containerPort": 80 }],
                "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" } },
            }],
        },
    })
}

#[test]
fn policy_is_a_transformer_of_kustomize() -> anyhow::Result<()> {
    let kustomization = "namespace: shop\nresources: [web.yaml]\ntransformers: [policy.yaml]\n";
    let folder = Folder::with(&[("web.yaml", DEPLOYMENT), ("policy.yaml", POLICY), ("kustomization.yaml", kustomization)])?;
    let rendered = objects(&output(&mut kustomize(&folder)?)?)?;
    assert_eq!(template(&rendered, "Deployment shop web"), wanted());
    assert_eq!(rendered.len(), 1, "the policy itself is no resource");
    Ok(())
}

#[test]
fn policies_among_the_resources_of_kustomize_apply() -> anyhow::Result<()> {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: podpolicy\n  annotations: {config.kubernetes.io/function: 'exec: {path: ./podpolicy-function}'}\ndata: {namespace: shop}\n";
    let plain = POLICY.lines().filter(|line| !line.contains("annotations")).collect::<Vec<_>>().join("\n");
    let kustomization = "resources: [web.yaml, policy.yaml]\ntransformers: [function.yaml]\n";
    let folder = Folder::with(&[
        ("web.yaml", DEPLOYMENT),
        ("policy.yaml", &plain),
        ("function.yaml", config),
        ("kustomization.yaml", kustomization),
    ])?;
    let rendered = objects(&output(&mut kustomize(&folder)?)?)?;
    assert_eq!(template(&rendered, "Deployment - web"), wanted());
    Ok(())
}

#[test]
fn kustomize_fails_where_a_policy_has_a_mistake() -> anyhow::Result<()> {
    let kustomization = "namespace: shop\nresources: [web.yaml]\ntransformers: [policy.yaml]\n";
    let policy = POLICY.replace("readinessProbe", "readinesProbe");
    let folder = Folder::with(&[("web.yaml", DEPLOYMENT), ("policy.yaml", &policy), ("kustomization.yaml", kustomization)])?;
    let output = kustomize(&folder)?.stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && output.stdout.is_empty(), "{told}");
    ensure!(told.contains("did you mean readinessProbe?"), "{told}");
    Ok(())
}

/// Helm 4 with the plugin of this project, and its chart of a web server.
fn helm(folder: &Folder, arguments: &[&str]) -> anyhow::Result<Command> {
    let plugins = folder.path("plugins");
    fs::create_dir_all(&plugins)?;
    if !plugins.join("podpolicy").exists() {
        symlink(root().join("plugins/helm"), plugins.join("podpolicy"))?;
    }
    let mut command = Command::new(tools()?.join("helm"));
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, folder.path("home"));
    }
    command.args(["template", "web"]).arg(folder.path("chart")).args(["--namespace", "shop"]).args(arguments);
    command.env("HELM_PLUGINS", plugins).env("PATH", search_path(folder.0.path())?);
    Ok(command)
}

#[test]
fn helm_renders_through_the_plugin() -> anyhow::Result<()> {
    let chart = "apiVersion: v2\nname: web\nversion: 1.0.0\n";
    let templates = DEPLOYMENT.replace("name: web #", "name: {{ .Release.Name }} #");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let folder = Folder::with(&[
        ("chart/Chart.yaml", chart),
        ("chart/templates/web.yaml", &templates),
        ("chart/templates/service.yaml", service),
        ("policy.yaml", POLICY),
    ])?;
    let policy = folder.path("policy.yaml");
    let argument = format!("--post-renderer-args=-p={}", policy.display());
    let through = ["--post-renderer", "podpolicy", &argument, "--post-renderer-args=-n=shop"];
    let rendered = objects(&output(&mut helm(&folder, &through)?)?)?;
    assert_eq!(template(&rendered, "Deployment - web"), wanted());
    let plain = objects(&output(&mut helm(&folder, &[])?)?)?;
    assert_eq!(rendered["Service - web"], plain["Service - web"]);
    assert_eq!(rendered.len(), plain.len());

    fs::write(&policy, POLICY.replace("labels:", "lables:"))?;
    let failed = helm(&folder, &through)?.stdin(Stdio::null()).output()?;
    ensure!(!failed.status.success(), "a mistake in a policy fails the release");
    Ok(())
}

#[test]
fn plugin_of_helm_has_the_version_of_the_program() -> anyhow::Result<()> {
    let plugin: Value = serde_saphyr::from_str(&fs::read_to_string(root().join("plugins/helm/plugin.yaml"))?)?;
    assert_eq!(plugin["version"], env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[test]
#[allow(clippy::print_stdout, reason = "says why nothing was tried")]
fn hooks_of_pre_commit_show_changes_and_make_them() -> anyhow::Result<()> {
    if Command::new("pre-commit").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: pre-commit is not installed (pip install pre-commit)");
        return Ok(());
    }
    let hooks = Folder::with(&[(".pre-commit-hooks.yaml", &fs::read_to_string(root().join(".pre-commit-hooks.yaml"))?)])?;
    let revision = repository(&hooks)?;
    let config = |hook: &str| {
        let repo = hooks.0.path().display();
        format!("repos:\n- repo: {repo}\n  rev: {revision}\n  hooks: [{{id: {hook}, args: [-n, shop, deploy, policy.yaml]}}]\n")
    };
    let user =
        Folder::with(&[("deploy/web.yaml", DEPLOYMENT), ("policy.yaml", POLICY), (".pre-commit-config.yaml", &config("podpolicy-diff"))])?;
    repository(&user)?;
    let home = TempDir::new()?;
    let run = || -> anyhow::Result<(bool, String)> {
        let mut command = Command::new("pre-commit");
        command.args(["run", "--all-files"]).current_dir(user.0.path()).env("PATH", search_path(home.path())?);
        let output = command.env("PRE_COMMIT_HOME", home.path().join("cache")).stdin(Stdio::null()).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)))
    };
    let (fine, told) = run()?;
    ensure!(!fine && told.contains("+      terminationGracePeriodSeconds: 45"), "{told}");
    ensure!(fs::read_to_string(user.path("deploy/web.yaml"))? == DEPLOYMENT, "diff writes nothing");
    user.write(".pre-commit-config.yaml", &config("podpolicy-render"))?;
    git(&user, &["add", "--all"])?;
    let (fine, told) = run()?;
    ensure!(!fine && told.contains("files were modified"), "{told}");
    git(&user, &["add", "--all"])?;
    let (fine, told) = run()?;
    ensure!(fine, "{told}");
    Ok(())
}

/// Makes the folder a git repository of one commit.
fn repository(folder: &Folder) -> anyhow::Result<String> {
    git(folder, &["init", "--quiet"])?;
    git(folder, &["add", "--all"])?;
    git(folder, &["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "a"])?;
    Ok(git(folder, &["rev-parse", "HEAD"])?.trim_end().to_owned())
}

fn git(folder: &Folder, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(arguments).current_dir(folder.0.path()).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
