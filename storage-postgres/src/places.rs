//! Where things stand, as bytes: heads, what is trimmed, and cursors, each under the partition and a number.

use whizbang_storage::cursor::Cursor;
use whizbang_storage::{Partition, Position};

use crate::state::State;
use crate::tail::{pull_number, push_number};

/// The number of a partition's head.
pub(crate) const HEAD: u32 = 0;
/// The number of what is trimmed of a partition.
pub(crate) const TRIMMED: u32 = 1;

/// The number of a subscription's cursor.
pub(crate) fn cursor_number(index: usize) -> u32 {
    index as u32 + 2
}

/// A place as it is stored in a row of its own; none if it is not there.
///
/// Positions are eight bytes, so that the database can tell which one is further.
pub(crate) fn value(state: &State, partition: Partition, what: u32) -> Option<Vec<u8>> {
    let part = state.part(partition)?;
    Some(match what {
        HEAD => part.head.0.to_be_bytes().to_vec(),
        TRIMMED => part.trimmed.0.to_be_bytes().to_vec(),
        cursor => {
            let mut bytes = Vec::new();
            state.desk((cursor - 2) as usize, partition)?.cursor.to_bytes(&mut bytes);
            bytes
        }
    })
}

/// Appends a place to what an exchange has moved.
pub(crate) fn push(out: &mut Vec<u8>, partition: Partition, what: u32, value: &[u8]) {
    push_number(out, u64::from(partition.0));
    push_number(out, u64::from(what));
    push_number(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The next place of what an exchange has moved; none where it cannot be read further.
pub(crate) fn pull<'p>(bytes: &'p [u8], at: &mut usize) -> Option<(Partition, u32, &'p [u8])> {
    let partition = u32::try_from(pull_number(bytes, at)?).ok()?;
    let what = u32::try_from(pull_number(bytes, at)?).ok()?;
    let length = usize::try_from(pull_number(bytes, at)?).ok()?;
    let value = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some((Partition(partition), what, value))
}

/// Puts a stored place back. `None` when it cannot be read, or belongs to nothing.
pub(crate) fn restore(state: &mut State, partition: Partition, what: u32, value: &[u8]) -> Option<()> {
    let part = state.parts.get_mut(partition.0 as usize)?;
    match what {
        HEAD => part.head = part.head.max(position(value)?),
        TRIMMED => part.trimmed = part.trimmed.max(position(value)?),
        cursor => {
            // A dropped subscription's is of no interest.
            if let Some(Some(desk)) = part.desks.get_mut((cursor - 2) as usize) {
                desk.cursor = Cursor::from_bytes(value)?;
            }
        }
    }
    Some(())
}

fn position(value: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(value.try_into().ok()?)))
}
