//! The list of all cases, once, and the macro that makes tests of it.

/// Turns every case of the suite into a `#[test]`, in modules named as the groups of the contract.
///
/// What the backend can do beyond the contract's core is declared with `yes` or `no`; a case that needs what it cannot do is an
/// ignored test whose reason says so, never a passed one.
///
/// ```ignore
/// // tests/conformance.rs of a backend
/// whizbang_storage_conformance::conformance! {
///     fixture: MyFixture,
///     user_transactions: no, // `Fixture::enqueue`, `Fixture::leave_open`
///     damage: no,            // `Fixture::damage`
///     counts_writes: no,     // `Fixture::rows_written`
///     busy: no,              // `Fixture::hold`
///     disk_full: no,         // `Fixture::fill_disk`
///     schema: no,            // `Fixture::set_schema`
///     connection: no,        // `Fixture::cut_connections`
///     conflicts: no,         // `Fixture::provoke`, `Fixture::was_provoked`
///     notifications: no,     // `WorkStore::on_hint` is called
///     durable: no,           // what was written outlives every process
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    (
        fixture: $fixture:ident,
        user_transactions: $user_transactions:ident,
        damage: $damage:ident,
        counts_writes: $counts_writes:ident,
        busy: $busy:ident,
        disk_full: $disk_full:ident,
        schema: $schema:ident,
        connection: $connection:ident,
        conflicts: $conflicts:ident,
        notifications: $notifications:ident,
        durable: $durable:ident $(,)?
    ) => {
        $crate::__all_cases! {
            @tests $fixture [
                $user_transactions $damage $counts_writes $busy $disk_full $schema $connection $conflicts $notifications $durable
            ]
        }
    };
}

/// The list. `@names` makes an array of it, `@functions` one of functions that run the cases, `@tests` makes tests of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __all_cases {
    ($($then:tt)*) => {
        $crate::__each_case! {
            $($then)* ;
            membership {
                core: s01_an_unknown_instance_joins_and_owns_everything
                core: s02_a_heartbeat_moves_no_epoch
                core: s03_partitions_are_shared_fairly_as_instances_join
                core: s03_what_is_given_back_gets_the_next_epoch
                core: s04_a_leaving_instance_frees_its_partitions_at_once
                core: s05_a_silent_instance_is_evicted_by_whoever_calls_next
                core: s05_a_silence_of_all_evicts_nobody
                core: s06_within_its_time_to_live_an_instance_is_untouched
                core: s07_an_instance_is_expired_when_its_age_is_the_time_to_live
                core: s08_an_evicted_instance_is_refused_and_writes_nothing
                core: s09_an_evicted_process_joins_under_a_new_id
                core: s10_two_services_never_see_each_other
                core: s11_another_agreement_is_refused_at_start
                core: s12_whoever_comes_and_goes_every_partition_has_one_owner
                core: s13_a_clock_that_jumps_back_evicts_nobody
                core: s14_an_instance_id_belongs_to_one_process
                core: s14a_an_instance_without_a_group_only_publishes
                core: s14b_two_groups_have_their_own_owners_and_cursors
                core: s14c_a_type_that_only_some_know_is_handled_by_them
            }
            once {
                core: s15_a_repeated_batch_is_answered_as_the_first_time
                core: s16_any_other_number_is_refused
                core: s17_what_failed_before_the_commit_is_applied_by_its_repeat
                core: s18_a_lost_answer_is_given_to_the_repeat
                core: s19_a_retry_whose_answer_was_lost_counts_once
                core: s20_a_repeated_read_returns_the_same_and_no_more
                core: s20a_a_repeat_returns_the_same_due_work
                core: s20b_a_repeat_after_eviction_has_no_work
                core: s20c_the_same_number_with_other_content_is_refused
                core: s20d_after_a_definite_failure_the_number_is_free
                core: an_old_batch_that_comes_again_writes_nothing
                core: the_parts_of_a_batch_see_what_was_written_before_them
            }
            appending {
                core: s21_a_message_is_readable_in_the_call_that_appends_it
                core: s22_a_thousand_messages_keep_their_order_without_gaps
                core: s23_arrivals_are_moved_in_each_senders_order
                core: s23_an_owner_does_not_overtake_its_own_arrivals
                core: s23_nobody_overtakes_what_was_committed_before
                core: s23a_arrivals_wait_for_the_first_owner
                core: s24_a_polling_reader_misses_nothing
                core: s25_a_known_key_is_a_duplicate_and_disturbs_nobody
                core: s26_a_key_twice_is_stored_once_wherever_it_comes_from
                core: s27_a_duplicate_says_whether_the_bodies_differ
                core: s28_keys_belong_to_a_service
                core: s29_a_key_is_remembered_for_its_retention
                core: s29a_keys_go_in_the_order_in_which_they_came
                core: s30_payloads_come_back_byte_for_byte
                core: s31_what_is_too_large_is_refused_alone
                core: s32_names_that_cannot_be_stored_are_refused_alone
                core: s33_an_empty_batch_is_a_number_and_no_more
                core: s34_a_huge_batch_is_stored_whole_or_not_at_all
                core: s35_a_scheduled_message_comes_when_its_time_has_come
                core: s36_a_long_error_text_is_cut
                core: a_message_is_handed_out_by_the_call_that_appends_it
            }
            reading {
                core: s37_only_the_owner_reads
                core: s38_both_limits_hold
                core: s39_a_full_partition_does_not_starve_the_others
                core: s40_a_read_can_be_made_twice
                core: s21_what_a_batch_appends_is_read_behind_what_lies_there
                core: s40a_holes_are_passed_and_settled
                core: s40b_a_message_behind_a_parked_one_says_so
                counts_writes: s41_reading_nothing_writes_nothing
                damage: s42_a_damaged_row_is_reported_alone
                core: reads_stop_at_the_window
                core: a_read_behind_the_end_gives_nothing
                core: a_subscription_may_start_at_the_end
            }
            settling {
                core: s43_what_is_done_does_not_come_back
                core: s44_what_is_done_out_of_order_survives_a_crash
                core: s44_what_is_done_out_of_order_survives_a_release
                core: s45_when_all_is_done_nothing_is_left_above_low
                core: s46_what_is_settled_is_settled_once
                core: s46a_ranges_and_units_make_one_cursor
                core: s46b_a_late_answer_of_an_earlier_attempt_is_fenced
                core: s47_what_was_never_handed_out_is_unknown
                core: s48_a_unit_under_another_epoch_leaves_nothing
                core: s49_an_owner_settles_until_somebody_evicts_it
                core: s50_a_unit_is_whole_or_not_there
                core: s51_another_version_than_expected_is_a_conflict
                core: s52_expectations_see_what_the_batch_has_written
                core: s53b_of_all_that_expect_a_version_one_is_applied
                core: s53a_what_follows_a_failed_unit_in_its_lane_is_skipped
                core: a_unit_that_is_not_done_carries_nothing
                core: a_partition_given_back_is_fenced_for_its_old_owner
            }
            parked {
                core: s54_a_retry_is_due_when_its_time_has_come
                core: s55_later_messages_of_the_stream_wait_without_an_attempt
                core: s56_the_waiting_come_back_in_order
                core: s57_the_waiting_come_back_when_their_head_is_dead
                core: s58_a_stream_waits_for_one_subscription_only
                core: s58a_a_detached_message_holds_nobody_up
                core: s58a_a_detached_message_ends_as_any_other
                core: s58b_a_paused_subscription_is_handed_nothing
                core: s59_at_the_cap_a_message_is_dead
                core: s60_a_message_can_be_dead_at_once
                core: s61_what_a_dead_owner_had_is_suspect_and_the_rest_is_new
                core: s61_suspects_keep_the_order_of_their_streams
                core: s62_a_killer_takes_no_innocent_of_another_partition_with_it
                core: s62_many_suspects_come_in_groups
                core: a_stream_that_waits_comes_in_runs
                counts_writes: s61a_a_takeover_writes_a_row_per_cursor
                core: s62_the_one_that_kills_its_process_dies_and_no_other
                core: s63_a_release_counts_only_what_was_running
                core: s64_a_requeued_dead_letter_comes_once_more
                core: s64a_a_dead_message_halts_its_stream_where_that_is_asked
                core: s65_a_discarded_dead_letter_is_gone
                core: due_work_is_handed_out_fairly_and_within_limits
                core: due_work_that_is_given_back_comes_again
                core: a_suspect_that_runs_long_lets_the_next_one_come
            }
            events {
                core: s66_versions_have_no_gaps_whoever_appends
                core: s67_a_history_is_complete_and_in_order
                core: s68_a_projection_moves_with_its_cursor
                core: s69_a_shared_projection_loses_no_update
                core: s70_a_deleted_projection_is_gone
                core: what_was_computed_from_a_state_replaces_no_other
                core: s71_a_late_subscription_starts_where_it_asks
                core: s72_a_dropped_subscription_is_gone_and_holds_nothing_up
            }
            housekeeping {
                core: s73_messages_are_trimmed_when_all_are_past_them
                core: s73_without_a_subscription_nothing_is_trimmed
                core: s74_events_are_kept_for_their_retention
                core: s75_trimming_goes_in_bounded_steps
                core: s76_work_that_is_not_done_is_never_trimmed
            }
            enqueue {
                user_transactions: s77_a_message_comes_with_the_users_commit
                user_transactions: s78_an_open_transaction_delays_nobody
                user_transactions: s79_messages_of_transactions_keep_their_order
                user_transactions: s80_a_used_key_does_not_abort_the_transaction
                user_transactions: what_a_user_has_enqueued_counts_for_who_expects_a_version
            }
            trouble {
                busy: s81_a_busy_database_loses_nothing
                busy: s81_a_busy_database_does_not_deny_what_was_committed
                connection: s82_a_cut_connection_loses_nothing
                conflicts: s83_a_conflict_in_the_database_is_not_heard_of
                disk_full: s84_a_full_disk_is_a_typed_error
                schema: s85_another_schema_is_refused_at_start
                core: s86_hostile_names_have_no_effect
                core: numbers_at_their_ends_have_no_effect
                core: s87_what_was_acknowledged_survives_a_kill
                durable: s87_what_was_acknowledged_outlives_every_process
                notifications: others_are_told_when_there_is_something_for_them
            }
        }
    };
}

/// Walks through the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_case {
    (@names ; $($group:ident { $($ability:ident: $case:ident)* })*) => {
        &[$($((stringify!($group), stringify!($case), stringify!($ability)),)*)*]
    };
    (@functions $fixture:ident ; $($group:ident { $($ability:ident: $case:ident)* })*) => {
        &[$($((
            concat!(stringify!($group), "::", stringify!($case)),
            stringify!($ability),
            || $crate::internal::run($crate::cases::$group::$case::<$fixture>()),
        ),)*)*]
    };
    (@tests $fixture:ident $declared:tt ; $($groups:tt)*) => {
        $crate::__each_group! { $fixture $declared $($groups)* }
    };
}

/// One module for each group.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_group {
    ($fixture:ident $declared:tt) => {};
    ($fixture:ident $declared:tt $group:ident { $($ability:ident: $case:ident)* } $($rest:tt)*) => {
        mod $group {
            #[allow(unused_imports, reason = "a group may consist of ignored cases")]
            use super::$fixture;
            $($crate::__one_case! { $ability $declared $fixture $group $case })*
        }
        $crate::__each_group! { $fixture $declared $($rest)* }
    };
}

/// Finds what was declared of an ability, by its place.
#[doc(hidden)]
#[macro_export]
macro_rules! __one_case {
    (core $all:tt $($case:tt)*) => {
        $crate::__test! { yes "" $($case)* }
    };
    (user_transactions [$is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `user_transactions`" $($case)* }
    };
    (damage [$a:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `damage`" $($case)* }
    };
    (counts_writes [$a:ident $b:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `counts_writes`" $($case)* }
    };
    (busy [$a:ident $b:ident $c:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `busy`" $($case)* }
    };
    (disk_full [$a:ident $b:ident $c:ident $d:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `disk_full`" $($case)* }
    };
    (schema [$a:ident $b:ident $c:ident $d:ident $e:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `schema`" $($case)* }
    };
    (connection [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `connection`" $($case)* }
    };
    (conflicts [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `conflicts`" $($case)* }
    };
    (notifications [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $is:ident $($rest:ident)*] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `notifications`" $($case)* }
    };
    (durable [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $i:ident $is:ident] $($case:tt)*) => {
        $crate::__test! { $is "not applicable: needs `durable`" $($case)* }
    };
}

/// One test.
#[doc(hidden)]
#[macro_export]
macro_rules! __test {
    (yes $reason:literal $fixture:ident $group:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::internal::run_case(
                stringify!($group),
                stringify!($case),
                $crate::cases::$group::$case::<$fixture>(),
            );
        }
    };
    (no $reason:literal $fixture:ident $group:ident $case:ident) => {
        #[test]
        #[ignore = $reason]
        fn $case() {
            panic!($reason);
        }
    };
}

/// Every case: its group, its name, and the ability it needs (`core`: none).
pub const CASES: &[(&str, &str, &str)] = __all_cases!(@names);
