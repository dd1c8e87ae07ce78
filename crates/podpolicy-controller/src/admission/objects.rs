//! The MutatingAdmissionPolicy objects that the API server holds, as watches and writes tell. Nothing here decides what should be there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::{
    ClusterResourceScope,
    api::admissionregistration::v1::{MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use podpolicy_admission::cel::OWNER_LABEL;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    scope::Scope,
    steps::Present,
    write::{Applied, Written},
};
use crate::observe::{Failure, failure, is_older};

/// One of the two kinds.
pub(super) trait Object:
    Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
    /// With the defaults of the API server, so that what is wanted can be compared with what is there.
    fn into_stored(self) -> Self;

    /// The hash of the spec.
    fn content(&self) -> u64;
}

impl Object for MutatingAdmissionPolicy {
    fn into_stored(mut self) -> Self {
        if let Some(spec) = &mut self.spec {
            spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
            spec.match_constraints.as_mut().map(default);
        }
        self
    }

    fn content(&self) -> u64 {
        hash(&self.spec)
    }
}

impl Object for MutatingAdmissionPolicyBinding {
    fn into_stored(mut self) -> Self {
        self.spec.as_mut().and_then(|spec| spec.match_resources.as_mut()).map(default);
        self
    }

    fn content(&self) -> u64 {
        hash(&self.spec)
    }
}

fn default(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    for rule in resources.resource_rules.iter_mut().chain(&mut resources.exclude_resource_rules).flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

fn hash(spec: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(spec).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// The operator's objects, as last seen.
pub(super) struct Objects {
    scope: Scope,
    policies: Held,
    bindings: Held,
    /// Contents that the API server makes of others by itself: what was found -> what was written. Objects with these are as written.
    made_of: HashMap<u64, u64>,
}

/// The objects of one kind.
#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Stored>,
    /// The names in a list that is not complete yet.
    listing: HashSet<String>,
    is_listed: bool,
}

struct Stored {
    version: String,
    content: u64,
}

/// What the watches saw.
pub(super) enum Seen {
    Policy(Event<MutatingAdmissionPolicy>),
    Binding(Event<MutatingAdmissionPolicyBinding>),
    /// Of the resource with this plural.
    Failing(&'static str, Failure),
}

impl Seen {
    /// The plural of the resource that was watched.
    pub(super) fn plural(&self) -> &'static str {
        match self {
            Self::Policy(_) => POLICIES,
            Self::Binding(_) => BINDINGS,
            Self::Failing(plural, _) => plural,
        }
    }
}

const POLICIES: &str = "mutatingadmissionpolicies";
const BINDINGS: &str = "mutatingadmissionpolicybindings";

/// Watches the objects that carry the operator's label.
pub(super) fn watch(client: &Client) -> impl Stream<Item = Seen> + Send + use<> {
    let policies = watcher(Api::all(client.clone()), owned()).default_backoff().map(seen(POLICIES, Seen::Policy));
    let bindings = watcher(Api::all(client.clone()), owned()).default_backoff().map(seen(BINDINGS, Seen::Binding));
    stream::select(policies, bindings)
}

fn seen<K>(plural: &'static str, wrap: fn(Event<K>) -> Seen) -> impl Fn(Result<Event<K>, watcher::Error>) -> Seen {
    move |event| event.map_or_else(|error| Seen::Failing(plural, failure(&error)), wrap)
}

fn owned() -> watcher::Config {
    let (key, value) = OWNER_LABEL;
    watcher::Config::default().labels(&format!("{key}={value}"))
}

impl Objects {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, policies: Held::default(), bindings: Held::default(), made_of: HashMap::new() }
    }

    /// Takes in what a watch saw; a failure says nothing of the objects.
    pub(super) fn observe(&mut self, seen: Seen) -> Result<(), Failure> {
        let Self { scope, policies, bindings, made_of } = self;
        match seen {
            Seen::Policy(event) => policies.observe(event, scope, made_of),
            Seen::Binding(event) => bindings.observe(event, scope, made_of),
            Seen::Failing(_, failure) => return Err(failure),
        }
        Ok(())
    }

    /// Whether all of them have been seen once.
    pub(super) fn is_listed(&self) -> bool {
        self.policies.is_listed && self.bindings.is_listed
    }

    /// What is there, by name.
    pub(super) fn present(&self) -> BTreeMap<String, Present> {
        let mut present: BTreeMap<String, Present> = BTreeMap::new();
        for (name, stored) in &self.policies.objects {
            present.entry(name.clone()).or_default().policy = Some(stored.content);
        }
        for (name, stored) in &self.bindings.objects {
            present.entry(name.clone()).or_default().binding = Some(stored.content);
        }
        present
    }

    /// Takes in what was written. The watches will say the same, but later.
    pub(super) fn written(&mut self, written: Written) {
        let Self { scope: _, policies, bindings, made_of } = self;
        match written {
            Written::Policy(applied) => policies.applied(*applied, made_of),
            Written::Binding(applied) => bindings.applied(*applied, made_of),
            Written::NoPolicy(name) => _ = policies.objects.remove(&name),
            Written::NoBinding(name) => _ = bindings.objects.remove(&name),
        }
    }
}

impl Held {
    fn observe<K: Object>(&mut self, event: Event<K>, scope: &Scope, made_of: &HashMap<u64, u64>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) | Event::Apply(object) if !scope.owns(&object.name_any()) => {}
            Event::InitApply(object) => {
                self.listing.insert(object.name_any());
                self.put(&object, made_of);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                self.objects.retain(|name, _| listed.contains(name));
                self.is_listed = true;
            }
            Event::Apply(object) => self.put(&object, made_of),
            Event::Delete(object) => {
                let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
                // One of this name may have been written since.
                if self.objects.get(&name).is_some_and(|known| !is_older(&version, &known.version)) {
                    self.objects.remove(&name);
                }
            }
        }
    }

    fn applied<K: Object>(&mut self, Applied { object, wanted }: Applied<K>, made_of: &mut HashMap<u64, u64>) {
        let found = object.content();
        if found != wanted {
            made_of.insert(found, wanted);
        }
        self.put(&object, made_of);
    }

    fn put<K: Object>(&mut self, object: &K, made_of: &HashMap<u64, u64>) {
        let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
        if self.objects.get(&name).is_some_and(|known| is_older(&version, &known.version)) {
            return;
        }
        let found = object.content();
        self.objects.insert(name, Stored { version, content: made_of.get(&found).copied().unwrap_or(found) });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(version: u32, policy: &str) -> MutatingAdmissionPolicyBinding {
        let metadata = json!({ "name": "podpolicy-others", "resourceVersion": version.to_string() });
        let spec = json!({ "policyName": policy, "matchResources": { "resourceRules": [{ "resources": ["pods"] }] } });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn held(objects: &Objects) -> Option<u64> {
        objects.present().get("podpolicy-others")?.binding
    }

    fn objects() -> Objects {
        Objects::new(Scope::of(&crate::Watched::Cluster))
    }

    #[test]
    fn what_a_write_returned_is_not_undone_by_what_a_watch_saw_before() {
        let mut objects = objects();
        let (old, new) = (binding(1, "a"), binding(2, "b"));
        objects.written(Written::Binding(Box::new(Applied { object: new.clone(), wanted: new.content() })));
        objects.observe(Seen::Binding(Event::Apply(old.clone()))).unwrap();
        objects.observe(Seen::Binding(Event::Delete(old))).unwrap();
        assert_eq!(held(&objects), Some(new.content()));
        objects.observe(Seen::Binding(Event::Delete(binding(3, "b")))).unwrap();
        assert_eq!(held(&objects), None);
    }

    #[test]
    fn what_the_api_server_makes_of_an_object_is_the_object() {
        let mut objects = objects();
        let (wanted, made) = (binding(1, "a").content(), binding(1, "a, with a default of a later version"));
        objects.written(Written::Binding(Box::new(Applied { object: made.clone(), wanted })));
        assert_eq!(held(&objects), Some(wanted));
        objects.observe(Seen::Binding(Event::Apply(made))).unwrap();
        assert_eq!(held(&objects), Some(wanted));
    }

    #[test]
    fn what_is_not_in_a_new_list_is_gone() {
        let mut objects = objects();
        objects.observe(Seen::Binding(Event::Apply(binding(1, "a")))).unwrap();
        objects.observe(Seen::Binding(Event::Init)).unwrap();
        assert!(held(&objects).is_some() && !objects.is_listed());
        objects.observe(Seen::Binding(Event::InitDone)).unwrap();
        objects.observe(Seen::Policy(Event::InitDone)).unwrap();
        assert!(held(&objects).is_none() && objects.is_listed());
    }

    #[test]
    fn defaults_are_no_difference() {
        let stored = serde_json::to_value(binding(1, "a").into_stored()).unwrap();
        let wanted = json!({
            "policyName": "a",
            "matchResources": {
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [{ "resources": ["pods"], "scope": "*" }],
            },
        });
        assert_eq!(stored["spec"], wanted);
    }
}
