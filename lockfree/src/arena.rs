//! One bump arena per batch, from a bounded pool.

use crate::sync::{Arc, Shelf};
use bumpalo::Bump;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// A bounded pool of bump arenas.
///
/// An arena is lent as an [`Arena`], which comes back by being dropped, so it can neither come back twice nor be used
/// afterwards. A pool that is empty makes a new arena; one that is full lets go of what comes back.
///
/// ```
/// use whizbang_lockfree::ArenaPool;
///
/// let pool = ArenaPool::new(2, 64 * 1024);
/// let arena = pool.take();
/// let text: &str = arena.alloc_str("as long as the arena");
/// assert_eq!(text.len(), 22 - 2);
/// ```
#[derive(Clone)]
pub struct ArenaPool {
    pool: Arc<Pool>,
}

struct Pool {
    shelf: Shelf<Bump>,
    /// What was asked for.
    bytes_in_one_piece: usize,
    /// What one piece of that size takes. A smaller bound would have it made anew for every batch.
    bytes_kept_max: usize,
}

impl ArenaPool {
    /// A pool that keeps at most `count` arenas of at most `bytes_kept_max` bytes each.
    ///
    /// An arena that has grown further comes back with `bytes_kept_max` bytes in one piece, which may be rounded up to
    /// the allocator's liking.
    ///
    /// # Panics
    ///
    /// When `count` is zero.
    pub fn new(count: usize, bytes_kept_max: usize) -> ArenaPool {
        assert!(count > 0, "an arena pool keeps at least one arena");
        let bytes_in_one_piece = bytes_kept_max;
        let bytes_kept_max = bytes_kept_max.max(Bump::with_capacity(bytes_in_one_piece).allocated_bytes());
        ArenaPool { pool: Arc::new(Pool { shelf: Shelf::new(count), bytes_in_one_piece, bytes_kept_max }) }
    }

    /// An arena with nothing in it.
    pub fn take(&self) -> Arena {
        let bump = self.pool.shelf.take().unwrap_or_default();
        Arena { bump: ManuallyDrop::new(bump), pool: Arc::clone(&self.pool) }
    }
}

impl std::fmt::Debug for ArenaPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArenaPool").field("bytes_kept_max", &self.pool.bytes_kept_max).finish_non_exhaustive()
    }
}

/// An arena on loan; dropped, it goes back to its pool, empty.
pub struct Arena {
    bump: ManuallyDrop<Bump>,
    pool: Arc<Pool>,
}

impl Arena {
    /// Lets go of everything that was allocated, before the arena goes back.
    pub fn reset(&mut self) {
        self.bump.reset();
    }
}

impl Deref for Arena {
    type Target = Bump;

    fn deref(&self) -> &Bump {
        &self.bump
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: taken once, in the drop that ends the arena.
        let mut bump = unsafe { ManuallyDrop::take(&mut self.bump) };
        bump.reset();
        if bump.allocated_bytes() > self.pool.bytes_kept_max {
            bump = Bump::with_capacity(self.pool.bytes_in_one_piece);
        }
        self.pool.shelf.put(bump);
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("allocated_bytes", &self.bump.allocated_bytes()).finish_non_exhaustive()
    }
}
