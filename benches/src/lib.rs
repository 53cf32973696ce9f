//! What the benches have in common: figures from samples, the machine on which they were taken, and how results are kept.
//!
//! | to measure | run |
//! |---|---|
//! | nanoseconds in the process, beside floors and rivals | `cargo bench -p whizbang-benches` |
//! | messages through their whole life in a store | `cargo run --release -p whizbang-benches --bin lifecycle` |
//! | what disk and databases can do at best | `cargo run --release -p whizbang-benches --bin floors` |
//! | durable rivals, interleaved with ours | `./scripts/rivals` |
//! | instructions of the hot paths | `./scripts/gates` |
//! | all results as `docs/benchmarks.md` | `./scripts/report` |
#![forbid(unsafe_code)]

pub mod figures;
pub mod floors;
pub mod lifecycle;
pub mod machine;
pub mod process;
pub mod rivals;
pub mod table;
