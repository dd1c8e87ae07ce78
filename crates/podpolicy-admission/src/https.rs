//! HTTPS, over HTTP/2 or HTTP/1.1. Every resource that a client can hold is bounded in size, number or time; what goes beyond is ended or
//! answered with an error at once, never queued.
//!
//! Knows nothing of what is asked: a [`Service`] answers requests.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_rustls::TlsAcceptor;

pub use hyper::body::Incoming;

/// What an answer holds.
pub type Body = Full<Bytes>;

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

/// A certificate that is made now and that nobody vouches for: it hides what is sent from those who listen, and shows nobody who answers.
pub fn self_signed() -> Result<Arc<CertifiedKey>, rustls::Error> {
    let unusable = |error: &dyn std::fmt::Display| rustls::Error::General(error.to_string());
    let keys = KeyPair::generate().map_err(|error| unusable(&error))?;
    let params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(|error| unusable(&error))?;
    let certificate = params.self_signed(&keys).map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::try_from(keys.serialize_der()).map_err(|error| unusable(&error))?;
    CertifiedKey::from_der(vec![certificate.der().clone()], key, &ring::default_provider()).map(Arc::new)
}

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The answer; what a request may hold is the service's to bound.
    fn respond(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves until `stop` ends; then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    certificate: Certificate,
    service: impl Service,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificate)?));
    let (stopping, stopped) = watch::channel(());
    let connections = Arc::new(Semaphore::new(limits.connections));
    let service = Arc::new(service);
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
                let connection = connection(Arc::clone(&service), limits, acceptor.clone(), stream, stopped.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(room);
                });
            }
            Err(error) => {
                // Out of files, or the client has gone already. A moment later there may be room again.
                tracing::warn!(%error, "could not accept a connection");
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
async fn connection(
    service: Arc<impl Service>,
    limits: Limits,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut stopped: watch::Receiver<()>,
) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(limits.first_request_time, acceptor.accept(stream));
    let stream = tokio::select! {
        stream = handshake => match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client did not complete its handshake");
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
    let answering = {
        let activity = Arc::clone(&activity);
        service_fn(move |request| {
            let (service, under_way) = (Arc::clone(&service), activity.begin());
            async move {
                let response = service.respond(request).await;
                drop(under_way);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let builder = builder(&limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answering));
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

/// An answer with this body.
pub fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
