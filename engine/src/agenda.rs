//! What the pump does when: heartbeats, due work, arrivals, housekeeping. A clock value goes in, a plan comes out.
//!
//! An engine with nothing to do makes no call but its heartbeat, and every heartbeat says when something will be due; so
//! nothing here polls.

use std::time::{Duration, Instant};

/// When to do what.
#[derive(Debug)]
pub(crate) struct Agenda {
    heartbeat_every: Duration,
    heartbeat_at: Instant,
    /// The next instant at which a scheduled or parked message may move.
    due_at: Option<Instant>,
    /// Arrivals wait that nobody has to wait for.
    arrivals: bool,
    /// Parked work may have become due by something this engine did.
    due: bool,
    /// Positions settled since rows were last removed.
    settled: u64,
    /// Housekeeping did not finish.
    untidy: bool,
    /// The next instant at which rows are removed, however few.
    tidy_at: Instant,
}

/// What goes into one batch besides what the rings hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Say that this instance lives, and ask what it owns and when something is due.
    pub(crate) heartbeat: bool,
    pub(crate) arrivals: Option<usize>,
    pub(crate) due: bool,
    pub(crate) housekeeping: Option<usize>,
}

#[cfg(test)]
impl Plan {
    fn is_empty(&self) -> bool {
        !self.heartbeat && self.arrivals.is_none() && !self.due && self.housekeeping.is_none()
    }
}

/// Arrivals moved by one batch. More than a batch itself can bring: what it sends to streams for which something waits is an
/// arrival, too, and what is not moved with the batch is written twice.
const ARRIVALS_MAX: usize = 16_384;
/// Settled positions that make removing rows worth a statement.
const WORTH_REMOVING: u64 = 1_024;
/// Rows removed by one batch beyond those it has just settled.
const REMOVED_EXTRA: u64 = 4_096;
/// In so many heartbeats rows are removed once, however few: where instances share a database, whoever does it first has to
/// look what the others have done.
const TIDY_EVERY: u32 = 10;
/// The shortest time after which due work that did not come is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The instant so long after `now`; thirty years at the most, because "for ever" must not overflow.
pub(crate) fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(Duration::from_secs(30 * 365 * 24 * 3_600))
}

impl Agenda {
    pub(crate) fn new(heartbeat_every: Duration, now: Instant) -> Self {
        Self {
            heartbeat_every,
            heartbeat_at: now,
            due_at: None,
            arrivals: false,
            due: false,
            settled: 0,
            untidy: false,
            tidy_at: now,
        }
    }

    /// The instant at which there is something to do although the rings are empty.
    pub(crate) fn wake_at(&self) -> Instant {
        self.due_at.map_or(self.heartbeat_at, |due| due.min(self.heartbeat_at))
    }

    /// What one batch should carry now. `handing_out`: whether new work may be taken on at all.
    pub(crate) fn plan(&self, now: Instant, handing_out: bool) -> Plan {
        let time_has_come = self.due_at.is_some_and(|due| due <= now);
        let heartbeat = self.heartbeat_at <= now || time_has_come;
        let tidies = heartbeat && self.tidy_at <= now;
        let housekeeping = self.untidy || self.settled >= WORTH_REMOVING || tidies;
        Plan {
            heartbeat,
            arrivals: (self.arrivals || heartbeat).then_some(ARRIVALS_MAX),
            due: handing_out && (self.due || heartbeat),
            housekeeping: housekeeping.then(|| (self.settled + REMOVED_EXTRA).min(1 << 20) as usize),
        }
    }

    /// Whether a plan is worth a batch of its own.
    pub(crate) fn is_pressing(&self, now: Instant, handing_out: bool) -> bool {
        self.wake_at() <= now || self.arrivals || self.untidy || (self.due && handing_out)
    }

    /// The batch with this plan was answered. `due`: messages it handed out as due work; `moved`: partitions into which
    /// arrivals were moved; `removed`: rows.
    pub(crate) fn answered(&mut self, plan: &Plan, now: Instant, due: usize, moved: usize, removed: usize) {
        if plan.arrivals.is_some() {
            // Where some were moved there may be more.
            self.arrivals = moved > 0;
        }
        if plan.due {
            // What was handed out may be followed by more; what was not is told by the heartbeat.
            self.due = due > 0;
        }
        if let Some(limit) = plan.housekeeping {
            self.settled = 0;
            self.untidy = removed >= limit;
            self.tidy_at = later(now, self.heartbeat_every.saturating_mul(TIDY_EVERY));
        }
        if plan.heartbeat {
            self.heartbeat_at = now + self.heartbeat_every;
        }
    }

    /// A heartbeat was answered: arrivals that wait, and the time until something is due.
    pub(crate) fn told(&mut self, now: Instant, arrivals_waiting: usize, next_due: Option<Duration>) {
        self.arrivals = arrivals_waiting > 0;
        self.due_at = next_due.map(|after| later(now, after.max(ASK_AGAIN)));
    }

    /// Something this engine wrote will be due after so long.
    pub(crate) fn due_in(&mut self, now: Instant, after: Duration) {
        let at = later(now, after);
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// Arrivals wait for this engine.
    pub(crate) fn arrivals_wait(&mut self) {
        self.arrivals = true;
    }

    /// Parked work may be due now.
    pub(crate) fn due_now(&mut self) {
        self.due = true;
    }

    /// Others left work: ask at once.
    pub(crate) fn hinted(&mut self, now: Instant) {
        self.heartbeat_at = self.heartbeat_at.min(now);
    }

    pub(crate) fn settled(&mut self, positions: u64) {
        self.settled += positions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(3);

    fn quiet(now: Instant) -> Agenda {
        let mut agenda = Agenda::new(EVERY, now);
        let plan = agenda.plan(now, true);
        assert!(plan.heartbeat, "the first batch is a heartbeat");
        agenda.answered(&plan, now, 0, 0, 0);
        agenda.told(now, 0, None);
        agenda
    }

    #[test]
    fn an_idle_engine_makes_no_call_but_its_heartbeat() {
        let now = Instant::now();
        let agenda = quiet(now);
        assert_eq!(agenda.wake_at(), now + EVERY);
        assert!(!agenda.is_pressing(now + EVERY / 2, true));
        assert!(agenda.plan(now + EVERY / 2, true).is_empty());
        assert!(agenda.is_pressing(now + EVERY, true));
    }

    #[test]
    fn what_is_due_is_asked_for_in_time_and_once() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.due_in(now, Duration::from_secs(2));
        agenda.due_in(now, Duration::from_secs(1));
        let then = now + Duration::from_secs(1);
        assert_eq!(agenda.wake_at(), then);
        let plan = agenda.plan(then, true);
        assert!(plan.heartbeat && plan.due && plan.arrivals.is_some());
        agenda.answered(&plan, then, 0, 0, 0);
        agenda.told(then, 0, Some(Duration::from_secs(1)));
        assert!(!agenda.is_pressing(then, true));
        assert_eq!(agenda.wake_at(), then + Duration::from_secs(1));
    }

    #[test]
    fn a_store_that_says_now_and_gives_nothing_is_not_asked_in_a_circle() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.told(now, 0, Some(Duration::ZERO));
        assert!(!agenda.is_pressing(now, true));
        assert_eq!(agenda.wake_at(), now + ASK_AGAIN);
    }

    #[test]
    fn due_work_that_came_is_asked_for_until_there_is_none() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.due_now();
        let plan = agenda.plan(now, true);
        assert!(plan.due && !plan.heartbeat);
        agenda.answered(&plan, now, 5, 0, 0);
        assert!(agenda.is_pressing(now, true));
        agenda.answered(&plan, now, 0, 0, 0);
        assert!(!agenda.is_pressing(now, true));
    }

    #[test]
    fn an_engine_that_stops_takes_no_due_work() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.due_now();
        assert!(!agenda.is_pressing(now, false));
        assert!(!agenda.plan(now + EVERY, false).due);
    }

    #[test]
    fn rows_are_removed_when_it_is_worth_it_and_until_none_are_left() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.settled(WORTH_REMOVING - 1);
        assert_eq!(agenda.plan(now, true).housekeeping, None);
        agenda.settled(1);
        let plan = agenda.plan(now, true);
        let limit = plan.housekeeping.expect("enough is settled");
        agenda.answered(&plan, now, 0, 0, limit);
        assert!(agenda.is_pressing(now, true), "there may be more");
        let plan = agenda.plan(now, true);
        agenda.answered(&plan, now, 0, 0, 0);
        assert!(!agenda.is_pressing(now, true));
    }

    #[test]
    fn a_few_rows_are_removed_now_and_then() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.settled(1);
        agenda.hinted(now);
        let tidies =
            |agenda: &Agenda, beats: u32| agenda.plan(now + EVERY * beats, true).housekeeping.is_some();
        assert!(agenda.plan(now, true).heartbeat && !tidies(&agenda, 0), "a hint is no reason");
        assert!(!tidies(&agenda, TIDY_EVERY - 1));
        assert!(tidies(&agenda, TIDY_EVERY));
    }

    #[test]
    fn arrivals_are_moved_until_none_are_left() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.arrivals_wait();
        let plan = agenda.plan(now, true);
        agenda.answered(&plan, now, 0, 3, 0);
        assert!(agenda.is_pressing(now, true), "there may be more");
        let plan = agenda.plan(now, true);
        agenda.answered(&plan, now, 0, 0, 0);
        assert!(!agenda.is_pressing(now, true));
    }

    #[test]
    fn what_is_due_at_the_end_of_time_does_not_overflow() {
        let now = Instant::now();
        let mut agenda = quiet(now);
        agenda.due_in(now, Duration::MAX);
        agenda.told(now, 0, Some(Duration::MAX));
        assert_eq!(agenda.wake_at(), now + EVERY);
    }
}
