//! Pods as people write them: of the image with busybox, with scripts for programs.

use podpolicy_e2e::cluster::BUSYBOX;
use serde_json::{Value, json};

/// Serves `hello` on port 8080.
pub const SERVE: &str = "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

/// Serves on port 8080, says which paths are asked for, and ends by itself when it is told to.
pub const OBEDIENT: &str = "mkdir /tmp/www; cd /tmp/www; touch index.html started stopping
httpd -f -vv -p 8080 & trap 'echo told to end; exit 0' TERM; while :; do wait; done";

/// Does not end when it is told to, but when there is a file `/tmp/end`.
pub const STUBBORN: &str = "trap '' TERM; touch /tmp/up; until [ -e /tmp/end ]; do sleep 0.1; done";

/// A container that runs a script.
pub fn container(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script] })
}

/// A container `web` that runs a script.
pub fn web(script: &str) -> Value {
    container("web", script)
}

/// A pod with this container, which nobody waits for when it is deleted.
pub fn pod(name: &str, container: &Value) -> Value {
    let mut pod = patient(name, std::slice::from_ref(container));
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    pod
}

/// A pod with these containers, which says nothing of a grace period.
pub fn patient(name: &str, containers: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": { "containers": containers } })
}

/// A probe that asks for this path, each second.
pub fn probe(path: &str) -> Value {
    json!({ "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 1, "failureThreshold": 1 })
}
