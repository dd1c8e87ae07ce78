//! The part of a document that decisions look at, as a value: most of a manifest concerns no policy. Where aliases show other parts of the
//! document, it is all of it.

use serde_json::{Map, Value as Json};

use crate::{
    Document, Manifest,
    object::{of_items, place},
    problem::Flaw,
    yaml::{Kind, NodeId},
};

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// What objects say of namespaces and labels; of a pod template only that it is there.
    Facts,
    /// What policies look at and change in pods and pod templates.
    Pods,
}

/// The keys of an object's metadata that name it.
const NAMES: [&str; 3] = ["name", "generateName", "namespace"];

/// The keys of a pod's spec that policies look at; of these, the last two hold containers.
const SPEC: [&str; 5] = ["nodeName", "restartPolicy", "terminationGracePeriodSeconds", "initContainers", "containers"];

/// The keys of a container that policies look at.
const CONTAINER: [&str; 7] = ["name", "restartPolicy", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// That part of a document. Everything has the path that it has in the document.
pub(crate) fn relevant(manifest: &Manifest, document: &Document, part: Part) -> Result<Json, Flaw> {
    Manifest::sound(document)?;
    if document.has_references() { manifest.whole(document) } else { Reader { manifest, document, part }.object(document.root(), ("", "")) }
}

struct Reader<'a> {
    manifest: &'a Manifest,
    document: &'a Document,
    part: Part,
}

impl Reader<'_> {
    /// `inherited` are the apiVersion and kind of what says none itself.
    fn object(&self, id: NodeId, inherited: (&str, &str)) -> Result<Json, Flaw> {
        let own = [("apiVersion", self.text(id, "apiVersion")), ("kind", self.text(id, "kind"))];
        let [version, kind] = [own[0].1.unwrap_or(inherited.0), own[1].1.unwrap_or(inherited.1)];
        if kind.is_empty() {
            return Ok(Json::Null);
        }
        let own = own.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
        let mut object: Map<_, _> = own.collect();
        if let Some(items) = self.get(id, "items").filter(|&items| kind.ends_with("List") && self.is_list(items)) {
            let items: Result<_, _> = self.document.items(items).map(|item| self.object(item, of_items(version, kind))).collect();
            object.insert("items".to_owned(), Json::Array(items?));
            return Ok(Json::Object(object));
        }
        let whole_metadata = (version, kind) == ("v1", "Namespace");
        if let Some(metadata) = self.get(id, "metadata") {
            let metadata = if whole_metadata { self.value(metadata)? } else { self.only(metadata, &NAMES)? };
            object.insert("metadata".to_owned(), metadata);
        }
        if let Some(spec) = self.get(id, "spec").filter(|_| self.part == Part::Facts) {
            let spec = if kind == "NetworkPolicy" { self.value(spec)? } else { self.only(spec, &["selector"])? };
            object.insert("spec".to_owned(), spec);
        }
        let place = place(version, kind);
        if let Some(template) = place.iter().try_fold(id, |at, key| self.get(at, key))
            && let Some(spec) = self.get(template, "spec")
            && self.get(spec, "containers").is_some_and(|containers| self.is_list(containers))
        {
            self.put(&mut object, place, template, spec)?;
        }
        Ok(Json::Object(object))
    }

    /// Puts what is asked of a pod template at its place in an object.
    fn put(&self, object: &mut Map<String, Json>, place: &[&str], template: NodeId, spec: NodeId) -> Result<(), Flaw> {
        let mut at = object;
        for key in place {
            let inner = at.entry(*key).or_insert(Json::Null);
            if !inner.is_object() {
                *inner = Json::Object(Map::new());
            }
            at = inner.as_object_mut().expect("it was made one");
        }
        match self.part {
            Part::Facts => {
                let spec = at.entry("spec").or_insert_with(|| Json::Object(Map::new()));
                spec["containers"] = Json::Array(Vec::new());
            }
            Part::Pods => {
                for key in ["metadata", "status"] {
                    if let Some(value) = self.get(template, key) {
                        at.insert(key.to_owned(), self.value(value)?);
                    }
                }
                at.insert("spec".to_owned(), self.spec(spec)?);
            }
        }
        Ok(())
    }

    fn spec(&self, id: NodeId) -> Result<Json, Flaw> {
        let [fields @ .., init, main] = &SPEC;
        let mut spec = self.only(id, fields)?;
        for list in [init, main] {
            let Some(containers) = self.get(id, list) else { continue };
            let containers = if self.is_list(containers) {
                let containers: Result<_, _> = self.document.items(containers).map(|container| self.only(container, &CONTAINER)).collect();
                Json::Array(containers?)
            } else {
                self.value(containers)?
            };
            spec[*list] = containers;
        }
        Ok(spec)
    }

    /// A mapping with these keys alone; any other value as it is.
    fn only(&self, id: NodeId, keys: &[&str]) -> Result<Json, Flaw> {
        if !matches!(self.document.kind(id), Kind::Mapping { .. }) {
            return self.value(id);
        }
        let mut map = Map::new();
        for (name, value) in self.document.entries(id) {
            let name = self.document.scalar(self.manifest.text(), name);
            if keys.contains(&name) {
                map.insert(name.to_owned(), self.value(value)?);
            }
        }
        Ok(Json::Object(map))
    }

    fn value(&self, id: NodeId) -> Result<Json, Flaw> {
        self.manifest.node_value(self.document, id)
    }

    fn get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        let text = self.manifest.text();
        self.document.entries(id).find(|&(name, _)| self.document.scalar(text, name) == key).map(|(_, value)| value)
    }

    fn is_list(&self, id: NodeId) -> bool {
        matches!(self.document.kind(id), Kind::Sequence { .. })
    }

    /// The text of a key's value where that is a string.
    fn text(&self, id: NodeId, key: &str) -> Option<&str> {
        let value = self.get(id, key)?;
        self.document.is_text(self.manifest.text(), value).then(|| self.document.scalar(self.manifest.text(), value))
    }
}
