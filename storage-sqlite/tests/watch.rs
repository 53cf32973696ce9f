//! Whoever has something left for it is told, although SQLite tells nobody.

mod common;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use whizbang_storage::*;

/// Longer than a look takes, however slow the machine; nothing depends on how long it took.
const PATIENCE: Duration = Duration::from_secs(20);

fn hints_of(instance: &mut Instance) -> mpsc::Receiver<()> {
    let (hint, hints) = mpsc::channel();
    instance.store.on_hint(Arc::new(move || {
        let _ = hint.send(());
    }));
    hints
}

#[test]
fn the_owner_is_told_of_what_a_user_enqueues_and_of_who_comes() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let path = directory.path().join("a.db");
    let mut one = Instance::join(open(&path, &clock), 1, "g", &["s"]);
    let hints = hints_of(&mut one);
    one.heartbeat();

    let mut mine = one.store.connect().unwrap();
    let transaction = mine.transaction().unwrap();
    one.store.enqueuer().enqueue(&transaction, &command(1, "a")).unwrap();
    transaction.commit().unwrap();
    hints.recv_timeout(PATIENCE).expect("something has arrived");
    let moved = one.send(|batch| WorkBatch { arrivals: Some(10), ..batch.empty() });
    assert_eq!(moved.moved.len(), 1);

    let two = Instance::join(open(&path, &clock), 2, "g", &["s"]);
    hints.recv_timeout(PATIENCE).expect("there is another instance");
    drop(two);
}

#[test]
fn a_handle_that_is_dropped_stops_looking() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let mut one = Instance::join(open(&directory.path().join("a.db"), &clock), 1, "g", &["s"]);
    let hints = hints_of(&mut one);
    drop(one);
    // The thread had the only sender.
    assert_eq!(hints.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}
