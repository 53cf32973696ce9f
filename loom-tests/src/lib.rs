//! A loom model for every lock-free protocol of Whizbang, and for each model twins that must fail.
//!
//! A model runs the very code of `whizbang-lockfree`, built with `--cfg lockfree_loom`, with every value that a weak
//! memory may show: in every interleaving if it has two threads, up to a bound of preemptions if it has three. A *twin*
//! is the same model with one named ordering made `Relaxed`, one fence left out or one step not taken; it has to
//! fail, or the model does not prove what it claims. `docs/memory-model.md` tells the protocols and lists the names.
//!
//! `./scripts/loom` builds and runs all of it, and prints a line for each model:
//!
//! ```text
//! model                                bound executions  seconds  explored  twins
//! ring_wraps                             all       1416      0.2  complete  5 of 5 fail
//! stripes_are_two                          4      19767      3.2  complete  2 of 2 fail
//! ```
//!
//! # To add a model
//!
//! Write a function that makes the rings, spawns every participant, joins them and asserts; add it to `models::MODELS`
//! with the twins that it can tell apart. What works: capacity for two records and one more than fits; three
//! threads at most, besides the one that joins; nobody loops until something succeeds, unless a wake-up bounds the
//! loop. A lost wake-up needs no assertion: loom reports that all threads are blocked.
//!
//! # To model your own use
//!
//! Copy `tests/own_use.rs`, which needs nothing of this crate; the README says how it is run.
#![cfg_attr(not(lockfree_loom), allow(unused))]

#[cfg(lockfree_loom)]
pub mod models;

mod coverage;

#[cfg(lockfree_loom)]
mod runner;

mod verdict;

#[cfg(lockfree_loom)]
pub use runner::run;

/// Says what is missing.
#[cfg(not(lockfree_loom))]
pub fn run() -> std::process::ExitCode {
    eprintln!("the models need the checker's build of the protocols: run ./scripts/loom");
    std::process::ExitCode::FAILURE
}
