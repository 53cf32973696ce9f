//! A worker's own hold on what all workers share.

use std::ops::Deref;
use std::sync::Arc;

/// Shared by all, counted apart: a worker clones its own hold once or twice a message, and two workers that count on one
/// line wait for each other's core each time.
#[derive(Debug)]
#[expect(clippy::redundant_allocation, reason = "the outer count is the point")]
pub(crate) struct Own<T>(Arc<Arc<T>>);

impl<T> Own<T> {
    /// A hold with a count of its own.
    pub(crate) fn new(shared: Arc<T>) -> Self {
        Self(Arc::new(shared))
    }
}

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
