//! Probes with the field names and meaning of core/v1. On a policy every number is optional; on a pod the API server has
//! filled in the defaults that are named here.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A probe as in core/v1: at most one handler (`httpGet`, `tcpSocket`, `grpc` or `exec`) and its numbers. A probe without a
/// handler tunes the numbers of the probe that the container already has, and makes none where the container has none.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.httpGet), has(self.tcpSocket), has(self.grpc), has(self.exec)].filter(given, given).size() <= 1")
        .message("a probe has at most one handler: httpGet, tcpSocket, grpc or exec"),
    validation = Rule::new("has(self.httpGet) || has(self.tcpSocket) || has(self.grpc) || has(self.exec) || has(self.initialDelaySeconds) || has(self.timeoutSeconds) || has(self.periodSeconds) || has(self.successThreshold) || has(self.failureThreshold) || has(self.terminationGracePeriodSeconds)")
        .message("an empty probe says nothing: give it a handler (httpGet, tcpSocket, grpc or exec), or a number to tune the container's own probe"),
)]
pub struct Probe {
    /// Succeeds when an HTTP GET to the container answers with a status from 200 to 399.
    /// Example: `httpGet: {path: /healthz, port: http}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,

    /// Succeeds when the container accepts a TCP connection. Example: `tcpSocket: {port: 5432}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,

    /// Succeeds when the container's gRPC health service answers SERVING. Example: `grpc: {port: 9090}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,

    /// Succeeds when a command in the container exits with 0. Applied only where the author of the policy may
    /// `create pods/exec`; refused otherwise (finding ExecNotAllowed). Example: `exec: {command: [pg_isready]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,

    /// Seconds after the container's start before the first probe. At least 0; Kubernetes' default: 0. Example: `5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub initial_delay_seconds: Option<i32>,

    /// Seconds after which an attempt counts as failed. At least 1; Kubernetes' default: 1. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: Option<i32>,

    /// Seconds between attempts. At least 1; Kubernetes' default: 10. Example: `5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub period_seconds: Option<i32>,

    /// Attempts in a row that must succeed after a failure. At least 1, and exactly 1 for liveness and startup probes;
    /// Kubernetes' default: 1. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub success_threshold: Option<i32>,

    /// Attempts in a row that must fail before the probe counts as failed. At least 1; Kubernetes' default: 3. Example: `30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub failure_threshold: Option<i32>,

    /// Seconds that the container gets to stop when this probe kills it, in place of the pod's grace period. At least 1;
    /// not for readiness probes. Kubernetes' default: the pod's `terminationGracePeriodSeconds`. Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub termination_grace_period_seconds: Option<i64>,
}

impl Probe {
    /// Whether the probe says what to ask; one that does not only tunes another's numbers.
    pub fn has_handler(&self) -> bool {
        self.http_get.is_some() || self.tcp_socket.is_some() || self.grpc.is_some() || self.exec.is_some()
    }
}

/// An HTTP GET request to the container.
#[derive(Clone, Debug, Deserialize, Eq, Hash, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.protocol) || self.protocol != 'HTTP2' || !has(self.scheme) || self.scheme == 'HTTP'")
        .message("HTTP2 needs scheme HTTP: Kubernetes speaks it without TLS only")
        .field_path(".protocol"),
)]
pub struct HttpGetAction {
    /// The path to ask for. Kubernetes' default: `/`. Example: `/healthz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub path: Option<String>,

    /// The port: a number from 1 to 65535, or the name of a port of the container. Where the container has no port of that
    /// name, the setting is left out (finding PortNotFound). Example: `http`.
    pub port: Port,

    /// The host to ask in place of the pod. Never applied, because it would turn the kubelet into a scanner of other hosts:
    /// the setting is refused (finding HostNotAllowed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub host: Option<String>,

    // The schema of an optional enum takes its description from the enum, not from here.
    /// The scheme of the request, `HTTP` or `HTTPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,

    /// Headers to send. At most 32. Example: `[{name: X-Probe, value: liveness}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub http_headers: Vec<HttpHeader>,

    /// The protocol of the connection, `HTTP1` or `HTTP2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<HttpProtocol>,
}

/// A header of an HTTP request.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// The header's name. Example: `X-Probe`.
    #[schemars(schema_with = "crate::bounds::header_name")]
    pub name: String,

    /// The header's value. Example: `liveness`.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// `HTTP` or `HTTPS` (the certificate is not verified). Kubernetes' default: `HTTP`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS; the certificate is not verified.
    Https,
}

/// `HTTP1` or `HTTP2` (without TLS, and without asking first: h2c). Kubernetes' default: `HTTP1`. `HTTP2` needs Kubernetes 1.37
/// or later with the feature gate H2CContainerProbe, which is off by default; elsewhere the probe or hook is left out (finding
/// NotSupported).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, from the first byte on.
    Http2,
}

/// A TCP connection to the container.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocketAction {
    /// The port: a number from 1 to 65535, or the name of a port of the container. Where the container has no port of that
    /// name, the setting is left out (finding PortNotFound). Example: `5432`.
    pub port: Port,

    /// The host to connect to in place of the pod. Never applied: the setting is refused (finding HostNotAllowed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub host: Option<String>,
}

/// A call of the standard gRPC health service in the container.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcAction {
    /// The port, a number from 1 to 65535. Example: `9090`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// The service to ask about. Kubernetes' default: the empty name, which stands for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service: Option<String>,

    /// Whether the connection uses TLS, `Plaintext` or `TLS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GrpcMode>,
}

/// `Plaintext` or `TLS` (the certificate is not verified). Kubernetes' default: `Plaintext`. `TLS` needs Kubernetes 1.37 or later
/// with the feature gate GRPCContainerProbeTLS, which is off by default; elsewhere the probe is left out (finding NotSupported).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum GrpcMode {
    /// A connection without TLS.
    Plaintext,
    /// A connection over TLS; the certificate is not verified.
    #[serde(rename = "TLS")]
    Tls,
}

/// A command that runs in the container.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecAction {
    /// The command and its arguments; no shell is involved unless you name one. One word at least.
    /// Example: `[pg_isready, -q]`.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
}

/// A port: a number, or the name of one of the container's ports.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Port {
    /// A port number.
    Number(i32),
    /// The name of a port of the container.
    Name(String),
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": is_port(),
                "message": "a number from 1 to 65535, without quotes, or a port name: at most 15 lower-case letters, digits and single '-' between them, one letter at least",
            }],
        })
    }
}

/// The rule in CEL: a number in range, or an IANA service name.
///
/// API servers before 1.35 ignore `maxLength` here: they assume a text of 3 MiB and refuse a definition whose rule walks along it, as
/// `matches` does, or compares it as a whole, as `type(self) == int` does. Single characters and `in [int]` are cheap by their estimate.
fn is_port() -> String {
    let positions = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]";
    let quoted: Vec<_> = ('a'..='z').chain('0'..='9').map(|character| format!("'{character}'")).collect();
    let is_alphanumeric = format!("self.charAt(at) in [{}]", quoted.join(", "));
    let is_single_hyphen = "self.charAt(at) == '-' && at > 0 && at + 1 < size(self) && self.charAt(at - 1) != '-'";
    format!(
        "type(self) in [int] ? int(self) >= 1 && int(self) <= 65535 : size(self) >= 1 && size(self) <= 15 \
         && {positions}.all(at, at >= size(self) || {is_alphanumeric} || ({is_single_hyphen})) \
         && {positions}.exists(at, at < size(self) && self.charAt(at) >= 'a')"
    )
}
