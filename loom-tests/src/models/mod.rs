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
    /// What `./scripts/loom` explores.
    pub default: Depth,
    /// What `./scripts/loom --deep` explores.
    pub deep: Depth,
    /// What the model can tell from its absence.
    pub twins: &'static [Weakening],
}

impl Model {
    /// What this run explores.
    pub fn depth(&self, is_deep: bool) -> Depth {
        if is_deep { self.deep } else { self.default }
    }
}

/// How far an exploration goes, and how many executions that takes.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// At most so many times a thread is interrupted while it could go on.
    pub preemptions: usize,
    /// Executions that a complete exploration took when it was recorded, rounded down. Fewer mean that the model
    /// lost something to explore.
    pub executions_min: usize,
}

/// No bound: every interleaving there is.
pub const ALL: usize = usize::MAX;

macro_rules! models {
    ($( $module:ident::$name:ident, $default:tt => $min:literal, $deep:tt => $deep_min:literal: $( $twin:expr ),* ; )*) => {
        /// All of them. Each with the preemptions explored by default and the executions recorded for them, with the
        /// same for a deep run, and with its twins.
        pub const MODELS: &[Model] = &[ $( Model {
            name: stringify!($name),
            body: $module::$name,
            default: Depth { preemptions: $default, executions_min: $min },
            deep: Depth { preemptions: $deep, executions_min: $deep_min },
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
    ring::ring_wraps, ALL => 1400, ALL => 1400:
        gives("ring.filled"), takes("ring.filled"), without("wrap.padding"), without("full.check"),
        without("free.at.finish");
    ring::full_ring_is_freed, ALL => 30, ALL => 30:
        gives("ring.freed"), takes("ring.freed"), without("full.check"), without("free.at.finish");
    ring::claim_is_dropped, ALL => 15, ALL => 15: without("claim.leaves.nothing");
    ring::stripe_is_shared, ALL => 150, ALL => 150: gives("stripe.grabbed"), takes("stripe.grabbed"), without("stripe.swap");
    ring::stripes_are_two, 4 => 19000, 6 => 100000: gives("ring.filled"), without("stripe.swap");
    ring::seat_is_passed_on, ALL => 3300, ALL => 3300: without("seat.is.taken");
    ring::claim_outlives_its_seat, ALL => 950, ALL => 950: gives("stripe.grabbed"), takes("stripe.grabbed");
    ring::publisher_ends_and_ring_is_reused, ALL => 610, ALL => 610: gives("publisher.ended"), takes("publisher.ended");
    ring::ring_is_reused_while_drained, 4 => 26000, 6 => 190000:
        gives("publisher.ended"), takes("publisher.ended"), gives("ring.filled"), takes("ring.filled");
    close::close_against_publisher, 4 => 56000, 6 => 550000:
        gives("close.seen"), takes("close.seen"), gives("close.sealed"), takes("close.sealed"),
        gives("producer.left"), takes("producer.left"), without("close.look"), without("close.waits.for.leavers");
    close::close_against_stripe, 4 => 36000, 6 => 320000:
        gives("producer.left"), without("close.look"), without("close.waits.for.leavers");
    close::close_waits_for_a_claim, 2 => 12000, 4 => 1400000: without("leaver.rings"), gives("bell.heard");
    close::close_wakes_who_waits_for_room, ALL => 10000, ALL => 10000:
        without("close.wakes.room"), gives("waiter.seen"), takes("close.seen");
    bell::push_wakes, ALL => 640, ALL => 640:
        gives("bell.heard"), takes("bell.heard"), without("bell.look"), without("bell.looks.again"),
        without("bell.waker.first");
    bell::two_push_and_one_sleeps, 3 => 29000, 5 => 1400000: gives("bell.heard"), takes("bell.heard");
    bell::ring_is_remembered, ALL => 63, ALL => 63: gives("bell.rung"), takes("bell.rung"), without("bell.sticks");
    bell::settle_and_intake_share_a_bell, 3 => 30000, 5 => 1500000: gives("bell.heard"), without("bell.looks.again");
    bell::rest_is_dropped, ALL => 81, ALL => 81: without("bell.sticks");
    horizon::room_is_waited_for, ALL => 1200, ALL => 1200:
        gives("waiter.seen"), takes("waiter.seen"), without("waiter.looks.again");
    horizon::answer_is_waited_for, ALL => 1100, ALL => 1100:
        gives("horizon.passed"), takes("horizon.passed"), gives("waiter.seen"), takes("waiter.seen"),
        without("waiter.looks.again");
    horizon::answer_is_looked_up, ALL => 36, ALL => 36: gives("horizon.passed"), takes("horizon.passed");
    horizon::waiter_is_dropped, ALL => 780, ALL => 780: without("waiter.leaves.nothing");
    horizon::consumer_answers_and_goes, ALL => 10000, ALL => 10000: gives("consumer.gone"), takes("consumer.gone");
    horizon::consumer_goes_without_answering, ALL => 1800, ALL => 1800: without("gone.wakes"), gives("waiter.seen");
    horizon::herald_wakes_from_another_thread, 4 => 25000, 7 => 470000: takes("waiter.seen"), gives("waiter.seen");
    arena::arena_is_handed_over, ALL => 750, ALL => 750:
        gives("arena.returned"), takes("arena.returned"), without("arena.swap");
}
