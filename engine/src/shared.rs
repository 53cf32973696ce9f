//! What an engine's handles, its workers and its pump have in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use whizbang_lockfree::{Doorbell, Producers};
use whizbang_storage::{Limits, StoreError};

use crate::failure::whole;
use crate::host;
use crate::intake::{Header, PlainSink};
use crate::operate::Order;
use crate::pump::Stopped;
use crate::reader::AnyReader;
use crate::replies::Replies;

/// Which flows of this engine have a receptor for a type.
pub(crate) type Wants = Arc<dyn Fn(u32, &str) -> bool + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) intake: Producers<Header, PlainSink>,
    pub(crate) bell: Doorbell,
    pub(crate) replies: Replies,
    pub(crate) reader: AnyReader,
    pub(crate) limits: Limits,
    pub(crate) partitions: u32,
    pub(crate) wants: Wants,
    orders: Mutex<Orders>,
    health: Mutex<Health>,
    counters: Counters,
}

/// What the handles ask of the pump.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) stop: Option<StopTimes>,
    /// Who waits for the end.
    waiting: Vec<oneshot::Sender<Stopped>>,
    /// Others left work: ask the store at once.
    pub(crate) hinted: bool,
    pub(crate) operations: Vec<Order>,
    /// There is no pump any more that would follow them, and this is how it ended.
    ended: Option<Stopped>,
}

/// Until when an engine that stops waits, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopTimes {
    /// What still runs then is cancelled.
    pub(crate) deadline: Instant,
    /// What could not be stored then is given up.
    pub(crate) give_up_at: Instant,
}

impl StopTimes {
    /// Handlers are cancelled at once; what was accepted gets some time to become durable.
    pub(crate) fn at_once(now: Instant) -> Self {
        Self { deadline: now, give_up_at: now + Duration::from_secs(5) }
    }
}

/// How an engine is, as of its last exchange with the store.
///
/// A store that is away lets nobody fail: messages wait in the rings, and whoever sends one waits, too. This is where it
/// is seen.
///
/// ```
/// # use std::time::Duration;
/// # use whizbang::{Engine, Health, dispatcher};
/// # dispatcher! { struct App {} }
/// fn is_ready(engine: &Engine<App>) -> bool {
///     let away = engine.health().storage_away;
///     if let Some(away) = &away {
///         eprintln!("nothing was stored for {:?}: {}", away.since.elapsed(), away.error);
///     }
///     away.is_none_or(|away| away.since.elapsed() < Duration::from_secs(5))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it works, is stopping, or has ended.
    pub state: State,
    /// Since when the store does not answer or stores nothing (a full disk, a server that is away), and what it said last;
    /// `None` while it stores.
    pub storage_away: Option<StorageAway>,
    /// Partitions this engine handles.
    pub partitions_owned: usize,
    /// Messages of the owned partitions that are handed to workers and not settled. Parked messages that are tried again
    /// count here, and not in a subscription's [`lag`](whizbang_storage::SubscriptionStatistics::lag).
    pub in_flight: usize,
    /// Exchanges that were answered.
    pub exchanges: u64,
    /// Messages in them.
    pub messages_stored: u64,
    /// How long the last one took.
    pub last_exchange: Duration,
    /// How often this process was taken for dead and joined again.
    pub evictions: u64,
}

/// What an engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has not joined yet.
    Starting,
    /// It takes messages and handles them.
    Running,
    /// It takes no more messages, and finishes what it has.
    Stopping,
    /// It has ended.
    Stopped,
    /// It has ended because it could not go on; [`Health::storage_away`] says why.
    Failed,
}

/// A store that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageAway {
    /// Since when.
    pub since: Instant,
    /// What it said last.
    pub error: String,
}

/// What [`metrics`](https://docs.rs/metrics) counts, under the design's words.
struct Counters {
    exchanges: metrics::Counter,
    messages: metrics::Counter,
    seconds: metrics::Histogram,
    failures: metrics::Counter,
    in_flight: metrics::Gauge,
}

impl Counters {
    fn register() -> Self {
        Self {
            exchanges: metrics::counter!("whizbang_exchanges_total"),
            messages: metrics::counter!("whizbang_messages_stored_total"),
            seconds: metrics::histogram!("whizbang_exchange_seconds"),
            failures: metrics::counter!("whizbang_exchange_failures_total"),
            in_flight: metrics::gauge!("whizbang_messages_in_flight"),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        intake: Producers<Header, PlainSink>,
        bell: Doorbell,
        reader: AnyReader,
        limits: Limits,
        partitions: u32,
        wants: Wants,
    ) -> Self {
        let health = Health {
            state: State::Starting,
            storage_away: None,
            partitions_owned: 0,
            in_flight: 0,
            exchanges: 0,
            messages_stored: 0,
            last_exchange: Duration::ZERO,
            evictions: 0,
        };
        Self {
            intake,
            bell,
            replies: Replies::default(),
            reader,
            limits,
            partitions,
            wants,
            orders: Mutex::default(),
            health: Mutex::new(health),
            counters: Counters::register(),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    pub(crate) fn with_health<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        change(&mut self.health.lock())
    }

    /// An exchange was answered.
    pub(crate) fn exchanged(&self, messages: usize, took: Duration, in_flight: usize) {
        self.counters.exchanges.increment(1);
        self.counters.messages.increment(messages as u64);
        self.counters.seconds.record(took.as_secs_f64());
        self.counters.in_flight.set(in_flight as f64);
        let mut health = self.health.lock();
        if let Some(away) = health.storage_away.take() {
            tracing::info!(after = ?host::now().saturating_duration_since(away.since), "exchange: the store answers again");
        }
        health.exchanges += 1;
        health.messages_stored += messages as u64;
        health.last_exchange = took;
        health.in_flight = in_flight;
    }

    /// What this instance has is another than before.
    pub(crate) fn holds(&self, partitions_owned: usize, in_flight: usize) {
        self.counters.in_flight.set(in_flight as f64);
        let mut health = self.health.lock();
        health.partitions_owned = partitions_owned;
        health.in_flight = in_flight;
    }

    /// The store did not answer, or answered that nothing was written.
    pub(crate) fn storage_failed(&self, error: &StoreError) {
        self.counters.failures.increment(1);
        let error = whole(error);
        let mut health = self.health.lock();
        match &mut health.storage_away {
            Some(away) => away.error = error,
            None => {
                tracing::warn!(error, "exchange: the store does not answer; accepted messages wait");
                health.storage_away = Some(StorageAway { since: host::now(), error });
            }
        }
    }

    /// The engine cannot go on.
    pub(crate) fn broke(&self, error: &StoreError) {
        let error = whole(error);
        tracing::error!(
            error,
            "exchange: engine and store disagree; the engine ends, nothing acknowledged is lost"
        );
        let mut health = self.health.lock();
        health.state = State::Failed;
        health.storage_away = Some(StorageAway { since: host::now(), error });
    }

    /// Asks the pump to stop. The first request counts; whoever asks is told when it is done.
    pub(crate) fn order_stop(&self, times: StopTimes, done: Option<oneshot::Sender<Stopped>>) {
        let mut orders = self.orders.lock();
        match (&orders.ended, done) {
            (Some(stopped), Some(done)) => drop(done.send(stopped.clone())),
            (Some(_), None) => {}
            (None, done) => {
                orders.stop.get_or_insert(times);
                orders.waiting.extend(done);
            }
        }
        drop(orders);
        self.bell.ring();
    }

    /// The pump has ended, in the way that was told first: nobody waits for it any more.
    pub(crate) fn ended(&self, stopped: Stopped) {
        self.intake.close();
        self.replies.abandon();
        self.with_health(|health| {
            if health.state != State::Failed {
                health.state = State::Stopped;
            }
        });
        let mut orders = self.orders.lock();
        orders.operations.clear();
        let stopped = orders.ended.get_or_insert(stopped).clone();
        for done in orders.waiting.drain(..) {
            let _ = done.send(stopped.clone());
        }
    }

    /// Asks the pump to carry out an operation; it is dropped when there is no pump any more.
    pub(crate) fn order(&self, order: Order) {
        let mut orders = self.orders.lock();
        if orders.ended.is_none() {
            orders.operations.push(order);
        }
        drop(orders);
        self.bell.ring();
    }

    /// Asks the pump to look at the store at once.
    pub(crate) fn hint(&self) {
        self.orders.lock().hinted = true;
        self.bell.ring();
    }

    pub(crate) fn take_orders(&self) -> Orders {
        let mut orders = self.orders.lock();
        Orders {
            stop: orders.stop.take(),
            hinted: std::mem::take(&mut orders.hinted),
            operations: std::mem::take(&mut orders.operations),
            ..Orders::default()
        }
    }

    pub(crate) fn has_orders(&self) -> bool {
        let orders = self.orders.lock();
        orders.hinted || orders.stop.is_some() || !orders.operations.is_empty()
    }

    /// Until when a stop that the pump has not taken note of yet tries to store what was accepted.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.orders.lock().stop.map(|stop| stop.give_up_at)
    }
}
