//! What the objects among manifests say about namespaces: their labels, and who reads which label there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use podpolicy_engine::{NAME_LABEL, NamespaceFacts, Reach, Reader, SelectorUse, selector_use};
use serde_json::{Value as Json, json};

use crate::{
    Manifest, Object,
    object::{of_items, place},
    objects,
    yaml::{NodeId, Nodes},
};

/// What is known so far.
#[derive(Debug, Default)]
pub struct Facts {
    labels: BTreeMap<String, BTreeMap<String, String>>,
    used: BTreeSet<String>,
    selectors: Vec<Selecting>,
}

#[derive(Debug)]
struct Selecting {
    kind: String,
    namespace: String,
    name: String,
    uses: Vec<SelectorUse>,
}

/// The apiVersion and kind of a namespace.
const NAMESPACE: (&str, &str) = ("v1", "Namespace");

/// What counts of an object.
struct Said<'a> {
    /// Its apiVersion and kind.
    kind: (&'a str, &'a str),
    namespace: &'a str,
    name: &'a str,
    /// Its labels, if it is a namespace.
    labels: &'a Json,
    /// What its spec says of selectors, at least.
    spec: &'a Json,
    has_pods: bool,
}

impl Facts {
    /// Takes in all objects of a text; those that name no namespace are in `namespace`. Documents that cannot be read say nothing: they are told of
    /// when they are rendered.
    pub fn add_manifest(&mut self, manifest: &Manifest, namespace: &str) {
        for document in manifest.documents().iter().filter(|document| Manifest::sound(document).is_ok()) {
            if !document.has_references() {
                self.add_node(Nodes { manifest, document }, document.root(), ("", ""), namespace);
            } else if let Ok(value) = manifest.whole(document) {
                for object in objects(&value) {
                    self.add(&object, object.namespace.unwrap_or(namespace));
                }
            }
        }
    }

    /// Takes in what a node describes: a manifest has little in it that counts here, and making a value of all of it would take longer than all else.
    fn add_node(&mut self, nodes: Nodes<'_>, id: NodeId, inherited: (&str, &str), namespace: &str) {
        let api_version = nodes.text(id, "apiVersion").unwrap_or(inherited.0);
        let kind = nodes.text(id, "kind").unwrap_or(inherited.1);
        if kind.is_empty() {
            return;
        }
        if let Some(items) = nodes.items_of_list(id, kind) {
            for item in nodes.document.items(items) {
                self.add_node(nodes, item, of_items(api_version, kind), namespace);
            }
            return;
        }
        let value = |id: NodeId| nodes.value(id).unwrap_or_default();
        let metadata = nodes.get(id, "metadata");
        let name = |key| metadata.and_then(|metadata| nodes.text(metadata, key));
        let labels = metadata.filter(|_| (api_version, kind) == NAMESPACE).and_then(|metadata| nodes.get(metadata, "labels"));
        let labels = labels.map(value).unwrap_or_default();
        let spec = nodes.get(id, "spec");
        let spec = match kind {
            "NetworkPolicy" => spec.map(value).unwrap_or_default(),
            _ => match spec.and_then(|spec| nodes.get(spec, "selector")) {
                Some(selector) => json!({ "selector": value(selector) }),
                None => Json::Null,
            },
        };
        self.add_said(&Said {
            kind: (api_version, kind),
            namespace: name("namespace").filter(|namespace| !namespace.is_empty()).unwrap_or(namespace),
            name: name("name").or_else(|| name("generateName")).unwrap_or_default(),
            labels: &labels,
            spec: &spec,
            has_pods: nodes.template(id, place(api_version, kind)).is_some(),
        });
    }

    /// Takes in what else is known.
    pub fn merge(&mut self, other: Self) {
        let Self { labels, used, selectors } = other;
        self.labels.extend(labels);
        self.used.extend(used);
        self.selectors.extend(selectors);
    }

    /// Takes in an object; `namespace` is where it is.
    pub fn add(&mut self, object: &Object<'_>, namespace: &str) {
        self.add_said(&Said {
            kind: (object.api_version, object.kind),
            namespace,
            name: object.name,
            labels: &object.value["metadata"]["labels"],
            spec: &object.value["spec"],
            has_pods: object.template().is_some(),
        });
    }

    fn add_said(&mut self, said: &Said<'_>) {
        if said.kind == NAMESPACE {
            let labels = said.labels.as_object().into_iter().flatten();
            let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            self.add_namespace(said.name, labels.collect());
            return;
        }
        if said.has_pods && !self.used.contains(said.namespace) {
            self.used.insert(said.namespace.to_owned());
        }
        let kind = said.kind.1;
        let uses = selector_use(kind, said.spec);
        if !uses.is_empty() {
            let (kind, namespace, name) = (kind.to_owned(), said.namespace.to_owned(), said.name.to_owned());
            self.selectors.push(Selecting { kind, namespace, name, uses });
        }
    }

    /// Takes in a namespace with its labels.
    pub fn add_namespace(&mut self, name: &str, mut labels: BTreeMap<String, String>) {
        // The API server puts it there.
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        self.labels.insert(name.to_owned(), labels);
    }

    /// The namespaces with pods whose labels are not known.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.used.iter().filter(|name| !self.labels.contains_key(*name)).map(String::as_str)
    }

    /// What a program needs to know of each namespace.
    pub fn into_namespaces(self) -> HashMap<String, Arc<NamespaceFacts>> {
        let Self { labels, used, selectors } = self;
        let names: BTreeSet<_> =
            labels.keys().chain(&used).chain(selectors.iter().map(|selecting| &selecting.namespace)).cloned().collect();
        let mut own: HashMap<&str, Vec<(&Selecting, &SelectorUse)>> = HashMap::new();
        let mut peers = Vec::new();
        for selecting in &selectors {
            for used in &selecting.uses {
                match used.reach {
                    Reach::Own => own.entry(&selecting.namespace).or_default().push((selecting, used)),
                    Reach::Matching(_) => peers.push((selecting, used)),
                }
            }
        }
        let facts = |name: &String| {
            let labels = labels.get(name);
            let reached = peers.iter().filter(|(_, used)| used.reach.includes(name, labels));
            let mut readers: BTreeMap<String, Vec<Reader>> = BTreeMap::new();
            for (selecting, used) in own.get(name.as_str()).into_iter().flatten().chain(reached) {
                for (key, excludes) in &used.keys {
                    let reader = Reader::new(&selecting.kind, &selecting.namespace, &selecting.name, *excludes);
                    readers.entry(key.clone()).or_default().push(reader);
                }
            }
            for readers in readers.values_mut() {
                readers.sort();
                readers.dedup();
            }
            Arc::new(NamespaceFacts { labels: labels.cloned().unwrap_or_default(), readers, carried: BTreeSet::new() })
        };
        names.iter().map(|name| (name.clone(), facts(name))).collect()
    }
}
