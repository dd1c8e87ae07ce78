//! Values that need a feature gate, in fields that are older than the gate.
//!
//! The fields are those of `fields.rs` and say nothing by themselves. What each value needs is what the API server's validation and
//! `dropDisabledFields` (pkg/api/pod/util.go of k8s.io/kubernetes) ask for.

use serde_json::Value as Json;

use super::{Gate, fields};
use crate::{Object, Step, object::place};

/// A value that needs a feature gate.
pub(super) struct Use {
    pub(super) gate: &'static Gate,
    /// The way to it, from the object on.
    pub(super) path: Vec<Step>,
    /// The value in words.
    pub(super) what: &'static str,
}

/// The values of an object that need a feature gate.
pub(super) fn uses(object: &Object<'_>) -> Vec<Use> {
    let mut uses = Vec::new();
    let strategy = &object.value["spec"]["updateStrategy"]["type"];
    if object.kind == "StatefulSet" && strategy == "Recreate" {
        let path = Step::keys(["spec", "updateStrategy", "type"]);
        uses.push(Use { gate: &fields::STATEFUL_SET_RECREATE_STRATEGY, path, what: "type Recreate" });
    }
    let way: Vec<_> = place(object.api_version, object.kind).iter().copied().chain(["spec"]).collect();
    let Some(spec) = way.iter().try_fold(object.value, |value, key| value.get(key)) else { return uses };
    let at = Node { value: spec, path: Step::keys(way.iter().copied()) };
    if let Some(it) = at.get("hostUsers")
        && it.value == false
    {
        it.needs(&fields::USER_NAMESPACES_SUPPORT, "hostUsers: false", &mut uses);
    }
    for it in at.items("tolerations").filter_map(|toleration| toleration.get("operator")) {
        if it.is_one_of(&["Gt", "Lt"]) {
            it.needs(&fields::TAINT_TOLERATION_COMPARISON_OPERATORS, "a toleration with the operator Gt or Lt", &mut uses);
        }
    }
    for list in ["initContainers", "containers"] {
        for container in at.items(list) {
            of_container(list, &container, &mut uses);
        }
    }
    uses
}

fn of_container(list: &str, container: &Node<'_>, uses: &mut Vec<Use>) {
    if let Some(it) = container.get("restartPolicy") {
        // `Always` makes an init container a sidecar, which is older.
        match list {
            "containers" => it.needs(&fields::CONTAINER_RESTART_RULES, "a container's own restartPolicy", uses),
            _ if it.value != "Always" => {
                it.needs(&fields::CONTAINER_RESTART_RULES, "an init container's restartPolicy other than Always", uses);
            }
            _ => {}
        }
    }
    for it in container.items("restartPolicyRules").filter_map(|rule| rule.get("action")) {
        if it.value == "RestartAllContainers" {
            it.needs(&fields::RESTART_ALL_CONTAINERS_ON_CONTAINER_EXITS, "action RestartAllContainers", uses);
        }
    }
    for hook in ["preStop", "postStart"] {
        if let Some(it) = ["lifecycle", hook, "sleep", "seconds"].into_iter().try_fold(container.clone(), |node, key| node.get(key))
            && it.value == 0
        {
            it.needs(&fields::POD_LIFECYCLE_SLEEP_ACTION_ALLOW_ZERO, "a sleep of 0 seconds", uses);
        }
    }
    if let Some(it) = container.get("securityContext").and_then(|context| context.get("procMount"))
        && it.value == "Unmasked"
    {
        it.needs(&fields::PROC_MOUNT_TYPE, "procMount: Unmasked", uses);
    }
    for it in container.items("volumeMounts").filter_map(|mount| mount.get("recursiveReadOnly")) {
        // `Disabled` is what happens without the field as well.
        if it.is_one_of(&["Enabled", "IfPossible"]) {
            it.needs(&fields::RECURSIVE_READ_ONLY_MOUNTS, "recursiveReadOnly", uses);
        }
    }
}

/// A value, and the way to it.
#[derive(Clone)]
struct Node<'a> {
    value: &'a Json,
    path: Vec<Step>,
}

impl<'a> Node<'a> {
    /// The value of a key; nulls say nothing.
    fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Node { value, path: [self.path.as_slice(), &[Step::Key(key.to_owned())]].concat() })
    }

    fn items(&self, key: &str) -> impl Iterator<Item = Node<'a>> + use<'a> {
        self.get(key).into_iter().flat_map(|Node { value, path }| {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().enumerate().map(move |(index, value)| {
                let path = [path.as_slice(), &[Step::Index(index)]].concat();
                Node { value, path }
            })
        })
    }

    fn is_one_of(&self, texts: &[&str]) -> bool {
        self.value.as_str().is_some_and(|text| texts.contains(&text))
    }

    fn needs(self, gate: &'static Gate, what: &'static str, uses: &mut Vec<Use>) {
        uses.push(Use { gate, path: self.path, what });
    }
}
