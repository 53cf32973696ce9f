//! What each run of a durable rival, or of ours beside it, reports: one line of JSON.

use serde::{Deserialize, Serialize};

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
}
