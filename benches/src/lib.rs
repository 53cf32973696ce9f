//! What the benches have in common: figures from samples, and the machine on which they were taken.
//!
//! | to measure | run |
//! |---|---|
//! | nanoseconds in the process, beside floors and rivals | `cargo bench -p whizbang-benches` |
//! | messages through their whole life in a store | `cargo run --release -p whizbang-benches --bin lifecycle` |
#![forbid(unsafe_code)]

pub mod figures;
pub mod machine;
