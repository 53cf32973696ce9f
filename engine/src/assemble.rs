//! Builds one batch from what lies in the rings, in the batch's own arena, and remembers whose answer is whose.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use whizbang_lockfree::{Drained, NoSink, Ticket};
use whizbang_storage::{Append, Delivery, Expected, HandOut, Projection, Settle, Settled, StreamId, Unit};

use crate::conflicts::Conflicts;
use crate::flows::Flows;
use crate::host::is_planted;
use crate::intake::{Header, PlainSink, What, payload};
use crate::replies::{Refused, Slot};
use crate::settle::{How, Settlement, UnitHead};
use crate::unit::UnitView;

/// The written part of a batch, and where each answer goes.
pub(crate) struct Assembled<'a> {
    pub(crate) units: &'a [Unit<'a>],
    pub(crate) settled: &'a [Settled],
    pub(crate) appends: &'a [Append<'a>],
    /// Parallel to `units`.
    pub(crate) sources: &'a [Source],
    /// Parallel to `appends`.
    pub(crate) tickets: &'a [Ticket],
    /// Every unit a worker waits for an answer to, in the order of its ring.
    pub(crate) tracked: &'a [Tracked],
    /// What cannot even be sent to the store.
    pub(crate) unsendable: &'a [(Ticket, Refused)],
    /// What was said about partitions that are given back.
    pub(crate) notices: &'a [Settlement],
    /// Positions in `settled`.
    pub(crate) positions: u64,
    /// Messages that are to be handed out by being appended.
    pub(crate) hand_outs: usize,
}

/// Who sent a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Worker(UnitHead),
    Producer(Slot),
    /// A single message that goes as a unit, so that it keeps its place before a group of the same producer.
    Single(Ticket),
}

/// A worker's unit, as far as its answer is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracked {
    pub(crate) head: UnitHead,
    /// Its place in `units`; none: it was dropped, because its lane was set back meanwhile.
    pub(crate) unit: Option<usize>,
}

/// What the assembly has to know.
pub(crate) struct Situation<'s> {
    pub(crate) flows: &'s mut Flows,
    pub(crate) conflicts: &'s mut Conflicts,
    pub(crate) incarnation: u32,
    pub(crate) partitions: u32,
    /// How many messages may be handed out by being appended.
    pub(crate) hand_out_max: usize,
}

/// Builds the written part of a batch from the records of both rings.
pub(crate) fn assemble<'a>(
    arena: &'a Bump,
    intake: &'a Drained<'_, Header, PlainSink>,
    settle: &'a Drained<'_, Settlement, NoSink>,
    situation: Situation<'_>,
) -> Assembled<'a> {
    let Situation { flows, conflicts, incarnation, partitions, hand_out_max } = situation;
    let mut room = Room { left: hand_out_max, partitions };
    let mut units = BumpVec::new_in(arena);
    let mut sources = BumpVec::new_in(arena);
    let mut tracked = BumpVec::new_in(arena);
    let mut notices = BumpVec::new_in(arena);

    for record in settle.records() {
        match *record.header() {
            Settlement::Done { flow, partition, epoch, position } => {
                if flows.done(flow as usize, partition, epoch, position) {
                    flows.settled(partition, epoch);
                }
            }
            Settlement::Unit(head) => {
                let is_stale = head.incarnation != incarnation || conflicts.is_stale(&head);
                tracked.push(Tracked { head, unit: (!is_stale).then_some(units.len()) });
                if !is_stale {
                    let bytes = record.bytes().unwrap_or_default();
                    units.push(worker_unit(arena, &head, bytes, &mut room, flows));
                    sources.push(Source::Worker(head));
                }
            }
            notice @ (Settlement::StillRunning { .. } | Settlement::Quiet { .. }) => notices.push(notice),
        }
    }
    let mut settled = BumpVec::new_in(arena);
    let positions = flows.take_done(|range| settled.push(range));

    let mut appends = BumpVec::with_capacity_in(intake.len(), arena);
    let mut tickets = BumpVec::with_capacity_in(intake.len(), arena);
    let mut unsendable = BumpVec::new_in(arena);
    for record in intake.records() {
        match record.header().what {
            What::Message(envelope) => match payload(arena, &record) {
                Err(why) => unsendable.push((record.ticket(), why)),
                Ok(payload) => {
                    appends.push(envelope.append(payload, room.hand_out(envelope.lane(), flows)));
                    tickets.push(record.ticket());
                }
            },
            What::Group { slot } => {
                // Units are applied before single messages. So that a producer's messages keep their order, every single
                // message that stands before a group goes as a unit of its own.
                units.extend(appends.drain(..).map(|append| emitting(arena.alloc_slice_copy(&[append]))));
                sources.extend(tickets.drain(..).map(Source::Single));
                let view = view_of(record.bytes().unwrap_or_default());
                units.push(done_unit(arena, &view, None, &mut room, flows));
                sources.push(Source::Producer(slot));
            }
        }
    }
    Assembled {
        units: units.into_bump_slice(),
        settled: settled.into_bump_slice(),
        appends: appends.into_bump_slice(),
        sources: sources.into_bump_slice(),
        tickets: tickets.into_bump_slice(),
        tracked: tracked.into_bump_slice(),
        unsendable: unsendable.into_bump_slice(),
        notices: notices.into_bump_slice(),
        positions,
        hand_outs: hand_out_max - room.left,
    }
}

/// What may still be handed out by being appended.
struct Room {
    left: usize,
    partitions: u32,
}

impl Room {
    fn hand_out(&mut self, lane: StreamId, flows: &Flows) -> HandOut {
        if self.left > 0 && flows.caught_up(lane.partition(self.partitions)) {
            self.left -= 1;
            HandOut::Now
        } else {
            HandOut::Later
        }
    }
}

/// A unit that does nothing but emit.
fn emitting<'a>(emits: &'a [Append<'a>]) -> Unit<'a> {
    Unit { delivery: None, settle: Settle::Done, emits, expects: &[], projections: &[] }
}

/// A worker's unit: what its handler produced, or the error text.
fn worker_unit<'a>(
    arena: &'a Bump,
    head: &UnitHead,
    payload: &'a [u8],
    room: &mut Room,
    flows: &Flows,
) -> Unit<'a> {
    if head.how == How::Done && !payload.is_empty() {
        return done_unit(arena, &view_of(payload), Some(head.delivery), room, flows);
    }
    // Texts are cut between characters before they are sent.
    let error = std::str::from_utf8(payload).unwrap_or_default();
    let settle = head.how.with_text(error);
    Unit { delivery: Some(head.delivery), settle, emits: &[], expects: &[], projections: &[] }
}

/// A unit that is done, with everything its record holds.
fn done_unit<'a>(
    arena: &'a Bump,
    view: &UnitView<'a>,
    delivery: Option<Delivery>,
    room: &mut Room,
    flows: &Flows,
) -> Unit<'a> {
    let emits = view.emits().map(|emit| {
        let hand_out = if emit.due_in.is_some() { HandOut::Later } else { room.hand_out(emit.lane(), flows) };
        Append { hand_out, ..emit }
    });
    let emits: &'a [Append<'a>] = arena.alloc_slice_fill_iter(emits);
    let expects: &'a [Expected] = if is_planted("forgets-what-was-expected") {
        &[]
    } else {
        arena.alloc_slice_fill_iter(view.expects())
    };
    let projections: &'a [Projection<'a>] = arena.alloc_slice_fill_iter(view.projections());
    Unit { delivery, settle: Settle::Done, emits, expects, projections }
}

fn view_of(record: &[u8]) -> UnitView<'_> {
    UnitView::decode(record).expect("only records that a unit wrote are put into the rings")
}
