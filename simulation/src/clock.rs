//! The store's clock: that of the run, until somebody sets it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use whizbang_storage::{Clock, Timestamp};

use crate::planted::Defect;

/// The clock of the one database; clones are the same clock.
#[derive(Clone)]
pub(crate) struct RunClock {
    began: Instant,
    hands: Arc<Mutex<Hands>>,
}

struct Hands {
    /// Microseconds that it was set forward, less those that it was set back.
    set: i64,
    /// By how many microseconds the one who calls is ahead, where the store has the defect to believe callers.
    caller: i64,
    believes_callers: bool,
}

impl RunClock {
    pub(crate) fn new(planted: Option<Defect>) -> Self {
        let believes_callers = planted.is_some_and(|of| of.name == "store-evicts-by-the-callers-clock");
        let hands = Hands { set: 0, caller: 0, believes_callers };
        Self { began: Instant::now(), hands: Arc::new(Mutex::new(hands)) }
    }

    /// Sets it forward or back.
    pub(crate) fn jump(&self, millis: i64) {
        self.hands.lock().set += millis * 1_000;
    }

    /// By how many microseconds it is ahead of everybody else's.
    pub(crate) fn ahead(&self) -> i64 {
        self.hands.lock().set
    }

    /// This process, whose own clock is so many microseconds ahead, calls.
    pub(crate) fn called_by(&self, ahead: i64) {
        self.hands.lock().caller = ahead;
    }
}

impl Clock for RunClock {
    fn now(&self) -> Timestamp {
        let hands = self.hands.lock();
        let caller = if hands.believes_callers { hands.caller } else { 0 };
        let elapsed = self.began.elapsed().as_micros() as i64;
        Timestamp::from_micros(1_700_000_000_000_000 + elapsed + hands.set + caller)
    }
}
