//! What must hold when a run is over: nothing lost, nothing twice, everything in order, and the counts agree.

use std::collections::{BTreeMap, BTreeSet};

use whizbang::{DeadLetter, DeadReason, Projection, StreamId, StreamKey, Version};
use whizbang_storage::{Page, StoreReader};

use crate::app::{Counter, Loose, Noted, Novel, StrictTotals, Totals, Work, stream_of};
use crate::journal::{Fate, Flow, Journal};
use crate::shape::{COUNTERS, Shape};

/// Compares what the store holds with what was planned and acknowledged.
pub(crate) async fn judge(shape: &Shape, journal: &Journal, reader: &impl StoreReader) {
    let verdict = Verdict { shape, journal };
    let done = verdict.histories(reader).await;
    let dead = verdict.dead_letters(reader).await;
    verdict.nothing_is_lost(&done, &dead);
    verdict.groups_are_whole(&done, &dead);
    verdict.streams_are_in_order(&done);
    verdict.counters_agree(reader, &done).await;
}

/// The offer that a stored command is.
pub(crate) fn number_of(type_name: &str, payload: &[u8]) -> Option<usize> {
    match type_name {
        "simulation.work" => serde_json::from_slice::<Work>(payload).map(|work| work.number).ok(),
        "simulation.novel" => serde_json::from_slice::<Novel>(payload).map(|novel| novel.number).ok(),
        "simulation.loose" => serde_json::from_slice::<Loose>(payload).map(|loose| loose.number).ok(),
        _ => None,
    }
}

/// A handled message's event: its stream, and its version there.
type Done = BTreeMap<usize, (u64, u64)>;

struct Verdict<'v> {
    shape: &'v Shape,
    journal: &'v Journal,
}

impl Verdict<'_> {
    fn violation(&self, what: String) {
        self.journal.violation(what);
    }

    /// Every stream's events, each once, and the perspective's count of them.
    async fn histories(&self, reader: &impl StoreReader) -> Done {
        let mut done = Done::new();
        let offers = self.shape.offers.iter().enumerate();
        let streams: BTreeSet<u64> = offers.map(|(number, offer)| stream_of(number, offer)).collect();
        for stream in streams {
            let mut page = Page::default();
            let id = stream.stream_id();
            reader.history(id, Version(0), usize::MAX, &mut page).await.expect("memory can be read");
            for event in page.iter() {
                let noted: Noted = serde_json::from_slice(event.payload).expect("it was written as JSON");
                let version = event.version.map_or(0, |version| version.0);
                // Whoever sent it, and whether it went into the log at once or was moved there.
                if noted.follows.is_some_and(|follows| version != follows + 1) {
                    self.violation(format!(
                        "offer {} was to follow version {:?} of stream {stream}, and is {version}",
                        noted.number, noted.follows
                    ));
                }
                if let Some((of, before)) = done.insert(noted.number, (stream, version)) {
                    self.violation(format!(
                        "offer {} has two effects: {before} and {version} of stream {of}",
                        noted.number
                    ));
                }
            }
            self.totals(reader, id, stream, page.len() as u64).await;
            self.strict_totals(reader, id, stream, page.len() as u64).await;
        }
        done
    }

    async fn totals(&self, reader: &impl StoreReader, id: StreamId, stream: u64, events: u64) {
        let found = reader.projection(Totals::NAME, &id.to_bytes()).await.expect("memory can be read");
        let totals: Totals = found.map_or_else(Totals::default, |found| {
            serde_json::from_slice(&found.state).expect("it was written as JSON")
        });
        if let Some(broken) = totals.broken {
            self.violation(format!("stream {stream} was counted out of order: {broken}"));
        }
        if totals.count != events || totals.version != events {
            self.violation(format!(
                "stream {stream} has {events} events; {} were counted, up to {}",
                totals.count, totals.version
            ));
        }
    }

    async fn strict_totals(&self, reader: &impl StoreReader, id: StreamId, stream: u64, events: u64) {
        let found = reader.projection(StrictTotals::NAME, &id.to_bytes()).await.expect("memory can be read");
        let totals: StrictTotals = found.map_or_else(StrictTotals::default, |found| {
            serde_json::from_slice(&found.state).expect("it was written as JSON")
        });
        if let Some(broken) = totals.broken {
            self.violation(format!("stream {stream} was counted out of order by the strict: {broken}"));
        }
        let (wanted, done) = self.journal.discarded_of(stream);
        let missing = events - totals.count.min(events);
        if totals.count > events || missing < done || missing > wanted {
            self.violation(format!(
                "stream {stream} has {events} events; the strict counted {}, {done} to {wanted} were discarded",
                totals.count
            ));
        }
    }

    /// The dead, each with good reason.
    async fn dead_letters(&self, reader: &impl StoreReader) -> BTreeMap<usize, DeadLetter> {
        let mut dead = BTreeMap::new();
        for letter in reader.dead_letters(None, usize::MAX).await.expect("memory can be read") {
            let payload = &letter.payload;
            let Some(number) = number_of(&letter.type_name, payload) else {
                self.violation(format!("a dead letter that nobody asked for: {letter:?}"));
                continue;
            };
            self.died_for_a_reason(number, &letter);
            if dead.insert(number, letter).is_some() {
                self.violation(format!("offer {number} died twice"));
            }
        }
        dead
    }

    fn died_for_a_reason(&self, number: usize, letter: &DeadLetter) {
        let (runs, deaths) = self.journal.with(|notes| {
            let runs = notes.handled.get(&(Flow::Commands, letter.message)).copied();
            (runs.unwrap_or_default(), notes.deaths)
        });
        let is_planned = self.shape.offers[number].plan.dies;
        let attempts_max = self.shape.offers[number].attempts_max();
        let failed_max = runs.failed + runs.cut_off() + runs.succeeded / 16;
        let is_due = match letter.reason {
            DeadReason::Rejected => is_planned && letter.attempts > 0,
            DeadReason::AttemptsExhausted => {
                letter.attempts + letter.crashes >= attempts_max && failed_max + deaths >= attempts_max
            }
            _ => false,
        };
        let counts = letter.attempts <= attempts_max
            && letter.crashes <= attempts_max.min(deaths)
            && letter.attempts <= failed_max;
        if !is_due || !counts {
            self.violation(format!(
                "offer {number} is dead without a reason: {:?} after {} attempts and {} crashes; {runs:?}, {deaths} deaths",
                letter.reason, letter.attempts, letter.crashes
            ));
        }
    }

    fn nothing_is_lost(&self, done: &Done, dead: &BTreeMap<usize, DeadLetter>) {
        let fates = self.journal.with(|notes| notes.fates.clone());
        let mut keys: BTreeMap<u32, (usize, bool)> = BTreeMap::new();
        for (number, offer) in self.shape.offers.iter().enumerate() {
            let (is_done, is_dead) = (done.contains_key(&number), dead.contains_key(&number));
            if is_done && is_dead {
                self.violation(format!("offer {number} is handled and dead"));
            }
            if is_done && (offer.plan.dies || offer.plan.fails > 50) {
                self.violation(format!("offer {number} is handled, although its handler never succeeds"));
            }
            let is_there = is_done || is_dead;
            if let Some(key) = offer.once {
                let (there, promised) = keys.entry(key).or_default();
                *there += usize::from(is_there);
                *promised |= matches!(fates[number], Fate::Stored | Fate::Duplicate);
                continue;
            }
            let fate = match offer.parent {
                Some(parent) if done.contains_key(&parent) => Fate::Stored,
                Some(_) => Fate::Refused,
                None => fates[number],
            };
            match fate {
                Fate::Stored if !is_there => {
                    self.violation(format!("offer {number} was acknowledged, and is lost"))
                }
                Fate::Kept | Fate::Refused | Fate::Duplicate if is_there => {
                    self.violation(format!("offer {number} exists, although it is {fate:?}"));
                }
                _ => {}
            }
        }
        for (key, (there, promised)) in keys {
            if there > 1 || (promised && there == 0) {
                self.violation(format!(
                    "{there} messages with key {key} were handled (promised: {promised})"
                ));
            }
        }
    }

    fn groups_are_whole(&self, done: &Done, dead: &BTreeMap<usize, DeadLetter>) {
        let mut groups: BTreeMap<usize, BTreeSet<bool>> = BTreeMap::new();
        for (number, offer) in self.shape.offers.iter().enumerate() {
            if let Some(group) = offer.group {
                let is_there = done.contains_key(&number) || dead.contains_key(&number);
                groups.entry(group).or_default().insert(is_there);
            }
        }
        for (group, there) in groups {
            if there.len() > 1 {
                self.violation(format!("the group that begins with offer {group} was stored in part"));
            }
        }
    }

    /// What one producer sent to one stream was handled in that order. Its numbers grow.
    fn streams_are_in_order(&self, done: &Done) {
        let mut last: BTreeMap<(usize, u64), (usize, u64)> = BTreeMap::new();
        let requeued = self.journal.with(|notes| notes.requeued.clone());
        for (&number, &(stream, version)) in done.iter().filter(|(number, _)| !requeued.contains(number)) {
            let Some(producer) = self.shape.offers[number].ordered_by else {
                continue;
            };
            let before = last.insert((producer, stream), (number, version));
            if let Some((earlier, at)) = before.filter(|(_, at)| *at > version) {
                self.violation(format!(
                    "offer {number} was handled as {version} of stream {stream}, before offer {earlier} as {at}"
                ));
            }
        }
    }

    async fn counters_agree(&self, reader: &impl StoreReader, done: &Done) {
        for counter in 0..COUNTERS {
            let of = |number: &&usize| self.shape.offers[**number].plan.counter == Some(counter);
            let expected = done.keys().filter(of).count() as u64;
            let key = format!("counter {counter}");
            let found = reader.projection(Counter::NAME, key.as_bytes()).await.expect("memory can be read");
            let counted = found.map_or(0, |found| {
                serde_json::from_slice::<Counter>(&found.state).expect("it was written as JSON").count
            });
            if counted != expected {
                self.violation(format!(
                    "{expected} messages were handled with counter {counter}, which is at {counted}"
                ));
            }
        }
    }
}
