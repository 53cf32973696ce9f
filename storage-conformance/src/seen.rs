//! Answers as values that can be compared.

use std::ops::Range;

use whizbang_storage::{
    Answer, AppendAnswer, MembershipAnswer, OperationAnswer, Partition, Position, ReadAnswer, SettledAnswer,
    UnitAnswer,
};

use crate::Got;

/// An [`Answer`], to be compared with another.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Answer`")]
pub struct Seen {
    pub evicted: bool,
    pub units: Vec<UnitAnswer>,
    pub emits: Vec<AppendAnswer>,
    pub settled: Vec<SettledAnswer>,
    pub appends: Vec<AppendAnswer>,
    pub operations: Vec<OperationAnswer>,
    pub moved: Vec<(Partition, Position)>,
    pub reads: Vec<ReadAnswer>,
    pub due: Range<usize>,
    pub page: Vec<Got>,
    pub membership: Option<MembershipAnswer>,
    pub removed: usize,
}

impl From<&Answer> for Seen {
    fn from(answer: &Answer) -> Self {
        Self {
            evicted: answer.evicted,
            units: answer.units.clone(),
            emits: answer.emits.clone(),
            settled: answer.settled.clone(),
            appends: answer.appends.clone(),
            operations: answer.operations.clone(),
            moved: answer.moved.clone(),
            reads: answer.reads.clone(),
            // An empty range has no place.
            due: if answer.due.is_empty() { 0..0 } else { answer.due.clone() },
            page: Got::all(&answer.page),
            membership: answer.membership.clone(),
            removed: answer.removed,
        }
    }
}
