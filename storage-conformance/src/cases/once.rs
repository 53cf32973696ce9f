//! Once per number: repeats, gaps, lost answers.

use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Limits, Membership, NotApplied, Operation, OperationAnswer, Partition, Position,
    ReadAnswer, Release, Sender, Service, SettledAnswer, StoreError, UnitAnswer, WorkBatch,
};

use crate::{
    ALL, Fault, Faulty, Fixture, Member, Message, Seen, World, applied, numbers, positions, stored,
    subscription,
};

/// A process whose calls can be made to fail.
async fn faulty<F: Fixture>(world: &mut World<F>) -> Member<Faulty<F::Store>> {
    let mut member = world.member().await.map(Faulty::new);
    member.join(Some("group"), &[subscription("all")], &[]).await;
    member
}

/// Scenario 15: A batch is sent twice: the second answer equals the first, and nothing is written twice.
pub async fn s15_a_repeated_batch_is_answered_as_the_first_time<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let messages = [Message::event(1, stream).once(b"key"), Message::event(2, stream), Message::command(3)];
    let appends: Vec<_> = messages.iter().map(Message::append).collect();
    let reads = [a.reads(0, 0)];
    let batch = WorkBatch { appends: &appends, reads: &reads, ..a.batch() };
    let first = Seen::from(a.ok(batch).await);
    for _ in 0..3 {
        let again = Seen::from(a.repeat(batch).await.expect("a repeat is answered"));
        assert_eq!(again, first);
    }
    // The retry of a unit is counted once, too.
    let got = a.read(0, 0).await;
    let units = [got[0].retry_in(Duration::ZERO), got[2].done()];
    let batch =
        WorkBatch { units: &units, due: Some(ALL), membership: Some(Membership::Heartbeat), ..a.batch() };
    let first = Seen::from(a.ok(batch).await);
    world.clock.advance(Duration::from_secs(2));
    let again = Seen::from(a.repeat(batch).await.expect("a repeat is answered"));
    assert_eq!(again, first);
    assert_eq!(again.page[0].attempt, 2);
    assert_eq!(a.owned.len(), 1);
    let statistics = a.statistics().await;
    assert_eq!((statistics.events, statistics.messages, statistics.dedup_keys), (2, 1, 1));
    assert_eq!(statistics.subscriptions[0].parked, 1);
}

/// Scenario 16: A number older than the last, or a gap: a typed error, nothing written.
pub async fn s16_any_other_number_is_refused<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    a.heartbeat().await;
    assert_eq!(a.from.number, 3);
    let message = Message::command(2);
    let appends = [message.append()];
    for got in [0, 1, 2, 5, 6, u64::MAX] {
        let from = Sender { number: got, ..a.from };
        let batch = WorkBatch { appends: &appends, ..a.batch() };
        match a.send_as(from, batch).await.map(drop) {
            Err(StoreError::OutOfSequence { last: 3, got: said }) => assert_eq!(said, got),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stored(&a.append(std::slice::from_ref(&message)).await), [2]);
    // A number is used once, also by an empty batch; a repeat through another handle is not answered.
    let mut second = Member::new(world.member().await.store, a.from);
    let refused = second.repeat(WorkBatch { appends: &appends, ..a.batch() }).await.map(drop);
    assert!(matches!(refused, Err(StoreError::OutOfSequence { last: 4, got: 4 })), "{refused:?}");
}

/// Scenario 17: The store fails before the commit, the same batch is repeated: applied once.
pub async fn s17_what_failed_before_the_commit_is_applied_by_its_repeat<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    let message = Message::command(1);
    let appends = [message.append()];
    let batch = WorkBatch { appends: &appends, ..a.batch() };
    a.store.faults().next(Fault::Before);
    assert!(matches!(a.send(batch).await, Err(StoreError::Unknown(_))));
    assert_eq!(stored(&a.ok(batch).await.appends), [1]);
    assert_eq!(numbers(&a.read(0, 0).await), [1]);
}

/// Scenario 18: The store fails after the commit, the same batch is repeated: applied once, with the answer it would have had.
pub async fn s18_a_lost_answer_is_given_to_the_repeat<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    let stream = world.stream_in(0, 1);
    let (message, twin) = (Message::event(1, stream).once(b"key"), Message::event(2, stream).once(b"key"));
    let appends = [message.append(), twin.append()];
    let batch = WorkBatch { appends: &appends, ..a.batch() };
    a.store.faults().next(Fault::AnswerLost);
    assert!(matches!(a.send(batch).await, Err(StoreError::Unknown(_))));
    let answers = a.ok(batch).await.appends.clone();
    assert!(matches!(answers[0], AppendAnswer::Stored { version: Some(whizbang_storage::Version(1)), .. }));
    assert!(matches!(answers[1], AppendAnswer::Duplicate { first, .. } if first == message.id));
    let got = a.read(0, 0).await;
    assert_eq!((numbers(&got), positions(&got)), (vec![1], vec![1]));
}

/// Scenario 19: As 18 with a batch of retries: attempts are counted once.
pub async fn s19_a_retry_whose_answer_was_lost_counts_once<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    a.append(&[Message::command(1)]).await;
    let mut got = a.read(0, 0).await;
    for attempt in 2..=5 {
        let units = [got[0].retry_in(Duration::ZERO)];
        let batch = WorkBatch { units: &units, ..a.batch() };
        a.store.faults().next(Fault::AnswerLost);
        a.store.faults().next(Fault::AnswerLost);
        assert!(a.send(batch).await.is_err());
        assert!(a.send(batch).await.is_err());
        assert!(applied(&a.ok(batch).await.units.clone()));
        got = a.due().await;
        assert_eq!(got[0].attempt, attempt);
    }
}

/// Scenario 20: As 18 with a read: the repeat returns the same messages, and no more, also when more have arrived meanwhile.
pub async fn s20_a_repeated_read_returns_the_same_and_no_more<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = faulty(&mut world).await;
    let mut b = world.joined().await;
    a.append(&[Message::command(1).of(world.stream_in(0, 1))]).await;
    let reads = [a.reads(0, 0)];
    let batch = WorkBatch { reads: &reads, arrivals: Some(99), ..a.batch() };
    a.store.faults().next(Fault::AnswerLost);
    assert!(a.send(batch).await.is_err());
    // Another instance leaves a message in between; the first call looked before that.
    b.append(&[Message::command(2).of(world.stream_in(0, 1))]).await;
    let seen = Seen::from(a.ok(batch).await);
    assert_eq!((numbers(&seen.page), seen.moved.len()), (vec![1], 0));
    assert_eq!(a.move_arrivals().await, [(0, 2)]);
    assert_eq!(numbers(&a.read(0, 1).await), [2]);
}

/// Scenario 20a: As 18 with due work: the repeat returns the same due work.
pub async fn s20a_a_repeat_returns_the_same_due_work<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].retry_in(Duration::ZERO), got[1].retry_in(Duration::from_secs(1))]).await;
    let batch = WorkBatch { due: Some(ALL), ..a.batch() };
    a.store.faults().next(Fault::AnswerLost);
    assert!(a.send(batch).await.is_err());
    world.clock.advance(Duration::from_secs(1));
    let seen = Seen::from(a.ok(batch).await);
    assert_eq!(numbers(&seen.page[seen.due]), [1], "the other was not due yet");
    assert_eq!(numbers(&a.due().await), [2], "the first is running");
}

/// Scenario 20b: As 18, evicted in between: the written answer comes back marked evicted, without work or partitions.
pub async fn s20b_a_repeat_after_eviction_has_no_work<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    let mut b = world.joined().await;
    let message = Message::command(1);
    let (appends, reads) = ([message.append()], [a.reads(0, 0)]);
    let batch = WorkBatch {
        appends: &appends,
        reads: &reads,
        due: Some(ALL),
        membership: Some(Membership::Heartbeat),
        ..a.batch()
    };
    a.store.faults().next(Fault::AnswerLost);
    assert!(a.send(batch).await.is_err());
    world.outlive(&mut b).await;
    let seen = Seen::from(a.ok(batch).await);
    assert!(seen.evicted);
    assert_eq!(stored(&seen.appends), [1]);
    assert_eq!((seen.reads.len(), seen.page.len(), seen.due, seen.membership), (0, 0, 0..0, None));
    let refused = a.send(a.batch()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Evicted)), "{refused:?}");
    // What was written is there, and was given to a owner that died.
    assert_eq!(numbers(&b.due().await), [1]);
}

/// Scenario 20c: The same number with one byte changed: `DifferentBatch`, nothing written.
pub async fn s20c_the_same_number_with_other_content_is_refused<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let message = Message::command(1).with(*b"{\"n\":1}");
    let changed = Message::command(1).with(*b"{\"n\":2}");
    let (appends, others) = ([message.append()], [changed.append()]);
    a.ok(WorkBatch { appends: &appends, ..a.batch() }).await;
    let different = a.repeat(WorkBatch { appends: &others, ..a.batch() }).await.map(drop);
    assert!(matches!(different, Err(StoreError::DifferentBatch { number: 2 })), "{different:?}");
    let different = a.repeat(a.batch()).await.map(drop);
    assert!(matches!(different, Err(StoreError::DifferentBatch { number: 2 })), "{different:?}");
    assert_eq!(
        stored(&a.repeat(WorkBatch { appends: &appends, ..a.batch() }).await.expect("unchanged").appends),
        [1]
    );
    let got = a.read(0, 0).await;
    assert_eq!((got.len(), &got[0].payload[..]), (1, &b"{\"n\":1}"[..]));
}

/// Scenario 20d: A failure the store knows to be complete: `NotApplied`; the same number may carry another batch.
pub async fn s20d_after_a_definite_failure_the_number_is_free<F: Fixture>() {
    let limits = Limits { batch_messages_max: 3, batch_bytes_max: 1_000, ..Limits::default() };
    let mut world = World::<F>::with(Service { partitions: 1, limits, ..Service::named("small") }).await;
    let mut a = world.joined().await;
    let four: Vec<Message> = (1..=4).map(Message::command).collect();
    let large = [Message::command(5).with(vec![0; 600]), Message::command(6).with(vec![0; 401])];
    let inside = [four[3].append()];
    for messages in [&four[..], &large[..]] {
        let appends: Vec<_> = messages.iter().map(Message::append).collect();
        let refused = a.send(WorkBatch { appends: &appends, ..a.batch() }).await.map(drop);
        let too_large = matches!(refused, Err(StoreError::NotApplied(NotApplied::BatchTooLarge { .. })));
        assert!(too_large, "{refused:?}");
        let units = [crate::group(&inside)];
        let refused = a
            .send(WorkBatch { appends: &appends[..appends.len().min(3)], units: &units, ..a.batch() })
            .await
            .map(drop);
        if messages.len() == 4 {
            assert!(matches!(refused, Err(StoreError::NotApplied(_))), "emits count, too: {refused:?}");
        }
    }
    assert_eq!(a.from.number, 1);
    assert_eq!(stored(&a.append(&four[..3]).await), [1, 2, 3]);
    // What was not applied has not taken the place of the batch before, which is answered again.
    let three: Vec<_> = four[..3].iter().map(Message::append).collect();
    let too_many: Vec<_> = four.iter().map(Message::append).collect();
    let refused = a.send(WorkBatch { appends: &too_many, ..a.batch() }).await.map(drop);
    assert!(matches!(refused, Err(StoreError::NotApplied(_))), "{refused:?}");
    let again = a.repeat(WorkBatch { appends: &three, ..a.batch() }).await.expect("it is the last batch");
    assert_eq!(stored(&again.appends), [1, 2, 3]);
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2, 3]);
    let first = [four[3].append()];
    let answers = a.units(&[crate::group(&first)]).await;
    assert_eq!(answers, [UnitAnswer::Applied { emits: 0..1 }]);
}

/// A batch that comes again long after its number was used writes nothing, whatever the network does.
pub async fn an_old_batch_that_comes_again_writes_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = faulty(&mut world).await;
    // So that there is something old from the beginning.
    a.heartbeat().await;
    a.heartbeat().await;
    for n in 1..=9 {
        let ago = (n as usize % 3) + 1;
        a.store.faults().next(Fault::RepeatOld(ago));
        assert_eq!(stored(&a.append(&[Message::command(n)]).await), [n]);
    }
    assert_eq!(a.store.faults().happened(), 9);
    assert_eq!(numbers(&a.read(0, 0).await), (1..=9).collect::<Vec<_>>());
}

/// The parts of a batch are applied in the contract's order, and each sees what was written before it.
pub async fn the_parts_of_a_batch_see_what_was_written_before_them<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.append(&(1..=3).map(Message::command).collect::<Vec<_>>()).await;
    let got = a.read(0, 0).await;
    b.append(&[Message::command(5)]).await;
    let fourth = Message::command(4);
    let late = Operation::Register { group: "group", subscription: subscription("late") };
    let (units, settled, appends, reads) =
        ([got[0].retry_in(Duration::ZERO)], [a.range(0, 1, 3)], [fourth.append()], [a.reads(0, 3)]);
    let batch = WorkBatch {
        units: &units,
        settled: &settled,
        appends: &appends,
        arrivals: Some(9),
        operations: &[late],
        due: Some(ALL),
        reads: &reads,
        housekeeping: Some(99),
        ..a.batch()
    };
    let seen = Seen::from(a.ok(batch).await);
    assert!(applied(&seen.units));
    assert_eq!(seen.settled, [SettledAnswer::Applied], "2 and 3; the unit has parked 1 already");
    assert_eq!(stored(&seen.appends), [4], "appends come before arrivals");
    assert_eq!(seen.moved, [(Partition(0), Position(5))]);
    assert_eq!(numbers(&seen.page[seen.due.clone()]), [1], "what this batch has parked is due in it");
    assert_eq!(numbers(&seen.page[..seen.due.start]), [4, 5], "the page has the reads first");
    assert_eq!(seen.removed, 0, "the new subscription needs them");
    let OperationAnswer::Registered(late) = seen.operations[0] else { panic!("{:?}", seen.operations) };
    // A partition is given back after everything that needs it, and before what is read.
    let last = Message::command(6);
    let (appends, settled, reads) = ([last.append()], [a.range(0, 4, 5)], [a.reads(0, 5)]);
    let releases = [Release { partition: Partition(0), epoch: a.epoch(0), running: &[] }];
    let batch = WorkBatch {
        membership: Some(Membership::Release(&releases)),
        settled: &settled,
        appends: &appends,
        operations: &[Operation::Drop(late)],
        due: Some(ALL),
        reads: &reads,
        housekeeping: Some(99),
        ..a.batch()
    };
    let seen = Seen::from(a.ok(batch).await);
    assert_eq!((stored(&seen.appends), seen.settled), (vec![6], vec![SettledAnswer::Applied]));
    assert_eq!((seen.reads, seen.page.len()), (vec![ReadAnswer::Fenced], 0));
    assert_eq!(seen.removed, 5, "nobody needs 1 to 5 any more");
    b.heartbeat().await;
    assert_eq!(numbers(&b.read(0, 0).await), [6]);
}
