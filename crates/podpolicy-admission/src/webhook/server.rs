//! HTTPS for API servers: `POST /mutate` and `GET /healthz`, over HTTP/2 or HTTP/1.1. Every resource that a client can hold is bounded in
//! size, number or time; what goes beyond is answered with an error at once, never queued.
//!
//! Knows nothing of pods: a [`Handler`] answers bodies with bodies.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_rustls::TlsAcceptor;

/// The path at which pods are asked about.
pub const PATH: &str = "/mutate";

/// What a client can hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body. An API server takes no object larger than 3 MiB, and sends it with some words around it.
    pub body: usize,
    /// Bytes of all bodies that are read at a time.
    pub bodies: usize,
    /// Requests that are under way at a time.
    pub requests: usize,
    /// Connections.
    pub connections: usize,
    /// For one request, from its head to its answer.
    pub request_time: Duration,
    /// For the handshake of a connection, and from there to its first request.
    pub first_request_time: Duration,
    /// How long a connection may be idle. Longer than API servers keep one (90 s), so that it is they who close it.
    pub idle_time: Duration,
    /// After this an HTTP/2 connection is ended, without loss of a request: the client makes another, and may come to another replica.
    pub connection_time: Duration,
    /// For requests that are under way when the server stops.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 3 * 1024 * 1024 + 512 * 1024,
            bodies: 64 * 1024 * 1024,
            requests: 512,
            connections: 1024,
            request_time: Duration::from_secs(5),
            first_request_time: Duration::from_secs(10),
            idle_time: Duration::from_mins(3),
            connection_time: Duration::from_mins(10),
            shutdown_time: Duration::from_secs(5),
        }
    }
}

/// The certificate that is served now; none as long as there is none.
pub type Certificate = watch::Receiver<Option<Arc<CertifiedKey>>>;

/// Answers the body of a `POST /mutate`.
pub trait Handler: Send + Sync + 'static {
    /// JSON with status 200, or a status and a line that says why.
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, Refusal>;
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
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificate)?));
    let (stopping, stopped) = watch::channel(());
    let connections = Arc::new(Semaphore::new(limits.connections));
    let server = Arc::new(Server {
        handler,
        limits,
        requests: Arc::new(Semaphore::new(limits.requests)),
        bodies: Arc::new(Semaphore::new(limits.bodies.min(Semaphore::MAX_PERMITS))),
    });
    let mut tasks = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without room the connection is closed at once.
                let Ok(room) = Arc::clone(&connections).try_acquire_owned() else { continue };
                let connection = connection(Arc::clone(&server), acceptor.clone(), stream, stopped.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(room);
                });
            }
            Err(error) => {
                // Out of files, or the client has gone already. A moment later there may be room again.
                tracing::warn!(%error, "could not accept a connection to the webhook");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop((listener, stopping));
    // Dropping the tasks ends those that take longer.
    let _ = timeout(limits.shutdown_time, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

fn tls(certificate: Certificate) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Current(certificate)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes the certificate that is there when a client connects.
#[derive(Debug)]
struct Current(Certificate);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

struct Server<H> {
    handler: H,
    limits: Limits,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// What a connection has been doing.
struct Activity {
    start: Instant,
    has_asked: AtomicBool,
    under_way: AtomicUsize,
    /// When the last request ended, in milliseconds after the start.
    last: AtomicU64,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.has_asked.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    fn is_idle_for(&self, time: Duration) -> bool {
        let idle = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        self.under_way.load(Ordering::Relaxed) == 0 && Duration::from_millis(idle) >= time
    }
}

/// A request that is under way until this is dropped.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection until it ends, is idle for too long, or the server stops.
async fn connection<H: Handler>(server: Arc<Server<H>>, acceptor: TlsAcceptor, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    let limits = server.limits;
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(limits.first_request_time, acceptor.accept(stream));
    let stream = tokio::select! {
        stream = handshake => match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client of the webhook did not complete its handshake");
                return;
            }
            Err(_) => return,
        },
        _ = stopped.changed() => return,
    };
    // HTTP/1.1 has no way to end a connection without a race with the next request.
    let is_mortal = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let activity = Arc::new(Activity {
        start: Instant::now(),
        has_asked: AtomicBool::new(false),
        under_way: AtomicUsize::new(0),
        last: AtomicU64::new(0),
    });
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request| {
            let (server, under_way) = (Arc::clone(&server), activity.begin());
            async move {
                let response = server.respond(request).await;
                drop(under_way);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let builder = builder(&limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut ticks = interval(limits.first_request_time.min(limits.idle_time).min(limits.connection_time) / 4 + Duration::from_millis(1));
    let mut is_ending = false;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // Its errors are those of the client: it has gone.
            _ = connection.as_mut() => return,
            _ = ticks.tick() => {
                let is_silent = !activity.has_asked.load(Ordering::Relaxed) && activity.is_idle_for(limits.first_request_time);
                let is_lingering = is_ending && !is_stopping && activity.is_idle_for(limits.idle_time + limits.first_request_time);
                if is_silent || is_lingering {
                    return;
                }
                let is_old = is_mortal && activity.start.elapsed() >= limits.connection_time;
                if !is_ending && (is_old || activity.is_idle_for(limits.idle_time)) {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            _ = stopped.changed(), if !is_stopping => {
                (is_ending, is_stopping) = (true, true);
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Between two requests this time runs as well, so that it is the one for idle connections.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_time).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15))
        .max_concurrent_streams(250)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    builder
}

impl<H: Handler> Server<H> {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => match timeout(self.limits.request_time, self.mutate(request)).await {
                Ok(Ok(body)) => response(StatusCode::OK, "application/json", body),
                Ok(Err(refusal)) => refused(&refusal),
                Err(_) => refused(&Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
            },
            (&Method::GET, "/healthz") => response(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            (_, PATH) => {
                let mut response = refused(&Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed here"));
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
            _ => refused(&Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing here; ask at {PATH}"))),
        }
    }

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

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    response(refusal.status, "text/plain; charset=utf-8", format!("{}\n", refusal.message).into_bytes())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::oneshot,
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
