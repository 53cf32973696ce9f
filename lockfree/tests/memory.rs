//! What is allocated, and what is only reserved.
#![cfg(not(any(lockfree_loom, miri)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use whizbang_lockfree::ids::next_id;
use whizbang_lockfree::*;

/// Counts the calling thread's allocations, and refuses large ones when the thread asks for that.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Bytes in allocations of at least `LARGE` that are granted and not freed, and how many are granted yet.
    static HELD: Cell<usize> = const { Cell::new(0) };
    static GRANTED: Cell<usize> = const { Cell::new(usize::MAX) };
}

const LARGE: usize = 64 * 1024;

// SAFETY: all is passed on to the system's allocator as it came, or refused, which is allowed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        if layout.size() >= LARGE {
            let Some(granted) = GRANTED.get().checked_sub(1) else {
                return std::ptr::null_mut();
            };
            GRANTED.set(granted);
            HELD.set(HELD.get() + layout.size());
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            HELD.set(HELD.get().wrapping_sub(layout.size()));
        }
        // SAFETY: passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `run` makes.
fn allocations(run: impl FnOnce()) -> usize {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

struct Sum;
impl Sink for Sum {
    type At<'a> = u64;
}
struct Add;
impl Visit<[u64; 8], Sum> for Add {
    fn visit(message: &[u64; 8], out: &mut u64) {
        *out += message[0];
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

#[test]
fn rings_that_there_is_no_memory_for_are_an_error_and_leave_nothing_behind() {
    let bell = Doorbell::new();
    let config = RingsConfig { seats: 2, stripes: 3, publishers_max: 4, ring_bytes: LARGE };
    let before = HELD.get();
    for granted in [0, 1, 8] {
        GRANTED.set(granted);
        let refused = rings::<u128, Sum>(config, &bell).map(|_| ()).unwrap_err();
        GRANTED.set(usize::MAX);
        assert_eq!(refused, ConfigError::NoMemory { rings: 9, ring_bytes: LARGE });
        assert_eq!(HELD.get(), before, "{granted} were granted");
    }
    assert!(rings::<u128, Sum>(config, &bell).is_ok());
}

#[test]
fn after_warm_up_nothing_on_the_way_allocates() {
    let bell = Doorbell::new();
    let (producers, mut consumer) = rings::<u128, Sum>(RingsConfig::default(), &bell).unwrap();
    let mut publisher = producers.publisher().unwrap();
    let pool = ArenaPool::new(1, 64 * 1024);
    let mut sum = 0;
    let mut round = || {
        for n in 0..100 {
            producers.try_push_plain::<_, Add>(next_id().get(), [n; 8]).unwrap();
            publisher.try_push_plain::<_, Add>(next_id().get(), [n; 8]).unwrap();
            producers.try_push(0, b"bytes").unwrap();
            let mut claim = publisher.try_claim(64).unwrap();
            claim.extend_from_slice(b"in place").unwrap();
            let ticket = claim.commit(0);
            assert!(!producers.passed(ticket));
        }
        let last = producers.try_push(0, b"the last").unwrap();
        let arena = pool.take();
        let batch = consumer.drain(DrainLimit::NONE);
        for record in &batch {
            if !record.visit(&mut sum) {
                arena.alloc_slice_copy(record.bytes().unwrap());
            }
        }
        batch.finish();
        consumer.wake();
        drop(arena);
        assert!(pin!(producers.answered(last)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
        consumer.drain(DrainLimit::NONE).finish();
        assert_eq!(bell.rest(Rest { looks: 0, ..Rest::default() }, || true), Woken::Work);
    };
    round();
    // A chunk of the arena's grows until one holds a batch; then it stays.
    round();
    assert_eq!(allocations(&mut round), 0);
    assert_eq!(sum, 3 * 2 * (0..100).sum::<u64>());
}

#[test]
fn an_arena_that_was_shrunk_once_is_not_made_anew_for_every_batch() {
    let pool = ArenaPool::new(1, 64 * 1024);
    pool.take().alloc_slice_fill_copy(1_000_000, 0_u8);
    let small = || {
        pool.take().alloc_slice_fill_copy(100, 0_u8);
    };
    small();
    assert_eq!(allocations(small), 0);
}

#[test]
fn a_refusal_allocates_nothing() {
    let config = RingsConfig { ring_bytes: 1024, ..RingsConfig::default() };
    let (producers, _consumer) = rings::<(), Sum>(config, &Doorbell::new()).unwrap();
    while producers.try_push_plain::<_, Add>((), [0; 8]).is_ok() {}
    assert_eq!(allocations(|| assert!(producers.try_push_plain::<_, Add>((), [0; 8]).is_err())), 0);
}

/// Bytes of this process that lie in memory.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn a_ring_that_nobody_fills_takes_no_memory() {
    let before = resident_bytes();
    let config = RingsConfig { seats: 0, stripes: 8, publishers_max: 56, ring_bytes: 4 << 20 };
    let (producers, mut consumer) = rings::<(), Sum>(config, &Doorbell::new()).unwrap();
    for n in 0..1_000 {
        producers.try_push_plain::<_, Add>((), [n; 8]).unwrap();
    }
    assert_eq!(consumer.drain(DrainLimit::NONE).len(), 1_000);
    let grown = resident_bytes().saturating_sub(before);
    // 256 MiB are reserved; one huge page may be what one record costs.
    assert!(grown < 16 << 20, "{grown} bytes for 96 KiB of records");
}
