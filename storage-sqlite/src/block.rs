//! Heads and cursors as they are stored: 32 partitions a row, because a batch moves many of them and a row costs a
//! microsecond however little is in it.

use rusqlite::Connection;
use whizbang_storage::cursor::Cursor;
use whizbang_storage::{Partition, SubscriptionId};

use crate::error::Stop;

/// Partitions in one row.
pub(crate) const BLOCK: usize = 32;

/// Bits of a block's number within an id: 4,096 partitions are 128 blocks.
const BLOCK_BITS: u32 = 8;

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
    let mut find = sql.prepare_cached(include_str!("sql/head.sql"))?;
    let mut rows = find.query([id(service, block)])?;
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
    sql.prepare_cached(include_str!("sql/put_head.sql"))?.execute((id(service, block), &bytes[..]))?;
    Ok(())
}

pub(crate) fn read_cursors(
    sql: &Connection,
    subscription: SubscriptionId,
    block: usize,
) -> Result<[Cursor; BLOCK], Stop> {
    let mut cursors = [const { Cursor::at(whizbang_storage::Position::START) }; BLOCK];
    let mut find = sql.prepare_cached(include_str!("sql/cursor.sql"))?;
    let mut rows = find.query([id(i64::from(subscription.0), block)])?;
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
    sql.prepare_cached(include_str!("sql/put_cursor.sql"))?
        .execute((id(i64::from(subscription.0), block), &bytes[..]))?;
    Ok(())
}

/// The ids of all blocks of a subscription: from the first up to, but without, the second.
pub(crate) fn ids_of(subscription: SubscriptionId) -> (i64, i64) {
    let subscription = i64::from(subscription.0);
    (id(subscription, 0), id(subscription + 1, 0))
}

fn id(owner: i64, block: usize) -> i64 {
    owner << BLOCK_BITS | block as i64
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

    #[test]
    fn heads_and_cursors_come_back() {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(include_str!("sql/schema/1_tables.sql")).unwrap();
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
        write_cursors(&sql, SubscriptionId(7), 0, cursors.iter(), &mut Vec::new()).unwrap();
        let read = read_cursors(&sql, SubscriptionId(7), 0).unwrap();
        assert_eq!(read[..5], cursors[..]);
        assert_eq!(read[5], Cursor::default());
    }

    #[test]
    fn damaged_rows_are_errors() {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(include_str!("sql/schema/1_tables.sql")).unwrap();
        sql.execute_batch(
            "INSERT INTO whizbang_head VALUES (256, x'00'); INSERT INTO whizbang_cursor VALUES (256, x'FF');",
        )
        .unwrap();
        assert!(matches!(read_heads(&sql, 1, 0), Err(Stop::Damaged(_))));
        assert!(matches!(read_cursors(&sql, SubscriptionId(1), 0), Err(Stop::Damaged(_))));
    }
}
