//! The harness itself: that its control plane is a real one, counts right, and leaves nothing behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::objects::{self, FIELD_MANAGER, apply};
use podpolicy_e2e::requests::Codes;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, Options, Process, Requests, TestNamespace, WATCHED, shared};
use serde_json::json;
use tempfile::TempDir;

const BARE: Options = Options { crds: false, controller_manager: false };

#[tokio::test]
async fn deployment_becomes_pods() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "deployment").await?;
    let deployment = "
        apiVersion: apps/v1
        kind: Deployment
        metadata: { name: web }
        spec:
          replicas: 3
          selector: { matchLabels: { app: web } }
          template:
            metadata: { labels: { app: web } }
            spec: { containers: [{ name: web, image: example.invalid/web }] }
    ";
    apply(&plane.client(), namespace.name(), deployment).await?;

    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    eventually("three pods", DEADLINE, async || {
        let names: Vec<_> = pods.list(&ListParams::default()).await?.iter().map(kube::ResourceExt::name_any).collect();
        Ok(Seen::when(names.len() == 3, names))
    })
    .await?;
    namespace.delete().await
}

#[tokio::test]
async fn kubectl_and_server_are_of_the_pinned_version() -> anyhow::Result<()> {
    let plane = shared().await;
    let versions: serde_json::Value = serde_json::from_str(&plane.kubectl_output(&["version", "-o", "json"])?)?;
    assert_eq!(versions["serverVersion"]["gitVersion"], "v1.36.3");
    assert_eq!(versions["clientVersion"]["gitVersion"], "v1.36.3");

    let info: Info = plane.client().apiserver_version().await?;
    assert_eq!(info.git_version, "v1.36.3");
    Ok(())
}

#[tokio::test]
async fn error_of_kubectl_is_passed_on() {
    let error = shared().await.kubectl_output(&["get", "pod", "nobody"]).unwrap_err();
    assert!(error.to_string().contains("pods \"nobody\" not found"), "{error}");
}

#[tokio::test]
async fn definitions_of_the_project_are_served() -> anyhow::Result<()> {
    let plane = shared().await;
    for plural in ["podpolicies", "clusterpodpolicies"] {
        plane.kubectl_output(&["get", &format!("{plural}.podpolicy.dev"), "--all-namespaces"])?;
    }
    Ok(())
}

#[tokio::test]
async fn definitions_are_served_once_installed() -> anyhow::Result<()> {
    let plane = shared().await;
    let directory = TempDir::new()?;
    let definition = "
        apiVersion: apiextensions.k8s.io/v1
        kind: CustomResourceDefinition
        metadata: { name: lamps.example.com }
        spec:
          group: example.com
          scope: Namespaced
          names: { kind: Lamp, plural: lamps }
          versions:
            - name: v1
              served: true
              storage: true
              schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
    ";
    fs::write(directory.path().join("lamps.yaml"), definition)?;
    plane.install_crds(directory.path()).await?;

    let namespace = TestNamespace::create(&plane.config(), "definitions").await?;
    let lamp = "{ apiVersion: example.com/v1, kind: Lamp, metadata: { name: desk }, spec: { lit: true } }";
    let applied = apply(&plane.client(), namespace.name(), lamp).await?;
    assert_eq!(applied[0].data["spec"]["lit"], true);
    assert_eq!(applied[0].namespace().as_deref(), Some(namespace.name()));
    Ok(())
}

#[tokio::test]
async fn directory_without_definitions_is_an_error() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let error = shared().await.install_crds(directory.path()).await.unwrap_err();
    assert!(error.to_string().contains("holds no *.yaml"), "{error}");
    Ok(())
}

#[tokio::test]
async fn user_has_the_rights_of_the_groups() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "rights").await?;
    let pods: Api<Pod> = Api::namespaced(plane.client_as("jane", &["readers"]), namespace.name());
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("User \"jane\" cannot list resource \"pods\""), "{refused}");

    let rights = "
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata: { name: reader }
        rules: [{ apiGroups: [''], resources: [pods], verbs: [list] }]
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: RoleBinding
        metadata: { name: reader }
        roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
        subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: readers }]
    ";
    apply(&plane.client(), namespace.name(), rights).await?;
    eventually("jane's right to list pods", DEADLINE, async || {
        Ok(match pods.list(&ListParams::default()).await {
            Ok(_) => Seen::Done(()),
            Err(error) => Seen::NotYet(error.to_string()),
        })
    })
    .await
}

#[tokio::test]
async fn deleted_namespace_goes_with_pods_that_a_finalizer_holds() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "deleted").await?;
    let name = namespace.name().to_owned();
    let pods: Api<Pod> = Api::namespaced(plane.client(), &name);
    let mut held = objects::pod("held", &[]);
    held.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    pods.create(&PostParams::default(), &held).await?;
    pods.create(&PostParams::default(), &objects::pod("free", &[])).await?;
    pods.delete("held", &DeleteParams::default()).await?;

    namespace.delete().await?;
    assert_eq!(pods.list(&ListParams::default()).await?.items.len(), 0);
    let namespaces: Api<Namespace> = Api::all(plane.client());
    eventually("the namespace to go", DEADLINE, async || {
        let namespace = namespaces.get_opt(&name).await?;
        Ok(Seen::when(namespace.is_none(), namespace))
    })
    .await
}

#[tokio::test]
async fn namespace_that_is_dropped_loses_its_pods() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "dropped").await?;
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    pods.create(&PostParams::default(), &objects::pod("web", &[])).await?;
    objects::set_ready(&pods, "web").await?;

    drop(namespace);
    assert_eq!(pods.list(&ListParams::default()).await?.items.len(), 0);
    Ok(())
}

#[tokio::test]
async fn status_is_set_and_waited_for() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "status").await?;
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    pods.create(&PostParams::default(), &objects::pod("web", &[("app", "web")])).await?;

    let phase = |wanted: &'static str| move |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(wanted);
    let wait = podpolicy_e2e::wait::object(&pods, "web", "the pod to fail", DEADLINE, phase("Failed"));
    let (pod, set) = tokio::join!(wait, objects::set_phase(&pods, "web", "Failed"));
    assert_eq!(pod?.unwrap().labels()["app"], "web");
    set?;

    let brief = Duration::from_millis(500);
    let error = podpolicy_e2e::wait::object(&pods, "web", "the pod to run", brief, phase("Running")).await.unwrap_err();
    assert!(error.to_string().contains("phase: Failed"), "{error}");
    Ok(())
}

#[tokio::test]
async fn every_request_is_counted_once() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let client = plane.client();
    let namespace = TestNamespace::create(&plane.config(), "requests").await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    pods.create(&PostParams::default(), &objects::pod("web", &[])).await?;

    let before = Requests::settled(&client, "pods").await?;
    let patch = |number: u32| json!({ "metadata": { "labels": { "number": number.to_string() } } });
    for number in 0..7 {
        pods.patch("web", &PatchParams::default(), &Patch::Merge(patch(number))).await?;
    }
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    pods.patch("web", &dry_run, &Patch::Merge(patch(7))).await?;
    for number in 0..3 {
        let mut applied = patch(number);
        applied["apiVersion"] = "v1".into();
        applied["kind"] = "Pod".into();
        pods.patch("web", &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(applied)).await?;
    }
    objects::set_phase(&pods, "web", "Running").await?;
    objects::set_phase(&pods, "web", "Failed").await?;
    pods.patch("nobody", &PatchParams::default(), &Patch::Merge(patch(8))).await.unwrap_err();
    pods.list(&ListParams::default()).await?;

    let sent = Requests::settled(&client, "pods").await?.since(&before);
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Success), 7 + 1, "{sent}");
    assert_eq!(sent.matching(|request| request.dry_run), 1, "{sent}");
    assert_eq!(sent.count("PATCH", "pods", "", Codes::Only(404)), 1, "{sent}");
    assert_eq!(sent.count("APPLY", "pods", "", Codes::Any), 3, "{sent}");
    assert_eq!(sent.count("PATCH", "pods", "status", Codes::Any), 2, "{sent}");
    assert_eq!(sent.count("LIST", "pods", "", Codes::Any), 1, "{sent}");
    assert_eq!(sent.writes("pods"), 8 + 1 + 3 + 2, "{sent}");
    // More when the API server tried with an old state from its cache first.
    assert!(sent.etcd("update", "pods") >= 7 + 3 + 2, "{sent:?}");
    assert!(sent.memory() > 10_000_000, "{sent:?}");

    let watch = pods.watch(&WatchParams::default(), "0").await?;
    let watched = Requests::settled(&client, "pods").await?.since(&before);
    assert_eq!(watched.count("WATCH", "pods", "", Codes::Any), 0, "a watch is counted when it ends: {watched}");
    drop(watch);
    eventually("the watch to be counted", DEADLINE, async || {
        let watched = Requests::read(&client).await?.since(&before);
        Ok(Seen::when(watched.count("WATCH", "pods", "", Codes::Any) == 1, watched.to_string()))
    })
    .await?;

    let after = Requests::settled(&client, "pods").await?;
    assert_eq!(Requests::settled(&client, "pods").await?.since(&after).writes("pods"), 0);
    Ok(())
}

#[tokio::test]
async fn server_that_is_paused_does_not_answer_and_goes_on_afterwards() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let namespaces: Api<Namespace> = Api::all(plane.client());
    plane.api_server().pause()?;
    let brief = Duration::from_millis(500);
    assert!(tokio::time::timeout(brief, namespaces.get("default")).await.is_err());
    plane.api_server().resume()?;
    namespaces.get("default").await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_a_control_plane_that_is_dropped() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: false, controller_manager: true }).await?;
    let namespaces: Api<Namespace> = Api::all(plane.client());
    let _watch = namespaces.watch(&WatchParams::default(), "0").await?;

    let mut traces = Traces::of(plane.etcd());
    traces.add(plane.api_server());
    traces.add(plane.controller_manager().context("it was asked for")?);
    traces.paths.push(plane.directory().to_owned());
    assert_eq!((traces.processes.len(), traces.paths.len()), (3, 3), "{traces:?}");

    let start = Instant::now();
    drop(plane);
    assert_eq!(traces.left(), Vec::<String>::new());
    // A server that was only asked to end would wait for the watch.
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_is_killed() -> anyhow::Result<()> {
    let temporary = TempDir::new()?;
    let mut child = Running::start(&temporary, &["--without-crds"])?;
    child.kubeconfig()?;
    let traces = Traces::of(child.process()?);
    for program in ["control-plane", "etcd", "kube-apiserver", "kube-controller-manager", "podpolicy-e2e-watchdog"] {
        let runs = |process: &Process| process.arguments().iter().any(|argument| argument.ends_with(program));
        assert!(traces.processes.iter().any(runs), "{program} is missing: {traces:?}");
    }

    child.process()?.kill()?;
    child.wait_for_nothing_left(&traces, &temporary).await
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_is_killed_while_it_starts() -> anyhow::Result<()> {
    let temporary = TempDir::new()?;
    let child = Running::start(&temporary, &["--without-crds"])?;
    let process = child.process()?;
    let traces = eventually("etcd and kube-apiserver to be started", DEADLINE, async || {
        let traces = Traces::of(process);
        let watched = watched(&temporary)?;
        // envtest's directories are in the arguments of the servers.
        let is_started = traces.paths.len() == 2 && watched == 2;
        Ok(if is_started { Seen::Done(traces) } else { Seen::NotYet(format!("{traces:?}, {watched} of them watched")) })
    })
    .await?;

    process.kill()?;
    child.wait_for_nothing_left(&traces, &temporary).await
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_is_asked_to_end() -> anyhow::Result<()> {
    let temporary = TempDir::new()?;
    let copy = temporary.path().join("copy of the kubeconfig");
    let mut child =
        Running::start(&temporary, &["--without-crds", "--without-controller-manager", "--kubeconfig", copy.to_str().unwrap()])?;
    assert_eq!(child.kubeconfig()?, copy);
    let traces = Traces::of(child.process()?);

    child.process()?.terminate()?;
    assert!(child.child.wait()?.success());
    child.wait_for_nothing_left(&traces, &temporary).await
}

#[tokio::test]
async fn end_of_standard_input_ends_it_when_asked() -> anyhow::Result<()> {
    let temporary = TempDir::new()?;
    let mut child = Running::start(&temporary, &["--without-crds", "--without-controller-manager", "--until-stdin-closes"])?;
    child.kubeconfig()?;
    let traces = Traces::of(child.process()?);

    drop(child.child.stdin.take());
    assert!(child.child.wait()?.success());
    child.wait_for_nothing_left(&traces, &temporary).await
}

/// How many servers the watchdog of the control plane in this directory was told of.
fn watched(temporary: &TempDir) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(temporary)? {
        count += fs::read_to_string(entry?.path().join(WATCHED)).unwrap_or_default().lines().count();
    }
    Ok(count)
}

/// The control-plane binary as a child, with a temporary directory of its own; killed when it is dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(temporary: &TempDir, arguments: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child })
    }

    fn process(&self) -> anyhow::Result<Process> {
        Process::of(self.child.id()).context("it has ended")
    }

    /// The path that it prints when the control plane is up.
    fn kubeconfig(&mut self) -> anyhow::Result<PathBuf> {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().context("it was read before")?).read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "it ended before it was up");
        Ok(line.trim_end().into())
    }

    async fn wait_for_nothing_left(mut self, traces: &Traces, temporary: &TempDir) -> anyhow::Result<()> {
        self.child.wait()?;
        eventually("processes and files to go", DEADLINE, async || {
            let mut left = traces.left();
            left.extend(fs::read_dir(temporary)?.map(|entry| format!("{entry:?}")));
            Ok(Seen::when(left.is_empty(), left))
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes and directories that have to go.
#[derive(Debug, Default)]
struct Traces {
    processes: Vec<Process>,
    paths: Vec<PathBuf>,
}

impl Traces {
    /// Those of a process and of its children.
    fn of(process: Process) -> Self {
        let mut traces = Self::default();
        traces.add(process);
        traces
    }

    fn add(&mut self, process: Process) {
        for argument in process.arguments() {
            let directory = argument.strip_prefix("--data-dir=").or_else(|| argument.strip_prefix("--cert-dir="));
            self.paths.extend(directory.map(PathBuf::from));
        }
        self.processes.push(process);
        for child in process.children() {
            self.add(child);
        }
    }

    fn left(&self) -> Vec<String> {
        let processes = self.processes.iter().filter(|process| process.is_alive()).map(|process| process.arguments().join(" "));
        let paths = self.paths.iter().map(PathBuf::as_path).filter(|path| Path::exists(path)).map(|path| path.display().to_string());
        processes.chain(paths).collect()
    }
}
