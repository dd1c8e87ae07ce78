//! The endpoints for the kubelet and for Prometheus: `/healthz`, `/readyz` and `/metrics`. They only read.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{Health, Metrics};

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on. The operator does not start.
    #[error(
        "cannot listen on {address} for health and metrics: {error}; choose another with --metrics-address, or none with an empty value"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The listener failed. The operator stops.
    #[error("health and metrics can no longer be served: {0}")]
    Serve(io::Error),
}

/// Listens on the address, and serves in the future that is returned until it is dropped.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> Result<(SocketAddr, impl Future<Output = Result<(), ServeError>> + Send), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Bind { address, error })?;
    let local = listener.local_addr().map_err(|error| ServeError::Bind { address, error })?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .route("/metrics", get(text))
        .with_state(metrics);
    Ok((local, async move { axum::serve(listener, routes).await.map_err(ServeError::Serve) }))
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.is_live() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the loop has not run for too long\n") }
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not everything has been listed yet\n") }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.to_text())
}
