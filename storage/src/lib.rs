//! The storage contract of Whizbang: what an engine asks of a store, and what every store promises.
//!
//! `process_work_batch` is the only way anything is written: one call, one round trip, one transaction, one answer per
//! item. The words used here:
//!
//! | word | meaning |
//! |---|---|
//! | service | namespace of every row ([`Service`]) |
//! | instance | one running process of a service ([`InstanceId`]), alive as long as it sends batches |
//! | group | instances that share work; an instance joins at most one |
//! | stream, lane | messages that are handled in order; a message without a stream is a lane of its own |
//! | partition | a part of the log, `xxh3_64(stream) % P` ([`StreamId::partition`]) |
//! | owner, epoch | the one instance of a group that handles a partition, under a number that grows with each owner |
//! | log | per partition, positions 1, 2, 3 … in the order of commit |
//! | arrival | a message that is durable but not in the log yet: scheduled, or for somebody else's partition |
//! | subscription, cursor | a named reader of the log, and where it stands in each partition |
//! | parked | a message of one subscription out of the log's flow: waiting, running long, suspect, unroutable or dead |
//! | unit | one atomic group: a delivery is settled, and everything its handler produced |
//!
//! [`WorkStore`] states the rules; [`MemoryStore`] is their plainest implementation, and a [`journal`] makes it durable. This
//! crate knows nothing of rings, runtimes, SQL or the engine.
#![forbid(unsafe_code)]

mod answer;
mod batch;
pub mod callers;
pub mod cursor;
mod digest;
mod id;
pub mod journal;
pub mod membership;
mod memory;
mod page;
pub mod parked;
pub mod pick;
pub mod record;
pub mod refuse;
mod settings;
mod store;
mod time;
pub mod turn;
mod wire;

pub use answer::*;
pub use batch::*;
pub use id::*;
pub use memory::{MemoryDatabase, MemoryReader, MemoryStore};
pub use page::*;
pub use settings::*;
pub use store::*;
pub use time::*;
