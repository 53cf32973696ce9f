//! A disk that fails: nothing that was answered is lost, and the process goes on by itself when the disk does.
//!
//! The operating system's calls are made to fail by a small library (`faulty_disk.c`) in front of the C library, on Linux. A process like those of `crash.rs` works while its writes fail with EIO, with ENOSPC, after half of
//! what they should write, or in `fsync`.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/worker.rs"]
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use worker::{Running, Told, Worker};

#[test]
fn a_disk_that_fails_and_recovers_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let library = faulty_disk(directory.path());
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
            // What definitely failed has not taken the place of the batch before.
            assert!(!said.contains("@forgotten"), "{fault}: {said}");
            repeated += said.lines().filter(|line| line.contains("@repeated")).count();
            told.absorb(said);
        }
    }
    fs::write(&mode, "").unwrap();
    let mut last = Worker::join(&path, u128::from(round) + 1);
    last.drain();
    let report = told.check(&last);
    println!("{report:?}; {repeated} batches repeated on a full disk");
    assert!(repeated > 0, "a full disk can be read");
    assert!(report.answered > 0 && report.is_clean(), "{report:?}");
}

/// What is run in the processes that are killed.
#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn the_process_that_is_killed() {
    worker::be_the_process_that_is_killed();
}

/// Compiles the library that makes calls fail.
fn faulty_disk(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty_disk.c");
    let library = directory.join("faulty_disk.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let status = compile.status().expect("there is a C compiler: SQLite itself was compiled with it");
    assert!(status.success(), "the library is compiled");
    library
}
