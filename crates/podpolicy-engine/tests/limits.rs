//! Annotations have a limit in all, which the API server enforces: a plan stays within it, and says what it leaves out.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

use std::{collections::HashMap, sync::Arc};

use podpolicy_api::{APPLIED_ANNOTATION, FindingReason, PodPolicy};
use podpolicy_engine::{Creation, Omitted, Outcome, Pod, Policy, Program, Settings};
use serde_json::{Value as Json, json};

/// What the API server allows, in bytes of keys and values.
const LIMIT: usize = 256 * 1024;

fn policy(name: &str, spec: &Json) -> Arc<Policy> {
    let metadata = json!({ "name": name, "namespace": "shop" });
    let mut manifest = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec });
    manifest["spec"]["selector"] = json!({});
    Arc::new(Policy::from_namespaced(&serde_json::from_value::<PodPolicy>(manifest).unwrap()))
}

fn pod(annotations: &Json) -> Pod {
    let metadata = json!({ "name": "web-1", "namespace": "shop", "annotations": annotations });
    serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [{ "name": "web" }] } })).unwrap()
}

fn size(pod: &Pod) -> usize {
    pod.annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Decides, and checks what must be true whatever the sizes: the API server takes the plan, and a second pass writes nothing.
fn decide(policies: &[Arc<Policy>], pod: &Pod) -> (Outcome, Pod) {
    let program = Program::new(policies.iter().cloned(), HashMap::new(), Settings::default());
    let outcome = program.decide(pod);
    let mut patched = pod.clone();
    outcome.metadata.apply(&mut patched);
    assert!(size(&patched) <= LIMIT, "{} bytes of annotations", size(&patched));
    let again = program.decide(&patched).metadata;
    assert!(again.is_empty(), "a second pass writes {:?}", again.labels.keys().chain(again.annotations.keys()).collect::<Vec<_>>());
    (outcome, patched)
}

/// The fields that were refused, with the policy, and nothing refused for another reason.
fn refused(outcome: &Outcome) -> Vec<String> {
    let findings = outcome.verdicts.iter().flat_map(|verdict| verdict.findings.iter().map(move |finding| (verdict, finding)));
    let refused = findings.filter(|(_, finding)| finding.refused).map(|(verdict, finding)| {
        assert_eq!(finding.reason, FindingReason::AnnotationsTooLarge, "{finding:?}");
        format!("{} {}", verdict.policy.id().name, finding.field)
    });
    refused.collect()
}

/// A pod with an annotation that leaves exactly so many bytes for others.
fn pod_with_room_for(room: usize) -> Pod {
    pod(&json!({ "own": "x".repeat(LIMIT - room - "own".len()) }))
}

/// How many bytes an annotation of a policy takes, its record included.
fn cost(key: &str, value: &str, policy: &str) -> usize {
    let record = json!({ "annotations": { key: { "by": format!("PodPolicy/{policy}"), "value": value } } });
    key.len() + value.len() + APPLIED_ANNOTATION.len() + record.to_string().len()
}

#[test]
fn annotation_that_just_fits_is_written() {
    let policies = [policy("note", &json!({ "annotations": { "note": "to whom it may concern" } }))];
    let (outcome, patched) = decide(&policies, &pod_with_room_for(cost("note", "to whom it may concern", "note")));
    assert_eq!(refused(&outcome), [""; 0]);
    assert_eq!(size(&patched), LIMIT);
}

#[test]
fn annotation_that_does_not_fit_by_one_byte_is_refused_and_leaves_no_record() {
    let policies = [policy("note", &json!({ "annotations": { "note": "to whom it may concern" } }))];
    let (outcome, patched) = decide(&policies, &pod_with_room_for(cost("note", "to whom it may concern", "note") - 1));
    assert_eq!(refused(&outcome), ["note annotations[note]"]);
    assert_eq!(patched.annotations.keys().collect::<Vec<_>>(), ["own"]);
}

#[test]
fn policy_that_goes_last_loses_first() {
    let large = "x".repeat(60_000);
    let policies = [
        policy("first", &json!({ "priority": 2, "annotations": { "a": large } })),
        policy("second", &json!({ "priority": 1, "annotations": { "b": large, "c": large } })),
        policy("third", &json!({ "annotations": { "d": "small" }, "labels": { "team": "shop" } })),
    ];
    let (outcome, patched) = decide(&policies, &pod(&json!({})));
    assert_eq!(refused(&outcome), ["second annotations[c]", "third annotations[d]"]);
    assert_eq!(patched.labels["team"], "shop");
    assert!(patched.annotations.contains_key("a") && patched.annotations.contains_key("b"));
}

#[test]
fn label_whose_record_does_not_fit_is_refused() {
    let policies = [policy("team", &json!({ "labels": { "team": "shop" }, "annotations": { "note": "x" } }))];
    let (outcome, patched) = decide(&policies, &pod_with_room_for(30));
    assert_eq!(refused(&outcome), ["team annotations[note]", "team labels[team]"]);
    assert!(patched.labels.is_empty());
}

#[test]
fn every_policy_that_wants_what_does_not_fit_learns_of_it() {
    let spec = json!({ "annotations": { "note": "to whom it may concern" } });
    let (outcome, _) = decide(&[policy("a", &spec), policy("b", &spec)], &pod_with_room_for(10));
    assert_eq!(refused(&outcome), ["a annotations[note]", "b annotations[note]"]);
}

#[test]
fn value_that_is_replaced_makes_room() {
    let policies = [policy("note", &json!({ "precedence": "Policy", "annotations": { "note": "short" } }))];
    let (outcome, patched) = decide(&policies, &pod(&json!({ "note": "x".repeat(200_000) })));
    assert_eq!(refused(&outcome), [""; 0]);
    assert_eq!(patched.annotations["note"], "short");
    let (_, restored) = decide(&[], &patched);
    assert_eq!(restored.annotations["note"].len(), 200_000);
}

#[test]
fn text_that_needs_escapes_in_the_record_is_counted_with_them() {
    let quotes = "\"".repeat(70_000);
    let (outcome, patched) = decide(&[policy("note", &json!({ "annotations": { "note": quotes } }))], &pod_with_room_for(250_000));
    assert_eq!(refused(&outcome), [""; 0]);
    assert_eq!(patched.annotations["note"], quotes);
    let quotes = "\"".repeat(85_000);
    let (outcome, _) = decide(&[policy("note", &json!({ "annotations": { "note": quotes } }))], &pod_with_room_for(250_000));
    assert_eq!(refused(&outcome), ["note annotations[note]"]);
}

#[test]
fn policy_whose_annotations_fit_no_pod_is_not_in_force() {
    let policy = policy("huge", &json!({ "labels": { "team": "shop" }, "annotations": { "note": "x".repeat(LIMIT) } }));
    assert!(policy.problems()[0].starts_with("spec.annotations: 262148 bytes in all"), "{:?}", policy.problems());
    let (outcome, patched) = decide(&[policy], &pod(&json!({})));
    assert!(outcome.verdicts.is_empty() && patched.labels.is_empty());
}

#[test]
fn large_annotation_is_given_in_a_file_and_after_the_creation_in_a_cluster() {
    let large = "x".repeat(5000);
    let policies = [policy("large", &json!({ "annotations": { "note": large } }))];
    let program = Program::new(policies, HashMap::new(), Settings::default());
    let pod = pod(&json!({}));
    assert!(program.create(&pod).is_empty(), "the controller gives it");
    let rendered = program.render(&pod).metadata.annotations;
    assert_eq!(rendered.keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(rendered["note"], Some(large));
}

#[test]
fn file_without_room_gets_the_settings_alone() {
    let policies = [policy("note", &json!({ "annotations": { "note": "to whom" }, "terminationGracePeriodSeconds": 60 }))];
    let program = Program::new(policies, HashMap::new(), Settings::default());
    let bytes = "note".len() + "to whom".len();
    let given = |room| {
        let Creation { metadata, settings, omitted, .. } = program.render(&pod_with_room_for(room));
        (metadata.annotations.len(), settings.len(), omitted)
    };
    assert_eq!(given(bytes), (1, 1, Omitted::Nothing));
    assert_eq!(given(bytes - 1), (0, 1, Omitted::Metadata));
}
