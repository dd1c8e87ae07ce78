//! Whether probes and hooks ask ports that the container says it has.

use podpolicy_api::Port;
use podpolicy_engine::{HookKind, ProbeKind};

use crate::{
    Rule, Severity,
    check::{
        services::Target,
        subject::{Placed, Spot, Subject},
    },
};

pub(super) const UNKNOWN_PORT_NAME: Rule = Rule {
    id: "unknown-port-name",
    severity: Severity::Error,
    summary: "a probe or hook names a port that the container does not have",
    why: "The kubelet does not know whom to ask, and the probe or hook always fails: the container is killed, or never ready.",
    remedy: "Name the port in the container's ports, or use its number.",
};

pub(super) const UNDECLARED_PORT: Rule = Rule {
    id: "undeclared-port",
    severity: Severity::Warning,
    summary: "a probe or hook asks a port number that the container does not declare",
    why: "It works where something listens there, but nobody who reads the manifest can tell. Often the number is left over from another container.",
    remedy: "Add the port to the container's ports, with a name, and use the name; or correct the number.",
};

pub(super) fn unknown_port_name(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for placed in subject.running() {
        for Asked { fields, target } in asked(placed) {
            if let Target::Name(name) = target.clone()
                && !placed.container.declares(&target)
            {
                let message = format!("the container has no port named {name}; it declares {}", placed.container.declared());
                spots.push(placed.spot(&fields, message));
            }
        }
    }
    spots
}

pub(super) fn undeclared_port(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for placed in subject.running() {
        for Asked { fields, target } in asked(placed) {
            if let Target::Number(number) = target
                && !placed.container.declares(&target)
            {
                let message = format!("the container does not declare port {number}; it declares {}", placed.container.declared());
                spots.push(placed.spot(&fields, message));
            }
        }
    }
    spots
}

/// A port that is asked, and where that is said.
struct Asked {
    fields: Vec<&'static str>,
    target: Target,
}

fn asked(placed: Placed<'_>) -> Vec<Asked> {
    let mut found = Vec::new();
    for kind in ProbeKind::ALL {
        let Some(probe) = placed.container.probe(kind) else { continue };
        let mut ask = |handler, target| found.push(Asked { fields: vec![kind.field_name(), handler, "port"], target });
        if let Some(http) = &probe.http_get {
            ask("httpGet", target(&http.port));
        }
        if let Some(tcp) = &probe.tcp_socket {
            ask("tcpSocket", target(&tcp.port));
        }
        if let Some(grpc) = &probe.grpc {
            ask("grpc", Target::Number(grpc.port.into()));
        }
    }
    for kind in HookKind::ALL {
        if let Some(http) = placed.container.hook(kind).and_then(|hook| hook.http_get.as_ref()) {
            found.push(Asked { fields: vec!["lifecycle", kind.field_name(), "httpGet", "port"], target: target(&http.port) });
        }
    }
    found
}

fn target(port: &Port) -> Target {
    match port {
        Port::Number(number) => Target::Number((*number).into()),
        Port::Name(name) => Target::Name(name.clone()),
    }
}
