//! `/metrics` over TLS, for callers that the API server lets read it, and for nobody else.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use kube::Client;
use podpolicy_admission::{
    https::{self, Body, Incoming, Limits, Service, response},
    webhook::keep_files,
};
use tokio::sync::watch;

use super::{
    METRICS_PATH, OPEN_METRICS, ServeError, Shown,
    access::{Access, Verdict},
    bind,
};
use crate::Metrics;

/// What callers can hold. They are few, and ask now and then.
const LIMITS: Limits = Limits {
    body: 0,
    bodies: 0,
    requests: 32,
    connections: 64,
    request_time: Duration::from_secs(15),
    first_request_time: Duration::from_secs(10),
    idle_time: Duration::from_mins(3),
    connection_time: Duration::from_mins(10),
    shutdown_time: Duration::from_secs(1),
};

const TEXT: &str = "text/plain; charset=utf-8";

/// Listens on the address, and serves in the future that is returned until it is dropped. The certificate is that in `tls.crt` and `tls.key`
/// of the folder, read again when it changes; without a folder one is made that nobody vouches for.
pub async fn serve_protected(
    client: Client,
    address: SocketAddr,
    certificates: Option<PathBuf>,
    metrics: Arc<Metrics>,
) -> Result<(SocketAddr, impl Future<Output = Result<(), ServeError>> + Send), ServeError> {
    let (local, listener) = bind(address, Shown::ProtectedMetrics).await?;
    let (sender, certificate) = watch::channel(None);
    if certificates.is_none() {
        sender.send_replace(Some(https::self_signed()?));
    }
    let service = Protected { access: Access::new(client), metrics };
    let serving = async move {
        let keeping = async {
            match &certificates {
                Some(folder) => match keep_files(folder, &sender).await {},
                None => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            served = https::serve(listener, certificate, service, LIMITS, std::future::pending()) => Ok(served?),
            () = keeping => Ok(()),
        }
    };
    Ok((local, serving))
}

struct Protected {
    access: Access,
    metrics: Arc<Metrics>,
}

impl Service for Protected {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != METRICS_PATH {
            return refuse(StatusCode::NOT_FOUND, &format!("there is nothing here; ask at {METRICS_PATH}"));
        }
        if request.method() != Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here");
        }
        let Some(token) = bearer_token(&request) else {
            return unauthorized("show a token: Authorization: Bearer TOKEN");
        };
        match self.access.verdict(token).await {
            Ok(Verdict::Allowed) => response(StatusCode::OK, OPEN_METRICS, self.metrics.to_text().into_bytes()),
            Ok(Verdict::Forbidden(user)) => {
                let message = format!("{user} may not get {METRICS_PATH}; bind the ClusterRole podpolicy-metrics-reader to it");
                refuse(StatusCode::FORBIDDEN, &message)
            }
            Ok(Verdict::Unknown) => unauthorized("the API server does not know the token"),
            Err(error) => {
                tracing::warn!(%error, "could not look up who asks for metrics");
                refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
        }
    }
}

fn bearer_token<B>(request: &Request<B>) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn unauthorized(message: &str) -> Response<Body> {
    let mut response = refuse(StatusCode::UNAUTHORIZED, message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    response(status, TEXT, format!("{message}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_that_of_a_bearer() {
        for (header, token) in
            [("Bearer abc", Some("abc")), ("bearer  abc ", Some("abc")), ("Basic abc", None), ("Bearer ", None), ("Bearer", None)]
        {
            assert_eq!(bearer_token(&Request::builder().header(AUTHORIZATION, header).body(()).unwrap()), token, "{header}");
        }
        assert_eq!(bearer_token(&Request::new(())), None);
    }
}
