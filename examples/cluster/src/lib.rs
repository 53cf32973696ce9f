//! What the `cluster` example and its tests share: watching processes, and auditing what they did. The example itself is
//! in `examples/cluster/examples/cluster`.
#![forbid(unsafe_code)]

pub mod audit;
pub mod instances;
