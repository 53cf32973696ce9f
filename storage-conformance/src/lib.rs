//! The contract, executable.
