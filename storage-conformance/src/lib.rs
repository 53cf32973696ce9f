//! The storage contract of Whizbang, executable: a backend author writes a [`Fixture`], calls one macro, and has every rule of
//! [`WorkStore`](whizbang_storage::WorkStore) as a named test.
//!
//! - [`conformance!`] turns every case into a `#[test]`; what a backend cannot do is listed as ignored, with the reason.
//!   A case that fails says which rules of the contract it proves.
//! - [`Fixture`] is what a backend brings; [`World`] and [`Member`] are what the cases are written with. [`Memory`] is the shortest one,
//!   to copy and to compare with; [`JournalFixture`] is that of whoever brings a [`Journal`](whizbang_storage::journal::Journal).
//! - [`Faulty`] wraps a store and lets its calls fail, before or after the commit; [`Recorded`] logs them; with [`Wrapped`] anything
//!   else stands in front of it.
//! - [`kills`] kills processes that work, and lets their disk fail, and counts what is lost, doubled, reordered or half there.
//! - [`differential`] makes sequences of operations, runs each against two stores and compares every answer.
//!
//! `docs/write-a-backend.md` leads through all of it.
#![forbid(unsafe_code)]

pub mod cases;
pub mod differential;
mod faulty;
mod fixture;
mod journal;
pub mod kills;
mod list;
mod member;
mod memory;
mod message;
mod owned;
mod recorded;
mod rules;
mod seen;
mod world;
mod wrapped;

pub use faulty::*;
pub use fixture::*;
pub use journal::*;
pub use list::CASES;
pub use member::*;
pub use memory::Memory;
pub use message::*;
pub use owned::*;
pub use recorded::*;
pub use rules::{Rule, rules};
pub use seen::*;
pub use world::*;
pub use wrapped::*;

/// What the macros use; not part of the interface.
#[doc(hidden)]
pub mod internal {
    use std::future::Future;

    /// Runs a case to its end on a runtime of its own.
    pub fn run<F: Future<Output = ()>>(case: F) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a test can have a runtime")
            .block_on(case);
    }

    /// Runs a case; when it fails, says which rules of the contract it proves.
    pub fn run_case<F: Future<Output = ()>>(group: &'static str, case: &'static str, future: F) {
        let _said = crate::rules::SaidOnFailure { group, case };
        run(future);
    }
}
