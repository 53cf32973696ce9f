//! A commit that definitely failed: nothing of the batch is there, and the batch before is still the instance's last.

mod common;

use std::time::Duration;

use common::*;
use whizbang_storage::*;
use whizbang_storage_sqlite::SqliteOptions;

/// Of a database in memory a reader holds up the commit itself; in a file, `faults.rs` does the same with a full disk.
#[test]
fn after_a_commit_that_was_busy_the_batch_before_is_answered_again() {
    let options = SqliteOptions {
        service: service(),
        busy_timeout: Some(Duration::from_millis(1)),
        ..SqliteOptions::default()
    };
    let mut one = Instance::join(options.in_memory().unwrap(), 1, "g", &["s"]);
    let sends = |number: u64, message: u128| WorkBatch {
        appends: vec![command(message, "a")].leak(),
        ..WorkBatch::empty(Sender { instance: instance_id(1), start_token: 7, number })
    };
    let answered = one.process(&sends(2, 1)).unwrap();

    let reader = one.store.connect().unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM whizbang_service;").unwrap();
    let busy = one.process(&sends(3, 2)).map(drop);
    assert!(matches!(busy, Err(StoreError::NotApplied(NotApplied::Busy(_)))), "{busy:?}");
    reader.execute_batch("COMMIT").unwrap();

    assert_eq!(one.process(&sends(2, 1)).unwrap().appends, answered.appends);
    // Its number is free, for another batch too.
    let stored = one.process(&sends(3, 3)).unwrap();
    let partition = StreamId::from_key("a").partition(4);
    let position = |position| AppendAnswer::Stored { position, version: None, handed_out: false };
    assert_eq!(stored.appends, [position(Position(2))]);
    let ids: Vec<_> = one.read(partition, 0).page.iter().map(|handed| handed.id).collect();
    assert_eq!(ids, [id(1), id(3)]);
}

/// A commit that fails otherwise may have happened; that another batch is refused meanwhile says nothing of it.
#[test]
fn behind_a_commit_that_may_have_happened_nothing_but_an_answer_ends_the_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let service = service();
    let limits = Limits { batch_messages_max: 1, ..service.limits };
    let options = SqliteOptions {
        service: Service { limits, ..service },
        busy_timeout: Some(Duration::from_millis(1)),
        ..SqliteOptions::default()
    };
    let mut one = Instance::join(options.open(directory.path().join("a.db")).unwrap(), 1, "g", &["s"]);
    let mut sends = |messages: &[u128]| {
        let appends: Vec<_> = messages.iter().map(|message| command(*message, "a")).collect();
        let from = Sender { instance: instance_id(1), start_token: 7, number: 2 };
        one.process(&WorkBatch { appends: appends.leak(), ..WorkBatch::empty(from) })
    };
    let is_unknown = |said: Result<Answer, StoreError>| {
        let said = said.map(drop);
        assert!(matches!(said, Err(StoreError::Unknown(_))), "{said:?}");
    };

    // The commit itself finds that something is missing which a row of the user's own refers to.
    let other = rusqlite::Connection::open(directory.path().join("a.db")).unwrap();
    other
        .execute_batch(
            "CREATE TABLE missing (id INTEGER PRIMARY KEY);
            CREATE TABLE mine (id REFERENCES missing DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER fails AFTER UPDATE ON whizbang_state BEGIN INSERT INTO mine VALUES (1); END;",
        )
        .unwrap();
    is_unknown(sends(&[1]));
    other.execute_batch("DROP TRIGGER fails").unwrap();
    let refused = sends(&[1, 2]).map(drop);
    let too_large = matches!(refused, Err(StoreError::NotApplied(NotApplied::BatchTooLarge { .. })));
    assert!(too_large, "{refused:?}");
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    is_unknown(sends(&[1]));
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(sends(&[1]).unwrap().appends.len(), 1);
}
