//! Decisions, case by case: each folder of `tests/cases` is a behaviour, and a test of that name.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod case;
mod cluster;

macro_rules! cases {
    ($($behaviour:ident)*) => {
        const CASES: &[&str] = &[$(stringify!($behaviour)),*];

        $(
            #[test]
            fn $behaviour() {
                case::check(stringify!($behaviour));
            }
        )*
    };
}

cases! {
    conditions_of_a_selector_must_all_hold
    empty_selector_selects_every_pod
    label_of_a_policy_makes_no_other_policy_match
    replaced_label_counts_with_the_value_it_had
    mirror_pod_is_never_touched
    pod_being_deleted_is_never_touched
    succeeded_pod_is_not_selected
    failed_pod_is_not_selected
    what_a_gone_policy_wrote_is_taken_back_from_an_ended_pod
    ended_pod_keeps_what_policies_in_force_wrote
    policy_acts_in_its_own_namespace_only
    cluster_policy_acts_in_every_namespace
    namespace_selector_narrows_a_cluster_policy
    namespace_selector_reads_no_labels_of_pods
    namespace_with_unknown_labels_is_selected_by_no_condition
    excluded_namespace_is_free_of_cluster_policies_only
    namespace_that_leaves_the_selector_is_undone
    namespace_that_becomes_excluded_is_undone
    excluded_namespace_need_not_be_known
    policy_with_problems_is_not_in_force
    higher_priority_wins
    pod_policy_goes_before_cluster_policy_of_the_same_priority
    cluster_policy_of_higher_priority_goes_before_pod_policy
    older_policy_goes_first_at_the_same_priority
    name_decides_between_policies_of_the_same_age
    policy_without_a_creation_time_is_the_youngest
    each_field_is_won_on_its_own
    every_loser_learns_who_won
    same_value_is_no_conflict
    refused_value_leaves_the_field_to_the_next_policy
    winner_that_keeps_the_workloads_value_still_wins
    foreign_label_is_never_overwritten
    precedence_policy_replaces_labels_and_annotations
    declared_grace_period_is_kept
    precedence_policy_replaces_the_grace_period
    default_grace_period_counts_as_absent
    absent_grace_period_is_filled_in
    declared_probe_is_kept
    precedence_policy_replaces_probes
    declared_hook_is_kept_and_the_other_filled_in
    precedence_policy_replaces_hooks
    value_that_is_there_already_needs_no_record
    defaults_filled_in_by_the_api_server_are_no_difference
    tuning_changes_default_numbers_only
    tuning_with_precedence_policy_changes_all_numbers
    zero_in_a_probe_is_the_default
    tuning_makes_no_probe
    tuning_of_higher_priority_leaves_a_probe_of_another_policy_alone
    tuning_leaves_a_probe_of_another_policy_alone
    tuning_leaves_a_probe_that_a_policy_gave_at_creation_alone
    tuning_that_changes_nothing_is_compliant
    tuned_probe_is_compared_with_what_the_workload_declared
    tuning_competes_with_other_policies_for_a_declared_probe
    replaced_probe_is_not_tuned
    globs_choose_containers
    first_rule_that_sets_a_field_wins
    sidecars_get_probes_and_hooks
    ordinary_init_containers_get_nothing
    ephemeral_containers_get_nothing
    pod_that_restarts_on_failure_gets_hooks_but_no_probes
    sidecar_of_a_job_gets_probes
    container_that_always_restarts_gets_probes_in_a_pod_that_does_not
    container_that_ends_by_its_own_restart_policy_gets_only_a_readiness_probe
    restart_policy_of_a_container_that_the_server_drops_does_not_count
    stop_signal_is_given_where_the_pod_says_its_os
    stop_signal_is_refused_where_the_pod_says_no_os
    stop_signal_that_windows_does_not_know_is_refused
    declared_stop_signal_is_kept
    precedence_policy_replaces_the_stop_signal
    stop_signal_is_won_apart_from_hooks
    stop_signal_given_at_creation_is_compliant
    newer_fields_are_given
    default_protocol_and_mode_are_no_difference
    fields_that_the_server_drops_are_refused_and_the_rest_is_applied
    fields_that_a_server_was_seen_to_drop_are_refused
    refused_field_that_the_server_drops_leaves_it_to_the_next_policy
    pod_that_restarts_never_gets_hooks_but_no_probes
    missing_container_is_reported_once_and_refuses_nothing
    policies_that_want_the_same_learn_that_it_is_kept
    tuning_says_nothing_about_numbers_that_it_leaves_out
    protected_keys_are_refused
    keys_that_only_look_protected_are_set
    host_in_a_probe_or_hook_is_refused
    exec_is_refused_where_no_guard_vouches
    exec_is_vouched_for_policy_by_policy
    exec_is_applied_where_a_guard_vouches
    named_port_must_be_one_of_the_containers
    sleep_must_fit_into_the_grace_period
    sleep_is_judged_by_the_grace_period_that_a_policy_gives
    sleep_is_judged_by_a_shorter_grace_period_of_another_policy
    sleep_is_judged_by_the_grace_period_that_is_kept
    grace_period_too_short_for_a_declared_sleep_is_refused
    kept_grace_period_is_judged_by_no_sleep
    grace_period_is_not_judged_by_a_sleep_that_a_policy_gave
    one_refusal_fails_nothing_else
    label_that_a_service_selects_on_is_refused
    label_that_a_network_policy_selects_on_is_refused
    label_that_a_peer_of_a_network_policy_selects_on_is_refused
    peers_read_labels_in_the_namespaces_that_they_select
    label_that_a_disruption_budget_selects_on_is_refused
    label_that_a_workload_selects_on_is_refused
    selectors_of_other_namespaces_read_no_labels_here
    objects_that_select_nothing_read_no_labels
    many_readers_are_named_up_to_three
    own_label_of_the_same_value_has_no_impact
    selector_impact_is_judged_by_key_whatever_the_pod_says
    annotations_have_no_selector_impact
    allowed_label_is_set
    allowed_label_that_a_workload_selects_on_is_filled_in
    label_that_a_workload_selects_on_is_never_replaced
    allowing_what_would_be_refused_anyway_is_not_advised
    allowing_what_would_be_kept_anyway_is_not_advised
    declared_label_that_a_workload_selects_on_is_kept
    label_of_a_policy_that_a_workload_selects_on_keeps_its_value
    value_that_loses_is_overridden_whatever_selects_on_the_label
    label_that_a_workload_excludes_is_never_set
    changed_label_that_a_workload_selects_on_is_not_restored
    selector_that_appears_later_takes_no_label_away
    carried_label_is_set_on_new_pods_too
    label_that_another_policy_carries_is_refused
    carried_label_takes_a_new_value
    carried_label_that_a_workload_selects_on_takes_no_new_value
    workload_that_excludes_a_carried_label_takes_none_away
    new_pods_get_no_carried_label_that_a_workload_excludes
    replaced_label_stays_when_a_workload_selects_on_it_later
    replaced_label_that_a_workload_selects_on_takes_no_new_value
    new_pods_get_no_carried_label_in_place_of_one_that_a_workload_selects_on
    declared_label_is_kept_where_the_policy_carries_it_elsewhere
    labels_are_refused_while_selectors_cannot_be_seen
    audit_writes_nothing_and_says_what_would_change
    audit_takes_nothing_from_a_policy_that_enforces
    audit_policies_do_not_compete
    audit_judges_the_pod_as_enforcing_policies_leave_it
    audited_pod_that_differs_in_nothing_is_compliant
    audit_finds_what_enforcing_would_find
    audit_of_create_time_settings_makes_pods_outdated
    audit_of_settings_that_a_policy_gave_at_creation
    audit_keeps_settings_that_a_policy_in_force_gave_at_creation
    change_from_enforce_to_audit_undoes
    pending_goes_before_outdated_and_refused
    outdated_goes_before_refused
    pod_is_refused_once_all_the_rest_is_done
    pod_with_everything_applied_or_kept_is_compliant
    each_policy_has_a_state_of_its_own
    unreadable_record_counts_as_none
    unreadable_record_is_replaced_by_the_next
    settings_given_at_creation_stay_recorded_when_their_policy_is_gone
    settings_given_at_creation_are_compliant
    changed_policy_makes_its_settings_outdated
    settings_of_the_workload_come_back_when_precedence_changes
    value_that_a_person_changed_becomes_theirs
    value_that_a_person_changed_is_restored_under_precedence_policy
    value_that_a_person_changed_stays_when_the_policy_is_gone
    changed_value_is_restored_and_still_replaces_the_first
    removed_key_is_filled_in_again
    removed_key_is_restored_under_precedence_policy
    label_that_became_theirs_makes_policies_match
    label_that_is_restored_makes_no_policy_match
    value_that_a_person_set_ahead_of_the_policy_is_theirs
    what_a_policy_wrote_goes_and_what_it_replaced_comes_back
    narrowed_selector_undoes
    key_that_leaves_the_policy_is_undone
    changed_policy_rewrites_its_values_and_remembers_the_first
    policy_that_comes_to_want_the_replaced_value_needs_no_record
    precedence_that_becomes_workload_gives_replaced_values_back
    key_passes_from_a_gone_policy_to_the_next
    what_policies_of_an_unseen_kind_wrote_stays
}

#[test]
fn every_folder_is_a_test() {
    let mut folders: Vec<_> =
        std::fs::read_dir(case::folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut listed = CASES.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, folders, "the list in tests/cases.rs (left) and the folders of tests/cases (right) differ");
}
