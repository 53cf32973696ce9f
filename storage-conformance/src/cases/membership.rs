//! Joining, heartbeats, fair shares, leaving, eviction.

use std::collections::BTreeMap;
use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, Epoch, InstanceId, Join, KnownType, Limit, Membership, MembershipAnswer, NotApplied,
    Partition, Position, ReadAnswer, Running, Service, Settle, SettledAnswer, StoreError, UnitAnswer,
    WorkBatch, WorkStore,
};

use crate::{ALL, Fixture, Member, Message, World, applied, numbers, sender, stored, subscription};

/// Scenario 1: An unknown instance joins a group: it owns all partitions when alone, each at epoch 1.
pub async fn s01_an_unknown_instance_joins_and_owns_everything<F: Fixture>() {
    let mut world = World::<F>::new(128).await;
    let mut a = world.member().await;
    let told = a.join(Some("group"), &[subscription("all"), subscription("more")], &[]).await;
    assert_eq!((told.alive, told.give_back, told.arrivals_waiting), (1, 0, 0));
    assert_eq!(told.next_due, None);
    assert_eq!(told.subscriptions.len(), 2);
    assert_ne!(told.subscriptions[0], told.subscriptions[1]);
    assert_eq!(told.owned.len(), 128);
    for (number, owned) in (0..).zip(&told.owned) {
        assert_eq!((owned.partition, owned.epoch, owned.head), (Partition(number), Epoch(1), Position(0)));
        let cursors: Vec<_> =
            owned.cursors.iter().map(|c| (c.subscription, c.low.0, c.read_from.0)).collect();
        assert_eq!(cursors, [(told.subscriptions[0], 0, 0), (told.subscriptions[1], 0, 0)]);
    }
    let statistics = a.statistics().await;
    assert_eq!(statistics.instances, [a.from.instance]);
    // A name that cannot be stored refuses the join whole, and the number is free.
    let mut b = world.member().await;
    let long = "x".repeat(201);
    for (group, name, known) in [("", "s", "t"), ("g", "", "t"), ("g", &long, "t"), ("g", "s", "nul\0")] {
        let join = Membership::Join(Join {
            group: Some(group),
            subscriptions: &[subscription(name)],
            types: &[KnownType { name: known, version_max: 1 }],
        });
        let refused = b.send(WorkBatch { membership: Some(join), ..b.batch() }).await.map(drop);
        assert!(matches!(refused, Err(StoreError::NotApplied(NotApplied::Join(_)))), "{refused:?}");
    }
    b.join(Some("group"), &[], &[]).await;
}

/// Scenario 2: A heartbeat moves no epoch and keeps the instance alive.
pub async fn s02_a_heartbeat_moves_no_epoch<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    let before = a.heartbeat().await;
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(4));
        let now = a.heartbeat().await;
        assert_eq!(now.owned, before.owned);
        assert!(now.subscriptions.is_empty(), "they are told at the join only");
        assert_eq!(b.heartbeat().await.alive, 2);
    }
}

/// Scenario 3: For 1 to 33 instances joining one by one: in the end nobody is idle while another holds more than its share.
pub async fn s03_partitions_are_shared_fairly_as_instances_join<F: Fixture>() {
    let mut world = World::<F>::new(32).await;
    let mut members: Vec<Member<F::Store>> = Vec::new();
    for n in 1..=33usize {
        let mut joining = world.member().await;
        let told = joining.join(Some("group"), &[subscription("all")], &[]).await;
        assert_eq!(told.owned.len(), if n == 1 { 32 } else { 0 }, "nothing is taken from a living owner");
        members.push(joining);
        let mut rounds = 0;
        loop {
            let mut asked = 0;
            for member in &mut members {
                let told = member.heartbeat().await;
                asked += told.give_back;
                let back: Vec<Partition> =
                    told.owned.iter().map(|o| o.partition).take(told.give_back).collect();
                if !back.is_empty() {
                    member.release(&back).await;
                }
            }
            rounds += 1;
            assert!(rounds < 6, "no rest with {n} instances");
            if asked == 0 && one_owner_each(&mut members, 32).await {
                break;
            }
        }
        let held: Vec<usize> = members.iter().map(|member| member.owned.len()).collect();
        let (least, most) = (held.iter().min().unwrap_or(&0), held.iter().max().unwrap_or(&0));
        assert!(*least >= 32 / n && *most <= 32 / n + 1, "{n} instances hold {held:?}");
    }
}

/// Whether every partition has exactly one owner, as the members are told.
async fn one_owner_each<S: WorkStore>(members: &mut [Member<S>], partitions: usize) -> bool {
    let mut owners = BTreeMap::new();
    for member in members.iter_mut() {
        for owned in member.heartbeat().await.owned {
            let second = owners.insert(owned.partition, member.from.instance);
            assert_eq!(second, None, "partition {} has two owners", owned.partition);
        }
    }
    owners.len() == partitions
}

/// Scenario 3: The first is asked for half, and what it releases the second gets under the next epoch.
pub async fn s03_what_is_given_back_gets_the_next_epoch<F: Fixture>() {
    let mut world = World::<F>::new(8).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    assert!(b.owned.is_empty());
    let told = a.heartbeat().await;
    assert_eq!((told.give_back, told.alive, told.owned.len()), (4, 2, 8));
    assert_eq!(b.heartbeat().await.give_back, 0);
    let told = a.release(&[6, 1, 3, 7].map(Partition)).await;
    assert_eq!(
        (told.owned.len(), told.give_back),
        (4, 0),
        "what is freed is not taken again in the same batch"
    );
    let told = b.heartbeat().await;
    let got: Vec<_> = told.owned.iter().map(|owned| (owned.partition.0, owned.epoch.0)).collect();
    assert_eq!(got, [(1, 2), (3, 2), (6, 2), (7, 2)]);
    // A release under another epoch, or of what is not owned, is ignored.
    let wrong = [whizbang_storage::Release { partition: Partition(1), epoch: Epoch(1), running: &[] }];
    assert_eq!(b.says(Membership::Release(&wrong)).await.owned.len(), 4);
    let wrong = [
        whizbang_storage::Release { partition: Partition(0), epoch: Epoch(1), running: &[] },
        whizbang_storage::Release { partition: Partition(99), epoch: Epoch(1), running: &[] },
    ];
    assert_eq!(b.says(Membership::Release(&wrong)).await.owned.len(), 4);
    assert_eq!(a.heartbeat().await.owned.len(), 4);
}

/// Scenario 4: Three join, one leaves gracefully: its partitions are free in the same call, without a time-out.
pub async fn s04_a_leaving_instance_frees_its_partitions_at_once<F: Fixture>() {
    let mut world = World::<F>::new(9).await;
    let mut a = world.joined().await;
    let (mut b, mut c) = (world.joined().await, world.joined().await);
    let told = a.heartbeat().await;
    let back: Vec<Partition> = told.owned.iter().map(|owned| owned.partition).take(told.give_back).collect();
    a.release(&back).await;
    b.heartbeat().await;
    c.heartbeat().await;
    assert_eq!((a.owned.len(), b.owned.len(), c.owned.len()), (3, 3, 3));
    let told = b.leave(&[]).await;
    assert_eq!((told.owned.len(), told.alive), (0, 2));
    a.heartbeat().await;
    c.heartbeat().await;
    assert_eq!(a.owned.len() + c.owned.len(), 9);
    assert!(a.owned.len().abs_diff(c.owned.len()) <= 1);
    let refused = b.send(b.batch()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Evicted)), "{refused:?}");
}

/// Scenario 5: Silent past its time to live while others write: whoever calls next evicts it and can own its partitions at once.
pub async fn s05_a_silent_instance_is_evicted_by_whoever_calls_next<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    for _ in 0..4 {
        b.ok(b.batch()).await;
        world.clock.advance(Duration::from_millis(2_500));
    }
    // A batch without a membership looks for nobody.
    b.ok(b.batch()).await;
    let statistics = b.statistics().await;
    assert_eq!(statistics.instances.len(), 2);
    let told = b.heartbeat().await;
    assert_eq!((told.alive, told.owned.len()), (1, 4));
    assert!(told.owned.iter().all(|owned| owned.epoch == Epoch(2)));
    let refused = a.send(a.batch()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Evicted)), "{refused:?}");
}

/// Scenario 5: All silent (the store was away, or the clock jumped): nobody is evicted, no epoch moves, for one time to live.
pub async fn s05_a_silence_of_all_evicts_nobody<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(b.heartbeat().await.alive, 2);
    // For one time to live, however often b calls, a may come back.
    for _ in 0..3 {
        world.clock.advance(Duration::from_millis(3_333));
        assert_eq!(b.heartbeat().await.alive, 2);
    }
    let told = a.heartbeat().await;
    assert!(told.owned.len() == 4 && told.owned.iter().all(|owned| owned.epoch == Epoch(1)));
    // Then the rule holds again.
    world.outlive(&mut b).await;
    assert_eq!(b.owned.len(), 4);
    // Half the time to live is the limit of what counts as a silence of all.
    let mut c = world.joined().await;
    world.clock.advance(Duration::from_millis(4_999));
    b.heartbeat().await;
    world.clock.advance(Duration::from_millis(5_001));
    assert_eq!(b.heartbeat().await.alive, 2, "nobody wrote for half a time to live");
    for (pause, alive) in [(4_999, 2), (4_999, 2), (1, 2), (1, 1)] {
        world.clock.advance(Duration::from_millis(pause));
        assert_eq!(
            b.heartbeat().await.alive,
            alive,
            "the truce lasts for one time to live after the silence"
        );
    }
    assert!(matches!(c.send(c.batch()).await, Err(StoreError::Evicted)));
}

/// Scenario 6: Silent but within the time to live: untouched.
pub async fn s06_within_its_time_to_live_an_instance_is_untouched<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    for step in [4_000, 4_000, 1_999] {
        world.clock.advance(Duration::from_millis(step));
        assert_eq!(b.heartbeat().await.alive, 2);
    }
    assert_eq!(a.heartbeat().await.owned.len(), 4);
    assert_eq!(a.epoch(0), Epoch(1));
}

/// Scenario 7: Exactly at the limit an instance is expired: age >= time to live; a microsecond before it is not.
pub async fn s07_an_instance_is_expired_when_its_age_is_the_time_to_live<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let (_a, mut b) = (world.joined().await, world.joined().await);
    for step in [4_000_000, 4_000_000, 1_999_999] {
        world.clock.advance(Duration::from_micros(step));
        assert_eq!(b.heartbeat().await.alive, 2);
    }
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(b.heartbeat().await.alive, 1);
}

/// Scenario 8: An evicted instance heartbeats, appends, settles, reads: `Evicted` each time, nothing written.
pub async fn s08_an_evicted_instance_is_refused_and_writes_nothing<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    world.outlive(&mut b).await;
    let message = Message::command(3).once(b"key");
    let (appends, settled, reads) = ([message.append()], [a.range(0, 1, 2)], [a.reads(0, 0)]);
    let units = [got[0].done()];
    for batch in [
        a.batch(),
        WorkBatch { membership: Some(Membership::Heartbeat), ..a.batch() },
        WorkBatch { appends: &appends, ..a.batch() },
        WorkBatch { settled: &settled, ..a.batch() },
        WorkBatch { units: &units, ..a.batch() },
        WorkBatch { reads: &reads, due: Some(ALL), ..a.batch() },
    ] {
        let refused = a.send(batch).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Evicted)), "{refused:?}");
    }
    let statistics = b.statistics().await;
    assert_eq!((statistics.messages, statistics.arrivals, statistics.dedup_keys), (2, 0, 0));
    assert_eq!(statistics.subscriptions[0].lag, 2);
    assert_eq!(statistics.instances, [b.from.instance]);
}

/// Scenario 9: After eviction the process joins under a new id: accepted.
pub async fn s09_an_evicted_process_joins_under_a_new_id<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    world.outlive(&mut b).await;
    assert!(matches!(a.send(a.batch()).await, Err(StoreError::Evicted)));
    // The evicted id cannot join again: it is gone for good.
    let join = Membership::Join(Join { group: Some("group"), subscriptions: &[], types: &[] });
    let again = sender(1);
    let first = whizbang_storage::Sender { number: 2, ..again };
    let refused = a.send_as(first, WorkBatch { membership: Some(join), ..a.batch() }).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Evicted)), "{refused:?}");
    let mut fresh = world.joined().await;
    assert_eq!(fresh.heartbeat().await.alive, 2);
}

/// Scenario 10: Two services in one database: neither sees the other's messages, instances, partitions or dead letters.
pub async fn s10_two_services_never_see_each_other<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let other = Service { partitions: 3, ..Service::named("other") };
    let mut b = world.member_of(other).await.expect("another service can be opened");
    let told = b.join(Some("group"), &[subscription("all")], &[]).await;
    assert_eq!((told.alive, told.owned.len()), (1, 3));
    let stream = world.stream_in(0, 1);
    let message = Message::event(1, stream).once(b"key");
    assert_eq!(stored(&a.append(std::slice::from_ref(&message)).await).len(), 1);
    let got = a.read(0, 0).await;
    let dead = got[0].ends(Settle::Dead { reason: whizbang_storage::DeadReason::Rejected, error: "no" });
    assert!(applied(&a.units(&[dead]).await));
    assert_eq!(b.dead_letters().await, []);
    let statistics = b.statistics().await;
    assert_eq!((statistics.events, statistics.dedup_keys, statistics.instances.len()), (0, 0, 1));
    // The same key, and the same stream, are free in the other service.
    let answers = b.append(&[message]).await;
    let version = match answers[0] {
        AppendAnswer::Stored { version, .. } => version.map(|version| version.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(version, Some(1));
    assert_eq!(a.heartbeat().await.alive, 1);
}

/// Scenario 11: Another time to live or partition count than the schema's: refused at start, with both values in the error.
pub async fn s11_another_agreement_is_refused_at_start<F: Fixture>() {
    let mut world = World::<F>::new(16).await;
    let a = world.joined().await;
    let text = |opened: Result<Member<F::Store>, crate::OpenError>| match opened {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    let service = world.service.clone();
    let other = Service { partitions: 17, ..service.clone() };
    let error = text(world.member_of(other.clone()).await);
    assert!(error.contains("16") && error.contains("17"), "{error}");
    let slower = Service { time_to_live: Duration::from_secs(33), ..service.clone() };
    let error = text(world.member_of(slower).await);
    assert!(error.contains("10") && error.contains("33"), "{error}");
    // After a restart as well; and what is not agreed upon may differ.
    world.kill(a).await;
    assert!(text(world.member_of(other).await).contains("16"));
    let own = Service { window: 7, dedup_retention: Duration::from_secs(1), ..service };
    assert!(world.member_of(own).await.is_ok());
    for unusable in [
        Service { partitions: 0, ..Service::named("new") },
        Service { partitions: 4_097, ..Service::named("new") },
        Service { time_to_live: Duration::from_millis(1), ..Service::named("new") },
        Service { window: 0, ..Service::named("new") },
        Service::named(""),
        Service::named("nul\0"),
    ] {
        assert!(world.member_of(unusable.clone()).await.is_err(), "{unusable:?}");
    }
}

/// Scenario 12: Joins and leaves at random: at most one owner at every step, epochs only grow, and in the end every partition has one.
pub async fn s12_whoever_comes_and_goes_every_partition_has_one_owner<F: Fixture>() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::<F>::new(12).await;
        let mut members: Vec<Member<F::Store>> = vec![world.joined().await];
        let mut epochs: BTreeMap<Partition, (Epoch, InstanceId)> = BTreeMap::new();
        for _ in 0..60 {
            match random.u32(0..10) {
                0 | 1 if members.len() < 8 => members.push(world.joined().await),
                2 if members.len() > 1 => {
                    let mut leaving = members.swap_remove(random.usize(0..members.len()));
                    leaving.leave(&[]).await;
                }
                3 if members.len() > 1 => {
                    // Killed, and evicted in time by the others.
                    let dead = members.swap_remove(random.usize(0..members.len()));
                    world.kill(dead).await;
                    let mut living: Vec<&mut Member<F::Store>> = members.iter_mut().collect();
                    world.pass(Duration::from_secs(11), &mut living).await;
                }
                _ => {}
            }
            let index = random.usize(0..members.len());
            let member = &mut members[index];
            let told = member.heartbeat().await;
            let back: Vec<Partition> = told.owned.iter().map(|o| o.partition).take(told.give_back).collect();
            let told = if back.is_empty() { told } else { member.release(&back).await };
            check_epochs(&mut epochs, member.from.instance, &told, seed);
        }
        for round in 0.. {
            assert!(round < 8, "seed {seed}: no rest");
            let mut asked = 0;
            for member in &mut members {
                let told = member.heartbeat().await;
                check_epochs(&mut epochs, member.from.instance, &told, seed);
                asked += told.give_back;
                let back: Vec<Partition> =
                    told.owned.iter().map(|o| o.partition).take(told.give_back).collect();
                if !back.is_empty() {
                    member.release(&back).await;
                }
            }
            if asked == 0 && one_owner_each(&mut members, 12).await {
                break;
            }
        }
    }
}

/// An epoch belongs to one instance, and a later owner has a larger one.
fn check_epochs(
    epochs: &mut BTreeMap<Partition, (Epoch, InstanceId)>,
    instance: InstanceId,
    told: &MembershipAnswer,
    seed: u64,
) {
    for owned in &told.owned {
        let last = epochs.entry(owned.partition).or_insert((owned.epoch, instance));
        assert!(
            owned.epoch > last.0 || (owned.epoch, instance) == *last,
            "seed {seed}: partition {} went from {last:?} to {:?} of {instance}",
            owned.partition,
            owned.epoch
        );
        *last = (owned.epoch, instance);
    }
}

/// Scenario 13: The store's clock jumps back 5 s: nobody is evicted by it, nothing is lost.
pub async fn s13_a_clock_that_jumps_back_evicts_nobody<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.joined().await;
    a.append(&[Message::command(1)]).await;
    b.append(&[Message::command(2)]).await;
    world.clock.set_back(Duration::from_secs(5));
    assert_eq!(b.heartbeat().await.alive, 2);
    b.append(&[Message::command(3)]).await;
    assert_eq!(a.heartbeat().await.owned.len(), 1);
    a.append(&[Message::command(4)]).await;
    a.move_arrivals().await;
    assert_eq!(numbers(&a.read(0, 0).await), [1, 4, 2, 3]);
    assert_eq!(a.settle(0, 1, 4).await, SettledAnswer::Applied);
}

/// Scenario 14: The same instance id from two processes (different start tokens): the second is refused.
pub async fn s14_an_instance_id_belongs_to_one_process<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut a = world.joined().await;
    let mut b = world.member().await;
    let join = Membership::Join(Join { group: Some("group"), subscriptions: &[], types: &[] });
    for number in [1, 2, 3] {
        let from = whizbang_storage::Sender { start_token: 1, number, ..a.from };
        let batch = WorkBatch { membership: Some(join), ..b.batch() };
        let refused = b.send_as(from, batch).await.map(drop);
        assert!(matches!(refused, Err(StoreError::InstanceTaken)), "{refused:?}");
    }
    assert_eq!(a.heartbeat().await.alive, 1);
    // Its first batch must join, its later ones must not.
    let not_joined = b.send(b.batch()).await.map(drop);
    assert!(matches!(not_joined, Err(StoreError::NotJoined)), "{not_joined:?}");
    let again = a.send(WorkBatch { membership: Some(join), ..a.batch() }).await.map(drop);
    assert!(matches!(again, Err(StoreError::NotJoined)), "{again:?}");
    a.heartbeat().await;
}

/// Scenario 14a: An instance that joins no group publishes: others handle its messages; it owns nothing and is asked nothing.
pub async fn s14a_an_instance_without_a_group_only_publishes<F: Fixture>() {
    let mut world = World::<F>::new(4).await;
    let mut publisher = world.member().await;
    let told = publisher.join(None, &[subscription("all")], &[]).await;
    assert_eq!(told, MembershipAnswer::default());
    let mut a = world.joined().await;
    assert_eq!(a.heartbeat().await.alive, 1);
    let stream = world.stream_in(2, 1);
    let messages: Vec<Message> = (1..=3).map(|n| Message::command(n).of(stream)).collect();
    let answers = publisher.append(&messages).await;
    assert_eq!(answers, [AppendAnswer::Arrived; 3]);
    let told = a.heartbeat().await;
    assert_eq!((told.arrivals_waiting, told.next_due), (3, Some(Duration::ZERO)));
    assert_eq!(a.move_arrivals().await, [(2, 3)]);
    assert_eq!(numbers(&a.read(2, 0).await), [1, 2, 3]);
    assert_eq!(publisher.heartbeat().await, MembershipAnswer::default());
    // It has no subscription: whatever it says of one is not heard.
    let read = whizbang_storage::Read { epoch: Epoch(1), ..a.reads(2, 0) };
    assert_eq!(publisher.try_read(read).await, ReadAnswer::Paused);
    assert_eq!(publisher.due().await, []);
    let settled = [a.range(2, 1, 1)];
    let batch = WorkBatch { settled: &settled, ..publisher.batch() };
    assert_eq!(publisher.ok(batch).await.settled, [SettledAnswer::Unknown]);
}

/// Scenario 14b: Two groups in one service: each has its own owners, epochs and cursors over the same messages.
pub async fn s14b_two_groups_have_their_own_owners_and_cursors<F: Fixture>() {
    let mut world = World::<F>::new(2).await;
    let mut a = world.joined().await;
    let mut b = world.member().await;
    let told = b.join(Some("second"), &[subscription("all")], &[]).await;
    assert_eq!((told.alive, told.owned.len()), (1, 2));
    assert_ne!(told.subscriptions[0], a.subscription());
    let stream = world.stream_in(0, 1);
    // The owner of the older group writes the log; what the other appends arrives.
    assert_eq!(stored(&a.append(&[Message::command(1).of(stream)]).await), [1]);
    assert_eq!(b.append(&[Message::command(2).of(stream)]).await, [AppendAnswer::Arrived]);
    assert_eq!(b.heartbeat().await.arrivals_waiting, 0, "it is not the writer");
    assert_eq!(b.move_arrivals().await, []);
    assert_eq!(a.move_arrivals().await, [(0, 2)]);
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2]);
    let got = b.read(0, 0).await;
    assert_eq!(numbers(&got), [1, 2]);
    assert_eq!(b.settle(0, 1, 2).await, SettledAnswer::Applied);
    assert_eq!((a.low(0).await, b.low(0).await), (0, 2));
    // A subscription of the other group is not there.
    let foreign = [whizbang_storage::Settled { subscription: a.subscription(), ..b.range(0, 1, 1) }];
    let batch = WorkBatch { settled: &foreign, ..b.batch() };
    assert_eq!(b.ok(batch).await.settled, [SettledAnswer::Unknown]);
    let delivery = whizbang_storage::Delivery { subscription: a.subscription(), ..got[0].delivery() };
    let unit = whizbang_storage::Unit { delivery: Some(delivery), ..got[0].done() };
    assert_eq!(b.units(&[unit]).await, [UnitAnswer::Unknown]);
    // Without an owner in the older group, the younger one's owner writes.
    a.leave(&[]).await;
    assert_eq!(stored(&b.append(&[Message::command(3).of(stream)]).await), [3]);
    let mut c = world.joined().await;
    assert_eq!(c.epoch(0), Epoch(2));
    assert_eq!(b.heartbeat().await.owned[0].epoch, Epoch(1));
    assert_eq!(stored(&c.append(&[Message::command(4).of(stream)]).await), [4]);
}

/// Scenario 14c: Old and new version in one group, the new one publishes a type the old one lacks: handled once, by the new one.
pub async fn s14c_a_type_that_only_some_know_is_handled_by_them<F: Fixture>() {
    let mut world = World::<F>::new(1).await;
    let mut old = world.member().await;
    old.join(Some("group"), &[subscription("all")], &[KnownType { name: "test.command", version_max: 1 }])
        .await;
    let mut new = world.member().await;
    let types =
        [KnownType { name: "test.command", version_max: 2 }, KnownType { name: "test.new", version_max: 1 }];
    new.join(Some("group"), &[subscription("all")], &types).await;
    let named = Message { type_name: "test.new".to_owned(), ..Message::command(1) };
    let newer = Message { type_version: 2, ..Message::command(2) };
    old.append(&[named, newer, Message::command(3)]).await;
    let got = old.read(0, 0).await;
    let units = [got[0].ends(Settle::Unroutable), got[1].ends(Settle::Unroutable), got[2].done()];
    assert!(applied(&old.units(&units).await));
    assert_eq!(old.low(0).await, 3);
    assert_eq!(old.due().await, [], "nothing of it for who does not know it");
    assert_eq!(old.heartbeat().await.next_due, None);
    assert_eq!(new.heartbeat().await.next_due, Some(Duration::ZERO));
    let one = Limit { messages: 1, ..ALL };
    let first = new.due_within(one).await;
    assert_eq!((numbers(&first), first[0].attempt), (vec![1], 1), "without an attempt counted");
    let second = new.due().await;
    assert_eq!(numbers(&second), [2]);
    assert!(applied(&new.units(&[first[0].done()]).await));
    // What it had and did not run is unroutable again, and goes to the next that knows it.
    new.leave(&[]).await;
    let mut newest = world.member().await;
    newest.join(Some("group"), &[subscription("all")], &types).await;
    let again = newest.due().await;
    assert_eq!((numbers(&again), again[0].attempt), (vec![2], 1));
    assert_eq!(again[0].epoch, old.epoch(0), "the partition's own epoch, whoever owns it");
    assert!(applied(&newest.units(&[again[0].done()]).await));
    assert_eq!(newest.units(&[again[0].done()]).await, [UnitAnswer::Fenced], "it does not own the partition");
    // Nobody knows it in time: dead, and not a moment earlier.
    let strange = Message { type_name: "test.strange".to_owned(), ..Message::command(4) };
    old.append(&[strange]).await;
    let got = old.read(0, 3).await;
    assert!(applied(&old.units(&[got[0].ends(Settle::Unroutable)]).await));
    let day = world.service.unroutable_after;
    world.clock.advance(day - Duration::from_micros(1));
    old.housekeep(100).await;
    assert_eq!(old.dead_letters().await, []);
    world.clock.advance(Duration::from_micros(1));
    old.housekeep(100).await;
    let dead = old.dead_letters().await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, whizbang_storage::DeadReason::Unroutable);
    assert_eq!((dead[0].attempts, dead[0].crashes, dead[0].type_name.as_str()), (0, 0, "test.strange"));
    let nothing_ran: [Running; 0] = [];
    old.leave(&nothing_ran).await;
}
