//! What deciding a batch has changed of what is remembered: what there is to write, and how to take everything back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use whizbang_storage::cursor::Cursor;
use whizbang_storage::parked::{self, Suspects};
use whizbang_storage::{InstanceId, MessageId, Partition, Position, StreamId, Timestamp, Version};

use crate::state::{Arrival, Desk, ParkedRow, Shared, State};

/// What a batch changes: how it was before, and what there is to write.
#[derive(Default)]
pub(crate) struct Changes<'b> {
    /// None: nothing that all instances know alike is changed.
    pub(crate) shared: Option<Shared>,
    /// Who is evicted: they can write nothing meanwhile.
    pub(crate) evicted: BTreeSet<InstanceId>,
    pub(crate) heads: BTreeMap<Partition, Position>,
    pub(crate) trimmed: BTreeMap<Partition, Position>,
    pub(crate) cursors: BTreeMap<(Partition, usize), Cursor>,
    pub(crate) suspects: BTreeMap<(Partition, usize), Option<Suspects>>,
    pub(crate) parked: BTreeMap<(usize, Partition, Position), Option<ParkedRow>>,
    pub(crate) errors: BTreeMap<(usize, Partition, Position), Box<str>>,
    pub(crate) desks: Vec<(Partition, usize, Option<Desk>)>,
    pub(crate) versions: HashMap<StreamId, Option<Version>>,
    /// Versions that nobody has compared yet.
    pub(crate) assumed_versions: BTreeMap<StreamId, Version>,
    /// Streams of which something is expected and that the sender writes.
    pub(crate) expected_here: BTreeSet<StreamId>,
    /// Streams of which something is expected and that somebody else writes: the versions before this batch, drafts not
    /// counted, which nobody has compared yet.
    pub(crate) expected_elsewhere: BTreeMap<StreamId, Version>,
    /// The drafts that were counted for these.
    pub(crate) drafts: Vec<i64>,
    /// How many undelayed events of such streams this batch sends.
    pub(crate) arrived_events: HashMap<StreamId, u64>,
    pub(crate) appended: Vec<Appended>,
    pub(crate) keys: BTreeMap<&'b [u8], (MessageId, u64)>,
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) moved: Vec<(Partition, i64, Option<Timestamp>, Arrival)>,
    pub(crate) projections: BTreeMap<(&'b str, &'b [u8]), Written<'b>>,
    pub(crate) assumed_revisions: BTreeMap<(&'b str, &'b [u8]), u64>,
    /// Events that are not behind what is trimmed any more.
    pub(crate) passed: Vec<(Partition, BTreeSet<Position>)>,
    /// Of each partition the last event that goes.
    pub(crate) old_events: Vec<(Partition, Position)>,
    /// How many deduplication keys may go, and when the youngest of them was made.
    pub(crate) old_keys: Option<(usize, Timestamp)>,
    /// There is something in it for others.
    pub(crate) news: bool,
}

/// A message that goes into the log.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) partition: Partition,
    pub(crate) position: Position,
    pub(crate) lane: StreamId,
    /// An event, its stream, and its version there.
    pub(crate) event: Option<(Option<StreamId>, Option<Version>)>,
    pub(crate) record: Arc<[u8]>,
}

/// A message that becomes an arrival, unless the batch itself moves it into the log.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) partition: Partition,
    pub(crate) due: Option<Timestamp>,
    pub(crate) lane: StreamId,
    pub(crate) record: Arc<[u8]>,
    /// Its number among the arrivals until it has a real one.
    pub(crate) provisional: i64,
    pub(crate) is_moved: bool,
}

/// A projection as this batch leaves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'b> {
    /// Its revision before the batch; 0: it was not there.
    pub(crate) before: u64,
    pub(crate) revision: u64,
    pub(crate) state: Option<&'b [u8]>,
}

/// Provisional numbers of arrivals begin here: behind all real ones.
pub(crate) const PROVISIONAL: i64 = i64::MAX / 2;

/// Takes everything back.
pub(crate) fn undo(state: &mut State, changes: Changes<'_>) {
    let Changes {
        shared,
        heads,
        trimmed,
        cursors,
        suspects,
        parked,
        desks,
        versions,
        arrived,
        moved,
        passed,
        ..
    } = changes;
    // The last one first: a subscription may have been added and dropped.
    for (partition, index, before) in desks.into_iter().rev() {
        let part = state.part_mut(partition);
        match before {
            Some(desk) => part.desks[index] = Some(desk),
            None => part.desks.truncate(index),
        }
    }
    for arrived in arrived.iter().filter(|arrived| !arrived.is_moved) {
        state.part_mut(arrived.partition).arrivals.remove(arrived.provisional, arrived.due);
    }
    for (partition, id, due, arrival) in moved {
        if id < PROVISIONAL {
            state.part_mut(partition).arrivals.add(id, due, arrival);
        }
    }
    for ((index, partition, position), before) in parked {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.parked.remove(position);
            if let Some(row) = before {
                desk.parked.insert(position, row);
            }
        }
    }
    for ((partition, index), before) in cursors {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.cursor = before;
        }
    }
    for ((partition, index), before) in suspects {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.suspects = before;
        }
    }
    for (partition, events) in passed {
        state.part_mut(partition).events.extend(events);
    }
    for (partition, head) in heads {
        let part = state.part_mut(partition);
        part.head = head;
        part.tail.cut_back(head);
        part.events.split_off(&head.next());
    }
    for (partition, before) in trimmed {
        state.part_mut(partition).trimmed = before;
    }
    for (stream, before) in versions {
        match before {
            Some(version) => state.versions.insert(stream, version),
            None => state.versions.remove(&stream),
        };
    }
    if let Some(shared) = shared {
        state.shared = shared;
    }
}

/// After an exchange was written: arrivals get their numbers, and memory that is not needed is let go.
pub(crate) fn settle_down(state: &mut State, changes: Changes<'_>, arrived: &[i64], sender: InstanceId) {
    let Changes { arrived: new, parked, cursors, heads, .. } = changes;
    for (one, id) in new.into_iter().filter(|one| !one.is_moved).zip(arrived) {
        if state.shared.writer(one.partition) == Some(sender) {
            let arrivals = &mut state.part_mut(one.partition).arrivals;
            if let Some(arrival) = arrivals.remove(one.provisional, one.due) {
                arrivals.add(*id, one.due, arrival);
            }
        }
    }
    for (index, partition, position) in parked.into_keys() {
        if let Some(desk) = state.desk_mut(index, partition)
            && let Some(row) = desk.parked.get(position)
            && (!matches!(row.state, parked::State::Waiting { .. }) || desk.parked.rows().len() > RECORDS_MAX)
        {
            // Handed out or dead: it is fetched should it be needed again.
            desk.parked.change(position, |row| row.message.record = None);
        }
    }
    let moved: BTreeSet<Partition> =
        cursors.into_keys().map(|(partition, _)| partition).chain(heads.into_keys()).collect();
    let tail_bytes = TAILS_BYTES / state.parts.len().max(1);
    for partition in moved {
        let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
        let is_own = group.is_some_and(|group| state.shared.owner(group, partition).instance == Some(sender));
        let group_of = |index: usize| state.shared.subscription(index).map(|one| one.group);
        let mine: Vec<bool> = (0..state.shared.subscriptions.len())
            .map(|index| group.is_some() && group_of(index) == group)
            .collect();
        let part = &mut state.parts[partition.0 as usize];
        let mut settled = None;
        for (desk, _) in part.desks.iter_mut().zip(mine).filter(|(_, mine)| *mine) {
            let Some(desk) = desk else {
                continue;
            };
            let low = desk.cursor.low();
            settled = Some(settled.map_or(low, |settled: Position| settled.min(low)));
            desk.ahead.release(low, AHEAD_BYTES);
            if !desk.cursor.has_suspects() {
                desk.suspected = Default::default();
            }
        }
        let settled = if is_own { settled.unwrap_or(part.head) } else { part.head };
        part.tail.release(settled, tail_bytes);
    }
    state.bound_versions();
}

/// Bytes of messages that are kept in memory behind all heads.
const TAILS_BYTES: usize = 64 << 20;
/// Bytes of messages that are kept in memory for a subscription that is behind, in a partition.
const AHEAD_BYTES: usize = 16 << 20;
/// Parked messages of a subscription and partition above which new ones are not kept in memory.
const RECORDS_MAX: usize = 4_096;
