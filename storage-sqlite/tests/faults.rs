//! A disk that fails: nothing that was answered is lost, and the process goes on by itself when the disk does.
//!
//! The operating system's calls are made to fail by a small library (`kills::faulty_disk`) in front of the C library, on Linux. A process like those of `crash.rs` works while its writes fail with EIO, with ENOSPC, after half of
//! what they should write, or in `fsync`.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use whizbang_storage::Service;
use whizbang_storage_conformance::kills::{self, Running, Told, Worker};
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

#[test]
fn a_disk_that_fails_and_recovers_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let library = kills::faulty_disk(directory.path());
    let mode = directory.path().join("mode");
    let path = directory.path().join("a.db");
    let environment = [("LD_PRELOAD", &*library), ("FAULTY_DISK", &*mode)];
    let mut told = Told::default();
    let (mut round, mut repeated) = (0, 0);
    for fault in ["eio", "enospc", "short", "fsync"] {
        // Once it goes on by itself, once it is killed while the disk fails.
        for killed_in_trouble in [false, true] {
            round += 1;
            fs::write(&mode, "").unwrap();
            let mut running = Running::start(&path, round, &environment);
            running.wait_for("@answered", 5);
            fs::write(&mode, fault).unwrap();
            let troubles = running.count("@trouble");
            running.wait_for("@trouble", troubles + 5);
            if !killed_in_trouble {
                fs::write(&mode, "").unwrap();
                let answered = running.count("@answered");
                running.wait_for("@answered", answered + 5);
            }
            let said = running.kill();
            // Without room the commit mark cannot have been written; after any other failure of a commit nobody knows.
            let expected = if fault == "enospc" || fault == "short" { "Full(" } else { "Unknown(" };
            assert!(said.contains(expected), "{fault}: {said}");
            // Once nobody knows, nobody knows until it is answered: the call before may have been committed.
            let troubles: Vec<&str> = said.lines().filter(|line| line.contains('@')).collect();
            let claims = |pair: &[&str]| {
                pair[0].contains("@trouble Unknown") && pair[1].contains("@trouble NotApplied")
            };
            assert!(!troubles.windows(2).any(claims), "{fault}: {said}");
            // What definitely failed has not taken the place of the batch before.
            assert!(!said.contains("@forgotten"), "{fault}: {said}");
            repeated += said.lines().filter(|line| line.contains("@repeated")).count();
            told.absorb(&said);
        }
    }
    fs::write(&mode, "").unwrap();
    let mut last = Worker::join(open(&path, kills::service(kills::TIME_TO_LIVE)), round + 1);
    last.drain();
    let report = told.check(&last);
    println!("{report:?}; {repeated} batches repeated on a full disk");
    assert!(repeated > 0, "a full disk can be read");
    assert!(report.answered > 0 && report.is_clean(), "{report:?}");
}

/// The call before may have been committed, so nobody may take its number for another batch.
#[test]
fn behind_a_commit_that_may_have_happened_a_busy_database_does_not_say_that_nothing_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let library = kills::faulty_disk(directory.path());
    let mode = directory.path().join("mode");
    let path = directory.path().join("a.db");
    fs::write(&mode, "").unwrap();
    let mut running = Running::start(&path, 1, &[("LD_PRELOAD", &*library), ("FAULTY_DISK", &*mode)]);
    running.wait_for("@answered", 5);
    fs::write(&mode, "fsync").unwrap();
    running.wait_for("@trouble Unknown", 1);
    // From here on somebody else is writing.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fs::write(&mode, "").unwrap();
    running.wait_for("locked", 1);
    other.execute_batch("ROLLBACK").unwrap();
    let answered = running.count("@answered");
    running.wait_for("@answered", answered + 1);
    let said = running.kill();
    let (_, behind) = said.split_once("@trouble").unwrap();
    let (trouble, _) = behind.split_once("@answered").unwrap();
    assert!(!trouble.contains("@busy") && !trouble.contains("NotApplied"), "{trouble}");
}

/// What is run in the processes that are killed.
#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn the_process_that_is_killed() {
    kills::be_the_process_that_is_killed(open);
}

fn open(path: &Path, service: Service) -> SqliteStore {
    let options = SqliteOptions { service, ..SqliteOptions::default() };
    options.open(path).expect("the file can be opened after any crash")
}
