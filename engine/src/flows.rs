//! The pump's place in every owned partition: what was handed out, what there is, what is done.
//!
//! The engine keeps its place and the store answers "after this position"; so nothing here is durable, and all of it is
//! told anew when a partition changes hands.

use std::time::{Duration, Instant};

use whizbang_storage::{
    Epoch, Limit, MembershipAnswer, Owned, Partition, Position, Read, Settled, SubscriptionId,
};

use crate::host::is_planted;
use crate::ranges::Ranges;

/// The owned partitions, and within each a flow per subscription.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    subscriptions: Vec<SubscriptionId>,
    // By partition number; a service has at most a few thousand.
    partitions: Vec<Option<OwnedPartition>>,
    // Partitions with something in `done`, each once.
    touched: Vec<Partition>,
    // Handed out and not settled.
    in_flight: usize,
    // Calls of `done` since the last `take_done`; near enough to the positions that wait.
    done_count: usize,
    // Where the next round of reads begins, so that a large partition does not starve the others.
    turn: usize,
}

#[derive(Debug)]
struct OwnedPartition {
    epoch: Epoch,
    head: Position,
    giving_back: bool,
    touched: bool,
    in_flight: usize,
    /// While its suspects are looked at one by one, nothing new is read until then: what is read would have to be parked
    /// behind them, and a parked stream goes on one message at a time.
    hold_until: Option<Instant>,
    /// The sum of the cursors' `low`s when the store last told them.
    lows: u64,
    flows: Vec<Flow>,
}

#[derive(Debug)]
struct Flow {
    place: Position,
    /// A read found nothing although there is more: the window is full until something is settled.
    full: bool,
    /// What the last owner was given and had not settled when it died ends here.
    suspects_to: Position,
    paused: bool,
    done: Ranges,
}

/// How long a partition's suspects hold up what is new in it after the last of them was settled.
const HOLD_FOR: Duration = Duration::from_secs(1);

/// How a partition changed hands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Gained(Partition),
    /// With the epoch that was lost.
    Lost(Partition, Epoch),
}

impl Flows {
    /// Takes over the numbers the store gave this group's subscriptions.
    pub(crate) fn joined(&mut self, subscriptions: &[SubscriptionId]) {
        self.subscriptions = subscriptions.to_vec();
    }

    /// Forgets everything, after an eviction.
    pub(crate) fn clear(&mut self) {
        self.partitions.clear();
        self.touched.clear();
        self.in_flight = 0;
        self.done_count = 0;
    }

    pub(crate) fn subscriptions(&self) -> &[SubscriptionId] {
        &self.subscriptions
    }

    /// Brings the owned partitions in line with the store's list, and says what changed.
    pub(crate) fn owned(&mut self, answer: &MembershipAnswer, now: Instant, mut changed: impl FnMut(Change)) {
        let count =
            answer.owned.last().map_or(0, |last| last.partition.0 as usize + 1).max(self.partitions.len());
        self.partitions.resize_with(count, || None);
        let mut listed = answer.owned.iter().peekable();
        for number in 0..count {
            let partition = Partition(number as u32);
            let owned = listed.next_if(|owned| owned.partition == partition);
            let slot = &mut self.partitions[number];
            if slot.as_ref().map(|held| held.epoch) == owned.map(|owned| owned.epoch) {
                if let (Some(held), Some(owned)) = (slot.as_mut(), owned) {
                    held.head = held.head.max(owned.head);
                    let settled = |flow: &Flow, id: &SubscriptionId| {
                        let cursor = owned.cursors.iter().find(|cursor| cursor.subscription == *id);
                        cursor.is_none_or(|cursor| cursor.low >= flow.suspects_to)
                    };
                    if held.flows.iter().zip(&self.subscriptions).all(|(flow, id)| settled(flow, id)) {
                        held.hold_until = None;
                    }
                    let lows = lows_of(owned);
                    if held.hold_until.is_some() && lows > held.lows {
                        // They are being settled: as long as that goes on it is worth waiting.
                        held.hold_until = Some(now + HOLD_FOR);
                    }
                    held.lows = lows;
                }
                continue;
            }
            if let Some(lost) = slot.take() {
                self.in_flight -= lost.in_flight;
                changed(Change::Lost(partition, lost.epoch));
            }
            if let Some(owned) = owned {
                let place =
                    |id: &SubscriptionId| owned.cursors.iter().find(|cursor| cursor.subscription == *id);
                let flow = |id| Flow {
                    place: place(id).map_or(owned.head, |cursor| cursor.read_from),
                    suspects_to: place(id).map_or(Position::START, |cursor| cursor.read_from),
                    paused: false,
                    full: false,
                    done: Ranges::default(),
                };
                *slot = Some(OwnedPartition {
                    epoch: owned.epoch,
                    head: owned.head,
                    giving_back: false,
                    touched: false,
                    in_flight: 0,
                    lows: lows_of(owned),
                    hold_until: owned.cursors.iter().any(|c| c.read_from > c.low).then(|| now + HOLD_FOR),
                    flows: self.subscriptions.iter().map(flow).collect(),
                });
                changed(Change::Gained(partition));
            }
        }
        self.touched.retain(|partition| {
            self.partitions[partition.0 as usize].as_ref().is_some_and(|held| held.touched)
        });
    }

    /// The epoch under which a partition is owned.
    pub(crate) fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.held(partition).map(|held| held.epoch)
    }

    /// Partitions that are owned and not being given back, most recently numbered first.
    pub(crate) fn keepable(&self) -> impl Iterator<Item = (Partition, Epoch)> {
        let numbered = self.partitions.iter().enumerate().rev();
        numbered.filter_map(|(number, slot)| {
            slot.as_ref().filter(|held| !held.giving_back).map(|held| (Partition(number as u32), held.epoch))
        })
    }

    /// Marks a partition as one that gets nothing new.
    pub(crate) fn give_back(&mut self, partition: Partition) {
        if let Some(held) = self.held_mut(partition) {
            held.giving_back = true;
        }
    }

    /// Whether a message appended now would be the next one of every flow of its partition.
    pub(crate) fn caught_up(&self, partition: Partition) -> bool {
        let next = |held: &OwnedPartition| {
            !held.giving_back && held.flows.iter().all(|flow| !flow.paused && flow.place == held.head)
        };
        self.held(partition).is_some_and(next)
    }

    /// Takes note of a message that this instance appended.
    pub(crate) fn appended(&mut self, partition: Partition, position: Position, handed_out: bool) {
        if let Some(held) = self.held_mut(partition) {
            held.head = held.head.max(position);
            if handed_out {
                held.flows.iter_mut().for_each(|flow| flow.place = flow.place.max(position));
            }
        }
    }

    /// Takes note of a partition's head, after arrivals were moved into its log.
    pub(crate) fn moved(&mut self, partition: Partition, head: Position) {
        if let Some(held) = self.held_mut(partition) {
            held.head = held.head.max(head);
        }
    }

    /// Adds a finished position, if its partition is still owned under that epoch; says whether it is.
    pub(crate) fn done(
        &mut self,
        flow: usize,
        partition: Partition,
        epoch: Epoch,
        position: Position,
    ) -> bool {
        self.done_range(flow, partition, epoch, position, position)
    }

    /// Adds finished or missing positions from `first` to `last`, both inside.
    pub(crate) fn done_range(
        &mut self,
        flow: usize,
        partition: Partition,
        epoch: Epoch,
        first: Position,
        last: Position,
    ) -> bool {
        let Some(held) = self.partitions.get_mut(partition.0 as usize).and_then(Option::as_mut) else {
            return false;
        };
        if held.epoch != epoch {
            return false;
        }
        let Some(flow) = held.flows.get_mut(flow) else {
            return false;
        };
        flow.done.push(first, last);
        self.done_count += 1;
        if !held.touched && !flow.done.is_empty() {
            held.touched = true;
            self.touched.push(partition);
        }
        true
    }

    /// Messages of owned partitions that were handed out and not settled.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Counts a message that was given to a worker.
    pub(crate) fn handed(&mut self, partition: Partition, epoch: Epoch) {
        if let Some(held) = self.held_mut(partition).filter(|held| held.epoch == epoch) {
            held.in_flight += 1;
            self.in_flight += 1;
        }
    }

    /// Counts a message that a worker will not ask about again.
    pub(crate) fn settled(&mut self, partition: Partition, epoch: Epoch) {
        if let Some(held) = self.held_mut(partition).filter(|held| held.epoch == epoch && held.in_flight > 0)
        {
            held.in_flight -= 1;
            held.flows.iter_mut().for_each(|flow| flow.full = false);
            self.in_flight -= 1;
        }
    }

    /// Whether any position waits to be settled.
    pub(crate) fn has_done(&self) -> bool {
        !self.touched.is_empty()
    }

    /// About how many positions wait to be settled.
    pub(crate) fn done_count(&self) -> usize {
        self.done_count
    }

    /// Takes back ranges that were handed over and not sent.
    pub(crate) fn put_back(&mut self, ranges: &[Settled]) {
        for range in ranges {
            if let Some(flow) = self.subscriptions.iter().position(|id| *id == range.subscription) {
                self.done_range(flow, range.partition, range.epoch, range.first, range.last);
            }
        }
    }

    /// Hands over everything that is done, as ranges; returns how many positions.
    pub(crate) fn take_done(&mut self, mut take: impl FnMut(Settled)) -> u64 {
        self.done_count = 0;
        let mut positions = 0;
        for partition in self.touched.drain(..) {
            let Some(held) = self.partitions[partition.0 as usize].as_mut() else {
                continue;
            };
            held.touched = false;
            let epoch = held.epoch;
            for (flow, &subscription) in held.flows.iter_mut().zip(&self.subscriptions) {
                flow.full = false;
                flow.done.drain(|first, last| {
                    positions += last.0 - first.0 + 1;
                    take(Settled { subscription, partition, epoch, first, last });
                });
            }
        }
        positions
    }

    /// Whether any flow stands before its partition's head.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        self.partitions.iter().flatten().any(|held| held.is_behind(now))
    }

    /// The next instant at which a partition is read although its suspects are not settled; none while none holds.
    pub(crate) fn hold_until(&self, now: Instant) -> Option<Instant> {
        self.partitions.iter().flatten().filter_map(|held| held.hold_until).filter(|until| *until > now).min()
    }

    /// What to read next: every flow that is behind gets an equal part of the budget, in turns.
    pub(crate) fn reads(&mut self, budget: Limit, now: Instant, mut take: impl FnMut(Read)) {
        const READS_MAX: usize = 64;
        let behind = |flow: &Flow, held: &OwnedPartition| flow.is_behind(held.head);
        let waiting: usize = (self.partitions.iter().flatten().filter(|held| held.may_read(now)))
            .map(|held| held.flows.iter().filter(|flow| behind(flow, held)).count())
            .sum();
        if waiting == 0 || budget.messages == 0 {
            return;
        }
        let reads = waiting.min(READS_MAX).min(budget.messages);
        let limit = Limit { messages: budget.messages / reads, bytes: (budget.bytes / reads).max(1) };
        let count = self.partitions.len();
        let mut left = reads;
        for step in 0..count {
            let number = (self.turn + step) % count;
            let Some(held) = self.partitions[number].as_ref().filter(|held| held.may_read(now)) else {
                continue;
            };
            for (flow, &subscription) in held.flows.iter().zip(&self.subscriptions) {
                if left == 0 {
                    self.turn = number;
                    return;
                }
                if behind(flow, held) {
                    let partition = Partition(number as u32);
                    take(Read { subscription, partition, epoch: held.epoch, after: flow.place, limit });
                    left -= 1;
                }
            }
        }
    }

    /// Takes note of how far a read looked; the positions it passed over and did not return count as done.
    pub(crate) fn read(&mut self, read: &Read, through: Position, returned: impl Iterator<Item = Position>) {
        let Some(index) = self.subscriptions.iter().position(|id| *id == read.subscription) else {
            return;
        };
        let mut expected = read.after.next();
        for position in returned {
            if expected < position {
                self.done_range(index, read.partition, read.epoch, expected, Position(position.0 - 1));
            }
            expected = position.next();
        }
        self.done_range(index, read.partition, read.epoch, expected, through);
        if let Some(held) = self.held_mut(read.partition)
            && held.epoch == read.epoch
        {
            let flow = &mut held.flows[index];
            flow.full = through <= read.after && !is_planted("spins-at-a-full-window");
            flow.place = flow.place.max(if is_planted("reads-on-at-the-head") { held.head } else { through });
        }
    }

    /// Takes note that a subscription is paused, until [`ask_paused_again`](Self::ask_paused_again).
    pub(crate) fn pause(&mut self, subscription: SubscriptionId) {
        let Some(index) = self.subscriptions.iter().position(|id| *id == subscription) else {
            return;
        };
        for held in self.partitions.iter_mut().flatten() {
            held.flows[index].paused = true;
        }
    }

    /// Lets paused flows be asked again; a heartbeat does so.
    pub(crate) fn ask_paused_again(&mut self) {
        self.partitions
            .iter_mut()
            .flatten()
            .flat_map(|held| &mut held.flows)
            .for_each(|flow| (flow.paused, flow.full) = (false, false));
    }

    fn held(&self, partition: Partition) -> Option<&OwnedPartition> {
        self.partitions.get(partition.0 as usize).and_then(Option::as_ref)
    }

    fn held_mut(&mut self, partition: Partition) -> Option<&mut OwnedPartition> {
        self.partitions.get_mut(partition.0 as usize).and_then(Option::as_mut)
    }
}

fn lows_of(owned: &Owned) -> u64 {
    owned.cursors.iter().map(|cursor| cursor.low.0).sum()
}

impl Flow {
    fn is_behind(&self, head: Position) -> bool {
        !self.paused && !self.full && self.place < head
    }
}

impl OwnedPartition {
    fn may_read(&self, now: Instant) -> bool {
        !self.giving_back && self.hold_until.is_none_or(|until| until <= now)
    }

    fn is_behind(&self, now: Instant) -> bool {
        self.may_read(now) && self.flows.iter().any(|flow| flow.is_behind(self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whizbang_storage::CursorAt;

    const ME: SubscriptionId = SubscriptionId(7);

    fn owned(partition: u32, epoch: u64, head: u64, read_from: u64) -> Owned {
        let cursor = CursorAt { subscription: ME, low: Position(read_from), read_from: Position(read_from) };
        Owned {
            partition: Partition(partition),
            epoch: Epoch(epoch),
            head: Position(head),
            cursors: vec![cursor],
        }
    }

    fn flows(list: Vec<Owned>) -> Flows {
        let mut flows = Flows::default();
        flows.joined(&[ME]);
        flows.owned(&MembershipAnswer { owned: list, ..Default::default() }, Instant::now(), |_| ());
        flows
    }

    fn reads(flows: &mut Flows, messages: usize) -> Vec<(u32, u64, usize)> {
        let mut out = Vec::new();
        let budget = Limit { messages, bytes: 1 << 20 };
        flows.reads(budget, Instant::now(), |read| {
            out.push((read.partition.0, read.after.0, read.limit.messages))
        });
        out
    }

    #[test]
    fn gained_and_lost_partitions_are_told_once() {
        let mut flows = flows(vec![owned(0, 1, 0, 0), owned(3, 1, 0, 0)]);
        let mut changes = Vec::new();
        let answer =
            MembershipAnswer { owned: vec![owned(1, 1, 0, 0), owned(3, 2, 0, 0)], ..Default::default() };
        flows.owned(&answer, Instant::now(), |change| changes.push(change));
        assert_eq!(
            changes,
            [
                Change::Lost(Partition(0), Epoch(1)),
                Change::Gained(Partition(1)),
                Change::Lost(Partition(3), Epoch(1)),
                Change::Gained(Partition(3))
            ]
        );
        flows.owned(&answer, Instant::now(), |_| panic!("nothing changed"));
        assert_eq!(flows.epoch(Partition(0)), None);
        assert_eq!(flows.epoch(Partition(3)), Some(Epoch(2)));
    }

    #[test]
    fn only_flows_that_are_behind_are_read_with_an_equal_share() {
        let mut flows = flows(vec![owned(0, 1, 10, 10), owned(1, 1, 10, 4), owned(2, 1, 10, 0)]);
        assert!(flows.is_behind(Instant::now()));
        assert_eq!(reads(&mut flows, 100), [(1, 4, 50), (2, 0, 50)]);
        assert_eq!(reads(&mut flows, 0), []);
    }

    #[test]
    fn what_does_not_fit_one_round_comes_in_the_next() {
        let mut flows = flows((0..100).map(|p| owned(p, 1, 10, 0)).collect());
        let first: Vec<u32> = reads(&mut flows, 1_000).iter().map(|read| read.0).collect();
        assert_eq!(first, (0..64).collect::<Vec<_>>());
        let second: Vec<u32> = reads(&mut flows, 1_000).iter().map(|read| read.0).collect();
        assert_eq!(&second[..36], (64..100).collect::<Vec<_>>());
    }

    #[test]
    fn holes_that_a_read_passes_count_as_done() {
        let mut flows = flows(vec![owned(0, 1, 10, 0)]);
        let limit = Limit { messages: 10, bytes: 10 };
        let read =
            Read { subscription: ME, partition: Partition(0), epoch: Epoch(1), after: Position(0), limit };
        flows.read(&read, Position(9), [2, 3, 7].into_iter().map(Position));
        let mut ranges = Vec::new();
        let positions = flows.take_done(|settled| ranges.push((settled.first.0, settled.last.0)));
        assert_eq!(ranges, [(1, 1), (4, 6), (8, 9)]);
        assert_eq!(positions, 6);
        assert_eq!(reads(&mut flows, 1), [(0, 9, 1)]);
        assert!(!flows.has_done());
    }

    #[test]
    fn a_message_handed_out_at_its_append_is_not_read() {
        let mut flows = flows(vec![owned(0, 1, 0, 0)]);
        assert!(flows.caught_up(Partition(0)));
        flows.appended(Partition(0), Position(1), true);
        assert!(!flows.is_behind(Instant::now()));
        flows.appended(Partition(0), Position(2), false);
        assert!(!flows.caught_up(Partition(0)));
        assert_eq!(reads(&mut flows, 5), [(0, 1, 5)]);
    }

    #[test]
    fn what_was_done_under_an_older_epoch_is_dropped() {
        let mut flows = flows(vec![owned(0, 2, 5, 5)]);
        assert!(!flows.done(0, Partition(0), Epoch(1), Position(1)));
        assert!(flows.done(0, Partition(0), Epoch(2), Position(1)));
        assert!(!flows.done(0, Partition(9), Epoch(2), Position(1)));
        assert_eq!(flows.take_done(|_| ()), 1);
    }

    #[test]
    fn a_partition_being_given_back_gets_nothing_new() {
        let mut flows = flows(vec![owned(0, 1, 5, 0)]);
        flows.give_back(Partition(0));
        assert!(!flows.is_behind(Instant::now()));
        assert!(!flows.caught_up(Partition(0)));
        assert_eq!(reads(&mut flows, 5), []);
        assert_eq!(flows.keepable().count(), 0);
    }

    #[test]
    fn what_is_new_waits_for_suspects_but_not_for_ever() {
        let now = Instant::now();
        let mut suspects = owned(0, 2, 10, 5);
        suspects.cursors[0].low = Position(0);
        let mut flows = flows(vec![suspects]);
        let read = |now: Instant, flows: &mut Flows| {
            let mut reads = 0;
            flows.reads(Limit { messages: 10, bytes: 1_000 }, now, |_| reads += 1);
            reads
        };
        assert_eq!(read(now, &mut flows), 0, "positions 1 to 5 are suspects");
        assert!(flows.hold_until(now).is_some());
        assert_eq!(read(now + HOLD_FOR * 2, &mut flows), 1);

        let answer = MembershipAnswer { owned: vec![owned(0, 2, 10, 5)], ..Default::default() };
        flows.owned(&answer, now, |_| panic!("nothing changed hands"));
        assert_eq!(read(now, &mut flows), 1, "the suspects are settled");
        assert!(flows.hold_until(now).is_none());
    }

    #[test]
    fn a_full_window_is_not_read_in_a_circle() {
        let mut flows = flows(vec![owned(0, 1, 10, 4)]);
        let limit = Limit { messages: 10, bytes: 10 };
        let read =
            Read { subscription: ME, partition: Partition(0), epoch: Epoch(1), after: Position(4), limit };
        flows.read(&read, Position(4), std::iter::empty());
        assert!(!flows.is_behind(Instant::now()), "there is more, and it cannot be had");
        flows.done(0, Partition(0), Epoch(1), Position(3));
        flows.take_done(|_| ());
        assert!(flows.is_behind(Instant::now()));
    }
}
