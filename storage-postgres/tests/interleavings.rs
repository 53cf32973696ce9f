//! Two instances at once, in every order: what one of them says to the server is stopped between any two messages, also where
//! a statement was carried out and is not committed, and the other one goes as far as it can. Whatever comes of it, the
//! contract's promises hold.
//!
//! A transaction is looked into from its beginning to its commit, so of any two statements each is found half done by the
//! other, and waits for its locks. That these tests see what they are for is shown by weakened schemas at the end.

mod fixture;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixture::{connect, schema_name};
use tokio_postgres::Client;
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Proxy};
use whizbang_storage::*;
use whizbang_storage_conformance::{Member, Message, sender, stored, stream_in, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

const PARTITIONS: u32 = 4;
const TIME_TO_LIVE: Duration = Duration::from_secs(10);

/// A schema; each order is tried in a service of its own.
struct Stage {
    schema: String,
    watcher: Client,
    orders: u32,
}

impl Stage {
    async fn new() -> Self {
        let schema = schema_name();
        let options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
        PostgresOptions { schema: schema.clone(), ..options }.migrate().await.unwrap();
        Self { schema, watcher: connect().await, orders: 0 }
    }

    /// The same with a text in one of its functions replaced.
    async fn weakened(function: &str, from: &str, to: &str) -> Self {
        let stage = Self::new().await;
        let find = "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = $1::text::regnamespace AND p.proname = $2";
        let text: String = stage.watcher.query_one(find, &[&stage.schema, &function]).await.unwrap().get(0);
        assert!(text.contains(from), "{function} does not say {from:?}");
        stage.watcher.batch_execute(&text.replace(from, to)).await.unwrap();
        stage
    }

    /// Stops what `first` does after each of its messages, and lets `second` go on meanwhile. The breaches that `audit` finds.
    async fn every_order(&mut self, play: &impl Play) -> Vec<String> {
        let mut breaches = Vec::new();
        for messages in 0.. {
            self.orders += 1;
            let mut scene = Scene::new(self, format!("order {}", self.orders)).await;
            let (mut first, mut second) = play.set_up(&mut scene).await;
            let proxy = Arc::clone(&first.proxy);
            let (before, stopped, name) = (proxy.faults(), first.name.clone(), second.name.clone());
            proxy.arm(Fault::HoldAfterMessages(Direction::ToServer, messages));
            let was_held = {
                let mut one = pin!(play.first(&mut first));
                let mut ended = false;
                // Until it is stopped and the server has done what it was asked to; or it has ended before.
                while !(ended || proxy.faults() > before && self.is_waiting(&stopped).await) {
                    ended = tokio::time::timeout(Duration::from_millis(2), &mut one).await.is_ok();
                }
                let was_held = proxy.faults() > before;
                proxy.disarm();
                let mut two = pin!(play.second(&mut second));
                let mut goes_on = true;
                while goes_on && was_held {
                    goes_on = tokio::time::timeout(Duration::from_millis(2), &mut two).await.is_err();
                    if goes_on && self.is_blocked(&name).await {
                        break;
                    }
                }
                proxy.release();
                match (ended, was_held && !goes_on) {
                    (false, false) => drop(futures_util::future::join(&mut one, &mut two).await),
                    (false, true) => one.await,
                    (true, false) => two.await,
                    (true, true) => {}
                }
                was_held
            };
            if let Err(breach) = play.audit(&mut scene, first, second).await {
                breaches.push(format!("after {messages} messages: {breach}"));
            }
            if !was_held {
                assert!(messages > 2, "it says more than that");
                println!("{messages} orders, {} breaches", breaches.len());
                return breaches;
            }
        }
        breaches
    }

    /// Whether a connection waits for its client, or for a lock.
    async fn is_waiting(&self, name: &str) -> bool {
        let text =
            "SELECT coalesce(bool_and(wait_event_type IN ('Client', 'Lock')), true) FROM pg_stat_activity
            WHERE application_name = $1";
        self.watcher.query_one(text, &[&name]).await.unwrap().get(0)
    }

    async fn is_blocked(&self, name: &str) -> bool {
        let text = "SELECT count(*) > 0 FROM pg_stat_activity
            WHERE application_name = $1 AND wait_event_type = 'Lock' AND cardinality(pg_blocking_pids(pid)) > 0";
        self.watcher.query_one(text, &[&name]).await.unwrap().get(0)
    }
}

/// The instances of one order.
struct Scene {
    clock: TestClock,
    options: PostgresOptions,
    service: String,
    members: u32,
    watcher: Client,
}

/// An instance behind a proxy of its own.
struct Player {
    member: Member<PostgresStore>,
    proxy: Arc<Proxy>,
    name: String,
    /// What it was answered.
    said: Vec<Result<Answer, StoreError>>,
}

impl Scene {
    async fn new(stage: &Stage, service: String) -> Self {
        let clock = TestClock::new();
        let options = PostgresOptions {
            schema: stage.schema.clone(),
            service: Service {
                partitions: PARTITIONS,
                time_to_live: TIME_TO_LIVE,
                ..Service::named(&*service)
            },
            clock: Some(Arc::new(clock.clone())),
            notifications: whizbang_storage_postgres::Notifications::Off,
            ..PostgresOptions::from_url(&Cluster::shared().url()).unwrap()
        };
        Self { clock, options, service, members: 0, watcher: connect().await }
    }

    fn name_of(&self, member: u32) -> String {
        format!("{} {} {member}", self.options.schema, self.service)
    }

    /// One that has not joined.
    async fn player(&mut self) -> Player {
        let proxy = Arc::new(Proxy::in_front_of(Cluster::shared()).unwrap());
        let name = self.name_of(self.members);
        self.members += 1;
        let mut options = PostgresOptions { ..self.options.clone() };
        options.server = PostgresOptions::from_url(&proxy.url()).unwrap().server;
        options.server.application_name(&name);
        let member = Member::new(options.open().await.unwrap(), sender(self.members));
        Player { member, proxy, name, said: Vec::new() }
    }

    async fn joined(&mut self) -> Player {
        let mut player = self.player().await;
        player.member.join(Some("group"), &[subscription("all")], &[]).await;
        player
    }

    /// Time passes until whoever is silent may be evicted by these.
    async fn fall_silent(&self, living: &mut [&mut Player]) {
        for _ in 0..4 {
            for player in living.iter_mut() {
                player.member.heartbeat().await;
            }
            self.clock.advance(TIME_TO_LIVE / 4);
        }
    }

    /// Who owns the partitions, and under which epoch.
    async fn owners(&self) -> BTreeMap<i32, (bool, i64)> {
        let text = format!(
            "SELECT o.partition, o.instance IS NOT NULL, o.epoch FROM {0}.owner o JOIN {0}.service s ON s.id = o.service
             WHERE s.name = $1",
            self.options.schema
        );
        let rows = self.watcher.query(&text, &[&self.service]).await.unwrap();
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }
}

impl Player {
    async fn say(&mut self, batch: WorkBatch<'_>) {
        let said = self.member.send(batch).await.cloned();
        self.said.push(said);
    }

    async fn beats(&mut self) {
        let batch = WorkBatch { membership: Some(Membership::Heartbeat), ..self.member.batch() };
        self.say(batch).await;
    }

    async fn appends(&mut self, messages: &[Message]) {
        let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, ..self.member.batch() };
        self.say(batch).await;
    }

    fn evicted(&self) -> bool {
        self.said.iter().any(|said| matches!(said, Err(StoreError::Evicted)))
    }

    /// Whether everything was answered.
    fn all_answered(&self) -> Result<(), String> {
        let failed = self.said.iter().find_map(|said| said.as_ref().err());
        failed.map_or(Ok(()), |error| Err(format!("{} was told: {error}", self.name)))
    }

    /// Everything there is, by partition, read to the end as a fresh pair of eyes.
    async fn sees(&mut self) -> Vec<(u32, u64, u64)> {
        self.member.heartbeat().await;
        self.member.move_arrivals().await;
        let mut seen = Vec::new();
        for partition in self.member.owned.keys().copied().collect::<Vec<_>>() {
            let mut place = 0;
            loop {
                let (got, through) = self.member.reading(self.member.reads(partition.0, place)).await;
                for one in &got {
                    seen.push((partition.0, one.position.0, whizbang_storage_conformance::numbers([one])[0]));
                }
                if through == place {
                    break;
                }
                place = through;
            }
        }
        seen
    }
}

/// Two instances that do something at once.
trait Play {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player);
    async fn first(&self, player: &mut Player);
    async fn second(&self, player: &mut Player);
    async fn audit(&self, scene: &mut Scene, first: Player, second: Player) -> Result<(), String>;
}

fn message(number: u64, partition: u32) -> Message {
    Message::command(number).of(stream_in(PARTITIONS, Partition(partition), 1))
}

fn check(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// The same with the other one stopped.
struct Swapped<P>(P);

impl<P: Play> Play for Swapped<P> {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (one, two) = self.0.set_up(scene).await;
        (two, one)
    }

    async fn first(&self, player: &mut Player) {
        self.0.second(player).await;
    }

    async fn second(&self, player: &mut Player) {
        self.0.first(player).await;
    }

    async fn audit(&self, scene: &mut Scene, first: Player, second: Player) -> Result<(), String> {
        self.0.audit(scene, second, first).await
    }
}

/// An owner that was silent appends while another one evicts it, or it leaves.
struct Evict {
    leaves: bool,
}

impl Play for Evict {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        a.appends(&[message(1, 0)]).await;
        a.said.clear();
        scene.fall_silent(&mut [&mut b]).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        if self.leaves {
            let leave = Membership::Leave { running: &[] };
            let batch = WorkBatch { membership: Some(leave), ..a.member.batch() };
            a.say(batch).await;
        } else {
            a.appends(&[message(2, 0)]).await;
        }
    }

    async fn second(&self, b: &mut Player) {
        b.beats().await;
    }

    async fn audit(&self, scene: &mut Scene, a: Player, mut b: Player) -> Result<(), String> {
        b.all_answered()?;
        if !a.evicted() {
            a.all_answered()?;
        }
        let was_applied = !self.leaves && !a.evicted();
        // It has shown that it lives, or it is gone: in the end b has everything.
        scene.fall_silent(&mut [&mut b]).await;
        let expected: &[_] = if was_applied { &[(0, 1, 1), (0, 2, 2)] } else { &[(0, 1, 1)] };
        let seen = b.sees().await;
        check(seen == expected, || format!("{seen:?} instead of {expected:?}, {:?}", a.said))?;
        let owners = scene.owners().await;
        check(owners.values().all(|owner| *owner == (true, 2)), || format!("{owners:?}"))?;
        b.appends(&[message(3, 0)]).await;
        b.all_answered()?;
        let next = b.sees().await.last().copied();
        check(next == Some((0, expected.len() as u64 + 1, 3)), || format!("then {next:?}"))
    }
}

/// Both bring the same keys, in opposite orders.
struct Keys;

impl Play for Keys {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        a.member.release(&[Partition(0), Partition(1)]).await;
        b.member.heartbeat().await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        a.appends(&[message(1, 2).once(b"one"), message(2, 2).once(b"two"), message(3, 2)]).await;
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(4, 0).once(b"two"), message(5, 0).once(b"one"), message(6, 0)]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let mut seen: Vec<u64> = a.sees().await.into_iter().chain(b.sees().await).map(|(.., n)| n).collect();
        seen.sort_unstable();
        let once = [[1, 2, 3, 6], [3, 4, 5, 6], [1, 3, 4, 6], [2, 3, 5, 6]];
        check(once.iter().any(|once| seen == once), || format!("{seen:?}: a key twice, or not at all"))
    }
}

/// One gives partitions back while another one joins.
struct ReleaseAndJoin;

impl Play for ReleaseAndJoin {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        (scene.joined().await, scene.player().await)
    }

    async fn first(&self, a: &mut Player) {
        let release = |partition: u32| Release {
            partition: Partition(partition),
            epoch: a.member.epoch(partition),
            running: &[],
        };
        let releases = [release(0), release(1)];
        let batch = WorkBatch { membership: Some(Membership::Release(&releases)), ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        let subscriptions = [subscription("all")];
        let join = Membership::Join(Join { group: Some("group"), subscriptions: &subscriptions, types: &[] });
        let batch = WorkBatch { membership: Some(join), ..b.member.batch() };
        b.say(batch).await;
    }

    async fn audit(&self, scene: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        a.member.heartbeat().await;
        b.member.heartbeat().await;
        a.member.heartbeat().await;
        let both = (a.member.owned.len(), b.member.owned.len());
        let twice = a.member.owned.keys().any(|partition| b.member.owned.contains_key(partition));
        let owners = scene.owners().await;
        check(both == (2, 2) && !twice, || format!("{both:?} {owners:?}"))?;
        let epochs: Vec<i64> = owners.values().map(|(_, epoch)| *epoch).collect();
        check(epochs == [2, 2, 1, 1], || format!("epochs {epochs:?}"))
    }
}

/// Two evict the same dead one.
struct TwoEvictors;

impl Play for TwoEvictors {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        // The first players are the ones to be stopped.
        let (mut a, mut b) = (scene.player().await, scene.player().await);
        let mut dead = scene.joined().await;
        dead.appends(&[message(1, 0), message(2, 3)]).await;
        for player in [&mut a, &mut b] {
            player.member.join(Some("group"), &[subscription("all")], &[]).await;
        }
        scene.fall_silent(&mut [&mut a, &mut b]).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        a.beats().await;
    }

    async fn second(&self, b: &mut Player) {
        b.beats().await;
    }

    async fn audit(&self, scene: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let mut seen = a.sees().await;
        seen.extend(b.sees().await);
        seen.sort_unstable();
        let owners = scene.owners().await;
        check(owners.values().all(|owner| *owner == (true, 2)), || format!("{owners:?}"))?;
        check(seen == [(0, 1, 1), (3, 1, 2)], || format!("{seen:?}"))
    }
}

/// An owner takes arrivals in while another one sends some.
struct Arrivals;

impl Play for Arrivals {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        b.appends(&[message(1, 0)]).await;
        a.said.clear();
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let own = message(9, 0);
        let appends = [own.append()];
        let batch = WorkBatch { arrivals: Some(100), appends: &appends, ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(2, 0), message(3, 1)]).await;
        b.appends(&[message(4, 0)]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let seen = a.sees().await;
        let is_lost = |number: &u64| !seen.iter().any(|(.., n)| n == number);
        let lost: Vec<u64> = [1, 2, 3, 4, 9].into_iter().filter(is_lost).collect();
        check(lost.is_empty(), || format!("arrivals {lost:?} are lost"))?;
        let sent = |own: bool| -> Vec<u64> {
            seen.iter()
                .filter(|(partition, _, n)| *partition == 0 && (*n == 9) == own)
                .map(|(.., n)| *n)
                .collect()
        };
        check(sent(false) == [1, 2, 4] && sent(true) == [9] && seen.len() == 5, || format!("{seen:?}"))?;
        let positions: Vec<u64> = seen.iter().filter(|(p, ..)| *p == 0).map(|(_, at, _)| *at).collect();
        check(positions == [1, 2, 3, 4], || format!("positions {positions:?}"))
    }
}

/// One reads and settles its partitions while another one tidies up.
struct Housekeeping;

impl Play for Housekeeping {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        let messages: Vec<Message> = (1..=6).map(|n| message(n, 0)).collect();
        stored(&a.member.append(&messages).await);
        a.member.read(0, 0).await;
        a.member.settle(0, 1, 2).await;
        b.member.heartbeat().await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let (settled, reads) = ([a.member.range(0, 4, 5)], [a.member.reads(0, 0)]);
        let batch = WorkBatch { settled: &settled, reads: &reads, ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        let batch = WorkBatch { housekeeping: Some(100), ..b.member.batch() };
        b.say(batch).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let seen = a.sees().await;
        check(seen == [(0, 3, 3), (0, 6, 6)], || format!("{seen:?} are left"))?;
        let settled = a.member.settle(0, 3, 6).await;
        check(settled == SettledAnswer::Applied, || format!("{settled:?}"))?;
        let removed = b.member.housekeep(100).await;
        check(removed == 4, || format!("{removed} removed at the end"))
    }
}

/// One joins with a subscription that begins where the log does, while whoever writes there tidies up and goes on.
struct JoinAndTrim;

impl Play for JoinAndTrim {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, b) = (scene.joined().await, scene.player().await);
        let messages: Vec<Message> = (1..=6).map(|n| message(n, 0)).collect();
        stored(&a.member.append(&messages).await);
        a.member.read(0, 0).await;
        a.member.settle(0, 1, 4).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let messages = [message(7, 0)];
        let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, housekeeping: Some(100), ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        b.member.join(Some("second"), &[subscription("all")], &[]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        // All that was there before it joined is there, or it was tidied up before; whatever was not settled is there.
        let seen: Vec<u64> = b.sees().await.into_iter().map(|(.., number)| number).collect();
        let whole = [1, 2, 3, 4, 5, 6, 7];
        check(seen == whole || seen == whole[4..], || format!("it sees {seen:?}"))?;
        let settled = b.member.settle(0, 1, 7).await;
        check(settled == SettledAnswer::Applied, || format!("{settled:?}"))?;
        a.member.read(0, 6).await;
        a.member.settle(0, 5, 7).await;
        let removed = a.member.housekeep(100).await;
        let left = if seen == whole { 7 } else { 3 };
        check(removed == left, || format!("{removed} removed at the end instead of {left}"))?;
        let lag: u64 = a.member.statistics().await.subscriptions.iter().map(|each| each.lag).sum();
        check(lag == 0, || format!("{lag} messages wait at the end"))
    }
}

/// One migrates while another one works: there is nothing to do, and it is in nobody's way.
struct Migrate;

impl Play for Migrate {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let b = scene.joined().await;
        let mut a = scene.player().await;
        a.name = scene.name_of(1);
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let mut options = a.member.store.options().clone();
        options.server.application_name(&a.name);
        options.migrate().await.expect("it is up to date");
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(1, 0)]).await;
        b.beats().await;
    }

    async fn audit(&self, _: &mut Scene, _: Player, mut b: Player) -> Result<(), String> {
        b.all_answered()?;
        let seen = b.sees().await;
        check(seen == [(0, 1, 1)], || format!("{seen:?}"))
    }
}

async fn holds(play: impl Play) {
    let (began, mut stage) = (Instant::now(), Stage::new().await);
    let swapped = Swapped(play);
    let mut breaches = stage.every_order(&swapped.0).await;
    breaches.extend(stage.every_order(&swapped).await);
    println!("{} orders in {:?}", stage.orders, began.elapsed());
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// The breach that a weakened schema leads to in some order is found, and it is this one.
async fn is_found(mut stage: Stage, play: impl Play, text: &str) {
    let swapped = Swapped(play);
    let mut breaches = stage.every_order(&swapped.0).await;
    if breaches.is_empty() {
        breaches = stage.every_order(&swapped).await;
    }
    println!("{breaches:#?}");
    assert!(
        breaches.iter().any(|breach| breach.contains(text)),
        "nobody noticed that {text:?}: {breaches:#?}"
    );
}

#[tokio::test]
async fn an_exchange_and_the_eviction_of_its_instance() {
    holds(Evict { leaves: false }).await;
}

#[tokio::test]
async fn a_leave_and_the_eviction_of_its_instance() {
    holds(Evict { leaves: true }).await;
}

#[tokio::test]
async fn two_exchanges_with_the_same_keys_in_opposite_orders() {
    holds(Keys).await;
}

#[tokio::test]
async fn a_release_and_a_join() {
    holds(ReleaseAndJoin).await;
}

#[tokio::test]
async fn two_evictions_of_one_instance() {
    holds(TwoEvictors).await;
}

#[tokio::test]
async fn taking_arrivals_in_and_sending_some() {
    holds(Arrivals).await;
}

#[tokio::test]
async fn housekeeping_and_settling() {
    holds(Housekeeping).await;
}

#[tokio::test]
async fn a_join_from_the_beginning_and_trimming() {
    holds(JoinAndTrim).await;
}

#[tokio::test]
async fn a_migration_and_an_exchange() {
    holds(Migrate).await;
}

#[tokio::test]
async fn an_exchange_that_does_not_lock_its_instance_is_found() {
    let stage = Stage::weakened("exchange", "FOR NO KEY UPDATE", "").await;
    // What was answered as appended is not there.
    is_found(stage, Evict { leaves: false }, "[(0, 1, 1)] instead of [(0, 1, 1), (0, 2, 2)]").await;
}

#[tokio::test]
async fn keys_that_nothing_keeps_apart_are_found() {
    let stage = Stage::new().await;
    let drop = format!("ALTER TABLE {}.dedup DROP CONSTRAINT dedup_pkey", stage.schema);
    stage.watcher.batch_execute(&drop).await.unwrap();
    is_found(stage, Keys, "[1, 2, 3, 4, 5, 6]: a key twice").await;
}

#[tokio::test]
async fn arrivals_that_are_looked_for_behind_the_last_transaction_only_are_found() {
    let stage = Stage::weakened(
        "exchange",
        "pg_snapshot_xip(p_seen::pg_snapshot)",
        "pg_snapshot_xip('1:1:'::pg_snapshot)",
    )
    .await;
    is_found(stage, Arrivals, "are lost").await;
}
