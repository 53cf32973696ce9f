//! The suite is honest: deliberately wrong stores, each caught by the case made for it.
//!
//! A wrong store is `MemoryStore` behind a wrapper that changes what it is asked or what it answers, in exactly one way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use whizbang_storage::{
    Abilities, Answer, AppendAnswer, Epoch, Hint, LaneState, MemoryDatabase, MemoryStore, OnDead,
    OperationAnswer, Page, Partition, Position, ReadAnswer, Revision, Service, StoreError, StoreReader,
    SubscriptionId, SystemClock, TestClock, UnitAnswer, Version, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::cases::{
    appending, events, housekeeping, membership, once, parked, reading, settling,
};
use whizbang_storage_conformance::{
    Fixture, OpenError, OwnedBatch, OwnedMembership, OwnedOperation, OwnedSettle, OwnedUnit, internal,
};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
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
}

thread_local! {
    // Each test has a thread, and its stores are opened on it.
    static WRONG: Cell<Wrong> = const { Cell::new(Wrong::Nothing) };
}

struct WrongStore {
    inner: MemoryStore,
    wrong: Wrong,
    // What the wrapper must know to be wrong.
    epochs: BTreeMap<Partition, Epoch>,
    low: BTreeMap<(SubscriptionId, Partition), Position>,
    through: BTreeMap<(SubscriptionId, Partition), (Epoch, Position)>,
    // How often a projection was written since it was made, when it was at each of its revisions.
    writes: BTreeMap<Vec<u8>, BTreeMap<Revision, u64>>,
    last: Option<(u64, Answer)>,
    number: u64,
}

impl WrongStore {
    /// Changes what is asked; what of it the store must not hear is answered later, by [`answer`](Self::answer).
    async fn ask(&mut self, batch: &mut OwnedBatch) {
        let units = &mut batch.units;
        match self.wrong {
            Wrong::ForgetsDedup => batch.appends.iter_mut().for_each(|append| append.dedup = None),
            Wrong::CutsAtNul => batch.appends.iter_mut().for_each(|append| {
                let end = append.payload.iter().position(|byte| *byte == 0);
                append.payload.truncate(end.unwrap_or(usize::MAX));
            }),
            Wrong::IgnoresSchedules => batch.appends.iter_mut().for_each(|append| append.due_in = None),
            Wrong::ForgetsMetadata => batch.appends.iter_mut().for_each(|append| append.metadata.clear()),
            Wrong::IgnoresTheEpoch => {
                for unit in units {
                    if let Some(delivery) = &mut unit.delivery {
                        delivery.epoch =
                            self.epochs.get(&delivery.partition).copied().unwrap_or(delivery.epoch);
                    }
                }
            }
            Wrong::AppliesAFencedAttempt => {
                // A late answer of the first attempt is taken as that of the second.
                for unit in units {
                    if let Some(delivery) = &mut unit.delivery {
                        delivery.attempt = delivery.attempt.max(2);
                    }
                }
            }
            Wrong::HalfAppliesAUnit => {
                let halves =
                    units.iter_mut().filter(|unit| unit.delivery.is_some() && !unit.emits.is_empty());
                let emits: Vec<_> = halves.flat_map(|unit| std::mem::take(&mut unit.emits)).collect();
                batch.appends.extend(emits);
            }
            Wrong::CountsNoAttempt => {
                for unit in units {
                    if matches!(unit.settle, OwnedSettle::Retry { .. }) {
                        unit.settle = OwnedSettle::Defer;
                    }
                }
            }
            Wrong::RetriesAtOnce => {
                for unit in units {
                    if let OwnedSettle::Retry { after, .. } = &mut unit.settle {
                        *after = Duration::ZERO;
                    }
                }
            }
            Wrong::ForgetsTheDead => {
                for unit in units {
                    if matches!(unit.settle, OwnedSettle::Dead { .. }) {
                        unit.settle = OwnedSettle::Done;
                    }
                }
            }
            Wrong::IgnoresExpectations => units.iter_mut().for_each(|unit| unit.expects.clear()),
            Wrong::ExpectsOfTheLogAlone => {
                let reader = self.inner.reader();
                for expects in units.iter_mut().map(|unit| &mut unit.expects) {
                    for expected in std::mem::take(expects) {
                        let mut page = Page::default();
                        let read = reader.history(expected.stream, Version(0), usize::MAX, &mut page).await;
                        read.expect("memory can be read");
                        if page.len() as u64 != expected.version.0 {
                            expects.push(expected);
                        }
                    }
                }
            }
            Wrong::IgnoresRevisions => {
                for projection in units.iter_mut().flat_map(|unit| &mut unit.projections) {
                    let reader = self.inner.reader();
                    let stored = reader.projection(&projection.perspective, &projection.key).await;
                    projection.based_on = stored.expect("memory can be read").map(|stored| stored.revision);
                }
            }
            Wrong::CountsRevisions => {
                for projection in units.iter_mut().flat_map(|unit| &mut unit.projections) {
                    let reader = self.inner.reader();
                    let stored = reader.projection(&projection.perspective, &projection.key).await;
                    let stored = stored.expect("memory can be read").map(|stored| stored.revision);
                    let writes = self.writes.entry(projection.key.clone()).or_default();
                    let count = |revision: Option<Revision>| revision.map(|one| writes.get(&one).copied());
                    // As many writes are as good as the same state.
                    let now = count(stored).flatten().unwrap_or(0);
                    if count(projection.based_on).flatten() == count(stored).flatten() {
                        projection.based_on = stored;
                    }
                    if let Some(state) = &projection.state {
                        writes.insert(Revision::of(state), now + 1);
                    }
                }
            }
            Wrong::SkipsNothing => {
                for (n, unit) in units.iter_mut().enumerate() {
                    if let Some(delivery) = &mut unit.delivery {
                        delivery.lane = whizbang_storage::StreamId::from_key(n.to_string());
                    }
                }
            }
            Wrong::NeverBuries | Wrong::NeverHalts => {
                let joined = match &mut batch.membership {
                    Some(OwnedMembership::Join { subscriptions, .. }) => subscriptions.as_mut_slice(),
                    _ => &mut [],
                };
                for subscription in joined {
                    if self.wrong == Wrong::NeverBuries {
                        subscription.attempts_max = u32::MAX;
                    } else {
                        subscription.on_dead = OnDead::Skip;
                    }
                }
            }
            Wrong::DiscardsWhatIsRequeued => {
                for operation in &mut batch.operations {
                    if let OwnedOperation::Requeue(key) = *operation {
                        *operation = OwnedOperation::Discard(key);
                    }
                }
            }
            Wrong::IgnoresPauses => {
                for operation in &mut batch.operations {
                    if let OwnedOperation::Pause(id) = *operation {
                        *operation = OwnedOperation::Resume(id);
                    }
                }
            }
            Wrong::IgnoresByteLimits => {
                batch.reads.iter_mut().for_each(|read| read.limit.bytes = usize::MAX);
            }
            Wrong::KeepsPartitionsAtALeave => {
                if matches!(batch.membership, Some(OwnedMembership::Leave(_))) {
                    batch.membership = Some(OwnedMembership::Heartbeat);
                }
            }
            Wrong::CountsWhatWasNotRunning => {
                if let Some(OwnedMembership::Release(releases)) = &mut batch.membership {
                    for (partition, _, running) in releases {
                        let all = self.through.iter().filter(|((_, of), _)| of == partition);
                        running.extend(all.flat_map(|((subscription, partition), (_, last))| {
                            (1..=last.0).map(|position| whizbang_storage::Running {
                                subscription: *subscription,
                                partition: *partition,
                                position: Position(position),
                            })
                        }));
                    }
                }
            }
            Wrong::TrimsUnsettledWork if batch.housekeeping.is_some() => {
                let all = self.through.iter();
                batch.settled.extend(all.map(|((subscription, partition), (epoch, last))| {
                    whizbang_storage::Settled {
                        subscription: *subscription,
                        partition: *partition,
                        epoch: *epoch,
                        first: Position(1),
                        last: *last,
                    }
                }));
            }
            Wrong::LosesTheSetAboveLow => {
                // What is done out of order is not written; it is answered as if it were.
                batch.units.retain(|unit| self.is_next(unit));
            }
            _ => {}
        }
    }

    fn is_next(&mut self, unit: &OwnedUnit) -> bool {
        let Some(delivery) = unit.delivery else {
            return true;
        };
        let low = self.low.entry((delivery.subscription, delivery.partition)).or_default();
        let next = delivery.position == low.next();
        if next {
            *low = delivery.position;
        }
        next || delivery.attempt > 1
    }

    /// Changes what is answered.
    fn answer(&mut self, asked: &OwnedBatch, answer: &mut Answer) {
        if let Some(told) = &mut answer.membership {
            self.epochs = told.owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
            if self.wrong == Wrong::AsksNobodyToGiveBack {
                told.give_back = 0;
            }
        }
        for (read, found) in asked.reads.iter().zip(&answer.reads) {
            if let ReadAnswer::Messages { through, .. } = found {
                self.through.insert((read.subscription, read.partition), (read.epoch, *through));
            }
        }
        answer.settled.truncate(asked.settled.len());
        answer.appends.truncate(asked.appends.len());
        match self.wrong {
            Wrong::LosesTheSetAboveLow => {
                let emits = 0..0;
                answer.units.resize(asked.units.len(), UnitAnswer::Applied { emits });
            }
            Wrong::LooksPastALimit => {
                for (read, found) in asked.reads.iter().zip(&mut answer.reads) {
                    if let ReadAnswer::Messages { messages, through } = found
                        && messages.len() == read.limit.messages
                    {
                        *through = through.next();
                    }
                }
            }
            Wrong::LooksPastItsOwnAppends => {
                let page = &answer.page;
                let is_own = |at: usize| {
                    page.get(at).is_some_and(|got| asked.appends.iter().any(|own| own.id == got.id))
                };
                for found in &mut answer.reads {
                    if let ReadAnswer::Messages { messages, .. } = found
                        && !is_own(messages.start)
                    {
                        messages.end = messages.clone().find(|at| is_own(*at)).unwrap_or(messages.end);
                    }
                }
            }
            Wrong::SaysEveryLaneIsFree => {
                (0..answer.page.len()).for_each(|index| answer.page.set_lane(index, LaneState::Free));
            }
            Wrong::ReversesItsAnswers => answer.appends.reverse(),
            Wrong::IgnoresPauses => {
                for (operation, done) in asked.operations.iter().zip(&mut answer.operations) {
                    if matches!(operation, OwnedOperation::Pause(_)) {
                        *done = OperationAnswer::Done;
                    }
                }
            }
            Wrong::ForgetsVersions => {
                for stored in &mut answer.appends {
                    if let AppendAnswer::Stored { version, .. } = stored {
                        *version = None;
                    }
                }
            }
            Wrong::HandsOutNowToOne => {
                for (append, stored) in asked.appends.iter().zip(&mut answer.appends) {
                    if let AppendAnswer::Stored { handed_out, .. } = stored {
                        *handed_out = append.hand_out == whizbang_storage::HandOut::Now;
                    }
                }
            }
            _ => {}
        }
    }
}

impl WorkStore for WrongStore {
    type Reader = <MemoryStore as WorkStore>::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let asked = OwnedBatch::from(batch);
        let mut sent = asked.clone();
        let is_repeat = self.last.as_ref().is_some_and(|(number, _)| *number == batch.from.number);
        if !is_repeat {
            self.ask(&mut sent).await;
        }
        match self.wrong {
            Wrong::CountsARepeatTwice | Wrong::TakesAnyNumber => {
                // Only real numbers are counted, so that joining and leaving work.
                let any = self.wrong == Wrong::TakesAnyNumber && !is_repeat;
                let twice = self.wrong == Wrong::CountsARepeatTwice && is_repeat;
                if any || twice || batch.from.number > self.number {
                    sent.from.number = self.number + 1;
                }
            }
            _ => {}
        }
        if is_repeat && !matches!(self.wrong, Wrong::CountsARepeatTwice) {
            // What was sent the first time, so that the digest is the same.
            self.ask(&mut sent).await;
        }
        let done = sent.send_to(&mut self.inner, answer).await;
        if done.is_ok() {
            self.number = self.number.max(sent.from.number);
            if self.wrong == Wrong::GivesWorkToTheEvicted
                && answer.evicted
                && let Some((_, last)) = &self.last
            {
                answer.clone_from(last);
                answer.evicted = true;
            }
            self.answer(&asked, answer);
            self.last = Some((batch.from.number, answer.clone()));
        }
        done
    }

    fn reader(&self) -> Self::Reader {
        self.inner.reader()
    }

    fn service(&self) -> &Service {
        self.inner.service()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.inner.on_hint(hint);
    }
}

struct WrongFixture(MemoryDatabase);

impl Fixture for WrongFixture {
    type Store = WrongStore;

    async fn fresh(clock: TestClock) -> Self {
        Self(match WRONG.get() {
            Wrong::EvictsByAnotherClock => MemoryDatabase::with_clock(Arc::new(SystemClock)),
            _ => MemoryDatabase::with_clock(Arc::new(clock)),
        })
    }

    async fn open(&self, mut service: Service) -> Result<WrongStore, OpenError> {
        let wrong = WRONG.get();
        if wrong == Wrong::IgnoresTheWindow {
            service.window = u32::MAX;
        }
        Ok(WrongStore {
            inner: self.0.open(service)?,
            wrong,
            epochs: BTreeMap::new(),
            low: BTreeMap::new(),
            through: BTreeMap::new(),
            writes: BTreeMap::new(),
            last: None,
            number: 0,
        })
    }

    async fn crash(&mut self, stores: Vec<WrongStore>) {
        drop(stores);
    }
}

/// Runs a case against a store; where it failed, if it did.
fn fails(wrong: Wrong, case: fn()) -> Option<String> {
    WRONG.set(wrong);
    FAILED_AT.take();
    let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
    WRONG.set(Wrong::Nothing);
    (!passed).then(|| FAILED_AT.take())
}

thread_local! {
    static FAILED_AT: Cell<String> = const { Cell::new(String::new()) };
}

/// The panics are what is wanted here: they need not be printed, but where they come from is told.
fn listen_to_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        FAILED_AT.set(at);
    }));
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
};

#[test]
fn every_wrong_store_is_caught_by_the_case_made_for_it() {
    let loud = std::panic::take_hook();
    listen_to_panics();
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
    std::panic::set_hook(loud);
    assert!(strict.is_empty(), "the wrapped honest store fails {strict:?}");
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
    assert!(elsewhere.is_empty(), "caught by a panic that is not the case's: {elsewhere:?}");
}

#[test]
fn no_wrong_store_is_so_broken_that_any_case_would_do() {
    for (wrong, _, _) in CAUGHT {
        let simple: fn() =
            || internal::run(appending::s33_an_empty_batch_is_a_number_and_no_more::<WrongFixture>());
        assert_eq!(fails(*wrong, simple), None, "{wrong:?}");
    }
}
