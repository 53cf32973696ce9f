//! Settling: cursors, fences, units that are whole or not there.

use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Delivery, Epoch, Expected, Operation, Partition, Position, Read, Refusal, Settle, Settled,
    SettledAnswer, SubscriptionId, Unit, UnitAnswer, Version, WorkBatch,
};

use crate::{
    ALL, Fault, Faulty, Fixture, Message, World, applied, group, numbers, positions, projection, stored,
    subscription,
};

/// Scenario 43: Done: not returned after a restart of the owner; the cursor has moved.
pub async fn s43_what_is_done_does_not_come_back<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=4).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    assert_eq!(a.settle(0, 1, 2).await, SettledAnswer::Applied);
    assert!(applied(&a.units(&[got[2].done()]).await));
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    assert_eq!(b.heartbeat().await.owned[0].cursors[0].low, Position(3));
    assert_eq!(numbers(&b.due().await), [4]);
    assert_eq!(b.read(0, 3).await, []);
    // After a graceful leave, the same by reading.
    let mut c = world.joined().await;
    b.leave(&[]).await;
    c.heartbeat().await;
    assert_eq!(numbers(&c.due().await), [4], "it came as a suspect, and comes as one again");
}

/// Scenario 44: Done out of order (3 before 1 and 2), then a crash: the successor gets 1 and 2, never 3.
pub async fn s44_what_is_done_out_of_order_survives_a_crash<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=6).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    assert!(applied(&a.units(&[got[2].done(), got[4].done()]).await));
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    let mut given = Vec::new();
    for suspect in b.due().await {
        given.extend(positions([&suspect]));
        assert!(applied(&b.units(&[suspect.done()]).await));
    }
    assert_eq!(given, [1, 2, 4, 6]);
    assert_eq!(b.low(0).await, 6);
}

/// Scenario 44: The same when the owner gave the partition back.
pub async fn s44_what_is_done_out_of_order_survives_a_release<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=6).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    assert!(applied(&a.units(&[got[2].done(), got[4].done()]).await));
    let mut b = world.joined().await;
    a.release(&[Partition(0)]).await;
    assert_eq!(b.heartbeat().await.owned[0].cursors[0].read_from, Position(0));
    assert_eq!(b.due().await, []);
    let got = b.read(0, 0).await;
    assert_eq!(positions(&got), [1, 2, 4, 6]);
    assert!(got.iter().all(|got| got.attempt == 1 && got.epoch == Epoch(2)));
}

/// Scenario 45: All done: `low` equals the end, the set above it is empty.
pub async fn s45_when_all_is_done_nothing_is_left_above_low<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut random = fastrand::Rng::with_seed(45);
    a.append(&(1..=200).map(Message::command).collect::<Vec<_>>()).await;
    let mut got = a.read(0, 0).await;
    random.shuffle(&mut got);
    for chunk in got.chunks(17) {
        let units: Vec<Unit<'_>> = chunk.iter().map(|got| got.done()).collect();
        assert!(applied(&a.units(&units).await));
    }
    assert_eq!(a.low(0).await, 200);
    assert_eq!(a.statistics().await.subscriptions[0].lag, 0);
    assert_eq!(a.read(0, 0).await, []);
}

/// Scenario 46: Settle twice in two batches: `AlreadySettled`. Twice in one batch: one applied, one already settled.
pub async fn s46_what_is_settled_is_settled_once<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=9).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    let answers = a.units(&[got[0].done(), got[0].done(), got[1].done()]).await;
    assert!(applied(&answers[..1]) && applied(&answers[2..]));
    assert_eq!(answers[1], UnitAnswer::AlreadySettled);
    assert_eq!(a.units(&[got[1].done()]).await, [UnitAnswer::AlreadySettled]);
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: "no" };
    assert!(applied(&a.units(&[got[2].ends(dead)]).await));
    for settle in [Settle::Done, dead, Settle::Detach] {
        assert_eq!(a.units(&[got[2].ends(settle)]).await, [UnitAnswer::AlreadySettled]);
    }
    let ranges = [a.range(0, 4, 6), a.range(0, 5, 6), a.range(0, 4, 7)];
    let answer = a.ok(WorkBatch { settled: &ranges, ..a.batch() }).await;
    assert_eq!(
        answer.settled,
        [SettledAnswer::Applied, SettledAnswer::AlreadySettled, SettledAnswer::Applied]
    );
    assert_eq!(a.settle(0, 1, 7).await, SettledAnswer::AlreadySettled);
    assert_eq!(a.units(&[got[5].done()]).await, [UnitAnswer::AlreadySettled]);
    assert_eq!(a.low(0).await, 7);
}

/// Scenario 46a: Ranges of plainly finished positions and units mixed: the cursor is the union.
pub async fn s46a_ranges_and_units_make_one_cursor<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=12).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    let units = [got[0].done(), got[4].done(), got[9].retry_in(Duration::ZERO)];
    let ranges = [a.range(0, 2, 3), a.range(0, 6, 8), a.range(0, 5, 6)];
    let answer = a.ok(WorkBatch { units: &units, settled: &ranges, ..a.batch() }).await;
    assert!(applied(&answer.units));
    assert_eq!(
        answer.settled,
        [SettledAnswer::Applied, SettledAnswer::Applied, SettledAnswer::AlreadySettled]
    );
    assert_eq!(a.low(0).await, 3);
    assert_eq!(positions(&a.read(0, 0).await), [4, 9, 11, 12]);
    assert_eq!(a.settle(0, 4, 4).await, SettledAnswer::Applied);
    assert_eq!(a.low(0).await, 8);
}

/// Scenario 46b: A late answer of an attempt that timed out, while the next attempt runs: refused.
pub async fn s46b_a_late_answer_of_an_earlier_attempt_is_fenced<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    assert!(applied(&a.units(&[got[0].retry_in(Duration::ZERO)]).await));
    // Not even while it waits, and not by a range.
    assert_eq!(a.units(&[got[0].done()]).await, [UnitAnswer::Fenced]);
    assert_eq!(a.settle(0, 1, 1).await, SettledAnswer::AlreadySettled, "it left the log's flow");
    let second = a.due().await;
    assert_eq!(second[0].attempt, 2);
    for settle in [Settle::Done, Settle::Detach, Settle::Retry { after: Duration::ZERO, error: "late" }] {
        assert_eq!(a.units(&[got[0].ends(settle)]).await, [UnitAnswer::Fenced]);
    }
    let early = Delivery { attempt: 3, ..second[0].delivery() };
    assert_eq!(a.units(&[Unit { delivery: Some(early), ..second[0].done() }]).await, [UnitAnswer::Fenced]);
    assert!(applied(&a.units(&[second[0].done()]).await));
    assert_eq!(a.units(&[second[0].done()]).await, [UnitAnswer::AlreadySettled]);
    let wrong = Delivery { attempt: 2, ..got[1].delivery() };
    assert_eq!(
        a.units(&[Unit { delivery: Some(wrong), ..got[1].done() }]).await,
        [UnitAnswer::Fenced],
        "never handed out as the second"
    );
}

/// Scenario 47: Unknown position: `Unknown`, the others applied.
pub async fn s47_what_was_never_handed_out_is_unknown<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&(1..=5).map(Message::command).collect::<Vec<_>>()).await;
    let read = Read { limit: whizbang_storage::Limit { messages: 3, bytes: 1 << 20 }, ..a.reads(0, 0) };
    let got = a.reading(read).await.0;
    let at = |position: u64| Delivery {
        position: Position(position),
        lane: world.stream_in(0, 9),
        ..got[0].delivery()
    };
    let unit = |delivery: Delivery| Unit { delivery: Some(delivery), ..got[0].done() };
    let unknown = Delivery { subscription: SubscriptionId(77), ..got[1].delivery() };
    let units = [unit(at(4)), got[0].done(), unit(unknown), got[1].ends(Settle::Release), unit(at(99))];
    let answers = a.units(&units).await;
    assert!(applied(&answers[1..2]));
    for index in [0, 2, 3] {
        assert_eq!(answers[index], UnitAnswer::Unknown, "unit {index}");
    }
    assert_eq!(answers[4], UnitAnswer::Skipped, "its lane's first unit was not applied");
    let ranges = [a.range(0, 2, 4), a.range(0, 2, u64::MAX), a.range(0, 3, 2), a.range(0, 2, 2)];
    let unknown = Settled { subscription: SubscriptionId(77), ..a.range(0, 3, 3) };
    let ranges = [ranges[0], ranges[1], ranges[2], unknown, ranges[3]];
    let answer = a.ok(WorkBatch { settled: &ranges, ..a.batch() }).await;
    let (unknown, done) = (SettledAnswer::Unknown, SettledAnswer::Applied);
    assert_eq!(answer.settled, [unknown, unknown, unknown, unknown, done]);
    assert_eq!(a.low(0).await, 2);
    // A position that does not exist cannot be a delivery.
    a.settle(0, 3, 3).await;
    a.read(0, 0).await;
    a.settle(0, 4, 5).await;
    a.housekeep(99).await;
    assert_eq!(a.units(&[unit(at(6))]).await, [UnitAnswer::Unknown]);
}

/// Scenario 48: Wrong epoch: `Fenced`; nothing of the unit exists (messages, events, projections), neighbours applied.
pub async fn s48_a_unit_under_another_epoch_leaves_nothing<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::command(1).of(stream), Message::command(2).of(world.stream_in(0, 2))]).await;
    let got = a.read(0, 0).await;
    let (event, command) = (Message::event(10, stream).once(b"key"), Message::command(11));
    let emits = [event.append(), command.append()];
    let projections = [projection(b"k", None, Some(b"state"))];
    for wrong in [Epoch(0), Epoch(2)] {
        let delivery = Delivery { epoch: wrong, ..got[0].delivery() };
        let unit =
            Unit { delivery: Some(delivery), emits: &emits, projections: &projections, ..got[0].done() };
        assert_eq!(a.units(&[unit]).await, [UnitAnswer::Fenced]);
    }
    let elsewhere = Delivery { partition: Partition(9), ..got[0].delivery() };
    let unit = Unit { delivery: Some(elsewhere), emits: &emits, ..got[0].done() };
    let answers = a.units(&[unit, got[1].done()]).await;
    assert_eq!(answers[0], UnitAnswer::Fenced);
    assert!(applied(&answers[1..]));
    let statistics = a.statistics().await;
    assert_eq!(
        (statistics.events, statistics.projections, statistics.dedup_keys, statistics.messages),
        (0, 0, 0, 2)
    );
    assert!(a.answer.emits.is_empty());
    let ranges = [
        Settled { epoch: Epoch(7), ..a.range(0, 1, 1) },
        Settled { partition: Partition(7), ..a.range(0, 1, 1) },
    ];
    let answer = a.ok(WorkBatch { settled: &ranges, ..a.batch() }).await;
    assert_eq!(answer.settled, [SettledAnswer::Fenced; 2]);
    // Right, it is there: the key was not used up.
    let unit = Unit { emits: &emits, projections: &projections, ..got[0].done() };
    assert_eq!(a.units(&[unit]).await, [UnitAnswer::Applied { emits: 0..2 }]);
    assert!(a.answer.emits.iter().all(|emit| matches!(emit, AppendAnswer::Stored { .. })));
}

/// Scenario 49: The owner's time to live passed but nobody evicted it: its settle is applied. Somebody did: refused.
pub async fn s49_an_owner_settles_until_somebody_evicts_it<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    a.read(0, 0).await;
    for _ in 0..5 {
        b.ok(b.batch()).await;
        world.clock.advance(Duration::from_millis(2_500));
    }
    assert_eq!(a.settle(0, 1, 1).await, SettledAnswer::Applied, "nobody looked");
    assert_eq!(b.heartbeat().await.alive, 2, "and it is alive again");
    world.outlive(&mut b).await;
    let range = [a.range(0, 2, 2)];
    let refused = a.send(WorkBatch { settled: &range, ..a.batch() }).await.map(drop);
    assert!(matches!(refused, Err(whizbang_storage::StoreError::Evicted)), "{refused:?}");
    assert_eq!(positions(&b.due().await), [2]);
}

/// Scenario 50: A unit with two messages, one event and a projection: all there or none, wherever the call fails.
pub async fn s50_a_unit_is_whole_or_not_there<F: Fixture>() {
    for fault in [Fault::Before, Fault::AnswerLost] {
        let mut world = World::<F>::new(1).await;
        let plain = world.joined().await;
        let mut a = plain.map(Faulty::new);
        let stream = world.stream_in(0, 1);
        a.append(&[Message::command(1)]).await;
        let got = a.read(0, 0).await;
        let messages = [Message::command(2), Message::event(3, stream), Message::command(4).of(stream)];
        let emits: Vec<_> = messages.iter().map(Message::append).collect();
        let projections = [projection(b"k", None, Some(b"state"))];
        let units = [Unit { emits: &emits, projections: &projections, ..got[0].done() }];
        let batch = WorkBatch { units: &units, ..a.batch() };
        a.store.faults().next(fault);
        assert!(a.send(batch).await.is_err());
        let there = fault == Fault::AnswerLost;
        let statistics = a.statistics().await;
        let counts =
            (statistics.events, statistics.messages, statistics.projections, statistics.subscriptions[0].lag);
        assert_eq!(counts, if there { (1, 3, 1, 3) } else { (0, 1, 0, 1) });
        if there {
            let answers = a.ok(batch).await.units.clone();
            assert_eq!(answers, [UnitAnswer::Applied { emits: 0..3 }]);
        }
        // The process dies here, whatever it knew.
        let mut b = world.joined().await;
        let dead = a.map(Faulty::into_inner);
        world.kill_and_evict(dead, &mut b).await;
        let statistics = b.statistics().await;
        assert_eq!(
            (statistics.events, statistics.messages, statistics.projections),
            if there { (1, 3, 1) } else { (0, 1, 0) }
        );
        assert_eq!(numbers(&b.due().await), if there { vec![] } else { vec![1] });
    }
}

/// Scenario 51: `expects` version 5, stream at 7: `Conflict`; nothing of the unit is written, the delivery is still unsettled.
pub async fn s51_another_version_than_expected_is_a_conflict<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let (stream, other) = (world.stream_in(1, 1), world.stream_in(0, 1));
    a.append(&(1..=7).map(|n| Message::event(n, stream)).collect::<Vec<_>>()).await;
    a.append(&[Message::command(8).of(other), Message::command(9).of(world.stream_in(0, 2))]).await;
    let got = a.read(0, 0).await;
    let emit = Message::event(10, stream);
    let emits = [emit.append()];
    let expects = |version: u64| [Expected { stream, version: Version(version) }];
    for wrong in [0, 5, 6, 8] {
        let expects = expects(wrong);
        let units = [Unit { emits: &emits, expects: &expects, ..got[0].done() }];
        assert_eq!(a.units(&units).await, [UnitAnswer::StreamConflict { stream, actual: Version(7) }]);
    }
    let (wrong, right, empty) = (expects(5), expects(7), [Expected { stream: other, version: Version(0) }]);
    let answers = a
        .units(&[
            Unit { emits: &emits, expects: &wrong, ..got[0].done() },
            Unit { expects: &empty, ..got[1].done() },
        ])
        .await;
    assert!(matches!(answers[0], UnitAnswer::StreamConflict { .. }));
    assert!(applied(&answers[1..]));
    assert_eq!(positions(&a.read(0, 0).await), [1], "still unsettled");
    assert!(applied(&a.units(&[Unit { emits: &emits, expects: &right, ..got[0].done() }]).await));
    assert!(matches!(a.answer.emits[0], AppendAnswer::Stored { version: Some(Version(8)), .. }));
}

/// Scenario 52: Two units of one batch append to the same stream with the right expectations in order: both applied.
/// Scenario 53: Two units expecting the same version: first applied, second conflicts.
pub async fn s52_expectations_see_what_the_batch_has_written<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let messages: Vec<Message> = (1..=4).map(Message::command).collect();
    a.append(&messages).await;
    let got = a.read(0, 0).await;
    let events: Vec<Message> = (10..20).map(|n| Message::event(n, stream)).collect();
    let emits: Vec<_> = events.iter().map(Message::append).collect();
    let expects = |version: u64| [Expected { stream, version: Version(version) }];
    let (zero, two, three) = (expects(0), expects(2), expects(3));
    let units = [
        Unit { emits: &emits[..2], expects: &zero, ..got[0].done() },
        Unit { emits: &emits[2..3], expects: &two, ..got[1].done() },
        Unit { emits: &emits[3..4], expects: &two, ..got[2].done() },
        Unit { emits: &emits[4..5], expects: &three, ..group(&[]) },
    ];
    let answers = a.units(&units).await;
    let conflict = UnitAnswer::StreamConflict { stream, actual: Version(3) };
    assert_eq!(
        answers,
        [
            UnitAnswer::Applied { emits: 0..2 },
            UnitAnswer::Applied { emits: 2..3 },
            conflict,
            UnitAnswer::Applied { emits: 3..4 },
        ]
    );
    let versions: Vec<_> =
        a.history(stream, 0, 99).await.iter().filter_map(|got| got.version).map(|v| v.0).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(stored(&a.answer.emits), [5, 6, 7, 8]);
}

/// Scenario 53 among several instances: what has arrived counts, so of those that expect the same version one is applied, and
/// its events get the versions after it.
pub async fn s53b_of_all_that_expect_a_version_one_is_applied<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut owner = world.joined().await;
    let (mut b, mut c) = (world.joined().await, world.member().await);
    c.join(None, &[], &[]).await;
    let stream = world.stream_in(0, 1);
    // What gets no version of this stream now does not count.
    let key = b"once";
    b.append(&[
        Message::command(1).of(stream),
        Message::event(2, world.stream_in(0, 2)),
        Message::event(3, stream).due_in(Duration::from_secs(60)),
        Message::event(4, world.stream_in(0, 3)).once(key),
    ])
    .await;
    let events: Vec<Message> = (10..20).map(|n| Message::event(n, stream)).collect();
    let emits: Vec<_> = events.iter().map(Message::append).collect();
    let (twice, late) = (Message::event(5, stream).once(key), Message::event(6, stream));
    let late = late.due_in(Duration::from_secs(60));
    let first = [emits[0], twice.append(), late.append()];
    let at = |version: u64| [Expected { stream, version: Version(version) }];
    let conflict = |actual: u64| UnitAnswer::StreamConflict { stream, actual: Version(actual) };
    let all = [at(0), at(1), at(2), at(3), at(4), at(5)];

    let sent = b.units(&[Unit { expects: &all[0], ..group(&first) }]).await;
    assert_eq!(sent, [UnitAnswer::Applied { emits: 0..3 }]);
    assert_eq!(b.answer.emits[0], AppendAnswer::Arrived);
    for member in [&mut b, &mut c, &mut owner] {
        let sent = member.units(&[Unit { expects: &all[0], ..group(&emits[9..]) }]).await;
        assert_eq!(sent, [conflict(1)], "it is on its way");
    }
    let sent = c
        .units(&[
            Unit { expects: &all[1], ..group(&emits[1..3]) },
            Unit { expects: &all[1], ..group(&emits[9..]) },
            Unit { expects: &all[3], ..group(&emits[3..4]) },
            Unit { expects: &all[3], ..group(&emits[9..]) },
        ])
        .await;
    let applied_at = |emits| UnitAnswer::Applied { emits };
    assert_eq!(sent, [applied_at(0..2), conflict(3), applied_at(2..3), conflict(4)]);
    // The owner's own wait behind what has arrived, and count as well.
    let sent = owner
        .units(&[
            Unit { expects: &all[4], ..group(&emits[4..5]) },
            Unit { expects: &all[4], ..group(&emits[9..]) },
        ])
        .await;
    assert_eq!(sent, [applied_at(0..1), conflict(5)]);
    for member in [&mut b, &mut c, &mut owner] {
        let sent = member.units(&[Unit { expects: &all[4], ..group(&emits[9..]) }]).await;
        assert_eq!(sent, [conflict(5)]);
    }
    // In the log nothing counts twice.
    owner.move_arrivals().await;
    for member in [&mut b, &mut c, &mut owner] {
        let sent = member.units(&[Unit { expects: &all[4], ..group(&emits[9..]) }]).await;
        assert_eq!(sent, [conflict(5)]);
    }
    let sent = c.units(&[Unit { expects: &all[5], ..group(&emits[5..6]) }]).await;
    assert_eq!(sent, [applied_at(0..1)]);
    owner.move_arrivals().await;
    let history = owner.history(stream, 0, 99).await;
    assert_eq!(numbers(&history), (10..16).collect::<Vec<_>>());
    assert!(history.iter().map(|got| got.version).eq((1..=6).map(|version| Some(Version(version)))));
}

/// Scenario 53a: A unit that is not applied takes later units of its (subscription, stream) in the batch with it.
pub async fn s53a_what_follows_a_failed_unit_in_its_lane_is_skipped<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[subscription("all"), subscription("more")]).await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    a.append(&[
        Message::command(1).of(s),
        Message::command(2).of(s),
        Message::command(3).of(t),
        Message::command(4).of(s),
    ])
    .await;
    let got = a.read(0, 0).await;
    let more = a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await.0;
    let wrong = [Expected { stream: s, version: Version(9) }];
    let emit = Message::command(9);
    let emits = [emit.append()];
    let units = [
        Unit { expects: &wrong, ..got[0].done() },
        Unit { emits: &emits, ..got[1].done() },
        got[2].done(),
        got[3].retry_in(Duration::ZERO),
        more[0].done(),
        more[1].done(),
        group(&emits),
    ];
    let answers = a.units(&units).await;
    assert!(matches!(answers[0], UnitAnswer::StreamConflict { .. }));
    assert_eq!((&answers[1], &answers[3]), (&UnitAnswer::Skipped, &UnitAnswer::Skipped));
    for index in [2, 4, 5, 6] {
        assert!(applied(&answers[index..=index]), "unit {index}: {:?}", answers[index]);
    }
    assert_eq!(positions(&a.read(0, 0).await), [1, 2, 4, 5], "only the group's message is new");
    // A refused unit takes its lane along, too; the next batch starts afresh.
    let unnamed = Message { type_name: String::new(), ..Message::command(10) };
    let bad = [unnamed.append()];
    let answers = a.units(&[Unit { emits: &bad, ..got[0].done() }, got[1].done()]).await;
    assert_eq!(
        answers,
        [UnitAnswer::Refused(Refusal::Name { what: "type", bytes: 0, max: 200 }), UnitAnswer::Skipped]
    );
    assert!(applied(&a.units(&[got[0].done(), got[1].done(), got[3].done()]).await));
}

/// What only a finished unit may carry is refused with any other end; a group without a delivery can only be done.
pub async fn a_unit_that_is_not_done_carries_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let got = a.read(0, 0).await;
    let emit = Message::command(2);
    let (emits, projections) = ([emit.append()], [projection(b"k", None, None)]);
    let expects = [Expected { stream: world.stream_in(0, 1), version: Version(0) }];
    let retry = got[0].retry_in(Duration::ZERO);
    let refused = UnitAnswer::Refused(Refusal::NotDone);
    for unit in [
        Unit { emits: &emits, ..retry },
        Unit { expects: &expects, ..got[0].ends(Settle::Detach) },
        Unit { projections: &projections, ..got[0].ends(Settle::Defer) },
        Unit { delivery: None, ..retry },
    ] {
        assert_eq!(a.units(&[unit]).await[0], refused);
    }
    assert_eq!(positions(&a.read(0, 0).await), [1]);
    assert_eq!(a.statistics().await.messages, 1);
    // State and key of a projection have limits as well.
    let large = vec![0; world.service.limits.state_bytes_max + 1];
    let (long, name) = (vec![1; 513], "x".repeat(201));
    for bad in [
        projection(b"k", None, Some(&large)),
        projection(b"", None, Some(b"")),
        projection(&long, None, Some(b"")),
        whizbang_storage::Projection { perspective: &name, ..projection(b"k", None, Some(b"")) },
        whizbang_storage::Projection { perspective: "", ..projection(b"k", None, Some(b"")) },
    ] {
        let projections = [bad];
        let answers = a.units(&[Unit { projections: &projections, ..got[0].done() }]).await;
        assert!(matches!(answers[0], UnitAnswer::Refused(_)), "{answers:?}");
    }
    assert_eq!(a.statistics().await.projections, 0);
}

/// A released partition is somebody else's: what its old owner says under the old epoch is fenced.
pub async fn a_partition_given_back_is_fenced_for_its_old_owner<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let got = a.read(0, 0).await;
    let range = a.range(0, 1, 1);
    a.release(&[Partition(0)]).await;
    assert_eq!(a.units(&[got[0].done()]).await, [UnitAnswer::Fenced], "nobody owns it yet");
    b.heartbeat().await;
    let answer = a.ok(WorkBatch { settled: &[range], ..a.batch() }).await;
    assert_eq!(answer.settled, [SettledAnswer::Fenced]);
    // It comes back to its first owner: the old epoch stays fenced.
    b.release(&[Partition(0)]).await;
    a.heartbeat().await;
    assert_eq!(a.epoch(0), Epoch(3));
    assert_eq!(a.units(&[got[0].done()]).await, [UnitAnswer::Fenced]);
    assert!(applied(&{
        let again = a.read(0, 0).await;
        a.units(&[again[0].done()]).await
    }));
    assert_eq!(a.due_within(ALL).await, []);
    assert_eq!(
        a.operate(Operation::Pause(SubscriptionId(99))).await,
        whizbang_storage::OperationAnswer::Gone
    );
}
