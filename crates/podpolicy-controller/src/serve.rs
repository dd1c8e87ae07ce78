//! The endpoints for the kubelet and for Prometheus: `/healthz`, `/readyz` and `/metrics`. They only read.

mod access;
mod protected;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{Health, Metrics};
pub use protected::serve_protected;

const METRICS_PATH: &str = "/metrics";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on. The operator does not start.
    #[error("cannot listen on {address} for {shown}: {error}; choose another with {}, or none with an empty value", shown.flag())]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What was to be served.
        shown: Shown,
        /// What the system said.
        error: io::Error,
    },
    /// The listener failed. The operator stops.
    #[error("health and metrics can no longer be served: {0}")]
    Serve(io::Error),
    /// TLS cannot be set up. The operator does not start.
    #[error("cannot serve metrics over TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// Health, and metrics where these are for all.
    Health,
    /// Metrics for those who may read them.
    ProtectedMetrics,
}

impl Shown {
    fn flag(self) -> &'static str {
        match self {
            Self::Health => "--metrics-address",
            Self::ProtectedMetrics => "--metrics-protected-address",
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "health and metrics",
            Self::ProtectedMetrics => "protected metrics",
        })
    }
}

/// Listens on the address, and serves in the future that is returned until it is dropped. Without metrics, `/metrics` is not there.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Option<Arc<Metrics>>,
) -> Result<(SocketAddr, impl Future<Output = Result<(), ServeError>> + Send), ServeError> {
    let (local, listener) = bind(address, Shown::Health).await?;
    let routes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    let routes = match metrics {
        Some(metrics) => routes.merge(Router::new().route(METRICS_PATH, get(text)).with_state(metrics)),
        None => routes,
    };
    Ok((local, async move { axum::serve(listener, routes).await.map_err(ServeError::Serve) }))
}

async fn bind(address: SocketAddr, shown: Shown) -> Result<(SocketAddr, TcpListener), ServeError> {
    let unusable = |error| ServeError::Bind { address, shown, error };
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    Ok((listener.local_addr().map_err(unusable)?, listener))
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.is_live() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the loop has not run for too long\n") }
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not everything has been listed yet\n") }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.to_text())
}
