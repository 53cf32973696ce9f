//! Reading the log: limits, windows, holes, lanes that wait.

use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Condition, Epoch, LaneState, Limit, OnDead, Operation, OperationAnswer, Partition, Read,
    ReadAnswer, Service, Settle, SettledAnswer, StartAt, SubscriptionId, SubscriptionSpec, WorkBatch,
};

use crate::{ALL, Fixture, Got, Message, World, applied, numbers, positions, subscription};

/// Scenario 37: Only the owner reads a partition, under its epoch; others get `Fenced`.
pub async fn s37_only_the_owner_reads<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::command(1).of(stream)]).await;
    let right = a.reads(0, 0);
    for wrong in [
        Read { epoch: Epoch(0), ..right },
        Read { epoch: Epoch(2), ..right },
        Read { partition: Partition(2), ..right },
        Read { partition: Partition(u32::MAX), ..right },
    ] {
        assert_eq!(a.try_read(wrong).await, ReadAnswer::Fenced, "{wrong:?}");
    }
    assert_eq!(b.try_read(right).await, ReadAnswer::Fenced);
    let unknown = Read { subscription: SubscriptionId(99), ..right };
    assert_eq!(a.try_read(unknown).await, ReadAnswer::Paused);
    let none = Read { subscription: SubscriptionId(0), ..right };
    assert_eq!(a.try_read(none).await, ReadAnswer::Paused);
    // A read that was refused gave nothing.
    assert_eq!(a.settle(0, 1, 1).await, SettledAnswer::Unknown);
    assert_eq!(numbers(&a.read(0, 0).await), [1]);
    // What was released is fenced for the old owner and read by the new one.
    a.release(&[Partition(0)]).await;
    assert_eq!(a.try_read(right).await, ReadAnswer::Fenced);
    b.heartbeat().await;
    assert_eq!(numbers(&b.read(0, 0).await), [1]);
}

/// Scenario 38: Limit of messages and limit of bytes both hold; a single message over the byte limit is still returned, alone.
pub async fn s38_both_limits_hold<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let sized = |n: u64, bytes: usize| Message {
        metadata: vec![1; 10],
        ..Message::command(n).with(vec![1; bytes - 10])
    };
    a.append(&[sized(1, 100), sized(2, 100), sized(3, 500), sized(4, 100), sized(5, 100)]).await;
    let read = |after: u64, messages: usize, bytes: usize| Read {
        limit: Limit { messages, bytes },
        ..a.reads(0, after)
    };
    let cases = [
        (read(0, 2, 1_000), vec![1, 2], 2),
        (read(0, 9, 200), vec![1, 2], 2),
        (read(0, 9, 199), vec![1], 1),
        (read(0, 9, 1), vec![1], 1),
        (read(2, 9, 100), vec![3], 3),
        (read(3, 9, 200), vec![4, 5], 5),
        (read(0, 5, 9_000), vec![1, 2, 3, 4, 5], 5),
        (read(0, 0, 9_000), vec![], 0),
        (read(3, 0, 9_000), vec![], 3),
        (read(5, 9, 9_000), vec![], 5),
    ];
    for (read, expected, through) in cases {
        let (got, looked) = a.reading(read).await;
        assert_eq!((positions(&got), looked), (expected, through), "{read:?}");
    }
}

/// Scenario 39: Reads over ten partitions with one huge: the nine small ones are served too.
pub async fn s39_a_full_partition_does_not_starve_the_others<F: Fixture>() {
    let mut world = World::<F>::new(10).await;
    let mut a = world.joined().await;
    let mut messages: Vec<Message> =
        (0..500).map(|n| Message::command(n).of(world.stream_in(0, 1))).collect();
    messages.extend((1..10).map(|p| Message::command(1_000 + u64::from(p)).of(world.stream_in(p, 1))));
    a.append(&messages).await;
    let reads: Vec<Read> =
        (0..10).map(|p| Read { limit: Limit { messages: 20, bytes: 1 << 20 }, ..a.reads(p, 0) }).collect();
    let answer = a.ok(WorkBatch { reads: &reads, ..a.batch() }).await;
    let got = Got::all(&answer.page);
    for (partition, read) in (0..).zip(&answer.reads) {
        let ReadAnswer::Messages { messages, through } = read else { panic!("{read:?}") };
        let (count, looked) = if partition == 0 { (20, 20) } else { (1, 1) };
        assert_eq!((messages.len(), through.0), (count, looked));
        assert!(got[messages.clone()].iter().all(|got| got.partition == Partition(partition)));
    }
}

/// Scenario 40: Reading twice from the same position returns the same messages.
pub async fn s40_a_read_can_be_made_twice<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=5).map(Message::command).collect::<Vec<_>>()).await;
    let first = a.reading(a.reads(0, 1)).await;
    assert_eq!(a.reading(a.reads(0, 1)).await, first);
    assert_eq!(positions(&first.0), [2, 3, 4, 5]);
    // What was settled in between is left out.
    a.settle(0, 3, 4).await;
    assert_eq!(positions(&a.read(0, 1).await), [2, 5]);
}

/// Scenario 21: A message is readable in the same call, also behind messages that its owner has never had in memory.
pub async fn s21_what_a_batch_appends_is_read_behind_what_lies_there<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::command(1).of(stream), Message::event(2, stream), Message::command(3)]).await;
    a.leave(&[]).await;
    let mut b = world.joined().await;
    let messages = [Message::command(4).of(stream), Message::event(5, stream)];
    let appends = [messages[0].append(), messages[1].append()];
    let reads = [b.reads(0, 0)];
    let answer = b.ok(WorkBatch { appends: &appends, reads: &reads, ..b.batch() }).await;
    let ReadAnswer::Messages { messages, through } = &answer.reads[0] else { panic!("{:?}", answer.reads) };
    assert_eq!(numbers(&Got::all(&answer.page)[messages.clone()]), [1, 2, 3, 4, 5]);
    assert_eq!(through.0, 5);
    assert_eq!(numbers(&b.read(0, 0).await), [1, 2, 3, 4, 5]);
}

/// Scenario 40a: Events and trimmed commands interleaved, a late subscription: `through` passes the holes, `low` reaches the end.
pub async fn s40a_holes_are_passed_and_settled<F: Fixture>() {
    let mut world = World::<F>::with(Service { partitions: 1, window: 16, ..Service::named("holes") }).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let message = |n: u64| {
        if n.is_multiple_of(5) { Message::event(n, stream) } else { Message::command(n).of(stream) }
    };
    a.append(&(1..=42).map(message).collect::<Vec<_>>()).await;
    let mut place = 0;
    while place < 42 {
        let (_, through) = a.reading(a.reads(0, place)).await;
        a.settle(0, place + 1, through).await;
        assert!(through > place);
        place = through;
    }
    a.housekeep(1_000).await;
    let late = a.operate(Operation::Register { group: "group", subscription: subscription("late") }).await;
    let OperationAnswer::Registered(late) = late else { panic!("{late:?}") };
    let told = a.heartbeat().await;
    let cursor = told.owned[0].cursors[1];
    assert_eq!((cursor.subscription, cursor.low.0, cursor.read_from.0), (late, 4, 4));
    let mut place = 4;
    let mut seen = Vec::new();
    while place < 42 {
        let read =
            Read { subscription: late, limit: Limit { messages: 2, bytes: 1 << 20 }, ..a.reads(0, place) };
        let (got, through) = a.reading(read).await;
        assert!(through > place, "the window ends at {} but nothing moves", place);
        seen.extend(positions(&got));
        let range = whizbang_storage::Settled { subscription: late, ..a.range(0, place + 1, through) };
        let answer = a.ok(WorkBatch { settled: &[range], ..a.batch() }).await;
        assert_eq!(answer.settled, [SettledAnswer::Applied]);
        place = through;
    }
    assert_eq!(seen, [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(a.heartbeat().await.owned[0].cursors[1].low.0, 42);
    assert!(a.statistics().await.subscriptions.iter().all(|subscription| subscription.lag == 0));
}

/// Scenario 40b: A message whose stream is parked for a subscription says so, also after a change of owner.
pub async fn s40b_a_message_behind_a_parked_one_says_so<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let two = [subscription("all"), SubscriptionSpec { on_dead: OnDead::Halt, ..subscription("halt") }];
    let mut a = world.joined_with(&two).await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    a.append(&[Message::command(1).of(s), Message::command(2).of(t)]).await;
    let got = a.read(0, 0).await;
    let halt = Read { subscription: a.subscriptions[1], ..a.reads(0, 0) };
    let halted = a.reading(halt).await.0;
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: "no" };
    // For `all`, 1 waits and 2 is dead (skipped); for `halt`, 1 is done and 2 is dead (and halts).
    let units =
        [got[0].retry_in(Duration::from_secs(60)), got[1].ends(dead), halted[0].done(), halted[1].ends(dead)];
    assert!(applied(&a.units(&units).await));
    a.append(&[Message::command(3).of(s), Message::command(4).of(t), Message::command(5)]).await;
    let lanes = |got: &[Got]| -> Vec<LaneState> { got.iter().map(|got| got.lane).collect() };
    let (free, parked) = (LaneState::Free, LaneState::Parked);
    assert_eq!(lanes(&a.read(0, 2).await), [parked, free, free]);
    let halt = Read { subscription: a.subscriptions[1], ..a.reads(0, 2) };
    assert_eq!(lanes(&a.reading(halt).await.0), [free, parked, free]);
    a.release(&[Partition(0)]).await;
    let mut b = world.joined_with(&two).await;
    assert_eq!(lanes(&b.read(0, 2).await), [parked, free, free]);
    let halt = Read { subscription: b.subscriptions[1], ..b.reads(0, 2) };
    assert_eq!(lanes(&b.reading(halt).await.0), [free, parked, free]);
    // An unsettled suspect of the lane says so, too.
    world.kill_and_evict(a, &mut b).await;
    let mut c = world.joined_with(&two).await;
    b.read(0, 2).await;
    world.kill_and_evict(b, &mut c).await;
    c.append(&[Message::command(6), Message::command(7).of(t)]).await;
    assert_eq!(lanes(&c.read(0, 5).await), [free, parked], "4 is a suspect of the same stream");
}

/// Scenario 41: Nothing to read: no rows written.
pub async fn s41_reading_nothing_writes_nothing<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1).of(world.stream_in(0, 1))]).await;
    let reads: Vec<Read> = (0..4).map(|p| a.reads(p, 0)).collect();
    a.ok(WorkBatch { reads: &reads, ..a.batch() }).await;
    let before = world.fixture.rows_written().await;
    for _ in 0..5 {
        a.ok(WorkBatch {
            reads: &reads,
            due: Some(ALL),
            arrivals: Some(9),
            housekeeping: Some(9),
            ..a.batch()
        })
        .await;
    }
    assert_eq!(world.fixture.rows_written().await, before);
}

/// Whoever claims to have read what does not exist yet was not given it.
pub async fn a_read_behind_the_end_gives_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    for limit in [Limit { messages: 0, ..ALL }, ALL] {
        let (got, _) = a.reading(Read { limit, ..a.reads(0, 99) }).await;
        assert_eq!(got, []);
    }
    assert_eq!(numbers(&a.read(0, 0).await), [1]);
    let message = Message::command(2);
    let now = whizbang_storage::Append { hand_out: whizbang_storage::HandOut::Now, ..message.append() };
    let answer = a.ok(WorkBatch { appends: &[now], ..a.batch() }).await;
    assert!(
        matches!(answer.appends[0], AppendAnswer::Stored { handed_out: true, .. }),
        "{:?}",
        answer.appends
    );
}

/// Scenario 42: A row that cannot be read back: that message alone is reported damaged; its neighbours are delivered.
pub async fn s42_a_damaged_row_is_reported_alone<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=3).map(Message::command).collect::<Vec<_>>()).await;
    let service = world.service.clone();
    world.fixture.damage(&service, Partition(0), whizbang_storage::Position(2)).await;
    let got = a.read(0, 0).await;
    assert_eq!(positions(&got), [1, 2, 3]);
    let conditions: Vec<Condition> = got.iter().map(|got| got.condition).collect();
    assert_eq!(conditions, [Condition::Whole, Condition::Damaged, Condition::Whole]);
    assert_eq!((numbers([&got[0], &got[2]]), got[1].payload.len()), (vec![1, 3], 0));
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Damaged, error: "" };
    assert!(applied(&a.units(&[got[0].done(), got[1].ends(dead), got[2].done()]).await));
    assert_eq!(a.low(0).await, 3);
    assert_eq!(a.dead_letters().await.len(), 1);
}

/// Reads stop at `low` + window, and go on when `low` moves.
pub async fn reads_stop_at_the_window<F: Fixture>() {
    let mut world = World::<F>::with(Service { partitions: 1, window: 8, ..Service::named("window") }).await;
    let mut a = world.joined().await;
    a.append(&(1..=30).map(Message::command).collect::<Vec<_>>()).await;
    assert_eq!(a.reading(a.reads(0, 0)).await.1, 8);
    assert_eq!(a.reading(a.reads(0, 8)).await, (vec![], 8));
    a.settle(0, 2, 8).await;
    assert_eq!(a.reading(a.reads(0, 8)).await, (vec![], 8), "1 holds the window back");
    a.settle(0, 1, 1).await;
    let (got, through) = a.reading(a.reads(0, 8)).await;
    assert_eq!((positions(&got), through), ((9..=16).collect(), 16));
}

/// A late subscription may start at the end.
pub async fn a_subscription_may_start_at_the_end<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let end = SubscriptionSpec { start: StartAt::End, ..subscription("end") };
    let OperationAnswer::Registered(end) =
        a.operate(Operation::Register { group: "group", subscription: end }).await
    else {
        panic!("it is registered")
    };
    a.append(&[Message::command(3)]).await;
    // From the beginning: what was there before it counts as settled.
    let (got, through) = a.reading(Read { subscription: end, ..a.reads(0, 0) }).await;
    assert_eq!((numbers(&got), through), (vec![3], 3));
    assert_eq!(a.read(0, 0).await.len(), 3);
}
