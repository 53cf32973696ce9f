//! What the `lifecycle` program reports, so that others can read it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One run: messages sent, durable, handled and settled, with the clock stopped by what the store says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Where it ran.
    pub machine: Machine,
    /// `memory`, `sqlite` or `postgres`.
    pub store: String,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of payload in each; 0 is a plain message of 64 bytes.
    pub payload_bytes: usize,
    /// Streams they were spread over.
    pub streams: u64,
    /// Threads that sent.
    pub producers: u64,
    /// Tasks that ran handlers, in each engine.
    pub handlers: usize,
    /// Engines that shared the store and the work.
    pub instances: u64,
    /// Messages one exchange took in at most, when it was not the engine's default.
    pub batch: Option<usize>,
    /// Messages a second that were offered, when the run was paced.
    pub rate: Option<f64>,
    /// The part of all messages that failed the first time.
    pub fail: f64,
    /// Whether handling began only when all was durable; then what is settled counts from there.
    pub backlog: bool,
    /// Messages a second until all were durable.
    pub durable_per_second: f64,
    /// Messages a second until all were settled.
    pub settled_per_second: f64,
    /// Seconds until all were settled.
    pub seconds: f64,
    /// From the call to its return.
    pub accepted: Latency,
    /// From the call until the message was durable.
    pub durable: Latency,
    /// From the call until its handler began.
    pub handler_started: Latency,
    /// From the call until the store said that nothing waits for it; asked now and then.
    pub settled: Latency,
    /// Calls of the store.
    pub storage_calls: u64,
    /// Seconds in them.
    pub storage_seconds: f64,
    /// Bytes that this process gave the system to write; on PostgreSQL, those that the server added to its write-ahead log.
    pub bytes_written: u64,
    /// Rows in the store at the end: messages, events, arrivals, keys, projections, parked and dead.
    pub rows_left: u64,
    /// Heap allocations of the whole process per message; only of a build that counts them.
    pub allocations_per_message: Option<f64>,
    /// Processor time of this process.
    pub cpu_seconds: f64,
    /// What was wrong; empty when all was right.
    pub wrong: Vec<String>,
}

/// Latencies of one phase, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Messages that were timed.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// One in a hundred was above.
    pub p99: u64,
    /// One in a thousand was above.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// At each of [`PARTS`], for plots; empty when nothing was timed.
    pub curve: Vec<u64>,
}

/// Where a [`Latency::curve`] has its points: the part of all messages that took at most so long.
pub const PARTS: [f64; 13] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            curve: match histogram.len() {
                0 => Vec::new(),
                _ => PARTS.map(|part| histogram.value_at_quantile(part)).to_vec(),
            },
        }
    }
}

impl Lifecycle {
    /// What was timed, in a message's order, with names.
    pub fn phases(&self) -> [(&'static str, &Latency); 4] {
        [
            ("accepted", &self.accepted),
            ("durable", &self.durable),
            ("handler started", &self.handler_started),
            ("settled", &self.settled),
        ]
    }
}

impl std::fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per_call = self.messages as f64 / (self.storage_calls.max(1)) as f64;
        let per_message = |value: f64| value / self.messages.max(1) as f64;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{}: {} messages of {} bytes, {} streams, {} producers, {} engines of {} workers{}",
            self.store,
            self.messages,
            self.payload_bytes,
            self.streams,
            self.producers,
            self.instances,
            self.handlers,
            if self.backlog { "; all was durable before the first was handled" } else { "" }
        )?;
        writeln!(f, "  durable  {:>12.0} messages/s", self.durable_per_second)?;
        writeln!(f, "  settled  {:>12.0} messages/s  ({:.2} s)", self.settled_per_second, self.seconds)?;
        writeln!(
            f,
            "  {:<16} {:>9} {:>12} {:>12} {:>12} {:>12}",
            "latency", "timed", "p50", "p99", "p99.9", "max"
        )?;
        for (name, Latency { count, p50, p99, p999, max, .. }) in self.phases() {
            let [p50, p99, p999, max] = [*p50, *p99, *p999, *max].map(time);
            writeln!(f, "  {name:<16} {count:>9} {p50:>12} {p99:>12} {p999:>12} {max:>12}")?;
        }
        writeln!(
            f,
            "  storage  {} calls, {per_call:.0} messages a call, {:.2} s in them",
            self.storage_calls, self.storage_seconds
        )?;
        writeln!(
            f,
            "  written  {:.0} bytes a message; {} rows left",
            per_message(self.bytes_written as f64),
            self.rows_left
        )?;
        let allocations = match self.allocations_per_message {
            Some(count) => format!("{count:.2} allocations a message"),
            None => "allocations not counted (--features count-allocations)".to_owned(),
        };
        writeln!(
            f,
            "  cpu      {:.2} s, {:.0} ns a message; {allocations}",
            self.cpu_seconds,
            per_message(self.cpu_seconds * 1e9)
        )?;
        for wrong in &self.wrong {
            writeln!(f, "  WRONG    {wrong}")?;
        }
        Ok(())
    }
}

/// Nanoseconds as people read them.
fn time(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_unit_that_fits() {
        assert_eq!([time(950), time(12_340), time(12_340_000)], ["950 ns", "12.3 µs", "12.3 ms"]);
    }
}
