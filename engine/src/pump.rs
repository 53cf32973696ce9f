//! The pump: one thread that moves messages from the rings to the store, and work from the store to the handlers.
//!
//! It is the only caller of the store. While one exchange is under way the rings fill up, so batches grow with the load by
//! themselves; nothing waits for a timer. What is decided here is decided elsewhere, in files without input or output
//! ([`agenda`](crate::agenda), [`flows`](crate::flows), [`handover`](crate::handover)); this file carries it out.

mod membership;
mod stopping;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tracing::Instrument;
use whizbang_lockfree::{ArenaPool, Consumer, DrainLimit, NoSink};
use whizbang_storage::{
    Answer, Epoch, KnownType, Limit, Membership, Operation, Partition, Read, Release, StoreError,
    SubscriptionSpec, WorkBatch, WorkStore,
};

use self::membership::new_instance;
pub use self::stopping::Stopped;
use self::stopping::{Stopping, notice_of};
use crate::agenda::Agenda;
use crate::assemble::{Assembled, Situation, assemble};
use crate::conflicts::Conflicts;
use crate::deliver::Delivering;
use crate::exchange::{Exchange, Exchanged, Patience};
use crate::flows::Flows;
use crate::handout::{Handout, Handouts};
use crate::handover::HandOver;
use crate::host;
use crate::intake::{Header, PlainSink};
use crate::operate::Order;
use crate::options::Options;
use crate::room;
use crate::settle::{Scope, Settlement};
use crate::shared::Shared;

/// What the pump says to a worker. Kept in order.
#[derive(Debug)]
pub(crate) enum ToWorker {
    /// One exchange's answers and messages.
    Exchange(Arc<Handout>),
    /// Begin nothing more there, and say when nothing runs there any more.
    Quieten(Scope),
    /// Cancel what runs there, and name it.
    Abandon(Scope),
    /// Drop everything of this partition up to this epoch: it is somebody else's.
    Forget(Partition, Epoch),
    /// This process has a new id in the store; everything before is void.
    Reborn { incarnation: u32 },
}

/// What a group's instance tells the store when it joins.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) group: Option<String>,
    pub(crate) subscriptions: &'static [SubscriptionSpec<'static>],
    pub(crate) types: &'static [KnownType<'static>],
}

/// Everything one pump owns.
pub(crate) struct Pump<S> {
    exchange: Exchange<S>,
    intake: Consumer<Header, PlainSink>,
    settled: Consumer<Settlement, NoSink>,
    workers: Vec<mpsc::UnboundedSender<ToWorker>>,
    herald: Arc<Notify>,
    shared: Arc<Shared>,
    profile: Profile,
    options: Options,
    arenas: ArenaPool,
    answer: Answer,
    agenda: Agenda,
    flows: Flows,
    handouts: Handouts,
    hand_over: HandOver,
    conflicts: Conflicts,
    incarnation: u32,
    /// Halved when the store finds a batch too large, and grown again.
    messages_max: usize,
    /// Since when handled messages wait for company.
    done_since: Option<Instant>,
    stopping: Option<Stopping>,
    /// Operations that were not answered yet.
    operations: Vec<Order>,
}

/// The ends of the rings and channels that a pump works with.
pub(crate) struct Ends {
    pub(crate) intake: Consumer<Header, PlainSink>,
    pub(crate) settled: Consumer<Settlement, NoSink>,
    pub(crate) workers: Vec<mpsc::UnboundedSender<ToWorker>>,
    pub(crate) herald: Arc<Notify>,
}

/// What one turn of the pump led to.
enum Turn {
    GoOn,
    Rejoin,
    End { all_durable: bool },
}

/// Handled messages from which nothing came wait this long for company: nothing is lost with them but a repetition.
const DONE_LINGERS: Duration = Duration::from_millis(2);
/// So many of them do not wait.
const DONE_MAX: usize = 512;

/// What an arena keeps: a batch of `batch_messages_max` short messages, for which memory fresh from the system would have to be
/// mapped page by page each time.
const ARENA_KEPT: usize = 2 << 20;

impl<S: WorkStore> Pump<S> {
    pub(crate) fn new(store: S, shared: Arc<Shared>, profile: Profile, options: Options, ends: Ends) -> Self {
        let heartbeat_every = options.heartbeat_every.unwrap_or(store.service().time_to_live / 3);
        Self {
            exchange: Exchange::new(store, new_instance(), options.storage_retry_max),
            intake: ends.intake,
            settled: ends.settled,
            workers: ends.workers,
            herald: ends.herald,
            shared,
            profile,
            arenas: ArenaPool::new(2, ARENA_KEPT),
            answer: Answer::default(),
            agenda: Agenda::new(heartbeat_every, host::now()),
            flows: Flows::default(),
            handouts: Handouts::default(),
            hand_over: HandOver::default(),
            conflicts: Conflicts::default(),
            incarnation: 0,
            messages_max: options.batch_messages_max,
            done_since: None,
            stopping: None,
            operations: Vec::new(),
            options,
        }
    }

    /// Turns until the engine is stopped or cannot go on.
    pub(crate) async fn run(mut self) {
        loop {
            match self.turn().await {
                Turn::GoOn => {}
                Turn::Rejoin => self.rejoin().await,
                Turn::End { all_durable } => return self.end(all_durable),
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let now = host::now();
        self.follow_orders(now);
        self.gather_done(now);
        let is_handing_out = self.stopping.is_none() && self.profile.group.is_some();
        let room = if is_handing_out { self.room() } else { Limit { messages: 0, bytes: 0 } };
        let may_hand_out = is_handing_out && room.messages > 0;
        let leave = self.may_leave();

        let limit = DrainLimit { records: self.messages_max, bytes: self.options.batch_bytes_max };
        let settle = self.settled.drain(limit);
        // A batch that cannot be halved any more takes from one ring only.
        let is_least = self.messages_max == 1 && !settle.is_empty();
        let intake = self.intake.drain(if is_least { DrainLimit { records: 0, bytes: 0 } } else { limit });
        let done_is_due = self.done_since.is_some_and(|since| {
            now >= since + DONE_LINGERS || self.flows.done_count() >= DONE_MAX || self.stopping.is_some()
        });
        let reads = room.messages > 0 && self.flows.is_behind(now);
        let is_needed = !intake.is_empty()
            || !settle.is_empty()
            || done_is_due
            || reads
            || leave
            || !self.operations.is_empty()
            || self.hand_over.is_due(now)
            || self.agenda.is_pressing(now, may_hand_out);
        if !is_needed {
            drop((intake, settle));
            self.rest().await;
            return Turn::GoOn;
        }

        let arena = self.arenas.take();
        let plan = self.agenda.plan(now, may_hand_out);
        let asks_due = plan.due && !leave;
        let flows = self.flows.subscriptions().len().max(1);
        let parts = assemble(
            &arena,
            &intake,
            &settle,
            Situation {
                flows: &mut self.flows,
                conflicts: &mut self.conflicts,
                incarnation: self.incarnation,
                partitions: self.shared.partitions,
                hand_out_max: room::hand_out_max(room.messages, flows, asks_due || reads)
                    .min(self.options.batch_messages_max),
            },
        );
        let releases_go = plan.heartbeat || self.hand_over.is_due(now);
        let releases: &[Release<'_>] = arena.alloc_slice_fill_iter(
            self.hand_over
                .ready()
                .filter(|_| releases_go)
                .map(|(partition, epoch, running)| Release {
                    partition,
                    epoch,
                    running: arena.alloc_slice_copy(running),
                })
                .collect::<Vec<_>>(),
        );
        let membership = if leave {
            let running = self.stopping.as_ref().map_or(&[][..], |stopping| stopping.running.as_slice());
            Some(Membership::Leave { running: arena.alloc_slice_copy(running) })
        } else if !releases.is_empty() {
            Some(Membership::Release(releases))
        } else {
            plan.heartbeat.then_some(Membership::Heartbeat)
        };
        let subscriptions = self.flows.subscriptions();
        let numbered = self.operations.iter().filter_map(|order| order.what.with_numbers(subscriptions));
        let operations: &[Operation<'_>] = arena.alloc_slice_fill_iter(numbered.collect::<Vec<_>>());
        let mut read = bumpalo::collections::Vec::new_in(&arena);
        let rest = room.messages - parts.hand_outs * flows;
        let (to_due, to_reads) = room::share(rest, asks_due, reads, self.exchange.from().number);
        let limit =
            |messages: usize| Limit { messages: messages.min(self.options.batch_messages_max), ..room };
        self.flows.reads(limit(to_reads), now, |one: Read| read.push(one));
        let batch = WorkBatch {
            from: self.exchange.from(),
            membership,
            units: parts.units,
            settled: parts.settled,
            appends: parts.appends,
            arrivals: plan.arrivals,
            operations,
            due: asks_due.then_some(limit(to_due)),
            reads: if leave { &[] } else { &read },
            housekeeping: plan.housekeeping,
        };

        let began = host::now();
        let stop_at = self.stopping.as_ref().map(|stopping| stopping.give_up_at);
        let shared = &self.shared;
        let mut give_up_at = stop_at;
        let span = tracing::debug_span!(
            "exchange",
            number = batch.from.number,
            messages = batch.messages(),
            units = parts.units.len(),
            settled = parts.positions,
        );
        let exchanged = self
            .exchange
            .until_answered(&batch, &mut self.answer, async |error, wait| {
                shared.storage_failed(error);
                shared.bell.ring();
                if give_up_at.is_none() {
                    give_up_at = shared.gives_up_at();
                }
                if give_up_at.is_some_and(|at| host::now() >= at) {
                    return Patience::Over;
                }
                let until = host::now()
                    + give_up_at.map_or(wait, |at| wait.min(at.saturating_duration_since(host::now())));
                tokio::time::sleep_until(until.into()).await;
                Patience::TryAgain
            })
            .instrument(span)
            .await;
        match exchanged {
            Exchanged::Answered => {}
            Exchanged::Evicted if !self.answer.evicted => {
                for range in parts.settled {
                    tracing::trace!(?range, "evicted before it was settled");
                }
                return Turn::Rejoin;
            }
            // The answer to a repeated batch of an instance that was evicted meanwhile: what was written is written.
            Exchanged::Evicted => {}
            Exchanged::TooLarge => {
                let (units, appends) = (parts.units.len(), parts.appends.len());
                if !host::is_planted("forgets-what-was-too-large") {
                    self.flows.put_back(parts.settled);
                }
                // What stays in the ring is taken out of it again, and must not be counted off twice.
                for record in settle.records() {
                    if let Settlement::Done { partition, epoch, .. } = *record.header() {
                        self.flows.handed(partition, epoch);
                    }
                }
                return self.take_less(units, appends);
            }
            Exchanged::GivenUp => return Turn::End { all_durable: false },
            Exchanged::Broken(error) => {
                self.shared.broke(&error);
                return Turn::End { all_durable: false };
            }
        }

        let counted = Delivering {
            flows: &mut self.flows,
            conflicts: &mut self.conflicts,
            agenda: &mut self.agenda,
            shared: &self.shared,
            wants: &self.shared.wants,
            workers: self.workers.len(),
            handout: self.handouts.take(self.workers.len()),
            parked: HashSet::new(),
        }
        .deliver(&batch, &parts, &mut self.answer, now);
        let Assembled { notices, positions, .. } = parts;
        for notice in notices {
            notice_of(*notice, now, &mut self.hand_over, &mut self.stopping);
        }
        let released: Vec<Partition> = releases.iter().map(|release| release.partition).collect();
        let batch_len = batch.messages();
        drop(read);
        intake.finish();
        settle.finish();
        drop(arena);

        for (order, answer) in self.operations.drain(..).zip(&self.answer.operations) {
            let _ = order.done.send(*answer);
            self.flows.ask_paused_again();
            self.agenda.due_now();
        }
        self.done_since = None;
        self.agenda.settled(positions + counted.settled);
        let Answer { due, moved, removed, .. } = &self.answer;
        self.agenda.answered(&plan, now, due.len(), moved.len(), *removed);
        self.shared.exchanged(
            batch_len,
            host::now().saturating_duration_since(began),
            self.flows.in_flight(),
        );
        self.give_out(counted.handout);
        self.after(plan, released, now);
        if leave {
            return Turn::End { all_durable: true };
        }
        if self.answer.evicted { Turn::Rejoin } else { Turn::GoOn }
    }

    /// What may be handed out on top of what workers hold already.
    fn room(&mut self) -> Limit {
        let counts = !host::is_planted("hands-out-without-end");
        let in_flight = if counts { self.flows.in_flight() } else { 0 };
        let bytes = self.options.in_flight_bytes_max.saturating_sub(self.handouts.bytes());
        let messages = if bytes == 0 { 0 } else { self.options.in_flight_max.saturating_sub(in_flight) };
        Limit { messages, bytes: bytes.min(self.options.batch_bytes_max) }
    }

    /// Takes in what was handled without a result; as long as there is nothing else, that waits a little for company.
    fn gather_done(&mut self, now: Instant) {
        let drained = self.settled.drain(DrainLimit { records: self.messages_max, bytes: usize::MAX });
        let mut done = false;
        for record in drained.records() {
            if !matches!(record.header(), Settlement::Done { .. }) {
                return;
            }
            done = true;
        }
        if !done {
            return;
        }
        for record in drained.records() {
            if let Settlement::Done { flow, partition, epoch, position } = *record.header()
                && self.flows.done(flow as usize, partition, epoch, position)
            {
                self.flows.settled(partition, epoch);
            }
        }
        drained.finish();
        self.settled.wake();
        if self.flows.has_done() {
            self.done_since.get_or_insert(now);
        }
    }

    /// Hands a handout to the workers it has something for, and wakes who waits for this exchange.
    fn give_out(&mut self, handout: Arc<Handout>) {
        for (number, worker) in self.workers.iter().enumerate() {
            if !handout.is_empty_for(number) {
                let _ = worker.send(ToWorker::Exchange(Arc::clone(&handout)));
            }
        }
        self.handouts.sent(handout);
        if host::is_planted("wakes-nobody") {
            return;
        }
        if self.intake.is_empty() && self.settled.is_empty() {
            self.intake.wake();
            self.settled.wake();
        } else {
            // The next exchange begins at once; another thread walks the waiters meanwhile.
            self.herald.notify_one();
        }
    }

    /// The store found a batch too large: the next one is half of it.
    fn take_less(&mut self, units: usize, appends: usize) -> Turn {
        if self.messages_max == 1 {
            self.shared.broke(&StoreError::NotApplied(whizbang_storage::NotApplied::Failed(
                format!("a batch of {units} units and {appends} messages cannot be made smaller").into(),
            )));
            return Turn::End { all_durable: false };
        }
        self.messages_max = (self.messages_max / 2).max(1);
        Turn::GoOn
    }

    /// Rests until there is something to do.
    async fn rest(&mut self) {
        let mut until = self.agenda.wake_at();
        let stop =
            self.stopping.as_ref().filter(|stopping| !stopping.abandoned).map(|stopping| stopping.deadline);
        let done = self.done_since.map(|since| since + DONE_LINGERS);
        // While stopping, workers that went away with their runtime are not heard of.
        let look = self.stopping.is_some().then(|| host::now() + Duration::from_millis(20));
        let now = host::now();
        let hold = self.flows.hold_until(now);
        // Workers do not say so when they let go of a handout.
        let is_starved =
            self.flows.is_behind(now) && self.handouts.bytes() >= self.options.in_flight_bytes_max;
        let starved = is_starved.then(|| now + Duration::from_millis(1));
        for other in [stop, done, look, hold, starved, self.hand_over.next_deadline()].into_iter().flatten() {
            until = until.min(other);
        }
        let (intake, settled, shared) = (&self.intake, &self.settled, &self.shared);
        let has_news = || !intake.is_empty() || !settled.is_empty() || shared.has_orders();
        for _ in 0..LOOKS {
            if has_news() {
                return;
            }
            if host::may_look_before_resting() {
                pause(LOOK_PAUSE);
            }
        }
        // The bell is heard by a push or an order; the timer bounds the rest.
        let _ = tokio::time::timeout_at(until.into(), shared.bell.rested(has_news)).await;
    }
}

/// Looks before the pump goes to sleep, and the pause before each: being woken costs the producer microseconds.
const LOOKS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_micros(2);

fn pause(length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        std::hint::spin_loop();
    }
}
