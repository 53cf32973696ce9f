//! The journal in a file under processes that are killed at any moment, and on a disk that fails: nothing that was answered is lost,
//! and nothing is handled twice, out of order or by half.
//!
//! `WHIZBANG_CRASHES` says how many processes are killed (50).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use whizbang_examples::file_journal::FileJournal;
use whizbang_storage::{MemoryDatabase, MemoryStore, Service, SystemClock};
use whizbang_storage_conformance::kills::{self, Running, Told, Worker};

#[test]
fn nothing_is_lost_doubled_or_reordered_by_kills() {
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number_of("WHIZBANG_CRASHES").unwrap_or(50);
    let seed = number_of("WHIZBANG_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("WHIZBANG_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a scratch directory");
    let path = directory.path().join("a.db");
    let mut told = Told::default();
    for round in 1..=kills {
        let running = Running::start(&path, round, &[]);
        thread::sleep(Duration::from_micros(random.u64(1_000..120_000)));
        told.absorb(&running.kill());
    }
    let answered = ends_clean(&told, &path, kills + 1);
    assert!(answered > kills, "the processes got something done: {answered} commands");
}

/// With EIO, without room, with half of what is written, with room up to some byte of a record, and with a failing `fsync`.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_fails_and_recovers_loses_nothing() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let library = kills::faulty_disk(directory.path());
    let (mode, path) = (directory.path().join("mode"), directory.path().join("a.db"));
    let set = |fault: &str| fs::write(&mode, fault).expect("the scratch directory can be written");
    let environment = [("LD_PRELOAD", &*library), ("FAULTY_DISK", &*mode)];
    let (mut told, mut round, mut repeated) = (Told::default(), 0, 0);
    let faults = ["eio", "enospc", "short", "fsync"].into_iter().chain(["room"; 12]);
    for fault in faults {
        // Once it goes on by itself, once it is killed while the disk fails.
        for killed_in_trouble in [false, true] {
            round += 1;
            set("");
            let mut running = Running::start(&path, round, &environment);
            running.wait_for("@answered", 5);
            let troubles = running.count("@trouble");
            match fault {
                // Some bytes of what comes next have room.
                "room" => {
                    let length = fs::metadata(&path).map_or(0, |file| file.len());
                    set(&format!("room {}", length + fastrand::u64(0..2_000)));
                }
                _ => set(fault),
            }
            running.wait_for("@trouble", troubles + 5);
            if !killed_in_trouble {
                set("");
                let answered = running.count("@answered");
                running.wait_for("@answered", answered + 5);
            }
            let said = running.kill();
            // What was taken back is not there; whether it was, nobody knows when that fails as well.
            let expected = match fault {
                "eio" => "Failed(",
                "fsync" => "Unknown(",
                _ => "Full(",
            };
            assert!(said.contains(expected), "{fault}: {said}");
            assert!(!said.contains("@forgotten"), "{fault}: {said}");
            repeated += said.lines().filter(|line| line.contains("@repeated")).count();
            told.absorb(&said);
        }
    }
    set("");
    ends_clean(&told, &path, round + 1);
    assert!(repeated > 0, "the batch before is answered again");
}

/// Drains what is there, and compares it with what the processes said; how many commands were answered.
fn ends_clean(told: &Told, path: &Path, round: u64) -> u64 {
    let mut last = Worker::join(open(path, kills::service(kills::TIME_TO_LIVE)), round);
    last.drain();
    let report = told.check(&last);
    println!("{report:?}");
    assert!(report.answered > 0 && report.is_clean(), "{report:?}");
    report.answered
}

/// What is run in the processes that are killed.
#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn the_process_that_is_killed() {
    kills::be_the_process_that_is_killed(open);
}

fn open(path: &Path, service: Service) -> MemoryStore {
    let journal = FileJournal::open(path).expect("nobody else has it open");
    let database = MemoryDatabase::recover(journal, Arc::new(SystemClock)).expect("a crash is no damage");
    // So little that there are snapshots all the time.
    database.snapshot_after(20_000).open(service).expect("it is the same service")
}
