//! A tap on the line between a client and the API server: it notes each request, and holds, breaks or answers those that a test
//! picks.
//!
//! Must never change a request that it sends on, or an answer that comes back.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;
use tower::service_fn;

use crate::wait::{DEADLINE, Seen, eventually};

/// The line of one or more clients. Clones are the same line.
#[derive(Clone, Default)]
pub struct Tap {
    line: Arc<Line>,
}

/// A request, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The HTTP method.
    pub method: Method,
    /// The resource in plural, such as `pods`; empty for paths such as `/metrics`.
    pub resource: String,
    /// The object's name; empty for lists and watches.
    pub name: String,
    /// The subresource, such as `status`; empty for the object itself.
    pub subresource: String,
    /// Whether it is a watch.
    pub watch: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    UnderWay,
    /// An answer with this HTTP status came.
    Answered(u16),
    /// No answer came: the connection broke.
    Broken,
    /// Whoever asked has given up.
    Abandoned,
}

/// What happens to a request that a test has picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// It is held, and sent on when the disturbance ends.
    Hold,
    /// It is not sent, and no answer ever comes.
    Hang,
    /// It is not sent: the connection breaks.
    Break,
    /// It is sent, but the connection breaks before the answer arrives.
    LoseAnswer,
    /// It is not sent, and answered with this HTTP status.
    Answer(StatusCode),
}

/// A disturbance of some requests, until it is ended or dropped.
#[must_use = "a disturbance ends when it is dropped"]
pub struct Disturbed {
    line: Arc<Line>,
    rule: Arc<Rule>,
}

#[derive(Default)]
struct Line {
    exchanges: Mutex<Vec<Exchange>>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

struct Rule {
    picks: Box<dyn Fn(&Exchange) -> bool + Send + Sync>,
    disturbance: Disturbance,
    met: Mutex<Vec<Exchange>>,
    ended: watch::Sender<bool>,
}

impl Tap {
    /// A new client on this line. Like the operator's own it sends nothing again by itself. It belongs to the Tokio runtime that
    /// it is made on.
    pub fn client(&self, mut config: Config) -> anyhow::Result<Client> {
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let (line, inner) = (Arc::clone(&self.line), Client::try_from(config)?);
        let service = service_fn(move |request| Arc::clone(&line).pass(inner.clone(), request));
        Ok(Client::new(service, namespace))
    }

    /// Disturbs the requests that `picks` picks. Of several disturbances the oldest that picks a request counts.
    pub fn disturb(&self, disturbance: Disturbance, picks: impl Fn(&Exchange) -> bool + Send + Sync + 'static) -> Disturbed {
        let rule = Arc::new(Rule { picks: Box::new(picks), disturbance, met: Mutex::default(), ended: watch::Sender::new(false) });
        lock(&self.line.rules).push(Arc::clone(&rule));
        Disturbed { line: Arc::clone(&self.line), rule }
    }

    /// All requests so far, in the order in which they were sent.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.line.exchanges).clone()
    }

    /// What came of each write to one object, its subresources apart, once none is under way: a test can see a write on the object
    /// before the operator has its answer.
    pub async fn writes(&self, resource: &str, name: &str) -> anyhow::Result<Vec<Outcome>> {
        eventually(&format!("the writes to {resource}/{name} to be answered"), DEADLINE, async || {
            let exchanges = lock(&self.line.exchanges);
            let writes = exchanges.iter().filter(|exchange| exchange.writes(resource) && exchange.name == name);
            let outcomes: Vec<_> = writes.map(|exchange| exchange.outcome).collect();
            Ok(if outcomes.contains(&Outcome::UnderWay) { Seen::NotYet(format!("{outcomes:?}")) } else { Seen::Done(outcomes) })
        })
        .await
    }
}

impl Exchange {
    fn of(request: &Request<Body>) -> Self {
        let mut segments = request.uri().path().split('/').filter(|segment| !segment.is_empty()).peekable();
        // `api/VERSION` or `apis/GROUP/VERSION`, then, for objects in a namespace, `namespaces/NAME`.
        let prefix = if segments.next() == Some("apis") { 2 } else { 1 };
        let mut rest: Vec<_> = segments.skip(prefix).collect();
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest.drain(..2);
        }
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let watch = request.uri().query().is_some_and(|query| query.split('&').any(|parameter| parameter == "watch=true"));
        Self { method: request.method().clone(), resource: part(0), name: part(1), subresource: part(2), watch, outcome: Outcome::UnderWay }
    }

    /// Whether it changes an object of this resource, its subresources apart.
    pub fn writes(&self, resource: &str) -> bool {
        self.method != Method::GET && self.resource == resource && self.subresource.is_empty()
    }

    /// Whether it changes the status of an object of this resource.
    pub fn writes_status(&self, resource: &str) -> bool {
        self.method != Method::GET && self.resource == resource && self.subresource == "status"
    }
}

impl fmt::Display for Exchange {
    /// `PATCH pods/web Answered(200)`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, resource, name, subresource, watch, outcome } = self;
        let verb = if *watch { "WATCH" } else { method.as_str() };
        let path = [resource, name, subresource].map(String::as_str).join("/");
        write!(formatter, "{verb} {} {outcome:?}", path.trim_end_matches('/'))
    }
}

impl Disturbed {
    /// Waits until so many requests at least have met it, and returns them as they were then.
    pub async fn met(&self, count: usize) -> anyhow::Result<Vec<Exchange>> {
        eventually(&format!("{count} requests to meet {:?}", self.rule.disturbance), DEADLINE, async || {
            let met = lock(&self.rule.met).clone();
            let all = || lock(&self.line.exchanges).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Ok(if met.len() >= count { Seen::Done(met) } else { Seen::NotYet(format!("{} of\n{}", met.len(), all())) })
        })
        .await
    }

    /// Ends it: what is held is sent on, and what comes is disturbed no more.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        lock(&self.line.rules).retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        self.rule.ended.send_replace(true);
    }
}

impl Line {
    async fn pass(self: Arc<Self>, inner: Client, request: Request<Body>) -> kube::Result<Response<Body>> {
        let exchange = Exchange::of(&request);
        let rule = lock(&self.rules).iter().find(|rule| (rule.picks)(&exchange)).cloned();
        if let Some(rule) = &rule {
            lock(&rule.met).push(exchange.clone());
        }
        let note = Note::new(self, exchange);
        let result = match rule {
            None => inner.send(request).await,
            Some(rule) => rule.disturb(inner, request).await,
        };
        note.end(match &result {
            Ok(response) => Outcome::Answered(response.status().as_u16()),
            Err(_) => Outcome::Broken,
        });
        result
    }
}

impl Rule {
    async fn disturb(&self, inner: Client, request: Request<Body>) -> kube::Result<Response<Body>> {
        match self.disturbance {
            Disturbance::Hold => {
                // Fails when the sender is gone, which is the end of the disturbance as well.
                let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
                inner.send(request).await
            }
            Disturbance::Hang => std::future::pending().await,
            Disturbance::Break => Err(broken()),
            Disturbance::LoseAnswer => {
                inner.send(request).await?;
                Err(broken())
            }
            Disturbance::Answer(code) => Ok(answer(code)),
        }
    }
}

fn broken() -> kube::Error {
    kube::Error::Service(io::Error::from(io::ErrorKind::ConnectionReset).into())
}

fn answer(code: StatusCode) -> Response<Body> {
    let message = format!("the test answers {code}");
    let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "message": message });
    let mut response = Response::new(Body::from(status.to_string().into_bytes()));
    *response.status_mut() = code;
    response
}

/// A line in the list of requests, to which the outcome is still to be written.
struct Note {
    line: Arc<Line>,
    index: usize,
}

impl Note {
    fn new(line: Arc<Line>, exchange: Exchange) -> Self {
        let mut exchanges = lock(&line.exchanges);
        exchanges.push(exchange);
        let index = exchanges.len() - 1;
        drop(exchanges);
        Self { line, index }
    }

    fn end(self, outcome: Outcome) {
        lock(&self.line.exchanges)[self.index].outcome = outcome;
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let outcome = &mut lock(&self.line.exchanges)[self.index].outcome;
        if *outcome == Outcome::UnderWay {
            *outcome = Outcome::Abandoned;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(method: Method, uri: &str) -> Exchange {
        Exchange::of(&Request::builder().method(method).uri(uri).body(Body::empty()).unwrap())
    }

    #[test]
    fn paths_are_taken_apart() {
        let pod = exchange(Method::PATCH, "/api/v1/namespaces/shop/pods/web?fieldManager=x");
        assert_eq!(pod.to_string(), "PATCH pods/web UnderWay");
        assert!(pod.writes("pods") && !pod.writes_status("pods"));

        let status = exchange(Method::PATCH, "/apis/podpolicy.dev/v1alpha1/namespaces/shop/podpolicies/web/status");
        assert_eq!(status.to_string(), "PATCH podpolicies/web/status UnderWay");
        assert!(status.writes_status("podpolicies") && !status.writes("podpolicies"));

        let watch = exchange(Method::GET, "/api/v1/pods?&watch=true&timeoutSeconds=290");
        assert_eq!((watch.to_string(), watch.writes("pods")), ("WATCH pods UnderWay".to_owned(), false));
        assert_eq!(exchange(Method::GET, "/api/v1/namespaces/shop").to_string(), "GET namespaces/shop UnderWay");
        assert_eq!(exchange(Method::GET, "/metrics").resource, "");
    }
}
