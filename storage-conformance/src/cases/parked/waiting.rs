//! Retries, lanes that wait, what runs long, pauses: who may run, and when.

use std::time::Duration;

use whizbang_storage::{
    LaneState, Limit, Operation, OperationAnswer, Origin, Partition, Position, Read, Running, Service,
    Settle, Settled, SettledAnswer, Unit, Whereabouts, WorkBatch,
};

use super::{DEAD, NOW, finish, run_due};
use crate::{ALL, Fixture, Message, World, applied, numbers, subscription};

/// Scenario 54: Retry in 60 s: parked, attempts 1, not due at 59 s, due at 60 s.
pub async fn s54_a_retry_is_due_when_its_time_has_come<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let got = a.read(0, 0).await;
    assert!(applied(&a.units(&[got[0].retry_in(Duration::from_secs(60))]).await));
    assert_eq!(a.low(0).await, 1, "the log flows on");
    assert_eq!(a.heartbeat().await.next_due, Some(Duration::from_secs(60)));
    world.pass(Duration::from_micros(59_999_999), &mut [&mut a]).await;
    assert_eq!(a.due().await, []);
    assert_eq!(a.heartbeat().await.next_due, Some(Duration::from_micros(1)));
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(a.heartbeat().await.next_due, Some(NOW));
    let due = a.due().await;
    assert_eq!((numbers(&due), due[0].attempt, due[0].origin), (vec![1], 2, Origin::Parked));
    assert_eq!(due[0].payload, Message::command(1).payload);
    assert_eq!(a.due().await, [], "it is running");
    assert_eq!(a.heartbeat().await.next_due, None);
    finish(&mut a, &due).await;
    assert_eq!(a.whereabouts(&Message::command(1)).await, Whereabouts::NotWaiting);
}

/// Scenario 55: Retry while later messages of the stream come up: they are parked too, in order, without an attempt; another stream
/// flows on.
pub async fn s55_later_messages_of_the_stream_wait_without_an_attempt<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    a.append(&[
        Message::command(1).of(s),
        Message::command(2).of(s),
        Message::command(3).of(t),
        Message::command(4).of(s),
    ])
    .await;
    let got = a.read(0, 0).await;
    let units = [
        got[0].retry_in(Duration::from_secs(60)),
        got[1].ends(Settle::Defer),
        got[2].done(),
        got[3].ends(Settle::Defer),
    ];
    assert!(applied(&a.units(&units).await));
    assert_eq!(a.due().await, [], "nothing newer of the stream runs before it");
    assert_eq!(a.heartbeat().await.next_due, Some(Duration::from_secs(60)));
    a.append(&[Message::command(5).of(s), Message::command(6).of(t)]).await;
    let more = a.read(0, 4).await;
    assert_eq!((more[0].lane, more[1].lane), (LaneState::Parked, LaneState::Free));
    assert!(applied(&a.units(&[more[0].ends(Settle::Defer), more[1].done()]).await));
    world.pass(Duration::from_secs(60), &mut [&mut a]).await;
    let due = a.due().await;
    let attempts: Vec<(u64, u32)> = due.iter().map(|got| (numbers([got])[0], got.attempt)).collect();
    assert_eq!(attempts, [(1, 2), (2, 1), (4, 1), (5, 1)]);
    finish(&mut a, &due).await;
    assert_eq!(a.due().await, []);
    a.append(&[Message::command(7).of(s)]).await;
    assert_eq!(a.read(0, 6).await[0].lane, LaneState::Free);
}

/// Scenario 56: The parked head is done: the waiting ones come back in order before anything newer, also when they are more than one
/// page, and when head done and next parked are in one batch in either order, also across a change of owner.
pub async fn s56_the_waiting_come_back_in_order<F: Fixture>() {
    for swapped in [false, true] {
        let mut world = World::<F>::new(1).await;
        let mut a = world.joined().await;
        let stream = world.stream_in(0, 1);
        a.append(&(1..=30).map(|n| Message::command(n).of(stream)).collect::<Vec<_>>()).await;
        let got = a.read(0, 0).await;
        let mut units: Vec<Unit<'_>> = got[1..20].iter().map(|got| got.ends(Settle::Defer)).collect();
        units.insert(0, got[0].retry_in(NOW));
        assert!(applied(&a.units(&units).await));
        let head = a.due_within(Limit { messages: 1, ..ALL }).await;
        assert_eq!(numbers(&head), [1]);
        let mut both = [head[0].done(), got[20].ends(Settle::Defer)];
        if swapped {
            both.reverse();
        }
        assert!(applied(&a.units(&both).await));
        let three = Limit { messages: 3, ..ALL };
        let mut ran = vec![1];
        for _ in 0..5 {
            let due = a.due_within(three).await;
            ran.extend(numbers(&due));
            finish(&mut a, &due).await;
        }
        assert_eq!(a.due_within(three).await.len(), 3);
        // What is running when the owner leaves, and was not named, comes again; the order holds.
        let mut b = world.joined().await;
        a.leave(&[]).await;
        b.heartbeat().await;
        let fresh = b.read(0, 0).await;
        assert!(fresh.iter().all(|got| got.lane == LaneState::Parked), "they come behind");
        let units: Vec<Unit<'_>> = fresh.iter().map(|got| got.ends(Settle::Defer)).collect();
        assert!(applied(&b.units(&units).await));
        ran.extend(run_due(&mut b).await);
        assert_eq!(ran, (1..=30).collect::<Vec<_>>());
    }
}

/// Scenario 57: The parked head dies: the waiting ones come back in order as well.
pub async fn s57_the_waiting_come_back_when_their_head_is_dead<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&(1..=4).map(|n| Message::command(n).of(stream)).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    let defer = Settle::Defer;
    a.units(&[got[0].retry_in(NOW), got[1].ends(defer), got[2].ends(defer), got[3].ends(defer)]).await;
    let run = a.due().await;
    assert_eq!(numbers(&run), [1, 2, 3, 4]);
    let back = Settle::Release;
    let units = [run[0].ends(DEAD), run[1].ends(back), run[2].ends(defer), run[3].ends(back)];
    assert!(applied(&a.units(&units).await));
    assert_eq!(run_due(&mut a).await, [2, 3, 4]);
    assert_eq!(a.dead_letters().await.len(), 1);
}

/// What waits in a stream comes in runs: as far as the time of each has come, and not across one that runs or is a suspect.
pub async fn a_stream_that_waits_comes_in_runs<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&(1..=6).map(|n| Message::command(n).of(stream)).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    let later = Duration::from_secs(1);
    let mut units: Vec<Unit<'_>> = got[..5].iter().map(|got| got.ends(Settle::Defer)).collect();
    units[2] = got[2].retry_in(later);
    assert!(applied(&a.units(&units).await));
    let first = a.due().await;
    assert_eq!(numbers(&first), [1, 2], "the time of 3 has not come");
    assert_eq!(a.heartbeat().await.next_due, None, "the first one runs");
    // A failure in the middle of a run: what follows is given back, without an attempt.
    let release = Settle::Release;
    assert!(applied(&a.units(&[first[0].retry_in(NOW), first[1].ends(release)]).await));
    let again = a.due().await;
    let attempts: Vec<(u64, u32)> = again.iter().map(|got| (numbers([got])[0], got.attempt)).collect();
    assert_eq!(attempts, [(1, 2), (2, 1)]);
    world.clock.advance(later);
    assert_eq!(a.due().await, [], "nothing comes across what runs");
    finish(&mut a, &again).await;
    // As one: 3 was due later than those behind it, and comes first.
    let rest = a.due_within(Limit { messages: 2, ..ALL }).await;
    assert_eq!(numbers(&rest), [3, 4]);
    finish(&mut a, &rest).await;
    // 6 is in the log's flow, unsettled: a suspect when its owner dies, behind 5.
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    assert_eq!(run_due(&mut b).await, [5, 6]);
}

/// Scenario 58: A parked message is blocked for one subscription only.
pub async fn s58_a_stream_waits_for_one_subscription_only<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    let stream = world.stream_in(0, 1);
    a.append(&(1..=3).map(|n| Message::command(n).of(stream)).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].retry_in(Duration::from_secs(60))]).await;
    let more = Read { subscription: a.subscriptions[1], ..a.reads(0, 0) };
    let others = a.reading(more).await.0;
    assert!(others.iter().all(|got| got.lane == LaneState::Free));
    finish(&mut a, &others).await;
    assert!(a.read(0, 1).await.iter().all(|got| got.lane == LaneState::Parked));
    let parked: Vec<u64> = a.statistics().await.subscriptions.iter().map(|counts| counts.parked).collect();
    assert_eq!(parked, [1, 0]);
}

/// Scenario 58a: A handler runs while W + 1,000 messages of other streams pass: they flow; after a crash only the long one counts.
pub async fn s58a_a_detached_message_holds_nobody_up<F: Fixture>() {
    let mut world = World::<F>::with(Service { partitions: 1, window: 64, ..Service::named("long") }).await;
    let mut a = world.joined().await;
    a.append(&(0..=1_064).map(Message::command).collect::<Vec<_>>()).await;
    let first = a.read(0, 0).await;
    assert_eq!(first.len(), 64);
    assert!(applied(&a.units(&[first[0].ends(Settle::Detach)]).await));
    a.settle(0, 2, 64).await;
    let mut place = 64;
    while place < 1_065 {
        let (got, through) = a.reading(a.reads(0, place)).await;
        assert!(!got.is_empty(), "stuck at {place}");
        if through < 1_065 {
            a.settle(0, place + 1, through).await;
        } else {
            assert_eq!(a.settle(0, place + 1, 1_060).await, SettledAnswer::Applied);
        }
        place = through;
    }
    assert_eq!(a.due().await, [], "it is running, and named");
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    let mut attempts = Vec::new();
    loop {
        let due = b.due().await;
        if due.is_empty() {
            break;
        }
        attempts.extend(due.iter().map(|got| (got.position.0, got.attempt, got.origin)));
        finish(&mut b, &due).await;
    }
    let mut expected: Vec<_> = (1_061..=1_065).map(|position| (position, 1, Origin::Suspect)).collect();
    expected.push((1, 2, Origin::Suspect));
    assert_eq!(attempts, expected, "the one that was there when its process died comes last, and alone");
}

/// Scenario 58a: A detached message ends as any other: done, in a retry, or given back.
pub async fn s58a_a_detached_message_ends_as_any_other<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&(1..=4).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    let detached: Vec<Unit<'_>> = got.iter().map(|got| got.ends(Settle::Detach)).collect();
    assert!(applied(&a.units(&detached).await));
    assert_eq!(a.low(0).await, 4);
    let emit = Message::event(9, stream);
    let emits = [emit.append()];
    let units = [Unit { emits: &emits, ..got[0].done() }, got[1].retry_in(NOW), got[2].ends(Settle::Detach)];
    assert!(applied(&a.units(&units).await), "{:?}", a.answer.units);
    let due = a.due().await;
    assert_eq!((numbers(&due), due[0].attempt), (vec![2], 2));
    // Given back with the partition: what is named counts an attempt, what is not does not.
    let running =
        [Running { subscription: a.subscription(), partition: Partition(0), position: Position(3) }];
    a.leave(&running).await;
    let mut b = world.joined().await;
    let mut due = b.due().await;
    due.sort_by_key(|got| got.position);
    let attempts: Vec<(u64, u32)> = due.iter().map(|got| (numbers([got])[0], got.attempt)).collect();
    assert_eq!(attempts, [(2, 2), (3, 2), (4, 1)]);
}

/// Scenario 58b: A subscription is paused: nothing of it is handed out, nothing is parked, nothing is lost; resumed, it goes on.
pub async fn s58b_a_paused_subscription_is_handed_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    a.append(&(1..=3).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].retry_in(NOW)]).await;
    let id = a.subscription();
    assert_eq!(a.operate(Operation::Pause(id)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Pause(id)).await, OperationAnswer::Done, "twice is once");
    assert_eq!(a.try_read(a.reads(0, 1)).await, whizbang_storage::ReadAnswer::Paused);
    assert_eq!(a.due().await, []);
    assert_eq!(a.heartbeat().await.next_due, None);
    let statistics = a.statistics().await;
    let paused: Vec<bool> = statistics.subscriptions.iter().map(|counts| counts.paused).collect();
    assert_eq!(
        (paused, statistics.subscriptions[0].parked, statistics.subscriptions[0].lag),
        (vec![true, false], 1, 2)
    );
    // What was handed out before is settled; the other subscription reads on.
    finish(&mut a, &got[1..2]).await;
    let more = Read { subscription: a.subscriptions[1], ..a.reads(0, 0) };
    assert_eq!(a.reading(more).await.0.len(), 3);
    assert_eq!(a.operate(Operation::Resume(id)).await, OperationAnswer::Done);
    assert_eq!(numbers(&a.read(0, 0).await), [3]);
    assert_eq!(run_due(&mut a).await, [1]);
    let unknown = whizbang_storage::SubscriptionId(99);
    assert_eq!(a.operate(Operation::Resume(unknown)).await, OperationAnswer::Gone);
}

/// Due work of several partitions takes turns, and both limits hold.
pub async fn due_work_is_handed_out_fairly_and_within_limits<F: Fixture>() {
    let mut world = World::<F>::new(3).await;
    let mut a = world.joined().await;
    let mut messages: Vec<Message> =
        (1..=40).map(|n| Message::command(n).of(world.stream_in(0, n as u32)).with(vec![1; 100])).collect();
    messages.push(Message::command(41).of(world.stream_in(1, 1)).with(vec![1; 100]));
    messages.push(Message::command(42).of(world.stream_in(2, 1)).with(vec![1; 500]));
    a.append(&messages).await;
    for partition in 0..3 {
        let got = a.read(partition, 0).await;
        let units: Vec<Unit<'_>> = got.iter().map(|got| got.retry_in(NOW)).collect();
        assert!(applied(&a.units(&units).await));
    }
    let limit = |messages: usize, bytes: usize| Limit { messages, bytes };
    assert_eq!(a.due_within(limit(0, 1 << 20)).await, []);
    assert_eq!(numbers(&a.due_within(limit(9, 250)).await), [1, 41]);
    assert_eq!(numbers(&a.due_within(limit(2, 1_000)).await), [42, 2], "in order of position, then");
    assert_eq!(numbers(&a.due_within(limit(3, 1 << 20)).await), [3, 4, 5]);
    assert_eq!(numbers(&a.due_within(limit(3, 1)).await), [6], "a single one may exceed the bytes");
    assert_eq!(a.due_within(limit(99, 1 << 20)).await.len(), 34);
}

/// Handed out and not run: as if it had not been handed out.
pub async fn due_work_that_is_given_back_comes_again<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].retry_in(NOW)]).await;
    let due = a.due().await;
    assert!(applied(&a.units(&[due[0].ends(Settle::Release)]).await));
    let again = a.due().await;
    assert_eq!((again[0].attempt, again[0].origin), (2, Origin::Parked));
    // A suspect that is given back is a suspect again.
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    let suspect = b.due().await;
    assert_eq!(
        (suspect[0].attempt, suspect[0].origin),
        (2, Origin::Suspect),
        "it was handed out with others"
    );
    assert!(applied(&b.units(&[suspect[0].ends(Settle::Release)]).await));
    let suspect = b.due().await;
    assert_eq!((suspect[0].attempt, suspect[0].origin), (2, Origin::Suspect));
    let mut c = world.joined().await;
    world.kill_and_evict(b, &mut c).await;
    let suspect = c.due().await;
    assert_eq!(suspect[0].attempt, 3, "it was alone this time");
    let settled: [Settled; 0] = [];
    assert!(c.ok(WorkBatch { settled: &settled, ..c.batch() }).await.settled.is_empty());
}
