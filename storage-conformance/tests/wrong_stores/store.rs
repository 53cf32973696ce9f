//! A store that is wrong in one way: what it changes in what is asked, and in what is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use whizbang_storage::{
    Answer, AppendAnswer, Clock, Condition, Epoch, HandOut, LaneState, MemoryStore, NotApplied, OnDead,
    OperationAnswer, Page, Partition, Position, ReadAnswer, Revision, Running, Settled, StartAt, StoreError,
    StoreReader, StreamId, SubscriptionId, TestClock, Timestamp, UnitAnswer, Version, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{
    Between, OwnedBatch, OwnedMembership, OwnedOperation, OwnedSettle, OwnedUnit,
};

use crate::Wrong;
use crate::fixture::{Trouble, Troubles};

/// What makes a store wrong.
pub(crate) struct Wrongly {
    wrong: Wrong,
    troubles: Arc<Troubles>,
    clock: TestClock,
    // The instant of the last call.
    called: Timestamp,
    // What the wrapper must know to be wrong.
    heartbeats: u64,
    owned: BTreeSet<Partition>,
    epochs: BTreeMap<Partition, Epoch>,
    low: BTreeMap<(SubscriptionId, Partition), Position>,
    through: BTreeMap<(SubscriptionId, Partition), (Epoch, Position)>,
    // How often a projection was written since it was made, when it was at each of its revisions.
    writes: BTreeMap<Vec<u8>, BTreeMap<Revision, u64>>,
    last: Option<(u64, Answer)>,
    number: u64,
}

impl Wrongly {
    pub(crate) fn new(wrong: Wrong, troubles: Arc<Troubles>, clock: TestClock) -> Self {
        Self {
            wrong,
            troubles,
            called: clock.now(),
            clock,
            heartbeats: 0,
            owned: BTreeSet::new(),
            epochs: BTreeMap::new(),
            low: BTreeMap::new(),
            through: BTreeMap::new(),
            writes: BTreeMap::new(),
            last: None,
            number: 0,
        }
    }

    /// Changes what is asked; what of it the store must not hear is answered later, by [`answer`](Self::answer).
    async fn ask(&mut self, store: &MemoryStore, batch: &mut OwnedBatch) {
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
                let reader = store.reader();
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
                    let reader = store.reader();
                    let stored = reader.projection(&projection.perspective, &projection.key).await;
                    projection.based_on = stored.expect("memory can be read").map(|stored| stored.revision);
                }
            }
            Wrong::CountsRevisions => {
                for projection in units.iter_mut().flat_map(|unit| &mut unit.projections) {
                    let reader = store.reader();
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
                        delivery.lane = StreamId::from_key(n.to_string());
                    }
                }
            }
            Wrong::NeverBuries | Wrong::NeverHalts | Wrong::StartsEverybodyAtTheFirst => {
                let joined = match &mut batch.membership {
                    Some(OwnedMembership::Join { subscriptions, .. }) => subscriptions.as_mut_slice(),
                    _ => &mut [],
                };
                for subscription in joined {
                    match self.wrong {
                        Wrong::NeverBuries => subscription.attempts_max = u32::MAX,
                        Wrong::NeverHalts => subscription.on_dead = OnDead::Skip,
                        _ => subscription.start = StartAt::First,
                    }
                }
                for operation in &mut batch.operations {
                    if let (OwnedOperation::Register { subscription, .. }, Wrong::StartsEverybodyAtTheFirst) =
                        (operation, self.wrong)
                    {
                        subscription.start = StartAt::First;
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
                            (1..=last.0).map(|position| Running {
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
                batch.settled.extend(all.map(|((subscription, partition), (epoch, last))| Settled {
                    subscription: *subscription,
                    partition: *partition,
                    epoch: *epoch,
                    first: Position(1),
                    last: *last,
                }));
            }
            Wrong::IgnoresTheArrivalLimit => batch.arrivals = batch.arrivals.map(|_| usize::MAX),
            Wrong::NeverHandsOutAtOnce => {
                batch.appends.iter_mut().for_each(|append| append.hand_out = HandOut::Later);
            }
            Wrong::TellsMembershipUnasked => {
                batch.membership.get_or_insert(OwnedMembership::Heartbeat);
            }
            Wrong::TakesAnyProcess => batch.from.start_token = 0x5EED,
            Wrong::PutsEverybodyInAGroup => {
                if let Some(OwnedMembership::Join { group, .. }) = &mut batch.membership {
                    group.get_or_insert_with(|| "group".to_owned());
                }
            }
            Wrong::HandsOutOnce => {
                for read in &mut batch.reads {
                    let given = self.through.get(&(read.subscription, read.partition));
                    read.after = read.after.max(given.map_or(Position(0), |(_, through)| *through));
                }
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
        let is_unasked = asked.membership.is_none();
        if let Some(told) = &mut answer.membership
            && !is_unasked
        {
            self.epochs = told.owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
            let taken = told.owned.iter().filter(|owned| !self.owned.contains(&owned.partition));
            let suspects: u64 = taken.clone().map(|owned| owned.head.0).sum();
            self.troubles.writes(if self.wrong == Wrong::WritesARowPerSuspect {
                suspects
            } else {
                taken.count() as u64
            });
            self.owned = told.owned.iter().map(|owned| owned.partition).collect();
            let went_back = self.clock.now() < self.called;
            match self.wrong {
                Wrong::AsksNobodyToGiveBack => told.give_back = 0,
                Wrong::KeepsOnePartition => drop(told.owned.pop()),
                Wrong::GrowsEpochsAtHeartbeats => {
                    self.heartbeats += 1;
                    told.owned.iter_mut().for_each(|owned| owned.epoch.0 += self.heartbeats - 1);
                }
                Wrong::TakesABackwardClockForSilence if went_back => told.alive = 1,
                _ => {}
            }
        }
        for (read, found) in asked.reads.iter().zip(&answer.reads) {
            if let ReadAnswer::Messages { through, .. } = found {
                self.through.insert((read.subscription, read.partition), (read.epoch, *through));
            }
        }
        let written = answer.units.len() + answer.settled.len() + answer.appends.len() + answer.moved.len();
        self.troubles.writes(written as u64);
        if self.wrong == Wrong::WritesARowPerRead {
            self.troubles.writes(asked.reads.len() as u64);
        }
        answer.settled.truncate(asked.settled.len());
        answer.appends.truncate(asked.appends.len());
        match self.wrong {
            Wrong::LosesTheSetAboveLow => {
                let emits = 0..0;
                answer.units.resize(asked.units.len(), UnitAnswer::Applied { emits });
            }
            Wrong::LooksPastTheHead => {
                for found in &mut answer.reads {
                    if let ReadAnswer::Messages { through, .. } = found {
                        *through = through.next();
                    }
                }
            }
            Wrong::SaysItTrimmed => answer.removed = asked.housekeeping.unwrap_or(0),
            Wrong::CountsPositionsFromZero => {
                for stored in &mut answer.appends {
                    if let AppendAnswer::Stored { position, .. } = stored {
                        position.0 -= 1;
                    }
                }
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
                        *handed_out = append.hand_out == HandOut::Now;
                    }
                }
            }
            _ => {}
        }
    }
}

impl Between<MemoryStore> for Wrongly {
    async fn process(
        &mut self,
        store: &mut MemoryStore,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let trouble = self.troubles.take();
        let is_repeat = self.last.as_ref().is_some_and(|(number, _)| *number == batch.from.number);
        if let Some(refused) = self.meets(trouble, is_repeat, batch) {
            answer.clear();
            return refused;
        }
        let asked = OwnedBatch::from(batch);
        let mut sent = asked.clone();
        if !is_repeat {
            self.ask(store, &mut sent).await;
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
            self.ask(store, &mut sent).await;
        }
        sent.send_to(store, answer).await?;
        self.number = self.number.max(sent.from.number);
        if self.wrong == Wrong::GivesWorkToTheEvicted
            && answer.evicted
            && let Some((_, last)) = &self.last
        {
            answer.clone_from(last);
            answer.evicted = true;
        }
        self.answer(&asked, answer);
        self.damage(answer)?;
        self.called = self.clock.now();
        self.last = Some((batch.from.number, answer.clone()));
        match trouble {
            Some(Trouble::Cut) => Err(StoreError::Unknown("the answer is lost".into())),
            _ => Ok(()),
        }
    }
}

impl Wrongly {
    /// What a database in trouble says, if it says so before anything else.
    fn meets(
        &self,
        trouble: Option<Trouble>,
        is_repeat: bool,
        batch: &WorkBatch<'_>,
    ) -> Option<Result<(), StoreError>> {
        let refuses = |why: NotApplied| Some(Err(why.into()));
        match trouble {
            Some(Trouble::Held) if self.wrong == Wrong::AnswersWhileItIsBusy => Some(Ok(())),
            Some(Trouble::Held) if is_repeat && self.wrong != Wrong::DeniesWhatItCommitted => {
                Some(Err(StoreError::Unknown("held".into())))
            }
            Some(Trouble::Held) => refuses(NotApplied::Busy("held".into())),
            Some(Trouble::Full) if self.wrong == Wrong::SaysFullIsBroken => {
                refuses(NotApplied::Failed("full".into()))
            }
            Some(Trouble::Full) => refuses(NotApplied::Full("full".into())),
            Some(Trouble::Conflict) if self.wrong == Wrong::TellsOfDeadlocks => {
                refuses(NotApplied::Failed("deadlock".into()))
            }
            Some(Trouble::Open) if self.wrong == Wrong::HoldsOthersUp => {
                refuses(NotApplied::Busy("somebody has a transaction open".into()))
            }
            _ if self.wrong == Wrong::RefusesEverything && !batch.appends.is_empty() => {
                refuses(NotApplied::Failed("no".into()))
            }
            _ => None,
        }
    }

    /// Messages whose row is damaged come back as that.
    fn damage(&self, answer: &mut Answer) -> Result<(), StoreError> {
        let damaged = self.troubles.damaged();
        if !answer.page.iter().any(|got| damaged.contains(&(got.partition, got.position))) {
            return Ok(());
        }
        if self.wrong == Wrong::FailsAtADamagedRow {
            return Err(NotApplied::Failed("a row cannot be read".into()).into());
        }
        let mut page = Page::default();
        for mut got in answer.page.iter() {
            if damaged.contains(&(got.partition, got.position)) {
                (got.condition, got.payload) = (Condition::Damaged, b"");
            }
            page.push(&got);
        }
        answer.page = page;
        Ok(())
    }
}
