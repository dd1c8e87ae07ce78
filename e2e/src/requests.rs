//! What was asked of the API server, as it counts it itself (`/metrics`): for tests that say "and then it sent nothing".
//!
//! The counts cover all clients of that API server, so a test that counts needs a control plane, or at least a kind of
//! object, of its own. Must never send a request that it would count: it reads `/metrics` and nothing else.
//!
//! A request is counted after its response has been written, a watch when it ends. So a client can have its answer before
//! the count moves: whoever reads waits until the counts stand still ([`Requests::settled`]).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::wait::DEADLINE;

/// How far apart two reads must agree.
const STILL: Duration = Duration::from_millis(200);

/// The verbs that change something, as the API server names them: `APPLY` is a server-side apply, `PATCH` any other patch.
const WRITES: [&str; 6] = ["APPLY", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT"];

/// A kind of request, as the API server tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The resource in plural, such as `pods`; empty for paths such as `/metrics`.
    pub resource: String,
    /// The subresource, such as `status`; empty for the object itself.
    pub subresource: String,
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `APPLY` (a server-side apply), `DELETE`, `DELETECOLLECTION` or `CONNECT`.
    pub verb: String,
    /// The HTTP status of the response.
    pub code: u16,
    /// The API group; empty for core.
    pub group: String,
    /// Whether it was sent with `dryRun`.
    pub dry_run: bool,
}

/// Which responses to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// All.
    Any,
    /// Those below 400.
    Success,
    /// Those from 400.
    Failure,
    /// Those with this code.
    Only(u16),
}

impl Request {
    /// Whether it changes something, or would but for `dryRun`.
    pub fn is_write(&self) -> bool {
        WRITES.contains(&self.verb.as_str())
    }
}

impl Codes {
    fn include(self, code: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Success => code < 400,
            Self::Failure => code >= 400,
            Self::Only(only) => code == only,
        }
    }
}

/// The counts at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    counts: BTreeMap<Request, u64>,
    /// Requests to etcd, by operation (`get`, `list`, `create`, `update`, `delete`, ...) and resource.
    etcd: BTreeMap<(String, String), u64>,
    /// Of kube-apiserver, in bytes.
    memory: u64,
}

impl Requests {
    /// The counts as they are now.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new()).context("the request for /metrics could not be built")?;
        let text = client.request_text(request).await.context("the API server's /metrics could not be read")?;
        Self::parse(&text)
    }

    /// The counts once those of `resource`, watches apart, have stood still for a moment.
    pub async fn settled(client: &Client, resource: &str) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut before = Self::read(client).await?;
        loop {
            // Not a wait for something: the distance between two samples.
            sleep(STILL).await;
            let now = Self::read(client).await?;
            let moved = now.since(&before).matching(|request| request.resource == resource && request.verb != "WATCH");
            if moved == 0 {
                return Ok(now);
            }
            if start.elapsed() > DEADLINE {
                bail!("requests for {resource} did not come to rest in {DEADLINE:?}; the last {STILL:?}:\n{}", now.since(&before));
            }
            before = now;
        }
    }

    /// What was counted after `earlier`; the memory is that of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { counts: difference(&self.counts, &earlier.counts), etcd: difference(&self.etcd, &earlier.etcd), memory: self.memory }
    }

    /// How many requests with this verb there were for exactly this resource and subresource (empty: the object itself).
    ///
    /// A server-side apply has the verb `APPLY`, not `PATCH`.
    pub fn count(&self, verb: &str, resource: &str, subresource: &str, codes: Codes) -> u64 {
        self.matching(|request| {
            request.verb == verb && request.resource == resource && request.subresource == subresource && codes.include(request.code)
        })
    }

    /// How many requests there were that change this resource or one of its subresources, whatever came of them.
    pub fn writes(&self, resource: &str) -> u64 {
        self.matching(|request| request.resource == resource && request.is_write())
    }

    /// How many requests there were of the kinds that `matches` picks.
    pub fn matching(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        self.counts.iter().filter(|(request, _)| matches(request)).map(|(_, count)| count).sum()
    }

    /// How many requests kube-apiserver sent to etcd for a resource, by etcd operation: `get`, `list`, `create`, `update`, ...
    ///
    /// An update that it tried with an old state from its cache is sent, and counted, again.
    pub fn etcd(&self, operation: &str, resource: &str) -> u64 {
        self.etcd.get(&(operation.to_owned(), resource.to_owned())).copied().unwrap_or_default()
    }

    /// The resident memory of kube-apiserver in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parsed = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (metric, rest) = line.split_at(end);
            if !matches!(metric, "apiserver_request_total" | "etcd_requests_total" | "process_resident_memory_bytes") {
                continue;
            }
            let (labels, value) = sample(rest).with_context(|| format!("not a metric: {line}"))?;
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            match metric {
                "apiserver_request_total" => {
                    let request = Request {
                        resource: label("resource"),
                        subresource: label("subresource"),
                        verb: label("verb"),
                        code: label("code").parse().with_context(|| format!("the code is not a number: {line}"))?,
                        group: label("group"),
                        dry_run: !label("dry_run").is_empty(),
                    };
                    // The version and scope of a request are not told apart.
                    *parsed.counts.entry(request).or_default() += value;
                }
                "etcd_requests_total" => *parsed.etcd.entry((label("operation"), label("resource"))).or_default() += value,
                _ => parsed.memory = value,
            }
        }
        anyhow::ensure!(!parsed.counts.is_empty(), "the API server's /metrics have no apiserver_request_total");
        Ok(parsed)
    }
}

impl fmt::Display for Requests {
    /// One line for each kind of request, for messages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (request, count) in &self.counts {
            let Request { resource, subresource, verb, code, group: _, dry_run } = request;
            let slash = if subresource.is_empty() { "" } else { "/" };
            let dry_run = if *dry_run { " (dry run)" } else { "" };
            writeln!(formatter, "{count} {verb} {resource}{slash}{subresource} {code}{dry_run}")?;
        }
        Ok(())
    }
}

fn difference<K: Clone + Ord>(later: &BTreeMap<K, u64>, earlier: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
    let mut difference = later.clone();
    for (key, count) in &mut difference {
        *count = count.saturating_sub(earlier.get(key).copied().unwrap_or_default());
    }
    difference.retain(|_, count| *count > 0);
    difference
}

/// The labels and the value of a line in the Prometheus text format, without the name: `{key="value",...} 12`.
fn sample(text: &str) -> Option<(BTreeMap<&str, String>, u64)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (name, after_name) = rest.split_once("=\"")?;
            let (value, after_value) = quoted(after_name)?;
            labels.insert(name.trim_start_matches(','), value);
            rest = after_value;
        }
        rest = &rest[1..];
    }
    let value: f64 = rest.trim().parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts and bytes are small whole numbers written as floats"
    )]
    Some((labels, value as u64))
}

/// The text up to the closing quote with escapes resolved, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"
# HELP apiserver_request_total Counter of apiserver requests.
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="PATCH",version="v1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="All",group="",resource="pods",scope="resource",subresource="",verb="PATCH",version="v1"} 1
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="status",verb="APPLY",version="v1"} 1.234567e+06
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 7
apiserver_request_total_other{resource="pods"} 5
etcd_requests_total{group="",operation="update",resource="pods"} 4
process_resident_memory_bytes 2.56e+08
"#;

    #[test]
    fn requests_are_counted_by_verb_resource_subresource_and_code() {
        let requests = Requests::parse(METRICS).unwrap();
        assert_eq!(requests.count("PATCH", "pods", "", Codes::Any), 4);
        assert_eq!(requests.count("PATCH", "pods", "", Codes::Failure), 0);
        assert_eq!(requests.count("APPLY", "pods", "status", Codes::Only(409)), 1_234_567);
        assert_eq!(requests.count("LIST", "pods", "", Codes::Success), 7);
        assert_eq!(requests.writes("pods"), 1_234_571);
        assert_eq!(requests.matching(|request| request.dry_run), 1);
        assert_eq!(requests.etcd("update", "pods"), 4);
        assert_eq!(requests.memory(), 256_000_000);
    }

    #[test]
    fn difference_holds_only_what_moved() {
        let earlier = Requests::parse(METRICS).unwrap();
        let later = Requests::parse(&METRICS.replace("\"LIST\",version=\"v1\"} 7", "\"LIST\",version=\"v1\"} 9")).unwrap();
        assert_eq!(later.since(&earlier).to_string(), "2 LIST pods 200\n");
    }

    #[test]
    fn escaped_quotes_and_braces_stay_inside_a_label() {
        let (labels, value) = sample(r#"{a="x\"},y=",b="z"} 12"#).unwrap();
        assert_eq!((labels["a"].as_str(), labels["b"].as_str(), value), ("x\"},y=", "z", 12));
    }

    #[test]
    fn page_without_request_counts_is_refused() {
        assert!(Requests::parse("process_resident_memory_bytes 1").is_err());
    }
}
