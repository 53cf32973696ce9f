//! Defects that the engine or the store can be given by name, to see that the simulation finds them.
//!
//! Those of the engine are `host::is_planted("…")` at the line that would be wrong; the names stand there. Those of the store
//! change, in a wrapper, what it is asked or what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use whizbang_storage::{
    Answer, AppendAnswer, Epoch, InstanceId, LaneState, OnDead, Owned, Page, Partition, ReadAnswer,
    SettledAnswer, StoreError, StoreReader, StreamId, UnitAnswer, Version, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{Between, OwnedBatch, OwnedMembership, OwnedOperation, OwnedSettle};

use crate::clock::RunClock;

/// A defect and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect {
    /// How it is switched on.
    pub name: &'static str,
    /// What is wrong then.
    pub what: &'static str,
}

/// The defect of this name.
pub fn find(name: &str) -> Option<Defect> {
    DEFECTS.iter().copied().find(|defect| defect.name == name)
}

macro_rules! defects {
    ($($name:literal: $what:literal,)*) => {
        /// All of them.
        pub const DEFECTS: &[Defect] = &[$(Defect { name: $name, what: $what }),*];
    };
}

defects! {
    // In the engine.
    "keeps-its-generation": "a worker does not count that a lane was set back",
    "sends-what-was-set-back": "the pump sends units that were produced before their lane was set back",
    "takes-a-conflict-for-done": "a unit in conflict counts as settled",
    "uses-a-stale-handler": "what a handler returns is used although its lane was set back",
    "runs-past-a-retry": "what follows a parked message in its lane is not deferred",
    "goes-on-in-a-broken-run": "when one of a run of parked work fails, those behind it are handled",
    "forgets-what-was-detached": "the end of a handler that ran long is not noticed",
    "buries-too-early": "a message dies one attempt before its cap",
    "takes-an-error-for-an-answer": "a lost answer counts as one",
    "forgets-what-was-too-large": "settled positions of a batch that was too large are dropped",
    "wakes-nobody": "nobody is told that a ring has moved",
    "leaves-what-it-accepted": "an engine stops with messages in its ring",
    "releases-at-once": "a partition is given back while handlers run in it",
    "keeps-a-rebirth-to-itself": "workers are not told that their instance was evicted",
    "keeps-what-was-given-away": "workers are not told that a partition is somebody else's",
    "drops-what-was-refused": "a batch that the store has refused counts as answered",
    "takes-the-unknown-for-done": "a message of a type that the instance does not know is settled as if it was handled",
    "forgets-what-was-expected": "what a unit expects of a stream is not sent with it",
    "runs-past-the-dead": "what follows a dead message of its lane and was handed out with it is handled",
    "begins-past-the-cap": "a message is begun although it had all its attempts, because they were cut off",
    "replays-beside-what-runs-on": "a requeued message runs beside a later one of its stream that runs long",
    "reads-on-at-the-head": "after a read the flow goes on at the head, not where the read ended",
    "spins-at-a-full-window": "a read that found nothing is repeated at once",
    "hands-out-without-end": "what is in flight is not counted before more is asked for",
    // These it had, until the simulation found them.
    "lets-emits-overtake-a-retry": "what is emitted beside a retry of its lane is handed out before it",
    "repeats-what-was-detached": "a message that was detached and has ended runs twice after a set-back",
    "forgets-what-is-parked": "after a set-back, what was handed out earlier runs past what was parked since",
    "parks-what-runs-ahead": "a hand-over parks a handler that runs ahead of unsettled work of its lane",
    // In the store.
    "store-counts-a-repeat-twice": "a repeated batch is applied again",
    "store-forgets-settled": "some settled ranges are answered and not written",
    "store-forgets-appends": "some messages are answered and not written",
    "store-gives-a-repeat-no-work": "the answer to a repeated batch has no messages",
    "store-ignores-revisions": "a projection is overwritten whatever it was computed from",
    "store-skips-nothing": "what follows a unit in conflict is applied",
    "store-half-applies-a-unit": "what a unit emits is stored although the unit is not",
    "store-forgets-dedup": "keys are not remembered",
    "store-ignores-schedules": "scheduled messages come at once",
    "store-counts-no-attempt": "a retry is not counted",
    "store-says-every-lane-is-free": "what waits behind a parked message is not marked",
    "store-asks-nobody-to-give-back": "who holds more than its share keeps it",
    "store-counts-the-unroutable": "a message that its instance does not know counts an attempt, and comes again",
    "store-ignores-expectations": "a unit is applied wherever the streams stand that it expects something of",
    "store-expects-of-the-log-alone": "what a unit expects of a stream is compared without what has arrived for it",
    "store-skips-the-dead": "a stream goes on although its subscription halts at dead messages",
    "store-discards-what-is-requeued": "a dead letter that is requeued is discarded",
    "store-schedules-by-the-callers-clock": "a schedule is an instant of its sender's clock",
    "store-evicts-by-the-callers-clock": "who is silent is decided by the clock of whoever calls",
    "store-keeps-its-epochs": "who gets a partition after another is told the other's epoch",
    "store-tells-two-owners": "who asks is told that it also owns a partition of another",
    "store-drops-due-work": "the last message of the due work is marked as handed out and not given",
}

/// Gives a store the defect of this run, if it is one of the store.
pub(crate) struct Wrong {
    clock: RunClock,
    defect: &'static str,
    random: fastrand::Rng,
    /// Of each instance: its last number that was answered, and the number under which that went on.
    numbers: BTreeMap<InstanceId, (u64, u64)>,
}

impl Wrong {
    pub(crate) fn new(clock: RunClock, seed: u64, planted: Option<Defect>) -> Self {
        let defect = planted.map_or("", |defect| defect.name);
        let defect = if defect.starts_with("store-") { defect } else { "" };
        let random = fastrand::Rng::with_seed(seed);
        Self { clock, defect, random, numbers: BTreeMap::new() }
    }
}

impl Wrong {
    async fn ask<S: WorkStore>(&mut self, store: &S, batch: &mut OwnedBatch) {
        let units = &mut batch.units;
        match self.defect {
            "store-forgets-settled" if self.random.u32(0..4) == 0 => batch.settled.clear(),
            "store-forgets-appends" if self.random.u32(0..4) == 0 => batch.appends.clear(),
            "store-forgets-dedup" => {
                units.iter_mut().flat_map(|unit| &mut unit.emits).for_each(|m| m.dedup = None)
            }
            "store-ignores-schedules" => {
                units.iter_mut().flat_map(|unit| &mut unit.emits).for_each(|m| m.due_in = None);
            }
            "store-half-applies-a-unit" => {
                let halves = units.iter_mut().filter(|unit| unit.delivery.is_some());
                let emits: Vec<_> = halves.flat_map(|unit| std::mem::take(&mut unit.emits)).collect();
                batch.appends.extend(emits);
            }
            "store-counts-no-attempt" => {
                let retries =
                    units.iter_mut().filter(|unit| matches!(unit.settle, OwnedSettle::Retry { .. }));
                retries.for_each(|unit| unit.settle = OwnedSettle::Defer);
            }
            "store-ignores-revisions" => {
                for projection in units.iter_mut().flat_map(|unit| &mut unit.projections) {
                    let stored = store.reader().projection(&projection.perspective, &projection.key).await;
                    projection.based_on = stored.ok().flatten().map(|stored| stored.revision);
                }
            }
            "store-counts-the-unroutable" => {
                let unroutable = units.iter_mut().filter(|unit| unit.settle == OwnedSettle::Unroutable);
                let (after, error) = (Duration::from_millis(5), "nobody knows it".to_owned());
                unroutable.for_each(|unit| {
                    unit.settle = OwnedSettle::Retry { after, error: error.clone() };
                });
            }
            "store-ignores-expectations" => units.iter_mut().for_each(|unit| unit.expects.clear()),
            "store-expects-of-the-log-alone" => {
                for unit in units {
                    let mut kept = Vec::new();
                    for expected in std::mem::take(&mut unit.expects) {
                        let mut page = Page::default();
                        let reader = store.reader();
                        let read = reader.history(expected.stream, Version(0), usize::MAX, &mut page).await;
                        if read.is_err() || page.len() as u64 != expected.version.0 {
                            kept.push(expected);
                        }
                    }
                    unit.expects = kept;
                }
            }
            "store-skips-the-dead" => {
                if let Some(OwnedMembership::Join { subscriptions, .. }) = &mut batch.membership {
                    subscriptions.iter_mut().for_each(|of| of.on_dead = OnDead::Skip);
                }
            }
            "store-discards-what-is-requeued" => {
                for operation in &mut batch.operations {
                    if let OwnedOperation::Requeue(key) = operation {
                        *operation = OwnedOperation::Discard(*key);
                    }
                }
            }
            "store-schedules-by-the-callers-clock" => {
                let ahead = self.clock.ahead();
                for due_in in
                    units.iter_mut().flat_map(|unit| &mut unit.emits).filter_map(|m| m.due_in.as_mut())
                {
                    let by = Duration::from_micros(ahead.unsigned_abs());
                    *due_in = if ahead < 0 { *due_in + by } else { due_in.saturating_sub(by) };
                }
            }
            "store-skips-nothing" => {
                for (n, unit) in units.iter_mut().enumerate() {
                    if let Some(delivery) = &mut unit.delivery {
                        delivery.lane = StreamId::from_key(n.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    /// Brings the answer to what was asked in line with the batch that the caller knows.
    fn answer(&mut self, asked: &WorkBatch<'_>, is_repeat: bool, answer: &mut Answer) {
        match self.defect {
            "store-forgets-settled" => answer.settled.resize(asked.settled.len(), SettledAnswer::Applied),
            "store-forgets-appends" => answer.appends.resize(asked.appends.len(), AppendAnswer::Arrived),
            "store-half-applies-a-unit" => {
                let mut rest = answer.appends.split_off(asked.appends.len()).into_iter();
                let own: Vec<_> = std::mem::take(&mut answer.emits);
                for (unit, answered) in asked.units.iter().zip(&mut answer.units) {
                    let from = answer.emits.len();
                    match (unit.delivery, &answered) {
                        (Some(_), _) => answer.emits.extend(rest.by_ref().take(unit.emits.len())),
                        (None, UnitAnswer::Applied { emits }) => answer.emits.extend(&own[emits.clone()]),
                        (None, _) => {}
                    }
                    if let UnitAnswer::Applied { emits } = answered {
                        *emits = from..answer.emits.len();
                    }
                }
            }
            "store-gives-a-repeat-no-work" if is_repeat => {
                for read in &mut answer.reads {
                    if let ReadAnswer::Messages { messages, .. } = read {
                        *messages = 0..0;
                    }
                }
                answer.due = 0..0;
                answer.page.clear();
            }
            "store-says-every-lane-is-free" => {
                (0..answer.page.len()).for_each(|index| answer.page.set_lane(index, LaneState::Free));
            }
            "store-asks-nobody-to-give-back" => {
                if let Some(membership) = &mut answer.membership {
                    membership.give_back = 0;
                }
            }
            "store-keeps-its-epochs" => {
                if let Some(membership) = &mut answer.membership {
                    membership.owned.iter_mut().for_each(|owned| owned.epoch = Epoch(1));
                }
            }
            "store-tells-two-owners" => {
                if let Some(membership) = &mut answer.membership
                    && let Some(own) = membership.owned.first().cloned()
                    && own.partition.0 > 0
                {
                    membership.owned.insert(0, Owned { partition: Partition(0), epoch: Epoch(1), ..own });
                }
            }
            "store-drops-due-work" if !answer.due.is_empty() => answer.due.end -= 1,
            _ => {}
        }
    }

    /// Whether this instance's last number comes again; and the number under which the batch is to go on.
    fn number(&mut self, batch: &OwnedBatch) -> (bool, u64) {
        let number = batch.from.number;
        let (last, went_on) = self.numbers.get(&batch.from.instance).copied().unwrap_or_default();
        let is_repeat = number == last;
        let renumbers = self.defect == "store-counts-a-repeat-twice";
        let stays = !matches!(batch.membership, None | Some(OwnedMembership::Heartbeat));
        let as_number = match () {
            () if !renumbers || number < last => number,
            () if is_repeat && stays => went_on,
            () => went_on + 1,
        };
        (is_repeat, as_number)
    }
}

impl<S: WorkStore> Between<S> for Wrong {
    async fn process(
        &mut self,
        store: &mut S,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        if self.defect.is_empty() {
            return store.process_work_batch(batch, answer).await;
        }
        let mut asked = OwnedBatch::from(batch);
        let number = batch.from.number;
        let (is_repeat, as_number) = self.number(&asked);
        asked.from.number = as_number;
        // What is changed is changed alike when it comes again, or the store would notice.
        self.random.seed(number);
        self.ask(store, &mut asked).await;
        let done = asked.send_to(store, answer).await;
        if done.is_ok() {
            self.numbers.insert(batch.from.instance, (number, as_number));
            self.answer(batch, is_repeat, answer);
        }
        done
    }
}
