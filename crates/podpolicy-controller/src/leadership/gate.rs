//! Lets writes through while this operator leads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use http::{Method, Request};
use kube::{Client, client::Body};

/// Why a write was not sent.
#[derive(Debug, thiserror::Error)]
#[error("this operator does not lead any more")]
pub(crate) struct NotLeading;

/// Whether this operator leads, at the moment it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Mutex<Term>>);

/// How long this operator leads.
#[derive(Clone, Copy, Debug)]
enum Term {
    /// There is no other.
    Always,
    /// Until then, unless it is renewed.
    Until(Instant),
    /// It does not.
    Never,
}

impl Gate {
    /// The gate of an operator that is alone.
    pub(crate) fn open() -> Self {
        Self(Arc::new(Mutex::new(Term::Always)))
    }

    /// The gate of an operator that does not lead yet.
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Mutex::new(Term::Never)))
    }

    /// Whether writes are let through now.
    pub(crate) fn is_open(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Term::Always => true,
            Term::Until(end) => Instant::now() < end,
            Term::Never => false,
        }
    }

    pub(super) fn open_until(&self, end: Instant) {
        self.set(Term::Until(end));
    }

    pub(super) fn close(&self) {
        self.set(Term::Never);
    }

    fn set(&self, term: Term) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    /// A client whose writes fail while the gate is closed. It asks as late as it can.
    pub(crate) fn guard(&self, client: &Client) -> Client {
        let (gate, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (gate, inner) = (gate.clone(), inner.clone());
            async move {
                if is_write(request.method()) && !gate.is_open() {
                    return Err(tower::BoxError::from(NotLeading));
                }
                inner.send(request).await.map_err(tower::BoxError::from)
            }
        });
        Client::new(service, client.default_namespace())
    }
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, Patch, PatchParams, PostParams},
    };
    use serde_json::json;

    use super::*;

    /// A client that counts what is sent.
    fn counting() -> (Client, Arc<AtomicUsize>) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let service = tower::service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } }).to_string();
            async move { Ok::<_, tower::BoxError>(Response::new(Body::from(answer.into_bytes()))) }
        });
        (Client::new(service, "shop"), sent)
    }

    #[tokio::test]
    async fn writes_leave_the_process_only_while_the_gate_is_open() {
        let (client, sent) = counting();
        let gate = Gate::closed();
        let api: Api<ConfigMap> = Api::default_namespaced(gate.guard(&client));
        let write_all = async || {
            let patch = api.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await.is_ok();
            let create = api.create(&PostParams::default(), &ConfigMap::default()).await.is_ok();
            let delete = api.delete("a", &DeleteParams::default()).await.is_ok();
            let replace = api.replace("a", &PostParams::default(), &ConfigMap::default()).await.is_ok();
            [patch, create, delete, replace]
        };
        assert_eq!(write_all().await, [false; 4]);
        assert_eq!(sent.load(Ordering::Relaxed), 0);
        api.get("a").await.unwrap();
        assert_eq!(sent.load(Ordering::Relaxed), 1, "reading is for everybody");
        gate.open_until(Instant::now() + Duration::from_mins(1));
        assert_eq!(write_all().await, [true; 4]);
        gate.open_until(Instant::now());
        assert_eq!(write_all().await, [false; 4], "the time is over");
        gate.close();
        assert_eq!(write_all().await, [false; 4]);
        assert_eq!(sent.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn refused_write_says_why() {
        let (client, _) = counting();
        let api: Api<ConfigMap> = Api::default_namespaced(Gate::closed().guard(&client));
        let error = api.delete("a", &DeleteParams::default()).await.unwrap_err();
        assert!(error.to_string().contains("does not lead any more"), "{error}");
    }
}
