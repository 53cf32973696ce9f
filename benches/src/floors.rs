//! What the `floors` program reports, so that others can read it.

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine::Machine;

/// One run of the floors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Floors {
    /// Where it ran.
    pub machine: Machine,
    /// How long one line appended to a file takes to be on the disk, in microseconds.
    pub fdatasync_micros: Figures,
    /// Rows a second, through one connection.
    pub rows: Vec<FloorRow>,
}

/// Rows inserted and deleted again, in batches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FloorRow {
    /// How they get there.
    pub way: String,
    /// Rows in one transaction.
    pub batch: usize,
    /// Bytes of payload in each.
    pub payload_bytes: usize,
    /// Rows a second: each inserted, and deleted by a range.
    pub per_second: f64,
}
