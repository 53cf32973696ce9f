//! Counts what the rows of the table allocate, for the table to print beside its times.
//!
//! `cargo bench -p whizbang-benches` runs it before the table. It is a program of its own, because an allocator that counts
//! is slower: those who allocate would look worse than they are.
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
    run::run(Some(|run| allocation_counter::measure(run).count_total))
}
