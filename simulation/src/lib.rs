//! The whole engine, several times, over a store that fails, on one thread: one seed is one run.
#![forbid(unsafe_code)]

#[allow(dead_code)]
mod scheduler;
