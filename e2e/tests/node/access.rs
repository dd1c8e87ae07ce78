//! Ways into a pod that policies have changed: exec, logs, port-forward.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::Context as _;

use crate::manifest::{SERVE, patient, web};
use crate::scene::{Scene, is_ready};

#[tokio::test]
async fn exec_logs_and_port_forward_work() -> anyhow::Result<()> {
    let scene = Scene::with_operator("kubectl").await?;
    scene
        .policy(
            "standard",
            "
            selector: {}
            labels: { team: shop }
            containers:
              - livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
                readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
                lifecycle: { preStop: { sleep: { seconds: 1 } } }
            terminationGracePeriodSeconds: 5
            ",
        )
        .await?;
    scene.apply(&patient("web", &[web(&format!("echo here; {SERVE}"))])).await?;
    let pod = scene.pod("web", "to be ready", is_ready).await?;
    let spec = pod.spec.context("a pod has a spec")?;
    assert_eq!(spec.termination_grace_period_seconds, Some(5));
    assert!(spec.containers[0].lifecycle.is_some() && spec.containers[0].liveness_probe.is_some());

    assert_eq!(scene.kubectl(&["exec", "web", "--", "cat", "/tmp/index.html"])?, "hello\n");
    assert_eq!(scene.kubectl(&["logs", "--selector", "team=shop"])?, "here\n");

    let mut command = scene.cluster.kubectl().command();
    command.args(["--namespace", scene.name(), "port-forward", "pod/web", ":8080"]).stdout(Stdio::piped());
    let mut forward = command.spawn()?;
    let answer = forward.stdout.take().context("it was asked for").and_then(answer_through);
    forward.kill()?;
    forward.wait()?;
    let answer = answer?;
    assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    scene.end().await
}

/// Asks for `/` at the port that `kubectl port-forward` says that it has taken.
fn answer_through(output: impl std::io::Read) -> anyhow::Result<String> {
    // Open until the end: kubectl goes on to print, and ends when it cannot.
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let address = line.strip_prefix("Forwarding from ").and_then(|line| line.split(" -> ").next());
    let mut stream = TcpStream::connect(address.with_context(|| format!("no address in {line:?}"))?)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
