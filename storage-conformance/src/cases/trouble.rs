//! What a database may do to us: busy, full, cut off, of another version, killed.
#![expect(clippy::disallowed_types, reason = "a counter that orders nothing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, DeadReason, Delivery, Epoch, Expected, Limit, Membership, NotApplied, Operation,
    OperationAnswer, ParkedKey, Partition, Position, Projection, Read, ReadAnswer, Release, Revision,
    Running, Sender, Service, Settle, Settled, SettledAnswer, Statistics, StoreError, StoreReader,
    SubscriptionId, Unit, Version, WorkBatch, WorkStore,
};

use crate::{
    Conflict, Fault, Faulty, Fixture, Message, Odds, SchemaAge, World, applied, numbers, projection, stored,
    subscription,
};

/// Scenario 81: Another process holds the database: calls wait or say so, nothing is lost, nothing is there twice.
pub async fn s81_a_busy_database_loses_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let message = Message::command(2);
    let appends = [message.append()];
    let batch = WorkBatch { appends: &appends, ..a.batch() };
    let guard = world.fixture.hold().await;
    let refused = a.send(batch).await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::NotApplied(NotApplied::Busy(_)) | StoreError::Unknown(_))),
        "{refused:?}"
    );
    drop(guard);
    assert_eq!(stored(&a.ok(batch).await.appends), [2]);
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2]);
}

/// Scenario 81: An answer was lost, and the database is busy when the batch comes again: nobody says that nothing was written.
pub async fn s81_a_busy_database_does_not_deny_what_was_committed<F: Fixture>() {
    // So that whoever waits for the database is soon told.
    let time_to_live = Duration::from_secs(2);
    let service = Service { partitions: 1, time_to_live, ..Service::named("conformance") };
    let mut world = World::<F>::with(service).await;
    let mut a = world.joined().await.map(Faulty::new);
    let message = Message::command(1);
    let appends = [message.append()];
    let batch = WorkBatch { appends: &appends, ..a.batch() };
    let from = Sender { number: a.from.number + 1, ..a.from };
    a.store.faults().next(Fault::AnswerLost);
    assert!(matches!(a.send_as(from, batch).await, Err(StoreError::Unknown(_))));
    let guard = world.fixture.hold().await;
    let asked = a.send_as(from, batch).await.map(drop);
    assert!(matches!(asked, Ok(()) | Err(StoreError::Unknown(_))), "{asked:?}");
    drop(guard);
    assert_eq!(stored(&a.send_as(from, batch).await.expect("it is answered").appends), [1]);
    assert_eq!(numbers(&a.read(0, 0).await), [1]);
}

/// Scenario 82: The connection drops between calls: reconnect, same number, applied once.
pub async fn s82_a_cut_connection_loses_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    for n in 1..=5 {
        world.fixture.cut_connections().await;
        let message = Message::command(n);
        let appends = [message.append()];
        let batch = WorkBatch { appends: &appends, ..a.batch() };
        let mut tries = 0;
        while let Err(error) = a.send(batch).await.map(drop) {
            assert!(matches!(error, StoreError::Unknown(_) | StoreError::NotApplied(_)), "{error:?}");
            tries += 1;
            assert!(tries < 100, "no way back: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(stored(&a.answer.appends), [n]);
    }
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2, 3, 4, 5]);
}

/// Scenario 83: The database reports a deadlock or a serialisation failure: the store tries again by itself, and nobody hears of it.
pub async fn s83_a_conflict_in_the_database_is_not_heard_of<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    for (number, conflict) in (1..).zip([Conflict::Deadlock, Conflict::Serialisation]) {
        world.fixture.provoke(conflict).await;
        let message = Message::command(number).once(&[number as u8]);
        assert_eq!(stored(&a.append(&[message]).await), [number]);
        assert!(world.fixture.was_provoked().await, "{conflict:?} never came to pass");
    }
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2]);
    assert_eq!(a.statistics().await.dedup_keys, 2);
}

/// Scenario 84: Disk full: a typed error, existing data intact, works again when there is room.
pub async fn s84_a_full_disk_is_a_typed_error<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let guard = world.fixture.fill_disk().await;
    let message = Message::command(2).with(vec![7; 1 << 20]);
    let appends = [message.append()];
    let batch = WorkBatch { appends: &appends, ..a.batch() };
    let mut refused = a.send(batch).await.map(drop);
    // What slack there was is used up after a few large messages.
    let mut used = 0;
    while refused.is_ok() {
        used += 1;
        assert!(used < 64, "the disk is never full");
        refused = a.send(batch).await.map(drop);
    }
    assert!(
        matches!(refused, Err(StoreError::NotApplied(NotApplied::Full(_)) | StoreError::Unknown(_))),
        "{refused:?}"
    );
    assert!(a.store.reader().statistics().await.is_ok());
    drop(guard);
    assert_eq!(stored(&a.ok(batch).await.appends), [used + 2]);
    assert_eq!(numbers(&a.read(0, 0).await)[0], 1);
}

/// Scenario 85: The schema is newer or older than the code: refused at start, with both versions.
pub async fn s85_another_schema_is_refused_at_start<F: Fixture>() {
    for age in [SchemaAge::Newer, SchemaAge::Older] {
        let mut world = World::<F>::new(1).await;
        let a = world.joined().await;
        world.kill(a).await;
        world.fixture.set_schema(age).await;
        let service = world.service.clone();
        let Err(error) = world.member_of(service).await.map(drop) else {
            panic!("a schema that is {age:?} was opened")
        };
        let text = error.to_string();
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).count();
        assert!(numbers >= 2, "both versions: {text}");
    }
}

/// Scenario 86: Hostile names as type, subscription, group, perspective, key and error: round trip or a typed refusal.
pub async fn s86_hostile_names_have_no_effect<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let hostile = [
        "'; DROP TABLE messages; --",
        "\"quoted\" `ticked` [bracketed]",
        "%_\\ ? $1 :name @name",
        "\u{202E}right to left\u{202C}",
        "tab\tnew\nline\r",
        "🦀".repeat(50).as_str(),
    ]
    .map(str::to_owned);
    for (n, name) in (0..).zip(&hostile) {
        let service = whizbang_storage::Service { partitions: 1, ..whizbang_storage::Service::named(name) };
        let mut a = world.member_of(service).await.expect("the service can be opened");
        let told = a.join(Some(name), &[subscription(name)], &[]).await;
        assert_eq!(told.owned.len(), 1);
        let message = Message {
            type_name: name.clone(),
            ..Message::command(n).once(name.as_bytes()).with(name.as_bytes())
        };
        assert_eq!(stored(&a.append(std::slice::from_ref(&message)).await), [1]);
        let got = a.read(0, 0).await;
        assert_eq!((&got[0].type_name, &got[0].payload), (name, &message.payload));
        let writes = [whizbang_storage::Projection {
            perspective: name,
            ..projection(name.as_bytes(), None, Some(name.as_bytes()))
        }];
        assert!(applied(&a.units(&[Unit { projections: &writes, ..crate::group(&[]) }]).await));
        let read = a
            .store
            .reader()
            .projection(name, name.as_bytes())
            .await
            .expect("it is read")
            .expect("it is there");
        assert_eq!(read.state, name.as_bytes());
        let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: name };
        assert!(applied(&a.units(&[got[0].ends(dead)]).await));
        let letters = a.dead_letters().await;
        let letter = &letters[0];
        assert_eq!(
            (&letter.group, &letter.subscription, &letter.type_name, &letter.error),
            (name, name, name, name)
        );
        assert_eq!(a.statistics().await.subscriptions[0].name, *name);
    }
    let large = "x".repeat(10_000);
    let mut a = world.joined().await;
    let refused = a.operate(Operation::Register { group: &large, subscription: subscription("s") }).await;
    assert!(matches!(refused, OperationAnswer::Refused(_)));
    let opened = world.member_of(whizbang_storage::Service::named(large)).await;
    assert!(opened.is_err(), "10 kB as a service's name");
}

/// Numbers at their ends, wherever a caller can put one: an answer like any other, and nothing is lost.
pub async fn numbers_at_their_ends_have_no_effect<F: Fixture>() {
    const END: u64 = u64::MAX;
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::event(1, stream), Message::event(2, stream), Message::command(3).of(stream)]).await;
    let unbounded = Limit { messages: usize::MAX, bytes: usize::MAX };
    for after in [END, END - 1, 1 << 63, i64::MAX as u64, 1 << 40, 1 << 32] {
        assert_eq!(a.reading(Read { limit: unbounded, ..a.reads(0, after) }).await.0, []);
    }
    let right = a.reads(0, 0);
    for wrong in [
        Read { epoch: Epoch(END), ..right },
        Read { epoch: Epoch(1 << 63), ..right },
        Read { partition: Partition(u32::MAX), ..right },
        Read { subscription: SubscriptionId(u32::MAX), ..right },
    ] {
        let answer = a.try_read(wrong).await;
        assert!(!matches!(answer, ReadAnswer::Messages { .. }), "{wrong:?}: {answer:?}");
    }
    let got = a.reading(Read { limit: unbounded, ..right }).await.0;
    assert_eq!(numbers(&got), [1, 2, 3]);
    let ranges = [
        a.range(0, 0, END),
        a.range(0, END, END),
        a.range(0, 1 << 63, (1 << 63) + 1),
        Settled { epoch: Epoch(END), ..a.range(0, 1, 1) },
        Settled { partition: Partition(u32::MAX), ..a.range(0, 1, 1) },
        Settled { subscription: SubscriptionId(u32::MAX), ..a.range(0, 1, 1) },
    ];
    let answer = a.ok(WorkBatch { settled: &ranges, ..a.batch() }).await;
    assert!(!answer.settled.contains(&SettledAnswer::Applied), "{:?}", answer.settled);
    let right = got[0].delivery();
    let expects = [Expected { stream, version: Version(END) }];
    let based_on = |revision| {
        [Projection { based_on: Some(Revision(revision)), ..projection(b"k", None, Some(b"state")) }]
    };
    let (last, none) = (based_on(END), based_on(0));
    for unit in [
        Unit { delivery: Some(Delivery { position: Position(END), ..right }), ..got[0].done() },
        Unit { delivery: Some(Delivery { epoch: Epoch(END), ..right }), ..got[0].done() },
        Unit { delivery: Some(Delivery { attempt: u32::MAX, ..right }), ..got[0].done() },
        Unit { delivery: Some(Delivery { partition: Partition(u32::MAX), ..right }), ..got[0].done() },
        Unit {
            delivery: Some(Delivery { subscription: SubscriptionId(u32::MAX), ..right }),
            ..got[0].done()
        },
        Unit { expects: &expects, ..got[0].done() },
        Unit { projections: &last, ..got[0].done() },
        Unit { projections: &none, ..got[0].done() },
    ] {
        let answers = a.units(&[unit]).await;
        assert!(!applied(&answers), "{unit:?}: {answers:?}");
    }
    let key =
        ParkedKey { subscription: a.subscription(), partition: Partition(u32::MAX), position: Position(END) };
    for operation in [
        Operation::Requeue(key),
        Operation::Discard(ParkedKey { partition: Partition(0), ..key }),
        Operation::Pause(SubscriptionId(u32::MAX)),
        Operation::Drop(SubscriptionId(u32::MAX)),
    ] {
        assert_eq!(a.operate(operation).await, OperationAnswer::Gone, "{operation:?}");
    }
    // The far end of time is far away, and everything else goes on.
    let never = [got[0].retry_in(Duration::MAX)];
    let later = Message { type_version: u16::MAX, ..Message::command(4).of(stream).due_in(Duration::MAX) };
    let appends = [later.append()];
    let batch = WorkBatch {
        units: &never,
        appends: &appends,
        arrivals: Some(usize::MAX),
        due: Some(unbounded),
        housekeeping: Some(usize::MAX),
        ..a.batch()
    };
    assert!(applied(&a.ok(batch).await.units));
    let running =
        [Running { position: Position(END), partition: Partition(0), subscription: a.subscription() }];
    let release = [Release { partition: Partition(1), epoch: Epoch(END), running: &running }];
    assert_eq!(a.says(Membership::Release(&release)).await.owned.len(), 2);
    assert!(applied(&a.units(&[got[1].ends(Settle::Defer), got[2].ends(Settle::Defer)]).await));
    assert_eq!(a.low(0).await, 3);
    assert_eq!(a.due().await, []);
    // The reading side as well.
    assert_eq!(a.history(stream, END, usize::MAX).await, []);
    assert_eq!(a.history(stream, 0, usize::MAX).await.len(), 2);
    let reader = a.store.reader();
    assert_eq!(reader.dead_letters(Some(key), usize::MAX).await.expect("it is read"), []);
    assert_eq!(reader.projections("totals", b"", usize::MAX).await.expect("it is read"), []);
    let statistics = a.statistics().await;
    assert_eq!((statistics.arrivals, statistics.subscriptions[0].parked), (1, 3));
}

/// Scenario 87: Killed after any batch: every acknowledged batch is there, whole; a batch whose answer was lost is there whole or not
/// at all.
pub async fn s87_what_was_acknowledged_survives_a_kill<F: Fixture>() {
    for seed in 0..4 {
        let mut world = World::<F>::new(2).await;
        let mut random = fastrand::Rng::with_seed(seed);
        let odds = Odds { before: 150, answer_lost: 150, ..Odds::default() };
        let mut process = world.joined().await.map(|store| Faulty::seeded(store, seed, odds));
        let stream = world.stream_in(0, 1);
        let (mut number, mut acknowledged) = (0, Vec::new());
        for _ in 0..40 {
            number += 2;
            let messages = [Message::event(number, stream), Message::event(number + 1, stream)];
            let appends = [messages[0].append(), messages[1].append()];
            let batch = WorkBatch { appends: &appends, ..process.batch() };
            let answered = process.send(batch).await.is_ok();
            if answered {
                acknowledged.extend([number, number + 1]);
            }
            if !answered || random.u32(0..8) == 0 {
                process.store.faults().stop();
                let mut next = world.joined().await;
                world.kill_and_evict(process.map(Faulty::into_inner), &mut next).await;
                process = next.map(|store| Faulty::seeded(store, random.u64(..), odds));
                process.store.faults().stop();
                let there = numbers(&process.history(stream, 0, 999).await);
                assert!(acknowledged.iter().all(|number| there.contains(number)), "seed {seed}");
                assert!(there.chunks(2).all(|pair| pair[0] + 1 == pair[1]), "seed {seed}: half a batch");
                process.store.faults().draw(random.u64(..), odds);
            }
        }
        // A store that acknowledges nothing has nothing to lose.
        assert!(acknowledged.len() > 10, "seed {seed}: only {acknowledged:?} were acknowledged");
    }
}

/// Scenario 87: The last process ends too. Whoever comes next finds the log, the streams' versions, the keys, the projections, what
/// waits and what is dead, and goes on where the others stood.
pub async fn s87_what_was_acknowledged_outlives_every_process<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let stream = world.stream_in(0, 1);
    let mut a = world.joined().await;
    let later = Message::command(9).due_in(Duration::from_secs(3_600));
    let messages = [Message::event(1, stream).once(b"key"), Message::command(2), Message::command(3)];
    a.append(&messages).await;
    a.append(&[Message::command(4), later]).await;
    let got = a.read(0, 0).await;
    let writes = [projection(b"k", None, Some(b"state"))];
    let dead = Settle::Dead { reason: DeadReason::Rejected, error: "no" };
    let units = [
        Unit { projections: &writes, ..got[0].done() },
        got[1].retry_in(Duration::from_secs(60)),
        got[2].ends(dead),
    ];
    assert!(applied(&a.units(&units).await));
    let (before, from) = (a.statistics().await, a.from);
    let (history, letters) = (a.history(stream, 0, 9).await, a.dead_letters().await);
    world.kill(a).await;

    let mut b = world.joined().await;
    let after = b.statistics().await;
    assert_eq!(Statistics { instances: Vec::new(), ..after }, Statistics { instances: Vec::new(), ..before });
    assert_eq!((b.history(stream, 0, 9).await, b.dead_letters().await), (history, letters));
    let read = b.store.reader().projection(writes[0].perspective, b"k").await;
    assert_eq!(read.expect("it is read").expect("it is there").state, b"state");
    // The dead owner's last batch is known, so that nobody takes its id.
    let taken = Sender { start_token: from.start_token + 1, ..from };
    let refused = b.store.process_work_batch(&WorkBatch::empty(taken), &mut b.answer).await;
    assert!(matches!(refused, Err(StoreError::InstanceTaken)), "{refused:?}");
    world.outlive(&mut b).await;
    assert_eq!(numbers(&b.due().await), [4], "handed out and not settled: suspect");
    world.pass(Duration::from_secs(60), &mut [&mut b]).await;
    assert_eq!(numbers(&b.due().await), [2], "the retry");
    let again = b.append(&[Message::event(5, stream).once(b"key"), Message::event(6, stream)]).await;
    assert!(matches!(again[0], AppendAnswer::Duplicate { .. }), "{again:?}");
    assert!(
        matches!(again[1], AppendAnswer::Stored { position: Position(5), version: Some(Version(2)), .. }),
        "{again:?}"
    );
    world.pass(Duration::from_secs(3_600), &mut [&mut b]).await;
    assert_eq!(b.move_arrivals().await, [(0, 6)], "the scheduled one");
}

/// A store that tells others does so when there is something for them.
pub async fn others_are_told_when_there_is_something_for_them<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    a.store.on_hint(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    a.append(&[Message::command(1)]).await;
    let subscription = a.subscription();
    a.operate(Operation::Pause(subscription)).await;
    a.operate(Operation::Resume(subscription)).await;
    assert_eq!(told.load(Ordering::SeqCst), 0, "nobody is told of what it did itself");
    let mut b = world.joined().await;
    // That somebody came may be told as well, so once is not enough.
    for number in 2..4 {
        let before = told.load(Ordering::SeqCst);
        b.append(&[Message::command(number)]).await;
        wait_for(&told, before + 1).await;
    }
    // Partitions that are free are something for others, too.
    let mut c = world.joined().await;
    let second = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&second);
    c.store.on_hint(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    a.leave(&[]).await;
    wait_for(&second, 1).await;
}

/// Waits until others had the time to be told; by the machine's clock, since a hint may come over a wire.
async fn wait_for(told: &AtomicUsize, least: usize) {
    for _ in 0..500 {
        if told.load(Ordering::SeqCst) >= least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was told within 5 s");
}
