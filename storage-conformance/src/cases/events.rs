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
            let counted = state(&a, b"count").await.as_deref().map_or(0, count);
            assert_eq!(counted + lag, 20, "what is counted is settled, and nothing else is");
        }
    }
}

/// The state of a projection, which its revision names.
async fn state<S: WorkStore>(member: &Member<S>, key: &[u8]) -> Option<Vec<u8>> {
    let stored = member.store.reader().projection("totals", key).await.expect("the reading side answers")?;
    assert_eq!((&stored.key[..], stored.revision), (key, Revision::of(&stored.state)));
    Some(stored.state)
}

/// A state and the one that counts one more.
async fn next<S: WorkStore>(member: &Member<S>, key: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
    let before = state(member, key).await;
    let count = before.as_deref().map_or(0, count);
    (before, (count + 1).to_string().into_bytes())
}

/// What a state counts.
fn count(state: &[u8]) -> u64 {
    String::from_utf8_lossy(state).parse().expect("it is a number")
}

/// Handles a message by adding one to a projection, in one unit, until it is applied; how often it conflicted.
async fn add_one<S: WorkStore>(member: &mut Member<S>, got: &Got, key: &[u8]) -> u32 {
    let mut conflicts = 0;
    loop {
        let (before, after) = next(member, key).await;
        let projections = [projection(key, before.as_deref(), Some(&after))];
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
        let (before, after) = next(&a, b"count").await;
        let projections = [projection(b"count", before.as_deref(), Some(&after))];
        assert!(applied(&a.units(&[Unit { projections: &projections, ..mine.done() }]).await));
        let stale = b.units(&[Unit { projections: &projections, ..theirs.done() }]).await;
        assert_eq!(stale, [UnitAnswer::ProjectionConflict { index: 0 }]);
        conflicts += 1;
        add_one(&mut b, theirs, b"count").await;
    }
    assert_eq!(conflicts, 200);
    assert_eq!(state(&a, b"count").await.as_deref(), Some(&b"400"[..]));
    assert_eq!((a.low(0).await, b.low(1).await), (200, 200));
    // In one batch: the second sees what the first has written.
    a.append(&[
        Message::command(900).of(world.stream_in(0, 1)),
        Message::command(901).of(world.stream_in(0, 2)),
    ])
    .await;
    let got = a.read(0, 200).await;
    let from = Some(&b"400"[..]);
    let once = [projection(b"other", from, Some(b"1")), projection(b"count", from, Some(b"401"))];
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
    let write = |key: &'static [u8], from: Option<&'static [u8]>, state: Option<&'static [u8]>| {
        [projection(key, from, state)]
    };
    for (projections, expected) in [
        (write(b"k", None, Some(b"1")), true),
        (write(b"k", None, Some(b"1")), false),
        (write(b"k", Some(b""), Some(b"1")), false),
        (write(b"k", Some(b"1"), Some(b"")), true),
        (write(b"k", Some(b"1"), None), false),
        (write(b"k", Some(b""), None), true),
        (write(b"k", None, None), true),
        (write(b"k", Some(b""), None), false),
        (write(b"k", None, Some(b"new")), true),
        (write(b"\0\xFF'", None, Some(b"\0")), true),
        (write(b"z", None, Some(b"\xFF")), true),
    ] {
        let answers = a.units(&[Unit { projections: &projections, ..group(&[]) }]).await;
        assert_eq!(applied(&answers), expected, "{projections:?}: {answers:?}");
    }
    let reader = a.store.reader();
    let one = reader.projection("totals", b"k").await.expect("it is read").expect("it is there");
    assert_eq!((one.revision, &one.state[..]), (Revision::of(b"new"), &b"new"[..]));
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

/// What was computed from a state replaces that state alone: not one that others wrote, in whatever step, nor one that was deleted
/// and made anew. Where the same state is there again, what was computed from it still holds.
pub async fn what_was_computed_from_a_state_replaces_no_other<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    async fn writes<S: WorkStore>(member: &mut Member<S>, from: Option<&[u8]>, to: Option<&[u8]>) -> bool {
        let projections = [projection(b"k", from, to)];
        match member.units(&[Unit { projections: &projections, ..group(&[]) }]).await[0] {
            UnitAnswer::Applied { .. } => true,
            UnitAnswer::ProjectionConflict { index: 0 } => false,
            ref other => panic!("{other:?}"),
        }
    }
    // Read by one, deleted and made anew by another.
    assert!(writes(&mut a, None, Some(b"1")).await);
    assert_eq!(state(&b, b"k").await.as_deref(), Some(&b"1"[..]));
    assert!(writes(&mut a, Some(b"1"), None).await);
    assert!(writes(&mut a, None, Some(b"anew")).await);
    for to in [Some(&b"2"[..]), None] {
        assert!(!writes(&mut b, Some(b"1"), to).await, "it was computed from what is gone");
    }
    assert_eq!(state(&a, b"k").await.as_deref(), Some(&b"anew"[..]));
    // Both go on from the same state, and one runs ahead: its second write is based on its first, which is not applied.
    assert!(writes(&mut a, Some(b"anew"), Some(b"of a")).await);
    assert!(!writes(&mut b, Some(b"anew"), Some(b"of b")).await);
    assert!(!writes(&mut b, Some(b"of b"), Some(b"of b, too")).await, "it was computed from what never was");
    assert_eq!(state(&b, b"k").await.as_deref(), Some(&b"of a"[..]));
    // Within a batch as well.
    let ahead = [
        [projection(b"k", Some(b"of a"), Some(b"3"))],
        [projection(b"k", Some(b"3"), None)],
        [projection(b"k", None, Some(b"4"))],
        [projection(b"k", Some(b"3"), Some(b"5"))],
        [projection(b"k", Some(b"4"), Some(b"of a"))],
    ];
    let answers = a.units(&ahead.each_ref().map(|write| Unit { projections: write, ..group(&[]) })).await;
    assert!(applied(&answers[..3]) && applied(&answers[4..]), "{answers:?}");
    assert_eq!(answers[3], UnitAnswer::ProjectionConflict { index: 0 });
    // The same state once more.
    assert!(writes(&mut b, Some(b"of a"), Some(b"6")).await);
    assert_eq!(state(&a, b"k").await.as_deref(), Some(&b"6"[..]));
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
