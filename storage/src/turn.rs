//! What to do with a batch, decided by its number alone.

use crate::{Membership, StoreError, WorkBatch};

/// What a store knows of an instance, when it knows anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownInstance {
    /// The start token it joined with.
    pub start_token: u64,
    /// The number of its last batch.
    pub last: u64,
    /// The digest of its last batch.
    pub digest: u64,
    /// It was evicted or has left.
    pub gone: bool,
}

/// What to do with a batch that is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Register the instance and apply the batch.
    Join,
    /// Apply the batch.
    Next,
    /// Give the kept answer again; write nothing.
    Repeat,
    /// Give the kept answer again, [without its work](crate::Answer::without_work); write nothing.
    RepeatEvicted,
}

/// Decides what to do with a batch whose digest is `digest`.
///
/// `answer_is_kept` says whether this handle kept the answer of a batch with this sender, number and digest.
///
/// # Errors
/// [`StoreError::NotJoined`], [`InstanceTaken`](StoreError::InstanceTaken), [`DifferentBatch`](StoreError::DifferentBatch),
/// [`OutOfSequence`](StoreError::OutOfSequence) and [`Evicted`](StoreError::Evicted), in the order the contract gives.
pub fn turn(
    known: Option<KnownInstance>,
    batch: &WorkBatch<'_>,
    digest: u64,
    answer_is_kept: bool,
) -> Result<Turn, StoreError> {
    let (from, joins) = (batch.from, matches!(batch.membership, Some(Membership::Join(_))));
    let Some(known) = known else {
        return if joins && from.number == 1 { Ok(Turn::Join) } else { Err(StoreError::NotJoined) };
    };
    if known.start_token != from.start_token {
        return Err(StoreError::InstanceTaken);
    }
    if from.number == known.last {
        return match (known.digest == digest, answer_is_kept, known.gone) {
            (true, true, false) => Ok(Turn::Repeat),
            // It is gone because this batch said so, and nobody has evicted it.
            (true, true, true) if matches!(batch.membership, Some(Membership::Leave { .. })) => {
                Ok(Turn::Repeat)
            }
            (true, true, true) => Ok(Turn::RepeatEvicted),
            (_, _, true) => Err(StoreError::Evicted),
            (false, _, false) => Err(StoreError::DifferentBatch { number: from.number }),
            (true, false, false) => Err(out_of_sequence(known.last, from.number)),
        };
    }
    if known.gone {
        Err(StoreError::Evicted)
    } else if known.last.checked_add(1) != Some(from.number) {
        Err(out_of_sequence(known.last, from.number))
    } else if joins {
        Err(StoreError::NotJoined)
    } else {
        Ok(Turn::Next)
    }
}

fn out_of_sequence(last: u64, got: u64) -> StoreError {
    StoreError::OutOfSequence { last, got }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU128;

    use super::*;
    use crate::{InstanceId, Join, Sender};

    #[test]
    fn the_number_decides() {
        let known = |last, digest, gone| Some(KnownInstance { start_token: 7, last, digest, gone });
        // (known, token, number, joins, kept, expected)
        let cases = [
            (None, 7, 1, true, false, "Ok(Join)"),
            (None, 7, 1, false, false, "Err(NotJoined)"),
            (None, 7, 2, true, false, "Err(NotJoined)"),
            (known(4, 99, false), 8, 4, false, true, "Err(InstanceTaken)"),
            (known(4, 99, true), 8, 5, false, true, "Err(InstanceTaken)"),
            (known(4, 99, false), 7, 4, false, true, "Ok(Repeat)"),
            (known(4, 99, true), 7, 4, false, true, "Ok(RepeatEvicted)"),
            (known(4, 99, false), 7, 4, false, false, "Err(OutOfSequence { last: 4, got: 4 })"),
            (known(4, 99, true), 7, 4, false, false, "Err(Evicted)"),
            (known(4, 98, false), 7, 4, false, true, "Err(DifferentBatch { number: 4 })"),
            (known(4, 98, true), 7, 4, false, true, "Err(Evicted)"),
            (known(4, 99, false), 7, 5, false, true, "Ok(Next)"),
            (known(4, 99, false), 7, 5, true, true, "Err(NotJoined)"),
            (known(4, 99, true), 7, 5, false, true, "Err(Evicted)"),
            (known(4, 99, false), 7, 3, false, true, "Err(OutOfSequence { last: 4, got: 3 })"),
            (known(4, 99, false), 7, 6, false, true, "Err(OutOfSequence { last: 4, got: 6 })"),
            (
                known(u64::MAX, 99, false),
                7,
                0,
                false,
                true,
                "Err(OutOfSequence { last: 18446744073709551615, got: 0 })",
            ),
        ];
        for (index, (known, start_token, number, joins, kept, expected)) in cases.into_iter().enumerate() {
            let mut batch = WorkBatch::empty(Sender {
                instance: InstanceId::from_bits(NonZeroU128::MIN),
                start_token,
                number,
            });
            batch.membership =
                joins.then_some(Membership::Join(Join { group: None, subscriptions: &[], types: &[] }));
            let got = format!("{:?}", turn(known, &batch, 99, kept));
            assert_eq!(got, expected, "case {index}");
        }
    }

    #[test]
    fn who_has_left_is_told_so_once_more() {
        let sender = Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 7, number: 4 };
        let mut batch = WorkBatch::empty(sender);
        let gone = Some(KnownInstance { start_token: 7, last: 4, digest: 99, gone: true });
        assert!(matches!(turn(gone, &batch, 99, true), Ok(Turn::RepeatEvicted)));
        batch.membership = Some(Membership::Leave { running: &[] });
        assert!(matches!(turn(gone, &batch, 99, true), Ok(Turn::Repeat)));
    }
}
