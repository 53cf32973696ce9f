//! The messages, their handler, and the ledger in which it is checked that each was handled, once and in order.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Failure, PlainReceptor, dispatcher};

use crate::nanos_since;

/// What every message says of itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) stream: u64,
    /// Within its stream, from 0 on.
    pub(crate) number: u64,
    /// When it was sent, in nanoseconds since the run began.
    pub(crate) sent_at: u64,
}

/// A message with a payload of its own.
#[derive(Serialize, Deserialize, Command)]
#[message(name = "bench.bytes", version = 1, codec = postcard)]
pub(crate) struct Bytes {
    #[stream]
    stream: u64,
    label: Label,
    payload: String,
}

/// A plain message of 64 bytes.
#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "bench.plain", version = 1, codec = postcard)]
pub(crate) struct Plain {
    #[stream]
    stream: u64,
    label: Label,
    words: [u64; 4],
}

/// A message in whose life nobody but its sender is interested.
#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "bench.probe", version = 1, codec = postcard)]
pub(crate) struct Probe {
    #[stream]
    pub(crate) number: u64,
}

impl Bytes {
    pub(crate) fn new(label: Label, payload: &str) -> Self {
        Self { stream: label.stream, label, payload: payload.to_owned() }
    }
}

impl Plain {
    pub(crate) fn new(label: Label) -> Self {
        Self { stream: label.stream, label, words: [label.number; 4] }
    }
}

pub(crate) struct Checker {
    ledger: Arc<Ledger>,
}

impl PlainReceptor<Bytes> for Checker {
    fn receive_now(&self, message: Bytes, cx: Context<'_>) -> Result<(), Failure> {
        black_box(message.payload.as_str());
        self.ledger.handle(message.label, cx.attempt())
    }
}

impl PlainReceptor<Plain> for Checker {
    fn receive_now(&self, message: Plain, cx: Context<'_>) -> Result<(), Failure> {
        black_box(message.words);
        self.ledger.handle(message.label, cx.attempt())
    }
}

impl PlainReceptor<Probe> for Checker {
    fn receive_now(&self, _: Probe, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

/// What failed is tried again so soon: it is the work that is measured, not the waiting.
const RETRY: Duration = Duration::from_millis(10);

dispatcher! {
    pub(crate) struct Bench { checker: Checker }
    command Bytes => checker with { retry_first: RETRY, retry_max: RETRY };
    command Plain => checker with { retry_first: RETRY, retry_max: RETRY };
    command Probe => checker;
}

impl Bench {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { checker: Checker { ledger } }
    }
}

/// One message in so many is timed.
pub(crate) const TIMED: u64 = 64;

/// Who sent what, and what has been handled.
pub(crate) struct Ledger {
    begun: OnceLock<Instant>,
    /// Of each stream, the number that comes next.
    next: Vec<AtomicU64>,
    producers: u64,
    fails_below: u64,
    sent: Vec<AtomicU64>,
    handled: AtomicU64,
    failed: AtomicU64,
    out_of_order: AtomicU64,
    started: Mutex<Histogram<u64>>,
}

impl Ledger {
    pub(crate) fn new(streams: u64, producers: u64, fail: f64) -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            begun: OnceLock::new(),
            next: zeros(streams.max(producers)),
            producers,
            fails_below: (fail * u64::MAX as f64) as u64,
            sent: zeros(streams.max(producers)),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            started: Mutex::new(histogram()),
        }
    }

    /// Starts the clock.
    pub(crate) fn begin(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }

    /// The label of a producer's `n`th message: its streams take turns, and nobody else sends to them.
    pub(crate) fn label(&self, producer: u64, n: u64, sent_at: u64) -> Label {
        let own = (self.next.len() as u64 - producer).div_ceil(self.producers);
        let stream = producer + n % own * self.producers;
        self.sent[stream as usize].fetch_add(1, Ordering::Relaxed);
        Label { stream, number: n / own, sent_at }
    }

    fn handle(&self, label: Label, attempt: u32) -> Result<(), Failure> {
        let Label { stream, number, sent_at } = label;
        if attempt == 1 && mixed(stream, number) < self.fails_below {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::msg("as was asked for"));
        }
        if mixed(stream, number).is_multiple_of(TIMED) {
            let latency = nanos_since(self.begin()).saturating_sub(sent_at);
            let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            started.saturating_record(latency);
        }
        let Some(next) = self.next.get(stream as usize) else {
            return Err(Failure::dead("of no stream here"));
        };
        // Handlers of one stream run one after the other, so nobody else writes meanwhile.
        if next.load(Ordering::Relaxed) != number {
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
        }
        next.store(number + 1, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) async fn wait_until_handled(&self, sent: u64) {
        while self.handled() < sent {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Latencies until handlers began.
    pub(crate) fn started(&self) -> Histogram<u64> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What did not happen as it must.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let out_of_order = self.out_of_order.load(Ordering::Relaxed);
        if out_of_order > 0 {
            wrong.push(format!("{out_of_order} messages were handled out of their stream's order, or twice"));
        }
        let sent = self.sent();
        if self.handled() != sent {
            wrong.push(format!("{sent} messages were sent, {} handled", self.handled()));
        }
        let other = |(sent, next): (&AtomicU64, &AtomicU64)| {
            sent.load(Ordering::Relaxed) != next.load(Ordering::Relaxed)
        };
        let streams = self.sent.iter().zip(&self.next).filter(|pair| other(*pair)).count();
        if streams > 0 {
            wrong.push(format!("{streams} streams did not end with the message that was sent last"));
        }
        if self.fails_below > 0 && sent > 10_000 && self.failed.load(Ordering::Relaxed) == 0 {
            wrong.push("no message failed although some should have".to_owned());
        }
        wrong
    }
}

/// Up to an hour, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds that can be")
}

/// A number that looks random, the same for the same message.
fn mixed(stream: u64, number: u64) -> u64 {
    let mut mixed = (stream << 32 ^ number).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_producer_has_streams_of_its_own_and_numbers_them_without_gaps() {
        let ledger = Ledger::new(5, 2, 0.0);
        for n in 0..30 {
            for producer in 0..2 {
                assert_eq!(ledger.label(producer, n, 0).stream % 2, producer);
            }
        }
        let label = ledger.label(0, 30, 0);
        assert_eq!((label.stream, label.number), (0, 10));
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_told() {
        let ledger = Ledger::new(1, 1, 0.0);
        let labels: Vec<_> = (0..3).map(|n| ledger.label(0, n, 0)).collect();
        for n in [0, 2] {
            ledger.handle(labels[n], 1).unwrap();
        }
        let wrong = ledger.wrong().join("; ");
        assert!(wrong.contains("1 messages were handled out of"), "{wrong}");
        assert!(wrong.contains("3 messages were sent, 2 handled"), "{wrong}");
    }

    #[test]
    fn a_message_that_is_to_fail_fails_once() {
        let ledger = Ledger::new(1, 1, 1.0);
        let label = ledger.label(0, 0, 0);
        assert!(ledger.handle(label, 1).is_err());
        assert!(ledger.handle(label, 2).is_ok());
        assert_eq!(ledger.wrong(), Vec::<String>::new());
    }
}
