//! Trimming: what nobody needs goes, in bounded steps, and nothing else.

use std::time::Duration;

use whizbang_storage::{Operation, OperationAnswer, Position, Read, Service, Settle, WorkBatch};

use crate::{ALL, Fixture, Message, World, applied, numbers, positions, stored, subscription};

/// Scenario 73: Settled messages that are not events are trimmed once every subscription is past them; never before.
pub async fn s73_messages_are_trimmed_when_all_are_past_them<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    a.append(&(1..=6).map(Message::command).collect::<Vec<_>>()).await;
    a.read(0, 0).await;
    a.settle(0, 1, 5).await;
    assert_eq!(a.housekeep(99).await, 0, "`more` has read nothing");
    let more = a.subscriptions[1];
    a.reading(Read { subscription: more, ..a.reads(0, 0) }).await;
    let range = whizbang_storage::Settled { subscription: more, ..a.range(0, 1, 3) };
    let above = whizbang_storage::Settled { subscription: more, ..a.range(0, 5, 6) };
    a.ok(WorkBatch { settled: &[range, above], ..a.batch() }).await;
    assert_eq!(a.housekeep(99).await, 3);
    assert_eq!(a.housekeep(99).await, 0);
    let left = a.reading(Read { subscription: more, ..a.reads(0, 0) }).await.0;
    assert_eq!(positions(&left), [4]);
    // Another group's subscription holds them as well.
    let mut b = world.member().await;
    b.join(Some("second"), &[subscription("all")], &[]).await;
    a.settle(0, 6, 6).await;
    let rest = whizbang_storage::Settled { subscription: more, ..a.range(0, 4, 4) };
    a.ok(WorkBatch { settled: &[rest], ..a.batch() }).await;
    assert_eq!(a.housekeep(99).await, 0);
    assert_eq!(numbers(&b.read(0, 0).await), [4, 5, 6]);
    b.settle(0, 4, 6).await;
    assert_eq!(a.housekeep(99).await, 3);
    assert_eq!(a.statistics().await.messages, 0);
    // Positions are never used again.
    assert_eq!(stored(&a.append(&[Message::command(7)]).await), [7]);
}

/// Scenario 73: Without any subscription nothing was settled by all, so nothing goes.
pub async fn s73_without_a_subscription_nothing_is_trimmed<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.member().await;
    a.join(Some("group"), &[], &[]).await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    assert_eq!(a.housekeep(99).await, 0);
    let OperationAnswer::Registered(id) =
        a.operate(Operation::Register { group: "group", subscription: subscription("first") }).await
    else {
        panic!("it is registered")
    };
    a.subscriptions.push(id);
    assert_eq!(a.read(0, 0).await.len(), 2);
}

/// Scenario 74: Events are kept as long as their retention says, and for ever without one.
pub async fn s74_events_are_kept_for_their_retention<F: Fixture>() {
    for event_retention in [None, Some(Duration::from_secs(3_600))] {
        let mut world =
            World::<F>::with(Service { partitions: 1, event_retention, ..Service::named("events") }).await;
        let mut a = world.joined().await;
        let stream = world.stream_in(0, 1);
        a.append(&[Message::event(1, stream), Message::command(2), Message::event(3, stream)]).await;
        a.read(0, 0).await;
        a.settle(0, 1, 3).await;
        world.clock.advance(Duration::from_secs(1));
        a.append(&[Message::event(4, stream)]).await;
        a.read(0, 3).await;
        world.clock.advance(Duration::from_micros(3_598_999_999));
        assert_eq!(a.housekeep(99).await, 1, "the command");
        world.clock.advance(Duration::from_micros(1));
        assert_eq!(a.housekeep(99).await, if event_retention.is_some() { 2 } else { 0 });
        world.clock.advance(Duration::from_secs(9_999));
        assert_eq!(a.housekeep(99).await, 0, "4 is not settled");
        assert_eq!(numbers(&a.read(0, 0).await), [4]);
        a.settle(0, 4, 4).await;
        assert_eq!(a.housekeep(99).await, usize::from(event_retention.is_some()));
        let kept = a.history(stream, 0, 99).await;
        assert_eq!(numbers(&kept), if event_retention.is_some() { vec![] } else { vec![1, 3, 4] });
        // Versions go on.
        a.append(&[Message::event(5, stream)]).await;
        assert_eq!(a.history(stream, 3, 99).await[0].version, Some(whizbang_storage::Version(4)));
    }
}

/// Scenario 75: Trimming goes in bounded steps, and a batch in between is served.
pub async fn s75_trimming_goes_in_bounded_steps<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    let messages: Vec<Message> = (0..4_000)
        .map(|n| Message::command(n).of(world.stream_in(n as u32 % 4, 1)).once(&n.to_le_bytes()))
        .collect();
    a.append(&messages).await;
    for partition in 0..4 {
        let (_, through) = a.reading(a.reads(partition, 0)).await;
        a.settle(partition, 1, through).await;
    }
    world.clock.advance(world.service.dedup_retention);
    let mut left = 8_000;
    for step in 0.. {
        let removed = a.housekeep(300).await;
        assert!(removed <= 300, "{removed} in one step");
        left -= removed;
        if removed < 300 {
            break;
        }
        assert_eq!(
            stored(&a.append(&[Message::command(9_000 + step).of(world.stream_in(0, 2))]).await).len(),
            1
        );
    }
    assert_eq!(left, 0);
    let statistics = a.statistics().await;
    assert_eq!((statistics.messages, statistics.dedup_keys), (26, 0));
    assert_eq!(a.ok(WorkBatch { housekeeping: Some(0), ..a.batch() }).await.removed, 0);
}

/// Scenario 76: Unsettled, parked or dead work is never trimmed, however old.
pub async fn s76_work_that_is_not_done_is_never_trimmed<F: Fixture>() {
    let retention = Some(Duration::from_secs(1));
    let mut world =
        World::<F>::with(Service { partitions: 1, event_retention: retention, ..Service::named("old") })
            .await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[
        Message::event(1, stream),
        Message::event(2, stream),
        Message::command(3),
        Message::command(4),
        Message::command(5),
    ])
    .await;
    let year = Duration::from_secs(365 * 24 * 3_600);
    a.append(&[Message::command(6).due_in(2 * year)]).await;
    let got = a.read(0, 0).await;
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: "no" };
    let units = [got[0].ends(dead), got[1].retry_in(year), got[2].ends(Settle::Detach)];
    assert!(applied(&a.units(&units).await));
    world.clock.advance(year);
    a.heartbeat().await;
    // The log's own rows of 1 to 3 may go: parked messages are copies.
    assert_eq!(a.housekeep(1_000).await, 3);
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    let (mut due, mut all) = (b.due().await, Vec::new());
    while !due.is_empty() {
        all.extend(due.iter().map(|got| (numbers([got])[0], got.payload.clone())));
        let done: Vec<_> = due.iter().map(crate::Got::done).collect();
        assert!(applied(&b.units(&done).await));
        due = b.due_within(ALL).await;
    }
    all.sort();
    let expected: Vec<(u64, Vec<u8>)> = [2, 3, 4, 5].map(|n| (n, Message::command(n).payload)).to_vec();
    assert_eq!(all, expected);
    let letters = b.dead_letters().await;
    assert_eq!((letters.len(), letters[0].key.position), (1, Position(1)));
    assert_eq!(b.statistics().await.arrivals, 1);
}
