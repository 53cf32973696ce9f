//! What the store has said to whom, looked at while it says so: owners, epochs, evictions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use whizbang::InstanceId;
use whizbang_storage::{
    Answer, Epoch, Membership, Partition, Read, ReadAnswer, Settled, SettledAnswer, StoreError, WorkBatch,
};

use crate::journal::Journal;

/// Looks at every call of every process, just as the store has answered it; clones are the same watch.
#[derive(Clone)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    journal: Journal,
    time_to_live: Duration,
}

#[derive(Default)]
struct Seen {
    owners: BTreeMap<Partition, (Epoch, InstanceId)>,
    /// Partitions that their owner has given back or left.
    given_back: BTreeSet<(Partition, InstanceId)>,
    instances: BTreeMap<InstanceId, Instance>,
    evicted_processes: BTreeSet<usize>,
    calls: u64,
}

struct Instance {
    process: usize,
    /// When its last batch was committed.
    heard_of: Instant,
    /// Its number.
    number: u64,
    is_dead: bool,
    has_left: bool,
}

impl Seen {
    /// Whether an instance was told that it owns a partition under this epoch, and has not given it back.
    fn is_owner(&self, partition: Partition, epoch: Epoch, instance: InstanceId) -> bool {
        self.owners.get(&partition) == Some(&(epoch, instance))
            && !self.given_back.contains(&(partition, instance))
    }
}

impl Watch {
    pub(crate) fn new(journal: Journal, time_to_live: Duration) -> Self {
        Self { seen: Arc::default(), journal, time_to_live }
    }

    /// Whether the group has ever taken this process for dead.
    pub(crate) fn was_evicted(&self, process: usize) -> bool {
        self.seen.lock().evicted_processes.contains(&process)
    }

    /// Calls that reached the store.
    pub(crate) fn calls(&self) -> u64 {
        self.seen.lock().calls
    }

    /// The store has answered a batch of this process.
    pub(crate) fn answered(
        &self,
        process: usize,
        batch: &WorkBatch<'_>,
        answer: &Answer,
        result: &Result<(), StoreError>,
    ) {
        let from = batch.from.instance;
        let mut seen = self.seen.lock();
        seen.calls += 1;
        self.journal.line(|| told(process, batch, answer, result));
        match result {
            Ok(()) => {}
            Err(StoreError::Evicted) => {
                drop(seen);
                return self.evicted(from);
            }
            Err(_) => return,
        }
        if answer.evicted {
            drop(seen);
            return self.evicted(from);
        }
        let now = Instant::now();
        let number = batch.from.number;
        let is_repeat = seen.instances.get(&from).is_some_and(|instance| instance.number >= number);
        let settled = batch.settled.iter().zip(&answer.settled);
        for (range, _) in settled.filter(|(_, answered)| **answered == SettledAnswer::Applied && !is_repeat) {
            let Settled { partition, epoch, .. } = *range;
            if !seen.is_owner(partition, epoch, from) {
                self.journal.violation(format!(
                    "process {process} settled something in partition {partition} under {epoch:?}, which it does not own"
                ));
            }
        }
        let new = Instance { process, heard_of: now, number, is_dead: false, has_left: false };
        let instance = seen.instances.entry(from).or_insert(new);
        if instance.number < number {
            // A repeat is no sign of life.
            (instance.number, instance.heard_of) = (number, now);
        }
        match &batch.membership {
            // What was given back before may have come back since.
            _ if is_repeat => {}
            Some(Membership::Release(releases)) => {
                let own =
                    releases.iter().filter(|of| seen.owners.get(&of.partition) == Some(&(of.epoch, from)));
                let own: Vec<_> = own.map(|release| (release.partition, from)).collect();
                seen.given_back.extend(own);
            }
            Some(Membership::Leave { .. }) => {
                let owned = seen.owners.iter().filter(|(_, owner)| owner.1 == from);
                let left: Vec<_> = owned.map(|(partition, _)| (*partition, from)).collect();
                seen.given_back.extend(left);
                if let Some(instance) = seen.instances.get_mut(&from) {
                    instance.has_left = true;
                }
            }
            _ => {}
        }
        let mut dead = Vec::new();
        for owned in answer.membership.iter().flat_map(|membership| &membership.owned) {
            let (partition, epoch) = (owned.partition, owned.epoch);
            match seen.owners.insert(partition, (epoch, from)) {
                Some((before, owner)) if owner == from && before == epoch => {}
                Some((before, owner)) if before >= epoch => self.journal.violation(format!(
                    "partition {partition} has two owners: {owner} under {before:?} and {from} under {epoch:?}"
                )),
                Some((_, owner)) => {
                    let was_given_back = seen.given_back.remove(&(partition, owner));
                    seen.given_back.remove(&(partition, from));
                    dead.extend((!was_given_back && owner != from).then_some(owner));
                }
                None => {}
            }
        }
        let reads = batch.reads.iter().zip(&answer.reads);
        for (read, _) in reads.filter(|(_, got)| matches!(got, ReadAnswer::Messages { .. }) && !is_repeat) {
            let Read { partition, epoch, .. } = *read;
            if !seen.is_owner(partition, epoch, from) {
                self.journal.violation(format!(
                    "process {process} read partition {partition} under {epoch:?}, which it does not own"
                ));
            }
        }
        drop(seen);
        dead.into_iter().for_each(|instance| self.evicted(instance));
    }

    /// Somebody else has what this instance had, or the store has said so.
    fn evicted(&self, instance: InstanceId) {
        let mut seen = self.seen.lock();
        let Some(found) = seen.instances.get_mut(&instance).filter(|found| !found.is_dead && !found.has_left)
        else {
            return;
        };
        found.is_dead = true;
        let (process, silent) = (found.process, found.heard_of.elapsed());
        seen.evicted_processes.insert(process);
        drop(seen);
        self.journal.line(|| format!("process {process}: evicted after {silent:?}"));
        if silent < self.time_to_live {
            self.journal.violation(format!("process {process} was evicted {silent:?} after its last batch"));
        }
        self.journal.with(|notes| {
            notes.deaths += 1;
            notes.evictions += 1;
        });
    }
}

/// A call in a few lines.
fn told(process: usize, batch: &WorkBatch<'_>, answer: &Answer, result: &Result<(), StoreError>) -> String {
    use std::fmt::Write as _;
    let mut text = format!("process {process}: batch {} of {}", batch.from.number, batch.from.instance);
    let mut say = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{:18}{line}", "");
    };
    if let Some(membership) = &batch.membership {
        say(format_args!("{membership:?}"));
    }
    if let Err(error) = result {
        say(format_args!("FAILED: {error}"));
        return text;
    }
    for (unit, answered) in batch.units.iter().zip(&answer.units) {
        match &unit.delivery {
            Some(of) => say(format_args!(
                "unit of subscription {} partition {} position {} attempt {}: {:?}, {} emits: {answered:?}",
                of.subscription.0,
                of.partition,
                of.position,
                of.attempt,
                unit.settle,
                unit.emits.len()
            )),
            None => say(format_args!("group of {}: {answered:?}", unit.emits.len())),
        }
    }
    for (settled, answered) in batch.settled.iter().zip(&answer.settled) {
        say(format_args!(
            "settled by subscription {} in partition {}: {} to {}: {answered:?}",
            settled.subscription.0, settled.partition, settled.first, settled.last
        ));
    }
    for (append, answered) in batch.appends.iter().zip(&answer.appends) {
        say(format_args!("append {}: {answered:?}", append.id));
    }
    for (read, answered) in batch.reads.iter().zip(&answer.reads) {
        say(format_args!(
            "read by subscription {} in partition {} after {}: {answered:?}",
            read.subscription.0, read.partition, read.after
        ));
    }
    for index in 0..answer.page.len() {
        if let Some(handed) = answer.page.get(index) {
            let kind = if answer.due.contains(&index) { "due" } else { "read" };
            say(format_args!(
                "{kind}: {} for subscription {} partition {} position {} attempt {} {:?} {:?}",
                handed.id,
                handed.subscription.0,
                handed.partition,
                handed.position,
                handed.attempt,
                handed.origin,
                handed.lane
            ));
        }
    }
    if let Some(membership) = &answer.membership {
        let owned: Vec<_> = membership.owned.iter().map(|owned| (owned.partition.0, owned.epoch.0)).collect();
        say(format_args!(
            "owns {owned:?}, is to give {} back; next due {:?}",
            membership.give_back, membership.next_due
        ));
    }
    text
}
