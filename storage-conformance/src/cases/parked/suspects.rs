//! Suspects: what a dead owner had, and what kills its process.

use std::time::Duration;

use whizbang_storage::{
    DeadReason, LaneState, Limit, Origin, Partition, Position, Read, Release, Running, Settle, SettledAnswer,
    Unit, UnitAnswer, WorkBatch,
};

use super::{NOW, finish, run_due};
use crate::{ALL, Fixture, Message, World, applied, numbers, positions, stored, subscription};

/// Scenario 61: The owner dies without leaving: what was handed out and not settled comes as suspect; what was not comes as new. A
/// subscription that stood far behind, or was registered today, counts nothing it was not given.
pub async fn s61_what_a_dead_owner_had_is_suspect_and_the_rest_is_new<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("behind")]).await;
    a.append(&(1..=9).map(Message::command).collect::<Vec<_>>()).await;
    let five = Read { limit: Limit { messages: 5, ..ALL }, ..a.reads(0, 0) };
    let got = a.reading(five).await.0;
    finish(&mut a, &got[1..2]).await;
    let mut b = world.member().await;
    b.join(Some("group"), &[subscription("all"), subscription("behind"), subscription("today")], &[]).await;
    world.kill_and_evict(a, &mut b).await;
    let cursors: Vec<_> =
        b.heartbeat().await.owned[0].cursors.iter().map(|c| (c.low.0, c.read_from.0)).collect();
    assert_eq!(cursors, [(0, 5), (0, 0), (0, 0)]);
    // A read never returns a suspect, wherever it starts, and a suspect that was not handed out cannot be settled.
    assert_eq!(positions(&b.read(0, 0).await), [6, 7, 8, 9]);
    assert_eq!(b.settle(0, 1, 1).await, SettledAnswer::Unknown);
    assert_eq!(b.settle(0, 4, 7).await, SettledAnswer::Unknown);
    let early = whizbang_storage::Delivery { epoch: b.epoch(0), ..got[2].delivery() };
    assert_eq!(b.units(&[Unit { delivery: Some(early), ..got[2].done() }]).await, [UnitAnswer::Unknown]);
    for id in [b.subscriptions[1], b.subscriptions[2]] {
        let fresh = b.reading(Read { subscription: id, ..b.reads(0, 0) }).await.0;
        assert_eq!(fresh.len(), 9);
        assert!(fresh.iter().all(|got| got.attempt == 1 && got.origin == Origin::Log));
    }
    assert_eq!(b.heartbeat().await.next_due, Some(NOW));
    let suspects = b.due().await;
    assert_eq!(positions(&suspects), [1, 3, 4, 5], "in order");
    assert!(suspects.iter().all(|got| (got.attempt, got.origin) == (1, Origin::Suspect)));
    assert_eq!(b.due().await, []);
    assert_eq!(b.heartbeat().await.next_due, None);
    finish(&mut b, &suspects).await;
    assert_eq!(b.due().await, []);
    assert_eq!(b.settle(0, 6, 9).await, SettledAnswer::Applied);
    assert_eq!(b.low(0).await, 9);
}

/// Scenario 61: Suspects keep the order of their streams: behind a parked one they wait, and newer ones wait behind them.
pub async fn s61_suspects_keep_the_order_of_their_streams<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    let messages = [(1, s), (2, t), (3, s), (4, t), (5, s)];
    a.append(&messages.map(|(n, stream)| Message::command(n).of(stream))).await;
    a.read(0, 0).await;
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    b.append(&[Message::command(6).of(s), Message::command(7)]).await;
    let fresh = b.read(0, 5).await;
    assert_eq!((fresh[0].lane, fresh[1].lane), (LaneState::Parked, LaneState::Free));
    assert!(applied(&b.units(&[fresh[0].ends(Settle::Defer), fresh[1].done()]).await));
    let first = b.due_within(Limit { messages: 2, ..ALL }).await;
    assert_eq!(numbers(&first), [1, 2]);
    assert_eq!(b.due().await, [], "the next of the partition come when these are done");
    assert!(applied(&b.units(&[first[0].retry_in(Duration::from_secs(5)), first[1].done()]).await));
    // 3 and 5 wait behind 1; 4 comes meanwhile.
    assert_eq!(run_due(&mut b).await, [4]);
    world.clock.advance(Duration::from_secs(5));
    let due = b.due().await;
    assert_eq!((numbers(&due), due[0].attempt), (vec![1, 3, 5, 6], 2));
    finish(&mut b, &due).await;
    assert_eq!(run_due(&mut b).await, []);
}

/// Scenario 61a: Taking over 128 partitions with full windows writes a row per cursor, not per message.
pub async fn s61a_a_takeover_writes_a_row_per_cursor<F: Fixture>() {
    let mut world = World::<F>::new(128).await;
    let mut a = world.joined().await;
    for round in 0..10u64 {
        let messages =
            (0..128).map(|p| Message::command(round * 128 + u64::from(p)).of(world.stream_in(p, 1)));
        a.append(&messages.collect::<Vec<_>>()).await;
    }
    let reads: Vec<Read> = (0..128).map(|p| a.reads(p, 0)).collect();
    a.ok(WorkBatch { reads: &reads, ..a.batch() }).await;
    let mut b = world.joined().await;
    world.kill(a).await;
    for _ in 0..4 {
        b.heartbeat().await;
        world.clock.advance(world.service.time_to_live / 4);
    }
    let before = world.fixture.rows_written().await;
    b.heartbeat().await;
    assert_eq!(b.owned.len(), 128);
    let written = world.fixture.rows_written().await - before;
    assert!(written <= 4 * 128, "{written} rows for 128 partitions with 1,280 suspects");
}

/// Scenario 62: 500 are due, one kills the process, ten restarts: exactly one is dead (`AttemptsExhausted`), 499 are done, and fresh
/// work got through meanwhile.
pub async fn s62_the_one_that_kills_its_process_dies_and_no_other<F: Fixture>() {
    const KILLER: u64 = 250;
    let mut world = World::<F>::new(1).await;
    let mut process = world.joined().await;
    process.append(&(1..=500).map(Message::command).collect::<Vec<_>>()).await;
    let got = process.read(0, 0).await;
    let retries: Vec<Unit<'_>> = got.iter().map(|got| got.retry_in(NOW)).collect();
    process.units(&retries).await;
    let (mut done, mut restarts, mut fresh) = (Vec::new(), 0, 0);
    loop {
        let due = process.due().await;
        if numbers(&due).contains(&KILLER) {
            let mut next = world.joined().await;
            world.kill_and_evict(process, &mut next).await;
            process = next;
            restarts += 1;
            // Fresh work flows while the suspects are looked at one by one.
            fresh += 1;
            let at = stored(&process.append(&[Message::command(1_000 + fresh)]).await)[0];
            let got = process.read(0, at - 1).await;
            finish(&mut process, &got).await;
            assert!(restarts < 20, "it is not dead after {restarts} restarts");
        } else if due.is_empty() {
            break;
        } else {
            finish(&mut process, &due).await;
            done.extend(numbers(&due));
        }
    }
    // Once among 500, then ten times named: with others of its partition, in its partition alone, and quite alone.
    assert_eq!(restarts, 11);
    done.sort_unstable();
    assert_eq!(done, (1..=500).filter(|n| *n != KILLER).collect::<Vec<_>>());
    let letters = process.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].crashes), (DeadReason::AttemptsExhausted, 10));
    assert_eq!(letters[0].message, Message::command(KILLER).id);
    assert_eq!(process.statistics().await.subscriptions[0].lag, 0);
}

/// Scenario 62: A message that kills its process at once, whatever runs beside it in other partitions: the others live.
pub async fn s62_a_killer_takes_no_innocent_of_another_partition_with_it<F: Fixture>() {
    const KILLER: u64 = 6;
    let mut world = World::<F>::new(4).await;
    let mut process = world.joined().await;
    let messages = (1..=20).map(|n| Message::command(n).of(world.stream_in(n as u32 % 4, n as u32)));
    process.append(&messages.collect::<Vec<_>>()).await;
    for partition in 0..4 {
        process.read(partition, 0).await;
    }
    let (mut done, mut restarts) = (Vec::new(), 0);
    loop {
        let due = process.due().await;
        if numbers(&due).contains(&KILLER) || restarts == 0 {
            let mut next = world.joined().await;
            world.kill_and_evict(process, &mut next).await;
            process = next;
            restarts += 1;
            assert!(restarts < 20, "it is not dead after {restarts} restarts");
        } else if due.is_empty() {
            break;
        } else {
            finish(&mut process, &due).await;
            done.extend(numbers(&due));
        }
    }
    done.sort_unstable();
    assert_eq!(done, (1..=20).filter(|n| *n != KILLER).collect::<Vec<_>>());
    let letters = process.dead_letters().await;
    assert_eq!(
        letters.iter().map(|letter| letter.message).collect::<Vec<_>>(),
        [Message::command(KILLER).id]
    );
    assert_eq!(restarts, 11);
}

/// Scenario 62: A thousand suspects come back in groups, not one by one; those of a stream in its order.
pub async fn s62_many_suspects_come_in_groups<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    let streams: Vec<_> = (1..=3).map(|n| world.stream_in(0, n)).collect();
    let messages = (1..=500).map(|n| Message::command(n).of(streams[n as usize % 3]));
    a.append(&messages.collect::<Vec<_>>()).await;
    a.read(0, 0).await;
    a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await;
    let mut b = world.joined_with(&[subscription("all"), subscription("more")]).await;
    world.kill_and_evict(a, &mut b).await;
    let (mut groups, mut ran) = (0, Vec::new());
    loop {
        let due = b.due().await;
        if due.is_empty() {
            break;
        }
        assert!(due.len() <= whizbang_storage::pick::SUSPECTS_MAX);
        assert!(due.iter().all(|got| got.origin == Origin::Suspect));
        groups += 1;
        ran.extend(due.iter().map(|got| (got.position.0, got.subscription)));
        finish(&mut b, &due).await;
    }
    let both = |position| [(position, b.subscriptions[0]), (position, b.subscriptions[1])];
    assert_eq!(ran, (1..=500).flat_map(both).collect::<Vec<_>>());
    assert_eq!(groups, 16, "1,000 by 64");
}

/// Scenario 63: Graceful release: only what was named as still running counts an attempt.
pub async fn s63_a_release_counts_only_what_was_running<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;

    let mut messages: Vec<Message> =
        (1..=6).map(|n| Message::command(n).of(world.stream_in(0, n as u32))).collect();
    messages.push(Message::command(7).of(world.stream_in(1, 1)));
    a.append(&messages).await;
    let got = a.read(0, 0).await;
    a.read(1, 0).await;
    assert!(applied(&a.units(&[got[0].retry_in(NOW), got[1].retry_in(NOW), got[2].done()]).await));
    let due = a.due().await;
    assert_eq!(numbers(&due), [1, 2]);
    let running = |position: u64| Running {
        subscription: a.subscription(),
        partition: Partition(0),
        position: Position(position),
    };
    let elsewhere = Running { partition: Partition(1), ..running(1) };
    let unknown = Running { subscription: whizbang_storage::SubscriptionId(99), ..running(5) };
    let named = [running(1), running(4), running(4), running(3), running(77), elsewhere, unknown];
    let release = [Release { partition: Partition(0), epoch: a.epoch(0), running: &named }];
    let batch = WorkBatch {
        membership: Some(whizbang_storage::Membership::Release(&release)),
        due: Some(ALL),
        ..a.batch()
    };
    let answer = a.ok(batch).await;
    assert!(answer.due.is_empty(), "it owns the other partition only");
    let mut b = world.joined().await;
    b.heartbeat().await;
    assert_eq!(b.epoch(0).0, 2);
    let mut due = b.due().await;
    due.sort_by_key(|got| got.position);
    let attempts: Vec<(u64, u32)> = due.iter().map(|got| (got.position.0, got.attempt)).collect();
    assert_eq!(attempts, [(1, 3), (2, 2), (4, 2)]);
    let fresh: Vec<(u64, u32)> = b.read(0, 0).await.iter().map(|got| (got.position.0, got.attempt)).collect();
    assert_eq!(fresh, [(5, 1), (6, 1)]);
    // The other partition is not touched by it.
    assert_eq!(a.settle(1, 1, 1).await, SettledAnswer::Applied);
}

/// A suspect that runs long is detached, and the next one comes.
pub async fn a_suspect_that_runs_long_lets_the_next_one_come<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    a.read(0, 0).await;
    a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await;
    let mut b = world.joined_with(&[subscription("all"), subscription("more")]).await;
    world.kill_and_evict(a, &mut b).await;
    // Over both subscriptions: (1, all), (1, more), (2, all), (2, more).
    let mut order = Vec::new();
    while let Some(suspect) = b.due_within(Limit { messages: 1, ..ALL }).await.pop() {
        assert_eq!(b.due().await, [], "while one runs, no other comes");
        order.push((suspect.position.0, suspect.subscription));
        assert!(applied(&b.units(&[suspect.ends(Settle::Detach)]).await));
    }
    let (all, more) = (b.subscriptions[0], b.subscriptions[1]);
    assert_eq!(order, [(1, all), (1, more), (2, all), (2, more)]);
    let mut c = world.joined().await;
    world.kill_and_evict(b, &mut c).await;
    assert_eq!(c.due().await[0].attempt, 2, "a detached one is named: its death counts");
}
