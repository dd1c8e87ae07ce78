//! `podpolicy status` and `podpolicy explain`: what people are shown of policies and pods.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use podpolicy_e2e::policies::settled;
use podpolicy_e2e::{Stage, program, shared};
use serde_json::{Value, json};

const STANDARD: &str = "{
    selector: { matchLabels: { app: web } }, labels: { team: shop, app.kubernetes.io/part-of: store, example.k8s.io/zone: a },
    terminationGracePeriodSeconds: 60, containers: [{ readinessProbe: { tcpSocket: { port: 80 } } }],
}";
const OTHER: &str = "{ selector: { matchLabels: { app: web } }, priority: -1, labels: { team: bank } }";

/// Runs `podpolicy` against the shared control plane.
async fn podpolicy(arguments: &[&str]) -> anyhow::Result<Output> {
    let kubeconfig = shared().await.kubeconfig_path().to_owned();
    let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    tokio::task::spawn_blocking(move || Ok(command(&kubeconfig, &arguments)?.output()?)).await?
}

fn command(kubeconfig: &Path, arguments: &[String]) -> anyhow::Result<Command> {
    let mut command = Command::new(program()?);
    command.args(arguments).env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    Ok(command)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The cells of a table, which are two spaces apart at least.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

/// Why the pod is outdated.
const WHY: &str = "terminationGracePeriodSeconds, containers[web].readinessProbe: set on new pods only; nothing replaces a bare pod";

/// A pod under two policies that disagree, one of which has more than the pod can get.
async fn stage(name: &str) -> anyhow::Result<Stage> {
    let stage = Stage::set(name).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    stage.create_pod("alone", &[]).await?;
    stage.policy("standard", STANDARD).await?;
    stage.policy("other", OTHER).await?;
    let operator = stage.operator().await?;
    settled(&stage.policies, "standard", 1).await?;
    settled(&stage.policies, "other", 1).await?;
    operator.stop().await?;
    Ok(stage)
}

#[tokio::test]
async fn explain_says_of_each_field_what_it_is_and_why() -> anyhow::Result<()> {
    let stage = stage("explain").await?;
    let namespace = stage.name().to_owned();
    let text = stdout(&podpolicy(&["explain", "web", "--namespace", &namespace]).await?);
    let rows = cells(&text);
    let standard = format!("PodPolicy {namespace}/standard");
    let other = format!("PodPolicy {namespace}/other");
    assert_eq!(rows[0], [format!("pod {namespace}/web")]);
    for row in [
        vec![standard.as_str(), "outdated"],
        vec![other.as_str(), "compliant"],
        vec!["labels[team]", &format!("{standard} (over {other})"), "yes", "\"shop\""],
        vec!["terminationGracePeriodSeconds", &standard, "no: once it is replaced", "60"],
    ] {
        assert!(rows.contains(&row), "no {row:?} in\n{text}");
    }
    assert!(text.contains("  ProtectedKey labels[example.k8s.io/zone]: "), "{text}");
    assert!(text.contains(&format!("\n{other}\n  Overridden labels[team]: ")), "{text}");

    let json: Value = serde_json::from_str(&stdout(&podpolicy(&["explain", "pod/web", "-n", &namespace, "-o", "json"]).await?))?;
    let team = json!({ "field": "labels[team]", "value": "shop", "source": standard, "overridden": [other], "done": true });
    assert!(json["fields"].as_array().unwrap().contains(&team), "{json:#}");
    assert_eq!(json["policies"][0]["policy"], standard);
    assert_eq!(json["policies"][0]["state"], "outdated");
    assert_eq!(json["policies"][0]["findings"][0]["reason"], "ProtectedKey");

    let alone = stdout(&podpolicy(&["explain", "alone", "-n", &namespace]).await?);
    assert_eq!(alone, format!("pod {namespace}/alone\nno policy selects it\n"));

    let missing = podpolicy(&["explain", "nobody", "-n", &namespace]).await?;
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&missing.stderr),
        format!(
            "podpolicy: error: there is no pod nobody in namespace {namespace}; `kubectl get pods -n {namespace}` lists those that are there\n"
        )
    );
    Ok(())
}

#[tokio::test]
async fn status_shows_policies_and_the_pods_that_are_not_as_they_say() -> anyhow::Result<()> {
    let stage = stage("status").await?;
    let namespace = stage.name().to_owned();
    let text = stdout(&podpolicy(&["status", "--namespace", &namespace]).await?);
    let rows = cells(&text);
    let standard = format!("PodPolicy {namespace}/standard");
    assert_eq!(rows[1], [&standard, "False", "Refused", "1", "0", "1", "0", "0", "-"], "{text}");
    assert_eq!(rows[2][..4], [&format!("PodPolicy {namespace}/other"), "True", "InForce", "1"], "{text}");
    assert!(rows.contains(&vec![&format!("{namespace}/web"), &standard, "outdated", WHY]), "{text}");
    assert!(!text.contains("/alone"), "{text}");

    let everywhere = stdout(&podpolicy(&["status", "-A"]).await?);
    assert!(everywhere.contains(&standard), "{everywhere}");
    let nothing = stdout(&podpolicy(&["status", "-n", "default"]).await?);
    assert_eq!(nothing, "there are no policies for namespace default\n");
    Ok(())
}

#[tokio::test]
async fn status_is_shown_again_when_it_has_changed() -> anyhow::Result<()> {
    let stage = stage("watch").await?;
    let kubeconfig = shared().await.kubeconfig_path().to_owned();
    let arguments = ["status", "--watch", "--namespace", stage.name()].map(str::to_owned);
    let mut child = command(&kubeconfig, &arguments)?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let reader = std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    let mut until = async |words: &str| {
        let wait = async { while !tell.recv().await.is_some_and(|line| line.contains(words)) {} };
        tokio::time::timeout(podpolicy_e2e::wait::DEADLINE, wait).await
    };
    until("/standard").await?;
    stage.policy("late", OTHER).await?;
    until("/late").await?;
    child.kill()?;
    child.wait()?;
    reader.join().unwrap();
    Ok(())
}
