//! The metrics of running operators, and the page about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use podpolicy_admission::webhook::{Certificates, Endpoint, Options, configuration_name};
use podpolicy_api::FindingReason;
use podpolicy_controller::{AdmissionMode, Config, Watched};
use podpolicy_e2e::environment::free_address;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{InProcess, Operator, Stage, TestNamespace, shared};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PAGE: &str = "docs/metrics.md";
const START: &str = "<!-- generated from what the operator serves: UPDATE=1 cargo test -p podpolicy-e2e --test observability -->\n";
const END: &str = "<!-- end -->\n";

const STANDARD: &str = "{
    selector: { matchLabels: { app: web } }, labels: { team: shop, pod-template-hash: '1' },
    containers: [{ readinessProbe: { httpGet: { path: /ready, port: 8080 } } }],
}";

#[tokio::test]
async fn page_has_what_the_operator_serves() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "page").await?;
    let address = free_address()?;
    let (listen, url) = (address.to_string(), format!("https://{address}/mutate"));
    let arguments = [
        &["run", "--metrics-address", "127.0.0.1:0", "--namespaces", namespace.name(), "--own-namespace", namespace.name()][..],
        &["--admission", "webhook", "--webhook-address", &listen, "--webhook-url", &url],
    ];
    let operator = Operator::spawn(plane.kubeconfig_path(), &arguments.concat(), &[])?;
    let text = eventually("a certificate to be served", DEADLINE, async || {
        let Some(address) = address_in(&operator.output()) else { return Ok(Seen::NotYet(operator.output())) };
        let text = get(address, "/metrics").await?;
        Ok(if text.contains("certificate_expiry") { Seen::Done(text) } else { Seen::NotYet(text) })
    })
    .await?;

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let page = std::fs::read_to_string(&file)?;
    let (before, rest) = page.split_once(START).context("the page has lost its mark")?;
    let (_, after) = rest.split_once(END).context("the page has lost its second mark")?;
    let wanted = format!("{before}{START}{}{END}{after}", table(&text));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted)?;
    } else {
        assert!(page == wanted, "{PAGE} is not what the operator serves; run with UPDATE=1:\n{}", table(&text));
    }
    Ok(())
}

#[tokio::test]
async fn numbers_follow_what_happens() -> anyhow::Result<()> {
    let stage = Stage::set("numbers").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    stage.create_pod("other", &[]).await?;
    stage.policy("standard", STANDARD).await?;
    let operator = stage.operator().await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Ready"), "False Refused");
    has(
        &operator,
        &[
            ("podpolicy_leader", 1.0),
            ("podpolicy_policies{kind=\"PodPolicy\",ready=\"false\"}", 1.0),
            ("podpolicy_policies{kind=\"PodPolicy\",ready=\"true\"}", 0.0),
            ("podpolicy_pods{outcome=\"outdated\"}", 1.0),
            ("podpolicy_pods{outcome=\"unselected\"}", 1.0),
            ("podpolicy_findings{reason=\"ProtectedKey\"}", 1.0),
            ("podpolicy_pods_queued", 0.0),
            ("podpolicy_pod_writes_total{result=\"ok\"}", 1.0),
            ("podpolicy_pod_writes_total{result=\"refused\"}", 0.0),
            ("podpolicy_reconciles_total{result=\"ok\"}", 1.0),
            ("podpolicy_reconcile_duration_seconds_count", 1.0),
            ("podpolicy_events_total{result=\"ok\"}", 1.0),
            ("podpolicy_admission_backend{backend=\"none\"}", 1.0),
            ("podpolicy_watch_failures_total{resource=\"pods\",reason=\"other\"}", 0.0),
        ],
    )
    .await?;

    let failing = stage.tap.disturb(Disturbance::Break, |exchange| exchange.writes("pods"));
    stage.policy("standard", "{ selector: { matchLabels: { app: web } }, labels: { team: front } }").await?;
    has(&operator, &[("podpolicy_pods{outcome=\"failing\"}", 1.0), ("podpolicy_findings{reason=\"WriteFailed\"}", 1.0)]).await?;
    let unavailable = value(&operator, "podpolicy_pod_writes_total{result=\"unavailable\"}");
    assert!(unavailable.is_some_and(|count| count >= 1.0), "{unavailable:?}");
    failing.end();
    has(&operator, &[("podpolicy_pods{outcome=\"compliant\"}", 1.0), ("podpolicy_policies{kind=\"PodPolicy\",ready=\"true\"}", 1.0)])
        .await?;
    operator.stop().await
}

#[tokio::test]
async fn watches_that_fail_are_counted_by_resource_and_reason() -> anyhow::Result<()> {
    let stage = Stage::set("watches").await?;
    let operator = stage.operator().await?;
    let broken = stage.tap.disturb(Disturbance::Answer(http::StatusCode::FORBIDDEN), |exchange| exchange.resource == "jobs");
    drop(operator);
    let watched = Watched::Namespaces([stage.name().to_owned()].into());
    let operator = InProcess::start(stage.tap.client(shared().await.config())?, Config { watched, ..Config::default() }).await?;
    let name = "podpolicy_watch_failures_total{resource=\"jobs.batch\",reason=\"forbidden\"}";
    // It goes up as long as it lasts.
    eventually("failures to be counted", DEADLINE, async || {
        let count = value(&operator, name);
        Ok(Seen::when(count.is_some_and(|count| count >= 2.0), count))
    })
    .await?;
    broken.end();
    operator.stop().await
}

#[tokio::test]
async fn requests_to_the_webhook_are_counted_by_it_and_those_to_the_api_server_by_that() -> anyhow::Result<()> {
    let plane = shared().await;
    for (admission, backend) in [(AdmissionMode::Webhook, "webhook"), (AdmissionMode::Native, "native")] {
        let stage = Stage::set(&format!("counts-{backend}")).await?;
        let names = BTreeSet::from([stage.name().to_owned()]);
        let address = free_address()?;
        let mut options = Options::new(address, Endpoint::url(&format!("https://{address}"))?, "podpolicy-system");
        options.certificates = Certificates::Own { namespace: stage.name().to_owned(), secret: "webhook".to_owned() };
        options.name = configuration_name(&names);
        let config = Config { watched: Watched::Namespaces(names), admission, webhook: Some(options), ..Config::default() };
        stage.policy("standard", "{ selector: {}, labels: { team: shop } }").await?;
        let operator = InProcess::start(stage.tap.client(plane.config())?, config).await?;
        stage.status("standard", "in force", |status| verdict(status, "Ready") == "True InForce").await?;
        for number in 0..3 {
            stage.create_pod(&format!("web-{number}"), &[]).await?;
        }
        let wanted = format!("podpolicy_admission_backend{{backend=\"{backend}\"}}");
        has(&operator, &[(&wanted, 1.0), ("podpolicy_admission_policies{state=\"in_force\"}", 1.0)]).await?;
        let answered = value(&operator, "podpolicy_webhook_requests_total{code=\"200\"}").context("it is there from the start")?;
        let expiry = value(&operator, "podpolicy_webhook_certificate_expiry_timestamp_seconds");
        if backend == "webhook" {
            assert!(answered >= 3.0, "{answered}");
            assert_eq!(value(&operator, "podpolicy_webhook_request_duration_seconds_count"), Some(answered));
            let left = expiry.context("a certificate is served")? - jiff::Timestamp::now().as_duration().as_secs_f64();
            assert!((89.0..=90.0).contains(&(left / 86400.0)), "{left} seconds");
        } else {
            assert_eq!((answered, expiry), (0.0, None));
            let text = plane.kubectl_output(&["get", "--raw", "/metrics"])?;
            let is_counted =
                |line: &str| line.starts_with("apiserver_mutating_admission_policy_check_total{") && line.contains("policy=\"podpolicy");
            assert!(text.lines().any(is_counted), "the page names a metric that API servers do not have");
        }
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn no_label_has_a_name_that_users_choose() -> anyhow::Result<()> {
    let stage = Stage::set("bounded").await?;
    let operator = stage.operator().await?;
    let before = names(&operator);
    for number in 0..5 {
        stage.create_pod(&format!("unusual-{number}"), &[("app", "web")]).await?;
        stage.policy(&format!("unusual-{number}"), STANDARD).await?;
    }
    has(&operator, &[("podpolicy_policies{kind=\"PodPolicy\",ready=\"false\"}", 5.0)]).await?;
    assert_eq!(names(&operator), before);
    let text = operator.metrics.to_text();
    assert!(!text.contains("unusual") && !text.contains(stage.name()), "{text}");
    assert!(FindingReason::ALL.iter().all(|reason| text.contains(&format!("reason=\"{reason}\""))), "{text}");
    operator.stop().await
}

/// Waits until the metrics have these values.
async fn has(operator: &InProcess, wanted: &[(&str, f64)]) -> anyhow::Result<()> {
    eventually("the numbers", DEADLINE, async || {
        let wrong: Vec<_> = wanted.iter().filter(|(name, number)| value(operator, name) != Some(*number)).collect();
        Ok(Seen::when(wrong.is_empty(), (wrong, operator.metrics.to_text())))
    })
    .await
}

fn value(operator: &InProcess, name: &str) -> Option<f64> {
    // A metric that is there or not has an empty set of labels.
    let number = |line: &str| line.strip_prefix(name)?.trim_start_matches("{}").strip_prefix(' ')?.parse().ok();
    operator.metrics.to_text().lines().find_map(number)
}

fn names(operator: &InProcess) -> BTreeSet<String> {
    operator.metrics.to_text().lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

fn address_in(output: &str) -> Option<SocketAddr> {
    let line = output.lines().find(|line| line.contains("serving /healthz"))?;
    line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").context("no answer in HTTP")?.1.to_owned())
}

/// A row for each metric, from its declarations and its samples.
fn table(text: &str) -> String {
    let mut table = "| metric | type | labels | says |\n|---|---|---|---|\n".to_owned();
    for line in text.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let full = format!("{name}{suffix}");
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for sample in text.lines().filter_map(|line| line.strip_prefix(&full)?.strip_prefix('{')?.split_once('}')) {
            for (label, value) in sample.0.split(',').filter_map(|label| label.split_once('=')) {
                labels.entry(label).or_default().insert(value.trim_matches('"'));
            }
        }
        let labels: Vec<_> = labels
            .into_iter()
            .map(|(label, values)| match label {
                // Another in each release, and documented elsewhere.
                "version" => "`version`".to_owned(),
                "reason" if values.len() > 3 => "`reason`: see [findings.md](findings.md#findings)".to_owned(),
                _ => format!("`{label}`: {}", Vec::from_iter(values).join(", ")),
            })
            .collect();
        let help = help.trim_end_matches('.');
        let _ = writeln!(table, "| `{full}` | {kind} | {} | {help} |", labels.join("; "));
    }
    table
}
