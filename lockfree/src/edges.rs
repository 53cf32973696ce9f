//! The names of the orderings and steps that the protocols rest on.
//!
//! Every ordering used by a protocol has a name, an [`Edge`]. Built as usual an edge is a constant. Under loom
//! a test may weaken one end of one edge, which turns its ordering into `Relaxed` or leaves its fence out, or
//! skip one named [`Step`]; the model must then fail, or it did not prove that the edge is needed.
#![allow(unreachable_pub, reason = "seen from outside by the models only")]
#![cfg_attr(not(lockfree_loom), allow(dead_code, reason = "as above"))]

use crate::sync::{Ordering, fence};

/// A named pair of orderings: what is written before the release end is seen after the acquire end.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    /// The name in `docs/memory-model.md`.
    pub name: &'static str,
}

/// The end of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The side that gives: a release store, or the fence of the side that announces.
    Gives,
    /// The side that takes: an acquire load, or the fence of the side that looks.
    Takes,
}

impl Edge {
    /// The ordering of the giving side.
    #[inline(always)]
    pub(crate) fn release(self) -> Ordering {
        if self.is_weak(End::Gives) { Ordering::Relaxed } else { Ordering::Release }
    }

    /// The ordering of the taking side.
    #[inline(always)]
    pub(crate) fn acquire(self) -> Ordering {
        if self.is_weak(End::Takes) { Ordering::Relaxed } else { Ordering::Acquire }
    }

    /// The ordering of a store that gives for two edges at once.
    #[inline(always)]
    pub(crate) fn release_both(self, other: Edge) -> Ordering {
        if other.is_weak(End::Gives) { Ordering::Relaxed } else { self.release() }
    }

    /// The full fence of one side of a handshake in which each side writes first and looks afterwards.
    #[inline(always)]
    pub(crate) fn fence(self, end: End) {
        if !self.is_weak(end) {
            fence(Ordering::SeqCst);
        }
    }

    #[cfg(not(lockfree_loom))]
    #[inline(always)]
    pub(crate) fn is_weak(self, _end: End) -> bool {
        false
    }

    #[cfg(lockfree_loom)]
    pub(crate) fn is_weak(self, end: End) -> bool {
        weaken::is(weaken::Weakening::Edge(self.name, end))
    }
}

/// A named step of a protocol that does something other than order memory.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The name in `docs/memory-model.md`.
    pub name: &'static str,
}

impl Step {
    /// Whether the step is taken: always, except in the twin that leaves it out.
    #[cfg(not(lockfree_loom))]
    #[inline(always)]
    pub(crate) fn is_taken(self) -> bool {
        true
    }

    #[cfg(lockfree_loom)]
    pub(crate) fn is_taken(self) -> bool {
        !weaken::is(weaken::Weakening::Step(self.name))
    }
}

macro_rules! named {
    ($kind:ident, $table:ident: $( $(#[$doc:meta])* $constant:ident = $name:literal; )*) => {
        $( $(#[$doc])* pub(crate) const $constant: $kind = $kind { name: $name }; )*
        /// All of them, for the check that each is explained and modelled.
        pub const $table: &[$kind] = &[ $( $constant ),* ];
    };
}

/// Every edge there is, in the order of a message's life.
pub mod edge {
    use super::Edge;
    named! { Edge, EDGES:
        /// A stripe's owner before, to its owner now: the producer's side of the ring.
        STRIPE_GRABBED = "stripe.grabbed";
        /// A publisher that ended, to the publisher that takes its ring over.
        PUBLISHER_ENDED = "publisher.ended";
        /// A producer's bytes, to the consumer that reads them.
        RING_FILLED = "ring.filled";
        /// A consumer's last look at a record, to the producer that writes over it.
        RING_FREED = "ring.freed";
        /// What the consumer did with a batch, to the task that waited for its answer.
        HORIZON_PASSED = "horizon.passed";
        /// Fences: a waiter registers then looks at the horizon; the consumer moves it then looks for waiters.
        WAITER_SEEN = "waiter.seen";
        /// Fences: a producer enters then looks for `closed`; who closes sets it then looks for producers.
        CLOSE_SEEN = "close.seen";
        /// Who closed, to the consumer that trusts what it sees from now on.
        CLOSE_SEALED = "close.sealed";
        /// A producer's last commit, to the consumer that sees it leave.
        PRODUCER_LEFT = "producer.left";
        /// The consumer's last word, to the waiter that learns it will get no answer.
        CONSUMER_GONE = "consumer.gone";
        /// Fences: a producer commits then looks for a sleeper; the consumer lies down then looks for work.
        BELL_HEARD = "bell.heard";
        /// What was done before an explicit ring, to the sleeper it wakes.
        BELL_RUNG = "bell.rung";
        /// An arena's last user, to its next.
        ARENA_RETURNED = "arena.returned";
    }
}

/// Every step whose absence a twin shows.
pub mod step {
    use super::Step;
    named! { Step, STEPS:
        /// A seat that somebody has is not given to another.
        SEAT_IS_TAKEN = "seat.is.taken";
        /// A stripe is entered by a swap that sees whether it was taken, not by a store.
        STRIPE_SWAP = "stripe.swap";
        /// A dropped claim leaves the tail where it was.
        CLAIM_LEAVES_NOTHING = "claim.leaves.nothing";
        /// The tail's remainder is filled with padding when a record does not fit before the wrap.
        WRAP_PADDING = "wrap.padding";
        /// Head is compared before a byte is written.
        FULL_CHECK = "full.check";
        /// The consumer frees at the end of a batch, not when it hands the records out.
        FREE_AT_FINISH = "free.at.finish";
        /// A producer looks for `closed` after it entered.
        CLOSE_LOOK = "close.look";
        /// The consumer believes in the end only when nobody is inside any more.
        CLOSE_WAITS_FOR_LEAVERS = "close.waits.for.leavers";
        /// Who leaves after the close looks at the bell again.
        LEAVER_RINGS = "leaver.rings";
        /// The close wakes those who wait for room.
        CLOSE_WAKES_ROOM = "close.wakes.room";
        /// A waiter looks again after it registered.
        WAITER_LOOKS_AGAIN = "waiter.looks.again";
        /// A dropped waiter takes its entry along.
        WAITER_LEAVES_NOTHING = "waiter.leaves.nothing";
        /// The consumer that goes wakes who waits for it.
        GONE_WAKES = "gone.wakes";
        /// The consumer looks for work after it lay down.
        BELL_LOOKS_AGAIN = "bell.looks.again";
        /// The sleeper leaves its waker before it lies down.
        BELL_WAKER_FIRST = "bell.waker.first";
        /// A producer looks for a sleeper after its commit.
        BELL_LOOK = "bell.look";
        /// A ring while the consumer is awake is remembered.
        BELL_STICKS = "bell.sticks";
        /// A slot of the arena pool is taken by a swap, not by a look.
        ARENA_SWAP = "arena.swap";
    }
}

/// Which end or step the model that runs now has lost.
#[cfg(lockfree_loom)]
pub mod weaken {
    use super::End;
    use std::cell::Cell;

    /// One thing taken away from the protocols.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Weakening {
        /// One end of an edge is `Relaxed`, or its fence is left out.
        Edge(&'static str, End),
        /// One step is not taken.
        Step(&'static str),
    }

    // loom runs all threads of a model on the thread that called it, so a plain thread-local reaches them all.
    thread_local! {
        static WEAK: Cell<Option<Weakening>> = const { Cell::new(None) };
    }

    /// Weakens the protocols for models run by this thread; `None` makes them whole again.
    pub fn set(weakening: Option<Weakening>) {
        WEAK.set(weakening);
    }

    pub(crate) fn is(weakening: Weakening) -> bool {
        WEAK.get() == Some(weakening)
    }
}
