//! What the webhook costs, asked directly over TLS, beside two handlers that give nothing, on the same stack and in the same run: `no-op` is what
//! kube's own types make of a webhook that allows everything (it parses the question and its pod), `blind` is the floor: it reads the uid and
//! looks at nothing else.
//!
//! It prints; it judges nothing. What counts is the ratio: client and server share the machine. Sizes can be set: `BENCH_REQUESTS` for each
//! round, `BENCH_ROUNDS`.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its figures")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures for people")]

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, ConvertAdmissionReviewError};
use podpolicy_admission::webhook::{
    Limits, answer,
    server::{self, Handler, PATH, Refusal},
};
use podpolicy_e2e::environment::{number, self_signed};
use podpolicy_engine::{Policy, Program, Settings};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName, sign::CertifiedKey};
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime::Runtime, sync::watch, task::JoinSet};
use tokio_rustls::TlsConnector;

/// The threads of the server, whose CPU time is counted.
const SERVER: &str = "bench-server";
const LABEL: &str = "app";

struct Sizes {
    requests: usize,
    rounds: usize,
}

fn main() -> anyhow::Result<()> {
    let sizes = Sizes { requests: number("BENCH_REQUESTS", 10_000)?, rounds: number("BENCH_ROUNDS", 5)? };
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(SERVER).enable_all().build()?;
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let keys = Keys::new()?;
    let (blind, idle) = (open(&server, &keys, Blind)?, open(&server, &keys, Idle)?);
    println!("{} rounds of {} requests on each side; a body of {} bytes", sizes.rounds, sizes.requests, review().len());
    println!("times in us as p50 / p99 / CPU of the server; ratios of p50 and p99");
    println!("| policies | protocol | in flight | blind | no-op | webhook | webhook to no-op | webhook to blind |");
    println!("|---|---|---|---|---|---|---|---|");
    for policies in [3, 1, 100, 1000] {
        let seeing = open(&server, &keys, Seeing(program(policies)))?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let counts: &[usize] = if policies == 3 { &[1, 10, 100] } else { &[1] };
            for &in_flight in counts {
                let line = client.block_on(compare(&keys, [blind, idle, seeing], protocol, in_flight, &sizes))?;
                println!("| {policies} | {protocol:?} | {in_flight} | {line}");
            }
        }
    }
    Ok(())
}

/// Does what every admission webhook has to: reads the uid of the question, which the answer must name, and allows.
struct Blind;

#[derive(serde::Deserialize)]
struct Question<'a> {
    #[serde(borrow)]
    request: Uid<'a>,
}

#[derive(serde::Deserialize)]
struct Uid<'a> {
    uid: &'a str,
}

impl Handler for Blind {
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let question: Question<'_> =
            serde_json::from_slice(body).map_err(|error| Refusal::new(hyper::StatusCode::BAD_REQUEST, error.to_string()))?;
        let response = json!({ "uid": question.request.uid, "allowed": true });
        let answer = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
        Ok(answer.to_string().into_bytes())
    }
}

/// Allows everything, as a webhook of kube's own types does.
struct Idle;

impl Handler for Idle {
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let refuse = |error: String| Refusal::new(hyper::StatusCode::BAD_REQUEST, error);
        let review: AdmissionReview<Pod> = serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
        let request: AdmissionRequest<Pod> = review.try_into().map_err(|error: ConvertAdmissionReviewError| refuse(error.to_string()))?;
        serde_json::to_vec(&AdmissionResponse::from(&request).into_review()).map_err(|error| refuse(error.to_string()))
    }
}

/// Answers as the webhook does.
struct Seeing(Program);

impl Handler for Seeing {
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        answer(&self.0, body).map_err(|error| Refusal::new(hyper::StatusCode::BAD_REQUEST, error.to_string()))
    }
}

struct Keys {
    served: Arc<CertifiedKey>,
    roots: RootCertStore,
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        let (served, certificate) = self_signed()?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        Ok(Self { served, roots })
    }
}

fn open(server: &Runtime, keys: &Keys, handler: impl Handler) -> anyhow::Result<SocketAddr> {
    let (sender, certificates) = watch::channel(Some(Arc::clone(&keys.served)));
    let (address, listener) = server.block_on(server::bind("127.0.0.1:0".parse()?))?;
    server.spawn(async move {
        let _sender = sender;
        server::serve(listener, certificates, handler, Limits::default(), std::future::pending()).await
    });
    Ok(address)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    /// As many connections as requests in flight.
    Http1,
    /// One connection, as an API server has.
    Http2,
}

/// Alternates between the sides, and gives a line of the table.
async fn compare(keys: &Keys, addresses: [SocketAddr; 3], protocol: Protocol, in_flight: usize, sizes: &Sizes) -> anyhow::Result<String> {
    let mut times = [const { Vec::new() }; 3];
    let mut cpu = [Duration::ZERO; 3];
    for address in addresses {
        round(keys, address, protocol, in_flight, sizes.requests / 10 + in_flight).await?;
    }
    for _ in 0..sizes.rounds {
        for (side, address) in addresses.into_iter().enumerate() {
            let before = server_time()?;
            times[side].extend(round(keys, address, protocol, in_flight, sizes.requests).await?);
            cpu[side] += server_time()?.saturating_sub(before);
        }
    }
    let measured = times.map(|mut times| {
        times.sort_unstable();
        [times[times.len() / 2], times[times.len() * 99 / 100]].map(|time| time.as_secs_f64() * 1e6)
    });
    let cpu = cpu.map(|time| time.as_secs_f64() * 1e6 / (sizes.requests * sizes.rounds) as f64);
    let side = |side: usize| format!("{:.0} / {:.0} / {:.0}", measured[side][0], measured[side][1], cpu[side]);
    let [blind, idle, seeing] = measured;
    let ratio = |floor: [f64; 2]| format!("{:.2} and {:.2}", seeing[0] / floor[0], seeing[1] / floor[1]);
    Ok(format!("{} | {} | {} | {} | {} |", side(0), side(1), side(2), ratio(idle), ratio(blind)))
}

/// Sends so many requests, and returns how long each took.
async fn round(keys: &Keys, address: SocketAddr, protocol: Protocol, in_flight: usize, requests: usize) -> anyhow::Result<Vec<Duration>> {
    let body = Bytes::from(review());
    let left = Arc::new(AtomicUsize::new(requests));
    let shared = match protocol {
        Protocol::Http1 => None,
        Protocol::Http2 => Some(Sender::connect(keys, address, protocol).await?),
    };
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let mut sender = match &shared {
            Some(sender) => sender.share()?,
            None => Sender::connect(keys, address, protocol).await?,
        };
        let (body, left) = (body.clone(), Arc::clone(&left));
        workers.spawn(async move {
            let mut times = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let request = Request::post(format!("https://{address}{PATH}")).body(Full::new(body.clone()))?;
                let start = Instant::now();
                let response = sender.send(request).await?;
                anyhow::ensure!(response.status() == 200, "{}", response.status());
                response.into_body().collect().await?;
                times.push(start.elapsed());
            }
            Ok(times)
        });
    }
    Ok(workers.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat())
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn connect(keys: &Keys, address: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(keys.roots.clone()).with_no_client_auth();
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await?;
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    fn share(&self) -> anyhow::Result<Self> {
        match self {
            Self::Http1(_) => anyhow::bail!("a connection of HTTP/1.1 takes one request at a time"),
            Self::Http2(sender) => Ok(Self::Http2(sender.clone())),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// The CPU time of the server's threads.
fn server_time() -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.starts_with(SERVER) {
            let times = fs::read_to_string(task.join("schedstat"))?;
            nanoseconds += times.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// So many policies, of which at most three select the pod.
fn program(policies: usize) -> Program {
    let policy = |number: usize| {
        let app = if number < 3 { "web".to_owned() } else { format!("other-{number}") };
        let probe = json!({ "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 5 });
        let policy = json!({
            "metadata": { "name": format!("policy-{number}"), "namespace": "shop" },
            "spec": {
                "selector": { "matchLabels": { LABEL: app } },
                "labels": { format!("label-{number}"): "value" },
                "annotations": { format!("example.com/annotation-{number}"): "value" },
                "terminationGracePeriodSeconds": 60,
                "containers": [{ "livenessProbe": probe, "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } }],
            },
        });
        Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).expect("a policy")))
    };
    Program::new((0..policies).map(policy), HashMap::new(), Settings::default())
}

/// What an API server asks about a pod of a Deployment.
fn review() -> String {
    let env: Vec<_> =
        (0..20).map(|number| json!({ "name": format!("SETTING_{number}"), "value": format!("the value of setting {number}") })).collect();
    let container = |name: &str, port: u16| {
        json!({
            "name": name,
            "image": "registry.example.com/shop/web@sha256:8f3b1c0a5e0f4a3c9d2b7e6f1a0c9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b",
            "imagePullPolicy": "IfNotPresent",
            "args": ["--listen", "0.0.0.0", "--log-format", "json"],
            "env": env,
            "ports": [{ "name": if port == 8080 { "http" } else { "metrics" }, "containerPort": port, "protocol": "TCP" }],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            "volumeMounts": [
                { "name": "config", "mountPath": "/etc/web", "readOnly": true },
                { "name": "kube-api-access-7h2k9", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true },
            ],
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true },
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        })
    };
    let fields: Value = (0..60).map(|number| (format!("f:field-{number}"), json!({ ".": {}, "f:name": {}, "f:value": {} }))).collect();
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "3b1f7a2e-0d6c-4f58-9a3e-6d1c2b0a9f8e",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "generateName": "web-7d9f6c5b8-",
                    "namespace": "shop",
                    "creationTimestamp": null,
                    "labels": { LABEL: "web", "pod-template-hash": "7d9f6c5b8", "app.kubernetes.io/part-of": "shop" },
                    "annotations": { "prometheus.io/scrape": "true", "checksum/config": "9f86d081884c7d659a2feaa0c55ad015" },
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f6c5b8",
                        "uid": "9c1d2e3f-4a5b-4c6d-8e7f-0a1b2c3d4e5f", "controller": true, "blockOwnerDeletion": true,
                    }],
                    "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsV1": fields }],
                },
                "spec": {
                    "volumes": [{ "name": "config", "configMap": { "name": "web", "defaultMode": 420 } }],
                    "containers": [container("web", 8080), container("exporter", 9090)],
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "serviceAccountName": "web",
                    "securityContext": {},
                    "schedulerName": "default-scheduler",
                    "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
                    "priority": 0,
                    "enableServiceLinks": true,
                    "preemptionPolicy": "PreemptLowerPriority",
                },
                "status": {},
            },
            "oldObject": null,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    })
    .to_string()
}
