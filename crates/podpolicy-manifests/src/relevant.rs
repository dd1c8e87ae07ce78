//! The part of a document that decisions look at, as a value: most of a manifest concerns no policy. Where aliases show other parts of the
//! document, it is all of it.

use serde_json::{Map, Value as Json};

use crate::{
    Document, Manifest,
    change::mapping,
    object::{of_items, place},
    problem::Flaw,
    yaml::{Kind, NodeId, Nodes},
};

/// The keys of an object's metadata that name it.
const NAMES: [&str; 3] = ["name", "generateName", "namespace"];

/// The keys of a pod's spec that policies look at; of these, the last two hold containers.
const SPEC: [&str; 6] = ["nodeName", "restartPolicy", "os", "terminationGracePeriodSeconds", "initContainers", "containers"];

/// The keys of a container that policies look at.
const CONTAINER: [&str; 7] = ["name", "restartPolicy", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// That part of a document. Everything has the path that it has in the document.
pub(crate) fn relevant(manifest: &Manifest, document: &Document) -> Result<Json, Flaw> {
    Manifest::sound(document)?;
    if document.has_references() {
        manifest.whole(document)
    } else {
        Reader(Nodes { manifest, document }).object(document.root(), ("", ""))
    }
}

struct Reader<'a>(Nodes<'a>);

impl Reader<'_> {
    /// `inherited` are the apiVersion and kind of what says none itself.
    fn object(&self, id: NodeId, inherited: (&str, &str)) -> Result<Json, Flaw> {
        let Self(nodes) = self;
        let own = [("apiVersion", nodes.text(id, "apiVersion")), ("kind", nodes.text(id, "kind"))];
        let [version, kind] = [own[0].1.unwrap_or(inherited.0), own[1].1.unwrap_or(inherited.1)];
        if kind.is_empty() {
            return Ok(Json::Null);
        }
        let own = own.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
        let mut object: Map<_, _> = own.collect();
        if let Some(items) = nodes.items_of_list(id, kind) {
            let items: Result<_, _> = nodes.document.items(items).map(|item| self.object(item, of_items(version, kind))).collect();
            object.insert("items".to_owned(), Json::Array(items?));
            return Ok(Json::Object(object));
        }
        if let Some(metadata) = nodes.get(id, "metadata") {
            object.insert("metadata".to_owned(), self.only(metadata, &NAMES)?);
        }
        let place = place(version, kind);
        if let Some((template, spec)) = nodes.template(id, place) {
            self.put(&mut object, place, template, spec)?;
        }
        Ok(Json::Object(object))
    }

    /// Puts what is asked of a pod template at its place in an object.
    fn put(&self, object: &mut Map<String, Json>, place: &[&str], template: NodeId, spec: NodeId) -> Result<(), Flaw> {
        let mut at = object;
        for key in place {
            at = mapping(at.entry(*key).or_insert(Json::Null));
        }
        for key in ["metadata", "status"] {
            if let Some(value) = self.0.get(template, key) {
                at.insert(key.to_owned(), self.0.value(value)?);
            }
        }
        at.insert("spec".to_owned(), self.spec(spec)?);
        Ok(())
    }

    fn spec(&self, id: NodeId) -> Result<Json, Flaw> {
        let [fields @ .., init, main] = &SPEC;
        let mut spec = self.only(id, fields)?;
        for list in [init, main] {
            let Some(containers) = self.0.get(id, list) else { continue };
            let containers = if self.0.is_list(containers) {
                let containers: Result<_, _> =
                    self.0.document.items(containers).map(|container| self.only(container, &CONTAINER)).collect();
                Json::Array(containers?)
            } else {
                self.0.value(containers)?
            };
            spec[*list] = containers;
        }
        Ok(spec)
    }

    /// A mapping with these keys alone; any other value as it is.
    fn only(&self, id: NodeId, keys: &[&str]) -> Result<Json, Flaw> {
        if !matches!(self.0.document.kind(id), Kind::Mapping { .. }) {
            return self.0.value(id);
        }
        let mut map = Map::new();
        for (name, value) in self.0.document.entries(id) {
            let name = self.0.document.scalar(self.0.manifest.text(), name);
            if keys.contains(&name) {
                map.insert(name.to_owned(), self.0.value(value)?);
            }
        }
        Ok(Json::Object(map))
    }
}
