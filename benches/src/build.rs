//! What `./scripts/build-time` reports.

use serde::{Deserialize, Serialize};

/// How long it took to build something from clean.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Build {
    /// What was built.
    pub what: String,
    /// How many jobs ran at once.
    pub jobs: usize,
    /// Wall clock.
    pub seconds: f64,
    /// When.
    pub date: String,
    /// The one-minute load average before it.
    pub load_before: f64,
}

/// It must not take longer.
pub const SECONDS_MAX: f64 = 120.0;
