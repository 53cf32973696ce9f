//! A schema, two instances behind proxies of their own, and every order of what they say.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Proxy};
use whizbang_storage::*;
use whizbang_storage_conformance::{Got, Member, Message, sender, stream_in, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

use crate::fixture::{connect, schema_name};

const PARTITIONS: u32 = 4;
const TIME_TO_LIVE: Duration = Duration::from_secs(10);

/// A schema; each order is tried in a service of its own.
pub(crate) struct Stage {
    pub(crate) schema: String,
    pub(crate) watcher: Client,
    orders: u32,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let schema = schema_name();
        let options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
        PostgresOptions { schema: schema.clone(), ..options }.migrate().await.unwrap();
        Self { schema, watcher: connect().await, orders: 0 }
    }

    /// The same with a text in one of its functions replaced.
    pub(crate) async fn weakened(function: &str, from: &str, to: &str) -> Self {
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
pub(crate) struct Scene {
    clock: TestClock,
    options: PostgresOptions,
    service: String,
    members: u32,
    watcher: Client,
}

/// An instance behind a proxy of its own.
pub(crate) struct Player {
    pub(crate) member: Member<PostgresStore>,
    proxy: Arc<Proxy>,
    pub(crate) name: String,
    /// What it was answered.
    pub(crate) said: Vec<Result<Answer, StoreError>>,
    /// What was due and handed to it.
    pub(crate) given: Vec<Got>,
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

    pub(crate) fn name_of(&self, member: u32) -> String {
        format!("{} {} {member}", self.options.schema, self.service)
    }

    /// One that has not joined.
    pub(crate) async fn player(&mut self) -> Player {
        let proxy = Arc::new(Proxy::in_front_of(Cluster::shared()).unwrap());
        let name = self.name_of(self.members);
        self.members += 1;
        let mut options = PostgresOptions { ..self.options.clone() };
        options.server = PostgresOptions::from_url(&proxy.url()).unwrap().server;
        options.server.application_name(&name);
        let member = Member::new(options.open().await.unwrap(), sender(self.members));
        Player { member, proxy, name, said: Vec::new(), given: Vec::new() }
    }

    pub(crate) async fn joined(&mut self) -> Player {
        let mut player = self.player().await;
        player.member.join(Some("group"), &[subscription("all")], &[]).await;
        player
    }

    /// Time passes until whoever is silent may be evicted by these.
    pub(crate) async fn fall_silent(&self, living: &mut [&mut Player]) {
        for _ in 0..4 {
            for player in living.iter_mut() {
                player.member.heartbeat().await;
            }
            self.clock.advance(TIME_TO_LIVE / 4);
        }
    }

    /// Who owns the partitions, and under which epoch.
    pub(crate) async fn owners(&self) -> BTreeMap<i32, (bool, i64)> {
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
    pub(crate) async fn say(&mut self, batch: WorkBatch<'_>) {
        let said = self.member.send(batch).await.cloned();
        self.said.push(said);
    }

    pub(crate) async fn beats(&mut self) {
        let batch = WorkBatch { membership: Some(Membership::Heartbeat), ..self.member.batch() };
        self.say(batch).await;
    }

    pub(crate) async fn joins(&mut self, group: &str, subscribed: &str) {
        let subscriptions = [subscription(subscribed)];
        let join = Membership::Join(Join { group: Some(group), subscriptions: &subscriptions, types: &[] });
        let batch = WorkBatch { membership: Some(join), ..self.member.batch() };
        self.say(batch).await;
    }

    /// Asks for what is due, and says what it was given.
    pub(crate) async fn due(&mut self) -> Vec<Got> {
        let room = Limit { messages: 100, bytes: 1 << 20 };
        let batch = WorkBatch { due: Some(room), ..self.member.batch() };
        self.say(batch).await;
        let given = match self.said.last() {
            Some(Ok(answer)) => Got::all(&answer.page),
            _ => Vec::new(),
        };
        self.given.extend(given.iter().cloned());
        given
    }

    pub(crate) async fn appends(&mut self, messages: &[Message]) {
        let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, ..self.member.batch() };
        self.say(batch).await;
    }

    pub(crate) fn evicted(&self) -> bool {
        self.said.iter().any(|said| matches!(said, Err(StoreError::Evicted)))
    }

    /// Whether everything was answered.
    pub(crate) fn all_answered(&self) -> Result<(), String> {
        let failed = self.said.iter().find_map(|said| said.as_ref().err());
        failed.map_or(Ok(()), |error| Err(format!("{} was told: {error}", self.name)))
    }

    /// Everything there is, by partition, read to the end as a fresh pair of eyes.
    pub(crate) async fn sees(&mut self) -> Vec<(u32, u64, u64)> {
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
pub(crate) trait Play {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player);
    async fn first(&self, player: &mut Player);
    async fn second(&self, player: &mut Player);
    async fn audit(&self, scene: &mut Scene, first: Player, second: Player) -> Result<(), String>;
}

pub(crate) fn message(number: u64, partition: u32) -> Message {
    Message::command(number).of(stream_in(PARTITIONS, Partition(partition), 1))
}

pub(crate) fn check(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
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

pub(crate) async fn holds(play: impl Play) {
    let (began, mut stage) = (Instant::now(), Stage::new().await);
    let swapped = Swapped(play);
    let mut breaches = stage.every_order(&swapped.0).await;
    breaches.extend(stage.every_order(&swapped).await);
    println!("{} orders in {:?}", stage.orders, began.elapsed());
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// The breach that a weakened schema leads to in some order is found, and it is this one.
pub(crate) async fn is_found(mut stage: Stage, play: impl Play, text: &str) {
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
