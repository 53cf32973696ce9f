//! The SQLite backend of Whizbang: everything in one file, durable before it is acknowledged.
//!
//! ```
//! use whizbang_storage_sqlite::SqliteStore;
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("orders.db");
//! let store = SqliteStore::open(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | take |
//! |---|---|
//! | open a file with good defaults | [`SqliteStore::open`] |
//! | choose anything about it | [`SqliteOptions`] |
//! | have a store that ends with the test | [`SqliteStore::in_memory`] |
//! | send messages in a transaction of your own | [`enqueue`] |
//! | know why a file was refused | [`OpenError`] |
//!
//! Several processes may open one file. One writes at a time: a batch is one transaction, which begins by taking the file's
//! write lock and ends with one `fsync` (`fdatasync`, where SQLite was compiled with `HAVE_FDATASYNC`). What one leaves for
//! another, that one notices within 200 ms: arrivals in its partitions, and changes of membership. What another *group* has
//! written into the log it learns with its heartbeat.
#![forbid(unsafe_code)]

mod append;
mod arrivals;
mod block;
mod dedup;
mod due;
mod enqueue;
mod error;
mod exchange;
mod housekeeping;
mod log;
mod members;
mod operations;
mod options;
mod parked;
mod read;
mod reader;
mod room;
mod schema;
mod segment;
mod settle;
mod state;
mod store;
mod watch;

pub use enqueue::{Enqueuer, enqueue};
pub use error::{EnqueueError, Enqueued, OpenError};
pub use options::{Existing, SqliteOptions, Synchronous};
pub use reader::SqliteReader;
pub use store::SqliteStore;
pub use whizbang_storage::{Limits, Service};
