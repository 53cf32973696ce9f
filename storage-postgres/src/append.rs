//! New messages: into the log where the sender writes it, else among the arrivals; and arrivals moved into the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use whizbang_storage::record::{self, Record, fallback_id};
use whizbang_storage::{
    Append, AppendAnswer, HandOut, MessageId, MessageKind, Partition, Position, StreamId, Timestamp, Version,
    refuse,
};

use crate::body;
use crate::changes::{Appended, Arrived, PROVISIONAL};
use crate::exchange::Exchange;
use crate::state::Arrival;
use crate::tail::{Entry, Slice};

/// Behind so many bytes no more arrivals are moved by a batch: what is sent to the server at once has to stay below 1 GiB.
const MOVED_BYTES_MAX: usize = 64 << 20;

impl<'b> Exchange<'_, 'b> {
    pub(crate) fn append(&mut self, append: &'b Append<'b>) -> AppendAnswer {
        match refuse::append(append, &self.service.limits) {
            Err(refusal) => AppendAnswer::Refused(refusal),
            Ok(()) => self.append_one(append),
        }
    }

    /// Appends a message that is known to be acceptable.
    pub(crate) fn append_one(&mut self, append: &'b Append<'b>) -> AppendAnswer {
        if let Some(key) = append.dedup {
            if let Some((first, body)) = self.seen_key(key) {
                return AppendAnswer::Duplicate { first, body: body::compare(body, append.payload) };
            }
            self.changes.keys.insert(key, (append.id, body::digest(append.payload)));
        }
        let lane = append.lane();
        let partition = lane.partition(self.service.partitions);
        let record = encode(append);
        let into_log = append.due_in.is_none() && self.writes(partition);
        if !into_log || self.state.parts[partition.0 as usize].arrivals.holds(lane) {
            self.arrive(append, partition, lane, record);
            return AppendAnswer::Arrived;
        }
        let (position, version) = self.push(partition, lane, append.kind, append.stream, record);
        AppendAnswer::Stored {
            position,
            version,
            handed_out: append.hand_out == HandOut::Now && self.hand_out_now(partition, position, lane),
        }
    }

    /// Whether the sender appends to a partition's log.
    pub(crate) fn writes(&self, partition: Partition) -> bool {
        self.state.shared.writer(partition) == Some(self.sender)
    }

    fn seen_key(&self, key: &[u8]) -> Option<(MessageId, u64)> {
        self.changes.keys.get(key).or_else(|| self.facts.keys.get(key)).copied()
    }

    fn arrive(&mut self, append: &Append<'_>, partition: Partition, lane: StreamId, record: Arc<[u8]>) {
        let due = append.due_in.map(|due_in| self.now.after(due_in));
        let is_own = self.writes(partition);
        self.changes.news |= !is_own;
        let provisional = PROVISIONAL + self.changes.arrived.len() as i64;
        if is_own {
            let arrival = Arrival { lane, record: Arc::clone(&record) };
            self.state.part_mut(partition).arrivals.add(provisional, due, arrival);
        } else if due.is_none() && record::gets_version(&record) {
            *self.changes.arrived_events.entry(lane).or_default() += 1;
        }
        self.changes.arrived.push(Arrived { partition, due, lane, record, provisional, is_moved: false });
    }

    /// Puts a message behind a partition's log.
    fn push(
        &mut self,
        partition: Partition,
        lane: StreamId,
        kind: MessageKind,
        stream: Option<StreamId>,
        record: Arc<[u8]>,
    ) -> (Position, Option<Version>) {
        let version = match (kind, stream) {
            (MessageKind::Event, Some(stream)) => Some(self.next_version(stream)),
            _ => None,
        };
        let part = &mut self.state.parts[partition.0 as usize];
        self.changes.heads.entry(partition).or_insert(part.head);
        let position = part.head.next();
        part.head = position;
        part.tail.push(Entry { position, version, bytes: Slice::new(&record, 0, record.len()) });
        let event = (kind == MessageKind::Event).then_some((stream, version));
        if event.is_some() {
            part.events.insert(position);
        }
        self.changes.news |= self.state.shared.groups.len() > 1;
        self.changes.appended.push(Appended { partition, position, lane, event, record });
        (position, version)
    }

    /// The version a stream is at. Where nobody knows, it is assumed to be `or_else`, and the database compares.
    pub(crate) fn version(&mut self, stream: StreamId, or_else: Version) -> Version {
        if let Some(version) = self.state.versions.get(&stream) {
            return *version;
        }
        let version = *self
            .changes
            .assumed_versions
            .entry(stream)
            .or_insert_with(|| self.facts.versions.get(&stream).copied().unwrap_or(or_else));
        // Only what nobody else changes may be remembered.
        if self.writes(stream.partition(self.service.partitions)) {
            self.changes.versions.entry(stream).or_insert(None);
            self.state.versions.insert(stream, version);
        }
        version
    }

    /// The version a stream is at when what has arrived is in the log: what a unit expects is compared with this. Where
    /// nobody knows, it is assumed to be `or_else`, and the database compares.
    pub(crate) fn version_with_arrivals(&mut self, stream: StreamId, or_else: Version) -> Version {
        let partition = stream.partition(self.service.partitions);
        if self.writes(partition) {
            // What has come meanwhile is looked for.
            self.changes.expected_here.insert(stream);
            let waiting = self.state.parts[partition.0 as usize].arrivals.events(stream);
            let logged = self.version(stream, Version(or_else.0.saturating_sub(waiting)));
            return Version(logged.0 + waiting);
        }
        self.changes.drafts = self.facts.drafts.keys().copied().collect();
        let drafts = self.facts.drafts.values().filter(|lane| **lane == Some(stream)).count() as u64;
        let beside = drafts + self.changes.arrived_events.get(&stream).copied().unwrap_or(0);
        let known = self.facts.expected_elsewhere.get(&stream).copied();
        let before = known.unwrap_or(Version(or_else.0.saturating_sub(beside)));
        let before = *self.changes.expected_elsewhere.entry(stream).or_insert(before);
        Version(before.0 + beside)
    }

    fn next_version(&mut self, stream: StreamId) -> Version {
        let now = self.version(stream, Version(0));
        self.changes.versions.entry(stream).or_insert(Some(now));
        let next = Version(now.0.saturating_add(1));
        self.state.versions.insert(stream, next);
        next
    }

    /// Marks a message that was just appended as handed out, if every subscription of the group would read it next.
    fn hand_out_now(&mut self, partition: Partition, position: Position, lane: StreamId) -> bool {
        let window = self.service.window;
        for at in 0..self.subscriptions.len() {
            let index = self.subscriptions[at];
            let is_paused =
                self.state.shared.subscription(index).is_none_or(|subscription| subscription.paused);
            if is_paused || !self.knows_suspects(index, partition) {
                return false;
            }
            let grants = self.state.desk(index, partition).is_some_and(|desk| {
                desk.cursor.given().next() == position
                    && position <= desk.cursor.window_end(window, position)
                    && !desk.blocks(lane, position)
            });
            if !grants {
                return false;
            }
        }
        if !self.is_own(partition) {
            return false;
        }
        for at in 0..self.subscriptions.len() {
            if let Some(cursor) = self.cursor_mut(self.subscriptions[at], partition) {
                cursor.give(position);
            }
        }
        !self.subscriptions.is_empty()
    }

    /// Moves at most `max` arrivals of the partitions that the sender writes into their logs: first scheduled ones whose
    /// time has come, by that time, then the others as they came.
    pub(crate) fn move_arrivals(&mut self, max: usize) {
        if max == 0 {
            return;
        }
        let now = self.now;
        let (mut scheduled, mut undelayed) = (Vec::new(), Vec::new());
        for partition in self.written() {
            let arrivals = &self.state.parts[partition.0 as usize].arrivals;
            let due = arrivals.scheduled.range(..=(now, i64::MAX)).take(max);
            scheduled.extend(due.map(|((due, id), _)| (Some(*due), *id, partition)));
            undelayed.extend(arrivals.undelayed.keys().take(max).map(|id| (None, *id, partition)));
        }
        scheduled.sort_unstable();
        undelayed.sort_unstable();
        let moving: Vec<(Option<Timestamp>, i64, Partition)> =
            scheduled.into_iter().chain(undelayed).take(max).collect();
        let (mut moved, mut bytes) = (BTreeSet::new(), 0);
        for (due, id, partition) in moving {
            if bytes >= MOVED_BYTES_MAX {
                break;
            }
            let Some(arrival) = self.state.part_mut(partition).arrivals.remove(id, due) else {
                continue;
            };
            bytes += arrival.record.len();
            let message = Record::read(&arrival.record, fallback_id(id));
            let (kind, stream) = (message.kind, message.stream);
            self.push(partition, arrival.lane, kind, stream, Arc::clone(&arrival.record));
            if id >= PROVISIONAL {
                self.changes.arrived[(id - PROVISIONAL) as usize].is_moved = true;
            }
            self.changes.moved.push((partition, id, due, arrival));
            moved.insert(partition);
        }
        let heads =
            moved.into_iter().map(|partition| (partition, self.state.parts[partition.0 as usize].head));
        self.answer.moved.extend(heads);
    }

    /// The partitions with arrivals whose log the sender writes.
    pub(crate) fn written(&self) -> Vec<Partition> {
        let has_some = |partition: &Partition| {
            !self.state.parts[partition.0 as usize].arrivals.is_empty() && self.writes(*partition)
        };
        (0..self.service.partitions).map(Partition).filter(has_some).collect()
    }
}

fn encode(append: &Append<'_>) -> Arc<[u8]> {
    thread_local! {
        static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        record::encode(append, scratch);
        scratch.as_slice().into()
    })
}
