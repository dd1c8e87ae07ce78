//! What the kustomizations in a folder use as a patch, as data or as configuration: such files look like manifests, and are none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use podpolicy_manifests::Manifest;
use serde_json::Value;

use super::walk::Found;
use crate::output;

/// The names under which kustomize looks for a kustomization.
const NAMES: [&str; 2] = ["kustomization.yaml", "kustomization.yml"];

/// Where a kustomization names files that are no resources: the field, and in each item of it the field with the name.
const PARTS: [(&str, &str); 8] = [
    ("patches", "path"),
    ("patchesStrategicMerge", ""),
    ("patchesJson6902", "path"),
    ("replacements", "path"),
    ("configurations", ""),
    ("crds", ""),
    ("helmCharts", "valuesFile"),
    ("helmCharts", "additionalValuesFiles"),
];

/// Where it names files whose content becomes data.
const GENERATORS: [&str; 2] = ["configMapGenerator", "secretGenerator"];

/// Takes kustomizations out, and what they use beside resources. A warning says what that is.
pub(super) fn without_parts(found: &mut Vec<Found>) {
    let mut parts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let (mut kustomizations, mut setting) = (Vec::new(), Vec::new());
    for file in found.iter().filter(|file| file.path.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))) {
        // One that cannot be read is told of like any other file.
        let Some(value) = read(&file.canonical) else { continue };
        let folder = file.canonical.parent().unwrap_or(Path::new("/"));
        for name in names(&value) {
            if let Ok(part) = fs::canonicalize(folder.join(name)) {
                parts.entry(part).or_insert(kustomizations.len());
            }
        }
        if SETS.iter().any(|field| !value[*field].is_null()) {
            setting.push(file.path.display().to_string());
        }
        kustomizations.push((file.canonical.clone(), file.path.display().to_string(), BTreeSet::new()));
    }
    found.retain(|file| {
        if kustomizations.iter().any(|(path, ..)| *path == file.canonical) {
            return false;
        }
        let user = parts.get(&file.canonical);
        if let Some(&user) = user {
            kustomizations[user].2.insert(file.path.display().to_string());
        }
        user.is_none()
    });
    for (_, name, passed_over) in kustomizations.iter().filter(|(.., passed_over)| !passed_over.is_empty()) {
        let passed_over = passed_over.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        output::warn(&format!(
            "{name}: what it uses as patches or data is passed over ({passed_over}); to see the whole, render what kustomize builds"
        ));
    }
    if !setting.is_empty() {
        let named = output::listed(&setting, MOST_NAMED);
        output::warn(&format!(
            "namespaces, labels and annotations that kustomizations set are not in the files, so that other policies may apply ({named}); \
             to see the whole, use what kustomize builds (kustomize build .. | podpolicy check -)"
        ));
    }
}

/// What kustomizations set in all of their resources, and files are not looked at with.
const SETS: [&str; 4] = ["namespace", "labels", "commonLabels", "commonAnnotations"];

/// How many files a warning names.
const MOST_NAMED: usize = 3;

fn read(path: &Path) -> Option<Value> {
    let manifest = Manifest::parse(fs::read_to_string(path).ok()?).ok()?;
    let [document] = manifest.documents() else { return None };
    manifest.value(document).ok()
}

fn names(kustomization: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut names: Vec<Value> = vec![kustomization["openapi"]["path"].clone()];
    for (field, inner) in PARTS {
        for item in list(&kustomization[field]) {
            names.extend(if inner.is_empty() { vec![item] } else { list(&item[inner]) });
        }
    }
    for item in GENERATORS.iter().flat_map(|field| list(&kustomization[*field])) {
        names.extend(["files", "envs", "env"].iter().flat_map(|field| list(&item[*field])));
    }
    // A file of a generator can have a key before it.
    let name = |name: &Value| name.as_str().map(|name| name.split_once('=').map_or(name, |(_, name)| name).to_owned());
    names.iter().filter_map(name).collect()
}
