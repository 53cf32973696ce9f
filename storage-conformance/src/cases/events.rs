//! Event streams and projections, and subscriptions that come late or go.

use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Expected, Limit, Operation, OperationAnswer, Partition, Read, Revision, Settle,
    StoreReader, Unit, UnitAnswer, Version, WorkBatch, WorkStore,
};

use crate::{
    ALL, Fixture, Got, Member, Message, World, applied, group, numbers, positions, projection, subscription,
};

/// Scenario 66: Versions of a stream are 1, 2, 3 … whoever appends, also across instances and owners.
pub async fn s66_versions_have_no_gaps_whoever_appends<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let (stream, other) = (world.stream_in(0, 1), world.stream_in(0, 2));
    for n in 0..10 {
        a.append(&[
            Message::event(3 * n, stream),
            Message::event(100 + n, other),
            Message::command(200 + n).of(stream),
        ])
        .await;
        b.append(&[Message::event(3 * n + 1, stream)]).await;
        a.move_arrivals().await;
    }
    a.release(&[Partition(0)]).await;
    b.heartbeat().await;
    b.append(&[Message::event(300, stream), Message::event(301, other)]).await;
    let versions =
        |got: &[Got]| -> Vec<u64> { got.iter().filter_map(|got| got.version).map(|v| v.0).collect() };
    assert_eq!(versions(&b.history(stream, 0, 99).await), (1..=21).collect::<Vec<_>>());
    assert_eq!(versions(&b.history(other, 0, 99).await), (1..=11).collect::<Vec<_>>());
    let mut c = world.joined().await;
    b.leave(&[]).await;
    world.kill_and_evict(a, &mut c).await;
    c.heartbeat().await;
    assert!(matches!(
        c.append(&[Message::event(302, stream)]).await[0],
        AppendAnswer::Stored { version: Some(Version(22)), .. }
    ));
}

/// Scenario 67: Reading a stream's history from version n: in order, complete, only committed.
pub async fn s67_a_history_is_complete_and_in_order<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let (stream, other) = (world.stream_in(0, 1), world.stream_in(0, 2));
    let mut messages = Vec::new();
    for n in 0..20 {
        messages.extend([
            Message::event(n, stream),
            Message::event(100 + n, other),
            Message::command(200 + n).of(stream),
        ]);
    }
    a.append(&messages).await;
    assert_eq!(numbers(&a.history(stream, 0, 99).await), (0..20).collect::<Vec<_>>());
    assert_eq!(numbers(&a.history(stream, 15, 3).await), [15, 16, 17]);
    assert_eq!(numbers(&a.history(stream, 18, 99).await), [18, 19]);
    assert_eq!(a.history(stream, 20, 99).await, []);
    assert_eq!(a.history(stream, 99, 99).await, []);
    assert_eq!(a.history(world.stream_in(0, 3), 0, 99).await, []);
    let got = a.history(stream, 0, 1).await;
    assert_eq!(
        (got[0].version, got[0].position.0, &got[0].payload),
        (Some(Version(1)), 1, &messages[0].payload)
    );
    // What is on its way, or in a unit that was not applied, is not there.
    let mut b = world.joined().await;
    b.append(&[Message::event(50, stream)]).await;
    a.append(&[Message::event(51, stream).due_in(Duration::from_secs(1))]).await;
    let (emit, wrong) = (Message::event(52, stream), [Expected { stream, version: Version(1) }]);
    let emits = [emit.append()];
    let answers = a.units(&[Unit { expects: &wrong, ..group(&emits) }]).await;
    assert_eq!(answers, [UnitAnswer::StreamConflict { stream, actual: Version(21) }]);
    assert_eq!(a.history(stream, 0, 99).await.len(), 20);
    a.move_arrivals().await;
    assert_eq!(numbers(&a.history(stream, 20, 99).await), [50]);
}

/// Scenario 68: A projection and its cursor after any crash: both moved or neither.
pub async fn s68_a_projection_moves_with_its_cursor<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=20).map(Message::command).collect::<Vec<_>>()).await;
    let mut random = fastrand::Rng::with_seed(68);
    let mut restarts = 0;
    while restarts < 6 {
        let mut work = a.due_within(Limit { messages: 1, ..ALL }).await;
        if work.is_empty() {
            work = a.read(0, 0).await;
        }
        if let Some(got) = work.first() {
            add_one(&mut a, got, b"count").await;
        }
        if random.u32(0..3) == 0 {
            let mut next = world.joined().await;
            world.kill_and_evict(a, &mut next).await;
            a = next;
            restarts += 1;
            let lag = a.statistics().await.subscriptions[0].lag;
            let counted = value(&a, b"count").await.map_or(0, |(_, value)| value);
            assert_eq!(counted + lag, 20, "what is counted is settled, and nothing else is");
        }
    }
}

/// What a projection counts, and its revision.
async fn value<S: WorkStore>(member: &Member<S>, key: &[u8]) -> Option<(Revision, u64)> {
    let stored = member.store.reader().projection("totals", key).await.expect("the reading side answers")?;
    assert_eq!(stored.key, key);
    Some((stored.revision, String::from_utf8_lossy(&stored.state).parse().expect("it is a number")))
}

/// Handles a message by adding one to a projection, in one unit, until it is applied; how often it conflicted.
async fn add_one<S: WorkStore>(member: &mut Member<S>, got: &Got, key: &[u8]) -> u32 {
    let mut conflicts = 0;
    loop {
        let before = value(member, key).await;
        let state = before.map_or(1, |(_, value)| value + 1).to_string();
        let projections = [projection(key, before.map(|(revision, _)| revision.0), Some(state.as_bytes()))];
        match member.units(&[Unit { projections: &projections, ..got.done() }]).await[0] {
            UnitAnswer::Applied { .. } => return conflicts,
            UnitAnswer::ProjectionConflict { index: 0 } => conflicts += 1,
            ref other => panic!("{other:?}"),
        }
    }
}

/// Scenario 69: One key incremented from two streams of one partition and from two of different owners: nothing is lost.
pub async fn s69_a_shared_projection_loses_no_update<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.release(&[Partition(1)]).await;
    b.heartbeat().await;
    let mut sent = 0;
    for (partition, member) in [(0, &mut a), (1, &mut b)] {
        let messages: Vec<Message> = (0..200)
            .map(|n| Message::command(sent + n).of(world.stream_in(partition, n as u32 % 2)))
            .collect();
        member.append(&messages).await;
        sent += 200;
    }
    // Both read the same revision and write: one conflicts, and nothing of it is written.
    let (mine, theirs) = (a.read(0, 0).await, b.read(1, 0).await);
    let mut conflicts = 0;
    for (mine, theirs) in mine.iter().zip(&theirs) {
        let before = value(&a, b"count").await;
        let state = before.map_or(1, |(_, value)| value + 1).to_string();
        let projections =
            [projection(b"count", before.map(|(revision, _)| revision.0), Some(state.as_bytes()))];
        assert!(applied(&a.units(&[Unit { projections: &projections, ..mine.done() }]).await));
        let stale = b.units(&[Unit { projections: &projections, ..theirs.done() }]).await;
        assert_eq!(stale, [UnitAnswer::ProjectionConflict { index: 0 }]);
        conflicts += 1;
        add_one(&mut b, theirs, b"count").await;
    }
    assert_eq!(conflicts, 200);
    assert_eq!(value(&a, b"count").await, Some((Revision(400), 400)));
    assert_eq!((a.low(0).await, b.low(1).await), (200, 200));
    // In one batch: the second sees what the first has written.
    a.append(&[
        Message::command(900).of(world.stream_in(0, 1)),
        Message::command(901).of(world.stream_in(0, 2)),
    ])
    .await;
    let got = a.read(0, 200).await;
    let once = [projection(b"other", Some(400), Some(b"1")), projection(b"count", Some(400), Some(b"401"))];
    let answers = a
        .units(&[
            Unit { projections: &once, ..got[0].done() },
            Unit { projections: &once[1..], ..got[0].done() },
            Unit { projections: &once[1..], ..got[1].done() },
        ])
        .await;
    assert_eq!(answers[0], UnitAnswer::ProjectionConflict { index: 0 });
    assert_eq!(answers[1], UnitAnswer::Skipped);
    assert!(applied(&answers[2..]));
    let answers = a.units(&[Unit { projections: &once[1..], ..got[0].done() }]).await;
    assert_eq!(answers, [UnitAnswer::ProjectionConflict { index: 0 }]);
}

/// Scenario 70: Projection delete, then read: gone; delete again: no error.
pub async fn s70_a_deleted_projection_is_gone<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let write = |key: &'static [u8], based_on: Option<u64>, state: Option<&'static [u8]>| {
        [projection(key, based_on, state)]
    };
    for (projections, expected) in [
        (write(b"k", None, Some(b"1")), true),
        (write(b"k", None, Some(b"1")), false),
        (write(b"k", Some(2), Some(b"1")), false),
        (write(b"k", Some(1), Some(b"")), true),
        (write(b"k", Some(1), None), false),
        (write(b"k", Some(2), None), true),
        (write(b"k", None, None), true),
        (write(b"k", Some(2), None), false),
        (write(b"k", None, Some(b"new")), true),
        (write(b"\0\xFF'", None, Some(b"\0")), true),
        (write(b"z", None, Some(b"\xFF")), true),
    ] {
        let answers = a.units(&[Unit { projections: &projections, ..group(&[]) }]).await;
        assert_eq!(applied(&answers), expected, "{projections:?}: {answers:?}");
    }
    let reader = a.store.reader();
    let one = reader.projection("totals", b"k").await.expect("it is read").expect("it is there");
    assert_eq!((one.revision, &one.state[..]), (Revision(1), &b"new"[..]));
    let page = |after: &'static [u8], count: usize| reader.projections("totals", after, count);
    let keys = |page: Vec<whizbang_storage::ProjectionState>| -> Vec<Vec<u8>> {
        page.into_iter().map(|p| p.key).collect()
    };
    assert_eq!(keys(page(b"", 9).await.expect("it is read")), [&b"\0\xFF'"[..], b"k", b"z"]);
    assert_eq!(keys(page(b"", 2).await.expect("it is read")), [&b"\0\xFF'"[..], b"k"]);
    assert_eq!(keys(page(b"k", 9).await.expect("it is read")), [b"z"]);
    assert_eq!(reader.projections("other", b"", 9).await.expect("it is read"), []);
    assert_eq!(reader.projection("other", b"k").await.expect("it is read"), None);
}

/// Scenario 71: A new subscription joins late: it starts at the first kept position, and the others are not disturbed.
pub async fn s71_a_late_subscription_starts_where_it_asks<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[
        Message::command(1),
        Message::event(2, stream),
        Message::command(3),
        Message::event(4, stream),
    ])
    .await;
    let got = a.read(0, 0).await;
    assert!(applied(&a.units(&[got[3].done()]).await));
    a.settle(0, 1, 2).await;
    a.housekeep(99).await;
    let mut b = world.member().await;
    let told = b.join(Some("group"), &[subscription("late"), subscription("all")], &[]).await;
    assert_eq!(told.subscriptions[1], a.subscription(), "a known one keeps its number");
    let late = Read { subscription: told.subscriptions[0], ..a.reads(0, 0) };
    let (got, through) = a.reading(late).await;
    assert_eq!((positions(&got), through), (vec![2, 3, 4], 4));
    assert_eq!(positions(&a.read(0, 0).await), [3]);
    assert_eq!(a.low(0).await, 2);
    // The same name in another group is another subscription.
    let other = a.operate(Operation::Register { group: "other", subscription: subscription("all") }).await;
    assert!(matches!(other, OperationAnswer::Registered(id) if id != a.subscription()));
}

/// Scenario 72: A subscription is dropped: its cursors and parked work go, and trimming no longer waits for it.
pub async fn s72_a_dropped_subscription_is_gone_and_holds_nothing_up<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("slow")]).await;
    a.append(&[Message::command(1), Message::command(2), Message::command(3)]).await;
    a.read(0, 0).await;
    a.settle(0, 1, 3).await;
    let slow = a.subscriptions[1];
    let got = a.reading(Read { subscription: slow, ..a.reads(0, 0) }).await.0;
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: "no" };
    a.units(&[got[1].ends(dead), got[2].retry_in(Duration::ZERO)]).await;
    assert_eq!(a.housekeep(99).await, 0);
    assert_eq!(a.operate(Operation::Drop(slow)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Drop(slow)).await, OperationAnswer::Gone);
    assert_eq!(a.operate(Operation::Pause(slow)).await, OperationAnswer::Gone);
    assert_eq!((a.dead_letters().await.len(), a.due().await.len()), (0, 0));
    assert_eq!(a.units(&[got[0].done()]).await, [UnitAnswer::Unknown]);
    let read = Read { subscription: slow, ..a.reads(0, 0) };
    assert_eq!(a.try_read(read).await, whizbang_storage::ReadAnswer::Paused);
    assert_eq!(a.heartbeat().await.owned[0].cursors.len(), 1);
    assert_eq!(a.housekeep(99).await, 3);
    assert_eq!(a.statistics().await.subscriptions.len(), 1);
    // Registered again it is a new one.
    let OperationAnswer::Registered(again) =
        a.operate(Operation::Register { group: "group", subscription: subscription("slow") }).await
    else {
        panic!("it is registered")
    };
    assert!(again > slow);
    a.append(&[Message::command(4)]).await;
    let batch = WorkBatch { reads: &[Read { subscription: again, ..a.reads(0, 3) }], ..a.batch() };
    let answer = a.ok(batch).await;
    assert_eq!(numbers(&Got::all(&answer.page)), [4]);
}
