//! Makes worlds for properties: policies of both kinds, a pod, and what else is in its cluster. Few keys, values, names and
//! ports, so that they meet often.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_engine::{Exec, Feature, NamespaceFacts, Pod, Policy, Program, Settings, Support};
use proptest::{collection::vec, prelude::*, sample::select};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::cluster;

const LABELS: [&str; 5] = ["app", "team", "tier", "track", "pod-template-hash"];
const ANNOTATIONS: [&str; 3] = ["note", "example.com/oncall", "kubernetes.io/note"];
const VALUES: [&str; 3] = ["a", "b", "c"];
/// Only the first is one that Windows knows.
const SIGNALS: [&str; 3] = ["SIGTERM", "SIGQUIT", "SIGRTMIN+3"];
/// The names of policies of which a guard may have checked some, as records know them.
const VOUCHED: [&str; 8] = [
    "PodPolicy/one",
    "PodPolicy/two",
    "PodPolicy/three",
    "PodPolicy/four",
    "ClusterPodPolicy/one",
    "ClusterPodPolicy/two",
    "ClusterPodPolicy/three",
    "ClusterPodPolicy/four",
];
/// Annotations may say anything, also what looks like JSON, a record, or the end of an expression.
const TEXTS: [&str; 8] = [
    "a",
    "b",
    "c",
    "",
    "say \"a\" \\ \u{e9}\u{1f600}\n\t\r\u{1}\u{7f}",
    "\"}},\"created\":{\"terminationGracePeriodSeconds\":{\"by\":\"PodPolicy/one\"}}}",
    "{\"labels\":{\"team\":{\"by\":\"PodPolicy/one\",\"value\":\"a\"}},\"annotations\":{",
    "\\\" + variables.own[\"team\"] + '\\u0022 ${x} ]) }}",
];

/// A pod and what decides about it.
#[derive(Clone, Debug)]
pub struct World {
    pub policies: Vec<Json>,
    /// Policies that were there before, some of them under the same names.
    pub earlier: Vec<Json>,
    pub pod: Json,
    /// What people did to the pod after that: labels and annotations that they set or removed.
    pub changes: Vec<Change>,
    pub surroundings: Surroundings,
}

/// What is around the pod.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub namespace_labels: BTreeMap<String, String>,
    pub objects: Vec<Json>,
    pub carried: BTreeSet<(String, String)>,
    /// The policies whose authors may run commands, as records name them.
    pub vouched: BTreeSet<String>,
    /// The policies that leave the pods of the owner `1` alone, as records name them.
    pub exempting: BTreeSet<String>,
    pub selectors_are_unseen: bool,
    pub namespace_is_excluded: bool,
    /// The fields that the API server drops.
    pub drops: BTreeSet<Feature>,
}

/// A label or annotation that a person set or removed.
#[derive(Clone, Debug)]
pub struct Change {
    is_label: bool,
    key: &'static str,
    value: Option<&'static str>,
}

impl Change {
    /// Makes the change.
    pub fn apply(&self, pod: &mut Pod) {
        let Self { is_label, key, value } = self;
        let values = if *is_label { &mut pod.labels } else { &mut pod.annotations };
        match value {
            Some(value) => values.insert((*key).to_owned(), (*value).to_owned()),
            None => values.remove(*key),
        };
    }
}

impl World {
    /// The pod as its workload made it.
    pub fn new_pod(&self) -> Pod {
        Pod::deserialize(&self.pod).unwrap()
    }

    /// The pod after what the earlier policies and people did to it.
    pub fn lived_in_pod(&self) -> Pod {
        let mut pod = self.pod_of_earlier_policies();
        for change in &self.changes {
            change.apply(&mut pod);
        }
        pod
    }

    /// The pod after what the earlier policies did to it.
    pub fn pod_of_earlier_policies(&self) -> Pod {
        let mut pod = self.new_pod();
        self.program_of(&self.earlier).decide(&pod).metadata.apply(&mut pod);
        pod
    }

    /// The same world on a server with its default feature gates: it drops the newest fields, and no pod has them.
    #[must_use]
    pub fn by_default_gates(mut self) -> Self {
        self.surroundings.drops = Feature::ALL.into_iter().filter(|feature| feature.on_since().is_none()).collect();
        self.pod = without_newest_fields(self.pod);
        self
    }

    /// The program of the policies.
    pub fn program(&self) -> Program {
        self.program_of(&self.policies)
    }

    /// The program of other policies in the same surroundings.
    pub fn program_of<'a>(&self, policies: impl IntoIterator<Item = &'a Json>) -> Program {
        let Surroundings { namespace_labels, objects, carried, vouched, exempting, selectors_are_unseen, namespace_is_excluded, drops } =
            self.surroundings.clone();
        let readers = cluster::readers(&objects, "shop", &namespace_labels);
        let facts = NamespaceFacts { labels: namespace_labels, readers, carried };
        let settings = Settings {
            excluded_namespaces: namespace_is_excluded.then(|| "shop".to_owned()).into_iter().collect(),
            unseen_selectors: selectors_are_unseen.then(|| "services".to_owned()).into_iter().collect(),
            support: Support::found(None, drops),
            ..Settings::default()
        };
        let vouch = |policy: Policy| {
            let exec = if vouched.contains(policy.in_record()) { Exec::Vouched } else { Exec::NotChecked };
            let exempt = exempting.contains(policy.in_record()).then(|| "1".to_owned()).into_iter().collect();
            Arc::new(policy.with_exec(exec).with_exempt(exempt))
        };
        let policies = policies.into_iter().map(|policy| vouch(policy_of(policy)));
        Program::new(policies, HashMap::from([("shop".to_owned(), Arc::new(facts))]), settings)
    }
}

/// A policy's manifest, parsed.
pub fn policy_of(manifest: &Json) -> Policy {
    match manifest["kind"].as_str() {
        Some("PodPolicy") => Policy::from_namespaced(&PodPolicy::deserialize(manifest).unwrap()),
        _ => Policy::from_cluster(&ClusterPodPolicy::deserialize(manifest).unwrap()),
    }
}

/// Worlds of any kind.
pub fn worlds() -> impl Strategy<Value = World> {
    (policies(), policies(), pod(), vec(change(), 0..3), surroundings()).prop_map(|(policies, earlier, pod, changes, surroundings)| World {
        policies,
        earlier,
        pod,
        changes,
        surroundings,
    })
}

fn policies() -> impl Strategy<Value = Vec<Json>> {
    vec(policy(), 0..6).prop_map(|policies| {
        let mut ids = BTreeSet::new();
        policies
            .into_iter()
            .filter(|policy| {
                ids.insert((
                    policy["kind"].to_string(),
                    policy["metadata"]["namespace"].to_string(),
                    policy["metadata"]["name"].to_string(),
                ))
            })
            .collect()
    })
}

fn policy() -> impl Strategy<Value = Json> {
    let place = prop_oneof![3 => Just(Some("shop")), 1 => Just(Some("bank")), 2 => Just(None)];
    let created = prop::option::of(select(vec!["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]));
    let identity = (place, select(vec!["one", "two", "three", "four"]), created);
    let namespaces = prop::option::weighted(0.3, selector(&["env"], &["prod", "test"]));
    let how = (-1..=1, prop::bool::ANY, prop::bool::weighted(0.2), prop::bool::ANY);
    let what = (
        map(&LABELS, &VALUES, 0..4),
        map(&ANNOTATIONS, &TEXTS, 0..3),
        prop::option::weighted(0.4, select(vec![10, 30, 60])),
        vec(rule(), 0..3),
    );
    (identity, selector(&LABELS, &VALUES), namespaces, how, what).prop_map(|(identity, selector, namespaces, how, what)| {
        let ((place, name, created), (priority, replaces, audits, allows), (labels, annotations, grace, rules)) = (identity, how, what);
        let mut spec = json!({
            "selector": selector, "priority": priority, "labels": labels, "annotations": annotations, "allowSelectorImpact": allows,
            "precedence": if replaces { "Policy" } else { "Workload" }, "enforcement": if audits { "Audit" } else { "Enforce" },
        });
        if let Some(grace) = grace {
            spec["terminationGracePeriodSeconds"] = grace.into();
        }
        if !rules.is_empty() {
            spec["containers"] = rules.into();
        }
        let mut metadata = json!({ "name": name });
        if let Some(created) = created {
            metadata["creationTimestamp"] = created.into();
        }
        match (place, namespaces) {
            (Some(namespace), _) => metadata["namespace"] = namespace.into(),
            (None, Some(namespaces)) => spec["namespaceSelector"] = namespaces,
            (None, None) => {}
        }
        let kind = if place.is_some() { "PodPolicy" } else { "ClusterPodPolicy" };
        json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
    })
}

fn selector(keys: &[&'static str], values: &[&'static str]) -> impl Strategy<Value = Json> + use<> {
    let (keys, values) = (keys.to_vec(), values.to_vec());
    let equal = (select(keys.clone()), select(values.clone())).prop_map(|(key, value)| json!({ "matchLabels": { key: value } }));
    let with_values = (select(keys.clone()), select(vec!["In", "NotIn"]), vec(select(values), 1..3))
        .prop_map(|(key, operator, values)| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }));
    let without = (select(keys), select(vec!["Exists", "DoesNotExist"]))
        .prop_map(|(key, operator)| json!({ "matchExpressions": [{ "key": key, "operator": operator }] }));
    let both = (equal.clone(), with_values.clone()).prop_map(|(mut equal, with_values)| {
        equal["matchExpressions"] = with_values["matchExpressions"].clone();
        equal
    });
    prop_oneof![2 => Just(json!({})), 2 => equal, 2 => with_values, 1 => without, 1 => both]
}

fn map(
    keys: &[&'static str],
    values: &[&'static str],
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = BTreeMap<String, String>> + use<> {
    let entries = (select(keys.to_vec()), select(values.to_vec())).prop_map(|(key, value)| (key.to_owned(), value.to_owned()));
    vec(entries, size).prop_map(|entries| entries.into_iter().collect())
}

fn rule() -> impl Strategy<Value = Json> {
    let names = vec(select(vec!["*", "web", "side*", "missing"]), 1..3);
    let signal = || optional(select(SIGNALS.map(Json::from).to_vec()));
    (names, optional(probe()), optional(probe()), optional(probe()), optional(hook()), optional(hook()), signal()).prop_map(
        |(names, liveness, readiness, startup, post_start, pre_stop, signal)| {
            let mut rule = json!({ "names": names });
            let lifecycle = object([("postStart", post_start), ("preStop", pre_stop), ("stopSignal", signal)]);
            for (name, value) in
                [("livenessProbe", liveness), ("readinessProbe", readiness), ("startupProbe", startup), ("lifecycle", lifecycle)]
            {
                if let Some(value) = value {
                    rule[name] = value;
                }
            }
            rule
        },
    )
}

fn probe() -> impl Strategy<Value = Json> {
    let handler = select(vec![
        json!({}),
        json!({ "httpGet": { "port": "http" } }),
        json!({ "httpGet": { "path": "/", "port": "metrics" } }),
        json!({ "httpGet": { "host": "example.com", "port": 80 } }),
        json!({ "tcpSocket": { "port": 80 } }),
        json!({ "grpc": { "port": 80 } }),
        json!({ "exec": { "command": ["check"] } }),
        json!({ "exec": { "command": ["sh", "-c", "echo \"a\\b\" &&\n\techo '\u{1}'"] } }),
        json!({ "httpGet": { "path": "/\"a\"", "port": 80, "scheme": "HTTPS", "httpHeaders": [{ "name": "A", "value": "\"b\\" }] } }),
        json!({ "grpc": { "port": 80, "service": "\"db\"" } }),
        json!({ "httpGet": { "port": "http", "protocol": "HTTP2" } }),
        json!({ "grpc": { "port": 80, "mode": "TLS" } }),
    ]);
    let period = prop::option::of(select(vec![5, 10]));
    (handler, period, prop::option::of(select(vec![3, 6]))).prop_map(|(mut probe, period, threshold)| {
        if let Some(period) = period {
            probe["periodSeconds"] = period.into();
        }
        match threshold {
            Some(threshold) => probe["failureThreshold"] = threshold.into(),
            // Nothing at all is no probe.
            None if probe == json!({}) => probe["timeoutSeconds"] = 2.into(),
            None => {}
        }
        probe
    })
}

fn hook() -> impl Strategy<Value = Json> {
    select(vec![
        json!({ "sleep": { "seconds": 5 } }),
        json!({ "sleep": { "seconds": 30 } }),
        json!({ "sleep": { "seconds": 45 } }),
        json!({ "exec": { "command": ["drain"] } }),
        json!({ "httpGet": { "port": "http" } }),
        json!({ "httpGet": { "port": 80, "protocol": "HTTP2" } }),
        json!({ "exec": { "command": ["sh", "-c", "a \"b\"\n"] } }),
    ])
}

fn pod() -> impl Strategy<Value = Json> {
    let container = |name: &'static str| {
        let ports = prop::option::of(Just(json!([{ "name": "http", "containerPort": 80 }])));
        let own_probe = probe().prop_filter("a pod's probe has a handler", |probe| {
            probe.as_object().is_some_and(|probe| probe.keys().any(|key| !key.ends_with("Seconds") && !key.ends_with("Threshold")))
        });
        let own_hook = select(vec![
            json!({ "sleep": { "seconds": 5 } }),
            json!({ "sleep": { "seconds": 25 } }),
            json!({ "exec": { "command": ["stop"] } }),
            json!({ "httpGet": { "port": "http", "protocol": "HTTP1" } }),
        ]);
        let own_signal = select(SIGNALS.map(Json::from).to_vec());
        (
            ports,
            prop::option::weighted(0.3, own_probe),
            prop::option::weighted(0.3, own_hook.clone()),
            prop::option::weighted(0.3, own_hook),
            prop::option::weighted(0.2, own_signal),
        )
            .prop_map(move |(ports, probe, post_start, pre_stop, signal)| {
                let mut container = Map::from_iter([("name".to_owned(), name.into())]);
                let lifecycle = object([("postStart", post_start), ("preStop", pre_stop), ("stopSignal", signal)]);
                container.extend(
                    [("ports", ports), ("livenessProbe", probe), ("lifecycle", lifecycle)]
                        .into_iter()
                        .filter_map(|(key, value)| Some((key.to_owned(), value?))),
                );
                Json::Object(container)
            })
    };
    let restart = prop_oneof![4 => Just("Always"), 1 => Just("OnFailure")];
    let grace = prop::option::of(select(vec![30, 45]));
    let owners = prop::option::of(select(vec![("1", true), ("1", false), ("2", true)]));
    let own_restart = prop::option::weighted(0.3, select(vec!["Always", "OnFailure", "Never"]));
    let os = prop_oneof![3 => Just(Some("linux")), 1 => Just(Some("windows")), 2 => Just(None)];
    let system = (grace, own_restart, os);
    let metadata = (map(&LABELS, &VALUES, 0..4), map(&ANNOTATIONS, &TEXTS, 0..3), owners);
    (metadata, container("web"), container("sidecar"), restart, system).prop_map(
        |((labels, annotations, owner), mut web, mut sidecar, restart, (grace, own_restart, os))| {
            let owner = owner.map(|(uid, is_controller)| {
                json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": is_controller })
            });
            let owners: Vec<_> = owner.into_iter().collect();
            sidecar["restartPolicy"] = "Always".into();
            if let Some(own_restart) = own_restart {
                web["restartPolicy"] = own_restart.into();
            }
            let mut pod = json!({
                "metadata": { "name": "web-1", "namespace": "shop", "labels": labels, "annotations": annotations, "ownerReferences": owners },
                "spec": {
                    "restartPolicy": restart, "terminationGracePeriodSeconds": grace,
                    "initContainers": [sidecar, { "name": "migrate" }], "containers": [web],
                },
            });
            match os {
                Some(os) => pod["spec"]["os"] = json!({ "name": os }),
                // The API server takes no stop signal then.
                None => of_lifecycles(&mut pod, |lifecycle| _ = lifecycle.remove("stopSignal")),
            }
            if os == Some("windows") {
                of_lifecycles(&mut pod, |lifecycle| lifecycle.retain(|key, value| key != "stopSignal" || *value == "SIGTERM"));
            }
            pod
        },
    )
}

/// Changes the lifecycle of each container that has one.
fn of_lifecycles(pod: &mut Json, change: impl Fn(&mut Map<String, Json>)) {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Json::as_object_mut) {
                change(lifecycle);
            }
        }
    }
}

/// The pod without the fields that a server drops by default.
fn without_newest_fields(mut pod: Json) -> Json {
    of_lifecycles(&mut pod, |lifecycle| {
        lifecycle.remove("stopSignal");
        let requests = lifecycle.values_mut().filter_map(|hook| hook.get_mut("httpGet")?.as_object_mut());
        requests.for_each(|http| _ = http.remove("protocol"));
    });
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                for (handler, field) in [("httpGet", "protocol"), ("grpc", "mode")] {
                    if let Some(handler) = container.get_mut(probe).and_then(|probe| probe.get_mut(handler)?.as_object_mut()) {
                        handler.remove(field);
                    }
                }
            }
        }
    }
    pod
}

fn change() -> impl Strategy<Value = Change> {
    let value = || prop::option::of(select(VALUES.to_vec()));
    let label = (select(LABELS.to_vec()), value()).prop_map(|(key, value)| Change { is_label: true, key, value });
    let annotation = (select(ANNOTATIONS.to_vec()), value()).prop_map(|(key, value)| Change { is_label: false, key, value });
    prop_oneof![2 => label, 1 => annotation]
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let carriers = ["PodPolicy/one", "PodPolicy/two", "ClusterPodPolicy/one"];
    let everything = carriers.iter().flat_map(|policy| LABELS.map(|key| ((*policy).to_owned(), key.to_owned())));
    let carried = prop::sample::subsequence(everything.collect::<Vec<_>>(), 0..=carriers.len() * LABELS.len())
        .prop_map(|carried| carried.into_iter().collect());
    let vouched =
        prop::sample::subsequence(VOUCHED.map(str::to_owned).to_vec(), 0..=VOUCHED.len()).prop_map(|vouched| vouched.into_iter().collect());
    let environment = prop::option::of(select(vec!["prod", "test"]));
    let rarely = || prop::bool::weighted(0.1);
    let exempting = prop::option::weighted(0.3, select(VOUCHED.map(str::to_owned).to_vec())).prop_map(|one| one.into_iter().collect());
    let drops = prop_oneof![
        3 => Just(BTreeSet::new()),
        1 => prop::sample::subsequence(Feature::ALL.to_vec(), 0..=Feature::ALL.len()).prop_map(|drops| drops.into_iter().collect()),
    ];
    (environment, vec(selecting(), 0..4), carried, vouched, exempting, rarely(), rarely(), drops).prop_map(
        |(environment, objects, carried, vouched, exempting, selectors_are_unseen, namespace_is_excluded, drops)| Surroundings {
            // Every namespace has its name as a label.
            namespace_labels: environment
                .map(|environment| ("env".to_owned(), environment.to_owned()))
                .into_iter()
                .chain([("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())])
                .collect(),
            objects,
            carried,
            vouched,
            exempting,
            selectors_are_unseen,
            namespace_is_excluded,
            drops,
        },
    )
}

fn selecting() -> impl Strategy<Value = Json> {
    let kind = select(vec!["Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "StatefulSet"]);
    (kind, select(vec!["shop", "shop", "bank"]), selector(&LABELS, &VALUES)).prop_map(|(kind, namespace, selector)| {
        let spec = match kind {
            "Service" => json!({ "selector": selector["matchLabels"] }),
            "NetworkPolicy" => json!({ "podSelector": selector }),
            _ => json!({ "selector": selector }),
        };
        json!({ "kind": kind, "metadata": { "name": "web", "namespace": namespace }, "spec": spec })
    })
}

/// Adds a Deployment that owns the new pod: its selector holds for the pod, in any of the ways in which it can.
pub fn with_owner(world: World) -> impl Strategy<Value = World> {
    let labels = world.new_pod().labels;
    let conditions = LABELS.map(|key| {
        let others: Vec<_> = VALUES.iter().filter(|value| labels.get(key).is_none_or(|label| label != *value)).collect();
        let holds = match labels.get(key) {
            Some(value) => vec![json!({ "key": key, "operator": "In", "values": [value] }), json!({ "key": key, "operator": "Exists" })],
            None => vec![json!({ "key": key, "operator": "DoesNotExist" })],
        };
        let excludes = json!({ "key": key, "operator": "NotIn", "values": others });
        prop::option::of(select([holds, vec![excludes]].concat()))
    });
    conditions.prop_map(move |conditions| {
        let mut world = world.clone();
        let selector = json!({ "matchExpressions": conditions.into_iter().flatten().collect::<Vec<_>>() });
        let metadata = json!({ "name": "owner", "namespace": "shop" });
        world.surroundings.objects.push(json!({ "kind": "Deployment", "metadata": metadata, "spec": { "selector": selector } }));
        world
    })
}

fn optional(what: impl Strategy<Value = Json>) -> impl Strategy<Value = Option<Json>> {
    prop::option::weighted(0.4, what)
}

/// An object of what is there; none if nothing is.
fn object<const N: usize>(entries: [(&str, Option<Json>); N]) -> Option<Json> {
    let entries: Map<_, _> = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    (!entries.is_empty()).then_some(Json::Object(entries))
}
