//! Parked work: retries, lanes that wait, suspects, crashes, dead letters.

use std::time::Duration;

use whizbang_storage::{
    DeadReason, LaneState, Limit, OnDead, Operation, OperationAnswer, Origin, ParkedKey, Partition, Position,
    Read, Release, Running, Service, Settle, Settled, SettledAnswer, SubscriptionSpec, Unit, UnitAnswer,
    Whereabouts, WorkBatch, WorkStore,
};

use crate::{ALL, Fixture, Got, Member, Message, World, applied, numbers, positions, stored, subscription};

const NOW: Duration = Duration::ZERO;
const DEAD: Settle<'static> = Settle::Dead { reason: DeadReason::Rejected, error: "no" };

/// Ends everything in the log's flow that a member can read behind a position, well.
async fn finish<S: WorkStore>(member: &mut Member<S>, got: &[Got]) {
    let units: Vec<Unit<'_>> = got.iter().map(Got::done).collect();
    assert!(applied(&member.units(&units).await));
}

/// Runs everything that is due, in the order it comes, until nothing is.
async fn run_due<S: WorkStore>(member: &mut Member<S>) -> Vec<u64> {
    let mut ran = Vec::new();
    loop {
        let due = member.due().await;
        if due.is_empty() {
            return ran;
        }
        ran.extend(numbers(&due));
        finish(member, &due).await;
    }
}

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

/// Scenario 59: Attempts reach the cap: dead, reason `AttemptsExhausted`, visible with error, attempts and times.
pub async fn s59_at_the_cap_a_message_is_dead<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined_with(&[SubscriptionSpec { attempts_max: 3, ..subscription("all") }]).await;
    let message = Message::command(1).of(world.stream_in(0, 1));
    a.append(std::slice::from_ref(&message)).await;
    let start = whizbang_storage::Clock::now(&world.clock);
    let mut got = a.read(0, 0).await;
    for attempt in 1..=3 {
        assert_eq!(got[0].attempt, attempt);
        assert_eq!(a.whereabouts(&message).await, Whereabouts::Waiting);
        let error = format!("failure {attempt}");
        let retry = Settle::Retry { after: Duration::from_secs(1), error: &error };
        assert!(applied(&a.units(&[got[0].ends(retry)]).await));
        world.clock.advance(Duration::from_secs(1));
        got = a.due().await;
    }
    assert_eq!(got, []);
    let letters = a.dead_letters().await;
    let letter = &letters[0];
    assert_eq!(
        (letters.len(), letter.reason, letter.error.as_str()),
        (1, DeadReason::AttemptsExhausted, "failure 3")
    );
    assert_eq!((letter.attempts, letter.crashes), (3, 0));
    assert_eq!(
        (letter.message, letter.stream, &letter.payload),
        (message.id, message.stream, &message.payload)
    );
    assert_eq!(
        (letter.group.as_str(), letter.subscription.as_str(), letter.type_name.as_str()),
        ("group", "all", "test.command")
    );
    assert_eq!((letter.first_failed_at, letter.dead_at), (start, start.after(Duration::from_secs(2))));
    assert_eq!(
        letter.key,
        ParkedKey { subscription: a.subscription(), partition: Partition(0), position: Position(1) }
    );
    let (reason, error) = (DeadReason::AttemptsExhausted, "failure 3".to_owned());
    assert_eq!(a.whereabouts(&message).await, Whereabouts::Dead { reason, error });
    // A cap of one: the first failure is the last; a cap of nothing counts as one.
    for (name, attempts_max) in [("one", 1), ("none", 0)] {
        let spec = SubscriptionSpec { attempts_max, ..subscription(name) };
        let OperationAnswer::Registered(id) =
            a.operate(Operation::Register { group: "group", subscription: spec }).await
        else {
            panic!("it is registered")
        };
        let got = a.reading(Read { subscription: id, ..a.reads(0, 0) }).await.0;
        assert!(applied(&a.units(&[got[0].retry_in(NOW)]).await));
    }
    assert_eq!(a.dead_letters().await.len(), 3);
}

/// Scenario 60: `Dead { reason: Undecodable }` on first delivery: dead at once, no attempts.
pub async fn s60_a_message_can_be_dead_at_once<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    let dead = Settle::Dead { reason: DeadReason::Undecodable, error: "not JSON" };
    assert!(applied(&a.units(&[got[0].ends(dead), got[1].done()]).await));
    let letters = a.dead_letters().await;
    assert_eq!((letters.len(), letters[0].reason, letters[0].attempts), (1, DeadReason::Undecodable, 0));
    assert_eq!(a.low(0).await, 2);
    assert_eq!(a.due().await, []);
}

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

/// Scenario 64: Requeue of a dead event of one perspective: it gets it once more, attempts 0, marked as replay; nothing else changes.
pub async fn s64_a_requeued_dead_letter_comes_once_more<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world
        .joined_with(&[SubscriptionSpec { attempts_max: 2, ..subscription("x") }, subscription("y")])
        .await;
    let stream = world.stream_in(0, 1);
    a.append(&[Message::event(1, stream).once(b"key"), Message::event(2, stream)]).await;
    let got = a.read(0, 0).await;
    let other = a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await.0;
    finish(&mut a, &other).await;
    a.units(&[got[0].retry_in(NOW)]).await;
    let due = a.due().await;
    a.units(&[due[0].retry_in(NOW), got[1].done()]).await;
    let letters = a.dead_letters().await;
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));
    a.housekeep(100).await;
    let key = letters[0].key;
    for wrong in [
        ParkedKey { position: Position(2), ..key },
        ParkedKey { partition: Partition(9), ..key },
        ParkedKey { subscription: a.subscriptions[1], ..key },
        ParkedKey { subscription: whizbang_storage::SubscriptionId(0), ..key },
    ] {
        assert_eq!(a.operate(Operation::Requeue(wrong)).await, OperationAnswer::Gone);
    }
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Gone);
    assert_eq!(a.operate(Operation::Discard(key)).await, OperationAnswer::Gone);
    assert_eq!(a.dead_letters().await, []);
    let due = a.due().await;
    assert_eq!((numbers(&due), due[0].attempt, due[0].origin), (vec![1], 1, Origin::Replay));
    assert_eq!((due[0].position, due[0].version), (got[0].position, got[0].version));
    assert_eq!((due[0].subscription, &due[0].payload), (a.subscriptions[0], &got[0].payload));
    // It may fail as often as a fresh one, and dies again.
    a.units(&[due[0].retry_in(NOW)]).await;
    let due = a.due().await;
    assert_eq!((due[0].attempt, due[0].origin), (2, Origin::Replay));
    a.units(&[due[0].ends(DEAD)]).await;
    assert_eq!(a.operate(Operation::Requeue(key)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [1]);
    assert_eq!(a.history(stream, 0, 99).await.len(), 2);
    assert_eq!(a.append(&[Message::event(3, stream)]).await.len(), 1);
    assert_eq!(a.statistics().await.subscriptions.iter().map(|counts| counts.dead).sum::<u64>(), 0);
}

/// Scenario 64a: `Halt`: after a dead event the stream waits for this subscription until it is requeued or discarded. `Skip`: it goes
/// on.
pub async fn s64a_a_dead_message_halts_its_stream_where_that_is_asked<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let halt = SubscriptionSpec { on_dead: OnDead::Halt, ..subscription("halt") };
    let mut a = world.joined_with(&[halt, subscription("skip")]).await;
    let (s, t) = (world.stream_in(0, 1), world.stream_in(0, 2));
    a.append(&[
        Message::command(1).of(s),
        Message::command(2).of(s),
        Message::command(3).of(t),
        Message::command(4).of(t),
    ])
    .await;
    let halted = a.read(0, 0).await;
    let skipped = a.reading(Read { subscription: a.subscriptions[1], ..a.reads(0, 0) }).await.0;
    a.units(&[halted[0].ends(DEAD), halted[2].ends(DEAD), skipped[0].ends(DEAD), skipped[2].ends(DEAD)])
        .await;
    for got in [&halted, &skipped] {
        assert!(applied(&a.units(&[got[1].ends(Settle::Defer), got[3].ends(Settle::Defer)]).await));
    }
    assert_eq!(a.low(0).await, 4);
    let due = a.due().await;
    assert!(due.iter().all(|got| got.subscription == a.subscriptions[1]), "{due:?}");
    assert_eq!(numbers(&due), [2, 4]);
    finish(&mut a, &due).await;
    let key = |position: u64| ParkedKey {
        subscription: a.subscriptions[0],
        partition: Partition(0),
        position: Position(position),
    };
    let (first, third) = (key(1), key(3));
    assert_eq!(a.operate(Operation::Discard(third)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [4]);
    assert_eq!(a.operate(Operation::Requeue(first)).await, OperationAnswer::Done);
    assert_eq!(run_due(&mut a).await, [1, 2]);
    // A later join may change its mind.
    a.append(&[Message::command(5).of(s), Message::command(6).of(s)]).await;
    let got = a.read(0, 4).await;
    a.units(&[got[0].ends(DEAD)]).await;
    a.units(&[got[1].ends(Settle::Defer)]).await;
    assert_eq!(a.due().await, []);
    let register = Operation::Register {
        group: "group",
        subscription: SubscriptionSpec { on_dead: OnDead::Skip, ..halt },
    };
    assert_eq!(a.operate(register).await, OperationAnswer::Registered(a.subscriptions[0]));
    assert_eq!(run_due(&mut a).await, [6]);
}

/// Scenario 65: Discard of a dead letter: gone; again: says so.
pub async fn s65_a_discarded_dead_letter_is_gone<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].ends(DEAD), got[1].ends(DEAD)]).await;
    let letters = a.dead_letters().await;
    assert_eq!(letters.len(), 2);
    let reader = a.store.reader();
    let second = whizbang_storage::StoreReader::dead_letters(&reader, Some(letters[0].key), 1)
        .await
        .expect("it is read");
    assert_eq!(second, letters[1..]);
    assert_eq!(a.operate(Operation::Discard(letters[0].key)).await, OperationAnswer::Done);
    assert_eq!(a.operate(Operation::Discard(letters[0].key)).await, OperationAnswer::Gone);
    assert_eq!(a.operate(Operation::Requeue(letters[0].key)).await, OperationAnswer::Gone);
    assert_eq!(a.dead_letters().await, letters[1..]);
    assert_eq!(a.whereabouts(&Message::command(1)).await, Whereabouts::NotWaiting);
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
