//! The webhook over HTTPS: `POST /mutate` and `GET /healthz`. What requests hold is bounded; what goes beyond is answered with an error at
//! once, never queued.
//!
//! Knows nothing of pods: a [`Handler`] answers bodies with bodies.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body as _,
    header::{ALLOW, HeaderValue},
};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::https::{self, Body, Certificate, Incoming, Limits, Service, response};

/// The path at which pods are asked about.
pub const PATH: &str = "/mutate";

/// Answers the body of a `POST /mutate`.
pub trait Handler: Send + Sync + 'static {
    /// JSON with status 200, or a status and a line that says why.
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal>;

    /// Is told of each answer, also of those that it did not make.
    fn answered(&self, _status: StatusCode, _took: Duration) {}
}

/// Why a request has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// Why, and what to do.
    pub message: String,
}

impl Refusal {
    /// One with this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// Why the webhook cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on. The operator does not start.
    #[error("cannot listen on {address} for the admission webhook: {error}; choose another with --webhook-address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// TLS cannot be set up with this build. The operator does not start.
    #[error("cannot serve TLS for the admission webhook: {0}")]
    Tls(#[from] rustls::Error),
}

/// Listens on the address.
pub async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), ServeError> {
    let unusable = |error| ServeError::Bind { address, error };
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    Ok((listener.local_addr().map_err(unusable)?, listener))
}

/// Serves until `stop` ends; then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    certificate: Certificate,
    handler: impl Handler,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let server = Server {
        handler,
        limits,
        requests: Arc::new(Semaphore::new(limits.requests)),
        bodies: Arc::new(Semaphore::new(limits.bodies.min(Semaphore::MAX_PERMITS))),
    };
    Ok(https::serve(listener, certificate, server, limits, stop).await?)
}

struct Server<H> {
    handler: H,
    limits: Limits,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl<H: Handler> Service for Server<H> {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => {
                let start = Instant::now();
                let response = match timeout(self.limits.request_time, self.mutate(request)).await {
                    Ok(Ok(body)) => response(StatusCode::OK, "application/json", body),
                    Ok(Err(refusal)) => refused(&refusal),
                    Err(_) => refused(&Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
                };
                self.handler.answered(response.status(), start.elapsed());
                response
            }
            (&Method::GET, "/healthz") => response(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            (_, PATH) => {
                let mut response = refused(&Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed here"));
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
            _ => refused(&Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing here; ask at {PATH}"))),
        }
    }
}

impl<H: Handler> Server<H> {
    async fn mutate(&self, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
        let busy = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way; ask again later");
        let _room = self.requests.try_acquire().map_err(|_| busy())?;
        let limit = self.limits.body;
        let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"));
        let announced = request.body().size_hint().upper();
        if announced.is_some_and(|size| size > limit as u64) {
            return Err(too_large());
        }
        let size = announced.and_then(|size| usize::try_from(size).ok()).unwrap_or(limit);
        let _memory: OwnedSemaphorePermit =
            Arc::clone(&self.bodies).try_acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX)).map_err(|_| busy())?;
        let body =
            Limited::new(request.into_body(), limit).collect().await.map_err(|error| match error.downcast::<LengthLimitError>() {
                Ok(_) => too_large(),
                Err(error) => Refusal::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}")),
            })?;
        self.handler.handle(&body.to_bytes())
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    response(refusal.status, "text/plain; charset=utf-8", format!("{}\n", refusal.message).into_bytes())
}

#[cfg(test)]
mod tests {
    use rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        sign::CertifiedKey,
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::{oneshot, watch},
    };
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;

    /// Says how long the body was.
    struct Length;

    impl Handler for Length {
        fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
            Ok(body.len().to_string().into_bytes())
        }
    }

    struct Running {
        address: SocketAddr,
        connector: TlsConnector,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<Result<(), ServeError>>,
        _certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
    }

    impl Running {
        async fn start(adjust: impl FnOnce(&mut Limits)) -> Self {
            let keys = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&keys).unwrap();
            let chain = vec![CertificateDer::from(certificate.der().to_vec())];
            let mut roots = RootCertStore::empty();
            roots.add(chain[0].clone()).unwrap();
            let provider = Arc::new(ring::default_provider());
            let key = PrivateKeyDer::try_from(keys.serialize_der()).unwrap();
            let served = Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
            let mut limits = Limits { body: 1000, ..Limits::default() };
            adjust(&mut limits);
            let (address, listener) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let (sender, certificate) = watch::channel(Some(served));
            let (stop, stopped) = oneshot::channel();
            let stopped = async move { drop(stopped.await) };
            let task = tokio::spawn(serve(listener, certificate, Length, limits, stopped));
            Self { address, connector, stop, task, _certificate: sender }
        }

        async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
            let stream = TcpStream::connect(self.address).await?;
            self.connector.connect(ServerName::from(self.address.ip()), stream).await
        }

        /// Sends the text, and returns all that comes back.
        async fn ask(&self, text: &str) -> String {
            let mut stream = self.connect().await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            rest(&mut stream).await
        }
    }

    async fn rest(stream: &mut TlsStream<TcpStream>) -> String {
        let mut answer = Vec::new();
        // Servers that close without a farewell are common.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn post(headers: &str, body: &str) -> String {
        format!("POST /mutate?timeout=5s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n{body}")
    }

    #[tokio::test]
    async fn each_request_has_its_status() {
        let server = Running::start(|_| {}).await;
        let chunked = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        for (request, status, body) in [
            (post("content-length: 3\r\n", "abc"), 200, "3"),
            (post("content-length: 1000\r\n", &"x".repeat(1000)), 200, "1000"),
            (post("content-length: 1001\r\n", ""), 413, "the body is larger than 1000 bytes\n"),
            (post("transfer-encoding: chunked\r\n", &chunked), 413, "the body is larger than 1000 bytes\n"),
            (get("/healthz"), 200, "ok\n"),
            (get("/mutate"), 405, "only POST is allowed here\n"),
            (get("/"), 404, "there is nothing here; ask at /mutate\n"),
        ] {
            let answer = server.ask(&request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_goes_beyond_a_bound_is_refused_at_once() {
        for adjust in [(|limits| limits.requests = 1) as fn(&mut Limits), |limits| limits.bodies = 1500] {
            let server = Running::start(adjust).await;
            let mut slow = server.connect().await.unwrap();
            let request = post("content-length: 1000\r\nexpect: 100-continue\r\n", "");
            slow.write_all(request.as_bytes()).await.unwrap();
            let mut word = [0; 12];
            slow.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"HTTP/1.1 100", "its body is awaited");
            let answer = server.ask(&post("content-length: 1000\r\n", &"x".repeat(1000))).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            slow.write_all("x".repeat(1000).as_bytes()).await.unwrap();
            assert!(rest(&mut slow).await.contains("HTTP/1.1 200 OK"));
            assert!(server.ask(&post("content-length: 3\r\n", "abc")).await.starts_with("HTTP/1.1 200 "), "there is room again");
        }
    }

    #[tokio::test]
    async fn body_that_does_not_come_and_silence_are_ended() {
        let short = Duration::from_millis(100);
        let server = Running::start(|limits| (limits.request_time, limits.first_request_time) = (short, short)).await;
        assert!(server.ask(&post("content-length: 10\r\n", "abc")).await.starts_with("HTTP/1.1 408 "));
        assert_eq!(server.ask("").await, "");
        assert_eq!(server.ask("POST /mutate HTTP/1.1\r\nhost:").await, "");
    }

    #[tokio::test]
    async fn request_that_is_under_way_is_finished_when_the_server_stops() {
        let server = Running::start(|_| {}).await;
        let mut slow = server.connect().await.unwrap();
        slow.write_all(post("content-length: 3\r\nexpect: 100-continue\r\n", "").as_bytes()).await.unwrap();
        let mut word = [0; 12];
        slow.read_exact(&mut word).await.unwrap();
        server.stop.send(()).unwrap();
        slow.write_all(b"abc").await.unwrap();
        assert!(rest(&mut slow).await.contains("HTTP/1.1 200 OK"));
        server.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    }
}
