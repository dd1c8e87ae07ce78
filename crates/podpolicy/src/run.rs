//! `podpolicy run`: the operator, until SIGTERM or SIGINT.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::SocketAddr,
    num::NonZeroU16,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use podpolicy_admission::webhook::{self, Certificates, Endpoint};
use podpolicy_controller::{
    AdmissionMode, Config, DEFAULT_EXCLUDED_NAMESPACES, Election, ElectionTimes, Health, LEASE_NAME, Metrics, Watched, serve,
    serve_protected,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    cluster::{self, Cluster},
    logging::{self, LogFormat},
    words,
};

/// A watch is ended by the API server within 290 seconds: an answer that takes longer will not come.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// Each flag can be given as the environment variable beside it instead.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Watch only these namespaces, comma-separated [default: the whole cluster]
    ///
    /// ClusterPodPolicies are then left alone: they need rights on the whole cluster.
    #[arg(long, env = "PODPOLICY_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE", value_parser = words::one_namespace)]
    namespaces: Vec<String>,

    /// Namespaces in which no ClusterPodPolicy acts, comma-separated; the operator's own is always one of them, unless this is
    /// given
    #[arg(long, env = "PODPOLICY_EXCLUDE_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE", value_parser = words::one_namespace, default_values = DEFAULT_EXCLUDED_NAMESPACES)]
    exclude_namespaces: Vec<String>,

    /// Label and annotation keys that no policy may set, comma-separated, beside those of Kubernetes
    #[arg(long, env = "PODPOLICY_PROTECT_KEYS", value_delimiter = ',', value_name = "KEY", value_parser = words::one_key)]
    protect_keys: Vec<String>,

    /// How pods are given their settings when they are created
    #[arg(long, env = "PODPOLICY_ADMISSION", value_enum, default_value = "auto")]
    admission: Admission,

    /// Where the admission webhook listens
    #[arg(long, env = "PODPOLICY_WEBHOOK_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9443")]
    webhook_address: SocketAddr,

    /// The Service by which API servers reach the webhook, in the operator's own namespace; its port is 443
    #[arg(long, env = "PODPOLICY_WEBHOOK_SERVICE", value_name = "NAME", default_value = "podpolicy-webhook")]
    webhook_service: String,

    /// The URL by which API servers reach the webhook, for an operator outside of the cluster [default: the Service]
    #[arg(long, env = "PODPOLICY_WEBHOOK_URL", value_name = "https://HOST:PORT/mutate")]
    webhook_url: Option<String>,

    /// What becomes of a new pod when the webhook does not answer: it is created as it is, or refused; in kube-system and the operator's own
    /// namespace it is always created
    #[arg(long, env = "PODPOLICY_WEBHOOK_FAILURE_POLICY", value_enum, default_value = "ignore")]
    webhook_failure_policy: FailurePolicy,

    /// A folder with the webhook's tls.crt, tls.key and ca.crt, such as cert-manager's [default: the operator makes them and keeps them
    /// in the Secret podpolicy-webhook of its own namespace]
    #[arg(long, env = "PODPOLICY_WEBHOOK_CERTIFICATES", value_name = "FOLDER")]
    webhook_certificates: Option<PathBuf>,

    /// How many writes to pods may be under way at once
    #[arg(long, env = "PODPOLICY_CONCURRENCY", value_name = "NUMBER", default_value = "32")]
    concurrency: NonZeroU16,

    /// How many pods of the cluster may be unavailable at once because of rollouts (`rollout.strategy: Evict` and `Restart`), whatever
    /// each policy allows
    #[arg(long, env = "PODPOLICY_ROLLOUT_MAX_UNAVAILABLE", value_name = "NUMBER", default_value = "10")]
    rollout_max_unavailable: NonZeroU16,

    /// Share the work with other replicas: the one that holds the Lease podpolicy in the operator's own namespace writes, all answer the
    /// webhook [default: this one is alone and writes]
    #[arg(long, env = "PODPOLICY_LEADER_ELECT")]
    leader_elect: bool,

    /// Where /healthz and /readyz are served, and /metrics unless it is protected; port 0 takes a free one, an empty value none
    #[arg(long, env = "PODPOLICY_METRICS_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    metrics_address: String,

    /// Where /metrics is served over TLS, to callers with a token that the API server lets `get` the URL /metrics, and to no others
    /// [default: with the other two, to all]
    #[arg(long, env = "PODPOLICY_METRICS_PROTECTED_ADDRESS", value_name = "ADDRESS:PORT")]
    metrics_protected_address: Option<String>,

    /// A folder with tls.crt and tls.key for protected metrics [default: the operator makes a certificate that nobody vouches for]
    #[arg(long, env = "PODPOLICY_METRICS_CERTIFICATES", value_name = "FOLDER")]
    metrics_certificates: Option<PathBuf>,

    /// How log lines look
    #[arg(long, env = "PODPOLICY_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, or a filter such as podpolicy_controller=debug
    #[arg(long, env = "PODPOLICY_LOG", value_name = "FILTER", default_value = "info")]
    log: String,

    #[command(flatten)]
    cluster: Cluster,

    /// The operator's own namespace, in which no ClusterPodPolicy acts
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "podpolicy-system")]
    own_namespace: String,
}

/// What becomes of a new pod when the webhook does not answer.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailurePolicy {
    /// It is created as it is
    Ignore,
    /// It is refused
    Fail,
}

/// How pods are given their settings when they are created.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Admission {
    /// By the API server itself where it can (Kubernetes 1.36 and later), by a webhook elsewhere
    Auto,
    /// By the API server itself, as MutatingAdmissionPolicy objects
    Native,
    /// By a webhook
    Webhook,
    /// Not at all: labels and annotations follow on the live pod, probes and the like do not
    None,
}

impl From<Admission> for AdmissionMode {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Auto => Self::Auto,
            Admission::Native => Self::Native,
            Admission::Webhook => Self::Webhook,
            Admission::None => Self::None,
        }
    }
}

/// Runs the operator until it is told to stop.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    logging::start(arguments.log_format, &arguments.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(operate(arguments))
}

async fn operate(arguments: Arguments) -> Result<()> {
    let open_address = address("--metrics-address", &arguments.metrics_address)?;
    let protected_address = address("--metrics-protected-address", arguments.metrics_protected_address.as_deref().unwrap_or_default())?;
    let mut cluster = arguments.cluster.config().await?;
    let server = cluster.cluster_url.to_string();
    cluster.read_timeout = Some(READ_TIMEOUT);
    // Writes are tried again by the loop, which knows whether they are still wanted.
    cluster.default_retry = false;
    let client = cluster::client(cluster)?;
    let stop = stop_signal()?;
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let mut endpoints = JoinSet::new();
    if let Some(address) = open_address {
        let open = protected_address.is_none().then(|| Arc::clone(&metrics));
        let paths = if open.is_some() { "/healthz, /readyz and /metrics" } else { "/healthz and /readyz" };
        let (local, serving) = serve(address, Arc::clone(&health), open).await?;
        tracing::info!(address = %local, "serving {paths}");
        endpoints.spawn(serving);
    }
    if let Some(address) = protected_address {
        let certificates = arguments.metrics_certificates.clone();
        let (local, serving) = serve_protected(client.clone(), address, certificates, Arc::clone(&metrics)).await?;
        tracing::info!(address = %local, "serving /metrics to those who may read it");
        endpoints.spawn(serving);
    }
    let config = config(arguments)?;
    tracing::info!(server, "PodPolicy {} starts", env!("CARGO_PKG_VERSION"));
    let operator = podpolicy_controller::run(client, config, health, metrics, stop);
    tokio::select! {
        result = operator => result?,
        Some(result) = endpoints.join_next() => result??,
    }
    tracing::info!("stopped");
    Ok(())
}

fn address(flag: &str, text: &str) -> Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().with_context(|| format!("{flag} {text:?} is not ADDRESS:PORT, such as 0.0.0.0:8080 or [::1]:8080"))?;
    Ok(Some(address))
}

/// How the webhook is served; none where API servers could not reach it.
fn webhook(arguments: &Arguments, watched: &Watched) -> Result<Option<webhook::Options>> {
    let own_namespace = &arguments.own_namespace;
    let endpoint = match &arguments.webhook_url {
        Some(url) => Endpoint::url(url).context("--webhook-url cannot be used")?,
        // Set in every pod.
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Endpoint::service(own_namespace, &arguments.webhook_service, 443).context("--webhook-service cannot be used")?
        }
        None => return Ok(None),
    };
    let mut options = webhook::Options::new(arguments.webhook_address, endpoint, own_namespace.clone());
    options.failure_policy = match arguments.webhook_failure_policy {
        FailurePolicy::Ignore => webhook::FailurePolicy::Ignore,
        FailurePolicy::Fail => webhook::FailurePolicy::Fail,
    };
    if let Watched::Namespaces(names) = watched {
        options.name = webhook::configuration_name(names);
    }
    if let Some(folder) = &arguments.webhook_certificates {
        options.certificates = Certificates::Files(folder.clone());
    }
    Ok(Some(options))
}

fn config(arguments: Arguments) -> Result<Config> {
    let namespaces: BTreeSet<_> = words::given(arguments.namespaces.clone());
    let watched = if namespaces.is_empty() { Watched::Cluster } else { Watched::Namespaces(namespaces) };
    let webhook = webhook(&arguments, &watched)?;
    let election = arguments.leader_elect.then(|| election(arguments.own_namespace.clone()));
    let mut excluded_namespaces: BTreeSet<_> = words::given(arguments.exclude_namespaces);
    if excluded_namespaces.is_empty() {
        excluded_namespaces.extend(DEFAULT_EXCLUDED_NAMESPACES.map(str::to_owned));
    }
    if DEFAULT_EXCLUDED_NAMESPACES.iter().all(|name| excluded_namespaces.contains(*name)) {
        excluded_namespaces.insert(arguments.own_namespace.clone());
    }
    Ok(Config {
        watched,
        concurrency: arguments.concurrency.get().into(),
        own_namespace: arguments.own_namespace,
        excluded_namespaces,
        protected_keys: words::given(arguments.protect_keys),
        admission: arguments.admission.into(),
        webhook,
        rollout_max_unavailable: arguments.rollout_max_unavailable.get().into(),
        election,
    })
}

/// The Lease in the operator's own namespace. In a pod the name of the host is the pod's; a container that is started again is another
/// candidate.
fn election(namespace: String) -> Election {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // A hasher of the standard library starts from random keys.
    let random = RandomState::new().build_hasher().finish();
    Election { namespace, name: LEASE_NAME.to_owned(), identity: format!("{}_{random:016x}", host.trim()), times: ElectionTimes::default() }
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
