//! What the objects among manifests say about namespaces: their labels, and who reads which label there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use podpolicy_engine::{NAME_LABEL, NamespaceFacts, Reach, Reader, SelectorUse, selector_use};

use crate::{
    Manifest, Object, objects,
    relevant::{Part, relevant},
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

impl Facts {
    /// Takes in all objects of a text; those that name no namespace are in `namespace`. Documents that cannot be read say nothing: they are told of
    /// when they are rendered.
    pub fn add_manifest(&mut self, manifest: &Manifest, namespace: &str) {
        for document in manifest.documents() {
            let Ok(value) = relevant(manifest, document, Part::Facts) else { continue };
            for object in objects(&value) {
                self.add(&object, object.namespace.unwrap_or(namespace));
            }
        }
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
        if (object.api_version, object.kind) == ("v1", "Namespace") {
            let labels = object.value["metadata"]["labels"].as_object().into_iter().flatten();
            let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            self.add_namespace(object.name, labels.collect());
            return;
        }
        let uses = selector_use(object.kind, &object.value["spec"]);
        if object.template().is_some() {
            self.used.insert(namespace.to_owned());
        }
        if !uses.is_empty() {
            let (kind, name) = (object.kind.to_owned(), object.name.to_owned());
            self.selectors.push(Selecting { kind, namespace: namespace.to_owned(), name, uses });
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
