//! Workers: tasks on the user's runtime that give messages to their handlers and tell the pump how it went.
//!
//! A handler is polled where it is created; most are ready at once and cost neither a task nor an allocation. One that has
//! to wait is set aside in its box and waits with others. All lanes of a partition are with one worker, so the order of a
//! stream needs no lock.

mod settling;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;
use tracing::level_filters::LevelFilter;
use whizbang_storage::{Condition, DeadReason, Epoch, Limits, Partition};

use self::settling::again;
use crate::agenda::later;
use crate::context::Context;
use crate::dispatch::{Dispatcher, Kind, Routed};
use crate::handout::Handout;
use crate::host;
use crate::intake::panic_text;
use crate::lanes::{LaneKey, Lanes, Step, Work};
use crate::own::Own;
use crate::projection::{Loader, Projections};
use crate::pump::ToWorker;
use crate::settle::{How, Scope, SettleRing, Settlement};
use crate::unit::{Unit, UnitView};
use crate::waiting::{Ended, Handled, Happened, Slot, Waiting, WaitingInner, poll_slot};

/// What a worker is made of.
pub(crate) struct Worker<D> {
    pub(crate) number: u32,
    pub(crate) dispatcher: Arc<D>,
    pub(crate) from_pump: mpsc::UnboundedReceiver<ToWorker>,
    pub(crate) ring: SettleRing,
    pub(crate) loader: Loader,
    pub(crate) limits: Limits,
    pub(crate) unit_bytes_max: usize,
    pub(crate) handlers_max: usize,
    pub(crate) detach_after: Duration,
    #[cfg(feature = "simulation")]
    pub(crate) gauges: crate::simulation::Gauges,
}

/// Gives one message to its receptors. Plain ones have run when this is polled for the first time.
async fn handle<D: Dispatcher>(dispatcher: &D, kind: Kind, work: Work, mut unit: Box<Unit>) -> Handled {
    let span = span_of(&work);
    let ended = async {
        let routed =
            dispatcher.route(work.flow as usize, kind, &work.handed(), Context::collecting(&mut unit));
        // A handler that waits does not keep the page of its neighbours.
        drop(work);
        match routed {
            Routed::NotWanted | Routed::Done(Ok(())) => Ended::Done,
            Routed::Done(Err(failure)) => Ended::Failed(failure),
            Routed::Undecodable(error) => Ended::Undecodable(error.to_string()),
            Routed::Running(receptors) => match receptors.await {
                Ok(()) => Ended::Done,
                Err(failure) => Ended::Failed(failure),
            },
        }
    };
    let ended = ended.instrument(span).await;
    Handled { ended, unit }
}

/// The span that a handler runs in; nothing when nobody listens.
fn span_of(work: &Work) -> tracing::Span {
    if LevelFilter::current() < LevelFilter::DEBUG {
        return tracing::Span::none();
    }
    let handed = work.handed();
    tracing::debug_span!(
        "receive",
        message = %handed.id,
        name = handed.type_name,
        partition = %handed.partition,
        position = %handed.position,
        attempt = handed.attempt,
    )
}

/// The pump is not there any more.
struct PumpGone;

/// Runs a worker until its pump is gone.
pub(crate) async fn work<D: Dispatcher>(worker: Worker<D>) {
    let dispatcher = Arc::clone(&worker.dispatcher);
    let dispatcher = &*dispatcher;
    // The future's type has no name; here it gets a place in the worker's.
    let start = move |kind: Kind, work: Work, unit: Box<Unit>| {
        // A worker polls many handlers in one turn; it yields by itself.
        tokio::task::unconstrained(handle(dispatcher, kind, work, unit))
    };
    let projections = Projections::new(worker.loader.clone(), PROJECTIONS_BYTES_MAX);
    let limits = worker.limits;
    let mut running = Running {
        worker,
        start,
        limits,
        projections,
        lanes: Lanes::default(),
        inbox: VecDeque::new(),
        at: 0,
        answers_read: false,
        waiting: FuturesUnordered::new(),
        slots: Vec::new(),
        units: Vec::new(),
        quiet: HashSet::new(),
        gone: HashMap::new(),
        all_quiet: false,
        asked: Vec::new(),
        incarnation: 0,
        scratch: Vec::new(),
    };
    // The pump is gone when its channel or its ring is closed; then nothing that runs here can be settled any more.
    let _ = running.run().await;
}

/// Bytes of projections that a worker keeps in memory.
const PROJECTIONS_BYTES_MAX: usize = 16 << 20;
/// Messages that are begun before what waits is looked at again.
const BEGUN_AT_ONCE: usize = 64;
/// Conflicts after which a message is tried again later, as if it had failed.
const CONFLICTS_MAX: u32 = 16;
/// Bytes a pooled unit keeps.
const UNIT_KEPT: usize = 16 << 10;
/// Units and future boxes that are kept.
const POOL_MAX: usize = 64;

struct Running<D, S, F> {
    worker: Worker<D>,
    start: S,
    limits: Limits,
    projections: Projections,
    lanes: Lanes,
    /// Handouts that were not worked off, oldest first, and the place in the first.
    inbox: VecDeque<Own<Handout>>,
    at: usize,
    /// The answers in the first one have been read.
    answers_read: bool,
    waiting: FuturesUnordered<Waiting<F>>,
    slots: Vec<Slot<F>>,
    // Boxed, because a unit is moved into the handler's future and out again.
    #[expect(clippy::vec_box, reason = "the box is what moves")]
    units: Vec<Box<Unit>>,
    /// Partitions in which nothing more is begun.
    quiet: HashSet<Partition>,
    /// Partitions that were given away, and the epoch that was lost with each.
    gone: HashMap<Partition, Epoch>,
    /// Nothing more is begun anywhere: the engine stops.
    all_quiet: bool,
    /// Scopes whose quiet the pump waits for.
    asked: Vec<Scope>,
    incarnation: u32,
    scratch: Vec<u8>,
}

/// What a worker waits for.
enum Event<F> {
    Told(ToWorker),
    Happened(Happened, WaitingInner<F>),
    PumpGone,
    Nothing,
}

impl<D, S, F> Running<D, S, F>
where
    D: Dispatcher,
    S: Fn(Kind, Work, Box<Unit>) -> F,
    F: Future<Output = Handled>,
{
    async fn run(&mut self) -> Result<(), PumpGone> {
        loop {
            let is_busy = self.work_off().await?;
            self.tell_quiet().await?;
            #[cfg(feature = "simulation")]
            self.show();
            match self.event(is_busy).await {
                Event::Nothing => host::yield_now().await,
                Event::PumpGone => return Err(PumpGone),
                Event::Told(told) => self.told(told).await?,
                Event::Happened(happened, inner) => self.happened(happened, inner).await?,
            }
        }
    }

    /// Says what is held here.
    #[cfg(feature = "simulation")]
    fn show(&self) {
        let holding = crate::simulation::Holding {
            lanes: self.lanes.held(),
            waiting: self.waiting.len(),
            handouts: self.inbox.len(),
        };
        self.worker.gauges.set(self.worker.number, holding);
    }

    /// The next thing that happens; `Nothing` at once while there is work to begin.
    async fn event(&mut self, is_busy: bool) -> Event<F> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(told) = self.worker.from_pump.poll_recv(cx) {
                return Poll::Ready(told.map_or(Event::PumpGone, Event::Told));
            }
            if let Poll::Ready(Some((happened, inner))) = self.waiting.poll_next_unpin(cx) {
                return Poll::Ready(Event::Happened(happened, inner));
            }
            if is_busy { Poll::Ready(Event::Nothing) } else { Poll::Pending }
        })
        .await
    }

    async fn told(&mut self, told: ToWorker) -> Result<(), PumpGone> {
        match told {
            ToWorker::Exchange(handout) => {
                self.inbox.push_back(Own::new(handout));
                Ok(())
            }
            ToWorker::Quieten(scope) => {
                self.lanes.quieten(|partition| scope.holds(partition));
                match scope {
                    Scope::All => self.all_quiet = true,
                    Scope::One(partition) => drop(self.quiet.insert(partition)),
                }
                self.asked.push(scope);
                Ok(())
            }
            ToWorker::Abandon(scope) => {
                let running: Vec<_> = self.lanes.running_in(|partition| scope.holds(partition)).collect();
                self.lanes.forget(|partition| scope.holds(partition));
                for (running, is_first) in running {
                    self.send(Settlement::StillRunning { running, is_first }, &[]).await?;
                }
                Ok(())
            }
            ToWorker::Forget(partition, epoch) => {
                self.lanes.forget(|of| of == partition);
                self.quiet.remove(&partition);
                self.asked.retain(|asked| *asked != Scope::One(partition));
                self.gone.insert(partition, epoch);
                // States of partitions that others write now must not be taken for the newest.
                self.projections.forget_all();
                Ok(())
            }
            ToWorker::Reborn { incarnation } => {
                self.incarnation = incarnation;
                self.lanes.forget(|_| true);
                self.quiet.clear();
                self.asked.retain(|asked| *asked == Scope::All);
                self.projections.forget_all();
                self.skip_inbox().await?;
                Ok(())
            }
        }
    }

    /// Says so when nothing runs any more where the pump asked.
    async fn tell_quiet(&mut self) -> Result<(), PumpGone> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let lanes = &self.lanes;
        let quiet: Vec<_> = self.asked.extract_if(.., |scope| !lanes.is_busy(|p| scope.holds(p))).collect();
        for scope in quiet {
            self.send(Settlement::Quiet { scope }, &[]).await?;
        }
        Ok(())
    }

    /// Drops the messages that have come and were not begun. Answers are read all the same: each belongs to a unit.
    async fn skip_inbox(&mut self) -> Result<(), PumpGone> {
        let number = self.worker.number as usize;
        while let Some(handout) = self.inbox.pop_front() {
            if !std::mem::take(&mut self.answers_read) {
                for &outcome in &handout.of[number].outcomes {
                    self.answered(outcome).await?;
                }
            }
            self.at = 0;
        }
        Ok(())
    }

    /// Works off what the pump has sent, a part at a time; says whether there is more that can begin.
    async fn work_off(&mut self) -> Result<bool, PumpGone> {
        let number = self.worker.number as usize;
        let mut begun = 0;
        while let Some(handout) = self.inbox.front().cloned() {
            let share = &handout.of[number];
            if !self.answers_read {
                self.answers_read = true;
                for &outcome in &share.outcomes {
                    self.answered(outcome).await?;
                }
            }
            while let Some(&(index, flow)) = share.items.get(self.at) {
                if self.waiting.len() >= self.worker.handlers_max {
                    return Ok(false);
                }
                if begun == BEGUN_AT_ONCE {
                    return Ok(true);
                }
                self.at += 1;
                begun += 1;
                let work = Work { handout: handout.clone(), index, flow, conflicts: 0, detached: false };
                let handed = work.head();
                if self.is_quiet(handed.partition) || self.is_gone(handed.partition, handed.epoch) {
                    continue;
                }
                if let Some(step) = self.lanes.arrive(work) {
                    self.go_on(step).await?;
                }
            }
            self.inbox.pop_front();
            self.at = 0;
            self.answers_read = false;
        }
        Ok(false)
    }

    /// Whether the partition was given away after this was handed out.
    fn is_gone(&self, partition: Partition, epoch: Epoch) -> bool {
        !self.gone.is_empty() && self.gone.get(&partition).is_some_and(|gone| epoch <= *gone)
    }

    fn is_quiet(&self, partition: Partition) -> bool {
        self.all_quiet || !self.quiet.is_empty() && self.quiet.contains(&partition)
    }

    /// The store has answered the oldest unit.
    async fn answered(&mut self, outcome: crate::lanes::Outcome) -> Result<(), PumpGone> {
        let Some(answered) = self.lanes.answered(outcome) else {
            return Ok(());
        };
        if let Some(record) = &answered.record
            && let Ok(view) = UnitView::decode(record)
        {
            match outcome {
                crate::lanes::Outcome::Settled => self.projections.applied(&view),
                _ => self.projections.not_applied(&view),
            }
        }
        if let Some(work) = answered.refused {
            let text = "the store cannot take what the receptor produced";
            self.settle(work, How::Dead { reason: DeadReason::Rejected }, text, None).await?;
        }
        self.next_in(answered.key).await
    }

    /// Does this step and all that follow from it in the same lane.
    async fn go_on(&mut self, step: Step) -> Result<(), PumpGone> {
        let key = self.step(step).await?;
        self.next_in(key).await
    }

    async fn next_in(&mut self, key: LaneKey) -> Result<(), PumpGone> {
        while let Some(step) = self.lanes.next(key) {
            self.step(step).await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<LaneKey, PumpGone> {
        match step {
            Step::Defer(work) => {
                let key = work.key();
                let how = if work.is_parked() { How::Release } else { How::Defer };
                self.settle(work, how, "", None).await?;
                Ok(key)
            }
            Step::Run(work) => self.begin(work).await,
        }
    }

    /// Gives a message to its handler, which finishes at once or is set aside.
    async fn begin(&mut self, work: Work) -> Result<LaneKey, PumpGone> {
        let key = work.key();
        let handed = work.handed();
        if handed.condition == Condition::Damaged {
            let text = "the stored row could not be read back";
            self.settle(work, How::Dead { reason: DeadReason::Damaged }, text, None).await?;
            return Ok(key);
        }
        let Some(kind) = D::resolve(handed.type_name) else {
            if host::is_planted("takes-the-unknown-for-done") {
                self.settle(work, How::Done, "", None).await?;
                return Ok(key);
            }
            let text = format!("no receptor of this program knows the type `{}`", handed.type_name);
            self.settle(work, How::Unroutable, &text, None).await?;
            return Ok(key);
        };
        let Some(options) = D::options(work.flow as usize, kind) else {
            self.settle(work, How::Done, "", None).await?;
            return Ok(key);
        };
        if handed.attempt > options.attempts_max && !host::is_planted("begins-past-the-cap") {
            // The store counts on to the cap of the subscription's most patient receptor.
            let text = "the last attempt did not come to its end: it was cancelled, or its process died";
            self.settle(work, How::Exhausted, text, None).await?;
            return Ok(key);
        }
        if work.conflicts > CONFLICTS_MAX {
            let how = again(options, handed.attempt);
            self.settle(work, how, "every try was in conflict with what others wrote", None).await?;
            return Ok(key);
        }
        let now = host::now();
        let deadline = later(now, options.deadline);
        let mut unit =
            self.units.pop().unwrap_or_else(|| Box::new(Unit::new(self.limits, self.worker.unit_bytes_max)));
        unit.set_projections(&self.projections);
        if let Err(error) = unit.begin(&handed, Some(deadline)) {
            let text = error.to_string();
            self.settle(work, How::Dead { reason: DeadReason::Undecodable }, &text, None).await?;
            return Ok(key);
        }
        let position = handed.position;
        let mut slot = self.slots.pop().unwrap_or_else(|| Box::pin(None));
        // Calling the receptor is part of running it: a plain one does all its work right here.
        let started =
            catch_unwind(AssertUnwindSafe(|| slot.set(Some((self.start)(kind, work.clone(), unit)))));
        let happened = match started {
            Ok(()) => poll_slot(&mut slot, &mut TaskContext::from_waker(Waker::noop())),
            Err(panic) => Some(Happened::Panicked(format!("the receptor panicked: {}", panic_text(&*panic)))),
        };
        match happened {
            Some(happened) => {
                self.recycle(slot);
                self.conclude(work, happened).await?;
            }
            None => {
                let (cancel, cancelled) = oneshot::channel();
                let detach_at = (!work.is_parked()).then(|| later(now, self.worker.detach_after));
                let alarm_at = detach_at.map_or(deadline, |at| at.min(deadline));
                let alarm = Box::pin(tokio::time::sleep_until(alarm_at.into()));
                let detached = false;
                let inner =
                    WaitingInner { slot, alarm, cancelled, key, position, deadline, detached, detach_at };
                // Polled once more by the set, this time with a waker.
                self.waiting.push(Waiting { inner: Some(inner) });
                // Parked work may run until its deadline; it does not keep the page of its neighbours so long.
                let work = if work.is_parked() { work.alone() } else { work };
                self.lanes.running(work, cancel);
            }
        }
        Ok(key)
    }

    /// Something happened to a handler that waited.
    async fn happened(&mut self, happened: Happened, mut inner: WaitingInner<F>) -> Result<(), PumpGone> {
        let key = inner.key;
        if let Happened::RunsLong = happened {
            if let Some(work) = self.lanes.detach(key) {
                inner.detached = true;
                inner.detach_at = None;
                inner.alarm.as_mut().reset(inner.deadline.into());
                self.waiting.push(Waiting { inner: Some(inner) });
                self.settle(work, How::Detach, "", None).await?;
                return self.next_in(key).await;
            }
            // Its lane was set back; it runs on in vain until its deadline.
            inner.alarm.as_mut().reset(inner.deadline.into());
            self.waiting.push(Waiting { inner: Some(inner) });
            return Ok(());
        }
        let WaitingInner { slot, position, detached, .. } = inner;
        self.recycle(slot);
        if let Happened::Cancelled = happened {
            return Ok(());
        }
        if detached && host::is_planted("forgets-what-was-detached") {
            return Ok(());
        }
        let work =
            if detached { self.lanes.finished_detached(key, position) } else { self.lanes.finished(key) };
        if let Some(work) = work {
            self.conclude(work, happened).await?;
        }
        self.next_in(key).await
    }
}
