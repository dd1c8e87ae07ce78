//! What is true of every decision, whatever the policies, the pod and its past.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod cluster;
mod generator;
mod plain_reading;

use std::collections::BTreeMap;

use generator::{World, policy_of, with_owner, worlds};
use plain_reading::{is_value, matches, selects, wishes};
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::{Field, HookKind, Life, Outcome, Place, Pod, PodState, Program, Record, Source, Value, Verdict};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use serde_json::Value as Json;

fn config() -> ProptestConfig {
    // A failure is kept beside this file, and tried first from then on. PROPTEST_CASES asks for more than 256 cases.
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn order_of_the_policies_does_not_matter((world, shuffled) in worlds().prop_flat_map(with_shuffled_policies)) {
        let pod = world.lived_in_pod();
        prop_assert_eq!(text(&world.program().decide(&pod)), text(&world.program_of(&shuffled).decide(&pod)));
    }

    #[test]
    fn second_pass_writes_nothing_and_nothing_is_pending_then(world in worlds()) {
        let program = world.program();
        let pod = written(&program, &world.lived_in_pod());
        let again = program.decide(&pod);
        prop_assert!(again.metadata.is_empty(), "{:?}", again.metadata);
        for verdict in again.verdicts.iter().filter(|verdict| !verdict.policy.is_audit()) {
            prop_assert_ne!(verdict.state, PodState::Pending);
        }
    }

    #[test]
    fn pod_is_as_it_was_once_all_policies_are_gone(world in worlds()) {
        let new = world.new_pod();
        let pod = written(&world.program(), &written(&world.program_of(&world.earlier), &new));
        prop_assert_eq!(written(&world.program_of([]), &pod), new);
    }

    #[test]
    fn file_gives_a_pod_what_its_creation_gives_but_no_record(world in worlds()) {
        let (program, pod) = (world.program(), world.new_pod());
        let mut rendered = pod.clone();
        program.render(&pod).apply(&mut rendered);
        let mut created = created(&program, &pod);
        created.annotations.remove(APPLIED_ANNOTATION);
        prop_assert_eq!(rendered, created);
    }

    #[test]
    fn created_pod_needs_nothing_more(world in worlds()) {
        let program = world.program();
        let pod = created(&program, &world.new_pod());
        let outcome = program.decide(&pod);
        prop_assert!(outcome.metadata.is_empty(), "{:?}", outcome.metadata);
        for verdict in outcome.verdicts.iter().filter(|verdict| !verdict.policy.is_audit()) {
            prop_assert!(matches!(verdict.state, PodState::Compliant | PodState::Refused), "{:?}", verdict);
        }
    }

    #[test]
    fn creation_reports_what_the_live_pod_reports(world in worlds()) {
        let program = world.program();
        let at_creation = program.create(&world.new_pod()).verdicts;
        let live = program.decide(&created(&program, &world.new_pod())).verdicts;
        let text = |verdicts: &[Verdict]| {
            let mut findings: Vec<_> = verdicts
                .iter()
                .filter(|verdict| !verdict.policy.is_audit())
                .flat_map(|verdict| verdict.findings.iter().map(|finding| format!("{}: {finding:?}", verdict.policy.id())))
                .collect();
            findings.sort();
            findings
        };
        prop_assert_eq!(text(&at_creation), text(&live));
    }

    #[test]
    fn second_pass_at_creation_writes_nothing(world in worlds()) {
        let program = world.program();
        let again = program.create(&created(&program, &world.new_pod()));
        prop_assert!(again.is_empty(), "{:?}", again);
    }

    /// Another admission plugin can change anything between two passes.
    #[test]
    fn second_pass_at_creation_leaves_what_the_first_recorded(world in worlds()) {
        let program = world.program();
        let mut pod = created(&program_of_earlier(&world), &world.new_pod());
        for change in &world.changes {
            change.apply(&mut pod);
        }
        let record = Record::of(&pod);
        let after = created(&program, &pod);
        let left = Record::of(&after);
        prop_assert!(record.labels.iter().all(|(key, entry)| left.labels.get(key) == Some(entry) && after.labels.get(key) == pod.labels.get(key)));
        prop_assert!(record.annotations.iter().all(|(key, entry)| left.annotations.get(key) == Some(entry)));
        prop_assert!(record.created.iter().all(|(path, entry)| left.created.get(path) == Some(entry)));
    }

    #[test]
    fn labels_and_annotations_given_at_creation_go_with_their_policies(world in worlds()) {
        let new = world.new_pod();
        let gone = written(&world.program_of([]), &created(&world.program(), &new));
        prop_assert_eq!((&gone.labels, labels_and_annotations(&gone).1), (&new.labels, new.annotations.clone()));
    }

    #[test]
    fn change_of_policies_and_back_restores_the_pod(world in worlds()) {
        let first = world.pod_of_earlier_policies();
        let there = written(&world.program(), &first);
        let back = written(&world.program_of(&world.earlier), &there);
        prop_assert_eq!(labels_and_annotations(&back), labels_and_annotations(&first));
    }

    /// Labels that workloads select on are an exception: what a pod has is not replaced.
    #[test]
    fn earlier_policies_leave_no_trace(mut world in worlds()) {
        world.surroundings.objects.retain(|object| !is_workload(object));
        let direct = written(&world.program(), &world.new_pod());
        let after = written(&world.program(), &world.pod_of_earlier_policies());
        prop_assert_eq!(labels_and_annotations(&after), labels_and_annotations(&direct));
    }

    #[test]
    fn policies_select_by_what_the_pod_has_of_its_own(world in worlds()) {
        let new = world.new_pod();
        let matching = world.policies.iter().filter(|policy| selects(policy, &world, &new.labels));
        let mut matching: Vec<_> = matching.map(|policy| policy_of(policy).id().clone()).collect();
        matching.sort();
        for pod in [&new, &world.pod_of_earlier_policies(), &written(&world.program(), &new)] {
            let mut selected: Vec<_> = world.program().decide(pod).verdicts.iter().map(|verdict| verdict.policy.id().clone()).collect();
            selected.sort();
            prop_assert_eq!(&selected, &matching);
        }
    }

    #[test]
    fn policies_that_do_not_select_the_pod_change_nothing(world in worlds()) {
        let pod = world.lived_in_pod();
        let mut outcome = world.program().decide(&pod);
        // They say that they would select it, were its owner not exempt.
        outcome.exempting.clear();
        let is_selected = |policy: &&Json| outcome.verdicts.iter().any(|verdict| verdict.policy.id() == policy_of(policy).id());
        let alone = world.program_of(world.policies.iter().filter(is_selected)).decide(&pod);
        prop_assert_eq!(text(&alone), text(&outcome));
    }

    #[test]
    fn policy_that_does_not_concern_the_pod_changes_nothing(world in worlds()) {
        let pod = world.lived_in_pod();
        let outcome = text(&world.program().decide(&pod));
        for (index, policy) in world.policies.iter().enumerate() {
            if !policy_of(policy).may_concern(&pod) {
                let others = world.policies.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, policy)| policy);
                prop_assert_eq!(text(&world.program_of(others).decide(&pod)), outcome.clone(), "without {}", policy["metadata"]);
            }
        }
    }

    #[test]
    fn what_a_policy_asks_for_is_given_or_a_finding_says_why_not(world in worlds()) {
        let pod = world.lived_in_pod();
        let outcome = world.program().decide(&pod);
        for (policy, verdict) in enforcing(&world.policies, &outcome) {
            for (field, wanted) in wishes(policy, &pod) {
                let is_given = outcome.fields.iter().any(|outcome| outcome.field == field && is_value(&wanted, outcome.value.as_ref()));
                let is_explained = verdict.findings.iter().any(|finding| finding.field == field);
                prop_assert!(is_given || is_explained, "{} wants {field} to be {wanted}", verdict.policy.id());
            }
        }
    }

    #[test]
    fn what_is_refused_is_not_applied(world in worlds()) {
        let pod = world.lived_in_pod();
        let outcome = world.program().decide(&pod);
        for (policy, verdict) in enforcing(&world.policies, &outcome) {
            let source = Source::Policy(verdict.policy.id().in_record());
            for (field, wanted) in wishes(policy, &pod) {
                let is_refused = verdict.findings.iter().any(|finding| finding.field == field && finding.refused);
                let mut of_policy = outcome.fields.iter().filter(|outcome| outcome.field == field && outcome.source == source);
                let is_applied = of_policy.any(|outcome| is_value(&wanted, outcome.value.as_ref()));
                prop_assert!(!is_refused || !is_applied, "{field} is refused, and {wanted}");
            }
        }
    }

    #[test]
    fn audit_policies_change_nothing(world in worlds()) {
        let pod = world.lived_in_pod();
        let outcome = world.program().decide(&pod);
        let without = world.program_of(world.policies.iter().filter(|policy| policy["spec"]["enforcement"] != "Audit")).decide(&pod);
        prop_assert_eq!(&outcome.metadata, &without.metadata);
        prop_assert_eq!(&outcome.fields, &without.fields);
        let verdicts = enforcing(&world.policies, &outcome);
        prop_assert_eq!(text(&verdicts), text(&enforcing(&world.policies, &without)));
        prop_assert_eq!(text(&outcome.conflicts), text(&without.conflicts));
    }

    #[test]
    fn new_pod_never_leaves_its_owner(world in worlds().prop_flat_map(with_owner)) {
        let new = world.new_pod();
        let pod = written(&world.program(), &new);
        for object in world.surroundings.objects.iter().filter(|object| is_workload(object) && object["metadata"]["namespace"] == "shop") {
            let selector = &object["spec"]["selector"];
            prop_assert!(!matches(selector, &new.labels) || matches(selector, &pod.labels), "{object} loses the pod");
        }
    }

    #[test]
    fn protected_keys_are_never_written(world in worlds()) {
        let new = world.new_pod();
        let pod = written(&world.program(), &new);
        prop_assert_eq!(pod.labels.get("pod-template-hash"), new.labels.get("pod-template-hash"));
        prop_assert_eq!(pod.annotations.get("kubernetes.io/note"), new.annotations.get("kubernetes.io/note"));
    }

    /// The API server refuses a pod with a hook that sleeps longer than the grace period, whichever the hook.
    #[test]
    fn every_sleep_fits_into_the_grace_period_in_the_end(world in worlds()) {
        let pod = world.new_pod();
        let outcome = world.program().decide(&pod);
        let settled = |field: &Field| outcome.fields.iter().find(|outcome| outcome.field == *field)?.value.clone();
        let grace_period = match settled(&Field::GracePeriod) {
            Some(Value::Seconds(seconds)) => seconds,
            _ => pod.template.grace_period,
        };
        for (container, kind) in pod.template.containers.iter().flat_map(|container| HookKind::ALL.map(|kind| (container, kind))) {
            let hook = match settled(&Field::Hook { container: container.name.clone(), kind }) {
                Some(Value::Hook(hook)) => Some(*hook),
                _ => container.hook(kind).cloned(),
            };
            let sleep = hook.and_then(|hook| hook.sleep).map_or(0, |sleep| sleep.seconds);
            prop_assert!(sleep <= grace_period, "{} of {} sleeps {sleep} s of {grace_period}", kind.field_name(), container.name);
        }
    }

    /// With its default feature gates the API server drops the newest fields: they are neither given, nor compiled, nor said to be on the pod.
    #[test]
    fn what_the_server_drops_is_given_nowhere(world in worlds()) {
        let world = world.by_default_gates();
        let (program, pod) = (world.program(), world.new_pod());
        let is_dropped = |field: &Field, value: &Value| {
            let value = serde_json::to_string(value).unwrap();
            matches!(field, Field::StopSignal { .. }) || value.contains("\"HTTP2\"") || value.contains("\"TLS\"")
        };
        for outcome in program.decide(&pod).fields {
            prop_assert!(outcome.value.is_none_or(|value| !is_dropped(&outcome.field, &value)), "{}", outcome.field);
        }
        for setting in program.create(&pod).settings {
            prop_assert!(!is_dropped(&setting.field, &setting.value), "{}", setting.field);
        }
        for remaining in program.residue(Place::Namespace("shop")) {
            prop_assert!(remaining.stop_signals.iter().all(|signal| signal.is_refused));
            let values = remaining.probes.iter().filter(|probe| !probe.is_refused).map(|probe| &probe.value);
            prop_assert!(values.into_iter().all(|probe| !serde_json::to_string(probe).unwrap().contains("\"HTTP2\"")));
        }
    }

    #[test]
    fn ended_pod_gets_nothing_new(world in worlds()) {
        let mut pod = world.lived_in_pod();
        pod.life = Life::Ended;
        let before = Record::of(&pod);
        let outcome = world.program().decide(&pod);
        prop_assert!(outcome.verdicts.is_empty());
        outcome.metadata.apply(&mut pod);
        let after = Record::of(&pod);
        prop_assert!(after.labels.iter().all(|(key, entry)| before.labels.get(key) == Some(entry)));
        prop_assert!(after.annotations.iter().all(|(key, entry)| before.annotations.get(key) == Some(entry)));
        prop_assert!(world.program().decide(&pod).metadata.is_empty());
    }

    #[test]
    fn states_agree_with_findings_and_fields(world in worlds()) {
        let pod = world.lived_in_pod();
        let outcome = world.program().decide(&pod);
        for (policy, verdict) in enforcing(&world.policies, &outcome) {
            let is_refused = verdict.findings.iter().any(|finding| finding.refused);
            let is_done = wishes(policy, &pod).iter().all(|(field, _)| {
                let has_finding = verdict.findings.iter().any(|finding| finding.field == *field);
                has_finding || outcome.fields.iter().any(|outcome| outcome.field == *field && outcome.done)
            });
            match verdict.state {
                PodState::Compliant => prop_assert!(is_done && !is_refused),
                PodState::Refused => prop_assert!(is_done && is_refused),
                PodState::Pending => prop_assert!(!outcome.metadata.is_empty()),
                PodState::Outdated => prop_assert!(outcome.fields.iter().any(|field| !field.done)),
            }
        }
        prop_assert!(outcome.fields.windows(2).all(|pair| pair[0].field < pair[1].field), "fields come in order, once each");
    }
}

fn with_shuffled_policies(world: World) -> impl Strategy<Value = (World, Vec<Json>)> {
    let policies = Just(world.policies.clone()).prop_shuffle();
    (Just(world), policies)
}

/// The pod once what the program plans is written.
fn written(program: &Program, pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    program.decide(&pod).metadata.apply(&mut pod);
    pod
}

/// The enforcing policies that select the pod, with their verdicts.
fn enforcing<'a>(policies: &'a [Json], outcome: &'a Outcome) -> Vec<(&'a Json, &'a Verdict)> {
    let with_verdict = |policy: &'a Json| {
        let id = policy_of(policy).id().clone();
        let verdict = outcome.verdicts.iter().find(|verdict| *verdict.policy.id() == id && !verdict.policy.is_audit());
        Some((policy, verdict?))
    };
    policies.iter().filter_map(with_verdict).collect()
}

fn is_workload(object: &Json) -> bool {
    matches!(object["kind"].as_str(), Some("Deployment" | "StatefulSet"))
}

fn text(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}")
}

/// What is on the pod, and what the record says; not how it says it.
fn labels_and_annotations(pod: &Pod) -> (BTreeMap<String, String>, BTreeMap<String, String>, Record) {
    let mut annotations = pod.annotations.clone();
    annotations.remove(APPLIED_ANNOTATION);
    (pod.labels.clone(), annotations, Record::of(pod))
}

fn created(program: &Program, pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    program.create(&pod).apply(&mut pod);
    pod
}

fn program_of_earlier(world: &World) -> Program {
    world.program_of(&world.earlier)
}
