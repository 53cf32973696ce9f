//! What each run of a durable rival, or of ours beside it, reports: one line of JSON.

use serde::{Deserialize, Serialize};

use crate::lifecycle::Lifecycle;
use crate::machine::Machine;

/// Messages inserted, handled and done, with the clock stopped by what the database says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RivalRun {
    /// Who ran.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// Messages.
    pub messages: u64,
    /// Bytes of payload in each.
    pub payload_bytes: usize,
    /// Seconds until the database had none left.
    pub seconds: f64,
    /// Messages a second.
    pub per_second: f64,
    /// What was set, and why so.
    pub settings: String,
    /// Where it ran; ours say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

impl From<Lifecycle> for RivalRun {
    fn from(run: Lifecycle) -> Self {
        Self {
            name: OURS.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: run.store,
            messages: run.messages,
            payload_bytes: run.payload_bytes,
            seconds: run.seconds,
            per_second: run.settled_per_second,
            settings: format!(
                "the defaults: FULL or fsync on, {} publisher, {} streams in order",
                run.producers, run.streams
            ),
            machine: Some(run.machine),
        }
    }
}

/// The name under which ours runs.
pub const OURS: &str = "whizbang";
