//! What the benches have in common: figures from samples, the machine on which they were taken, and how results are kept.
//!
//! | to measure | run |
//! |---|---|
//! | nanoseconds in the process, beside floors and rivals | `cargo bench -p whizbang-benches` |
//! | messages through their whole life in a store | `cargo run --release -p whizbang-benches --bin lifecycle` |
//! | what disk and databases can do at best | `cargo run --release -p whizbang-benches --bin floors` |
//! | what an engine with little to do takes and costs | `cargo run --release -p whizbang-benches --bin idle` |
//! | durable rivals, interleaved with ours | `./scripts/rivals` |
//! | instructions of the hot paths | `./scripts/gates` |
//! | how long the quickstart builds | `./scripts/build-time` |
//! | all results as `docs/benchmarks.md` | `./scripts/report` |
#![forbid(unsafe_code)]

pub mod build;
pub mod counted;
pub mod figures;
pub mod floors;
pub mod idle;
pub mod lifecycle;
pub mod machine;
pub mod process;
pub mod reference;
pub mod rivals;
pub mod table;
