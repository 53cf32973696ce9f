//! What the examples share: reading deliveries from lines, and printing tables. The examples themselves are in
//! `examples/examples`, each a file to read from top to bottom; `cluster`, which takes longer to build, is in
//! `examples/cluster`.
//!
//! | example | shows |
//! |---|---|
//! | `quickstart` | dispatch, durable messages, retries, dead letters, and a crash |
//! | `ingest` | a file of webhook deliveries, each handled once, whatever happens to the process |
//! | `cluster` | several processes over one PostgreSQL, one of them killed in the middle |
//! | `file_storage` | a durable storage backend of one's own, in under 150 lines ([`file_journal`]) |
//! | `custom_storage` | a layer of one's own before a store: it lets everything through and writes down how long it took |
#![forbid(unsafe_code)]

pub mod deliveries;
pub mod file_journal;
pub mod lines;
pub mod source;
pub mod table;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
