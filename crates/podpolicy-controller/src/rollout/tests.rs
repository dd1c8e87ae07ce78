//! The planner against clusters that are made up: controllers that make pods again, a kubelet that makes them ready or fails them, and an
//! operator that dies at any moment.

mod cluster;

use podpolicy_api::RolloutPhase;
use proptest::prelude::*;

use super::{Gate, PolicyView, Stand};
use cluster::{Cluster, Fate};

#[test]
fn every_pod_is_replaced_once_the_smallest_workload_first() {
    let mut cluster = Cluster::new(&[("big", 4), ("small", 2)], 2);
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
    assert_eq!(cluster.evicted(), ["small-0", "small-1", "big-0", "big-1", "big-2", "big-3"]);
    assert_eq!((cluster.status().updated, cluster.status().total), (6, 6));
    cluster.run();
    assert_eq!(cluster.evicted().len(), 6, "a second pass does nothing");
}

#[test]
fn progress_is_told_of_all_and_of_the_workload_whose_turn_it_is() {
    let mut cluster = Cluster::new(&[("big", 4), ("small", 2)], 1);
    while cluster.evicted().len() < 3 {
        cluster.run_for(1);
    }
    // Its pod is there again, and is watched.
    cluster.run_for(10);
    let status = cluster.status();
    assert_eq!((status.updated, status.total, status.workload.as_deref()), (3, 6, Some("Deployment/big")));
    assert_eq!((status.workload_updated, status.workload_total), (Some(1), Some(4)));
    cluster.run();
    let status = cluster.status();
    assert_eq!((status.workload.as_deref(), status.workload_updated, status.workload_total), (None, None, None));
}

#[test]
fn canary_goes_alone_and_only_then_as_many_as_may_be_unavailable() {
    let mut cluster = Cluster::new(&[("web", 6)], 3);
    cluster.run();
    assert_eq!(cluster.most_down_before_proof(), 1);
    assert_eq!(cluster.most_down("web"), 3);
}

#[test]
fn pod_that_fails_stops_the_rollout_until_the_policy_or_the_template_changes() {
    for (fate, words) in [(Fate::Restarts, "was started again once"), (Fate::NeverReady, "was not ready within")] {
        let mut cluster = Cluster::new(&[("web", 6)], 3);
        cluster.fate = fate;
        cluster.run();
        let told = |message: &str| message.contains("Deployment/web") && message.contains(words);
        assert!(matches!(cluster.stand(), Stand::Failed(message) if told(&message)), "{:?}", cluster.stand());
        assert_eq!(cluster.evicted(), ["web-0"]);
        cluster.crash();
        cluster.run();
        assert_eq!(cluster.evicted().len(), 1, "nor after a crash");

        let mut by_template = cluster.clone();
        by_template.fate = Fate::Ready;
        by_template.change_template("web");
        by_template.run();
        assert_eq!(by_template.status().phase, RolloutPhase::Complete, "{by_template:?}");

        cluster.fate = Fate::Ready;
        cluster.change_policy();
        cluster.run();
        assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
        // The broken pod first, though the workload is not healthy.
        assert_eq!(cluster.evicted()[1], "web-6");
        assert_eq!(cluster.evicted().len(), 7);
    }
}

#[test]
fn workload_that_is_broken_already_is_left_alone_and_said() {
    let mut cluster = Cluster::new(&[("bad", 2), ("good", 3)], 1);
    cluster.breaks("bad-1");
    cluster.run();
    assert_eq!(cluster.evicted(), ["good-0", "good-1", "good-2"]);
    assert!(
        matches!(cluster.stand(), Stand::Blocked(message) if message.contains("Deployment/bad is not healthy")),
        "{:?}",
        cluster.stand()
    );
    cluster.heals("bad-1");
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn workload_that_is_ready_since_a_moment_ago_is_waited_for_and_not_said_to_be_broken() {
    let mut cluster = Cluster::new(&[("new", 2)], 1);
    cluster.breaks("new-1");
    cluster.heals("new-1");
    while cluster.evicted().len() < 2 {
        cluster.run_for(1);
        assert!(!matches!(cluster.stand(), Stand::Blocked(_)), "{:?}", cluster.stand());
    }
    assert_eq!(cluster.evicted(), ["new-0", "new-1"]);
}

#[test]
fn pod_that_no_scheduler_looks_at_is_waited_for_and_said_once_that_lasts() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.fate = Fate::NoNode;
    cluster.run_until(|stand| matches!(stand, Stand::Progressing(message) if message.contains("waiting for web-3 of Deployment/web")));
    cluster.run();
    assert!(
        matches!(cluster.stand(), Stand::Blocked(message) if message.contains("web-3 of Deployment/web has had no node")),
        "{:?}",
        cluster.stand()
    );
    assert_eq!((cluster.status().phase, cluster.evicted().len()), (RolloutPhase::Progressing, 1), "it is no failure of the settings");
}

#[test]
fn no_more_pods_are_down_than_the_operator_allows_in_all() {
    let mut cluster = Cluster::new(&[("web", 6)], 6);
    cluster.budget = 2;
    cluster.run();
    assert_eq!((cluster.status().phase, cluster.most_down("web")), (RolloutPhase::Complete, 2));
}

#[test]
fn restarts_of_before_the_rollout_are_not_its_own() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    while cluster.evicted().len() < 2 {
        cluster.run_for(1);
    }
    cluster.run_for(10);
    cluster.restarts("web-3");
    cluster.change_policy_keeping_settings();
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn workload_that_rolls_by_itself_is_waited_for() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.rolls("web");
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
    assert_eq!(cluster.evicted(), [""; 0], "the pods that come have the settings anyway");

    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.rolling = Some("web".to_owned());
    cluster.run();
    assert!(matches!(cluster.stand(), Stand::Blocked(message) if message.contains("is rolling by itself")), "{:?}", cluster.stand());
    assert_eq!(cluster.evicted(), [""; 0]);
    cluster.rolling = None;
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn restarted_workload_has_finished_its_update_before_the_next_begins() {
    let mut cluster = Cluster::new(&[("a", 3), ("b", 2)], 1);
    cluster.policy.strategy = podpolicy_api::Strategy::Restart;
    while cluster.restarted().is_empty() {
        cluster.run_for(1);
    }
    cluster.rolling = Some("b".to_owned());
    cluster.run();
    assert_eq!(cluster.restarted(), ["b"]);
    cluster.rolling = None;
    cluster.run();
    assert_eq!(cluster.restarted(), ["b", "a"]);
}

#[test]
fn broken_pods_go_first_and_the_next_when_one_works() {
    let mut cluster = Cluster::new(&[("small", 2), ("web", 4)], 3);
    cluster.run();
    let before = cluster.evicted().len();
    cluster.breaks("web-5");
    cluster.breaks("web-6");
    cluster.change_policy();
    let mut coming = Vec::new();
    while cluster.evicted().len() < before + 2 {
        coming.push(cluster.coming("web"));
        cluster.run_for(1);
    }
    assert_eq!(cluster.evicted()[before..], ["web-5", "web-6"]);
    assert_eq!((coming.iter().max(), coming.last()), (Some(&1), Some(&0)), "the second goes when the first one's replacement works");
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn nothing_is_touched_before_pods_are_created_with_the_settings() {
    let mut cluster = Cluster::new(&[("web", 2)], 1);
    for gate in [Gate::Waiting("a moment".into()), Gate::Never("--admission none".into())] {
        cluster.gate = gate;
        cluster.run();
        assert_eq!(cluster.evicted(), [""; 0]);
    }
    assert_eq!(cluster.stand(), Stand::NotAtCreation("--admission none".into()));
    cluster.gate = Gate::InForce;
    cluster.run();
    assert_eq!(cluster.evicted().len(), 2);
}

#[test]
fn pods_are_not_replaced_before_they_would_get_the_settings_of_other_policies_as_well() {
    let mut cluster = Cluster::new(&[("web", 2)], 1);
    cluster.other = Some(Gate::Waiting("a moment".into()));
    cluster.run();
    let told = "waiting until pods are created with the settings of PodPolicy shop/other: a moment";
    assert_eq!((cluster.stand(), cluster.evicted()), (Stand::Progressing(told.to_owned()), Vec::new()));
    cluster.other = Some(Gate::InForce);
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn replacement_without_the_settings_stops_the_rollout() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.fate = Fate::Bare;
    cluster.run();
    assert!(matches!(cluster.stand(), Stand::Failed(message) if message.contains("lacks the settings")), "{:?}", cluster.stand());
    assert_eq!(cluster.evicted().len(), 1);
}

#[test]
fn paused_rollout_stays_where_it_is_until_it_goes_on() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.run_for(30);
    let before = cluster.evicted().len();
    assert!(before > 0 && before < 3, "{before}");
    cluster.policy.paused = true;
    cluster.change_policy_keeping_settings();
    cluster.run();
    assert!(matches!(cluster.stand(), Stand::Paused(_)), "{:?}", cluster.stand());
    assert_eq!(cluster.evicted().len(), before);
    cluster.policy.paused = false;
    cluster.change_policy_keeping_settings();
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete);
    assert_eq!(cluster.evicted().len(), 3, "none twice");
}

#[test]
fn blocked_workload_frees_its_place_and_is_tried_again() {
    let mut cluster = Cluster::new(&[("a", 1), ("b", 2)], 1);
    cluster.budget_blocks = Some("a".to_owned());
    cluster.run();
    assert_eq!(cluster.evicted(), ["b-0", "b-1"]);
    assert!(matches!(cluster.stand(), Stand::Blocked(message) if message.contains("disruption budget")), "{:?}", cluster.stand());
    assert!(cluster.attempts > 2, "it is tried again");
    cluster.budget_blocks = None;
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete);
}

#[test]
fn restart_stamps_each_workload_once() {
    let mut cluster = Cluster::new(&[("a", 3), ("b", 2)], 1);
    cluster.policy.strategy = podpolicy_api::Strategy::Restart;
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
    assert_eq!(cluster.restarted(), ["b", "a"]);
    assert_eq!((cluster.most_workloads_down(), cluster.attempts), (1, 2));
}

#[test]
fn workload_is_not_restarted_before_it_is_available_by_its_own_rule() {
    let young = |workloads: &[(&str, u32)]| {
        let mut cluster = Cluster::new(workloads, 1);
        cluster.policy.strategy = podpolicy_api::Strategy::Restart;
        cluster.own_min_ready = jiff::SignedDuration::from_secs(60);
        for pod in ["young-0", "young-1", "young-2"] {
            cluster.breaks(pod);
            cluster.heals(pod);
        }
        cluster.run_for(30);
        cluster
    };
    let mut alone = young(&[("young", 3)]);
    let told = |message: &str| message.contains("3 pods of Deployment/young") && message.contains("minReadySeconds");
    assert!(matches!(alone.stand(), Stand::Progressing(message) if told(&message)), "{:?}", alone.stand());
    alone.run();
    assert_eq!((alone.status().phase, alone.restarted(), alone.most_down("young")), (RolloutPhase::Complete, vec!["young"], 1));

    let mut beside = young(&[("older", 4), ("young", 3)]);
    assert_eq!(beside.restarted(), ["older"], "another one goes first");
    beside.run();
    assert_eq!((beside.status().phase, beside.restarted()), (RolloutPhase::Complete, vec!["older", "young"]));
    assert_eq!((beside.most_down("older"), beside.most_down("young")), (1, 1));
}

#[test]
fn rolling_update_that_goes_on_although_the_rollout_is_paused_is_told() {
    let mut cluster = Cluster::new(&[("web", 4)], 1);
    cluster.policy.strategy = podpolicy_api::Strategy::Restart;
    cluster.run_until(|stand| matches!(stand, Stand::Progressing(message) if message.contains("web-")));
    cluster.policy.paused = true;
    cluster.change_policy_keeping_settings();
    cluster
        .run_until(|stand| matches!(stand, Stand::Paused(message) if message.contains("Deployment/web goes on with the rolling update")));
    cluster.run();
    assert_eq!(cluster.restarted(), ["web"]);
    assert!(!matches!(cluster.stand(), Stand::Paused(message) if message.contains("goes on")), "{:?}", cluster.stand());
}

#[test]
fn restart_is_asked_for_once_while_the_watches_are_behind() {
    for before in 0..5 {
        let mut cluster = Cluster::new(&[("web", 3)], 1);
        cluster.policy.strategy = podpolicy_api::Strategy::Restart;
        cluster.run_for(before);
        cluster.lag();
        cluster.run();
        assert_eq!((cluster.status().phase, cluster.attempts), (RolloutPhase::Complete, 1), "{before}");
    }
}

#[test]
fn restart_that_changes_nothing_is_said_and_not_repeated() {
    let mut cluster = Cluster::new(&[("web", 3)], 1);
    cluster.policy.strategy = podpolicy_api::Strategy::Restart;
    cluster.fate = Fate::Bare;
    cluster.run();
    assert!(matches!(cluster.stand(), Stand::Blocked(message) if message.contains("was restarted for this spec")), "{:?}", cluster.stand());
    assert_eq!(cluster.attempts, 1);
}

#[test]
fn restart_that_fails_stops_and_goes_on_with_another_policy() {
    let mut cluster = Cluster::new(&[("a", 3), ("b", 2)], 1);
    cluster.policy.strategy = podpolicy_api::Strategy::Restart;
    cluster.fate = Fate::Restarts;
    cluster.run();
    assert!(matches!(cluster.stand(), Stand::Failed(_)), "{:?}", cluster.stand());
    assert_eq!(cluster.restarted(), ["b"]);
    cluster.fate = Fate::Ready;
    cluster.change_policy();
    cluster.run();
    assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
}

#[test]
fn revert_gives_a_failed_workload_back_what_it_had_and_tries_it_again_with_another_policy_or_template() {
    for fate in [Fate::Restarts, Fate::NeverReady] {
        let mut cluster = Cluster::new(&[("web", 6)], 1);
        cluster.policy.on_failure = podpolicy_api::FailureAction::Revert;
        cluster.fate = fate;
        cluster.run();
        assert!(matches!(cluster.stand(), Stand::Failed(message) if message.contains("is exempt")), "{:?}", cluster.stand());
        // The canary, and its broken replacement.
        assert_eq!(cluster.evicted(), ["web-0", "web-6"]);
        assert_eq!((cluster.most_down("web"), cluster.down("web")), (1, 0));
        cluster.crash();
        cluster.run();
        assert_eq!(cluster.evicted().len(), 2, "nor after a crash");
        cluster.fate = Fate::Ready;
        cluster.change_policy();
        cluster.run();
        assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{cluster:?}");
    }
}

#[test]
fn failed_pods_are_taken_back_one_at_a_time_and_then_those_that_work() {
    let mut cluster = Cluster::new(&[("web", 6)], 3);
    cluster.policy.on_failure = podpolicy_api::FailureAction::Revert;
    // The first one works, those after it do not.
    cluster.run_for(30);
    cluster.fate = Fate::NeverReady;
    cluster.run_until(|stand| matches!(stand, Stand::Reverting(_)));
    assert_eq!(cluster.evicted(), ["web-0", "web-1", "web-2", "web-3"]);
    let mut most = 0;
    for _ in 0..2000 {
        cluster.run_for(1);
        most = cluster.coming_without_settings("web").max(most);
    }
    assert_eq!(most, 1, "the next goes when one has come back");
    assert_eq!(cluster.evicted()[4..], ["web-7", "web-8", "web-9", "web-6"], "the one that works goes last");
    assert!(matches!(cluster.stand(), Stand::Failed(_)), "{:?}", cluster.stand());
    assert_eq!(cluster.down("web"), 0);
}

#[test]
fn working_pods_are_not_taken_back_while_others_are_down() {
    let mut cluster = Cluster::new(&[("web", 6)], 1);
    cluster.policy.on_failure = podpolicy_api::FailureAction::Revert;
    // The first one works, the second does not.
    cluster.run_for(30);
    cluster.fate = Fate::NeverReady;
    cluster.run_until(|stand| matches!(stand, Stand::Reverting(_)));
    // One that has nothing of the policy's.
    cluster.breaks("web-5");
    cluster.run();
    assert_eq!(cluster.evicted(), ["web-0", "web-1", "web-7"], "what fails goes, and nothing that works");
    cluster.heals("web-5");
    cluster.run();
    assert_eq!(cluster.evicted()[3..], ["web-6"]);
    assert!(matches!(cluster.stand(), Stand::Failed(_)), "{:?}", cluster.stand());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_never_too_many_are_down_none_goes_twice_and_it_ends(
        sizes in prop::collection::vec(1_u32..6, 1..4),
        most in 1_u32..4,
        trouble in prop::collection::vec((0_u32..60, 0_u8..5), 0..12),
    ) {
        let names = ["a", "b", "c"];
        let workloads: Vec<_> = names.into_iter().zip(sizes.iter().copied()).collect();
        let mut cluster = Cluster::new(&workloads, most);
        for (seconds, what) in trouble {
            cluster.run_for(seconds);
            match what {
                0 => cluster.crash(),
                1 => cluster.lag(),
                2 => cluster.change_policy_keeping_settings(),
                3 => cluster.lose_the_next_answer(),
                _ => cluster.lose_the_next_status(),
            }
        }
        cluster.run();
        prop_assert_eq!(cluster.status().phase, RolloutPhase::Complete, "{:?}", &cluster);
        for (name, _) in workloads {
            prop_assert!(cluster.most_down(name) <= most, "{:?}", &cluster);
        }
        prop_assert!(cluster.most_workloads_down() <= 1, "{:?}", &cluster);
        let total: u32 = sizes.iter().sum();
        prop_assert_eq!(cluster.evicted().len(), usize::try_from(total).unwrap());
        prop_assert_eq!(cluster.attempts, total, "none was asked for twice");
    }
}

#[test]
fn percentage_of_pods_is_rounded_down_and_never_none() {
    let mut cluster = Cluster::new(&[("web", 4)], 1);
    for (most, replicas, wanted) in [("25%", 4, 1), ("50%", 5, 2), ("10%", 5, 1), ("100%", 3, 3)] {
        cluster.policy.max_unavailable = podpolicy_api::MaxUnavailable::Percentage(most.to_owned());
        assert_eq!(cluster.view().max_unavailable(replicas), wanted, "{most} of {replicas}");
    }
}

#[test]
fn first_pod_is_watched_for_as_long_as_a_probe_takes_to_kill_it() {
    let proof = |rules: serde_json::Value| {
        let spec = serde_json::json!({ "selector": {}, "containers": rules, "rollout": { "strategy": "Evict", "minReadySeconds": 20 } });
        let policy =
            serde_json::json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "a" }, "spec": spec });
        let policy = podpolicy_engine::Policy::from_namespaced(&serde_json::from_value(policy).unwrap());
        PolicyView::proof(&policy, policy.rules().rollout.as_ref().unwrap()).as_secs()
    };
    let get = serde_json::json!({ "path": "/", "port": 80 });
    assert_eq!(proof(serde_json::json!([{ "readinessProbe": { "httpGet": get } }])), 20, "as any other");
    assert_eq!(proof(serde_json::json!([{ "livenessProbe": { "httpGet": get } }])), 10 * 3 + 1 + 5);
    let slow =
        serde_json::json!({ "httpGet": get, "initialDelaySeconds": 60, "periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 3 });
    assert_eq!(proof(serde_json::json!([{ "livenessProbe": { "httpGet": get } }, { "livenessProbe": slow }])), 60 + 5 * 2 + 3 + 5);
}
