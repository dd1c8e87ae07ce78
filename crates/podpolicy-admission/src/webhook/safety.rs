//! Whether a patch could make a pod invalid. The API server would then refuse the pod, whatever failurePolicy says. The engine
//! gives nothing like it to a pod that is valid; this is the second look. Pure.
//!
//! Never says how a pod should look: only whether the patch can be sent.

use std::collections::{BTreeMap, BTreeSet};

use podpolicy_api::{
    HttpGetAction, HttpProtocol, LifecycleHandler, Port, Probe, Scheme, StopSignal,
    names::{is_label_value, is_port_name, is_qualified_name},
};
use podpolicy_engine::{ANNOTATIONS_LIMIT, Creation, Field, HookKind, OperatingSystem, Pod, ProbeKind, Value};

/// Why the patch cannot be sent; none if it can.
pub(super) fn danger(pod: &Pod, creation: &Creation) -> Option<String> {
    containers(pod).or_else(|| metadata(pod, creation)).or_else(|| settings(pod, creation))
}

/// With two containers of one name nobody can say which one a setting is for.
fn containers(pod: &Pod) -> Option<String> {
    let mut names = BTreeSet::new();
    let twice = pod.template.containers.iter().find(|container| !names.insert(&container.name))?;
    Some(format!("two containers are named {}", twice.name))
}

fn metadata(pod: &Pod, creation: &Creation) -> Option<String> {
    let plan = &creation.metadata;
    let set = |changes: &BTreeMap<String, Option<String>>| {
        changes.iter().find(|(key, value)| value.is_some() && !is_qualified_name(key)).map(|(key, _)| format!("{key:?} can be no key"))
    };
    let value = || {
        let unfit = |value: &&String| !is_label_value(value);
        plan.labels.iter().find_map(|(key, value)| value.as_ref().filter(unfit).map(|value| format!("label {key} cannot be {value:?}")))
    };
    let size = || {
        let mut after = BTreeMap::new();
        after.extend(pod.annotations.iter().map(|(key, value)| (key, Some(value))));
        after.extend(plan.annotations.iter().map(|(key, value)| (key, value.as_ref())));
        let size: usize = after.iter().filter_map(|(key, value)| Some(key.len() + value.as_ref()?.len())).sum();
        (!plan.annotations.is_empty() && size > ANNOTATIONS_LIMIT).then(|| format!("its annotations would take {size} bytes"))
    };
    set(&plan.labels).or_else(|| set(&plan.annotations)).or_else(value).or_else(size)
}

fn settings(pod: &Pod, creation: &Creation) -> Option<String> {
    let given = |wanted: &Field| creation.settings.iter().find(|setting| setting.field == *wanted).map(|setting| &setting.value);
    let grace_period = match given(&Field::GracePeriod) {
        Some(&Value::Seconds(seconds)) => seconds,
        Some(Value::Text(_) | Value::Signal(_) | Value::Hook(_) | Value::Probe(_)) | None => pod.template.grace_period,
    };
    if given(&Field::GracePeriod).is_some() && grace_period < 0 {
        return Some(format!("a grace period cannot be {grace_period}"));
    }
    creation
        .settings
        .iter()
        .find_map(|setting| {
            let problem = match (&setting.field, &setting.value) {
                (Field::Probe { kind, .. }, Value::Probe(probe)) => probe_problem(*kind, probe),
                (Field::Hook { .. }, Value::Hook(hook)) => hook_problem(hook),
                (Field::StopSignal { .. }, Value::Signal(signal)) => signal_problem(signal, pod.template.os),
                (Field::GracePeriod, Value::Seconds(_)) => None,
                _ => Some("its value is of another kind".to_owned()),
            };
            problem.map(|problem| format!("{}: {problem}", setting.field))
        })
        .or_else(|| sleeps(pod, creation, grace_period))
}

/// No hook that the pod ends up with may sleep longer than its grace period.
fn sleeps(pod: &Pod, creation: &Creation, grace_period: i64) -> Option<String> {
    if creation.settings.is_empty() {
        return None;
    }
    pod.template.containers.iter().flat_map(|container| HookKind::ALL.map(|kind| (container, kind))).find_map(|(container, kind)| {
        let given = creation.settings.iter().find_map(|setting| match (&setting.field, &setting.value) {
            (Field::Hook { container: name, kind: of }, Value::Hook(hook)) if (name, *of) == (&container.name, kind) => Some(&**hook),
            _ => None,
        });
        let seconds = given.or_else(|| container.hook(kind))?.sleep?.seconds;
        let fits = match kind {
            HookKind::PostStart => seconds <= grace_period,
            // What the workload declares may take the whole grace period.
            HookKind::PreStop => seconds < grace_period || (given.is_none() && seconds == grace_period),
        };
        let field = || Field::Hook { container: container.name.clone(), kind };
        (!fits).then(|| format!("{}: a sleep of {seconds} s does not fit into a grace period of {grace_period} s", field()))
    })
}

fn probe_problem(kind: ProbeKind, probe: &Probe) -> Option<String> {
    let handlers = [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some(), probe.exec.is_some()];
    if handlers.iter().filter(|&&given| given).count() != 1 {
        return Some("a probe has exactly one handler".to_owned());
    }
    let numbers =
        [probe.initial_delay_seconds, probe.timeout_seconds, probe.period_seconds, probe.success_threshold, probe.failure_threshold];
    if numbers.into_iter().flatten().any(i32::is_negative) {
        return Some("a number is negative".to_owned());
    }
    match kind {
        ProbeKind::Liveness | ProbeKind::Startup if probe.success_threshold.is_some_and(|threshold| threshold != 1) => {
            return Some("its successThreshold must be 1".to_owned());
        }
        ProbeKind::Readiness if probe.termination_grace_period_seconds.is_some() => {
            return Some("a readiness probe has no terminationGracePeriodSeconds".to_owned());
        }
        ProbeKind::Liveness | ProbeKind::Readiness | ProbeKind::Startup => {}
    }
    if probe.termination_grace_period_seconds.is_some_and(|seconds| seconds <= 0) {
        return Some("its terminationGracePeriodSeconds must be greater than 0".to_owned());
    }
    let port = probe.tcp_socket.as_ref().and_then(|tcp| port_problem(&tcp.port));
    let grpc = || probe.grpc.as_ref().and_then(|grpc| port_problem(&Port::Number(grpc.port)));
    let exec = || probe.exec.as_ref().and_then(|exec| exec.command.is_empty().then(|| "its command is empty".to_owned()));
    port.or_else(grpc).or_else(exec).or_else(|| probe.http_get.as_ref().and_then(http_problem))
}

fn hook_problem(hook: &LifecycleHandler) -> Option<String> {
    let handlers = [hook.exec.is_some(), hook.http_get.is_some(), hook.sleep.is_some()];
    if handlers.iter().filter(|&&given| given).count() != 1 {
        return Some("a hook has exactly one handler".to_owned());
    }
    let exec = hook.exec.as_ref().and_then(|exec| exec.command.is_empty().then(|| "its command is empty".to_owned()));
    // 0 is allowed only from 1.33 on.
    let sleep = || hook.sleep.and_then(|sleep| (sleep.seconds <= 0).then(|| "its sleep must be longer than 0 s".to_owned()));
    exec.or_else(sleep).or_else(|| hook.http_get.as_ref().and_then(http_problem))
}

fn signal_problem(signal: &StopSignal, os: Option<OperatingSystem>) -> Option<String> {
    let known = match os {
        Some(OperatingSystem::Linux) => StopSignal::ON_LINUX.as_slice(),
        Some(OperatingSystem::Windows) => StopSignal::ON_WINDOWS.as_slice(),
        None => return Some("a stop signal needs spec.os.name".to_owned()),
    };
    (!known.contains(&signal.name())).then(|| format!("{:?} can be no stop signal there", signal.name()))
}

fn http_problem(http: &HttpGetAction) -> Option<String> {
    if http.protocol == Some(HttpProtocol::Http2) && http.scheme == Some(Scheme::Https) {
        return Some("HTTP2 needs the scheme HTTP".to_owned());
    }
    let is_token = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let header = http.http_headers.iter().find(|header| !is_token(&header.name));
    header.map(|header| format!("{:?} can be no header", header.name)).or_else(|| port_problem(&http.port))
}

fn port_problem(port: &Port) -> Option<String> {
    let is_fit = match port {
        Port::Number(number) => (1..=65535).contains(number),
        Port::Name(name) => is_port_name(name),
    };
    (!is_fit).then(|| match port {
        Port::Number(number) => format!("{number} can be no port"),
        Port::Name(name) => format!("{name:?} can be no port's name"),
    })
}

#[cfg(test)]
mod tests {
    use podpolicy_engine::{MetadataPlan, Setting};
    use serde_json::{Value as Json, json};

    use super::*;

    fn pod(spec: &Json) -> Pod {
        serde_json::from_value(json!({ "metadata": { "annotations": { "own": "1" } }, "spec": spec })).unwrap()
    }

    fn web() -> Pod {
        pod(&json!({ "containers": [{ "name": "web", "lifecycle": { "postStart": { "sleep": { "seconds": 20 } } } }] }))
    }

    fn probe(kind: ProbeKind, probe: Json) -> Creation {
        give(Field::Probe { container: "web".into(), kind }, Value::Probe(Box::new(serde_json::from_value(probe).unwrap())))
    }

    fn hook(kind: HookKind, hook: Json) -> Creation {
        give(Field::Hook { container: "web".into(), kind }, Value::Hook(Box::new(serde_json::from_value(hook).unwrap())))
    }

    fn stop_signal(name: &str) -> Creation {
        give(Field::StopSignal { container: "web".into() }, Value::Signal(serde_json::from_value(json!(name)).unwrap()))
    }

    fn give(field: Field, value: Value) -> Creation {
        Creation { settings: vec![Setting { field, value }], ..Creation::default() }
    }

    fn label(key: &str, value: &str) -> Creation {
        let labels = [(key.to_owned(), Some(value.to_owned()))].into();
        Creation { metadata: MetadataPlan { labels, ..MetadataPlan::default() }, ..Creation::default() }
    }

    fn annotation(key: &str, value: Option<String>) -> Creation {
        let annotations = [(key.to_owned(), value)].into();
        Creation { metadata: MetadataPlan { annotations, ..MetadataPlan::default() }, ..Creation::default() }
    }

    #[test]
    fn what_the_api_server_takes_is_no_danger() {
        let fine = [
            label("team", "shop"),
            label("example.com/team.A_1", ""),
            label(&"k".repeat(63), &"v".repeat(63)),
            annotation("a", Some("x\n\u{0}".to_owned())),
            annotation("a", Some("x".repeat(256 * 1024 - 5))),
            annotation("/strange, but to be removed/", None),
            give(Field::GracePeriod, Value::Seconds(20)),
            probe(
                ProbeKind::Liveness,
                json!({ "httpGet": { "path": "/", "port": "http" }, "successThreshold": 1, "terminationGracePeriodSeconds": 1 }),
            ),
            probe(ProbeKind::Readiness, json!({ "grpc": { "port": 65535 }, "successThreshold": 3 })),
            hook(HookKind::PreStop, json!({ "sleep": { "seconds": 29 } })),
            hook(HookKind::PostStart, json!({ "sleep": { "seconds": 30 } })),
            hook(HookKind::PreStop, json!({ "httpGet": { "path": "/", "port": 1, "scheme": "HTTP", "protocol": "HTTP2" } })),
        ];
        for creation in fine {
            assert_eq!(danger(&web(), &creation), None, "{creation:?}");
        }
        for (os, signal) in [("linux", "SIGRTMAX-1"), ("windows", "SIGTERM")] {
            let pod = pod(&json!({ "os": { "name": os }, "containers": [{ "name": "web" }] }));
            assert_eq!(danger(&pod, &stop_signal(signal)), None, "{signal} on {os}");
        }
        let own = pod(&json!({ "containers": [{ "name": "web", "lifecycle": { "preStop": { "sleep": { "seconds": 30 } } } }] }));
        assert_eq!(danger(&own, &probe(ProbeKind::Readiness, json!({ "grpc": { "port": 1 } }))), None);
        assert_eq!(danger(&own, &give(Field::GracePeriod, Value::Seconds(30))), None);
    }

    #[test]
    fn what_the_api_server_refuses_is_a_danger() {
        let http = |port: Json| json!({ "httpGet": { "path": "/", "port": port } });
        let dangers = [
            (label("team", "-"), "label team cannot be"),
            (label("team", &"v".repeat(64)), "label team cannot be"),
            (label("te am", "x"), "can be no key"),
            (label("Example.com/team", "x"), "can be no key"),
            (label("a/b/c", "x"), "can be no key"),
            (label("", "x"), "can be no key"),
            (annotation("", Some(String::new())), "can be no key"),
            (annotation("a", Some("x".repeat(256 * 1024 - 4))), "its annotations would take 262145 bytes"),
            (give(Field::GracePeriod, Value::Seconds(-1)), "a grace period cannot be -1"),
            (give(Field::GracePeriod, Value::Seconds(19)), "containers[web].lifecycle.postStart: a sleep of 20 s does not fit"),
            (hook(HookKind::PreStop, json!({ "sleep": { "seconds": 30 } })), "does not fit"),
            (hook(HookKind::PostStart, json!({ "sleep": { "seconds": 31 } })), "does not fit"),
            (hook(HookKind::PreStop, json!({ "sleep": { "seconds": 0 } })), "longer than 0"),
            (hook(HookKind::PreStop, json!({})), "exactly one handler"),
            (hook(HookKind::PreStop, json!({ "exec": { "command": [] } })), "its command is empty"),
            (probe(ProbeKind::Liveness, json!({ "periodSeconds": 3 })), "exactly one handler"),
            (probe(ProbeKind::Liveness, http(json!(0))), "can be no port"),
            (probe(ProbeKind::Liveness, http(json!("a--b"))), "can be no port's name"),
            (probe(ProbeKind::Liveness, json!({ "grpc": { "port": 1 }, "successThreshold": 2 })), "successThreshold must be 1"),
            (probe(ProbeKind::Startup, json!({ "grpc": { "port": 1 }, "failureThreshold": -2 })), "negative"),
            (probe(ProbeKind::Startup, json!({ "grpc": { "port": 1 }, "terminationGracePeriodSeconds": 0 })), "greater than 0"),
            (probe(ProbeKind::Readiness, json!({ "grpc": { "port": 1 }, "terminationGracePeriodSeconds": 5 })), "a readiness probe has no"),
            (
                probe(ProbeKind::Liveness, json!({ "httpGet": { "path": "/", "port": 1, "scheme": "HTTPS", "protocol": "HTTP2" } })),
                "HTTP2 needs the scheme HTTP",
            ),
            (stop_signal("SIGQUIT"), "a stop signal needs spec.os.name"),
            (give(Field::GracePeriod, Value::Text("3".to_owned())), "of another kind"),
        ];
        for (creation, wanted) in dangers {
            let found = danger(&web(), &creation).unwrap_or_default();
            assert!(found.contains(wanted), "{found:?} for {wanted:?}, {creation:?}");
        }
        for (os, signal) in [("linux", "SIGNONE"), ("windows", "SIGQUIT")] {
            let pod = pod(&json!({ "os": { "name": os }, "containers": [{ "name": "web" }] }));
            let found = danger(&pod, &stop_signal(signal)).unwrap_or_default();
            assert!(found.contains("can be no stop signal there"), "{found:?} for {signal} on {os}");
        }
        let twice = pod(&json!({ "initContainers": [{ "name": "web" }], "containers": [{ "name": "web" }] }));
        assert_eq!(danger(&twice, &label("team", "shop")).unwrap(), "two containers are named web");
    }
}
