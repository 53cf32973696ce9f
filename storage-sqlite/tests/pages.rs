//! What a small batch writes: a disk is asked for a page as a whole, so pages are what an idle engine's messages cost.

mod common;

use std::path::Path;

use common::*;
use whizbang_storage::*;
use whizbang_storage_sqlite::SqliteOptions;

/// Pages that stand in the write-ahead log, each as often as it was written.
fn pages_written(path: &Path) -> u64 {
    let log = std::fs::metadata(format!("{}-wal", path.display())).unwrap().len();
    (log - 32) / (8_192 + 24)
}

#[test]
fn a_message_that_comes_alone_changes_two_pages_and_its_end_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut one = Instance::join(SqliteOptions::default().open(&path).unwrap(), 1, "g", &["s"]);
    let mut written = Vec::new();
    for number in 1..=20 {
        let message = Append { hand_out: HandOut::Now, stream: None, ..command(number, "") };
        let before = pages_written(&path);
        let answer = one.send(|batch| WorkBatch { appends: batch.keep_all([message]), ..batch.empty() });
        let stored = pages_written(&path);
        let AppendAnswer::Stored { position, handed_out: true, .. } = answer.appends[0] else {
            panic!("{answer:?}");
        };
        let settled = one.settled(message.lane().partition(128), position.0, position.0);
        one.send(|batch| WorkBatch { settled: batch.keep_settled(vec![settled]), ..batch.empty() });
        written.push((stored - before, pages_written(&path) - stored));
    }
    assert_eq!(written, vec![(2, 1); 20]);
}
