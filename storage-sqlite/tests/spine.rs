//! A message's life in a file: appended, handed out, settled, retried, dead, trimmed, and found again after a restart.

mod common;

use std::time::Duration;

use common::*;
use whizbang_storage::*;

#[test]
fn a_message_lives_and_goes() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let path = directory.path().join("a.db");
    let mut one = Instance::join(open(&path, &clock), 1, "g", &["s"]);
    assert_eq!(one.told().owned.len(), 4);
    let appended = one.send(|batch| WorkBatch {
        appends: batch.keep_all((1..=3).map(|n| command(n, "a"))),
        ..batch.empty()
    });
    let partition = StreamId::from_key("a").partition(4);
    let stored = |position, handed_out| AppendAnswer::Stored {
        position: Position(position),
        version: None,
        handed_out,
    };
    assert_eq!(appended.appends, [stored(1, false), stored(2, false), stored(3, false)]);

    let read = one.read(partition, 0);
    let ids: Vec<_> = read.page.iter().map(|handed| handed.id).collect();
    assert_eq!(ids, [id(1), id(2), id(3)]);
    let first = read.page.get(0).unwrap();
    assert_eq!((first.payload, first.type_name), (&b"payload"[..], "test.command"));

    // 1 is done, 2 is tried again, 3 waits behind it.
    let settled = one.send(|batch| WorkBatch {
        units: batch.keep_units(vec![
            unit(delivery(&read.page.get(0).unwrap()), Settle::Done),
            unit(
                delivery(&read.page.get(1).unwrap()),
                Settle::Retry { after: Duration::from_secs(60), error: "no" },
            ),
            unit(delivery(&read.page.get(2).unwrap()), Settle::Defer),
        ]),
        due: Some(ALL),
        housekeeping: Some(100),
        ..batch.empty()
    });
    assert!(settled.units.iter().all(|unit| matches!(unit, UnitAnswer::Applied { .. })));
    assert_eq!((settled.page.len(), settled.removed), (0, 3));

    clock.advance(Duration::from_secs(60));
    let due = one.due();
    assert_eq!(due.page.len(), 2, "3 comes with 2, behind it");
    let again = due.page.get(0).unwrap();
    assert_eq!((again.id, again.attempt, again.origin), (id(2), 2, Origin::Parked));
    let dead = one.send(|batch| WorkBatch {
        units: batch.keep_units(vec![
            unit(
                delivery(&due.page.get(0).unwrap()),
                Settle::Dead { reason: DeadReason::Rejected, error: "never" },
            ),
            unit(delivery(&due.page.get(1).unwrap()), Settle::Release),
        ]),
        due: Some(ALL),
        ..batch.empty()
    });
    assert_eq!(dead.page.get(0).map(|handed| handed.id), Some(id(3)));

    let letters = block_on(one.store.reader().dead_letters(None, 10)).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].message, &letters[0].error[..], letters[0].attempts), (id(2), "never", 2));
    let statistics = block_on(one.store.reader().statistics()).unwrap();
    assert_eq!((statistics.messages, statistics.subscriptions[0].parked), (0, 1));
}

#[test]
fn what_was_handed_out_to_a_dead_process_comes_back_as_suspect() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let path = directory.path().join("a.db");
    let mut one = Instance::join(open(&path, &clock), 1, "g", &["s"]);
    let sent = one.send(|batch| WorkBatch {
        appends: batch.keep_all((1..=5).map(|n| Append { hand_out: HandOut::Now, ..command(n, "a") })),
        ..batch.empty()
    });
    assert!(
        sent.appends.iter().all(|append| matches!(append, AppendAnswer::Stored { handed_out: true, .. }))
    );
    let partition = StreamId::from_key("a").partition(4);
    let range = one.settled(partition, 1, 2);
    let settled = one.send(|batch| WorkBatch { settled: batch.keep_settled(vec![range]), ..batch.empty() });
    assert_eq!(settled.settled, [SettledAnswer::Applied]);
    drop(one);

    let mut two = Instance::join(open(&path, &clock), 2, "g", &["s"]);
    assert!(two.told().owned.is_empty(), "the first is within its time to live");
    for seconds in [8, 8, 4] {
        clock.advance(Duration::from_secs(seconds));
        two.heartbeat();
    }
    assert_eq!(two.told().owned.len(), 4);
    let owned = two.told().owned.iter().find(|owned| owned.partition == partition).unwrap().clone();
    assert_eq!(
        (owned.epoch, owned.cursors[0].low, owned.cursors[0].read_from),
        (Epoch(2), Position(2), Position(5))
    );
    for expected in 3..=5 {
        let due = two.due();
        let ids: Vec<_> = due.page.iter().map(|handed| (handed.id, handed.origin)).collect();
        assert_eq!(ids, [(id(expected), Origin::Suspect)]);
        two.send(|batch| WorkBatch {
            units: batch.keep_units(vec![unit(delivery(&due.page.get(0).unwrap()), Settle::Done)]),
            ..batch.empty()
        });
    }
    assert!(two.due().page.is_empty());
    let statistics = block_on(two.store.reader().statistics()).unwrap();
    assert_eq!((statistics.subscriptions[0].lag, statistics.subscriptions[0].parked), (0, 0));
}

#[test]
fn a_repeat_is_answered_as_the_first_time_and_writes_nothing() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let mut one = Instance::join(open(&directory.path().join("a.db"), &clock), 1, "g", &["s"]);
    let append = Append { dedup: Some(b"key"), ..command(1, "a") };
    let first = one.send(|batch| WorkBatch { appends: batch.keep_all([append]), ..batch.empty() });
    one.number -= 1;
    let again = one.send(|batch| WorkBatch { appends: batch.keep_all([append]), ..batch.empty() });
    assert_eq!(first.appends, again.appends);
    one.number -= 1;
    let other = one.try_send(|batch| batch.empty());
    assert!(matches!(other, Err(StoreError::DifferentBatch { .. })), "{other:?}");
    one.number += 1;
    let duplicate = one.send(|batch| WorkBatch {
        appends: batch.keep_all([Append { id: id(2), ..append }]),
        ..batch.empty()
    });
    let expected = AppendAnswer::Duplicate { first: id(1), body: SameBody::Same };
    assert_eq!(duplicate.appends, [expected]);
}

#[test]
fn a_users_own_transaction_commits_and_rolls_back_its_messages() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let path = directory.path().join("a.db");
    let mut one = Instance::join(open(&path, &clock), 1, "g", &["s"]);
    let mut mine = one.store.connect().unwrap();
    let enqueuer = one.store.enqueuer();
    for (n, commits) in [(1, true), (2, false), (3, true)] {
        let transaction = mine.transaction().unwrap();
        enqueuer.enqueue(&transaction, &command(n, "a")).unwrap();
        enqueuer.enqueue(&transaction, &command(n + 10, "a")).unwrap();
        if commits {
            transaction.commit().unwrap();
        }
    }
    let moved = one.send(|batch| WorkBatch { arrivals: Some(100), ..batch.empty() });
    let partition = StreamId::from_key("a").partition(4);
    assert_eq!(moved.moved, [(partition, Position(4))]);
    let read = one.read(partition, 0);
    let ids: Vec<_> = read.page.iter().map(|handed| handed.id).collect();
    assert_eq!(ids, [id(1), id(11), id(3), id(13)]);
}

#[test]
fn a_store_in_memory_is_read_from_another_thread() {
    let clock = TestClock::new();
    let options = whizbang_storage_sqlite::SqliteOptions {
        service: service(),
        clock: std::sync::Arc::new(clock.clone()),
        ..Default::default()
    };
    let mut one = Instance::join(options.in_memory().unwrap(), 1, "g", &["s"]);
    one.send(|batch| WorkBatch {
        appends: batch.keep_all((1..=3).map(|n| Append { kind: MessageKind::Event, ..command(n, "a") })),
        ..batch.empty()
    });
    let mut page = Page::default();
    let reader = one.store.reader();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(reader.history(StreamId::from_key("a"), Version(1), 10, &mut page)).unwrap();
        });
    });
    let versions: Vec<_> = page.iter().map(|handed| handed.version).collect();
    assert_eq!(versions, [Some(Version(2)), Some(Version(3))]);
}
