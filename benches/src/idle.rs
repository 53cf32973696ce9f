//! What the `idle` program reports, so that others can read it.

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine::Machine;

/// One run: single messages through an engine with nothing else to do, and an engine with nothing to do at all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idle {
    /// Where it ran.
    pub machine: Machine,
    /// How long one line appended to a file takes to be on the disk, measured between the messages; in microseconds.
    pub fdatasync_micros: Figures,
    /// From the call that publishes until the message is durable, in microseconds.
    pub durable_micros: Figures,
    /// From the call that publishes until the handler begins, in microseconds.
    pub handler_started_micros: Figures,
    /// How long an idle engine was watched, in seconds.
    pub watched_seconds: f64,
    /// Calls of the store meanwhile.
    pub storage_calls: u64,
    /// The part of one core that the process took meanwhile.
    pub core_share: f64,
    /// Engines that were started to see how much memory they take.
    pub engines: usize,
    /// Resident memory for each of them and its store, in MiB.
    pub mib_per_engine: f64,
}

/// Something that must hold, and whether it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What was measured.
    pub what: &'static str,
    /// What it must be.
    pub must: String,
    /// What it was.
    pub reached: String,
    /// Whether that is enough.
    pub is_met: bool,
}

impl Idle {
    /// What must hold, in order.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let times = |what, max: f64, figures: &Figures| {
            let ratio = figures.p50 / self.fdatasync_micros.p50;
            Verdict {
                what,
                must: format!("p50 ≤ {max} × one fdatasync"),
                reached: format!("{ratio:.2} × ({:.0} of {:.0} µs)", figures.p50, self.fdatasync_micros.p50),
                is_met: ratio <= max,
            }
        };
        // Ten calls are allowed in a minute; who watches for a shorter time allows fewer.
        let calls_max = 10.0 * self.watched_seconds / 60.0;
        vec![
            times("publish → durable, idle engine, SQLite FULL", 2.5, &self.durable_micros),
            times("publish → handler starts, idle engine, SQLite FULL", 3.0, &self.handler_started_micros),
            Verdict {
                what: "an idle engine's storage calls",
                must: format!("≤ {calls_max:.0} in {:.0} s", self.watched_seconds),
                reached: self.storage_calls.to_string(),
                is_met: self.storage_calls as f64 <= calls_max,
            },
            Verdict {
                what: "an idle engine's processor time",
                must: "≤ 0.2 % of a core".to_owned(),
                reached: format!("{:.3} %", self.core_share * 100.0),
                is_met: self.core_share <= 0.002,
            },
            Verdict {
                what: "memory for each idle engine, with its store",
                must: "≤ 16 MiB".to_owned(),
                reached: format!("{:.1} MiB", self.mib_per_engine),
                is_met: self.mib_per_engine <= 16.0,
            },
        ]
    }
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let micros = [
            ("fdatasync", &self.fdatasync_micros),
            ("durable", &self.durable_micros),
            ("handler started", &self.handler_started_micros),
        ];
        for (name, Figures { count, p50, p99, p999, max, .. }) in micros {
            writeln!(
                f,
                "  {name:<16} {count:>6} times, p50 {p50:>7.0} µs, p99 {p99:>7.0}, p99.9 {p999:>7.0}, max {max:>7.0}"
            )?;
        }
        for Verdict { what, must, reached, is_met } in self.verdicts() {
            let is_met = if is_met { "met" } else { "MISSED" };
            writeln!(f, "  {is_met:<6} {what}: {reached}; must be {must}")?;
        }
        Ok(())
    }
}
