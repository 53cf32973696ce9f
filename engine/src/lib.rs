//! Whizbang.
