//! A file that is written and trimmed for long stays small, also while one partition stands still.
//! `WHIZBANG_GROWTH_MEGABYTES` says how much is written (96).

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::*;
use whizbang_storage::*;
use whizbang_storage_sqlite::{SqliteOptions, Synchronous};

const PAYLOAD_BYTES: usize = 2_048;
const BATCH: usize = 200;
const PARTITIONS: u32 = 8;
const STUCK: Partition = Partition(3);

/// What the youngest segments, the pages in between and the write-ahead log may take beyond the live data.
const SLACK: u64 = 40 << 20;

#[test]
fn what_is_trimmed_is_used_again_although_one_partition_stands_still() {
    let megabytes: usize =
        std::env::var("WHIZBANG_GROWTH_MEGABYTES").map_or(96, |megabytes| megabytes.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let clock = TestClock::new();
    let store = SqliteOptions {
        service: Service { partitions: PARTITIONS, window: u32::MAX, ..Service::named("test") },
        synchronous: Synchronous::Normal,
        checkpoint_bytes: 8 << 20,
        clock: Arc::new(clock.clone()),
        ..SqliteOptions::default()
    }
    .open(&path)
    .unwrap();
    let mut one = Instance::join(store, 1, "g", &["s"]);
    let payload: &'static [u8] = vec![7; PAYLOAD_BYTES].leak();
    let mut done = [0u64; PARTITIONS as usize];
    let mut given = done;
    let mut number = 0;
    for _ in 0..(megabytes << 20) / (BATCH * PAYLOAD_BYTES) {
        let mut settled = Vec::new();
        for partition in (0..PARTITIONS).map(Partition).filter(|partition| *partition != STUCK) {
            let at = partition.0 as usize;
            if given[at] > done[at] {
                settled.push(one.settled(partition, done[at] + 1, given[at]));
                done[at] = given[at];
            }
        }
        let appends: Vec<_> = (0..BATCH)
            .map(|_| {
                number += 1;
                Append { stream: None, payload, hand_out: HandOut::Now, ..command(number, "") }
            })
            .collect();
        let batch = WorkBatch {
            settled: &settled,
            appends: &appends,
            housekeeping: Some(10_000),
            ..WorkBatch::empty(one.next())
        };
        let answer = one.process(&batch).unwrap();
        for (append, answer) in appends.iter().zip(&answer.appends) {
            let AppendAnswer::Stored { position, .. } = answer else {
                panic!("{answer:?}");
            };
            given[append.lane().partition(PARTITIONS).0 as usize] = position.0;
        }
    }
    let live = given[STUCK.0 as usize] * PAYLOAD_BYTES as u64;
    let size = size_of(&path);
    println!("{} MiB written, {} live, {} in files", megabytes, live >> 20, size >> 20);
    assert!(size <= 2 * live + SLACK, "{size} bytes for {live} live ones");

    let mut expected = 1;
    let mut after = 0;
    loop {
        let read = one.read(STUCK, after);
        if read.page.is_empty() {
            break;
        }
        for handed in read.page.iter() {
            assert_eq!((handed.position, handed.condition), (Position(expected), Condition::Whole));
            assert!(handed.payload == payload, "{expected}");
            expected += 1;
        }
        after = expected - 1;
    }
    assert_eq!(expected, given[STUCK.0 as usize] + 1, "all of the partition is still there");
}

fn size_of(path: &Path) -> u64 {
    ["", "-wal"]
        .iter()
        .filter_map(|suffix| fs::metadata(format!("{}{suffix}", path.display())).ok())
        .map(|metadata| metadata.len())
        .sum()
}
