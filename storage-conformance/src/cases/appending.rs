//! Appending: positions, versions, arrivals, deduplication, limits, schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, HandOut, Limits, Membership, NotApplied, Operation, Partition, Position, Refusal, SameBody,
    Service, Settle, StoreError, SubscriptionSpec, UnitAnswer, Version, WorkBatch,
};

use crate::{ALL, Fixture, Got, Message, World, applied, group, numbers, positions, stored, subscription};

/// Scenario 21: One message to an owned partition: position 1, version 1 if an event, readable in the same call.
pub async fn s21_a_message_is_readable_in_the_call_that_appends_it<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let event = Message::event(1, stream);
    let command = Message::command(2).of(world.stream_in(1, 1));
    let (appends, reads) = ([event.append(), command.append()], [a.reads(0, 0), a.reads(1, 0)]);
    let answer = a.ok(WorkBatch { appends: &appends, reads: &reads, ..a.batch() }).await;
    let at = |position, version: Option<u64>| AppendAnswer::Stored {
        position: Position(position),
        version: version.map(Version),
        handed_out: false,
    };
    assert_eq!(answer.appends, [at(1, Some(1)), at(1, None)]);
    let got = Got::all(&answer.page);
    assert_eq!(numbers(&got), [1, 2]);
    // Everything comes back as it was sent.
    assert_eq!(got[0].version, Some(Version(1)));
    for (got, sent) in got.iter().zip([&event, &command]) {
        let back = Message { dedup: None, due_in: None, hand_out: HandOut::Later, ..Message::from(got) };
        assert_eq!(&back, sent);
        assert_eq!((got.attempt, got.epoch.0), (1, 1));
    }
    // An event without a stream has no version.
    let free = Message { stream: None, ..Message::event(3, stream) };
    let partition = free.append().lane().partition(2).0;
    assert!(matches!(a.append(&[free]).await[0], AppendAnswer::Stored { version: None, .. }));
    let after = u64::from(a.heartbeat().await.owned[partition as usize].head.0 > 1);
    assert_eq!(a.read(partition, after).await[0].version, None);
}

/// Scenario 22: A thousand messages of one stream in one batch: in the batch's order, without gaps.
pub async fn s22_a_thousand_messages_keep_their_order_without_gaps<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(3, 1);
    let messages: Vec<Message> = (1..=1_000).map(|n| Message::event(n, stream)).collect();
    let answers = a.append(&messages).await;
    for (n, answer) in (1..).zip(&answers) {
        let expected =
            AppendAnswer::Stored { position: Position(n), version: Some(Version(n)), handed_out: false };
        assert_eq!(*answer, expected);
    }
    let got = a.read(3, 0).await;
    assert_eq!(numbers(&got), (1..=1_000).collect::<Vec<_>>());
    let versions: Vec<u64> = got.iter().filter_map(|got| got.version).map(|version| version.0).collect();
    assert_eq!(versions, (1..=1_000).collect::<Vec<_>>());
}

/// Scenario 23: Messages for a partition owned elsewhere: moved by the owner, each sender's in its own order, none twice.
pub async fn s23_arrivals_are_moved_in_each_senders_order<F: Fixture>() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::<F>::new(2).await;
        let mut owner = world.joined().await;
        let mut senders = [world.joined().await, world.joined().await, world.joined().await];
        let stream = world.stream_in(1, 1);
        let mut sent = 0;
        let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for _ in 0..30 {
            let count = random.u64(1..5);
            let who = random.usize(0..4);
            let messages: Vec<Message> = (0..count).map(|n| Message::command(sent + n).of(stream)).collect();
            expected.entry(who as u64).or_default().extend(sent..sent + count);
            sent += count;
            match who {
                3 => drop(owner.append(&messages).await),
                who => assert_eq!(
                    senders[who].append(&messages).await,
                    vec![AppendAnswer::Arrived; count as usize]
                ),
            }
            match random.u32(0..6) {
                0 => {
                    let batch = WorkBatch { arrivals: Some(random.usize(1..4)), ..owner.batch() };
                    owner.ok(batch).await;
                }
                1 => {
                    // The owner is killed, or a sender: what was answered is there.
                    let fresh = world.joined().await;
                    let dead = std::mem::replace(&mut owner, fresh);
                    world.kill_and_evict(dead, &mut owner).await;
                    for sender in &mut senders {
                        *sender = world.joined().await;
                    }
                    owner.heartbeat().await;
                }
                _ => {}
            }
        }
        while owner.heartbeat().await.arrivals_waiting > 0 {
            owner.move_arrivals().await;
        }
        let mut all = BTreeMap::new();
        let (mut got, mut suspects) = (owner.read(1, 0).await, owner.due().await);
        while let Some(suspect) = suspects.pop() {
            owner.units(&[suspect.done()]).await;
            got.push(suspect);
            if suspects.is_empty() {
                suspects = owner.due().await;
            }
        }
        for got in got {
            assert_eq!(all.insert(got.position.0, numbers([&got])[0]), None);
        }
        assert_eq!(all.len() as u64, sent, "seed {seed}: all of them, none twice");
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=sent).collect::<Vec<_>>(), "without gaps");
        let order: Vec<u64> = all.values().copied().collect();
        for (who, numbers) in expected {
            let own: Vec<u64> = order.iter().copied().filter(|n| numbers.contains(n)).collect();
            assert_eq!(own, numbers, "seed {seed}: sender {who}");
        }
    }
}

/// Scenario 23: What a sender appended while others owned the partition stays before what it appends as the owner.
pub async fn s23_an_owner_does_not_overtake_its_own_arrivals<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let stream = world.stream_in(0, 1);
    assert_eq!(b.append(&[Message::command(1).of(stream)]).await, [AppendAnswer::Arrived]);
    a.leave(&[]).await;
    assert_eq!(b.heartbeat().await.owned.len(), 1);
    let answers =
        b.append(&[Message::command(2).of(stream), Message::command(3).of(world.stream_in(0, 2))]).await;
    assert_eq!(answers[0], AppendAnswer::Arrived, "its elder waits still");
    assert_eq!(stored(&answers[1..]), [1], "another lane is not held up");
    b.move_arrivals().await;
    assert_eq!(stored(&b.append(&[Message::command(4).of(stream)]).await), [4]);
    assert_eq!(numbers(&b.read(0, 0).await), [3, 1, 2, 4]);
}

/// Scenario 23: What was committed before stays before, whoever sent it: an owner does not overtake the arrivals of its stream.
pub async fn s23_nobody_overtakes_what_was_committed_before<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let (stream, other) = (world.stream_in(0, 1), world.stream_in(0, 2));
    assert_eq!(b.append(&[Message::event(1, stream)]).await, [AppendAnswer::Arrived]);
    let answers = a.append(&[Message::event(2, stream).now(), Message::event(3, other)]).await;
    assert_eq!(answers[0], AppendAnswer::Arrived, "1 was committed before");
    assert_eq!(stored(&answers[1..]), [1]);
    assert_eq!(b.append(&[Message::event(4, stream)]).await, [AppendAnswer::Arrived]);
    // The emits of a unit wait as well; a scheduled message that waits holds nobody up.
    let (emit, later) = (Message::event(5, stream), Message::event(6, other).due_in(Duration::from_secs(1)));
    let emits = [emit.append(), later.append()];
    assert!(applied(&a.units(&[group(&emits)]).await));
    assert_eq!(a.answer.emits, [AppendAnswer::Arrived; 2]);
    assert_eq!(stored(&a.append(&[Message::event(7, other)]).await), [2]);
    a.move_arrivals().await;
    assert_eq!(stored(&a.append(&[Message::event(8, stream)]).await), [7]);
    let versions: Vec<u64> =
        a.history(stream, 0, 9).await.iter().filter_map(|got| got.version).map(|v| v.0).collect();
    assert_eq!(
        (numbers(&a.history(stream, 0, 9).await), versions),
        (vec![1, 2, 4, 5, 8], vec![1, 2, 3, 4, 5])
    );
    // A sender that was killed while it did not own: its successor, who does, comes behind it.
    b.append(&[Message::event(9, stream)]).await;
    let mut c = world.joined().await;
    world.kill(b).await;
    world.kill_and_evict(a, &mut c).await;
    assert_eq!(c.append(&[Message::event(10, stream)]).await, [AppendAnswer::Arrived]);
    c.move_arrivals().await;
    assert_eq!(numbers(&c.history(stream, 5, 9).await), [9, 10]);
}

/// Scenario 23a: A partition nobody owns: arrivals wait and are moved by the first owner.
pub async fn s23a_arrivals_wait_for_the_first_owner<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut publisher = world.member().await;
    publisher.join(None, &[], &[]).await;
    let stream = world.stream_in(0, 1);
    let messages: Vec<Message> = (1..=3).map(|n| Message::event(n, stream)).collect();
    assert_eq!(publisher.append(&messages).await, [AppendAnswer::Arrived; 3]);
    world.kill(publisher).await;
    let mut a = world.joined().await;
    let batch = WorkBatch { arrivals: Some(2), membership: Some(Membership::Heartbeat), ..a.batch() };
    let told = a.ok(batch).await;
    assert_eq!(told.moved, [(Partition(0), Position(2))]);
    assert_eq!(told.membership.as_ref().map(|told| told.arrivals_waiting), Some(1));
    assert_eq!(a.move_arrivals().await, [(0, 3)]);
    let got = a.read(0, 0).await;
    let versions: Vec<_> = got.iter().filter_map(|got| got.version).map(|version| version.0).collect();
    assert_eq!((numbers(&got), versions), (vec![1, 2, 3], vec![1, 2, 3]));
}

/// Scenario 24: A reader that polls while writers commit never misses a message that commits late.
pub async fn s24_a_polling_reader_misses_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let (mut read, mut place) = (Vec::new(), 0);
    for n in 0..60 {
        let number = n + 1;
        match n % 3 {
            0 => drop(a.append(&[Message::command(number)]).await),
            _ => drop(b.append(&[Message::command(number)]).await),
        }
        if n % 4 == 0 {
            a.move_arrivals().await;
        }
        let (got, through) = a.reading(a.reads(0, place)).await;
        assert!(through >= place);
        place = through;
        read.extend(positions(&got));
    }
    a.move_arrivals().await;
    read.extend(positions(&a.read(0, place).await));
    assert_eq!(read, (1..=60).collect::<Vec<_>>());
}

/// Scenario 25: A dedup key seen before: `Duplicate` with the first one's id; its neighbours are stored.
pub async fn s25_a_known_key_is_a_duplicate_and_disturbs_nobody<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let first = Message::command(1).once(b"key").with(*b"body");
    a.append(std::slice::from_ref(&first)).await;
    let again = Message { id: Message::command(3).id, ..first.clone() };
    let answers = a.append(&[Message::command(2), again, Message::command(4)]).await;
    assert_eq!(stored(&[answers[0], answers[2]]), [2, 3]);
    assert_eq!(answers[1], AppendAnswer::Duplicate { first: first.id, body: SameBody::Same });
    // Also after a restart, while the first is handled and trimmed, and for a unit's emit, which stops nothing.
    a.settle(0, 1, 3).await;
    let got = a.read(0, 0).await;
    a.settle(0, 1, got.len() as u64).await;
    a.housekeep(100).await;
    let mut b = world.joined().await;
    world.kill_and_evict(a, &mut b).await;
    let (emits, after) = ([first.append()], Message::command(5));
    let emits = [emits[0], after.append()];
    assert_eq!(b.units(&[group(&emits)]).await, [UnitAnswer::Applied { emits: 0..2 }]);
    assert_eq!(b.answer.emits[0], AppendAnswer::Duplicate { first: first.id, body: SameBody::Same });
    assert_eq!(stored(&b.answer.emits[1..]), [4]);
}

/// Scenario 26: The same dedup key twice in one batch, and from two instances: one stored, one duplicate.
pub async fn s26_a_key_twice_is_stored_once_wherever_it_comes_from<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    let keys: [&[u8]; 4] = [b"1", b"2", b"3", b"4"];
    let message = |n: u64, key: usize| Message::command(n).once(keys[key]).with(*b"same");
    // In any order of keys.
    let forward: Vec<Message> = (0..4).map(|key| message(10 + key as u64, key)).collect();
    let backward: Vec<Message> = (0..4).rev().map(|key| message(20 + key as u64, key)).collect();
    let first = a.append(&forward[..2]).await;
    let second = b.append(&backward).await;
    let third = a.append(&forward[2..]).await;
    assert!(first.iter().all(|answer| matches!(answer, AppendAnswer::Stored { .. })));
    assert_eq!(second[..2], [AppendAnswer::Arrived; 2]);
    assert!(
        second[2..]
            .iter()
            .all(|answer| matches!(answer, AppendAnswer::Duplicate { body: SameBody::Same, .. }))
    );
    assert!(
        third.iter().all(|answer| matches!(answer, AppendAnswer::Duplicate { .. })),
        "an arrival has the key: {third:?}"
    );
    let twice = a.append(&[message(1, 0).once(b"new"), message(2, 0).once(b"new")]).await;
    assert!(matches!(twice[0], AppendAnswer::Stored { .. }));
    assert!(matches!(twice[1], AppendAnswer::Duplicate { first, .. } if first == message(1, 0).id));
    // A refused message leaves no key.
    let unnamed = Message { type_name: String::new(), ..message(5, 0).once(b"free") };
    let answers = a.append(&[unnamed, message(6, 0).once(b"free")]).await;
    assert!(matches!(answers[..], [AppendAnswer::Refused(_), AppendAnswer::Stored { .. }]), "{answers:?}");
}

/// Scenario 27: Same key, different body: duplicate, and says that the bodies differ.
pub async fn s27_a_duplicate_says_whether_the_bodies_differ<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let message = |n: u64, body: &str| Message::command(n).once(b"key").with(body);
    let answers = a.append(&[message(1, "one"), message(2, "two"), message(3, "one")]).await;
    let first = message(1, "").id;
    assert_eq!(answers[1], AppendAnswer::Duplicate { first, body: SameBody::Different });
    assert_eq!(answers[2], AppendAnswer::Duplicate { first, body: SameBody::Same });
    assert_eq!(numbers(&a.read(0, 0).await), [1]);
}

/// Scenario 28: The same key in another service: stored.
pub async fn s28_keys_belong_to_a_service<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world
        .member_of(Service { partitions: 1, ..Service::named("other") })
        .await
        .expect("it can be opened");
    b.join(Some("group"), &[subscription("all")], &[]).await;
    let message = Message::command(1).once(b"key");
    assert_eq!(stored(&a.append(std::slice::from_ref(&message)).await), [1]);
    assert_eq!(stored(&b.append(&[message]).await), [1]);
}

/// Scenario 29: A key older than its retention is stored again after housekeeping; one second younger: duplicate.
pub async fn s29_a_key_is_remembered_for_its_retention<F: Fixture>() {
    let mut world = World::<F>::with(Service {
        partitions: 1,
        dedup_retention: Duration::from_secs(3_600),
        ..Service::named("retention")
    })
    .await;
    let mut a = world.joined().await;
    let message = |n: u64| Message::command(n).once(b"key");
    a.append(&[message(1)]).await;
    world.clock.advance(Duration::from_secs(3_599));
    assert_eq!(a.housekeep(100).await, 0);
    assert!(matches!(a.append(&[message(2)]).await[0], AppendAnswer::Duplicate { .. }));
    world.clock.advance(Duration::from_secs(1));
    assert!(
        matches!(a.append(&[message(3)]).await[0], AppendAnswer::Duplicate { .. }),
        "only housekeeping forgets"
    );
    assert_eq!(a.housekeep(100).await, 1);
    assert_eq!(stored(&a.append(&[message(4)]).await), [2]);
    assert!(
        matches!(a.append(&[message(5)]).await[0], AppendAnswer::Duplicate { first, .. } if first == message(4).id)
    );
}

/// Found by the differential run: the clock is set back between two keys. They are forgotten in the order in which they came.
pub async fn s29a_keys_go_in_the_order_in_which_they_came<F: Fixture>() {
    let retention = Duration::from_secs(3_600);
    let service = Service { partitions: 1, dedup_retention: retention, ..Service::named("order") };
    let mut world = World::<F>::with(service).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1).once(b"first")]).await;
    world.clock.set_back(Duration::from_secs(60));
    a.append(&[Message::command(2).once(b"second")]).await;
    world.clock.advance(retention);
    assert_eq!(a.housekeep(100).await, 0, "by the clock the second is old, but the first came before it");
    let again = a.append(&[Message::command(3).once(b"second"), Message::command(4).once(b"first")]).await;
    assert!(again.iter().all(|answer| matches!(answer, AppendAnswer::Duplicate { .. })), "{again:?}");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(a.housekeep(100).await, 2, "each is remembered for its retention, and no longer");
}

/// Scenario 30: NUL bytes, invalid UTF-8, emoji, lone surrogate escapes, nothing at all: back byte for byte.
pub async fn s30_payloads_come_back_byte_for_byte<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let all: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 8] = [
        b"",
        b"\0",
        b"a\0b\0",
        &[0xFF, 0xFE, 0x80],
        "🦀 ünï \u{202E}".as_bytes(),
        br#""\ud800""#,
        &all,
        b"';--",
    ];
    let messages: Vec<Message> = (0..)
        .zip(payloads)
        .map(|(n, payload)| Message {
            metadata: payload.iter().rev().copied().collect(),
            ..Message::command(n).with(payload)
        })
        .collect();
    a.append(&messages).await;
    let got = a.read(0, 0).await;
    for (sent, got) in messages.iter().zip(&got) {
        assert_eq!((&sent.payload, &sent.metadata), (&got.payload, &got.metadata));
    }
    assert_eq!(got.len(), payloads.len());
    // The same for keys and states, which are bytes as well.
    let keyed: Vec<Message> =
        (100..).zip(&payloads[1..]).map(|(n, key)| Message::command(n).once(key)).collect();
    assert!(a.append(&keyed).await.iter().all(|answer| matches!(answer, AppendAnswer::Stored { .. })));
    assert!(a.append(&keyed).await.iter().all(|answer| matches!(answer, AppendAnswer::Duplicate { .. })));
}

/// Scenario 31: A payload at the limit: stored; one byte over: refused alone. Metadata and keys alike.
pub async fn s31_what_is_too_large_is_refused_alone<F: Fixture>() {
    let limits =
        Limits { payload_bytes_max: 100, metadata_bytes_max: 10, key_bytes_max: 8, ..Limits::default() };
    let mut world = World::<F>::with(Service { partitions: 1, limits, ..Service::named("limits") }).await;
    let mut a = world.joined().await;
    let metadata = |n: u64, bytes: usize| Message { metadata: vec![1; bytes], ..Message::command(n) };
    let answers = a
        .append(&[
            Message::command(1).with(vec![1; 100]),
            Message::command(2).with(vec![1; 101]),
            metadata(3, 10),
            metadata(4, 11),
            Message::command(5).once(&[1; 8]),
            Message::command(6).once(&[1; 9]),
            Message::command(7).once(b""),
        ])
        .await;
    assert_eq!(answers[1], AppendAnswer::Refused(Refusal::PayloadTooLarge { bytes: 101, max: 100 }));
    assert_eq!(answers[3], AppendAnswer::Refused(Refusal::MetadataTooLarge { bytes: 11, max: 10 }));
    assert_eq!(answers[5], AppendAnswer::Refused(Refusal::Key { bytes: 9, max: 8 }));
    assert_eq!(answers[6], AppendAnswer::Refused(Refusal::Key { bytes: 0, max: 8 }));
    assert_eq!(stored(&[answers[0], answers[2], answers[4]]), [1, 2, 3]);
    assert_eq!(numbers(&a.read(0, 0).await), [1, 3, 5]);
}

/// Scenario 32: A name over its limit, empty, or with a NUL: refused alone; whatever else it holds comes back.
pub async fn s32_names_that_cannot_be_stored_are_refused_alone<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let named = |n: u64, name: String| Message { type_name: name, ..Message::command(n) };
    let good = ["x".repeat(200), "'; DROP TABLE messages; --".to_owned(), "%_\"`\\ \u{202E}🦀".to_owned()];
    let bad = [String::new(), "x".repeat(201), "a\0b".to_owned()];
    let messages: Vec<Message> =
        (0..).zip(good.iter().chain(&bad)).map(|(n, name)| named(n, name.clone())).collect();
    let answers = a.append(&messages).await;
    assert_eq!(stored(&answers[..3]), [1, 2, 3]);
    for (answer, name) in answers[3..].iter().zip(&bad) {
        assert_eq!(
            *answer,
            AppendAnswer::Refused(Refusal::Name { what: "type", bytes: name.len(), max: 200 })
        );
    }
    let back: Vec<String> = a.read(0, 0).await.into_iter().map(|got| got.type_name).collect();
    assert_eq!(back, good);
    // A subscription or group name is refused as an operation, alone.
    let long = "x".repeat(201);
    for (group, name) in [("", "s"), ("g", ""), ("g", &long), ("g\0", "s")] {
        let refused = a.operate(Operation::Register { group, subscription: subscription(name) }).await;
        assert!(
            matches!(refused, whizbang_storage::OperationAnswer::Refused(Refusal::Name { .. })),
            "{refused:?}"
        );
    }
}

/// Scenario 33: An empty batch is allowed, counts as a number, and changes nothing.
pub async fn s33_an_empty_batch_is_a_number_and_no_more<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1)]).await;
    let before = a.statistics().await;
    for _ in 0..3 {
        let seen = crate::Seen::from(a.ok(a.batch()).await);
        assert_eq!(seen, crate::Seen::from(&whizbang_storage::Answer::default()));
    }
    assert_eq!(a.from.number, 5);
    assert_eq!(a.statistics().await, before);
}

/// Scenario 34: 50,000 messages in one batch: stored all, or refused whole with `BatchTooLarge`; never half.
pub async fn s34_a_huge_batch_is_stored_whole_or_not_at_all<F: Fixture>() {
    let mut world = World::<F>::new(8).await;
    let mut a = world.joined().await;
    let messages: Vec<Message> = (0..50_000).map(|n| Message::command(n).with(*b"1")).collect();
    let answers = a.append(&messages).await;
    assert_eq!(answers.len(), 50_000);
    assert!(answers.iter().all(|answer| matches!(answer, AppendAnswer::Stored { .. })));
    let appends: Vec<_> = messages.iter().cycle().take(65_537).map(Message::append).collect();
    let refused = a.send(WorkBatch { appends: &appends, ..a.batch() }).await.map(drop);
    match refused {
        Err(StoreError::NotApplied(NotApplied::BatchTooLarge { messages, messages_max, .. })) => {
            assert_eq!((messages, messages_max), (65_537, 65_536));
        }
        other => panic!("{other:?}"),
    }
    let statistics = a.statistics().await;
    assert_eq!(statistics.messages, 50_000);
    let heads: u64 = a.heartbeat().await.owned.iter().map(|owned| owned.head.0).sum();
    assert_eq!(heads, 50_000);
}

/// Scenario 35: Scheduled in 10 s: not readable before, readable then, behind what came meanwhile; its stream is not delayed.
pub async fn s35_a_scheduled_message_comes_when_its_time_has_come<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let later = |n: u64, seconds: u64| Message::event(n, stream).due_in(Duration::from_secs(seconds));
    let answers = a.append(&[later(1, 10), Message::event(2, stream), later(3, 9), later(4, 10)]).await;
    assert_eq!((answers[0], answers[2]), (AppendAnswer::Arrived, AppendAnswer::Arrived));
    assert_eq!(stored(&answers[1..2]), [1]);
    let told = a.heartbeat().await;
    assert_eq!((told.arrivals_waiting, told.next_due), (0, Some(Duration::from_secs(9))));
    for _ in 0..4 {
        world.clock.advance(Duration::from_millis(2_249));
        assert_eq!(a.move_arrivals().await, []);
    }
    assert_eq!(stored(&a.append(&[Message::event(5, stream)]).await), [2]);
    world.clock.advance(Duration::from_millis(4));
    assert_eq!(a.heartbeat().await.arrivals_waiting, 1);
    assert_eq!(a.move_arrivals().await, [(0, 3)]);
    world.clock.advance(Duration::from_micros(999_999));
    assert_eq!(a.move_arrivals().await, []);
    let told = a.heartbeat().await;
    assert_eq!(told.next_due, Some(Duration::from_micros(1)));
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(a.move_arrivals().await, [(0, 5)]);
    let got = a.read(0, 0).await;
    let versions: Vec<_> = got.iter().filter_map(|got| got.version).map(|version| version.0).collect();
    assert_eq!((numbers(&got), versions), (vec![2, 5, 3, 1, 4], vec![1, 2, 3, 4, 5]));
    // A schedule of nothing is an arrival, too, and due at once; the far end of time overflows nothing.
    assert_eq!(a.append(&[later(6, 0), later(7, u64::MAX / 2)]).await, [AppendAnswer::Arrived; 2]);
    assert_eq!(a.move_arrivals().await, [(0, 6)]);
}

/// Scenario 36: An error text of 10,000 characters with quotes, backslashes, newlines: kept up to the documented length.
pub async fn s36_a_long_error_text_is_cut<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let error = "'\"\\\n%s ü".repeat(1_250);
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    let dead = Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: &error };
    assert!(applied(
        &a.units(&[got[0].ends(dead), got[1].ends(Settle::Retry { after: Duration::ZERO, error: &error })])
            .await
    ));
    let letters = a.dead_letters().await;
    assert_eq!(letters[0].error, world.service.limits.cut(&error));
    assert!(letters[0].error.len() <= 2_000 && letters[0].error.len() > 1_990);
}

/// `HandOut::Now` is granted for the next unread position of every subscription, and to nobody else's harm.
pub async fn a_message_is_handed_out_by_the_call_that_appends_it<F: Fixture>() {
    let service = Service { partitions: 1, window: 4, ..Service::named("now") };
    let mut world = World::<F>::with(service).await;
    let two: [SubscriptionSpec<'_>; 2] = [subscription("all"), subscription("more")];
    let mut a = world.joined_with(&two).await;
    let granted = |answers: &[AppendAnswer]| -> Vec<bool> {
        answers.iter().map(|answer| matches!(answer, AppendAnswer::Stored { handed_out: true, .. })).collect()
    };
    let lane = world.stream_in(0, 1);
    assert_eq!(
        granted(&a.append(&[Message::command(1).of(lane).now(), Message::command(2).now()]).await),
        [true, true]
    );
    // No read returns it, as long as it reads on from there; what was not asked for stays to be read.
    let told = a.heartbeat().await;
    assert_eq!(told.owned[0].cursors[0].read_from, Position(2));
    assert_eq!(granted(&a.append(&[Message::command(3), Message::command(4).now()]).await), [false, false]);
    assert_eq!(positions(&a.read(0, 2).await), [3, 4]);
    // One subscription has not read it: nobody is handed the next.
    assert_eq!(granted(&a.append(&[Message::command(5).now()]).await), [false]);
    let more = whizbang_storage::Read { subscription: a.subscriptions[1], ..a.reads(0, 2) };
    a.reading(more).await;
    a.settle(0, 1, 2).await;
    a.read(0, 4).await;
    let range = whizbang_storage::Settled { subscription: a.subscriptions[1], ..a.range(0, 1, 2) };
    a.ok(WorkBatch { settled: &[range], ..a.batch() }).await;
    assert_eq!(granted(&a.append(&[Message::command(6).now()]).await), [false], "`more` has not read 5");
    let more = whizbang_storage::Read { subscription: a.subscriptions[1], ..a.reads(0, 4) };
    assert_eq!(a.reading(more).await.1, 6);
    a.read(0, 5).await;
    // The window ends at low + 4 = 6.
    assert_eq!(granted(&a.append(&[Message::command(7).now()]).await), [false]);
    let range = whizbang_storage::Settled { subscription: a.subscriptions[1], ..a.range(0, 3, 6) };
    let both = [a.range(0, 3, 6), range];
    a.ok(WorkBatch { settled: &both, ..a.batch() }).await;
    let more = whizbang_storage::Read { subscription: a.subscriptions[1], ..a.reads(0, 6) };
    let got = a.reading(more).await.0;
    a.read(0, 6).await;
    // Its lane is parked for one of them, or one of them is paused.
    assert!(applied(&a.units(&[got[0].retry_in(Duration::from_secs(60))]).await));
    let blocked = Message::command(8).of(got[0].delivery().lane).now();
    assert_eq!(granted(&a.append(&[blocked, Message::command(9).now()]).await), [false, false]);
    for subscription in a.subscriptions.clone() {
        let read = whizbang_storage::Read { subscription, ..a.reads(0, 7) };
        assert_eq!(a.reading(read).await.1, 9);
    }
    let pause = a.subscriptions[1];
    a.operate(Operation::Pause(pause)).await;
    assert_eq!(granted(&a.append(&[Message::command(10).now()]).await), [false]);
    a.operate(Operation::Resume(pause)).await;
    assert_eq!(a.due_within(ALL).await, []);
}
