//! What is given in a case, read from manifests as users and clusters write them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_engine::{Exec, Feature, NamespaceFacts, Pod, Policy, PolicyKind, Program, Settings, Support, kubernetes::Version};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::cluster;

/// What is given in a case.
pub struct Given {
    pub policies: Vec<Arc<Policy>>,
    pub pod: Pod,
    facts: Option<Facts>,
}

/// `facts.yaml`. Without it the namespace is known, has no labels and nothing in it selects pods.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Facts {
    /// Whether the pod's namespace is known at all.
    #[serde(default = "yes")]
    namespace_is_known: bool,
    #[serde(default)]
    namespace_labels: BTreeMap<String, String>,
    /// Services and other objects that select pods, in this namespace and others.
    #[serde(default)]
    objects: Vec<Json>,
    /// The label keys that policies carry on pods of the namespace.
    #[serde(default)]
    carried: Vec<Carried>,
    #[serde(default)]
    excluded_namespaces: BTreeSet<String>,
    #[serde(default)]
    protected_keys: BTreeSet<String>,
    /// The policies whose authors may run commands, as records name them.
    #[serde(default)]
    vouched: BTreeSet<String>,
    #[serde(default)]
    unseen_selectors: BTreeSet<String>,
    #[serde(default)]
    unseen_kinds: BTreeSet<String>,
    /// The version of the API server, with its default feature gates.
    server: Option<String>,
    /// The fields that the API server drops, by the names of `Feature`. With it, the version alone says nothing.
    drops: Option<BTreeSet<String>>,
}

impl Facts {
    fn support(&self) -> Support {
        let server: Option<Version> = self.server.as_ref().map(|version| version.parse().unwrap());
        let feature = |name: &String| Feature::ALL.into_iter().find(|feature| format!("{feature:?}") == *name).expect("it is a feature");
        match (server, &self.drops) {
            (server, Some(drops)) => Support::found(server, drops.iter().map(feature)),
            (Some(server), None) => Support::of(server),
            (None, None) => Support::all(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    policy: String,
    label: String,
}

impl Given {
    /// Reads the files of a case.
    pub fn read(folder: &Path) -> Self {
        let text = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        let facts = folder.join("facts.yaml").exists().then(|| text("facts.yaml"));
        Self {
            policies: documents(&text("policies.yaml"), folder).iter().map(|policy| Arc::new(policy_of(policy, folder))).collect(),
            pod: serde_saphyr::from_str(&text("pod.yaml")).unwrap_or_else(|error| panic!("{}: pod.yaml: {error}", folder.display())),
            facts: facts
                .map(|text| serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: facts.yaml: {error}", folder.display()))),
        }
    }

    /// The program that these policies, in any order, make with the facts.
    pub fn program(&self, policies: impl Iterator<Item = Arc<Policy>>) -> Program {
        let Some(facts) = &self.facts else {
            let known = HashMap::from([(self.pod.namespace.clone(), Arc::default())]);
            return Program::new(policies, known, Settings::default());
        };
        let namespace = NamespaceFacts {
            labels: facts.namespace_labels.clone(),
            readers: cluster::readers(&facts.objects, &self.pod.namespace, &facts.namespace_labels),
            carried: facts.carried.iter().map(|carried| (carried.policy.clone(), carried.label.clone())).collect(),
        };
        let known = facts.namespace_is_known.then(|| (self.pod.namespace.clone(), Arc::new(namespace)));
        let settings = Settings {
            excluded_namespaces: facts.excluded_namespaces.clone(),
            protected_keys: facts.protected_keys.clone(),
            unseen_selectors: facts.unseen_selectors.clone(),
            unseen_kinds: facts.unseen_kinds.iter().map(|kind| kind_of(kind)).collect(),
            support: facts.support(),
        };
        let vouch = |policy: Arc<Policy>| {
            let is_vouched = facts.vouched.contains(policy.in_record());
            if is_vouched { Arc::new(Policy::clone(&policy).with_exec(Exec::Vouched)) } else { policy }
        };
        Program::new(policies.map(vouch), known.into_iter().collect(), settings)
    }
}

fn documents(text: &str, folder: &Path) -> Vec<Json> {
    let documents: Vec<Json> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{}: policies.yaml: {error}", folder.display()));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn policy_of(manifest: &Json, folder: &Path) -> Policy {
    let fail = |error: serde_json::Error| -> ! { panic!("{}: policies.yaml: {error}", folder.display()) };
    let (policy, understood) = match manifest["kind"].as_str() {
        Some("PodPolicy") => {
            let policy = PodPolicy::deserialize(manifest).unwrap_or_else(|error| fail(error));
            (Policy::from_namespaced(&policy), serde_json::to_value(&policy))
        }
        Some("ClusterPodPolicy") => {
            let policy = ClusterPodPolicy::deserialize(manifest).unwrap_or_else(|error| fail(error));
            (Policy::from_cluster(&policy), serde_json::to_value(&policy))
        }
        other => panic!("{}: policies.yaml: kind {other:?} is no policy", folder.display()),
    };
    let understood = understood.unwrap();
    assert!(cluster::is_part_of(manifest, &understood), "{}: policies.yaml: a field is misspelt:\n{manifest:#}", folder.display());
    policy
}

fn kind_of(name: &str) -> PolicyKind {
    match name {
        "PodPolicy" => PolicyKind::PodPolicy,
        "ClusterPodPolicy" => PolicyKind::ClusterPodPolicy,
        other => panic!("{other} is no kind of policy"),
    }
}

fn yes() -> bool {
    true
}
