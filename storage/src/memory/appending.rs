//! New messages: into the log where the sender writes it, else among the arrivals; and arrivals moved into the log.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use xxhash_rust::xxh3::xxh3_64;

use super::call::Call;
use super::data::{Arrival, First, Part};
use super::message::{Bytes, Head, Message};
use crate::{
    Answer, Append, AppendAnswer, HandOut, InstanceId, Partition, Position, SameBody, Timestamp, refuse,
};

impl Call<'_> {
    pub(super) fn append(&mut self, appends: &[Append<'_>], answer: &mut Answer) {
        answer.appends.reserve(appends.len());
        for append in appends {
            match refuse::append(append, &self.service.limits) {
                Err(refusal) => answer.appends.push(AppendAnswer::Refused(refusal)),
                Ok(()) => self.append_one(append, &mut answer.appends),
            }
        }
    }

    /// Appends a message that is known to be acceptable, and writes the answer where it belongs; see [`Log::push`](super::log::Log::push)
    /// for why it is not returned.
    #[inline]
    pub(super) fn append_one(&mut self, append: &Append<'_>, answers: &mut Vec<AppendAnswer>) {
        if let Some(key) = append.dedup {
            let first = First { id: append.id, body: xxh3_64(append.payload) };
            if let Some(seen) = self.data.dedup.get(key) {
                let same = seen.body == first.body;
                let body = if same { SameBody::Same } else { SameBody::Different };
                answers.push(AppendAnswer::Duplicate { first: seen.id, body });
                return;
            }
            self.data.dedup.insert(key, first, self.now);
        }
        let head = Head::of(append, self.data.names.id(append.type_name));
        let bytes = Bytes { payload: append.payload, metadata: append.metadata };
        let lane = head.lane();
        let partition = lane.partition(self.data.partition_count());
        let part = &mut self.data.partitions[partition.0 as usize];
        let into_log = append.due_in.is_none() && part.writer == Some(self.sender);
        if !into_log || part.arrivals.holds(lane) {
            self.arrive(append, partition, Message::new(head, bytes));
            answers.push(AppendAnswer::Arrived);
            return;
        }
        let (position, version) = part.log.push(head, bytes, self.now);
        self.news |= self.data.groups.len() > 1;
        let handed_out = append.hand_out == HandOut::Now && self.hand_out_now(partition, position, append);
        let version = (version.0 > 0).then_some(version);
        answers.push(AppendAnswer::Stored { position, version, handed_out });
    }

    fn arrive(&mut self, append: &Append<'_>, partition: Partition, message: Message) {
        let (now, sender) = (self.now, self.sender);
        self.data.arrivals_ever += 1;
        let number = self.data.arrivals_ever;
        let part = &mut self.data.partitions[partition.0 as usize];
        self.news |= part.writer != Some(sender);
        match append.due_in {
            Some(due_in) => {
                part.arrivals.scheduled.insert((now.after(due_in), number), message);
            }
            None => part.arrivals.push(Arrival { number, message }),
        }
    }

    /// Marks a message that was just appended as handed out, if every subscription of the group would read it next.
    fn hand_out_now(&mut self, partition: Partition, position: Position, append: &Append<'_>) -> bool {
        let Some(group) = self.group else {
            return false;
        };
        let subscriptions = &self.data.groups[group].subscriptions;
        let part = &mut self.data.partitions[partition.0 as usize];
        let lane = append.lane();
        let window = self.service.window;
        let grants = |index: &usize| {
            let paused =
                self.data.subscriptions[*index].as_ref().is_some_and(|subscription| subscription.paused);
            part.desks[*index].as_ref().is_some_and(|desk| {
                !paused
                    && desk.cursor.given().next() == position
                    && position <= desk.cursor.window_end(window, position)
                    && !desk.blocks(lane, position)
            })
        };
        let granted = !subscriptions.is_empty() && subscriptions.iter().all(grants);
        if granted {
            for index in subscriptions {
                if let Some(desk) = &mut part.desks[*index] {
                    desk.cursor.give(position);
                }
            }
        }
        granted
    }

    /// Moves at most `max` arrivals of the partitions that the sender writes into their logs: first scheduled ones whose
    /// time has come, by that time, then the others as they came.
    pub(super) fn move_arrivals(&mut self, max: usize, answer: &mut Answer) {
        if max == 0 {
            return;
        }
        let now = self.now;
        let mut moved = BTreeSet::new();
        let mut left = max;
        let mut scheduled: Vec<(Timestamp, u64, usize)> = self
            .written()
            .flat_map(|(index, part)| {
                let due = part.arrivals.scheduled.range(..=(now, u64::MAX)).take(max);
                due.map(move |((due_at, number), _)| (*due_at, *number, index))
            })
            .collect();
        scheduled.sort_unstable();
        for (due_at, number, index) in scheduled.into_iter().take(max) {
            let part = &mut self.data.partitions[index];
            if let Some(message) = part.arrivals.scheduled.remove(&(due_at, number)) {
                part.log.push(message.head, message.bytes(), now);
                moved.insert(index);
                left -= 1;
            }
        }
        let mut fronts: BinaryHeap<Reverse<(u64, usize)>> = self
            .written()
            .filter_map(|(index, part)| Some(Reverse((part.arrivals.undelayed.front()?.number, index))))
            .collect();
        while let Some(Reverse((_, index))) = fronts.pop().filter(|_| left > 0) {
            let part = &mut self.data.partitions[index];
            if let Some(arrival) = part.arrivals.pop() {
                part.log.push(arrival.message.head, arrival.message.bytes(), now);
                moved.insert(index);
                left -= 1;
            }
            if let Some(next) = part.arrivals.undelayed.front() {
                fronts.push(Reverse((next.number, index)));
            }
        }
        self.news |= !moved.is_empty() && self.data.groups.len() > 1;
        let head = |index: usize| (Partition(index as u32), self.data.partitions[index].log.head());
        answer.moved.extend(moved.into_iter().map(head));
    }

    /// The partitions with arrivals whose log the sender writes.
    pub(super) fn written(&self) -> impl Iterator<Item = (usize, &Part)> {
        let sender: InstanceId = self.sender;
        self.data
            .partitions
            .iter()
            .enumerate()
            .filter(move |(_, part)| part.arrivals.len() > 0 && part.writer == Some(sender))
    }
}
