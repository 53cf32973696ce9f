//! An arena passes from one user to the next.

use loom::thread;
use whizbang_lockfree::ArenaPool;

/// Two threads take and return one arena: never both at once, and the second sees it as the first left it.
pub(super) fn arena_is_handed_over() {
    let pool = ArenaPool::new(1, 1024);
    let users = [1_u8, 2].map(|n| {
        let pool = pool.clone();
        thread::spawn(move || {
            let arena = pool.take();
            let bytes = arena.alloc_slice_fill_copy(4, n);
            assert_eq!(bytes, [n; 4]);
        })
    });
    users.into_iter().for_each(|user| user.join().unwrap());
    assert!(pool.take().allocated_bytes() > 0, "one of the two came back");
}
