//! What an engine takes from the process it runs in: the time, fresh ids, the order of its maps, and its turns.
//!
//! There is one way to run an engine, and this is what it costs there: nothing. The feature `simulation` adds a second
//! way, in which one thread decides all of this by a seed ([`simulation`](crate::simulation)); it counts only on the threads
//! that ask for it.

use std::num::NonZeroU128;
use std::time::Instant;

use whizbang_lockfree::Doorbell;
#[cfg(feature = "simulation")]
use {crate::simulation::is_simulated, whizbang_lockfree::Fences};

/// How maps hash whose order can be seen.
#[cfg(not(feature = "simulation"))]
pub(crate) type Hashing = std::hash::RandomState;
#[cfg(feature = "simulation")]
pub(crate) type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The current instant; on a simulated thread, that of the runtime's own clock.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(feature = "simulation")]
    if is_simulated() {
        return tokio::time::Instant::now().into_std();
    }
    Instant::now()
}

/// The bits of a fresh id.
#[inline]
pub(crate) fn next_id() -> NonZeroU128 {
    #[cfg(feature = "simulation")]
    if is_simulated() {
        return crate::simulation::next_id();
    }
    whizbang_lockfree::ids::next_id()
}

/// A bell for a pump.
pub(crate) fn bell() -> Doorbell {
    #[cfg(feature = "simulation")]
    if is_simulated() {
        // There is no other thread to be fenced off.
        return Doorbell::with_fences(Fences::Symmetric);
    }
    Doorbell::new()
}

/// Whether it is worth looking for work a few microseconds before going to sleep: only where another thread may bring it.
#[inline]
pub(crate) fn may_look_before_resting() -> bool {
    #[cfg(feature = "simulation")]
    if is_simulated() {
        return false;
    }
    true
}

/// Lets others have their turn.
pub(crate) async fn yield_now() {
    #[cfg(feature = "simulation")]
    if is_simulated() {
        return crate::simulation::yield_now().await;
    }
    tokio::task::yield_now().await;
}

/// Whether the engine is to have this defect: the simulation has to find it. Never without the feature.
#[cfg(feature = "simulation")]
#[inline]
pub(crate) fn is_planted(defect: &str) -> bool {
    crate::simulation::is_planted(defect)
}

/// Whether the engine is to have this defect: the simulation has to find it. Never without the feature.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub(crate) const fn is_planted(_: &str) -> bool {
    false
}
