//! The cases, in groups. Each is a function of a [`Fixture`](crate::Fixture); [`conformance!`](crate::conformance) makes tests of them.
//!
//! The number in a name is that of the scenario it proves.

pub mod appending;
pub mod enqueue;
pub mod events;
pub mod housekeeping;
pub mod membership;
pub mod once;
pub mod parked;
pub mod reading;
pub mod settling;
pub mod trouble;
