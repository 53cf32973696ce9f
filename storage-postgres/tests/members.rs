//! What membership costs: round trips, and whether anybody waits for anybody else.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use fixture::{connect, schema_name, waiting};
use tokio_postgres::{Client, Transaction};
use whizbang_postgres_cluster::{Cluster, Proxy};
use whizbang_storage::*;
use whizbang_storage_conformance::{Member, Message, sender, stored, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

/// Instances of one service behind a proxy that counts, under a clock of the test's own.
struct Group {
    proxy: Proxy,
    options: PostgresOptions,
    clock: TestClock,
}

impl Group {
    async fn new() -> Self {
        let proxy = Proxy::in_front_of(Cluster::shared()).unwrap();
        let clock = TestClock::new();
        let options = PostgresOptions {
            schema: schema_name(),
            service: Service { partitions: 4, ..Service::named("members") },
            clock: Some(Arc::new(clock.clone())),
            ..PostgresOptions::from_url(&proxy.url()).unwrap()
        };
        options.migrate().await.unwrap();
        Self { proxy, options, clock }
    }

    async fn joined(&self, number: u32) -> Member<PostgresStore> {
        let mut member = Member::new(self.options.clone().open().await.unwrap(), sender(number));
        member.join(Some("group"), &[subscription("all")], &[]).await;
        member
    }

    /// Two with half of the partitions each.
    async fn balanced(&self) -> (Member<PostgresStore>, Member<PostgresStore>) {
        let (mut a, mut b) = (self.joined(1).await, self.joined(2).await);
        assert_eq!(a.heartbeat().await.give_back, 2);
        a.release(&[Partition(2), Partition(3)]).await;
        assert_eq!(owned(&b.heartbeat().await), [2, 3]);
        assert_eq!(owned(&a.heartbeat().await), [0, 1]);
        (a, b)
    }

    /// One that has not joined; its connections are called as the schema is.
    async fn watched(&self, number: u32) -> Member<PostgresStore> {
        let mut options = self.options.clone();
        options.server.application_name(&self.options.schema);
        Member::new(options.open().await.unwrap(), sender(number))
    }

    /// Until the end of this transaction nobody joins the service, which is there.
    async fn locks_the_service<'c>(&self, mine: &'c mut Client) -> Transaction<'c> {
        let open = mine.transaction().await.unwrap();
        let lock = format!("SELECT FROM {}.service FOR NO KEY UPDATE", self.options.schema);
        assert_eq!(open.query(&lock, &[]).await.unwrap().len(), 1);
        open
    }

    /// Round trips since a number of them.
    fn turns_since(&self, before: u64) -> u64 {
        self.proxy.traffic().turns - before
    }
}

/// Waits until a connection of this name waits for a lock in another transaction than that which began then, and says when this one
/// began; an empty text is no transaction's.
async fn waiting_again(watcher: &Client, name: &str, but: &str) -> String {
    let text = "SELECT xact_start::text FROM pg_stat_activity
        WHERE application_name = $1 AND wait_event_type = 'Lock' AND xact_start::text <> $2";
    loop {
        if let Some(row) = watcher.query_opt(text, &[&name, &but]).await.unwrap() {
            return row.get(0);
        }
        tokio::task::yield_now().await;
    }
}

/// Cancels what a connection does, and waits for the end of its transaction.
async fn cancel(watcher: &Client, connection: i32) {
    let began = "SELECT coalesce(max(xact_start)::text, '') FROM pg_stat_activity WHERE pid = $1";
    let before: String = watcher.query_one(began, &[&connection]).await.unwrap().get(0);
    watcher.query("SELECT pg_cancel_backend($1)", &[&connection]).await.unwrap();
    while watcher.query_one(began, &[&connection]).await.unwrap().get::<_, String>(0) == before {
        tokio::task::yield_now().await;
    }
}

fn owned(answer: &MembershipAnswer) -> Vec<u32> {
    answer.owned.iter().map(|owned| owned.partition.0).collect()
}

/// What an engine with nothing to do sends; once in ten times it clears up as well.
async fn beat(member: &mut Member<PostgresStore>) -> MembershipAnswer {
    let batch = member.batch();
    let room = Limit { messages: 9, bytes: 1 << 20 };
    let batch =
        WorkBatch { membership: Some(Membership::Heartbeat), arrivals: Some(9), due: Some(room), ..batch };
    member.ok(batch).await.membership.clone().unwrap()
}

#[tokio::test]
async fn balanced_instances_with_nothing_to_do_say_one_thing_a_heartbeat() {
    let group = Group::new().await;
    let (mut a, mut b) = group.balanced().await;
    let before = group.proxy.traffic().turns;
    let every = group.options.service.time_to_live / 3;
    // Several times to live: what each remembers of the other grows old.
    for _ in 0..10 {
        group.clock.advance(every);
        assert_eq!(owned(&beat(&mut a).await), [0, 1]);
        assert_eq!(owned(&beat(&mut b).await), [2, 3]);
    }
    assert_eq!(group.turns_since(before), 20);
    assert!(every > Duration::from_secs(1), "so that is less than one a second");
}

#[tokio::test]
async fn leaving_is_one_round_trip_and_taking_over_a_handful() {
    let group = Group::new().await;
    let (mut a, mut b) = group.balanced().await;
    let before = group.proxy.traffic().turns;
    a.leave(&[]).await;
    assert_eq!(group.turns_since(before), 1);
    assert_eq!(owned(&b.heartbeat().await), [0, 1, 2, 3]);
    // It finds that something has changed, looks (what there is, then what lies there), takes, and looks what has arrived.
    assert!(group.turns_since(before) <= 6, "{}", group.turns_since(before));
}

#[tokio::test]
async fn nobody_waits_for_an_exchange_of_another_to_join_release_or_leave() {
    let group = Group::new().await;
    let (mut a, b) = group.balanced().await;
    // As if an exchange of b's took for ever.
    let mut mine = connect().await;
    let open = mine.transaction().await.unwrap();
    let id: String = sender(2).instance.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let lock = format!("SELECT FROM {}.instance WHERE id = '{id}' FOR NO KEY UPDATE", group.options.schema);
    assert_eq!(open.query(&lock, &[]).await.unwrap().len(), 1);
    let mut c = group.joined(3).await;
    a.release(&[Partition(1)]).await;
    assert_eq!(owned(&c.heartbeat().await), [1]);
    a.leave(&[]).await;
    assert_eq!(owned(&c.heartbeat().await), [0, 1]);
    open.rollback().await.unwrap();
    drop(b);
}

#[tokio::test]
async fn a_join_that_waits_on_a_lost_connection_is_not_said_to_have_come_to_nothing() {
    let group = Group::new().await;
    let a = group.joined(1).await;
    let (mut mine, watcher, schema) = (connect().await, connect().await, &group.options.schema);
    let open = group.locks_the_service(&mut mine).await;
    let mut b = group.watched(2).await;
    let subscriptions = [subscription("all")];
    let join = Membership::Join(Join { group: Some("group"), subscriptions: &subscriptions, types: &[] });
    let batch = WorkBatch { membership: Some(join), ..b.batch() };
    let joining = async { b.send(batch).await.map(drop) };
    let directing = async {
        let first = waiting(&watcher, schema, 0).await;
        group.proxy.cut_all();
        // It tries again, and somebody cancels that: what was sent first still waits.
        let second = waiting(&watcher, schema, first).await;
        cancel(&watcher, second).await;
        open.rollback().await.unwrap();
    };
    let joined = tokio::select! {
        (joined, ()) = async { tokio::join!(joining, directing) } => joined,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it does not try again"),
    };
    joined.expect("it has joined");
    let there = format!("SELECT count(*) FROM {schema}.instance WHERE gone_at IS NULL");
    assert_eq!(watcher.query_one(&there, &[]).await.unwrap().get::<_, i64>(0), 2);
    drop(a);
}

#[tokio::test]
async fn a_lock_that_is_not_given_in_time_is_asked_for_again() {
    let group = Group::new().await;
    let mut options = group.options.clone();
    // It waits 1.2 s for a lock.
    options.service = Service { time_to_live: Duration::from_secs(3), ..Service::named("patient") };
    let name = format!("{} patient", options.schema);
    options.server.application_name(&name);
    let mut a = Member::new(options.open().await.unwrap(), sender(1));
    a.join(Some("group"), &[subscription("all")], &[]).await;
    let (mut mine, watcher) = (connect().await, connect().await);
    let open = mine.transaction().await.unwrap();
    let schema = &group.options.schema;
    open.query(&format!("SELECT FROM {schema}.instance FOR NO KEY UPDATE"), &[]).await.unwrap();
    let message = [Message::command(1)];
    let appending = a.append(&message);
    let directing = async {
        let first = waiting_again(&watcher, &name, "").await;
        waiting_again(&watcher, &name, &first).await;
        open.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(appending, directing);
    assert_eq!(stored(&answers), [1]);
}

/// A batch is dropped by its caller while its first attempt waits on a connection that is then lost.
#[tokio::test]
async fn what_was_sent_by_a_call_that_was_dropped_is_not_said_to_have_come_to_nothing() {
    let group = Group::new().await;
    let a = group.joined(1).await;
    let (mut mine, watcher, schema) = (connect().await, connect().await, &group.options.schema);
    let open = group.locks_the_service(&mut mine).await;
    let mut b = group.watched(2).await;
    let subscriptions = [subscription("all")];
    let join = Membership::Join(Join { group: Some("group"), subscriptions: &subscriptions, types: &[] });
    let batch = WorkBatch { membership: Some(join), ..b.batch() };
    let first = tokio::select! {
        _ = b.send(batch) => panic!("it waits"),
        first = waiting(&watcher, schema, 0) => first,
    };
    group.proxy.cut_all();
    // While somebody else is asked something, it is noticed that the connection has ended: the next call begins with a new one.
    for _ in 0..3 {
        watcher.query_one("SELECT 1", &[]).await.unwrap();
    }
    let joining = async { b.send(batch).await.map(drop) };
    let directing = async {
        let second = waiting(&watcher, schema, first).await;
        cancel(&watcher, second).await;
        open.rollback().await.unwrap();
    };
    let (joined, ()) = tokio::join!(joining, directing);
    joined.expect("it has joined");
    drop(a);
}
