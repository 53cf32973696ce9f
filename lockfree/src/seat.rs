//! A small number for every thread: its own while it lives, another's afterwards.
//!
//! Who has seat 3 is the producer of ring 3 of every set, and enters it without a locked instruction: on two cores such
//! an instruction waits until every store before it has left for the cache, two fifths of a publish in a trial.
//!
//! A seat is passed on under a lock, once in a thread's life, so the next one sees everything that the one before it did.
//!
//! Two limits. After a fork the seats of threads that the child does not have stay taken there, so that its new threads may have to
//! share stripes. And seats are counted by each copy of this crate: producers must not be handed to a plugin that brings a copy of its own.

use crate::sync::{Arc, Mutex, stand_up, step};

/// Of a thread that has not sat down yet.
pub(crate) const UNSEATED: u32 = u32::MAX;
/// Of a thread that is ending: it enters where everybody does.
pub(crate) const STANDING: u32 = u32::MAX - 1;

/// Which seats are taken.
pub(crate) struct Seats {
    taken: Mutex<Vec<bool>>,
}

impl Seats {
    pub(crate) fn new() -> Seats {
        Seats { taken: Mutex::new(Vec::new()) }
    }

    /// The lowest seat that is free.
    fn take(&self) -> u32 {
        let mut taken = self.taken.lock();
        let free = taken.iter().position(|is_taken| !is_taken).unwrap_or(taken.len());
        if free == taken.len() {
            taken.push(false);
        }
        taken[free] = step::SEAT_IS_TAKEN.is_taken();
        u32::try_from(free).unwrap_or(STANDING)
    }

    fn give_back(&self, seat: u32) {
        if let Some(is_taken) = self.taken.lock().get_mut(seat as usize) {
            *is_taken = false;
        }
    }
}

/// A thread's seat, given back with it.
pub(crate) struct Seated {
    pub(crate) seat: u32,
    among: Arc<Seats>,
}

impl Seated {
    pub(crate) fn take(seats: &Arc<Seats>) -> Seated {
        Seated { seat: seats.take(), among: Arc::clone(seats) }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        // In this order: what the thread may still push while it is torn down goes elsewhere.
        stand_up();
        self.among.give_back(self.seat);
    }
}
