//! Messages enqueued inside a user's own transaction.

use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Expected, NotApplied, SameBody, SettledAnswer, StoreError, Unit, UnitAnswer, Version,
    WorkBatch,
};

use crate::{Fixture, Message, TransactionEnd, World, applied, group, numbers, stored};

/// Scenario 77: Commit: the message is handled. Rollback: never, and no trace.
pub async fn s77_a_message_comes_with_the_users_commit<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(1, 1);
    let (kept, lost) = (Message::event(1, stream).once(b"kept"), Message::event(2, stream).once(b"lost"));
    let service = world.service.clone();
    assert_eq!(
        world.fixture.enqueue(&service, &[lost.append()], TransactionEnd::Rollback).await,
        [AppendAnswer::Arrived]
    );
    assert_eq!(a.heartbeat().await.arrivals_waiting, 0);
    let statistics = a.statistics().await;
    assert_eq!((statistics.arrivals, statistics.dedup_keys), (0, 0));
    assert_eq!(
        world.fixture.enqueue(&service, &[kept.append()], TransactionEnd::Commit).await,
        [AppendAnswer::Arrived]
    );
    assert_eq!(a.heartbeat().await.arrivals_waiting, 1);
    assert_eq!(a.move_arrivals().await, [(1, 1)]);
    let got = a.read(1, 0).await;
    assert_eq!((numbers(&got), &got[0].payload), (vec![1], &kept.payload));
    assert!(matches!(a.append(&[lost]).await[0], AppendAnswer::Stored { .. }), "its key was never used");
}

/// Scenario 78: A user's transaction left open for a minute delays nobody else's messages; where a database has one writer at a
/// time, the others hear that it is busy, and nothing is lost.
pub async fn s78_an_open_transaction_delays_nobody<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let service = world.service.clone();
    let first = Message::command(1).of(stream);
    let open = world.fixture.leave_open(&service, &[first.append()]).await;
    if open.is_the_only_writer {
        let message = Message::command(2).of(stream);
        let appends = [message.append()];
        let batch = WorkBatch { appends: &appends, ..a.batch() };
        let refused = a.send(batch).await.map(drop);
        assert!(matches!(refused, Err(StoreError::NotApplied(NotApplied::Busy(_)))), "{refused:?}");
        (open.commit)().await;
        // The same batch again: it waits behind what the user has sent before.
        assert_eq!(a.ok(batch).await.appends, [AppendAnswer::Arrived]);
        assert_eq!(a.move_arrivals().await, [(0, 2)]);
        assert_eq!(numbers(&a.read(0, 0).await), [1, 2]);
        return;
    }
    for number in 2..=21 {
        let position = number - 1;
        assert_eq!(stored(&a.append(&[Message::command(number).of(stream)]).await), [position]);
        assert_eq!(a.move_arrivals().await, []);
        assert_eq!(numbers(&a.read(0, position - 1).await), [number]);
        assert_eq!(a.settle(0, position, position).await, SettledAnswer::Applied);
        assert_eq!(a.heartbeat().await.alive, 1);
        world.clock.advance(Duration::from_secs(3));
    }
    (open.commit)().await;
    // It was enqueued before all others, and comes when it is there.
    assert_eq!(a.move_arrivals().await, [(0, 21)]);
    assert_eq!(numbers(&a.read(0, 20).await), [1]);
}

/// Scenario 79: Two messages in one transaction: in order. 80a. Two transactions to one stream, one after the other: in that order.
pub async fn s79_messages_of_transactions_keep_their_order<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let service = world.service.clone();
    for first in [1, 3, 5, 7] {
        let messages = [Message::command(first).of(stream), Message::command(first + 1).of(stream)];
        let appends = [messages[0].append(), messages[1].append()];
        assert_eq!(
            world.fixture.enqueue(&service, &appends, TransactionEnd::Commit).await,
            [AppendAnswer::Arrived; 2]
        );
        if first == 3 {
            a.move_arrivals().await;
        }
    }
    a.move_arrivals().await;
    assert_eq!(numbers(&a.read(0, 0).await), (1..=8).collect::<Vec<_>>());
}

/// Scenario 80: Enqueue with a dedup key already used: the user's transaction is not aborted.
pub async fn s80_a_used_key_does_not_abort_the_transaction<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let first = Message::command(1).once(b"key");
    assert_eq!(stored(&a.append(std::slice::from_ref(&first)).await), [1]);
    let service = world.service.clone();
    let (again, other) =
        (Message::command(2).once(b"key").with(*b"else"), Message::command(3).once(b"other"));
    let unnamed = Message { type_name: String::new(), ..Message::command(4) };
    let appends = [again.append(), unnamed.append(), other.append()];
    let answers = world.fixture.enqueue(&service, &appends, TransactionEnd::Commit).await;
    assert_eq!(answers[0], AppendAnswer::Duplicate { first: first.id, body: SameBody::Different });
    assert!(matches!(answers[1], AppendAnswer::Refused(_)), "{:?}", answers[1]);
    assert_eq!(answers[2], AppendAnswer::Arrived);
    a.move_arrivals().await;
    assert_eq!(numbers(&a.read(0, 0).await), [1, 3]);
    assert!(matches!(a.append(&[other]).await[0], AppendAnswer::Duplicate { .. }));
}

/// What a user's transaction has brought counts for those who expect a version, wherever they are.
pub async fn what_a_user_has_enqueued_counts_for_who_expects_a_version<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let (mut owner, mut b) = (world.joined().await, world.joined().await);
    let (stream, other) = (world.stream_in(0, 1), world.stream_in(0, 2));
    let messages = [
        Message::event(1, stream),
        Message::command(2).of(stream),
        Message::event(3, other),
        Message::event(4, stream).due_in(Duration::from_secs(60)),
    ];
    let appends: Vec<_> = messages.iter().map(Message::append).collect();
    let service = world.service.clone();
    world.fixture.enqueue(&service, &appends, TransactionEnd::Commit).await;
    let at = |version: u64| [Expected { stream, version: Version(version) }];
    let (zero, one, two) = (at(0), at(1), at(2));
    let events: Vec<Message> = (10..13).map(|n| Message::event(n, stream)).collect();
    let emits: Vec<_> = events.iter().map(Message::append).collect();
    for member in [&mut b, &mut owner] {
        let sent = member.units(&[Unit { expects: &zero, ..group(&emits[2..]) }]).await;
        assert_eq!(sent, [UnitAnswer::StreamConflict { stream, actual: Version(1) }]);
    }
    assert!(applied(&b.units(&[Unit { expects: &one, ..group(&emits[..1]) }]).await));
    for member in [&mut b, &mut owner] {
        let sent = member.units(&[Unit { expects: &one, ..group(&emits[2..]) }]).await;
        assert_eq!(sent, [UnitAnswer::StreamConflict { stream, actual: Version(2) }]);
    }
    assert!(applied(&owner.units(&[Unit { expects: &two, ..group(&emits[1..2]) }]).await));
    owner.move_arrivals().await;
    let history = owner.history(stream, 0, 99).await;
    assert_eq!(numbers(&history), [1, 10, 11]);
    assert_eq!(history[2].version, Some(Version(3)));
}
