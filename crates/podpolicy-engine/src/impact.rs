//! Which label keys the selectors of Services, NetworkPolicies, PodDisruptionBudgets and workloads read, and in which
//! namespaces. Setting such a label can move a pod into a Service, out of a NetworkPolicy or away from its owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as CoreSelector;
use kube::core::Expression;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::Selector;

/// The label with its name that the API server puts on every namespace.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// One object whose selector reads a label key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Reader {
    /// The object, as messages name it. Example: `Service shop/web`.
    pub object: String,
    /// Whether it is a workload, whose selector decides which pods it owns.
    pub workload: bool,
    /// Whether a pod with the label can fall out of the selection (NotIn, DoesNotExist).
    pub excludes: bool,
}

/// The label keys that one object's selectors read in some namespaces.
#[derive(Clone, Debug)]
pub struct SelectorUse {
    /// Where the selector reads labels.
    pub reach: Reach,
    /// The keys, each with whether the selector excludes by it.
    pub keys: BTreeMap<String, bool>,
}

/// The namespaces in which a selector reads labels.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The object's own namespace.
    Own,
    /// The namespaces with matching labels (a peer of a NetworkPolicy).
    Matching(Selector),
}

impl Reach {
    /// Whether it includes a namespace other than by being the object's own. Where the namespace's labels are not known, all that
    /// is certain is the one that every namespace has, its name; what could match then counts as matching, so that no
    /// selector is overlooked.
    pub fn includes(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match (self, labels) {
            (Self::Own, _) => false,
            (Self::Matching(selector), Some(labels)) => selector.matches(labels),
            (Self::Matching(selector), None) => selector.can_match(&BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())])),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkPolicySpec {
    pod_selector: Option<CoreSelector>,
    ingress: Option<Vec<IngressRule>>,
    egress: Option<Vec<EgressRule>>,
}

#[derive(Deserialize)]
struct IngressRule {
    from: Option<Vec<Peer>>,
}

#[derive(Deserialize)]
struct EgressRule {
    to: Option<Vec<Peer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    pod_selector: Option<CoreSelector>,
    namespace_selector: Option<CoreSelector>,
}

/// What the selectors in the spec of an object read. Kinds that are not known to select pods, and specs that cannot be read,
/// read nothing.
pub fn selector_use(kind: &str, spec: &Json) -> Vec<SelectorUse> {
    match kind {
        "Service" | "ReplicationController" => own(map_keys(&spec["selector"])),
        "NetworkPolicy" => network_policy(spec),
        "PodDisruptionBudget" | "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            own(parse(&spec["selector"]).map(|selector| keys(&selector)).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

/// Whether objects of the kind own the pods that they select.
pub(crate) fn is_workload(kind: &str) -> bool {
    !matches!(kind, "Service" | "NetworkPolicy" | "PodDisruptionBudget")
}

impl Reader {
    /// The reader that an object of the kind is for one of its keys.
    pub fn new(kind: &str, namespace: &str, name: &str, excludes: bool) -> Self {
        Self { object: format!("{kind} {namespace}/{name}"), workload: is_workload(kind), excludes }
    }
}

fn own(keys: BTreeMap<String, bool>) -> Vec<SelectorUse> {
    if keys.is_empty() { Vec::new() } else { vec![SelectorUse { reach: Reach::Own, keys }] }
}

fn map_keys(selector: &Json) -> BTreeMap<String, bool> {
    selector.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), false)).collect()
}

fn network_policy(spec: &Json) -> Vec<SelectorUse> {
    let Ok(spec) = NetworkPolicySpec::deserialize(spec) else { return Vec::new() };
    let mut uses = own(spec.pod_selector.map(|selector| keys(&selector.into())).unwrap_or_default());
    let from = spec.ingress.into_iter().flatten().flat_map(|rule| rule.from.unwrap_or_default());
    let to = spec.egress.into_iter().flatten().flat_map(|rule| rule.to.unwrap_or_default());
    for peer in from.chain(to) {
        let Some(pods) = peer.pod_selector.map(Selector::from) else { continue };
        let reach = match peer.namespace_selector {
            Some(selector) => Reach::Matching(selector.into()),
            None => Reach::Own,
        };
        let keys = keys(&pods);
        if !keys.is_empty() {
            uses.push(SelectorUse { reach, keys });
        }
    }
    uses
}

fn parse(selector: &Json) -> Option<Selector> {
    CoreSelector::deserialize(selector).ok().map(Selector::from)
}

fn keys(selector: &Selector) -> BTreeMap<String, bool> {
    let mut keys = BTreeMap::new();
    for expression in selector.expressions() {
        let (key, excludes) = match expression {
            Expression::Equal(key, _) | Expression::In(key, _) | Expression::Exists(key) => (key, false),
            Expression::NotEqual(key, _) | Expression::NotIn(key, _) | Expression::DoesNotExist(key) => (key, true),
        };
        *keys.entry(key.clone()).or_default() |= excludes;
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(namespace_selector: &Json) -> Reach {
        let peer = json!({ "podSelector": { "matchLabels": { "team": "shop" } }, "namespaceSelector": namespace_selector });
        let mut uses = selector_use("NetworkPolicy", &json!({ "ingress": [{ "from": [peer] }] }));
        uses.pop().unwrap().reach
    }

    #[test]
    fn peer_reads_namespaces_that_its_selector_matches() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert!(peer(&json!({})).includes("shop", Some(&labels)));
        assert!(peer(&json!({ "matchLabels": { "env": "prod" } })).includes("shop", Some(&labels)));
        assert!(!peer(&json!({ "matchLabels": { "env": "test" } })).includes("shop", Some(&labels)));
    }

    #[test]
    fn peer_may_read_a_namespace_whose_labels_are_unknown() {
        assert!(peer(&json!({})).includes("shop", None));
        assert!(peer(&json!({ "matchLabels": { "env": "prod" } })).includes("shop", None));
        assert!(peer(&json!({ "matchExpressions": [{ "key": "env", "operator": "NotIn", "values": ["prod"] }] })).includes("shop", None));
        assert!(peer(&json!({ "matchExpressions": [{ "key": "env", "operator": "DoesNotExist" }] })).includes("shop", None));
    }

    #[test]
    fn name_of_a_namespace_is_always_known() {
        assert!(peer(&json!({ "matchLabels": { NAME_LABEL: "shop" } })).includes("shop", None));
        assert!(!peer(&json!({ "matchLabels": { NAME_LABEL: "bank" } })).includes("shop", None));
        assert!(!peer(&json!({ "matchLabels": { "env": "prod", NAME_LABEL: "bank" } })).includes("shop", None));
    }
}
