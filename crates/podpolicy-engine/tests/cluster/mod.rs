//! What tests share: manifests, as clusters hold them, become facts.

use std::collections::BTreeMap;

use podpolicy_engine::{Reach, Reader, selector_use};
use serde_json::Value as Json;

/// Who reads which label key in a namespace, of all the objects in the cluster.
pub fn readers(objects: &[Json], namespace: &str, labels: &BTreeMap<String, String>) -> BTreeMap<String, Vec<Reader>> {
    let mut readers: BTreeMap<String, Vec<Reader>> = BTreeMap::new();
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
        let (kind, home, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        for used in selector_use(kind, &object["spec"]) {
            let is_read_here = match used.reach {
                Reach::Own => home == namespace,
                Reach::Matching(_) => used.reach.includes(namespace, Some(labels)),
            };
            for (key, excludes) in used.keys.into_iter().filter(|_| is_read_here) {
                readers.entry(key).or_default().push(Reader::new(kind, home, name, excludes));
            }
        }
    }
    for readers in readers.values_mut() {
        readers.sort();
        readers.dedup();
    }
    readers
}

/// Whether the whole says all that the part says.
pub fn is_part_of(part: &Json, whole: &Json) -> bool {
    match (part, whole) {
        (Json::Object(part), Json::Object(whole)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| is_part_of(part, whole)))
        }
        (Json::Array(part), Json::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_part_of(part, whole))
        }
        _ => part == whole,
    }
}
