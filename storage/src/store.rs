//! The two traits a backend implements, and the errors they answer with.

use std::future::Future;
use std::sync::Arc;

use crate::{
    Answer, DeadReason, InstanceId, MessageId, Page, ParkedKey, Revision, Service, StreamId, Timestamp,
    Version, WorkBatch,
};

/// The writing side of a storage backend: one call, one round trip, one transaction, one answer per item.
///
/// This page is the contract. *Must* and *may* mean what they say; each rule names the cases of the
/// conformance suite that prove it (`group::case` in `whizbang-storage-conformance`).
///
/// # One batch
/// - A batch **must** commit whole or not at all. Within it, an append that is refused or a duplicate takes only itself
///   out; a unit that is not applied takes out itself and every later unit of the same (subscription, lane) in the batch,
///   which are answered `Skipped`. Nothing else is disturbed.
///   — `once::s20d_after_a_definite_failure_the_number_is_free`, `settling::s53a_what_follows_a_failed_unit_in_its_lane_is_skipped`, `trouble::s87_what_was_acknowledged_survives_a_kill`, `trouble::s87_what_was_acknowledged_outlives_every_process`
/// - The parts **must** be applied in this order: number check, own heartbeat, units, settled, appends, arrivals,
///   operations, release or leave, evictions, new partitions, due, reads, housekeeping. Each sees what was written before it.
///   — `once::the_parts_of_a_batch_see_what_was_written_before_them`
/// - [`refuse::batch`](crate::refuse::batch) decides whether a batch is too large; then `NotApplied`, and nothing is written.
///   [`refuse`](crate::refuse) also decides what is refused item by item, so that all backends agree.
///   — `appending::s34_a_huge_batch_is_stored_whole_or_not_at_all`, `appending::s31_what_is_too_large_is_refused_alone`, `appending::s32_names_that_cannot_be_stored_are_refused_alone`
/// - The whole answer is written into `answer`, which the store clears first.
///   — `appending::s33_an_empty_batch_is_a_number_and_no_more`
///
/// # Numbers
/// [`turn`](crate::turn::turn) decides by the number alone what happens to a batch, in this order:
///
/// - An instance's first batch has number 1 and **must** carry `Join`; otherwise [`StoreError::NotJoined`]. A later `Join`
///   is `NotJoined` too. The store keeps the instance's last number and digest ([`WorkBatch::digest`]) in the batch's transaction.
///   — `membership::s14_an_instance_id_belongs_to_one_process`
/// - The last number again, same digest: nothing is written (no heartbeat either); the answer **must** be the one that was
///   or would have been given, work and reads included. Another digest: [`StoreError::DifferentBatch`].
///   — `once::s15_a_repeated_batch_is_answered_as_the_first_time`, `once::s20c_the_same_number_with_other_content_is_refused`
/// - Any other number than last + 1: [`StoreError::OutOfSequence`], nothing written.
///   — `once::s16_any_other_number_is_refused`, `once::an_old_batch_that_comes_again_writes_nothing`
/// - The answer may be kept in the handle's memory ([`Callers`](crate::callers::Callers)): an instance lives no longer
///   than its process. A repeat through another handle is [`StoreError::OutOfSequence`].
///   — `once::s16_any_other_number_is_refused`
/// - The same instance id with another start token: [`StoreError::InstanceTaken`].
///   — `membership::s14_an_instance_id_belongs_to_one_process`
/// - [`StoreError::NotApplied`] is definite: the number is free, and the batch before is still the last one, whose repeat gets its
///   answer. Any other failure is [`StoreError::Unknown`]: the caller repeats the batch, and the store **must** find out by the
///   number whether it was applied. A repeat of it is `NotApplied` only if no earlier call with it was applied, nor ever will be.
///   — `once::s20d_after_a_definite_failure_the_number_is_free`, `once::s17_what_failed_before_the_commit_is_applied_by_its_repeat`, `once::s18_a_lost_answer_is_given_to_the_repeat`, `trouble::s81_a_busy_database_does_not_deny_what_was_committed`
///
/// # The clock
/// - Every instant is the store's own, read once per batch, after the last lock was taken. A clock that jumps back evicts nobody.
///   — `membership::s13_a_clock_that_jumps_back_evicts_nobody`, `appending::s35_a_scheduled_message_comes_when_its_time_has_come`
///
/// # Membership
/// - An instance is alive while its last batch is younger than the time to live: it is expired when age >= ttl.
///   — `membership::s07_an_instance_is_expired_when_its_age_is_the_time_to_live`
/// - Every batch is a heartbeat. One with a `membership` also looks for expired instances of the service and evicts them:
///   their rows go, their partitions are free in the same transaction. But when no batch of any instance was committed
///   for ttl / 2 or longer before this one (the store was away, or the clock jumped), nobody is evicted for one ttl from now.
///   — `membership::s05_a_silent_instance_is_evicted_by_whoever_calls_next`, `membership::s05_a_silence_of_all_evicts_nobody`
/// - An instance whose age has passed the ttl but that nobody evicted is alive again with its next batch.
///   — `settling::s49_an_owner_settles_until_somebody_evicts_it`
/// - An evicted or departed instance's batches are [`StoreError::Evicted`], except a repeat of its last, which gets its
///   kept answer with `evicted` set and no work. Eviction and the check are ordered by the instance's row.
///   — `membership::s08_an_evicted_instance_is_refused_and_writes_nothing`, `once::s20b_a_repeat_after_eviction_has_no_work`
/// - Partitions belong to (group, partition). The number of an epoch grows by one with each new owner, from 1.
///   — `membership::s14b_two_groups_have_their_own_owners_and_cursors`, `membership::s12_whoever_comes_and_goes_every_partition_has_one_owner`
/// - Fair share, looked at in each batch with a `membership` ([`membership`](crate::membership) has the arithmetic): the free
///   partitions are dealt one by one to the living instance of the group that holds the fewest (ties: the sender first), and
///   the sender takes what falls to it, lowest partition number first; what the sender freed in this batch is not dealt to it.
///   `give_back`: if instances below ⌊P / n⌋ lack more in sum than is free, that many are asked for one by one of the
///   instance that holds the most (ties: smaller instance id first), of none below ⌊P / n⌋. The sender is told its own part.
///   — `membership::s03_partitions_are_shared_fairly_as_instances_join`, `membership::s03_what_is_given_back_gets_the_next_epoch`
/// - A group's subscription that is named again, by a join or `Register`, takes over `on_dead` and `attempts_max` (0 counts as 1); its
///   `start` matters only the first time. Without a group there are no subscriptions, no partitions, and `alive` is 0.
///   — `events::s71_a_late_subscription_starts_where_it_asks`, `parked::s64a_a_dead_message_halts_its_stream_where_that_is_asked`, `membership::s14a_an_instance_without_a_group_only_publishes`
/// - A live owner never loses a partition otherwise.
///   — `membership::s06_within_its_time_to_live_an_instance_is_untouched`
/// - `Release` frees a partition that is owned under the given epoch (others are ignored): what is named as `running` is
///   parked (due now, attempts + 1), what is parked and handed out to the sender is as if it had not been, and everything
///   else that was handed out from the log is unread again (`given` returns to `low`, but not below `suspects_to`). `Leave` does
///   this for all partitions and for everything else the sender was handed, and removes the instance. Of the entries in
///   `running`, what was neither handed out to the sender nor is unsettled is ignored.
///   The freed partitions are not taken again by the sender in the same batch.
///   — `parked::s63_a_release_counts_only_what_was_running`, `membership::s04_a_leaving_instance_frees_its_partitions_at_once`
///
/// # The log
/// - Each partition has positions 1, 2, 3 … without gaps, in commit order. A lane (the stream, or the message's own id as a
///   stream of one) lives in partition [`StreamId::partition`] of it.
///   — `appending::s22_a_thousand_messages_keep_their_order_without_gaps`
/// - An append goes into the log when the sender owns the partition *for its group* and no undelayed arrival of the
///   same lane waits there, whoever sent it; otherwise, and always with `due_in`, it becomes an arrival. So a lane's messages stand in
///   the log in the order in which they were committed.
///   A service may have several groups; the log is one. The partition's **writer** is its owner in the oldest group that has one there;
///   only the writer appends to the log and moves arrivals. Owners in other groups only read and settle.
///   — `appending::s23_an_owner_does_not_overtake_its_own_arrivals`, `appending::s23_nobody_overtakes_what_was_committed_before`, `membership::s14b_two_groups_have_their_own_owners_and_cursors`
/// - Arrivals are moved by the writer when the batch says so: first the scheduled ones whose time has come, in order of (due time,
///   arrival), then the others in order of arrival, whatever the clock did meanwhile; so each sender's undelayed messages of a lane
///   keep their order. `moved` is in order of partition. `arrivals_waiting` and `next_due` look at partitions that the sender writes.
///   — `appending::s23_arrivals_are_moved_in_each_senders_order`, `appending::s23a_arrivals_wait_for_the_first_owner`, `appending::s35_a_scheduled_message_comes_when_its_time_has_come`
/// - An event with a stream gets the stream's next version. Versions of a stream are 1, 2, 3 … An event without a stream has none.
///   — `events::s66_versions_have_no_gaps_whoever_appends`
/// - A dedup key is remembered from the first append or emit with it, for `dedup_retention`, also while that is an arrival,
///   with the first message's id and a hash of its payload. It is forgotten by housekeeping, when its age >= the retention; its
///   instant is not before that of a key that came earlier, so that keys go in the order in which they came when the clock is set back.
///   An append that is refused leaves no key.
///   — `appending::s25_a_known_key_is_a_duplicate_and_disturbs_nobody`, `appending::s26_a_key_twice_is_stored_once_wherever_it_comes_from`, `appending::s29_a_key_is_remembered_for_its_retention`, `appending::s29a_keys_go_in_the_order_in_which_they_came`
/// - `HandOut::Now` is granted when the append goes into the log, and for every subscription of the sender's group: it is
///   not paused, the position is the next one (`given` + 1), it lies within the window, and nothing of the message's lane is parked for it (in the
///   sense of `LaneState`). Then `given` moves for all of them; else for none.
///   — `appending::a_message_is_handed_out_by_the_call_that_appends_it`
///
/// # Reading
/// - Each subscription has a [`Cursor`](crate::cursor::Cursor) per partition: `low` (all up to here is settled), the settled
///   positions above it, `given` (the highest position handed out) and `suspects_to` (see *Parked work*). A new subscription starts with `low = given` before the first kept message or at the head.
///   — `events::s71_a_late_subscription_starts_where_it_asks`, `reading::a_subscription_may_start_at_the_end`
/// - A read returns unsettled messages with a position in (`after`, `low` + window], in order, as many as both limits allow (a
///   single message may exceed the bytes alone), and none at or below `suspects_to`. `through` is the position up to which nothing
///   else is left: the last message returned if a limit was reached (as many were returned as are allowed, or the next would
///   have been too many bytes; `after` if none is allowed), otherwise min(head, low + window). `given` becomes at least `through`, as far as
///   there is something, in the same transaction; if it was so already, nothing is written. What the batch itself appends is there.
///   — `reading::s38_both_limits_hold`, `reading::reads_stop_at_the_window`, `reading::a_read_behind_the_end_gives_nothing`, `reading::s21_what_a_batch_appends_is_read_behind_what_lies_there`, `reading::s40a_holes_are_passed_and_settled`, `reading::s41_reading_nothing_writes_nothing`
/// - A read of what the sender does not own under that epoch is `Fenced`, of a paused subscription, or of one
///   that is not of the sender's group, `Paused` (looked at first).
///   — `reading::s37_only_the_owner_reads`
/// - A message is `LaneState::Parked` when for this subscription, in this partition, a message of its lane with a smaller position is parked (a dead
///   one counts only under `OnDead::Halt`) or is a suspect that is not settled yet.
///   — `reading::s40b_a_message_behind_a_parked_one_says_so`
/// - A row that cannot be read back is returned alone as `Condition::Damaged`.
///   — `reading::s42_a_damaged_row_is_reported_alone`
///
/// # Settling
/// - A unit is looked at in this order, and the first that applies is its answer: `Skipped`; `Refused`; `Unknown` if the subscription is not
///   one of the sender's group; for a parked message that is not dead: `Fenced` unless it was handed to the sender with this
///   attempt and runs; for one of the log's flow: `Fenced` unless the sender owns the partition under this epoch, `AlreadySettled`,
///   `Unknown` (above `given`, a suspect, no such message, or `Release`), `Fenced` for another attempt than 1; then `expects`; then projections.
///   — `settling::s48_a_unit_under_another_epoch_leaves_nothing`, `settling::s46b_a_late_answer_of_an_earlier_attempt_is_fenced`, `settling::s47_what_was_never_handed_out_is_unknown`
/// - A settled range: `Unknown` if the subscription is not one of the sender's group, `Fenced`, `Unknown` if it ends before it begins,
///   `AlreadySettled` if all of it is, `Unknown` if it reaches above `given` or touches a suspect.
///   — `settling::s46_what_is_settled_is_settled_once`, `settling::s47_what_was_never_handed_out_is_unknown`
/// - `Done` and `Dead` move the cursor (or end the parked row); `Retry`, `Detach`, `Defer` and `Unroutable` park the message
///   and move the cursor past it. `low` moves over every settled position that follows it.
///   — `settling::s45_when_all_is_done_nothing_is_left_above_low`, `settling::s44_what_is_done_out_of_order_survives_a_crash`
/// - A settled range may hold positions that do not exist (they count as settled) or that are settled (ignored, unless all are).
///   — `reading::s40a_holes_are_passed_and_settled`, `settling::s46a_ranges_and_units_make_one_cursor`
/// - `expects` and projection revisions are compared after every lock was taken, against what this batch has written so
///   far, before anything of the unit is written.
///   — `settling::s51_another_version_than_expected_is_a_conflict`, `settling::s52_expectations_see_what_the_batch_has_written`, `events::s69_a_shared_projection_loses_no_update`
/// - A projection's revision **must** be [`Revision::of`] its state, whoever has written it, and however often. So the writer knows it
///   beforehand, and may base a unit on what an earlier one writes; and what was computed from a state replaces that state
///   alone, also when the projection was written by others, or deleted and made anew, in between.
///   — `events::what_was_computed_from_a_state_replaces_no_other`
/// - `expects` is compared with the version the stream has in the log, plus the number of its undelayed events that wait as arrivals, whoever
///   sent them; a scheduled event counts once it is in the log. So of all units that expect the same version of a stream and
///   emit an event to it, one at most is applied, whichever instances send them and whenever. `actual` is that sum.
///   — `settling::s53b_of_all_that_expect_a_version_one_is_applied`, `enqueue::what_a_user_has_enqueued_counts_for_who_expects_a_version`
/// - A unit's emit with a key seen before is answered `Duplicate` and does not stop its unit.
///   — `appending::s25_a_known_key_is_a_duplicate_and_disturbs_nobody`
///
/// # Parked work
/// - A parked message is its subscription's own copy, independent of the log. Its state is waiting (with a due time), running
///   (handed to an instance; *named* if it was handed out as a suspect, or detached), unroutable (with the time of its death), or dead.
///   It counts `attempts` (failures) and `crashes`; it is handed out with attempt = attempts + crashes + 1.
///   — `parked::s54_a_retry_is_due_when_its_time_has_come`, `housekeeping::s76_work_that_is_not_done_is_never_trimmed`
/// - It is **due** when it waits, its time has come, and no smaller position of its (subscription, lane) is parked (a dead
///   one counts only under `Halt`) or an unsettled suspect. That is computed when asked, never remembered.
///   — `parked::s55_later_messages_of_the_stream_wait_without_an_attempt`, `parked::s56_the_waiting_come_back_in_order`
/// - `due` hands out due work of owned partitions in order of (due time, position), fairly between partitions; handed-out work is
///   running. Of a lane it hands out a *run*: the first, and what follows it in the lane as long as that waits too and its
///   time has come; none of a run counts as due before the one it follows. The caller handles a run in its order.
///   — `parked::due_work_is_handed_out_fairly_and_within_limits`, `parked::s55_later_messages_of_the_stream_wait_without_an_attempt`, `parked::a_stream_that_waits_comes_in_runs`
/// - A row that runs remembers what it was (waiting, orphaned, unroutable); `Release` and a partition given back put that back. One that
///   was detached from the log goes back as waiting, due now.
///   — `parked::due_work_that_is_given_back_comes_again`, `parked::s58a_a_detached_message_ends_as_any_other`
/// - An owner that died (was evicted): what the log gave it and was not settled, between `low` and `given`, is *suspect*
///   (`suspects_to` becomes `given`). A take-over **must** write a row per cursor, not per message. Parked work that was running
///   under the dead instance becomes *orphaned*; if it was named, with one crash more. Both in the eviction's transaction.
///   — `parked::s61_what_a_dead_owner_had_is_suspect_and_the_rest_is_new`, `parked::s61a_a_takeover_writes_a_row_per_cursor`, `parked::s58a_a_detached_message_holds_nobody_up`
/// - Suspects and orphaned work are handed out by `due` as *named*, over all subscriptions of the group, before waiting
///   work, and the more alone the more deaths have found them running
///   ([`pick::suspects`](crate::pick::suspects) decides): of a partition, in order of (position, subscription), up to 64 that
///   none has, together; else one that one death has; else, and only if no other suspect of the sender is there or runs, one
///   that more have. Under a cap of less than four crashes each comes like these. While a suspect runs, no other of its partition
///   is handed out; detaching it lets the next come. When the suspect at p is handed out, everything up to p counts as settled
///   (holes too); when none is left, everything up to `suspects_to`. A suspect behind a parked message of its lane is parked
///   as waiting, due now, without an attempt, when it is its turn.
///   — `parked::a_suspect_that_runs_long_lets_the_next_one_come`, `parked::s61_suspects_keep_the_order_of_their_streams`, `parked::s62_the_one_that_kills_its_process_dies_and_no_other`, `parked::s62_a_killer_takes_no_innocent_of_another_partition_with_it`, `parked::s62_many_suspects_come_in_groups`
/// - attempts or crashes at `attempts_max`: dead, `AttemptsExhausted`, in the batch that counts them.
///   — `parked::s59_at_the_cap_a_message_is_dead`, `parked::s62_the_one_that_kills_its_process_dies_and_no_other`
/// - `Dead` **must** count an attempt when one was begun ([`DeadReason::ends_an_attempt`]), also beyond the cap that the store knows;
///   with any other reason, and with `Exhausted`, which is dead as `AttemptsExhausted`, it must not.
///   — `parked::s60_a_message_can_be_dead_at_once`
/// - Unroutable work is handed by `due` to any instance of the group whose `types` know it, whoever owns the partition; after
///   `unroutable_after` it is dead (`Unroutable`), noticed by housekeeping and, for the
///   sender's group, by due. Answered `Unroutable` again, it keeps the time of its death.
///   — `membership::s14c_a_type_that_only_some_know_is_handled_by_them`
/// - `next_due` counts what `due` would hand out now or later: no paused subscription, no message behind another of its lane.
///   — `parked::s55_later_messages_of_the_stream_wait_without_an_attempt`, `parked::s58b_a_paused_subscription_is_handed_nothing`
/// - Dead letters stay until `Requeue` (waiting, due now, attempts and crashes 0, handed out as
///   `Origin::Replay`, before `Suspect`) or `Discard`; a second time: `Gone`.
///   That later messages of its lane were settled meanwhile does not matter; smaller parked ones go first, as always.
///   — `parked::s64_a_requeued_dead_letter_comes_once_more`, `parked::s65_a_discarded_dead_letter_is_gone`
///
/// # Housekeeping
/// - Removes at most so many rows a batch: messages that are not events, at or below the `low` of every subscription of every
///   group (if there is any subscription); events by the same rule that are older than `event_retention`; dedup keys past their
///   retention. Unsettled, parked, dead and arriving work is never removed. Positions are never reused.
///   — `housekeeping::s73_messages_are_trimmed_when_all_are_past_them`, `housekeeping::s74_events_are_kept_for_their_retention`, `housekeeping::s75_trimming_goes_in_bounded_steps`
///
/// # Cancel safety
/// The future is never dropped by the engine before it is done. A backend may treat a drop as a lost answer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no storage backend",
    label = "a `WorkStore` is needed here",
    note = "an engine is given its storage before it starts: `Engine::builder(…).storage(store).start()`",
    note = "a store is `MemoryStore`, `SqliteStore`, `PostgresStore`, or a type of your own that implements `WorkStore`"
)]
#[allow(async_fn_in_trait, reason = "the pump awaits it on a thread of its own; the future need not be Send")]
pub trait WorkStore: Send + 'static {
    /// The reading side, for other threads.
    type Reader: StoreReader;

    /// Makes everything in `batch` durable, and fills `answer`.
    ///
    /// # Errors
    /// See [`StoreError`]: each says whether something may have been written.
    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError>;

    /// A handle on the reading side.
    fn reader(&self) -> Self::Reader;

    /// The service as it was agreed with the schema when the store was opened.
    fn service(&self) -> &Service;

    /// What this backend can do beyond the contract's core.
    fn abilities(&self) -> Abilities;

    /// Gives the store something to call, from any thread, when it learns that others left work for this instance. Only
    /// a hint: a store may ignore it, and everything works without.
    fn on_hint(&mut self, hint: Hint);
}

/// The page of [`WorkStore`] as it is written, from which the conformance suite reads which case proves which rule.
#[doc(hidden)]
pub const CONTRACT: &str = include_str!("store.rs");

/// Called by a store when others left work; cheap, never blocks.
pub type Hint = Arc<dyn Fn() + Send + Sync>;

/// What a backend can do beyond the contract's core; conformance cases that need more are listed as not applicable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Several processes can open the same data at once.
    pub shared_by_processes: bool,
    /// A message can be enqueued inside the user's own transaction.
    pub user_transactions: bool,
    /// Other instances are told when there is something for them.
    pub notifications: bool,
    /// What was written survives the process.
    pub durable: bool,
}

/// The reading side: it changes nothing, and may lag behind the writing side by what is not committed yet.
///
/// Handles are cheap to clone and may be used from many threads; they never hold up a batch.
pub trait StoreReader: Clone + Send + Sync + 'static {
    /// Pushes events of a stream with a version above `after` onto `page`, in order, at most `messages_max` of them.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read; the page then holds what was pushed before.
    fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> impl Future<Output = Result<(), ReadError>> + Send;

    /// One projection's state, if it exists.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read.
    fn projection(
        &self,
        perspective: &str,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<ProjectionState>, ReadError>> + Send;

    /// A perspective's projections with a key above `after`, in order of key, at most `count_max` of them.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read.
    fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> impl Future<Output = Result<Vec<ProjectionState>, ReadError>> + Send;

    /// What has become of a message; `stream` as it was sent with. Looks through the message's partition, so it is for
    /// questions about single messages, not for a hot path.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read.
    fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> impl Future<Output = Result<Whereabouts, ReadError>> + Send;

    /// Dead letters with a key above `after`, in order, at most `count_max` of them.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read.
    fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, ReadError>> + Send;

    /// Counts of everything, for people and monitors. May look at many rows.
    ///
    /// # Errors
    /// [`ReadError`] when the backend cannot be read.
    fn statistics(&self) -> impl Future<Output = Result<Statistics, ReadError>> + Send;
}

/// A projection as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionState {
    /// Its key.
    pub key: Vec<u8>,
    /// Names its state: [`Revision::of`] it.
    pub revision: Revision,
    /// Its state.
    pub state: Vec<u8>,
}

/// What has become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Some subscription has not settled it yet, or it is still arriving.
    Waiting,
    /// It is a dead letter of at least one subscription, and waits for no other.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The last error.
        error: String,
    },
    /// Nothing waits for it: it was handled, or it was never stored.
    NotWaiting,
}

/// A message that will not be tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it for `Requeue` and `Discard`.
    pub key: ParkedKey,
    /// The group of the subscription.
    pub group: String,
    /// The subscription's name.
    pub subscription: String,
    /// The message's id.
    pub message: MessageId,
    /// Its stream, if it has one.
    pub stream: Option<StreamId>,
    /// The wire name of its type.
    pub type_name: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// The last error text.
    pub error: String,
    /// Attempts that were begun and failed, the one it died with included; 0 if none was begun.
    pub attempts: u32,
    /// Deaths of its process.
    pub crashes: u32,
    /// When it was first parked or died, by the store's clock.
    pub first_failed_at: Timestamp,
    /// When it died.
    pub dead_at: Timestamp,
}

/// Counts of everything a service has in its database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages in the log that are not events.
    pub messages: u64,
    /// Events that are kept.
    pub events: u64,
    /// Messages on their way into the log.
    pub arrivals: u64,
    /// Remembered deduplication keys.
    pub dedup_keys: u64,
    /// Projections.
    pub projections: u64,
    /// Living instances.
    pub instances: Vec<InstanceId>,
    /// One entry per subscription.
    pub subscriptions: Vec<SubscriptionStatistics>,
}

/// Where a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionStatistics {
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Positions in all partitions that it has not settled, holes included; those that instances hold and handle are among
    /// them until the store has heard that they are done. What is parked is counted apart.
    pub lag: u64,
    /// Parked messages that wait or run.
    pub parked: u64,
    /// Parked messages of a type nobody knows.
    pub unroutable: u64,
    /// Dead letters.
    pub dead: u64,
    /// Whether it is paused.
    pub paused: bool,
}

/// Why a batch was not answered, and whether something of it may have been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Definite: nothing was written, and the number is free for another batch.
    #[error("nothing was written: {0}")]
    NotApplied(#[from] NotApplied),
    /// Nobody knows: the same batch must be sent again until it is answered.
    #[error("the answer was lost, the batch must be repeated: {0}")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The instance was evicted or has left: nothing was written, and nothing of it ever will be.
    #[error("this instance was evicted; join again under a new id")]
    Evicted,
    /// The last number again, with another content: nothing was written.
    #[error("batch {number} was sent before with another content")]
    DifferentBatch {
        /// The number.
        number: u64,
    },
    /// Neither the last number nor the next: nothing was written.
    #[error("batch number {got} after {last}: only {last} again or the next is possible")]
    OutOfSequence {
        /// The last number that was applied.
        last: u64,
        /// The number that came.
        got: u64,
    },
    /// The first batch carried no `Join`, or a later one did: nothing was written.
    #[error("an instance joins with its first batch, and only with it")]
    NotJoined,
    /// Another process uses this instance id: nothing was written.
    #[error("another process uses this instance id")]
    InstanceTaken,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotApplied {
    /// More than the limits allow: send less at once.
    #[error("a batch of {messages} messages and {bytes} bytes: {messages_max} and {bytes_max} are allowed")]
    BatchTooLarge {
        /// Messages it would have written.
        messages: usize,
        /// The limit.
        messages_max: usize,
        /// Bytes it would have written.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A name in a `Join` cannot be stored.
    #[error("the join was refused: {0}")]
    Join(crate::Refusal),
    /// Somebody else holds the database; try again.
    #[error("the database is busy: {0}")]
    Busy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no room; try again when there is.
    #[error("the disk is full: {0}")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store refused a statement, or could not be reached before anything was sent.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the reading side has no answer.
#[derive(Debug, thiserror::Error)]
#[error("the store could not be read: {0}")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
