//! What the examples share: reading deliveries from lines, printing tables, watching processes and auditing what they
//! did. The examples themselves are in `examples/examples`, each a file to read from top to bottom.
//!
//! | example | shows |
//! |---|---|
//! | `quickstart` | dispatch, durable messages, retries, dead letters, and a crash |
//! | `ingest` | a file of webhook deliveries, each handled once, whatever happens to the process |
//! | `cluster` | several processes over one PostgreSQL, one of them killed in the middle |
//! | `custom_storage` | a storage backend of one's own |
#![forbid(unsafe_code)]

pub mod audit;
pub mod deliveries;
pub mod instances;
pub mod lines;
pub mod source;
pub mod table;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
