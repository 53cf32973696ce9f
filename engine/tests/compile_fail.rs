//! What the compiler says when something is missing or wrong: these texts are part of the interface.
//!
//! Recorded with Rust 1.95; other versions may word or place the same errors differently.
//!
//! After a change that is meant: `TRYBUILD=overwrite cargo test -p whizbang --test compile_fail`, and read the difference.

#[test]
fn mistakes_are_told_in_words() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
