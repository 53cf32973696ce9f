//! One single-producer byte ring: where a record goes, and what a commit is.
//!
//! Positions count bytes since the ring was made and never go back; a position's place is its remainder by the
//! ring's size. Between `head` and `tail` lie committed records that are not answered yet. The producer alone
//! writes `tail`, the consumer alone writes `head`, and each keeps the other's last known value to itself, so
//! that neither touches the other's line until it has to.

use crate::horizon::Waiters;
use crate::record::{Head, Sink};
use crate::storage::Storage;
use crate::sync::{AtomicU32, AtomicU64, Ordering, UnsafeCell, edge, step};
use crossbeam_utils::CachePadded;

pub(crate) struct Ring {
    pub(crate) storage: Storage,
    producer: CachePadded<ProducerLine>,
    consumer: CachePadded<ConsumerLine>,
    pub(crate) waiters: CachePadded<Waiters>,
}

/// Written by whoever produces.
struct ProducerLine {
    /// Behind the last committed record.
    tail: AtomicU64,
    /// Whether somebody is between entering and leaving: a stripe's lock, and what a close waits for.
    inside: AtomicU32,
    /// Whether a publisher owns this ring.
    owned: AtomicU32,
    /// The head as it was when a producer was last refused; room means that the head is past it.
    refused_at: AtomicU64,
    /// Up to where there is room: the head as the producer last saw it, and the ring's bytes. Nobody else looks at it.
    room_to: UnsafeCell<u64>,
}

// SAFETY: `room_to` is touched only in `has_room_to`, whose caller is the producer; there is one at a time, and it sees what
// the one before did.
unsafe impl Sync for ProducerLine {}

/// Written by the consumer, once per finished batch.
struct ConsumerLine {
    /// Everything before it is answered and free.
    head: AtomicU64,
}

const NOBODY: u32 = 0;
const SOMEBODY: u32 = 1;

/// How far ahead of a record the producer asks for a line, in bytes: about as far as the stores that a processor keeps waiting reach.
const WRITE_AHEAD: usize = 640;

/// Room for one record, found but not written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The tail when the place was found.
    tail: u64,
    /// Where the record begins: at the tail, or behind the padding that fills the end of the storage.
    pub(crate) start: u64,
}

impl Ring {
    /// An empty ring; `None` when there is no memory for it.
    pub(crate) fn new(bytes: usize) -> Option<Ring> {
        Some(Ring {
            storage: Storage::reserve(bytes)?,
            producer: CachePadded::new(ProducerLine {
                tail: AtomicU64::new(0),
                inside: AtomicU32::new(NOBODY),
                owned: AtomicU32::new(NOBODY),
                refused_at: AtomicU64::new(0),
                room_to: UnsafeCell::new(bytes as u64),
            }),
            consumer: CachePadded::new(ConsumerLine { head: AtomicU64::new(0) }),
            waiters: CachePadded::new(Waiters::new()),
        })
    }

    // The producer's steps, in order: enter, place, (write), commit, leave. In a ring of one's own place comes first.

    /// Enters a ring that many may enter; false when somebody is inside.
    #[inline(always)]
    pub(crate) fn try_enter(&self) -> bool {
        let inside = &self.producer.inside;
        // A look first: a swap would take the line away from whoever is inside.
        if inside.load(Ordering::Relaxed) == SOMEBODY {
            return false;
        }
        if !step::STRIPE_SWAP.is_taken() {
            inside.store(SOMEBODY, Ordering::Relaxed);
            return true;
        }
        // Acquire stripe.grabbed: pairs with the release in `leave`; the tail and `room_to` of the one before.
        inside.swap(SOMEBODY, edge::STRIPE_GRABBED.acquire()) == NOBODY
    }

    /// Whether the caller, who owns the ring, is inside already.
    #[inline(always)]
    pub(crate) fn is_inside(&self) -> bool {
        // Acquire stripe.grabbed: pairs with the release in `leave`, which may be that of a claim which the seat's thread
        // before left behind.
        self.producer.inside.load(edge::STRIPE_GRABBED.acquire()) == SOMEBODY
    }

    /// Enters a ring that the caller owns.
    #[inline(always)]
    pub(crate) fn enter_owned(&self) {
        // Relaxed: the fences of close.seen order it against `closed`.
        self.producer.inside.store(SOMEBODY, Ordering::Relaxed);
    }

    /// Finds room for `need` bytes in a row, a multiple of the unit; `None` when the ring is full.
    ///
    /// # Safety
    ///
    /// The caller is the producer: it is inside, or nobody else may enter.
    #[inline(always)]
    pub(crate) unsafe fn place(&self, need: usize) -> Option<Place> {
        // Relaxed: the caller is the producer, so it or the one that it came after wrote it.
        let tail = self.producer.tail.load(Ordering::Relaxed);
        let need = need as u64;
        // Without room for the record alone there is none behind padding either: most refusals end here.
        // SAFETY: passed on from the caller.
        if !unsafe { self.has_room_to(tail + need) } {
            return None;
        }
        let before_wrap = self.storage.wrap_after(tail) - tail;
        let mut start = tail;
        if need > before_wrap {
            start += before_wrap;
            // SAFETY: as above.
            if !unsafe { self.has_room_behind_padding_to(start + need) } {
                return None;
            }
        }
        Storage::will_write_soon(self.storage.at(start), WRITE_AHEAD, need as usize);
        Some(Place { tail, start })
    }

    /// Whether everything before `end` may be written.
    ///
    /// # Safety
    ///
    /// The caller is the producer.
    #[inline(always)]
    unsafe fn has_room_to(&self, end: u64) -> bool {
        self.producer.room_to.with_mut(|room_to| {
            // SAFETY: `room_to` belongs to the producer, which is the caller.
            let room_to = unsafe { &mut *room_to };
            if end > *room_to {
                // Acquire ring.freed: pairs with the release in `free`; the consumer is done with what lay there.
                let head = self.consumer.head.load(edge::RING_FREED.acquire());
                let room_to_now = head + self.storage.bytes() as u64;
                if end > room_to_now && step::FULL_CHECK.is_taken() {
                    // Relaxed: who was refused reads its own store; see `horizon::Room`.
                    self.producer.refused_at.store(head, Ordering::Relaxed);
                    return false;
                }
                *room_to = room_to_now;
            }
            true
        })
    }

    /// As [`has_room_to`](Self::has_room_to), for the few records that do not fit before the wrap: out of the way of the others.
    ///
    /// # Safety
    ///
    /// The caller is the producer.
    #[cold]
    #[inline(never)]
    unsafe fn has_room_behind_padding_to(&self, end: u64) -> bool {
        // SAFETY: passed on from the caller.
        unsafe { self.has_room_to(end) }
    }

    /// Makes the record at `place` and everything up to `end` the consumer's.
    ///
    /// # Safety
    ///
    /// The caller is inside, got `place` from [`place`](Self::place) since its last commit, and has written a whole
    /// record from `place.start` to `end`, inside the bytes it asked for.
    #[inline(always)]
    pub(crate) unsafe fn commit<S: Sink>(&self, place: Place, end: u64) {
        if place.start != place.tail && step::WRAP_PADDING.is_taken() {
            let fills = (place.start - place.tail) as usize;
            self.storage.will_write(place.tail, crate::storage::UNIT);
            let padding = self.storage.at(place.tail).cast::<Head<S>>();
            // SAFETY: what lies between the tail and the start belongs to the caller like the record itself; it is
            // a multiple of the unit and not empty, so it holds a head.
            unsafe { padding.write(Head::padding(fills)) };
        }
        // Release ring.filled: pairs with the acquire in `filled_to`; the record is whole.
        self.producer.tail.store(end, edge::RING_FILLED.release());
    }

    /// Leaves the ring; whatever was committed stays, whatever was not never was.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        // Release stripe.grabbed and producer.left: pairs with the acquires in `try_enter` and `is_somebody_inside`.
        let ordering = edge::STRIPE_GRABBED.release_both(edge::PRODUCER_LEFT);
        self.producer.inside.store(NOBODY, ordering);
    }

    /// Takes the ring for a publisher; false when it has one.
    pub(crate) fn try_own(&self) -> bool {
        let owned = &self.producer.owned;
        // Acquire publisher.ended: pairs with the release in `disown`; the tail and `room_to` of the one before.
        let acquire = edge::PUBLISHER_ENDED.acquire();
        owned.compare_exchange(NOBODY, SOMEBODY, acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the ring back, with whatever the consumer has not drained yet.
    pub(crate) fn disown(&self) {
        // A claim that was forgotten, not dropped, never left.
        self.leave();
        // Release publisher.ended: pairs with the acquire in `try_own`.
        self.producer.owned.store(NOBODY, edge::PUBLISHER_ENDED.release());
    }

    // The consumer's steps.

    /// Up to where the consumer may read.
    #[inline(always)]
    pub(crate) fn filled_to(&self) -> u64 {
        // Acquire ring.filled: pairs with the release in `commit`.
        self.producer.tail.load(edge::RING_FILLED.acquire())
    }

    /// Whether a producer is inside now; after the close, false is final.
    pub(crate) fn is_somebody_inside(&self) -> bool {
        // Acquire producer.left: pairs with the release in `leave`; the tail is the last one.
        self.producer.inside.load(edge::PRODUCER_LEFT.acquire()) == SOMEBODY
    }

    /// Answers and frees everything before `to`.
    #[inline(always)]
    pub(crate) fn free(&self, to: u64) {
        // Release ring.freed and horizon.passed: pairs with the acquires in `place` and `horizon`.
        let ordering = edge::RING_FREED.release_both(edge::HORIZON_PASSED);
        self.consumer.head.store(to, ordering);
    }

    // Anybody's look.

    /// Everything before this position has been answered.
    #[inline(always)]
    pub(crate) fn horizon(&self) -> u64 {
        // Acquire horizon.passed: pairs with the release in `free`; what the consumer did before it answered.
        self.consumer.head.load(edge::HORIZON_PASSED.acquire())
    }

    /// The head at the time of the last refusal.
    pub(crate) fn refused_at(&self) -> u64 {
        // Relaxed: who was refused reads its own store. Any other value only makes it try again sooner, or when the ring moves on.
        self.producer.refused_at.load(Ordering::Relaxed)
    }

    /// Whether nothing lay in the ring just now. A hint, for choosing and for not waiting in vain.
    pub(crate) fn looks_empty(&self) -> bool {
        // Relaxed: nothing is read or written because of it.
        self.producer.tail.load(Ordering::Relaxed) == self.consumer.head.load(Ordering::Relaxed)
    }
}
