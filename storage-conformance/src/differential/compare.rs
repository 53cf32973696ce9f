//! What both stores must have in common: answers, and what is stored.

use whizbang_storage::{
    Answer, AppendAnswer, DeadLetter, LaneState, MessageId, OperationAnswer, Origin, ReadAnswer,
    SettledAnswer, Statistics, StoreError, StoreReader, StreamId, UnitAnswer, Version, Whereabouts,
};

use super::Reached;
use super::build::stream_of;
use crate::{Got, Seen};

/// What both must have in common after a step.
#[derive(Debug, PartialEq)]
pub(super) struct Contents {
    pub(super) statistics: Statistics,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) projections: Vec<whizbang_storage::ProjectionState>,
    pub(super) histories: Vec<Vec<Got>>,
    pub(super) whereabouts: Vec<Whereabouts>,
}

/// A message as it was sent: its id, and its stream.
pub(super) type Sent = (MessageId, Option<StreamId>);

/// What is stored, as far as it can be asked for; of these messages, where they are.
pub(super) async fn contents<R: StoreReader>(reader: &R, sent: &[Sent]) -> Contents {
    let mut statistics = reader.statistics().await.expect("it can be read");
    statistics.instances.sort_unstable();
    let mut histories = Vec::new();
    for stream in 0..8 {
        let mut page = whizbang_storage::Page::default();
        let read = reader.history(stream_of(stream), Version(0), 1_000, &mut page).await;
        read.expect("it can be read");
        histories.push(Got::all(&page));
    }
    let mut whereabouts = Vec::new();
    for (message, stream) in sent {
        whereabouts.push(reader.whereabouts(*message, *stream).await.expect("it can be read"));
    }
    Contents {
        whereabouts,
        statistics,
        letters: reader.dead_letters(None, 1_000).await.expect("it can be read"),
        projections: reader.projections("totals", b"", 1_000).await.expect("it can be read"),
        histories,
    }
}

/// The name of an error, and what it says.
pub(super) type Refused = (&'static str, String);

pub(super) fn outcome(done: Result<(), StoreError>, answer: &Answer) -> Result<Seen, Refused> {
    let error = match done {
        Ok(()) => return Ok(Seen::from(answer)),
        Err(error) => error,
    };
    let name = match &error {
        StoreError::Evicted => "evicted",
        StoreError::DifferentBatch { .. } => "different batch",
        StoreError::OutOfSequence { .. } => "out of sequence",
        StoreError::NotJoined => "not joined",
        StoreError::InstanceTaken => "instance taken",
        StoreError::NotApplied(_) => "not applied",
        _ => "unknown",
    };
    Err((name, error.to_string()))
}

/// Counts what was answered, by name.
pub(super) fn count(seen: &Seen, reached: &mut Reached) {
    let mut add = |name: &'static str| *reached.entry(name).or_default() += 1;
    for unit in &seen.units {
        add(match unit {
            UnitAnswer::Applied { .. } => "unit applied",
            UnitAnswer::Fenced => "unit fenced",
            UnitAnswer::StreamConflict { .. } => "stream conflict",
            UnitAnswer::ProjectionConflict { .. } => "projection conflict",
            UnitAnswer::Skipped => "unit skipped",
            UnitAnswer::AlreadySettled => "unit already settled",
            UnitAnswer::Unknown => "unit unknown",
            UnitAnswer::Refused(_) => "unit refused",
        });
    }
    for range in &seen.settled {
        add(match range {
            SettledAnswer::Applied => "range applied",
            SettledAnswer::AlreadySettled => "range already settled",
            SettledAnswer::Fenced => "range fenced",
            SettledAnswer::Unknown => "range unknown",
        });
    }
    for append in seen.appends.iter().chain(&seen.emits) {
        add(match append {
            AppendAnswer::Stored { handed_out: true, .. } => "handed out now",
            AppendAnswer::Stored { .. } => "stored",
            AppendAnswer::Arrived => "arrived",
            AppendAnswer::Duplicate { .. } => "duplicate",
            AppendAnswer::Refused(_) => "append refused",
        });
    }
    for read in &seen.reads {
        add(match read {
            ReadAnswer::Messages { .. } => "read",
            ReadAnswer::Fenced => "read fenced",
            ReadAnswer::Paused => "read paused",
        });
    }
    for got in &seen.page {
        add(match got.origin {
            Origin::Log => "from the log",
            Origin::Parked => "parked and due",
            Origin::Suspect => "suspect",
            Origin::Replay => "replay",
        });
        if got.lane == LaneState::Parked {
            add("behind a parked one");
        }
    }
    for operation in &seen.operations {
        add(match operation {
            OperationAnswer::Done => "operation done",
            OperationAnswer::Gone => "operation gone",
            OperationAnswer::Registered(_) => "registered",
            OperationAnswer::Refused(_) => "operation refused",
        });
    }
    if !seen.moved.is_empty() {
        add("moved");
    }
    if seen.removed > 0 {
        add("removed");
    }
    if seen.evicted {
        add("repeat of an evicted one");
    }
    if seen.membership.as_ref().is_some_and(|told| told.give_back > 0) {
        add("asked to give back");
    }
    if seen.membership.as_ref().is_some_and(|told| told.owned.iter().any(|owned| owned.epoch.0 > 1)) {
        add("taken over");
    }
}
