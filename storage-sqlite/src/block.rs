//! Heads and cursors as they are stored: 32 partitions a row, because a batch moves many of them and a row costs a
//! microsecond however little is in it. They lie in one table with the numbers of the instances' batches: whatever a batch
//! moves, it is likely to be in one page.

use rusqlite::Connection;
use whizbang_storage::cursor::Cursor;
use whizbang_storage::{Partition, SubscriptionId};

use crate::error::Stop;

/// Partitions in one row.
pub(crate) const BLOCK: usize = 32;

/// Stands for a block in the ids of the instances' rows: 4,096 partitions are 128 blocks.
const NO_BLOCK: usize = 255;

/// Stands for a subscription, which are numbered from 1, in the ids of the rows of heads.
const HEADS: SubscriptionId = SubscriptionId(0);

const HEAD_BYTES: usize = 16;

/// How far a partition's log reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last position there is.
    pub(crate) position: u64,
    /// Messages that are not events are gone up to here.
    pub(crate) trimmed: u64,
}

pub(crate) fn block_of(partition: Partition) -> usize {
    partition.0 as usize / BLOCK
}

/// The partitions of a block.
pub(crate) fn partitions_of(block: usize) -> core::ops::Range<usize> {
    block * BLOCK..(block + 1) * BLOCK
}

pub(crate) fn read_heads(sql: &Connection, service: i64, block: usize) -> Result<[Head; BLOCK], Stop> {
    let mut heads = [Head::default(); BLOCK];
    let mut find = sql.prepare_cached(include_str!("sql/block.sql"))?;
    let mut rows = find.query([id(service, block, HEADS)])?;
    if let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let numbers = bytes.as_chunks::<8>().0;
        if bytes.len() != BLOCK * HEAD_BYTES {
            return Err(Stop::Damaged("the heads of some partitions cannot be read"));
        }
        for (head, pair) in heads.iter_mut().zip(numbers.as_chunks::<2>().0) {
            head.position = u64::from_le_bytes(pair[0]);
            head.trimmed = u64::from_le_bytes(pair[1]);
        }
    }
    Ok(heads)
}

pub(crate) fn write_heads(
    sql: &Connection,
    service: i64,
    block: usize,
    heads: impl Iterator<Item = Head>,
) -> Result<(), Stop> {
    let mut bytes = [0; BLOCK * HEAD_BYTES];
    for (head, pair) in heads.zip(bytes.as_chunks_mut::<HEAD_BYTES>().0) {
        pair[..8].copy_from_slice(&head.position.to_le_bytes());
        pair[8..].copy_from_slice(&head.trimmed.to_le_bytes());
    }
    sql.prepare_cached(include_str!("sql/put_block.sql"))?
        .execute((id(service, block, HEADS), &bytes[..]))?;
    Ok(())
}

pub(crate) fn read_cursors(
    sql: &Connection,
    service: i64,
    subscription: SubscriptionId,
    block: usize,
) -> Result<[Cursor; BLOCK], Stop> {
    let mut cursors = [const { Cursor::at(whizbang_storage::Position::START) }; BLOCK];
    let mut find = sql.prepare_cached(include_str!("sql/block.sql"))?;
    let mut rows = find.query([id(service, block, subscription)])?;
    if let Some(row) = rows.next()? {
        let mut bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        for cursor in &mut cursors {
            *cursor = pull_cursor(&mut bytes)
                .ok_or(Stop::Damaged("the cursors of a subscription cannot be read"))?;
        }
    }
    Ok(cursors)
}

pub(crate) fn write_cursors<'c>(
    sql: &Connection,
    service: i64,
    subscription: SubscriptionId,
    block: usize,
    cursors: impl Iterator<Item = &'c Cursor>,
    bytes: &mut Vec<u8>,
) -> Result<(), Stop> {
    bytes.clear();
    let mut written = 0;
    for cursor in cursors {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        cursor.to_bytes(bytes);
        let length = (bytes.len() - start - 4) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        written += 1;
    }
    // The last block may have fewer partitions; the others are nowhere.
    for _ in written..BLOCK {
        bytes.extend_from_slice(&[0; 4]);
    }
    sql.prepare_cached(include_str!("sql/put_block.sql"))?
        .execute((id(service, block, subscription), &bytes[..]))?;
    Ok(())
}

/// Removes a subscription's cursors in all of a service's partitions.
pub(crate) fn delete_cursors(
    sql: &Connection,
    service: i64,
    subscription: SubscriptionId,
    partitions: u32,
) -> Result<(), Stop> {
    let mut delete = sql.prepare_cached(include_str!("sql/delete_state.sql"))?;
    for block in 0..(partitions as usize).div_ceil(BLOCK) {
        delete.execute([id(service, block, subscription)])?;
    }
    Ok(())
}

/// The id of the row for a living instance's last batch: the first that none of the others has.
pub(crate) fn free_instance_row(service: i64, others: impl Iterator<Item = i64>) -> i64 {
    let mut taken: Vec<i64> = others.collect();
    taken.sort_unstable();
    let mut free = id(service, NO_BLOCK, HEADS);
    for other in taken {
        free += i64::from(other == free);
    }
    free
}

fn id(service: i64, block: usize, subscription: SubscriptionId) -> i64 {
    service << 40 | (block as i64) << 32 | i64::from(subscription.0)
}

fn pull_cursor(bytes: &mut &[u8]) -> Option<Cursor> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (cursor, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    if cursor.is_empty() { Some(Cursor::default()) } else { Cursor::from_bytes(cursor) }
}

#[cfg(test)]
mod tests {
    use whizbang_storage::Position;

    use super::*;

    fn newest_schema() -> Connection {
        let sql = Connection::open_in_memory().unwrap();
        crate::schema::STEPS.iter().for_each(|step| sql.execute_batch(step).unwrap());
        sql
    }

    #[test]
    fn heads_and_cursors_come_back() {
        let sql = newest_schema();
        let nowhere = read_heads(&sql, 3, 1).unwrap();
        assert_eq!(nowhere, [Head::default(); BLOCK]);
        let heads: Vec<Head> = (0..32).map(|n| Head { position: n << 33, trimmed: n }).collect();
        write_heads(&sql, 3, 1, heads.iter().copied()).unwrap();
        assert_eq!(read_heads(&sql, 3, 1).unwrap()[..], heads[..]);
        assert_eq!(read_heads(&sql, 4, 1).unwrap(), nowhere);

        // Fewer than a block, one with settled ranges above its low end.
        let mut cursors: Vec<Cursor> = (0..5).map(|n| Cursor::at(Position(n * 1_000))).collect();
        cursors[3].give(Position(4_000));
        cursors[3].settle(Position(3_500), Position(3_600));
        write_cursors(&sql, 3, SubscriptionId(7), 0, cursors.iter(), &mut Vec::new()).unwrap();
        let read = read_cursors(&sql, 3, SubscriptionId(7), 0).unwrap();
        assert_eq!(read[..5], cursors[..]);
        assert_eq!(read[5], Cursor::default());
    }

    #[test]
    fn damaged_rows_are_errors() {
        let sql = newest_schema();
        sql.execute_batch(
            "INSERT INTO whizbang_state (id, bytes) VALUES (1 << 40, x'00'), (1 << 40 | 1, x'FF');",
        )
        .unwrap();
        assert!(matches!(read_heads(&sql, 1, 0), Err(Stop::Damaged(_))));
        assert!(matches!(read_cursors(&sql, 1, SubscriptionId(1), 0), Err(Stop::Damaged(_))));
    }

    #[test]
    fn an_instance_takes_the_first_row_that_no_other_has() {
        let row = |number: i64| 3 << 40 | 255 << 32 | number;
        let free = |taken: &[i64]| free_instance_row(3, taken.iter().map(|number| row(*number))) - row(0);
        assert_eq!([free(&[]), free(&[0, 1]), free(&[2, 0]), free(&[1])], [0, 2, 1, 0]);
    }
}
