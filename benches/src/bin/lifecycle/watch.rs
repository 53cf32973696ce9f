//! What the store says: when single messages are settled, and when all of them are; and a bar for people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use whizbang::{Engine, StoreReader, StreamKey};
use whizbang_storage::{Statistics, SubscriptionStatistics, Whereabouts};

use crate::load::{Bench, Ledger, Probe, histogram};
use crate::{Failed, nanos_since};

/// A watch that is under way.
pub(crate) struct Watching {
    is_over: Arc<AtomicBool>,
    is_probing: Arc<AtomicBool>,
    bar: JoinHandle<()>,
    probe: JoinHandle<Result<Histogram<u64>, Failed>>,
}

/// Begins to show progress, and, where that is asked for, to send a message of its own now and then, whose whole life it
/// times.
pub(crate) fn begin(engine: &Engine<Bench>, ledger: &Arc<Ledger>, messages: u64, probing: bool) -> Watching {
    let (is_over, is_probing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(probing)));
    Watching {
        bar: tokio::spawn(show(Arc::clone(ledger), messages, Arc::clone(&is_over))),
        probe: tokio::spawn(probe(engine.clone(), Arc::clone(&is_probing))),
        is_over,
        is_probing,
    }
}

impl Watching {
    /// Sends no further message of its own.
    pub(crate) fn stop_probing(&self) {
        self.is_probing.store(false, Ordering::Release);
    }

    /// Latencies until the store said that a message was settled.
    pub(crate) async fn end(self) -> Result<Histogram<u64>, Failed> {
        self.stop_probing();
        self.is_over.store(true, Ordering::Release);
        self.bar.await?;
        self.probe.await?
    }
}

async fn show(ledger: Arc<Ledger>, messages: u64, is_over: Arc<AtomicBool>) {
    let bar = if messages == u64::MAX { ProgressBar::new_spinner() } else { ProgressBar::new(messages) };
    let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {msg} {human_pos} handled, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while !is_over.load(Ordering::Acquire) {
        bar.set_message(format!("{} sent,", ledger.sent()));
        bar.set_position(ledger.handled());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
}

/// Asking after one message looks through its partition, so it is done seldom.
const PROBE_EVERY: Duration = Duration::from_millis(20);
const ASK_EVERY: Duration = Duration::from_micros(200);

async fn probe(engine: Engine<Bench>, is_probing: Arc<AtomicBool>) -> Result<Histogram<u64>, Failed> {
    let mut settled = histogram();
    for number in 0_u64.. {
        if !is_probing.load(Ordering::Acquire) {
            break;
        }
        let begun = Instant::now();
        let probe = Probe { number };
        let stream = Some(number.stream_id());
        let receipt = engine.send(probe).await.map_err(|error| error.to_string())?;
        while engine.reader().whereabouts(receipt.id(), stream).await? == Whereabouts::Waiting {
            tokio::time::sleep(ASK_EVERY).await;
        }
        settled.saturating_record(nanos_since(begun));
        tokio::time::sleep(PROBE_EVERY).await;
    }
    Ok(settled)
}

/// What is in the store at the end.
pub(crate) struct Left {
    pub(crate) rows: u64,
    dead: u64,
    arrivals: u64,
}

impl Left {
    fn of(statistics: &Statistics) -> Self {
        let of_all = |count: fn(&SubscriptionStatistics) -> u64| {
            statistics.subscriptions.iter().map(count).sum::<u64>()
        };
        let dead = of_all(|subscription| subscription.dead);
        let parked = of_all(|subscription| subscription.parked + subscription.unroutable);
        let Statistics { messages, events, arrivals, dedup_keys, projections, .. } = *statistics;
        Self { rows: messages + events + arrivals + dedup_keys + projections + parked + dead, dead, arrivals }
    }

    pub(crate) fn wrong(&self) -> Option<String> {
        let Self { dead, arrivals, .. } = self;
        (dead + arrivals > 0).then(|| format!("{dead} dead letters and {arrivals} arrivals are left"))
    }
}

/// Waits until the store says that nothing waits: neither in the log nor beside it.
pub(crate) async fn wait_until_settled(engine: &Engine<Bench>) -> Result<Left, Failed> {
    loop {
        let statistics = engine.reader().statistics().await?;
        let is_settled = |subscription: &SubscriptionStatistics| {
            subscription.lag == 0 && subscription.parked == 0 && subscription.unroutable == 0
        };
        if statistics.subscriptions.iter().all(is_settled) {
            return Ok(Left::of(&statistics));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
