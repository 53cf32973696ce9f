//! Two instances at once, in every order: what one of them says to the server is stopped between any two messages, also where
//! a statement was carried out and is not committed, and the other one goes as far as it can. Whatever comes of it, the
//! contract's promises hold.
//!
//! A transaction is looked into from its beginning to its commit, so of any two statements each is found half done by the
//! other, and waits for its locks. That these tests see what they are for is shown by weakened schemas, at the end of each family.

#[path = "../fixture/mod.rs"]
mod fixture;
mod members;
mod messages;
mod stage;
mod tidying;
