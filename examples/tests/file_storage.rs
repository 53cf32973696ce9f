//! The journal in a file passes the suite, and what a crash or a bad disk does to the file is found out.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use whizbang_examples::file_journal::FileJournal;
use whizbang_storage::journal::JournalError;
use whizbang_storage::{MemoryDatabase, Service, SystemClock};
use whizbang_storage_conformance::differential::{self, Plan};
use whizbang_storage_conformance::{
    JournalFixture, JournalPlace, Member, Memory, Message, OpenError, internal, sender,
};

/// A scratch directory.
struct Scratch(tempfile::TempDir);

impl JournalPlace for Scratch {
    type Journal = FileJournal;

    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Result<FileJournal, OpenError> {
        Ok(FileJournal::open(self.0.path().join("messages.journal"))?)
    }
}

type OnFile = JournalFixture<Scratch>;

whizbang_storage_conformance::conformance! {
    fixture: OnFile,
    user_transactions: no,
    damage: no,
    counts_writes: no,
    busy: no,
    disk_full: no,
    schema: no,
    connection: no,
    conflicts: no,
    notifications: yes,
    durable: yes,
}

#[test]
fn it_answers_like_memory() {
    let plan = Plan::from_environment();
    differential::run::<Memory, OnFile>(Plan { sequences: plan.sequences.div_ceil(8), ..plan });
}

/// A file with the messages 1 to 9, each in a batch of its own, and where each record ends.
fn nine(path: &PathBuf) -> Vec<u64> {
    let mut ends = Vec::new();
    internal::run(async {
        let database = open(path).unwrap();
        let mut member = Member::new(database.open(Service::default()).unwrap(), sender(1));
        member.join(None, &[], &[]).await;
        for number in 1..=9 {
            member.append(&[Message::command(number)]).await;
            ends.push(fs::metadata(path).unwrap().len());
        }
    });
    ends
}

fn open(path: &PathBuf) -> Result<MemoryDatabase, JournalError> {
    MemoryDatabase::recover(FileJournal::open(path).unwrap(), Arc::new(SystemClock))
}

/// How many messages there are in a file.
fn messages(path: &PathBuf) -> Result<u64, JournalError> {
    let store = open(path)?.open(Service::default()).unwrap();
    let mut counted = 0;
    internal::run(async {
        counted = Member::new(store, sender(2)).statistics().await.arrivals;
    });
    Ok(counted)
}

#[test]
fn a_record_that_was_cut_off_anywhere_is_as_if_it_had_never_been() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.journal");
    let ends = nine(&path);
    let whole = fs::read(&path).unwrap();
    for length in ends[7]..ends[8] {
        fs::write(&path, &whole[..length as usize]).unwrap();
        assert_eq!(messages(&path).unwrap(), 8, "cut at byte {length}");
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[7], "the rest is cleared away");
    }
    // The size of a file may reach the disk before its bytes.
    let zeros = [&whole[..ends[7] as usize], &[0; 64]].concat();
    fs::write(&path, zeros).unwrap();
    assert_eq!(messages(&path).unwrap(), 8);
}

#[test]
fn damage_before_a_whole_record_is_never_taken_for_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.journal");
    let ends = nine(&path);
    let whole = fs::read(&path).unwrap();
    for byte in ends[3]..ends[4] {
        let mut damaged = whole.clone();
        damaged[byte as usize] ^= 1;
        fs::write(&path, damaged).unwrap();
        let found = messages(&path);
        // The service, the join and four messages are whole.
        assert!(matches!(found, Err(JournalError::Damaged { after: 6 })), "byte {byte}: {found:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64, "nothing is cleared away");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages.journal");
    nine(&path);
    let database = open(&path).unwrap();
    database.snapshot().unwrap();
    let small = fs::metadata(&path).unwrap().len();
    database.snapshot().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), small, "the same once more");
    drop(database);
    assert_eq!(messages(&path).unwrap(), 9);
}

#[test]
fn a_journal_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages.journal");
    let database = open(&path).unwrap();
    let second = FileJournal::open(&path).map(drop).map_err(|error| error.kind());
    assert_eq!(second, Err(std::io::ErrorKind::WouldBlock));
    database.snapshot().unwrap();
    let second = FileJournal::open(&path).map(drop).map_err(|error| error.kind());
    assert_eq!(second, Err(std::io::ErrorKind::WouldBlock), "also when the file is another one");
    drop(database);
    assert!(FileJournal::open(&path).is_ok());
}

#[test]
fn a_backend_is_under_150_lines() {
    assert!(include_str!("../src/file_journal.rs").lines().count() < 150);
}
