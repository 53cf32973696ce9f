//! A file that is written and trimmed for long stays small, also while one partition stands still.
//! `WHIZBANG_GROWTH_MEGABYTES` says how much is written there (96), `WHIZBANG_GROWTH_SECONDS` how long a file is written and
//! trimmed whose live data stays as much as it is (5).

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Live data of the file that is written and trimmed for long.
const LIVE: u64 = 64 << 20;

#[test]
fn a_file_that_is_written_and_trimmed_stays_within_twice_its_live_data() {
    let seconds: u64 = std::env::var("WHIZBANG_GROWTH_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = SqliteOptions {
        service: Service { partitions: PARTITIONS, window: u32::MAX, ..Service::named("test") },
        synchronous: Synchronous::Normal,
        checkpoint_bytes: 8 << 20,
        clock: Arc::new(TestClock::new()),
        ..SqliteOptions::default()
    }
    .open(&path)
    .unwrap();
    let mut one = Instance::join(store, 1, "g", &["s"]);
    let payload: &'static [u8] = vec![7; PAYLOAD_BYTES].leak();
    let kept = LIVE / PAYLOAD_BYTES as u64 / u64::from(PARTITIONS);
    let mut given = [0u64; PARTITIONS as usize];
    let mut done = given;
    let (mut number, mut largest, began) = (0u64, 0, Instant::now());
    // At least once over, however short it is.
    while number < 2 * LIVE / PAYLOAD_BYTES as u64 || began.elapsed() < Duration::from_secs(seconds) {
        let mut settled = Vec::new();
        for partition in (0..PARTITIONS).map(Partition) {
            let at = partition.0 as usize;
            if given[at] > done[at] + kept {
                settled.push(one.settled(partition, done[at] + 1, given[at] - kept));
                done[at] = given[at] - kept;
            }
        }
        let appends: Vec<_> = (0..BATCH)
            .map(|_| {
                number += 1;
                let message = command(number.into(), "");
                Append { stream: None, payload, hand_out: HandOut::Now, ..message }
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
        let live =
            given.iter().zip(&done).map(|(given, done)| given - done).sum::<u64>() * PAYLOAD_BYTES as u64;
        let size = size_of(&path);
        largest = largest.max(size);
        assert!(size <= 2 * live.max(LIVE), "{size} bytes for {live} live ones after {number} messages");
    }
    println!(
        "{} MiB written in {:?}, {} live, {} at most in files",
        (number * PAYLOAD_BYTES as u64) >> 20,
        began.elapsed(),
        LIVE >> 20,
        largest >> 20
    );
}

fn size_of(path: &Path) -> u64 {
    ["", "-wal"]
        .iter()
        .filter_map(|suffix| fs::metadata(format!("{}{suffix}", path.display())).ok())
        .map(|metadata| metadata.len())
        .sum()
}
