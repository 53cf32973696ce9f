//! What a small batch writes: a disk is asked for a page as a whole, so pages are what an idle engine's messages cost.

mod common;

use common::*;
use rusqlite::Connection;
use whizbang_storage::*;
use whizbang_storage_sqlite::SqliteOptions;

/// Pages in the write-ahead log, which is carried over, so that whoever writes next begins a new one.
fn pages_written(sql: &Connection) -> i64 {
    sql.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap()
}

#[test]
fn a_message_that_comes_alone_changes_two_pages_and_its_end_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut one = Instance::join(SqliteOptions::default().open(&path).unwrap(), 1, "g", &["s"]);
    let sql = one.store.connect().unwrap();
    pages_written(&sql);
    let mut written = Vec::new();
    for number in 1..=20 {
        let message = Append { hand_out: HandOut::Now, stream: None, ..command(number, "") };
        let answer = one.send(|batch| WorkBatch { appends: batch.keep_all([message]), ..batch.empty() });
        let stored = pages_written(&sql);
        let AppendAnswer::Stored { position, handed_out: true, .. } = answer.appends[0] else {
            panic!("{answer:?}");
        };
        let settled = one.settled(message.lane().partition(128), position.0, position.0);
        one.send(|batch| WorkBatch { settled: batch.keep_settled(vec![settled]), ..batch.empty() });
        written.push((stored, pages_written(&sql)));
    }
    assert_eq!(written, vec![(2, 1); 20]);
}

#[test]
fn a_log_has_room_for_small_batches_and_keeps_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut one = Instance::join(SqliteOptions::default().open(&path).unwrap(), 1, "g", &["s"]);
    let log = directory.path().join("a.db-wal");
    let laid_out = log.metadata().unwrap().len();
    assert!(laid_out >= 512 * 8_192, "{laid_out} bytes");
    for number in 1..=250 {
        let message = Append { hand_out: HandOut::Now, stream: None, ..command(number, "") };
        let answer = one.send(|batch| WorkBatch { appends: batch.keep_all([message]), ..batch.empty() });
        let AppendAnswer::Stored { position, .. } = answer.appends[0] else {
            panic!("{answer:?}");
        };
        let settled = one.settled(message.lane().partition(128), position.0, position.0);
        one.send(|batch| WorkBatch { settled: batch.keep_settled(vec![settled]), ..batch.empty() });
    }
    assert_eq!(log.metadata().unwrap().len(), laid_out);
}
