//! The suite is honest: deliberately wrong stores, each caught by the case made for it, and every case has caught one.
//!
//! A wrong store is `MemoryStore` behind a wrapper that changes what it is asked or what it answers, in exactly one way.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use whizbang_storage_conformance::cases::{
    appending, enqueue, events, housekeeping, membership, once, parked, reading, settling, trouble,
};
use whizbang_storage_conformance::internal;

use fixture::WrongFixture;

mod fixture;
mod store;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    Nothing,
    ForgetsDedup,
    IgnoresTheEpoch,
    CountsARepeatTwice,
    TakesAnyNumber,
    LosesTheSetAboveLow,
    LooksPastALimit,
    LooksPastItsOwnAppends,
    SaysEveryLaneIsFree,
    ReversesItsAnswers,
    HalfAppliesAUnit,
    EvictsByAnotherClock,
    TrimsUnsettledWork,
    CutsAtNul,
    CountsNoAttempt,
    RetriesAtOnce,
    IgnoresSchedules,
    NeverBuries,
    NeverHalts,
    DiscardsWhatIsRequeued,
    IgnoresExpectations,
    ExpectsOfTheLogAlone,
    IgnoresRevisions,
    CountsRevisions,
    IgnoresPauses,
    IgnoresTheWindow,
    ForgetsTheDead,
    IgnoresByteLimits,
    GivesWorkToTheEvicted,
    KeepsPartitionsAtALeave,
    AsksNobodyToGiveBack,
    SkipsNothing,
    AppliesAFencedAttempt,
    ForgetsVersions,
    HandsOutNowToOne,
    CountsWhatWasNotRunning,
    ForgetsMetadata,
    IgnoresTheArrivalLimit,
    LooksPastTheHead,
    SharesItsKeys,
    TellsMembershipUnasked,
    HasNoLimits,
    SaysItTrimmed,
    KeepsOnePartition,
    GrowsEpochsAtHeartbeats,
    EvictsASecondTooEarly,
    TakesABackwardClockForSilence,
    TakesAnyProcess,
    PutsEverybodyInAGroup,
    CountsPositionsFromZero,
    NeverHandsOutAtOnce,
    StartsEverybodyAtTheFirst,
    HandsOutOnce,
    CommitsAtARollback,
    ReversesTransactions,
    HoldsOthersUp,
    ForgetsBehindAUsedKey,
    AnswersWhileItIsBusy,
    DeniesWhatItCommitted,
    SaysFullIsBroken,
    TellsOfDeadlocks,
    OpensAnySchema,
    ForgetsAtTheEnd,
    RefusesEverything,
    FailsAtADamagedRow,
    WritesARowPerRead,
    WritesARowPerSuspect,
}

thread_local! {
    // Each test has a thread, and its stores are opened on it.
    pub(crate) static WRONG: Cell<Wrong> = const { Cell::new(Wrong::Nothing) };
}

/// Runs a case against a store; where it failed, if it did.
fn fails(wrong: Wrong, case: fn()) -> Option<String> {
    listen_to_panics();
    WRONG.set(wrong);
    FAILED_AT.set(Some(String::new()));
    let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
    WRONG.set(Wrong::Nothing);
    FAILED_AT.take().filter(|_| !passed)
}

thread_local! {
    // Of a thread that runs a case: where it failed.
    static FAILED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// The panics of cases are what is wanted here: they need not be printed, but where they come from is told.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if FAILED_AT.take().is_none() {
                return loud(panic);
            }
            let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            FAILED_AT.set(Some(at));
        }));
    });
}

macro_rules! caught {
    ($($wrong:ident by $group:ident::$case:ident,)*) => {
        &[$((
            Wrong::$wrong,
            concat!(stringify!($group), "::", stringify!($case)),
            || internal::run($group::$case::<WrongFixture>()),
        ),)*]
    };
}

/// Each wrong store, and the case made for it.
const CAUGHT: &[(Wrong, &str, fn())] = caught! {
    ForgetsDedup by appending::s25_a_known_key_is_a_duplicate_and_disturbs_nobody,
    IgnoresTheEpoch by settling::s48_a_unit_under_another_epoch_leaves_nothing,
    CountsARepeatTwice by once::s19_a_retry_whose_answer_was_lost_counts_once,
    TakesAnyNumber by once::s16_any_other_number_is_refused,
    LosesTheSetAboveLow by settling::s44_what_is_done_out_of_order_survives_a_crash,
    LooksPastItsOwnAppends by reading::s21_what_a_batch_appends_is_read_behind_what_lies_there,
    LooksPastALimit by reading::s38_both_limits_hold,
    SaysEveryLaneIsFree by reading::s40b_a_message_behind_a_parked_one_says_so,
    ReversesItsAnswers by appending::s25_a_known_key_is_a_duplicate_and_disturbs_nobody,
    HalfAppliesAUnit by settling::s51_another_version_than_expected_is_a_conflict,
    EvictsByAnotherClock by membership::s05_a_silent_instance_is_evicted_by_whoever_calls_next,
    TrimsUnsettledWork by housekeeping::s73_messages_are_trimmed_when_all_are_past_them,
    CutsAtNul by appending::s30_payloads_come_back_byte_for_byte,
    CountsNoAttempt by parked::s54_a_retry_is_due_when_its_time_has_come,
    RetriesAtOnce by parked::s54_a_retry_is_due_when_its_time_has_come,
    IgnoresSchedules by appending::s35_a_scheduled_message_comes_when_its_time_has_come,
    NeverBuries by parked::s62_the_one_that_kills_its_process_dies_and_no_other,
    NeverHalts by parked::s64a_a_dead_message_halts_its_stream_where_that_is_asked,
    DiscardsWhatIsRequeued by parked::s64_a_requeued_dead_letter_comes_once_more,
    IgnoresExpectations by settling::s51_another_version_than_expected_is_a_conflict,
    ExpectsOfTheLogAlone by settling::s53b_of_all_that_expect_a_version_one_is_applied,
    IgnoresRevisions by events::s69_a_shared_projection_loses_no_update,
    CountsRevisions by events::what_was_computed_from_a_state_replaces_no_other,
    IgnoresPauses by parked::s58b_a_paused_subscription_is_handed_nothing,
    IgnoresTheWindow by reading::reads_stop_at_the_window,
    ForgetsTheDead by parked::s60_a_message_can_be_dead_at_once,
    IgnoresByteLimits by reading::s38_both_limits_hold,
    GivesWorkToTheEvicted by once::s20b_a_repeat_after_eviction_has_no_work,
    KeepsPartitionsAtALeave by membership::s04_a_leaving_instance_frees_its_partitions_at_once,
    AsksNobodyToGiveBack by membership::s03_what_is_given_back_gets_the_next_epoch,
    SkipsNothing by settling::s53a_what_follows_a_failed_unit_in_its_lane_is_skipped,
    AppliesAFencedAttempt by settling::s46b_a_late_answer_of_an_earlier_attempt_is_fenced,
    ForgetsVersions by appending::s21_a_message_is_readable_in_the_call_that_appends_it,
    HandsOutNowToOne by appending::a_message_is_handed_out_by_the_call_that_appends_it,
    CountsWhatWasNotRunning by parked::s63_a_release_counts_only_what_was_running,
    ForgetsMetadata by appending::s30_payloads_come_back_byte_for_byte,
    IgnoresTheArrivalLimit by appending::s23a_arrivals_wait_for_the_first_owner,
    LooksPastTheHead by appending::s24_a_polling_reader_misses_nothing,
    SharesItsKeys by appending::s28_keys_belong_to_a_service,
    TellsMembershipUnasked by appending::s33_an_empty_batch_is_a_number_and_no_more,
    HasNoLimits by appending::s34_a_huge_batch_is_stored_whole_or_not_at_all,
    SaysItTrimmed by housekeeping::s73_without_a_subscription_nothing_is_trimmed,
    KeepsOnePartition by membership::s01_an_unknown_instance_joins_and_owns_everything,
    GrowsEpochsAtHeartbeats by membership::s02_a_heartbeat_moves_no_epoch,
    EvictsASecondTooEarly by membership::s06_within_its_time_to_live_an_instance_is_untouched,
    TakesABackwardClockForSilence by membership::s13_a_clock_that_jumps_back_evicts_nobody,
    TakesAnyProcess by membership::s14_an_instance_id_belongs_to_one_process,
    PutsEverybodyInAGroup by membership::s14a_an_instance_without_a_group_only_publishes,
    CountsPositionsFromZero by once::s17_what_failed_before_the_commit_is_applied_by_its_repeat,
    NeverHandsOutAtOnce by reading::a_read_behind_the_end_gives_nothing,
    StartsEverybodyAtTheFirst by reading::a_subscription_may_start_at_the_end,
    HandsOutOnce by reading::s40_a_read_can_be_made_twice,
    CommitsAtARollback by enqueue::s77_a_message_comes_with_the_users_commit,
    HoldsOthersUp by enqueue::s78_an_open_transaction_delays_nobody,
    ReversesTransactions by enqueue::s79_messages_of_transactions_keep_their_order,
    ForgetsBehindAUsedKey by enqueue::s80_a_used_key_does_not_abort_the_transaction,
    ExpectsOfTheLogAlone by enqueue::what_a_user_has_enqueued_counts_for_who_expects_a_version,
    AnswersWhileItIsBusy by trouble::s81_a_busy_database_loses_nothing,
    DeniesWhatItCommitted by trouble::s81_a_busy_database_does_not_deny_what_was_committed,
    CountsARepeatTwice by trouble::s82_a_cut_connection_loses_nothing,
    TellsOfDeadlocks by trouble::s83_a_conflict_in_the_database_is_not_heard_of,
    SaysFullIsBroken by trouble::s84_a_full_disk_is_a_typed_error,
    OpensAnySchema by trouble::s85_another_schema_is_refused_at_start,
    RefusesEverything by trouble::s87_what_was_acknowledged_survives_a_kill,
    ForgetsAtTheEnd by trouble::s87_what_was_acknowledged_outlives_every_process,
    FailsAtADamagedRow by reading::s42_a_damaged_row_is_reported_alone,
    WritesARowPerRead by reading::s41_reading_nothing_writes_nothing,
    WritesARowPerSuspect by parked::s61a_a_takeover_writes_a_row_per_cursor,
};

#[test]
fn every_wrong_store_is_caught_by_the_case_made_for_it() {
    let (mut escaped, mut strict, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for (wrong, name, case) in CAUGHT {
        match fails(*wrong, *case) {
            None => escaped.push((wrong, name)),
            // It is the case that says no, not the store or its wrapper that falls over.
            Some(at) if !at.contains("storage-conformance/src/") => elsewhere.push((wrong, name, at)),
            Some(_) => {}
        }
        // The wrapper itself is not what fails.
        strict.extend(fails(Wrong::Nothing, *case).map(|at| (name, at)));
    }
    assert!(strict.is_empty(), "the wrapped honest store fails {strict:?}");
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
    assert!(elsewhere.is_empty(), "caught by a panic that is not the case's: {elsewhere:?}");
}

/// Every case, the ability it needs, and how it is run.
const CASES: &[(&str, &str, fn())] = whizbang_storage_conformance::__all_cases!(@functions WrongFixture);

#[test]
fn every_case_has_caught_a_wrong_store() {
    let made_for: BTreeSet<&str> = CAUGHT.iter().map(|(_, name, _)| *name).collect();
    let others = CASES.iter().filter(|(name, ..)| !made_for.contains(name));
    let is_red = |case: fn(), wrong: &Wrong| {
        fails(*wrong, case).is_some_and(|at| at.contains("storage-conformance/src/"))
    };
    let never_red: Vec<&str> = others
        .filter(|(_, _, case)| !CAUGHT.iter().any(|(wrong, ..)| is_red(*case, wrong)))
        .map(|(name, ..)| *name)
        .collect();
    assert!(never_red.is_empty(), "no wrong store makes these red: {never_red:?}");
}

/// For whoever writes a case or a wrong store: which wrong stores make each case red.
#[test]
#[ignore = "a table to look at: cargo test -p whizbang-storage-conformance --test wrong_stores -- --ignored --nocapture"]
fn matrix() {
    let mut red: BTreeMap<&str, BTreeSet<Wrong>> =
        CASES.iter().map(|(name, ..)| (*name, BTreeSet::new())).collect();
    let wrongs: BTreeSet<Wrong> = CAUGHT.iter().map(|(wrong, ..)| *wrong).chain([Wrong::Nothing]).collect();
    for wrong in wrongs {
        for (name, _, case) in CASES {
            let (tell, told) = mpsc::channel();
            // A case may wait for ever for what a wrong store never gives.
            thread::spawn(move || tell.send(fails(wrong, *case)));
            match told.recv_timeout(Duration::from_secs(10)) {
                Ok(None) => {}
                Ok(Some(at)) if at.contains("storage-conformance/src/") => {
                    red.entry(name).or_default().insert(wrong);
                }
                Ok(Some(at)) => println!("{wrong:?} falls over at {at} in {name}"),
                Err(_) => println!("{wrong:?} never ends {name}"),
            }
        }
    }
    for (name, by) in &red {
        println!("{:3} {name}: {by:?}", by.len());
    }
}

#[test]
fn no_wrong_store_is_so_broken_that_any_case_would_do() {
    let simple: [fn(); 2] = [
        || internal::run(appending::s33_an_empty_batch_is_a_number_and_no_more::<WrongFixture>()),
        || internal::run(membership::s02_a_heartbeat_moves_no_epoch::<WrongFixture>()),
    ];
    for (wrong, _, _) in CAUGHT {
        assert!(simple.iter().any(|case| fails(*wrong, *case).is_none()), "{wrong:?}");
    }
}
