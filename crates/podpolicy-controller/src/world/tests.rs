//! What is decided, and when it no longer holds.

use std::{collections::HashSet, sync::Arc};

use podpolicy_engine::{Exec, Feature, PolicyId, Support};
use serde_json::{Value, json};

use super::{Planned, World, Write};
use crate::{
    Config,
    guard::GuardState,
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
fn server_that_drops_a_field_makes_a_new_program_for_all_pods() {
    let mut world = world();
    let metadata = json!({ "namespace": "shop", "name": "standard", "uid": "1", "resourceVersion": "1" });
    let spec = json!({ "selector": {}, "containers": [{ "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } }] });
    let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec });
    see(&mut world, Watchable::PodPolicies, Observed::PodPolicy(serde_json::from_value(policy).unwrap()));
    see_pod(&mut world, "a", "1", 2, &json!({}));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::None)]);
    let refused = |world: &mut World| {
        let program = world.take_new_program().unwrap();
        program.policies().iter().map(|policy| program.refused_everywhere(policy).len()).sum::<usize>()
    };
    assert_eq!(refused(&mut world), 0);

    world.set_support(Support::found(None, [Feature::SleepHook]));
    assert_eq!(plan(&mut world, 9), [("a".to_owned(), Write::None)]);
    assert_eq!(refused(&mut world), 1);

    world.set_support(Support::found(None, [Feature::SleepHook]));
    assert_eq!(plan(&mut world, 9), []);
    assert!(world.take_new_program().is_none());
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

/// A policy with a command in a hook.
fn see_commands(world: &mut World, version: u32, generation: i64) {
    let metadata = json!({
        "namespace": "shop", "name": "drain", "uid": "1", "resourceVersion": version.to_string(), "generation": generation,
    });
    let spec = json!({ "selector": {}, "containers": [{ "lifecycle": { "preStop": { "exec": { "command": ["drain"] } } } }] });
    let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec });
    see(world, Watchable::PodPolicies, Observed::PodPolicy(serde_json::from_value(policy).unwrap()));
}

#[test]
fn nothing_is_decided_before_somebody_has_looked_at_the_guard_where_policies_have_commands() {
    let mut world = world();
    see_policy(&mut world, 1, &json!({}));
    assert!(world.is_synced() && world.take_questions().is_none());
    see_commands(&mut world, 2, 1);
    assert!(!world.is_synced());
    assert_eq!(world.unsynced(), ["the guard's objects"]);
    assert_eq!(world.take_questions().unwrap().policies.len(), 1);
    world.guard_changed(Arc::new(GuardState::Absent));
    assert!(world.is_synced());
}

#[test]
fn each_generation_with_commands_is_a_question_and_nothing_else_is() {
    let mut world = world();
    see_commands(&mut world, 1, 1);
    assert_eq!(world.take_questions().unwrap().seen, 1);
    see_commands(&mut world, 2, 1);
    assert!(world.take_questions().is_none(), "only its status is another");
    see_commands(&mut world, 3, 2);
    assert_eq!(world.take_questions().unwrap().seen, 2);
    world.remove_policy(&PolicyId::namespaced("shop", "drain"));
    assert_eq!(world.take_questions().unwrap().policies, []);
}

#[test]
fn what_the_guard_vouches_for_is_in_the_program() {
    let mut world = world();
    see_commands(&mut world, 1, 1);
    let exec = |world: &mut World| {
        world.plan(9);
        world.take_new_program().map(|program| program.policies()[0].exec().clone())
    };
    world.guard_changed(Arc::new(GuardState::Absent));
    assert_eq!(exec(&mut world), Some(Exec::NoGuard));
    world.guard_changed(Arc::new(GuardState::Absent));
    assert_eq!(exec(&mut world), None, "nothing has changed");
    world.guard_changed(Arc::new(GuardState::Unclear("no answer".to_owned())));
    assert_eq!(exec(&mut world), Some(Exec::Unclear("no answer".to_owned())));
}
