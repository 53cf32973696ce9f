//! Parked work: retries, lanes that wait, suspects, crashes, dead letters.

mod dead;
mod suspects;
mod waiting;

use std::time::Duration;

use whizbang_storage::{DeadReason, Settle, Unit, WorkStore};

use crate::{Got, Member, applied, numbers};

pub use dead::*;
pub use suspects::*;
pub use waiting::*;

const NOW: Duration = Duration::ZERO;
const DEAD: Settle<'static> = Settle::Dead { reason: DeadReason::Rejected, error: "no" };

/// Ends everything in the log's flow that a member can read behind a position, well.
async fn finish<S: WorkStore>(member: &mut Member<S>, got: &[Got]) {
    let units: Vec<Unit<'_>> = got.iter().map(Got::done).collect();
    assert!(applied(&member.units(&units).await));
}

/// Runs everything that is due, in the order it comes, until nothing is.
async fn run_due<S: WorkStore>(member: &mut Member<S>) -> Vec<u64> {
    let mut ran = Vec::new();
    loop {
        let due = member.due().await;
        if due.is_empty() {
            return ran;
        }
        ran.extend(numbers(&due));
        finish(member, &due).await;
    }
}
