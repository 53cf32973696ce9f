//! Dead letters: how they come about, and what an operator does with them.

use std::time::Duration;

use whizbang_storage::{
    DeadReason, OnDead, Operation, OperationAnswer, Origin, ParkedKey, Partition, Position, Read, Settle,
    SubscriptionSpec, Unit, Whereabouts, WorkStore,
};

use super::{DEAD, NOW, finish, run_due};
use crate::{Fixture, Message, World, applied, numbers, stored, subscription};

/// Scenario 59: Attempts reach the cap: dead, reason `AttemptsExhausted`, visible with error, attempts and times.
pub async fn s59_at_the_cap_a_message_is_dead<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[SubscriptionSpec { attempts_max: 3, ..subscription("all") }]).await;
    let message = Message::command(1).of(world.stream_in(0, 1));
    a.append(std::slice::from_ref(&message)).await;
    let start = whizbang_storage::Clock::now(&world.clock);
    let mut got = a.read(0, 0).await;
    for attempt in 1..=3 {
        assert_eq!(got[0].attempt, attempt);
        assert_eq!(a.whereabouts(&message).await, Whereabouts::Waiting);
        let error = format!("failure {attempt}");
        let retry = Settle::Retry { after: Duration::from_secs(1), error: &error };
        assert!(applied(&a.units(&[got[0].ends(retry)]).await));
        world.clock.advance(Duration::from_secs(1));
        got = a.due().await;
    }
    assert_eq!(got, []);
    let letters = a.dead_letters().await;
    let letter = &letters[0];
    assert_eq!(
        (letters.len(), letter.reason, letter.error.as_str()),
        (1, DeadReason::AttemptsExhausted, "failure 3")
    );
    assert_eq!((letter.attempts, letter.crashes), (3, 0));
    assert_eq!(
        (letter.message, letter.stream, &letter.payload),
        (message.id, message.stream, &message.payload)
    );
    assert_eq!(
        (letter.group.as_str(), letter.subscription.as_str(), letter.type_name.as_str()),
        ("group", "all", "test.command")
    );
    assert_eq!((letter.first_failed_at, letter.dead_at), (start, start.after(Duration::from_secs(2))));
    assert_eq!(
        letter.key,
        ParkedKey { subscription: a.subscription(), partition: Partition(0), position: Position(1) }
    );
    let (reason, error) = (DeadReason::AttemptsExhausted, "failure 3".to_owned());
    assert_eq!(a.whereabouts(&message).await, Whereabouts::Dead { reason, error });
    // A cap of one: the first failure is the last; a cap of nothing counts as one.
    for (name, attempts_max) in [("one", 1), ("none", 0)] {
        let spec = SubscriptionSpec { attempts_max, ..subscription(name) };
        let OperationAnswer::Registered(id) =
            a.operate(Operation::Register { group: "group", subscription: spec }).await
        else {
            panic!("it is registered")
        };
        let got = a.reading(Read { subscription: id, ..a.reads(0, 0) }).await.0;
        assert!(applied(&a.units(&[got[0].retry_in(NOW)]).await));
    }
    assert_eq!(a.dead_letters().await.len(), 3);
}

/// Scenario 60: `Dead { reason: Undecodable }` on first delivery: dead at once, no attempts. An attempt that was begun counts.
pub async fn s60_a_message_can_be_dead_at_once<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    let dead = Settle::Dead { reason: DeadReason::Undecodable, error: "not JSON" };
    assert!(applied(&a.units(&[got[0].ends(dead), got[1].done()]).await));
    let letters = a.dead_letters().await;
    assert_eq!((letters.len(), letters[0].reason, letters[0].attempts), (1, DeadReason::Undecodable, 0));
    assert_eq!(a.low(0).await, 2);
    assert_eq!(a.due().await, []);
    // The first attempt of each, and then the second.
    let ends = [
        (Settle::Dead { reason: DeadReason::Rejected, error: "no" }, DeadReason::Rejected, 1),
        (
            Settle::Dead { reason: DeadReason::AttemptsExhausted, error: "no" },
            DeadReason::AttemptsExhausted,
            1,
        ),
        (Settle::Dead { reason: DeadReason::Damaged, error: "no" }, DeadReason::Damaged, 0),
        (Settle::Exhausted { error: "no" }, DeadReason::AttemptsExhausted, 0),
    ];
    let mut letters_before = 1;
    for failed in [0, 1] {
        let at = stored(&a.append(&(10..14).map(Message::command).collect::<Vec<_>>()).await)[0];
        let mut got = a.read(0, at - 1).await;
        if failed == 1 {
            let retries: Vec<Unit<'_>> = got.iter().map(|got| got.retry_in(NOW)).collect();
            assert!(applied(&a.units(&retries).await));
            got = a.due().await;
        }
        let units: Vec<Unit<'_>> = got.iter().zip(ends).map(|(got, (end, ..))| got.ends(end)).collect();
        assert!(applied(&a.units(&units).await));
        let letters = a.dead_letters().await;
        let said: Vec<_> = letters[letters_before..].iter().map(|of| (of.reason, of.attempts)).collect();
        assert_eq!(said, ends.map(|(_, reason, own)| (reason, failed + own)), "after {failed} failures");
        assert!(letters.iter().skip(1).all(|letter| letter.error == "no"));
        letters_before = letters.len();
    }
}

/// Scenario 64: Requeue of a dead event of one perspective: it gets it once more, attempts 0, marked as replay; nothing else changes.
pub async fn s64_a_requeued_dead_letter_comes_once_more<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world
        .joined_with(&[SubscriptionSpec { attempts_max: 2, ..subscription("x") }, subscription("y")])
        .await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::event(1, stream).once(b"key"), Message::event(2, stream)]).await;
    let got = a.read(0, 0).await;
    let other = a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await.0;
    finish(&mut a, &other).await;
    a.units(&[got[0].retry_in(NOW)]).await;
    let due = a.due().await;
    a.units(&[due[0].retry_in(NOW), got[1].done()]).await;
    let letters = a.dead_letters().await;
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));
    a.housekeep(100).await;
    let key = letters[0].key;
    for wrong in [
        ParkedKey { position: Position(2), ..key },
        ParkedKey { partition: Partition(9), ..key },
        ParkedKey { subscription: a.subscriptions[1], ..key },
        ParkedKey { subscription: whizbang_storage::SubscriptionId(0), ..key },
    ] {
        assert_eq!(a.operate(Operation::Requeue(wrong)).await, OperationAnswer::Gone);
    }
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Gone);
    assert_eq!(a.operate(Operation::Discard(key)).await, OperationAnswer::Gone);
    assert_eq!(a.dead_letters().await, []);
    let due = a.due().await;
    assert_eq!((numbers(&due), due[0].attempt, due[0].origin), (vec![1], 1, Origin::Replay));
    assert_eq!((due[0].position, due[0].version), (got[0].position, got[0].version));
    assert_eq!((due[0].subscription, &due[0].payload), (a.subscriptions[0], &got[0].payload));
    // It may fail as often as a fresh one, and dies again.
    a.units(&[due[0].retry_in(NOW)]).await;
    let due = a.due().await;
    assert_eq!((due[0].attempt, due[0].origin), (2, Origin::Replay));
    a.units(&[due[0].ends(DEAD)]).await;
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [1]);
    assert_eq!(a.history(stream, 0, 99).await.len(), 2);
    assert_eq!(a.append(&[Message::event(3, stream)]).await.len(), 1);
    assert_eq!(a.statistics().await.subscriptions.iter().map(|counts| counts.dead).sum::<u64>(), 0);
}

/// Scenario 64a: `Halt`: after a dead event the stream waits for this subscription until it is requeued or discarded. `Skip`: it goes
/// on.
pub async fn s64a_a_dead_message_halts_its_stream_where_that_is_asked<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let halt = SubscriptionSpec { on_dead: OnDead::Halt, ..subscription("halt") };
    let mut a = world.joined_with(&[halt, subscription("skip")]).await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    a.append(&[
        Message::command(1).of(s),
        Message::command(2).of(s),
        Message::command(3).of(t),
        Message::command(4).of(t),
    ])
    .await;
    let halted = a.read(0, 0).await;
    let skipped = a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await.0;
    a.units(&[halted[0].ends(DEAD), halted[2].ends(DEAD), skipped[0].ends(DEAD), skipped[2].ends(DEAD)])
        .await;
    for got in [&halted, &skipped] {
        assert!(applied(&a.units(&[got[1].ends(Settle::Defer), got[3].ends(Settle::Defer)]).await));
    }
    assert_eq!(a.low(0).await, 4);
    let due = a.due().await;
    assert!(due.iter().all(|got| got.subscription == a.subscriptions[1]), "{due:?}");
    assert_eq!(numbers(&due), [2, 4]);
    finish(&mut a, &due).await;
    let key = |position: u64| ParkedKey {
        subscription: a.subscriptions[0],
        partition: Partition(0),
        position: Position(position),
    };
    let (first, third) = (key(1), key(3));
    assert_eq!(a.operate(Operation::Discard(third)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [4]);
    assert_eq!(a.operate(Operation::Requeue(first)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [1, 2]);
    // A later join may change its mind.
    a.append(&[Message::command(5).of(s), Message::command(6).of(s)]).await;
    let got = a.read(0, 4).await;
    a.units(&[got[0].ends(DEAD)]).await;
    a.units(&[got[1].ends(Settle::Defer)]).await;
    assert_eq!(a.due().await, []);
    let register = Operation::Register {
        group: "group",
        subscription: SubscriptionSpec { on_dead: OnDead::Skip, ..halt },
    };
    assert_eq!(a.operate(register).await, OperationAnswer::Registered(a.subscriptions[0]));
    assert_eq!(run_due(&mut a).await, [6]);
}

/// Scenario 65: Discard of a dead letter: gone; again: says so.
pub async fn s65_a_discarded_dead_letter_is_gone<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].ends(DEAD), got[1].ends(DEAD)]).await;
    let letters = a.dead_letters().await;
    assert_eq!(letters.len(), 2);
    let reader = a.store.reader();
    let second = whizbang_storage::StoreReader::dead_letters(&reader, Some(letters[0].key), 1)
        .await
        .expect("it is read");
    assert_eq!(second, letters[1..]);
    assert_eq!(a.operate(Operation::Discard(letters[0].key)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Discard(letters[0].key)).await, OperationAnswer::Gone);
    assert_eq!(a.operate(Operation::Requeue(letters[0].key)).await, OperationAnswer::Gone);
    assert_eq!(a.dead_letters().await, letters[1..]);
    assert_eq!(a.whereabouts(&Message::command(1)).await, Whereabouts::NotWaiting);
}
