//! Two databases side by side, and the processes that do the same to both.

use std::collections::BTreeMap;
use std::time::Duration;

use whizbang_storage::{
    Answer, AppendAnswer, DeadLetter, DeadReason, Delivery, Epoch, Expected, LaneState, Limit, OnDead,
    OperationAnswer, Origin, Partition, Position, ReadAnswer, Revision, Running, Sender, Service, Settled,
    SettledAnswer, StartAt, Statistics, StoreError, StoreReader, StreamId, SubscriptionId, TestClock,
    UnitAnswer, Version, WorkStore,
};

use super::Reached;
use super::generate::{Part, Step};
use crate::{
    Fixture, Got, Message, OwnedBatch, OwnedMembership, OwnedOperation, OwnedProjection, OwnedSettle,
    OwnedSubscription, OwnedUnit, Seen, sender, stream_in,
};

const PARTITIONS: u32 = 2;
const PROCESSES_MAX: usize = 4;
const NAMES: [&str; 4] = ["all", "halt", "late", "end"];

/// Two databases with the same history.
pub(super) struct Pair<A: Fixture, B: Fixture> {
    first: Side<A>,
    second: Side<B>,
    service: Service,
    processes: Vec<Process<A, B>>,
    subscriptions: Vec<SubscriptionId>,
    letters: Vec<DeadLetter>,
    messages: u64,
    instances: u32,
}

struct Side<F: Fixture> {
    fixture: F,
    clock: TestClock,
}

struct Process<A: Fixture, B: Fixture> {
    first: A::Store,
    second: B::Store,
    from: Sender,
    // As the first store told it.
    owned: BTreeMap<Partition, Epoch>,
    places: BTreeMap<(SubscriptionId, Partition), Position>,
    got: Vec<Delivery>,
    stale: Vec<Delivery>,
    sent: Vec<OwnedBatch>,
    refusals: u32,
}

/// What both must have in common after a step.
#[derive(Debug, PartialEq)]
struct Contents {
    statistics: Statistics,
    letters: Vec<DeadLetter>,
    projections: Vec<whizbang_storage::ProjectionState>,
    histories: Vec<Vec<Got>>,
}

type Differs = (String, String);

impl<A: Fixture, B: Fixture> Pair<A, B> {
    pub(super) async fn new(seed: u64) -> Self {
        let service = Service {
            partitions: PARTITIONS,
            window: 6,
            dedup_retention: Duration::from_secs(30),
            event_retention: seed.is_multiple_of(3).then(|| Duration::from_secs(20)),
            unroutable_after: Duration::from_secs(15),
            ..Service::named("differential")
        };
        Self {
            first: Side::new().await,
            second: Side::new().await,
            service,
            processes: Vec::new(),
            subscriptions: Vec::new(),
            letters: Vec::new(),
            messages: 0,
            instances: 0,
        }
    }

    /// Does one step to both.
    pub(super) async fn step(&mut self, step: &Step, reached: &mut Reached) -> Result<(), Differs> {
        match step {
            Step::Join { group, knows } => self.join(*group, *knows, reached).await?,
            Step::Tick(ms) => self.clocks(|clock| clock.advance(Duration::from_millis(u64::from(*ms)))),
            // Ages of events by a clock that went back are nobody's business.
            Step::TickBack(_) if self.service.event_retention.is_some() => {}
            Step::TickBack(ms) => self.clocks(|clock| clock.set_back(Duration::from_millis(u64::from(*ms)))),
            Step::Reopen => {
                for process in std::mem::take(&mut self.processes) {
                    self.kill(process).await;
                }
            }
            Step::Kill { who } => {
                if let Some(index) = self.index(*who) {
                    let process = self.processes.swap_remove(index);
                    self.kill(process).await;
                }
            }
            Step::Outlive { who } => self.outlive(*who, reached).await?,
            Step::Repeat { who } => self.again(*who, 1, |_| {}, reached).await?,
            Step::Replay { who, ago } => self.again(*who, 1 + usize::from(*ago), |_| {}, reached).await?,
            Step::Another { who } => {
                self.again(*who, 1, |batch| batch.appends.push(Message::command(0)), reached)
                    .await?
            }
            Step::Batch { who, parts } => {
                if let Some(index) = self.index(*who) {
                    let batch = self.batch(index, parts);
                    self.exchange(index, batch, reached).await?;
                }
            }
        }
        self.compare(reached).await
    }

    fn index(&self, who: u8) -> Option<usize> {
        (!self.processes.is_empty()).then(|| usize::from(who) % self.processes.len())
    }

    fn clocks(&self, mut turn: impl FnMut(&TestClock)) {
        turn(&self.first.clock);
        turn(&self.second.clock);
    }

    async fn kill(&mut self, process: Process<A, B>) {
        self.first.fixture.crash(vec![process.first]).await;
        self.second.fixture.crash(vec![process.second]).await;
    }

    async fn join(&mut self, group: u8, knows: u8, reached: &mut Reached) -> Result<(), Differs> {
        if self.processes.len() == PROCESSES_MAX {
            return Ok(());
        }
        self.instances += 1;
        let from = sender(self.instances);
        let process = Process {
            first: self
                .first
                .fixture
                .open(self.service.clone())
                .await
                .expect("the first opens"),
            second: self
                .second
                .fixture
                .open(self.service.clone())
                .await
                .expect("the second opens"),
            from: Sender { number: 0, ..from },
            owned: BTreeMap::new(),
            places: BTreeMap::new(),
            got: Vec::new(),
            stale: Vec::new(),
            sent: Vec::new(),
            refusals: 0,
        };
        self.processes.push(process);
        let index = self.processes.len() - 1;
        let group = match group {
            0..=6 => Some("group".to_owned()),
            7 | 8 => Some("second".to_owned()),
            _ => None,
        };
        let mut types = vec![("test.command".to_owned(), 1), ("test.event".to_owned(), 1)];
        if knows == 0 {
            types.push(("test.new".to_owned(), 2));
        }
        let mut batch = OwnedBatch::empty(Sender { number: 1, ..from });
        batch.membership = Some(OwnedMembership::Join {
            group,
            subscriptions: vec![spec(0), spec(1)],
            types,
        });
        self.exchange(index, batch, reached).await
    }

    /// Only one process shows signs of life until all others may be evicted.
    async fn outlive(&mut self, who: u8, reached: &mut Reached) -> Result<(), Differs> {
        for _ in 0..5 {
            let Some(index) = self.index(who) else {
                return Ok(());
            };
            let batch = self.batch(index, &[Part::Heartbeat]);
            self.exchange(index, batch, reached).await?;
            self.clocks(|clock| clock.advance(Duration::from_millis(2_500)));
        }
        Ok(())
    }

    /// Sends a batch and takes note of its answer; a process that is told often enough that it was evicted ends.
    async fn exchange(
        &mut self,
        index: usize,
        batch: OwnedBatch,
        reached: &mut Reached,
    ) -> Result<(), Differs> {
        let seen = self.send(index, &batch, reached).await?;
        let Some(seen) = seen else {
            self.processes[index].refusals += 1;
            if self.processes[index].refusals > 1 {
                let process = self.processes.remove(index);
                self.kill(process).await;
            }
            return Ok(());
        };
        self.learn(index, &batch, &seen);
        self.processes[index].sent.push(batch);
        Ok(())
    }

    /// Sends an old batch of a process again, changed or not.
    async fn again(
        &mut self,
        who: u8,
        ago: usize,
        change: impl FnOnce(&mut OwnedBatch),
        reached: &mut Reached,
    ) -> Result<(), Differs> {
        let Some(index) = self.index(who) else {
            return Ok(());
        };
        let process = &self.processes[index];
        let Some(at) = process.sent.len().checked_sub(ago) else {
            return Ok(());
        };
        let mut batch = process.sent[at].clone();
        change(&mut batch);
        self.send(index, &batch, reached).await.map(drop)
    }

    /// Sends a batch to both stores; what both answered, or that both refused.
    async fn send(
        &mut self,
        index: usize,
        batch: &OwnedBatch,
        reached: &mut Reached,
    ) -> Result<Option<Seen>, Differs> {
        let process = &mut self.processes[index];
        let (mut one, mut two) = (Answer::default(), Answer::default());
        let first = outcome(batch.send_to(&mut process.first, &mut one).await, &one);
        let second = outcome(batch.send_to(&mut process.second, &mut two).await, &two);
        if first != second {
            return Err((format!("{first:?}"), format!("{second:?}")));
        }
        match first {
            Ok(seen) => {
                count(&seen, reached);
                Ok(Some(seen))
            }
            Err(error) => {
                *reached.entry(error.0).or_default() += 1;
                Ok(None)
            }
        }
    }

    /// Takes note of what a process was told, as an engine does.
    fn learn(&mut self, index: usize, batch: &OwnedBatch, seen: &Seen) {
        let process = &mut self.processes[index];
        process.from.number = batch.from.number;
        if let Some(told) = &seen.membership {
            process.owned = told
                .owned
                .iter()
                .map(|owned| (owned.partition, owned.epoch))
                .collect();
            for owned in &told.owned {
                for cursor in &owned.cursors {
                    process
                        .places
                        .entry((cursor.subscription, owned.partition))
                        .or_insert(cursor.read_from);
                }
            }
            for id in &told.subscriptions {
                if !self.subscriptions.contains(id) {
                    self.subscriptions.push(*id);
                }
            }
        }
        for done in &seen.operations {
            if let OperationAnswer::Registered(id) = done
                && !self.subscriptions.contains(id)
            {
                self.subscriptions.push(*id);
            }
        }
        for (read, found) in batch.reads.iter().zip(&seen.reads) {
            if let ReadAnswer::Messages { through, .. } = found {
                process
                    .places
                    .insert((read.subscription, read.partition), *through);
            }
        }
        process.got.extend(seen.page.iter().map(Got::delivery));
        // Never more than a few, so that the same are met again.
        while process.got.len() > 24 {
            let old = process.got.remove(0);
            process.stale.push(old);
        }
    }

    fn batch(&mut self, index: usize, parts: &[Part]) -> OwnedBatch {
        let from = self.processes[index].from;
        let mut batch = OwnedBatch::empty(Sender {
            number: from.number + 1,
            ..from
        });
        for part in parts {
            self.part(index, part, &mut batch);
        }
        batch
    }

    fn part(&mut self, index: usize, part: &Part, batch: &mut OwnedBatch) {
        match part {
            Part::Heartbeat => {
                batch.membership = batch.membership.take().or(Some(OwnedMembership::Heartbeat))
            }
            Part::Leave { running } => {
                batch.membership = Some(OwnedMembership::Leave(self.running(index, *running)));
            }
            Part::Release { count, running } => {
                let running = self.running(index, *running);
                let owned = self.processes[index].owned.iter().take(usize::from(*count));
                let releases = owned
                    .map(|(partition, epoch)| (*partition, *epoch, running.clone()))
                    .collect();
                batch.membership = Some(OwnedMembership::Release(releases));
            }
            Part::Append { .. } => {
                let message = self.append(part);
                batch.appends.push(message);
            }
            Part::Move(count) => batch.arrivals = Some(usize::from(*count)),
            Part::Read {
                subscription,
                partition,
                after,
                messages,
                bytes,
                wrong,
            } => {
                let Some(subscription) = self.own_subscription(index, *subscription, *wrong) else {
                    return;
                };
                let partition = self.partition(index, *partition, *wrong);
                let process = &self.processes[index];
                let place = process
                    .places
                    .get(&(subscription, partition))
                    .copied()
                    .unwrap_or_default();
                batch.reads.push(whizbang_storage::Read {
                    subscription,
                    partition,
                    epoch: epoch(process.owned.get(&partition), *wrong),
                    after: after.map_or(place, |after| Position(u64::from(after)).min(place)),
                    limit: Limit {
                        messages: usize::from(*messages),
                        bytes: usize::from(*bytes),
                    },
                });
            }
            Part::Settle {
                subscription,
                partition,
                first,
                more,
                wrong,
            } => {
                let process = &self.processes[index];
                // Where something was handed out, if anything was.
                let mut known = process.places.iter().filter(|(_, place)| place.0 > 0 && !*wrong);
                let count = known.clone().count().max(1);
                let nth = usize::from(*subscription + *partition / 2) % count;
                let Some((subscription, partition, place)) = known
                    .nth(nth)
                    .map(|((subscription, partition), place)| (*subscription, *partition, *place))
                    .or_else(|| {
                        let partition = self.partition(index, *partition, *wrong);
                        Some((self.subscription(*subscription)?, partition, Position::START))
                    })
                else {
                    return;
                };
                let first = Position((place.0 + 2).saturating_sub(u64::from(*first)).max(1));
                batch.settled.push(Settled {
                    subscription,
                    partition,
                    epoch: epoch(process.owned.get(&partition), *wrong),
                    first,
                    last: Position((first.0 + u64::from(*more)).saturating_sub(1)),
                });
            }
            Part::Unit { .. } | Part::Group { .. } => {
                if let Some(unit) = self.unit(index, part) {
                    batch.units.push(unit);
                }
            }
            Part::Due { messages } => {
                batch.due = Some(Limit {
                    messages: usize::from(*messages),
                    bytes: 600,
                })
            }
            Part::Requeue(n) => batch
                .operations
                .extend(self.letter(*n).map(OwnedOperation::Requeue)),
            Part::Discard(n) => batch
                .operations
                .extend(self.letter(*n).map(OwnedOperation::Discard)),
            Part::Pause(n) => batch
                .operations
                .extend(self.subscription(*n).map(OwnedOperation::Pause)),
            Part::Resume(n) => batch
                .operations
                .extend(self.subscription(*n).map(OwnedOperation::Resume)),
            Part::Drop(n) => batch
                .operations
                .extend(self.subscription(*n).map(OwnedOperation::Drop)),
            Part::Register(n) => batch.operations.push(OwnedOperation::Register {
                group: "group".to_owned(),
                subscription: spec(*n),
            }),
            Part::Housekeep => batch.housekeeping = Some(10_000),
        }
    }

    fn append(&mut self, part: &Part) -> Message {
        let Part::Append {
            stream,
            event,
            key,
            due_in,
            now,
            kind,
            bytes,
        } = part
        else {
            unreachable!("only called for appends")
        };
        self.messages += 1;
        let message = self.message(*stream, *event);
        let mut message = Message {
            metadata: vec![3; usize::from(*bytes / 4)],
            dedup: key.map(|key| vec![key]),
            due_in: due_in.map(|ms| Duration::from_millis(u64::from(ms))),
            ..message.with(vec![*bytes; usize::from(*bytes)])
        };
        if *now {
            message = message.now();
        }
        match kind {
            1 => (message.type_name, message.type_version) = ("test.new".to_owned(), 2),
            2 if *bytes == 7 => message.type_name = String::new(),
            3 if *event => message.stream = None,
            _ => {}
        }
        message
    }

    fn message(&self, stream: u8, event: bool) -> Message {
        let stream = stream_of(stream);
        if event {
            Message::event(self.messages, stream)
        } else {
            Message::command(self.messages).of(stream)
        }
    }

    fn unit(&mut self, index: usize, part: &Part) -> Option<OwnedUnit> {
        let (delivery, settle, emits, stream, key, expects, projection) = match part {
            Part::Group {
                emits,
                stream,
                key,
                expects,
                projection,
            } => (
                None,
                OwnedSettle::Done,
                *emits,
                *stream,
                *key,
                *expects,
                *projection,
            ),
            Part::Unit {
                pick,
                stale,
                wrong,
                how,
                after,
                emits,
                stream,
                expects,
                projection,
            } => {
                let process = &mut self.processes[index];
                let from = if *stale { &process.stale } else { &process.got };
                let at = (!from.is_empty()).then(|| usize::from(*pick) % from.len())?;
                let mut delivery = from[at];
                if !*stale {
                    process.stale.push(process.got.remove(at));
                }
                if *wrong {
                    match pick % 4 {
                        0 => delivery.attempt += 1,
                        1 => delivery.epoch.0 += 1,
                        2 => delivery.position.0 += 20,
                        _ => delivery.subscription = SubscriptionId(90),
                    }
                }
                (
                    Some(delivery),
                    settle(*how, *after),
                    *emits,
                    *stream,
                    None,
                    *expects,
                    *projection,
                )
            }
            _ => unreachable!("only called for units"),
        };
        let carries = settle == OwnedSettle::Done;
        let emits = (0..if carries { emits } else { 0 })
            .map(|n| {
                self.messages += 1;
                let message = self.message(stream.wrapping_add(n), n % 2 == 0);
                Message {
                    dedup: key.map(|key| vec![key]),
                    ..message
                }
            })
            .collect();
        let stream = stream_of(stream);
        let version = |version: u8| Expected {
            stream,
            version: Version(u64::from(version)),
        };
        Some(OwnedUnit {
            delivery,
            settle,
            emits,
            expects: expects.filter(|_| carries).map(version).into_iter().collect(),
            projections: projection
                .filter(|_| carries)
                .map(|(key, based_on, delete)| OwnedProjection {
                    perspective: "totals".to_owned(),
                    key: vec![key],
                    based_on: based_on.map(|revision| Revision(u64::from(revision))),
                    state: (!delete).then(|| self.messages.to_le_bytes().to_vec()),
                })
                .into_iter()
                .collect(),
        })
    }

    /// Some of what a process has, as still running.
    fn running(&self, index: usize, every: u8) -> Vec<Running> {
        let got = self.processes[index]
            .got
            .iter()
            .step_by(usize::from(every.max(1)));
        got.filter(|_| every > 0)
            .map(|delivery| Running {
                subscription: delivery.subscription,
                partition: delivery.partition,
                position: delivery.position,
            })
            .collect()
    }

    fn subscription(&self, number: u8) -> Option<SubscriptionId> {
        let count = self.subscriptions.len();
        (count > 0).then(|| self.subscriptions[usize::from(number) % count])
    }

    /// One that the process owns, if it owns any and nothing else is asked for.
    fn partition(&self, index: usize, number: u8, wrong: bool) -> Partition {
        let owned = &self.processes[index].owned;
        let nth = usize::from(number) % owned.len().max(1);
        match owned.keys().nth(nth) {
            Some(partition) if !wrong => *partition,
            _ => Partition(u32::from(number) % (PARTITIONS + 1)),
        }
    }

    /// One of which the process knows a place, or any if it knows none or something else is asked for.
    fn own_subscription(&self, index: usize, number: u8, wrong: bool) -> Option<SubscriptionId> {
        let mut own: Vec<SubscriptionId> = self.processes[index].places.keys().map(|(id, _)| *id).collect();
        own.dedup();
        match own.get(usize::from(number) % own.len().max(1)) {
            Some(id) if !wrong => Some(*id),
            _ => self.subscription(number),
        }
    }

    fn letter(&self, number: u8) -> Option<whizbang_storage::ParkedKey> {
        let count = self.letters.len();
        (count > 0).then(|| self.letters[usize::from(number) % count].key)
    }

    async fn compare(&mut self, reached: &mut Reached) -> Result<(), Differs> {
        // Through a process's own reader; without a process nothing has changed but the clock.
        let Some(process) = self.processes.first() else {
            return Ok(());
        };
        let first = contents(&process.first.reader()).await;
        let second = contents(&process.second.reader()).await;
        if first != second {
            return Err((format!("{first:?}"), format!("{second:?}")));
        }
        for (name, count) in [
            ("dead letters", first.letters.len()),
            ("projections", first.projections.len()),
            ("histories", first.histories.iter().map(Vec::len).sum()),
            (
                "parked",
                first
                    .statistics
                    .subscriptions
                    .iter()
                    .map(|s| s.parked as usize)
                    .sum(),
            ),
            (
                "unroutable",
                first
                    .statistics
                    .subscriptions
                    .iter()
                    .map(|s| s.unroutable as usize)
                    .sum(),
            ),
        ] {
            *reached.entry(name).or_default() += count as u64;
        }
        for letter in first.letters {
            if !self.letters.iter().any(|known| known.key == letter.key) {
                self.letters.push(letter);
            }
        }
        Ok(())
    }
}

impl<F: Fixture> Side<F> {
    async fn new() -> Self {
        let clock = TestClock::new();
        Self {
            fixture: F::fresh(clock.clone()).await,
            clock,
        }
    }
}

async fn contents<R: StoreReader>(reader: &R) -> Contents {
    let mut statistics = reader.statistics().await.expect("it can be read");
    statistics.instances.sort_unstable();
    let mut histories = Vec::new();
    for stream in 0..8 {
        let mut page = whizbang_storage::Page::default();
        let read = reader
            .history(stream_of(stream), Version(0), 1_000, &mut page)
            .await;
        read.expect("it can be read");
        histories.push(Got::all(&page));
    }
    Contents {
        statistics,
        letters: reader.dead_letters(None, 1_000).await.expect("it can be read"),
        projections: reader
            .projections("totals", b"", 1_000)
            .await
            .expect("it can be read"),
        histories,
    }
}

/// The name of an error, and what it says.
type Refused = (&'static str, String);

fn outcome(done: Result<(), StoreError>, answer: &Answer) -> Result<Seen, Refused> {
    let error = match done {
        Ok(()) => return Ok(Seen::from(answer)),
        Err(error) => error,
    };
    let name = match &error {
        StoreError::Evicted => "evicted",
        StoreError::DifferentBatch { .. } => "different batch",
        StoreError::OutOfSequence { .. } => "out of sequence",
        StoreError::NotJoined => "not joined",
        StoreError::InstanceTaken => "instance taken",
        StoreError::NotApplied(_) => "not applied",
        _ => "unknown",
    };
    Err((name, error.to_string()))
}

/// Counts what was answered, by name.
fn count(seen: &Seen, reached: &mut Reached) {
    let mut add = |name: &'static str| *reached.entry(name).or_default() += 1;
    for unit in &seen.units {
        add(match unit {
            UnitAnswer::Applied { .. } => "unit applied",
            UnitAnswer::Fenced => "unit fenced",
            UnitAnswer::StreamConflict { .. } => "stream conflict",
            UnitAnswer::ProjectionConflict { .. } => "projection conflict",
            UnitAnswer::Skipped => "unit skipped",
            UnitAnswer::AlreadySettled => "unit already settled",
            UnitAnswer::Unknown => "unit unknown",
            UnitAnswer::Refused(_) => "unit refused",
        });
    }
    for range in &seen.settled {
        add(match range {
            SettledAnswer::Applied => "range applied",
            SettledAnswer::AlreadySettled => "range already settled",
            SettledAnswer::Fenced => "range fenced",
            SettledAnswer::Unknown => "range unknown",
        });
    }
    for append in seen.appends.iter().chain(&seen.emits) {
        add(match append {
            AppendAnswer::Stored { handed_out: true, .. } => "handed out now",
            AppendAnswer::Stored { .. } => "stored",
            AppendAnswer::Arrived => "arrived",
            AppendAnswer::Duplicate { .. } => "duplicate",
            AppendAnswer::Refused(_) => "append refused",
        });
    }
    for read in &seen.reads {
        add(match read {
            ReadAnswer::Messages { .. } => "read",
            ReadAnswer::Fenced => "read fenced",
            ReadAnswer::Paused => "read paused",
        });
    }
    for got in &seen.page {
        add(match got.origin {
            Origin::Log => "from the log",
            Origin::Parked => "parked and due",
            Origin::Suspect => "suspect",
            Origin::Replay => "replay",
        });
        if got.lane == LaneState::Parked {
            add("behind a parked one");
        }
    }
    for operation in &seen.operations {
        add(match operation {
            OperationAnswer::Done => "operation done",
            OperationAnswer::Gone => "operation gone",
            OperationAnswer::Registered(_) => "registered",
            OperationAnswer::Refused(_) => "operation refused",
        });
    }
    if !seen.moved.is_empty() {
        add("moved");
    }
    if seen.removed > 0 {
        add("removed");
    }
    if seen.evicted {
        add("repeat of an evicted one");
    }
    if seen.membership.as_ref().is_some_and(|told| told.give_back > 0) {
        add("asked to give back");
    }
    if seen
        .membership
        .as_ref()
        .is_some_and(|told| told.owned.iter().any(|owned| owned.epoch.0 > 1))
    {
        add("taken over");
    }
}

fn spec(number: u8) -> OwnedSubscription {
    let number = usize::from(number) % NAMES.len();
    OwnedSubscription {
        name: NAMES[number].to_owned(),
        start: if number == 3 { StartAt::End } else { StartAt::First },
        on_dead: if number == 1 { OnDead::Halt } else { OnDead::Skip },
        attempts_max: 3,
    }
}

fn stream_of(number: u8) -> StreamId {
    let number = u32::from(number) % 8;
    stream_in(PARTITIONS, Partition(number % PARTITIONS), number)
}

fn epoch(owned: Option<&Epoch>, wrong: bool) -> Epoch {
    let epoch = owned.copied().unwrap_or(Epoch(1));
    if wrong { Epoch(epoch.0 + 1) } else { epoch }
}

fn settle(how: u8, after: u16) -> OwnedSettle {
    match how {
        1 | 2 => OwnedSettle::Retry {
            after: Duration::from_millis(u64::from(after)),
            error: format!("after {after} ms"),
        },
        3 => OwnedSettle::Dead {
            reason: DeadReason::Rejected,
            error: format!("number {after}"),
        },
        4 => OwnedSettle::Detach,
        5 => OwnedSettle::Defer,
        6 => OwnedSettle::Unroutable,
        7 => OwnedSettle::Release,
        _ => OwnedSettle::Done,
    }
}
