//! What is decided, and when it no longer holds.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Planned, World, Write};
use crate::{
    Config,
    observe::{self, Key, Observation, Observed, What},
    source::{Source, Watchable},
};

/// A world in which everything was listed, and nothing is there.
fn world() -> World {
    let config = Config::default();
    let sources = observe::sources(&config.watched);
    let mut world = World::new(config, &sources);
    for source in sources {
        world.observe(Observation { source, what: What::Listed(HashSet::new()) });
    }
    world
}

fn see(world: &mut World, resource: Watchable, object: Observed) {
    let source = Source { resource, namespace: None };
    world.observe(Observation { source, what: What::Applied(Box::new(object)) });
}

fn see_pod(world: &mut World, name: &str, uid: &str, version: u32, labels: &Value) {
    let metadata = json!({ "namespace": "shop", "name": name, "uid": uid, "resourceVersion": version.to_string(), "labels": labels });
    let pod = json!({ "metadata": metadata, "spec": { "containers": [] } });
    see(world, Watchable::Pods, Observed::Pod(serde_json::from_value(pod).unwrap()));
}

fn see_policy(world: &mut World, version: u32, labels: &Value) {
    let metadata = json!({ "namespace": "shop", "name": "standard", "uid": "1", "resourceVersion": version.to_string() });
    let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": { "selector": {}, "labels": labels } });
    see(world, Watchable::PodPolicies, Observed::PodPolicy(serde_json::from_value(policy).unwrap()));
}

fn plan(world: &mut World, limit: usize) -> Vec<(String, Write)> {
    world.plan(limit).into_iter().map(|Planned { key, write }| (key.name, write)).collect()
}

fn key(name: &str) -> Key {
    Key { namespace: "shop".to_owned(), name: name.to_owned() }
}

#[test]
fn decision_does_not_hold_for_what_a_pod_has_become_since() {
    let mut world = world();
    see_policy(&mut world, 1, &json!({ "team": "shop" }));
    see_pod(&mut world, "a", "1", 2, &json!({}));
    see_pod(&mut world, "b", "2", 3, &json!({}));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::New), ("b".to_owned(), Write::New)]);
    assert!(world.patch_for(&key("b")).is_some());

    // A person says what team it is; and before that is decided on, there is something else to decide.
    see_pod(&mut world, "a", "1", 4, &json!({ "team": "ours" }));
    see_pod(&mut world, "b", "2", 5, &json!({ "team": "ours" }));
    assert_eq!(plan(&mut world, 1), [("a".to_owned(), Write::None)]);
    assert!(world.patch_for(&key("b")).is_none(), "it would replace what the person said");
    assert_eq!(plan(&mut world, 1), [("b".to_owned(), Write::None)]);
    assert!(world.patch_for(&key("b")).is_none());
}

#[test]
fn write_is_new_when_the_policy_or_the_pod_is_another() {
    let mut world = world();
    see_policy(&mut world, 1, &json!({ "team": "shop" }));
    see_pod(&mut world, "a", "1", 2, &json!({}));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::New)]);
    see_pod(&mut world, "a", "1", 3, &json!({ "number": "1" }));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::Same)], "the policy says nothing about number");
    see_policy(&mut world, 4, &json!({ "team": "sales" }));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::New)]);
    see_pod(&mut world, "a", "2", 5, &json!({ "number": "1" }));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::New)], "another pod has the name");
}
