//! Ids at a nanosecond: no lock, no system call, unique across threads, forks and processes.
//!
//! The layout is a UUID of version 7:
//!
//! ```text
//! 127            80 79   76 75          64 63  62 61            8 7      0
//! ┌────────────────┬───────┬──────────────┬──────┬───────────────┬────────┐
//! │ milliseconds   │   7   │ refill       │  10  │ random        │ index  │
//! └────────────────┴───────┴──────────────┴──────┴───────────────┴────────┘
//! ```
//!
//! Each thread owns a block: a time, a refill number and 54 random bits, good for 256 ids that differ in the
//! index. A new block reads the coarse clock; its time and refill number, read as one, are always larger than
//! the last block's. So ids of one thread sort in the order they were made. Those of different threads are apart by
//! the random bits, and their times can lie as far apart as a thread takes to use a block up.
//!
//! A child process has its parent's blocks: after a fork each thread's next id begins a new block with new
//! randomness. Only a `clone` system call made by hand, past the C library, is not noticed.

use crate::sync::unmodelled::{AtomicU32, Ordering};
use std::cell::Cell;
use std::num::NonZeroU128;

/// A new id: a UUID of version 7 that no other call, thread or process gets.
///
/// ```
/// use whizbang_lockfree::ids::next_id;
///
/// let (first, second) = (next_id(), next_id());
/// assert!(first < second, "ids of one thread are in order");
/// ```
///
/// # Panics
///
/// The first call of a process, when the C library has no memory left to register a handler of forks.
#[inline]
pub fn next_id() -> NonZeroU128 {
    let index = INDEX.get();
    // Relaxed: a fork's child has one thread, which wrote it; the parent's never changes.
    if index >= BLOCK || FORKS.load(Ordering::Relaxed) != FORKS_SEEN.get() {
        return first_of_new_block();
    }
    INDEX.set(index + 1);
    id(HIGH.get(), LOW.get(), index)
}

#[inline(always)]
fn id(high: u64, low: u64, index: u64) -> NonZeroU128 {
    VERSION_AND_VARIANT | ((u128::from(high) << 64) | u128::from(low | index))
}

const VERSION_AND_VARIANT: NonZeroU128 = NonZeroU128::new((7 << 76) | (2 << 62)).expect("bits are set");
/// Ids in a block.
const BLOCK: u64 = 256;
/// Refills that a millisecond can number.
const REFILLS: u64 = 1 << 12;
const RANDOM_BITS: u32 = 54;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

// One cell a field: a struct in one cell is copied in and out, 11 ns instead of 1.
thread_local! {
    /// How much of the block is used; all of it, before the first.
    static INDEX: Cell<u64> = const { Cell::new(BLOCK) };
    /// Milliseconds and refill number, where they lie in the id.
    static HIGH: Cell<u64> = const { Cell::new(0) };
    /// Random bits, where they lie in the id.
    static LOW: Cell<u64> = const { Cell::new(0) };
    /// The value of `FORKS` when this thread drew its seed; none yet.
    static FORKS_SEEN: Cell<u32> = const { Cell::new(u32::MAX) };
    /// Milliseconds and refill number as one growing number.
    static STAMP: Cell<u64> = const { Cell::new(0) };
    static SEED: Cell<u64> = const { Cell::new(0) };
}

#[cold]
#[inline(never)]
fn first_of_new_block() -> NonZeroU128 {
    let forks = os::watch_forks();
    if forks != FORKS_SEEN.get() {
        FORKS_SEEN.set(forks);
        SEED.set(os::entropy());
    }
    let (stamp, seed, random) = new_block(os::milliseconds(), STAMP.get(), SEED.get());
    STAMP.set(stamp);
    SEED.set(seed);
    let (high, low) = (((stamp / REFILLS) << 16) | (stamp % REFILLS), random << 8);
    HIGH.set(high);
    LOW.set(low);
    INDEX.set(1);
    id(high, low, 0)
}

/// The next block's stamp, seed and random bits.
///
/// The stamp is the time with a refill number of zero, or one more than the last, if the clock has not moved on or
/// has gone back; more refills than a millisecond can number borrow from the next one.
fn new_block(now_ms: u64, last_stamp: u64, seed: u64) -> (u64, u64, u64) {
    let stamp = (now_ms * REFILLS).max(last_stamp + 1) & ((1 << 60) - 1);
    // A step of SplitMix64: every seed is visited once, its output looks random.
    let seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (stamp, seed, mixed >> (64 - RANDOM_BITS))
}

/// What only the operating system knows.
mod os {
    use super::{FORKS, Ordering};

    /// How many forks lie before this process; counted from the first call on.
    pub(super) fn watch_forks() -> u32 {
        #[cfg(all(unix, not(miri)))]
        {
            static WATCH: std::sync::Once = std::sync::Once::new();
            WATCH.call_once(|| {
                // SAFETY: the handler runs in the child between fork and return; it is one atomic addition.
                let refused = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
                assert_eq!(refused, 0, "no memory left to register a fork handler");
            });
        }
        FORKS.load(Ordering::Relaxed)
    }

    #[cfg(all(unix, not(miri)))]
    unsafe extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// Milliseconds since 1970, from the cheapest clock there is; on Linux it moves every 1 to 10 ms.
    pub(super) fn milliseconds() -> u64 {
        #[cfg(target_os = "linux")]
        {
            let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `now` is a timespec that the call may write to.
            let failed = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
            if failed == 0 && now.tv_sec >= 0 {
                return now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000;
            }
        }
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.map_or(0, |since| since.as_millis() as u64)
    }

    /// 64 bits that nobody else has.
    pub(super) fn entropy() -> u64 {
        #[cfg(target_os = "linux")]
        {
            let mut bits = [0_u8; 8];
            // SAFETY: `bits` is as long as it says, and the call writes nowhere else.
            let got = unsafe { libc::getrandom(bits.as_mut_ptr().cast(), bits.len(), 0) };
            // So few bytes come whole or not at all.
            if got == bits.len() as isize {
                return u64::from_ne_bytes(bits);
            }
        }
        mixed()
    }

    /// Where the system gives no random bytes: the standard library's per-process keys, and what a fork changes.
    fn mixed() -> u64 {
        use std::hash::BuildHasher as _;
        let now = std::time::SystemTime::now();
        std::hash::RandomState::new().hash_one((std::process::id(), now, std::thread::current().id()))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_fallback_differs_from_call_to_call() {
            assert_ne!(super::mixed(), super::mixed());
        }
    }
}

#[cfg(all(test, not(lockfree_loom)))]
mod tests {
    use super::*;

    #[cfg(all(unix, not(miri)))]
    fn stamp(id: NonZeroU128) -> u64 {
        let high = (id.get() >> 64) as u64;
        (high >> 16) * REFILLS + high % REFILLS
    }

    #[test]
    fn an_id_is_a_uuid_of_version_seven() {
        let id = next_id().get();
        assert_eq!((id >> 76) & 0xF, 7, "version");
        assert_eq!((id >> 62) & 0b11, 0b10, "variant");
    }

    #[test]
    fn an_id_says_when_its_block_was_begun() {
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let before = now();
        let id = std::thread::spawn(next_id).join().unwrap();
        let after = now();
        let said = (id.get() >> 80) as u64;
        // The coarse clock may be a tick behind the fine one.
        assert!((before - 20..=after).contains(&said), "{said} is not in {before}..={after}");
    }

    #[test]
    fn ids_of_one_thread_are_in_order_over_many_blocks() {
        // Under Miri one boundary between blocks is enough.
        let count = if cfg!(miri) { 300 } else { 2_000_000 };
        let mut last = next_id();
        for _ in 0..count {
            let id = next_id();
            assert!(id > last, "{id:x} after {last:x}");
            last = id;
        }
    }

    #[test]
    fn ids_of_many_threads_are_all_different() {
        // Under Miri two threads, each with one boundary between blocks.
        let (threads, count) = if cfg!(miri) { (2, 260) } else { (4, 50_000) };
        let threads: Vec<_> = (0..threads)
            .map(|_| std::thread::spawn(move || (0..count).map(|_| next_id()).collect::<Vec<_>>()))
            .collect();
        let mut ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.is_sorted_by(|one, next| one < next), "an id came twice");
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_does_not_stop_the_order() {
        let mut last = 0;
        for now in [1_000, 1_000, 1_000, 999, 5, 1_000] {
            let (stamp, _, _) = new_block(now, last, 1);
            assert!(stamp > last);
            last = stamp;
        }
        assert_eq!(last / REFILLS, 1_000);
    }

    #[test]
    #[cfg_attr(miri, ignore = "4096 rounds of arithmetic, which touch no memory")]
    fn more_refills_than_a_millisecond_can_number_borrow_from_the_next() {
        let mut last = 0;
        for _ in 0..=REFILLS {
            (last, _, _) = new_block(7, last, 1);
        }
        assert_eq!((last / REFILLS, last % REFILLS), (8, 0));
    }

    #[test]
    fn the_random_part_fits_its_place_and_changes_with_every_block() {
        let (_, seed, first) = new_block(1, 0, 42);
        let (_, _, second) = new_block(1, 0, seed);
        assert!(first != second && (first | second) >> RANDOM_BITS == 0);
    }

    #[test]
    #[cfg(all(unix, not(miri)))]
    fn a_forked_child_makes_other_ids() {
        use std::io::Read as _;
        use std::os::fd::FromRawFd as _;
        let before = next_id();
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        // SAFETY: the child below only makes an id, writes it and exits.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let id = next_id().get().to_ne_bytes();
            // SAFETY: the descriptor is open and the bytes are as long as said.
            unsafe { libc::write(ends[1], id.as_ptr().cast(), id.len()) };
            // SAFETY: leaves the child without running what belongs to the parent.
            unsafe { libc::_exit(0) };
        }
        let ours = next_id();
        // SAFETY: the descriptor is open and nobody uses it afterwards.
        let mut reader = unsafe { std::fs::File::from_raw_fd(ends[0]) };
        let mut theirs = [0; 16];
        reader.read_exact(&mut theirs).unwrap();
        // SAFETY: as above.
        drop(unsafe { std::fs::File::from_raw_fd(ends[1]) });
        // SAFETY: waits for our own child and stores no status.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        let theirs = NonZeroU128::new(u128::from_ne_bytes(theirs)).unwrap();
        assert!(stamp(theirs) > stamp(before), "the child began a block of its own");
        assert!(stamp(ours) == stamp(before) || ours.get() & 0xFF == 0, "the parent went on with its block");
        assert_ne!(ours, theirs);
    }
}
