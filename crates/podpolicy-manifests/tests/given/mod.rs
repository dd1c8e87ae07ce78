//! Policies and manifests as tests give them.

#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use podpolicy_engine::{Exec, Policy, Program, Settings, Support};
use podpolicy_manifests::{Facts, Manifest, Rendered, objects, render};

/// The namespace of objects that name none.
pub const NAMESPACE: &str = "default";

/// The program that policies make, with the facts in the manifests. A line `# kubernetes: 1.33` says for which API server.
pub fn program(policies: &str, manifests: &[&Manifest]) -> Program {
    let server = policies.lines().find_map(|line| line.strip_prefix("# kubernetes: "));
    let support = server.map_or_else(Support::all, |server| Support::of(server.parse().unwrap()));
    let policies = Manifest::parse(policies.to_owned()).unwrap();
    let mut facts = Facts::default();
    let mut parsed = Vec::new();
    for (manifest, document) in manifests
        .iter()
        .copied()
        .chain([&policies])
        .flat_map(|manifest| manifest.documents().iter().map(move |document| (manifest, document)))
    {
        let Ok(value) = manifest.value(document) else { continue };
        for object in objects(&value) {
            facts.add(&object, object.namespace.unwrap_or(NAMESPACE));
            let mut value = object.value.clone();
            let policy = match object.kind {
                "PodPolicy" => {
                    value["metadata"]["namespace"] = object.namespace.unwrap_or(NAMESPACE).into();
                    Policy::from_namespaced(&serde_json::from_value(value).unwrap())
                }
                "ClusterPodPolicy" => Policy::from_cluster(&serde_json::from_value(value).unwrap()),
                _ => continue,
            };
            assert!(policy.problems().is_empty(), "{:?}", policy.problems());
            parsed.push(Arc::new(policy.with_exec(Exec::Vouched)));
        }
    }
    Program::new(parsed, facts.into_namespaces(), Settings { support, ..Settings::default() })
}

/// What the policies make of a text.
#[allow(dead_code, reason = "not every test renders")]
pub fn rendered(policies: &str, text: &str) -> Rendered {
    let manifest = Manifest::parse(text.to_owned()).unwrap();
    render(&manifest, &program(policies, &[&manifest]), NAMESPACE)
}
