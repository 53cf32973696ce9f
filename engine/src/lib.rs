//! Whizbang.
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod flows;
mod lanes;
mod ranges;
