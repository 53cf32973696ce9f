//! The table: what the parts of the engine cost in the process, each row beside a floor and rivals, in one run.
//!
//! ```text
//! cargo bench -p whizbang-benches                                   # all rows
//! cargo bench -p whizbang-benches -- --rows publish invoke          # rows whose names contain one of these
//! cargo bench -p whizbang-benches -- --samples 50 --json table.json
//! ```
//!
//! A row's contestants take turns, A B B A, so that a machine that speeds up or slows down does so for all of them; each
//! turn is one or more short samples, and the median of all is what counts. Threads are pinned: producers on the first
//! core, the consumer on the last. Inputs are hidden from the optimiser. Allocations are counted in turns of their own.
#![forbid(unsafe_code)]

mod calls;
mod cores;
mod engines;
mod print;
mod queues;
mod rings;
mod routes;
mod rows;
mod run;
mod small;
mod waking;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(None)
}
