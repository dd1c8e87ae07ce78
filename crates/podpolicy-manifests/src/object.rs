//! The objects in a document, and where in each its pods are described.

use serde_json::Value as Json;

use crate::Step;

/// A Kubernetes object in a document.
#[derive(Debug)]
pub struct Object<'a> {
    /// Where it is in its document: objects can be items of lists.
    pub path: Vec<Step>,
    /// Its kind.
    pub kind: &'a str,
    /// Its apiVersion.
    pub api_version: &'a str,
    /// Its namespace, where it says one.
    pub namespace: Option<&'a str>,
    /// Its name; that of a generateName where there is no name.
    pub name: &'a str,
    /// The object itself.
    pub value: &'a Json,
}

/// The objects of a document: the document itself, or the items of a List or ResourceList.
pub fn objects(document: &Json) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    collect(document, ("", ""), &mut Vec::new(), &mut found);
    found
}

/// `inherited` are the apiVersion and kind of what says none itself: in lists of one kind, as the API server sends them, items do not.
fn collect<'a>(value: &'a Json, inherited: (&'a str, &'a str), path: &mut Vec<Step>, found: &mut Vec<Object<'a>>) {
    let kind = value["kind"].as_str().unwrap_or(inherited.1);
    let api_version = value["apiVersion"].as_str().unwrap_or(inherited.0);
    if kind.is_empty() {
        return;
    }
    if let Some(items) = value["items"].as_array().filter(|_| kind.ends_with("List")) {
        for (index, item) in items.iter().enumerate() {
            path.extend([Step::Key("items".to_owned()), Step::Index(index)]);
            collect(item, of_items(api_version, kind), path, found);
            path.truncate(path.len() - 2);
        }
        return;
    }
    let metadata = &value["metadata"];
    found.push(Object {
        path: path.clone(),
        kind,
        api_version,
        namespace: metadata["namespace"].as_str().filter(|namespace| !namespace.is_empty()),
        name: metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default(),
        value,
    });
}

/// The apiVersion and kind of a list's items, where they say none: a PodList has Pods, a List anything.
pub(crate) fn of_items<'a>(api_version: &'a str, kind: &'a str) -> (&'a str, &'a str) {
    (api_version, kind.strip_suffix("List").unwrap_or_default())
}

impl Object<'_> {
    /// How messages name it, such as `Deployment shop/web`. Objects that name no namespace are in `namespace`.
    pub(crate) fn title(&self, namespace: &str) -> String {
        format!("{} {}/{}", self.kind, self.namespace.unwrap_or(namespace), self.name)
    }

    /// Where its pod or pod template is, from the object on. Anything with containers in spec.template.spec counts as a workload.
    pub fn template(&self) -> Option<&'static [&'static str]> {
        let place = place(self.api_version, self.kind);
        let template = place.iter().try_fold(self.value, |value, key| value.get(key))?;
        template["spec"]["containers"].is_array().then_some(place)
    }
}

/// Where objects of a kind have their pod or pod template, if they have one.
pub(crate) fn place(api_version: &str, kind: &str) -> &'static [&'static str] {
    match (api_version, kind) {
        ("v1", "Pod") => &[],
        ("v1", "PodTemplate") => &["template"],
        (_, "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => &["spec", "template"],
    }
}
