//! The models, in the order of a message's life.

mod arena;
mod bell;
mod close;
mod common;
mod horizon;
mod ring;

use whizbang_lockfree::model::{End, Weakening};

/// One protocol in one situation.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The function's name.
    pub name: &'static str,
    /// Runs the situation once; loom repeats it in every interleaving.
    pub body: fn(),
    /// How many preemptions are explored by default, and in a deep run.
    pub bound: Bound,
    /// Executions that a complete exploration at the default bound took when it was recorded, rounded down. Fewer
    /// mean that the model lost something to explore.
    pub floor: usize,
    /// What the model can tell from its absence.
    pub twins: &'static [Weakening],
}

/// Preemptions explored.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// By `./scripts/loom`.
    pub default: usize,
    /// By `./scripts/loom --deep`.
    pub deep: usize,
}

macro_rules! models {
    ($( $module:ident::$name:ident, $default:literal to $deep:literal, $floor:literal: $( $twin:expr ),* ; )*) => {
        /// All of them.
        pub const MODELS: &[Model] = &[ $( Model {
            name: stringify!($name),
            body: $module::$name,
            bound: Bound { default: $default, deep: $deep },
            floor: $floor,
            twins: &[ $( $twin ),* ],
        } ),* ];
    };
}

const fn gives(edge: &'static str) -> Weakening {
    Weakening::Edge(edge, End::Gives)
}

const fn takes(edge: &'static str) -> Weakening {
    Weakening::Edge(edge, End::Takes)
}

const fn without(step: &'static str) -> Weakening {
    Weakening::Step(step)
}

models! {
    ring::ring_wraps, 6 to 9, 1100:
        gives("ring.filled"), takes("ring.filled"), without("wrap.padding"), without("full.check"),
        without("free.at.finish");
    ring::full_ring_is_freed, 6 to 9, 57:
        gives("ring.freed"), takes("ring.freed"), without("full.check"), without("free.at.finish");
    ring::claim_is_dropped, 6 to 9, 18: without("claim.leaves.nothing");
    ring::stripe_is_shared, 6 to 9, 500: gives("stripe.grabbed"), takes("stripe.grabbed"), without("stripe.swap");
    ring::stripes_are_two, 3 to 4, 8100: gives("ring.filled"), without("stripe.swap");
    ring::publisher_ends_and_ring_is_reused, 6 to 9, 930: gives("publisher.ended"), takes("publisher.ended");
    close::close_against_publisher, 3 to 4, 13000:
        gives("close.seen"), takes("close.seen"), gives("close.sealed"), takes("close.sealed"),
        gives("producer.left"), takes("producer.left"), without("close.look"), without("close.waits.for.leavers");
    close::close_against_stripe, 3 to 4, 9400:
        gives("producer.left"), without("close.look"), without("close.waits.for.leavers");
    close::close_waits_for_a_claim, 2 to 3, 13000: without("leaver.rings"), gives("bell.heard");
    close::close_wakes_who_waits_for_room, 6 to 9, 6200:
        without("close.wakes.room"), gives("waiter.seen"), takes("close.seen");
    bell::push_wakes, 6 to 9, 690:
        gives("bell.heard"), takes("bell.heard"), without("bell.look"), without("bell.looks.again"),
        without("bell.waker.first");
    bell::two_push_and_one_sleeps, 3 to 4, 31000: gives("bell.heard"), takes("bell.heard");
    bell::ring_is_remembered, 6 to 9, 120: gives("bell.rung"), takes("bell.rung"), without("bell.sticks");
    bell::settle_and_intake_share_a_bell, 3 to 4, 32000: gives("bell.heard"), without("bell.looks.again");
    bell::rest_is_dropped, 6 to 9, 200: without("bell.sticks");
    horizon::room_is_waited_for, 6 to 9, 1300:
        gives("waiter.seen"), takes("waiter.seen"), without("waiter.looks.again");
    horizon::answer_is_waited_for, 6 to 9, 1200:
        gives("horizon.passed"), takes("horizon.passed"), gives("waiter.seen"), takes("waiter.seen"),
        without("waiter.looks.again");
    horizon::answer_is_looked_up, 6 to 9, 81: gives("horizon.passed"), takes("horizon.passed");
    horizon::waiter_is_dropped, 6 to 9, 1000: without("waiter.leaves.nothing");
    horizon::consumer_answers_and_goes, 6 to 9, 6800: gives("consumer.gone"), takes("consumer.gone");
    horizon::consumer_goes_without_answering, 6 to 9, 2000: without("gone.wakes"), gives("waiter.seen");
    horizon::herald_wakes_from_another_thread, 3 to 4, 6400: takes("waiter.seen"), gives("waiter.seen");
    arena::arena_is_handed_over, 6 to 9, 1000:
        gives("arena.returned"), takes("arena.returned"), without("arena.swap");
}
