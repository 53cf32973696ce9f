//! Two databases side by side, and the processes that do the same to both.

use std::collections::BTreeMap;
use std::time::Duration;

use whizbang_storage::{
    Answer, DeadLetter, Delivery, Epoch, Limits, OperationAnswer, Partition, Position, ReadAnswer, Sender,
    Service, SubscriptionId, TestClock, Whereabouts, WorkStore,
};

use super::Reached;
use super::build::spec;
use super::compare::{Sent, contents, count, outcome};
use super::generate::{Part, Step};
use crate::{Fixture, Got, Message, OwnedBatch, OwnedMembership, Seen, sender};

pub(super) const PARTITIONS: u32 = 2;
const PROCESSES_MAX: usize = 4;

/// Two databases with the same history.
pub(super) struct Pair<A: Fixture, B: Fixture> {
    first: Side<A>,
    second: Side<B>,
    service: Service,
    pub(super) processes: Vec<Process<A, B>>,
    pub(super) subscriptions: Vec<SubscriptionId>,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) messages: u64,
    compared: usize,
    pub(super) sent: Vec<Sent>,
    instances: u32,
}

struct Side<F: Fixture> {
    fixture: F,
    clock: TestClock,
}

pub(super) struct Process<A: Fixture, B: Fixture> {
    first: A::Store,
    second: B::Store,
    pub(super) from: Sender,
    // As the first store told it.
    pub(super) owned: BTreeMap<Partition, Epoch>,
    pub(super) places: BTreeMap<(SubscriptionId, Partition), Position>,
    pub(super) got: Vec<Delivery>,
    pub(super) stale: Vec<Delivery>,
    sent: Vec<OwnedBatch>,
    refusals: u32,
}

type Differs = (String, String);

impl<A: Fixture, B: Fixture> Pair<A, B> {
    pub(super) async fn new(seed: u64) -> Self {
        let service = Service {
            partitions: PARTITIONS,
            window: 6,
            // The steps' durations, and the time that passes before each of them, were chosen for these.
            time_to_live: Duration::from_secs(10),
            dedup_retention: Duration::from_secs(30),
            event_retention: seed.is_multiple_of(3).then(|| Duration::from_secs(20)),
            unroutable_after: Duration::from_secs(15),
            limits: Limits { batch_messages_max: 4, ..Limits::default() },
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
            compared: 0,
            sent: Vec::new(),
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
                self.again(*who, 1, |batch| batch.appends.push(Message::command(0)), reached).await?
            }
            Step::Impostor { who } => {
                self.again(*who, 1, |batch| batch.from.start_token ^= 1, reached).await?
            }
            Step::JoinAgain { who } => {
                let again = |batch: &mut OwnedBatch| {
                    batch.from.number += 1;
                    batch.membership = Some(OwnedMembership::Join {
                        group: None,
                        subscriptions: Vec::new(),
                        types: Vec::new(),
                    });
                };
                self.again(*who, 1, again, reached).await?;
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
            first: self.first.fixture.open(self.service.clone()).await.expect("the first opens"),
            second: self.second.fixture.open(self.service.clone()).await.expect("the second opens"),
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
        batch.membership =
            Some(OwnedMembership::Join { group, subscriptions: vec![spec(0), spec(1)], types });
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
        let seen = match self.send(index, &batch, reached).await? {
            Ok(seen) => seen,
            // The number is free, and the next batch has it.
            Err("not applied") => return Ok(()),
            Err(_) => {
                self.processes[index].refusals += 1;
                if self.processes[index].refusals > 1 {
                    let process = self.processes.remove(index);
                    self.kill(process).await;
                }
                return Ok(());
            }
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

    /// Sends a batch to both stores; what both answered, or the name of the error with which both refused it.
    async fn send(
        &mut self,
        index: usize,
        batch: &OwnedBatch,
        reached: &mut Reached,
    ) -> Result<Result<Seen, &'static str>, Differs> {
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
                Ok(Ok(seen))
            }
            Err(error) => {
                *reached.entry(error.0).or_default() += 1;
                Ok(Err(error.0))
            }
        }
    }

    /// Takes note of what a process was told, as an engine does.
    fn learn(&mut self, index: usize, batch: &OwnedBatch, seen: &Seen) {
        let process = &mut self.processes[index];
        process.from.number = batch.from.number;
        if let Some(told) = &seen.membership {
            process.owned = told.owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
            for owned in &told.owned {
                for cursor in &owned.cursors {
                    process.places.entry((cursor.subscription, owned.partition)).or_insert(cursor.read_from);
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
                process.places.insert((read.subscription, read.partition), *through);
            }
        }
        process.got.extend(seen.page.iter().map(Got::delivery));
        // Never more than a few, so that the same are met again.
        while process.got.len() > 24 {
            let old = process.got.remove(0);
            process.stale.push(old);
        }
    }

    async fn compare(&mut self, reached: &mut Reached) -> Result<(), Differs> {
        // Through a process's own reader; without a process nothing has changed but the clock.
        let Some(process) = self.processes.first() else {
            return Ok(());
        };
        // The newest two, and two of all that were sent, others after every step.
        let count = self.sent.len();
        let older = (0..2).filter(|_| count > 0).map(|n| (self.compared * 7 + n * count / 2) % count.max(1));
        let asked: Vec<Sent> =
            (count.saturating_sub(2)..count).chain(older).map(|at| self.sent[at]).collect();
        self.compared += 1;
        let first = contents(&process.first.reader(), &asked).await;
        let second = contents(&process.second.reader(), &asked).await;
        if first != second {
            return Err((format!("{first:?}"), format!("{second:?}")));
        }
        for (name, count) in [
            ("dead letters", first.letters.len()),
            ("projections", first.projections.len()),
            ("histories", first.histories.iter().map(Vec::len).sum()),
            ("parked", first.statistics.subscriptions.iter().map(|s| s.parked as usize).sum()),
            ("waiting", first.whereabouts.iter().filter(|of| **of == Whereabouts::Waiting).count()),
            ("not waiting", first.whereabouts.iter().filter(|of| **of == Whereabouts::NotWaiting).count()),
            ("dead", first.whereabouts.iter().filter(|of| matches!(of, Whereabouts::Dead { .. })).count()),
            ("unroutable", first.statistics.subscriptions.iter().map(|s| s.unroutable as usize).sum()),
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
        Self { fixture: F::fresh(clock.clone()).await, clock }
    }
}
