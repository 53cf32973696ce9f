//! Rings, doorbell, horizon, ids and the arena pool.
