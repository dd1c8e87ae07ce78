//! What only the whole program does: flags, environment, exit codes, signals, endpoints, logs, and coming up in a cluster that is not
//! ready yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::{ClusterPodPolicy, FindingReason, PodPolicy};
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::settled;
use podpolicy_e2e::requests::Codes;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, Operator, Options, Proxy, Requests, TestNamespace, program, shared};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BARE: Options = Options { crds: true, controller_manager: false };

/// How long an operator that has nothing to do may take to end.
const PROMPT: Duration = Duration::from_secs(5);

const LABEL: &str = "
    apiVersion: podpolicy.dev/v1alpha1
    kind: PodPolicy
    metadata: { name: label }
    spec: { selector: {}, labels: { team: shop } }
";

#[tokio::test]
async fn sigterm_and_sigint_end_it_with_exit_code_0() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "signals").await?;
    for signal in [Signal::TERM, Signal::INT] {
        let mut operator = Operator::spawn(plane.kubeconfig_path(), &in_namespace(&namespace), &[])?;
        says(&operator, "listed everything").await?;
        send(&operator, signal)?;
        let status = operator.wait(PROMPT).await?;
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", operator.output());
        assert!(operator.output().trim_end().ends_with("stopped"), "{}", operator.output());
    }
    Ok(())
}

#[tokio::test]
async fn signal_ends_it_while_it_waits_for_the_api_server() -> anyhow::Result<()> {
    let plane = shared().await;
    let (door, directory) = (Proxy::to(plane, false).await?, TempDir::new()?);
    let kubeconfig = directory.path().join("kubeconfig");
    door.write_kubeconfig(plane, &kubeconfig)?;
    let mut operator = Operator::spawn(&kubeconfig, &anywhere(), &[])?;
    says(&operator, "could not watch pods").await?;
    operator.terminate()?;
    assert_eq!(operator.wait(PROMPT).await?.code(), Some(0), "{}", operator.output());
    Ok(())
}

#[tokio::test]
async fn writes_under_way_are_finished_before_it_ends() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let namespace = TestNamespace::create(&plane.config(), "finishes").await?;
    let (mut operator, pods) = paused_half_way(&plane, &namespace).await?;
    operator.terminate()?;
    says(&operator, "stopping; finishing writes").await?;
    assert!(operator.process().is_alive(), "{}", operator.output());
    plane.api_server().resume()?;
    assert_eq!(operator.wait(PROMPT).await?.code(), Some(0), "{}", operator.output());

    let under_way = number_after(&operator.output(), "under_way=").context("the log does not say how many writes were under way")?;
    assert!((1..=5).contains(&under_way), "at most 4 pods at once, and the status: {}", operator.output());
    let requests = Requests::settled(&plane.client(), "pods").await?;
    let labelled = pods.list(&ListParams::default().labels("team=shop")).await?.items.len();
    assert!(labelled < HALF_WAY, "it went on with other pods");
    assert_eq!(requests.count("PATCH", "pods", "", Codes::Success), labelled as u64, "{requests}");
    assert_eq!(requests.count("PATCH", "pods", "", Codes::Failure), 0, "none was cut off: {requests}");
    assert!(!operator.output().contains("did not end in time"), "{}", operator.output());
    Ok(())
}

#[tokio::test]
async fn writes_that_do_not_end_hold_it_up_for_seconds_only() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let namespace = TestNamespace::create(&plane.config(), "stuck").await?;
    let (mut operator, _) = paused_half_way(&plane, &namespace).await?;
    operator.terminate()?;
    // Less than the 30 seconds that Kubernetes gives a pod by default.
    let status = operator.wait(Duration::from_secs(20)).await;
    plane.api_server().resume()?;
    assert_eq!(status?.code(), Some(0), "{}", operator.output());
    assert!(operator.output().contains("did not end in time"), "{}", operator.output());
    Ok(())
}

#[tokio::test]
async fn endpoints_tell_health_readiness_and_metrics() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "endpoints").await?;
    create_pods(plane, &namespace, 3).await?;
    let (door, directory) = (Proxy::to(plane, false).await?, TempDir::new()?);
    let kubeconfig = directory.path().join("kubeconfig");
    door.write_kubeconfig(plane, &kubeconfig)?;
    let operator = Operator::spawn(&kubeconfig, &in_namespace(&namespace), &[])?;
    let address = address(&operator).await?;

    says(&operator, "could not watch pods").await?;
    assert_eq!(get(address, "/healthz").await?.0, 200, "it is alive all the same");
    let (code, body) = get(address, "/readyz").await?;
    assert_eq!((code, body.as_str()), (503, "not everything has been listed yet\n"));

    door.open();
    answers(address, "/readyz", 200).await?;
    apply(&plane.client(), namespace.name(), LABEL).await?;
    settled(&Api::<PodPolicy>::namespaced(plane.client(), namespace.name()), "label", 3).await?;
    let (code, text) = get(address, "/metrics").await?;
    assert_eq!(code, 200);
    let samples = open_metrics(&text)?;
    for (name, value) in [("podpolicy_leader", 1.0), ("podpolicy_pods_queued", 0.0), ("podpolicy_pod_writes_total{result=\"ok\"}", 3.0)] {
        assert_eq!(samples.iter().find(|(found, _)| found == name).map(|(_, value)| *value), Some(value), "{name} in\n{text}");
    }
    assert_eq!(get(address, "/nothing").await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn definitions_that_are_missing_are_waited_for_and_used_once_installed() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: false, controller_manager: false }).await?;
    let namespace = TestNamespace::create(&plane.config(), "definitions").await?;
    let pods = create_pods(&plane, &namespace, 1).await?;
    let operator = Operator::spawn(plane.kubeconfig_path(), &anywhere(), &[])?;
    let address = address(&operator).await?;
    says(&operator, "the API server does not serve podpolicies.podpolicy.dev").await?;
    says(&operator, "the API server does not serve clusterpodpolicies.podpolicy.dev").await?;
    assert_eq!((get(address, "/healthz").await?.0, get(address, "/readyz").await?.0), (200, 503));

    let apply_crds = podpolicy(&["crd"], &[])?;
    let mut kubectl = plane.kubectl().args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    kubectl.stdin.take().context("it is piped")?.write_all(&apply_crds.stdout)?;
    let applied = kubectl.wait_with_output()?;
    assert!(applied.status.success(), "kubectl apply did not take the output of podpolicy crd");
    // Until discovery knows them, they cannot be applied.
    eventually("the definitions to be served", DEADLINE, async || {
        Ok(match apply(&plane.client(), namespace.name(), LABEL).await {
            Ok(_) => Seen::Done(()),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    has_label(&pods, "pod-0").await?;
    answers(address, "/readyz", 200).await
}

#[tokio::test]
async fn api_server_that_is_down_at_the_start_is_waited_for() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "down").await?;
    let pods = create_pods(plane, &namespace, 1).await?;
    apply(&plane.client(), namespace.name(), LABEL).await?;
    let (door, directory) = (Proxy::to(plane, false).await?, TempDir::new()?);
    let kubeconfig = directory.path().join("kubeconfig");
    door.write_kubeconfig(plane, &kubeconfig)?;
    let operator = Operator::spawn(&kubeconfig, &in_namespace(&namespace), &[])?;
    says(&operator, "could not watch pods").await?;
    says(&operator, "still waiting for the first list of").await?;
    door.open();
    has_label(&pods, "pod-0").await?;
    assert!(!operator.output().contains("panicked"), "{}", operator.output());
    Ok(())
}

#[tokio::test]
async fn api_server_that_goes_down_meanwhile_is_waited_for() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "outage").await?;
    let pods = create_pods(plane, &namespace, 1).await?;
    apply(&plane.client(), namespace.name(), LABEL).await?;
    let (door, directory) = (Proxy::to(plane, true).await?, TempDir::new()?);
    let kubeconfig = directory.path().join("kubeconfig");
    door.write_kubeconfig(plane, &kubeconfig)?;
    let operator = Operator::spawn(&kubeconfig, &in_namespace(&namespace), &[])?;
    let address = address(&operator).await?;
    has_label(&pods, "pod-0").await?;
    settled(&Api::<PodPolicy>::namespaced(plane.client(), namespace.name()), "label", 1).await?;

    door.close();
    says(&operator, "could not watch pods").await?;
    assert_eq!((get(address, "/healthz").await?.0, get(address, "/readyz").await?.0), (200, 200), "an outage is no reason to restart");
    create_pods_named(plane, &namespace, "new", 1).await?;
    pods.delete("pod-0", &DeleteParams::default().grace_period(0)).await?;
    door.open();
    has_label(&pods, "new-0").await?;
    settled(&Api::<PodPolicy>::namespaced(plane.client(), namespace.name()), "label", 1).await?;
    Ok(())
}

#[tokio::test]
async fn api_server_that_hangs_for_a_moment_is_waited_for() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let namespace = TestNamespace::create(&plane.config(), "hangs").await?;
    let (operator, pods) = paused_half_way(&plane, &namespace).await?;
    let address = address(&operator).await?;
    // Longer than one write may take.
    says(&operator, "no answer within").await?;
    assert_eq!(get(address, "/healthz").await?.0, 200, "the loop goes on, although nothing comes back to it");
    plane.api_server().resume()?;
    eventually("all labels", DEADLINE * 2, async || {
        let labelled = pods.list(&ListParams::default().labels("team=shop")).await?.items.len();
        Ok(Seen::when(labelled == HALF_WAY, labelled))
    })
    .await
}

#[tokio::test]
async fn rights_that_are_missing_are_said_in_plain_words() -> anyhow::Result<()> {
    let (plane, directory) = (shared().await, TempDir::new()?);
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(plane.kubeconfig_path())?)?;
    kubeconfig["users"][0]["user"]["as"] = "nobody".into();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string())?;
    let operator = Operator::spawn(&file, &anywhere(), &[])?;
    for resource in ["pods", "namespaces", "podpolicies.podpolicy.dev", "clusterpodpolicies.podpolicy.dev", "services", "jobs.batch"] {
        says(&operator, &format!("may not list {resource}; grant get, list and watch on {resource}")).await?;
    }
    let output = operator.output();
    assert!(!output.contains("Status {") && !output.contains("InitialListFailed"), "{output}");
    assert!(operator.process().is_alive());
    Ok(())
}

#[tokio::test]
async fn logs_in_json_parse_line_by_line() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "json").await?;
    create_pods(plane, &namespace, 2).await?;
    let arguments = [in_namespace(&namespace).as_slice(), &["--log-format", "json", "--log", "debug"]].concat();
    let mut operator = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    says(&operator, "listed everything").await?;
    apply(&plane.client(), namespace.name(), LABEL).await?;
    says(&operator, "patched pod").await?;
    operator.terminate()?;
    operator.wait(PROMPT).await?;

    let output = operator.output();
    let mut messages = Vec::new();
    for line in output.lines() {
        let object: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        for key in ["timestamp", "level", "message"] {
            assert!(object[key].is_string(), "{key} is missing: {line}");
        }
        messages.push(object);
    }
    let patched = messages.iter().find(|object| object["message"] == "patched pod").context("no line about a pod")?;
    assert_eq!((patched["namespace"].as_str(), patched["pod"].is_string()), (Some(namespace.name()), true), "{patched}");
    Ok(())
}

#[tokio::test]
async fn environment_variables_count_and_flags_come_first() -> anyhow::Result<()> {
    let plane = shared().await;
    let (namespace, other) = (TestNamespace::create(&plane.config(), "env").await?, TestNamespace::create(&plane.config(), "other").await?);
    let policy = "
        apiVersion: podpolicy.dev/v1alpha1
        kind: PodPolicy
        metadata: { name: label }
        spec: { selector: {}, labels: { team: shop, example.com/ours: x } }
    ";
    for namespace in [&namespace, &other] {
        create_pods(plane, namespace, 1).await?;
        apply(&plane.client(), namespace.name(), policy).await?;
    }
    let environment = [
        ("PODPOLICY_NAMESPACES", namespace.name()),
        ("PODPOLICY_PROTECT_KEYS", "example.com/ours, example.com/theirs"),
        ("PODPOLICY_METRICS_ADDRESS", "127.0.0.1:0"),
        ("PODPOLICY_LOG_FORMAT", "json"),
        ("PODPOLICY_LOG", "debug"),
        ("PODPOLICY_CONCURRENCY", "1"),
    ];
    let operator = Operator::spawn(plane.kubeconfig_path(), &["run", "--log-format", "text"], &environment)?;
    let policies = |namespace: &TestNamespace| Api::<PodPolicy>::namespaced(plane.client(), namespace.name());
    let status = settled(&policies(&namespace), "label", 1).await?;
    assert_eq!(status.findings.first().map(|finding| finding.reason), Some(FindingReason::ProtectedKey), "{status:#?}");
    address(&operator).await?;
    says(&operator, "DEBUG").await?;
    assert!(!operator.output().starts_with('{'), "the flag comes first: {}", operator.output());
    assert_eq!(policies(&other).get("label").await?.status, None, "another namespace");
    Ok(())
}

#[tokio::test]
async fn environment_variables_that_are_set_to_nothing_count_as_not_set() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let namespace = TestNamespace::create(&plane.config(), "nothing").await?;
    let pods = create_pods(&plane, &namespace, 1).await?;
    let system: Api<Pod> = Api::namespaced(plane.client(), "kube-system");
    system.create(&PostParams::default(), &objects::pod("pod-0", &[])).await?;
    apply(&plane.client(), "default", &LABEL.replace("PodPolicy", "ClusterPodPolicy")).await?;
    let environment = [
        ("PODPOLICY_NAMESPACES", ""),
        ("PODPOLICY_EXCLUDE_NAMESPACES", ""),
        ("PODPOLICY_PROTECT_KEYS", ""),
        ("PODPOLICY_METRICS_ADDRESS", ""),
        ("PODPOLICY_METRICS_PROTECTED_ADDRESS", ""),
    ];
    let operator = Operator::spawn(plane.kubeconfig_path(), &["run"], &environment)?;
    has_label(&pods, "pod-0").await?;
    settled(&Api::<ClusterPodPolicy>::all(plane.client()), "label", 1).await?;
    assert!(!system.get("pod-0").await?.labels().contains_key("team"), "kube-system is excluded by default");
    assert!(!operator.output().contains("serving"), "an empty address serves nothing: {}", operator.output());
    Ok(())
}

#[tokio::test]
async fn excluded_namespaces_are_those_of_kubernetes_and_its_own_unless_others_are_given() -> anyhow::Result<()> {
    let plane = ControlPlane::start(BARE).await?;
    let own = TestNamespace::create(&plane.config(), "own").await?;
    let ordinary = TestNamespace::create(&plane.config(), "ordinary").await?;
    let (in_own, in_ordinary) = (create_pods(&plane, &own, 1).await?, create_pods(&plane, &ordinary, 1).await?);
    let everywhere = LABEL.replace("PodPolicy", "ClusterPodPolicy");
    apply(&plane.client(), "default", &everywhere).await?;

    let mut operator = Operator::spawn(plane.kubeconfig_path(), &anywhere(), &[("POD_NAMESPACE", own.name())])?;
    has_label(&in_ordinary, "pod-0").await?;
    settled(&Api::<ClusterPodPolicy>::all(plane.client()), "label", 1).await?;
    assert!(!in_own.get("pod-0").await?.labels().contains_key("team"));
    operator.terminate()?;
    operator.wait(PROMPT).await?;

    let others = [("POD_NAMESPACE", own.name()), ("PODPOLICY_EXCLUDE_NAMESPACES", ordinary.name())];
    let _operator = Operator::spawn(plane.kubeconfig_path(), &anywhere(), &others)?;
    has_label(&in_own, "pod-0").await?;
    eventually("the label to go where policies no longer act", DEADLINE, async || {
        let pod = in_ordinary.get("pod-0").await?;
        Ok(Seen::when(!pod.labels().contains_key("team"), pod.labels()))
    })
    .await
}

#[test]
fn mistakes_on_the_command_line_are_explained_in_one_line() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().context("the temporary directory is UTF-8")?.to_owned())
    };
    let missing = format!("{}/missing", directory.path().display());
    let broken = file("broken", "token: [secret")?;
    let sound = file("sound", SOUND_KUBECONFIG)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let nothing: &[(&str, &str)] = &[];

    for (arguments, environment, expected) in [
        (vec!["run", "--nope"], nothing, vec!["--nope"]),
        (vec!["run", "--concurrency", "0"], nothing, vec!["--concurrency", "'0'"]),
        (vec!["run", "--concurrency", "many"], nothing, vec!["--concurrency", "'many'"]),
        (vec!["run", "--log-format", "xml"], nothing, vec!["--log-format", "text, json"]),
        (vec!["run", "--namespaces", "shop,Front"], nothing, vec!["--namespaces", "'Front'", "commas"]),
        (vec!["run", "--log", "podpolicy=loud"], nothing, vec!["--log", "podpolicy=loud", "try info"]),
        (vec!["run"], &[("PODPOLICY_LOG", "podpolicy=loud")], vec!["--log", "podpolicy=loud", "try info"]),
        (vec!["run", "--metrics-address", "8080"], nothing, vec!["--metrics-address", "\"8080\"", "such as 0.0.0.0:8080"]),
        (
            vec!["run", "--metrics-protected-address", "all"],
            nothing,
            vec!["--metrics-protected-address", "\"all\"", "such as 0.0.0.0:8080"],
        ),
        (
            vec!["run", "--kubeconfig", &sound, "--metrics-address", "", "--metrics-protected-address", &address],
            nothing,
            vec![&address, "in use", "choose another with --metrics-protected-address"],
        ),
        (vec!["run", "--kubeconfig", &missing], nothing, vec!["--kubeconfig", &missing, "No such file"]),
        (vec!["run", "--kubeconfig", &broken], nothing, vec!["--kubeconfig", &broken, "line 1"]),
        (vec!["run", "--kubeconfig", &sound, "--context", "moon"], nothing, vec!["--context moon", "kubectl config get-contexts"]),
        (vec!["run", "--context", "moon"], &[("KUBECONFIG", &sound)], vec!["--context moon", "kubectl config get-contexts"]),
        (vec!["run"], &[("KUBECONFIG", &missing)], vec!["KUBECONFIG=", "cannot be used", "the path of a kubeconfig file", &missing]),
        (
            vec!["run", "--kubeconfig", &sound, "--metrics-address", &address],
            nothing,
            vec![&address, "in use", "choose another with --metrics-address"],
        ),
    ] {
        let output = podpolicy(&arguments, &[&[("RUST_BACKTRACE", "1")], environment].concat())?;
        let stderr = String::from_utf8(output.stderr)?;
        let what = format!("{arguments:?} {environment:?}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{what}");
        assert!(output.stdout.is_empty(), "messages belong on stderr: {what}");
        // The parser of the command line adds where help is to be had.
        let explanation = stderr.split("\n\n").next().unwrap_or_default().replace("\n  ", " ");
        assert_eq!(explanation.trim_end().lines().count(), 1, "{what}");
        for part in expected {
            assert!(explanation.contains(part), "{part:?} is missing: {what}");
        }
        for part in ["panicked", "backtrace", "secret"] {
            assert!(!stderr.contains(part), "{part:?} is in it: {what}");
        }
    }
    Ok(())
}

#[test]
fn crd_prints_the_definitions_that_the_project_ships() -> anyhow::Result<()> {
    let output = podpolicy(&["crd"], &[])?;
    assert!(output.status.success() && output.stderr.is_empty());
    let printed: Vec<Value> = serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout)?)?;
    let mut shipped = Vec::new();
    for kind in ["podpolicies", "clusterpodpolicies"] {
        let file = format!("{}/../crds/{kind}.podpolicy.dev.yaml", env!("CARGO_MANIFEST_DIR"));
        shipped.extend(serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(file)?)?);
    }
    let by_name = |mut documents: Vec<Value>| {
        documents.sort_by_key(|document| document["metadata"]["name"].to_string());
        documents
    };
    assert_eq!(by_name(printed), by_name(shipped));
    Ok(())
}

#[test]
fn bash_completes_commands_and_flags() -> anyhow::Result<()> {
    let script = String::from_utf8(podpolicy(&["completions", "bash"], &[])?.stdout)?;
    let complete = |words: &[&str]| -> anyhow::Result<String> {
        let [.., before, last] = words else { anyhow::bail!("nothing to complete") };
        let (all, number) = (words.join(" "), words.len() - 1);
        let asked =
            format!("COMP_WORDS=({all}); COMP_CWORD={number}; _podpolicy podpolicy '{last}' '{before}'; echo \"${{COMPREPLY[*]}}\"");
        let output = Command::new("bash").args(["--norc", "-c", &format!("{script}\n{asked}")]).output()?;
        anyhow::ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    assert_eq!(complete(&["podpolicy", "ex"])?, "explain");
    assert_eq!(complete(&["podpolicy", "status", "--all"])?, "--all-namespaces");
    Ok(())
}

#[test]
fn manual_has_every_command_and_its_flags() -> anyhow::Result<()> {
    let help = String::from_utf8(podpolicy(&["--help"], &[])?.stdout)?;
    let page = String::from_utf8(podpolicy(&["man"], &[])?.stdout)?.replace("\\-", "-");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()).collect();
    anyhow::ensure!(commands.len() > 5, "{help}");
    for command in commands {
        assert!(page.contains(&format!(".SH \"PODPOLICY {}\"", command.to_uppercase())), "no {command} in {page}");
    }
    assert!(page.contains("--leader-elect") && page.contains("--all-namespaces"), "{page}");
    Ok(())
}

#[test]
fn reader_that_stops_reading_is_no_error() -> anyhow::Result<()> {
    let mut child = Command::new(program()?).arg("crd").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn help_lists_every_flag_with_its_default_and_its_variable() -> anyhow::Result<()> {
    let help = podpolicy(&["--help"], &[])?;
    assert!(help.status.success() && help.stderr.is_empty());
    let text = String::from_utf8(help.stdout)?;
    for command in ["run", "crd", "compile", "cleanup", "--version"] {
        assert!(text.contains(command), "{command} is missing in\n{text}");
    }

    let text = String::from_utf8(podpolicy(&["run", "--help"], &[])?.stdout)?;
    let mut flags = text.split("\n      --").skip(1).collect::<Vec<_>>();
    flags.sort_unstable();
    let mut seen = Vec::new();
    for flag in flags {
        let (name, rest) = flag.split_once(char::is_whitespace).context("each flag has a text")?;
        seen.push(name);
        let variable = format!("[env: PODPOLICY_{}=]", name.replace('-', "_").to_uppercase());
        let expected = match name {
            "kubeconfig" => ["$KUBECONFIG", "[default: "],
            "context" => ["kubeconfig", "context"],
            "own-namespace" => ["[env: POD_NAMESPACE=]", "[default: podpolicy-system]"],
            // Its default is longer than a line.
            "webhook-certificates" => [variable.as_str(), "the operator makes them"],
            // Without it, metrics are for all.
            "metrics-protected-address" => [variable.as_str(), "with the other two, to all"],
            "metrics-certificates" => [variable.as_str(), "nobody vouches for"],
            // Nothing is protected by default.
            "protect-keys" => [variable.as_str(), "beside those of"],
            _ => [variable.as_str(), "[default: "],
        };
        assert!(expected.iter().all(|part| rest.contains(part)), "{name}: {expected:?} in\n{rest}");
    }
    let known = [
        "admission",
        "concurrency",
        "context",
        "exclude-namespaces",
        "kubeconfig",
        "leader-elect",
        "log",
        "log-format",
        "metrics-address",
        "metrics-certificates",
        "metrics-protected-address",
        "namespaces",
        "own-namespace",
        "protect-keys",
        "rollout-max-unavailable",
        "webhook-address",
        "webhook-certificates",
        "webhook-failure-policy",
        "webhook-service",
        "webhook-url",
    ];
    assert_eq!(seen, known, "a flag that is new needs a line here");
    Ok(())
}

#[test]
fn colour_is_for_terminals_and_without_no_color_only() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, SOUND_KUBECONFIG)?;
    let arguments = ["run", "--metrics-address", "127.0.0.1:0", "--kubeconfig", kubeconfig.to_str().context("UTF-8")?];
    for (environment, coloured) in [(None, true), (Some("1"), false), (Some(""), true)] {
        let written = on_a_terminal(&arguments, environment)?;
        assert!(written.contains("serving"), "{written}");
        assert_eq!(written.contains('\u{1b}'), coloured, "NO_COLOR={environment:?}: {written:?}");
    }
    Ok(())
}

/// Of a cluster that does not exist.
const SOUND_KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: earth
clusters: [{ name: earth, cluster: { server: 'https://127.0.0.1:1' } }]
users: [{ name: somebody, user: { token: secret } }]
contexts: [{ name: earth, context: { cluster: earth, user: somebody } }]
";

/// Flags of an operator for the whole cluster.
fn anywhere() -> [&'static str; 3] {
    ["run", "--metrics-address", "127.0.0.1:0"]
}

/// Flags of an operator for one namespace.
fn in_namespace(namespace: &TestNamespace) -> [&str; 5] {
    ["run", "--metrics-address", "127.0.0.1:0", "--namespaces", namespace.name()]
}

/// How many pods [`paused_half_way`] makes.
const HALF_WAY: usize = 500;

/// An operator in the middle of its work, with an API server that does not answer: what is under way stays so until it is resumed.
async fn paused_half_way(plane: &ControlPlane, namespace: &TestNamespace) -> anyhow::Result<(Operator, Api<Pod>)> {
    let pods = create_pods(plane, namespace, HALF_WAY).await?;
    // Slowly, so that the middle is long.
    let arguments = [in_namespace(namespace).as_slice(), &["--concurrency", "4"]].concat();
    let operator = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    says(&operator, "listed everything").await?;
    apply(&plane.client(), namespace.name(), LABEL).await?;
    eventually("the first label", DEADLINE, async || {
        let labelled = pods.list(&ListParams::default().labels("team=shop").limit(1)).await?.items.len();
        Ok(Seen::when(labelled > 0, labelled))
    })
    .await?;
    plane.api_server().pause()?;
    Ok((operator, pods))
}

/// Runs the program to its end, with these environment variables and none of its own that the test may have.
fn podpolicy(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PODPOLICY_") || name == "POD_NAMESPACE") {
        command.env_remove(name);
    }
    Ok(command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output()?)
}

/// What the program writes to a terminal until it is up.
fn on_a_terminal(arguments: &[&str], no_color: Option<&str>) -> anyhow::Result<String> {
    let mut screen = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?);
    grantpt(&screen)?;
    unlockpt(&screen)?;
    let path = ptsname(&screen, Vec::new())?;
    let terminal = File::options().read(true).write(true).open(OsStr::from_bytes(path.as_bytes()))?;
    let mut command = Command::new(program()?);
    command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal);
    let mut child = command.envs(no_color.map(|value| ("NO_COLOR", value))).spawn()?;
    // Its copy of the terminal goes with it, so that the end of the child is the end of what can be read.
    drop(command);

    let (mut written, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&written).contains("serving") {
        match screen.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => written.extend_from_slice(&buffer[..count]),
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

fn send(operator: &Operator, signal: Signal) -> anyhow::Result<()> {
    let id = i32::try_from(operator.process().id())?;
    Ok(kill_process(Pid::from_raw(id).context("a process id is a positive number")?, signal)?)
}

/// Waits until the operator has written this.
async fn says(operator: &Operator, text: &str) -> anyhow::Result<()> {
    eventually(&format!("the operator to say {text:?}"), DEADLINE, async || {
        let output = operator.output();
        Ok(if output.contains(text) { Seen::Done(()) } else { Seen::NotYet(output) })
    })
    .await
}

/// Where the operator serves its endpoints, from its log.
async fn address(operator: &Operator) -> anyhow::Result<SocketAddr> {
    says(operator, "serving /healthz").await?;
    let output = operator.output();
    let (_, after) = output.split_once("address=").context("the log does not name the address")?;
    Ok(after.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Code and body of an answer.
async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer in HTTP")?;
    let code = head.split(' ').nth(1).context("no code")?.parse()?;
    Ok((code, body.to_owned()))
}

async fn answers(address: SocketAddr, path: &str, code: u16) -> anyhow::Result<()> {
    eventually(&format!("{code} from {path}"), DEADLINE, async || {
        let answer = get(address, path).await?;
        Ok(Seen::when(answer.0 == code, answer))
    })
    .await
}

/// Name with labels, and value, of each sample; an error where the text is not OpenMetrics.
fn open_metrics(text: &str) -> anyhow::Result<Vec<(String, f64)>> {
    anyhow::ensure!(text.ends_with("# EOF\n"), "no end:\n{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
        let family = name.split('{').next().unwrap_or_default();
        let family =
            ["_total", "_info", "_bucket", "_sum", "_count"].iter().find_map(|suffix| family.strip_suffix(suffix)).unwrap_or(family);
        anyhow::ensure!(
            text.contains(&format!("# TYPE {family} ")) && text.contains(&format!("# HELP {family} ")),
            "{family} is undeclared"
        );
        Ok((name.to_owned(), value.parse()?))
    };
    samples.map(sample).collect()
}

fn number_after(text: &str, marker: &str) -> Option<u32> {
    let (_, after) = text.split_once(marker)?;
    after.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

async fn create_pods(plane: &ControlPlane, namespace: &TestNamespace, count: usize) -> anyhow::Result<Api<Pod>> {
    create_pods_named(plane, namespace, "pod", count).await
}

async fn create_pods_named(plane: &ControlPlane, namespace: &TestNamespace, prefix: &str, count: usize) -> anyhow::Result<Api<Pod>> {
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    let wanted: Vec<_> = (0..count).map(|number| objects::pod(&format!("{prefix}-{number}"), &[])).collect();
    let params = PostParams::default();
    try_join_all(wanted.iter().map(|pod| pods.create(&params, pod))).await?;
    Ok(pods)
}

async fn has_label(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    eventually(&format!("the label on pod {name}"), DEADLINE, async || {
        let pod = pods.get(name).await?;
        Ok(Seen::when(pod.labels().contains_key("team"), pod.labels()))
    })
    .await
}
