//! Rings, doorbell, horizon, ids and the arena pool: every atomic and every `unsafe` block of Whizbang.
//!
//! | to | use |
//! |---|---|
//! | hand messages from many threads to one | [`rings`], which gives [`Producers`] and a [`Consumer`] |
//! | do so as fast as it goes | [`Producers::publisher`] |
//! | encode in place | [`Producers::try_claim`] |
//! | look at a plain message where it is drained | [`Visit`], [`Sink`] |
//! | wait for room, or for an answer | [`Producers::room`], [`Producers::answered`], [`Herald`] |
//! | rest until there is work | [`Doorbell`] |
//! | name a message | [`ids::next_id`] |
//! | build a batch without allocating | [`ArenaPool`] |
//!
//! What lies in a ring never owns memory. Rings are bounded; full is an answer, not a wait.
//!
//! # The whole way
//!
//! ```
//! use std::thread;
//! use whizbang_lockfree::{Doorbell, DrainLimit, NoSink, Rest, RingsConfig, rings};
//!
//! let bell = Doorbell::new();
//! let (producers, mut consumer) = rings::<u64, NoSink>(RingsConfig::default(), &bell)?;
//!
//! let pump = thread::spawn(move || {
//!     let mut sum = 0;
//!     while !consumer.is_closed_and_empty() {
//!         let batch = consumer.drain(DrainLimit::NONE);
//!         sum += batch.records().map(|record| record.header()).sum::<u64>();
//!         batch.finish(); // answered and freed, all at once
//!         consumer.wake(); // who waits for that
//!         bell.rest(Rest::default(), || consumer.has_news());
//!     }
//!     sum
//! });
//!
//! for number in 1..=10 {
//!     producers.try_push(number, b"payload")?;
//! }
//! producers.close();
//! assert_eq!(pump.join().unwrap(), 55);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is checked
//!
//! `docs/memory-model.md` tells every protocol and names every ordering. `./scripts/loom` runs a model of each in
//! every interleaving, of three threads up to a bound, and shows that each ordering and step is needed: weakened,
//! its model fails. `./scripts/miri` and `./scripts/sanitize` run the tests under Miri and the sanitizers.
//!
//! A use of your own can be modelled as well: with `RUSTFLAGS="--cfg lockfree_loom"` all of this runs on loom's
//! primitives, inside `loom::model`. `loom-tests/tests/own_use.rs` is an example to copy, and the README says what
//! it needs.

mod arena;
mod claim;
mod consumer;
mod doorbell;
mod edges;
mod error;
mod fence;
mod horizon;
pub mod ids;
mod producers;
mod record;
mod ring;
mod rings;
mod seat;
mod storage;
mod sync;
mod ticket;

pub use arena::{Arena, ArenaPool};
pub use claim::Claim;
pub use consumer::{Consumer, DrainLimit, Drained, Records};
pub use doorbell::{Doorbell, Rest, Rested, Woken};
pub use error::{ClaimExceeded, ConfigError, ConsumerGone, NoRing, PushError, Rejected};
pub use fence::Fences;
pub use horizon::{Answered, Herald, Room};
pub use producers::{Producers, Publisher};
pub use record::{NoSink, Record, Sink, Visit};
pub use rings::{Ends, RingsConfig, rings};
pub use ticket::Ticket;

/// For the loom models: the names of all edges and steps, and the way to weaken one.
#[cfg(lockfree_loom)]
pub mod model {
    pub use crate::edges::edge::EDGES;
    pub use crate::edges::step::STEPS;
    pub use crate::edges::weaken::{Weakening, set as weaken};
    pub use crate::edges::{Edge, End, Step};
    pub use crate::sync::give_seat_back;
}
