//! Kubernetes' defaults for probes and hooks, so that what a policy says and what the API server stored compare equal, and
//! the tuning of a container's own probe.

use podpolicy_api::{GrpcMode, HttpGetAction, HttpProtocol, LifecycleHandler, Precedence, Probe, Scheme};

/// The probe as the API server stores it: defaults filled in. Protocol and mode are left out where they are the default: only some
/// servers fill them in (`spelled_out`).
pub fn defaulted(mut probe: Probe) -> Probe {
    probe.initial_delay_seconds = probe.initial_delay_seconds.or(Some(0));
    // To the API server zero is not a number here, but the lack of one.
    let number = |given: Option<i32>, default| given.filter(|&number| number != 0).or(Some(default));
    probe.timeout_seconds = number(probe.timeout_seconds, 1);
    probe.period_seconds = number(probe.period_seconds, 10);
    probe.success_threshold = number(probe.success_threshold, 1);
    probe.failure_threshold = number(probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        default_http(http);
    }
    if let Some(tcp) = &mut probe.tcp_socket {
        tcp.host = tcp.host.take().filter(|host| !host.is_empty());
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
        grpc.mode = grpc.mode.filter(|mode| *mode != GrpcMode::Plaintext);
    }
    probe
}

/// The probe as the API server sends it back: defaults filled in, and no delay where it is zero.
pub(crate) fn stored(probe: Probe) -> Probe {
    let mut probe = defaulted(probe);
    probe.initial_delay_seconds = probe.initial_delay_seconds.filter(|&seconds| seconds != 0);
    probe
}

/// The other form in which a server may show what `stored` gives: with the default protocol or mode spelled out. None for probes that
/// have neither.
pub(crate) fn spelled_out(mut probe: Probe) -> Option<Probe> {
    let http = probe.http_get.as_mut().is_some_and(spell_out_protocol);
    let grpc = probe.grpc.as_mut().is_some_and(|grpc| {
        let is_left_out = grpc.mode.is_none();
        grpc.mode.get_or_insert(GrpcMode::Plaintext);
        is_left_out
    });
    (http || grpc).then_some(probe)
}

/// The other form of a hook, likewise.
pub(crate) fn spelled_out_hook(mut hook: LifecycleHandler) -> Option<LifecycleHandler> {
    let http = hook.http_get.as_mut().is_some_and(spell_out_protocol);
    http.then_some(hook)
}

/// Returns whether the protocol was left out.
fn spell_out_protocol(http: &mut HttpGetAction) -> bool {
    let is_left_out = http.protocol.is_none();
    http.protocol.get_or_insert(HttpProtocol::Http1);
    is_left_out
}

/// The hook as the API server stores it: defaults filled in, and the protocol left out where it is the default.
pub(crate) fn defaulted_hook(mut hook: LifecycleHandler) -> LifecycleHandler {
    if let Some(http) = &mut hook.http_get {
        default_http(http);
    }
    hook
}

fn default_http(http: &mut HttpGetAction) {
    let path = http.path.get_or_insert_default();
    if path.is_empty() {
        path.push('/');
    }
    http.scheme.get_or_insert(Scheme::Http);
    http.host = http.host.take().filter(|host| !host.is_empty());
    http.protocol = http.protocol.filter(|protocol| *protocol != HttpProtocol::Http1);
}

/// What tuning makes of a container's own probe.
pub(crate) struct Tuned {
    /// The probe after tuning.
    pub(crate) probe: Probe,
    /// The numbers that stay as the workload declares them, by field name.
    pub(crate) kept: Vec<&'static str>,
}

/// Changes the numbers of a container's own probe. Under `Workload` only numbers still at Kubernetes' default change.
pub(crate) fn tune(own: &Probe, tuning: &Probe, precedence: Precedence) -> Tuned {
    let mut tuned = Tuned { probe: defaulted(own.clone()), kept: Vec::new() };
    let default = defaulted(Probe::default());
    let Probe {
        http_get: _,
        tcp_socket: _,
        grpc: _,
        exec: _,
        initial_delay_seconds,
        timeout_seconds,
        period_seconds,
        success_threshold,
        failure_threshold,
        termination_grace_period_seconds,
    } = tuning;
    let Tuned { probe, kept } = &mut tuned;
    let mut number = Numbers { precedence, kept };
    number.set("initialDelaySeconds", &mut probe.initial_delay_seconds, *initial_delay_seconds, default.initial_delay_seconds);
    number.set("timeoutSeconds", &mut probe.timeout_seconds, *timeout_seconds, default.timeout_seconds);
    number.set("periodSeconds", &mut probe.period_seconds, *period_seconds, default.period_seconds);
    number.set("successThreshold", &mut probe.success_threshold, *success_threshold, default.success_threshold);
    number.set("failureThreshold", &mut probe.failure_threshold, *failure_threshold, default.failure_threshold);
    number.set(
        "terminationGracePeriodSeconds",
        &mut probe.termination_grace_period_seconds,
        *termination_grace_period_seconds,
        default.termination_grace_period_seconds,
    );
    tuned
}

struct Numbers<'a> {
    precedence: Precedence,
    kept: &'a mut Vec<&'static str>,
}

impl Numbers<'_> {
    fn set<T: Copy + Eq>(&mut self, name: &'static str, own: &mut Option<T>, wanted: Option<T>, default: Option<T>) {
        if wanted.is_none() || *own == wanted {
            return;
        }
        match self.precedence {
            Precedence::Workload if *own != default => self.kept.push(name),
            Precedence::Workload | Precedence::Policy => *own = wanted,
        }
    }
}
