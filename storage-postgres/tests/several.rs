//! Several instances that send through one handle, in turns: what becomes of one's call is not forgotten for another's.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use fixture::{connect, schema_name, waiting};
use tokio_postgres::Client;
use whizbang_postgres_cluster::{Cluster, Fault, Proxy};
use whizbang_storage::*;
use whizbang_storage_conformance::{ALL, Got, Member, Message, numbers, sender, stored, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

/// One handle behind a proxy, and two that send through it.
struct Handle {
    proxy: Proxy,
    schema: String,
    clock: TestClock,
    watcher: Client,
    /// The one that owns everything.
    a: Member<PostgresStore>,
    /// The other one, which only publishes through the same handle.
    b: Sender,
}

impl Handle {
    async fn new() -> Self {
        let proxy = Proxy::in_front_of(Cluster::shared()).unwrap();
        let (schema, clock) = (schema_name(), TestClock::new());
        let mut options = PostgresOptions {
            schema: schema.clone(),
            service: Service {
                partitions: 1,
                // So that whoever waits for a lock goes on waiting.
                time_to_live: Duration::from_secs(100),
                ..Service::named("several")
            },
            clock: Some(Arc::new(clock.clone())),
            notifications: whizbang_storage_postgres::Notifications::Off,
            ..PostgresOptions::from_url(&proxy.url()).unwrap()
        };
        options.server.application_name(&schema);
        options.migrate().await.unwrap();
        let mut a = Member::new(options.open().await.unwrap(), sender(2));
        a.join(None, &[], &[]).await;
        let b = std::mem::replace(&mut a.from, sender(1));
        a.join(Some("group"), &[subscription("all")], &[]).await;
        Self { proxy, schema, clock, watcher: connect().await, a, b }
    }

    /// The other one sends an empty batch, and it is `a`'s turn again.
    async fn b_sends(&mut self) {
        std::mem::swap(&mut self.a.from, &mut self.b);
        self.a.ok(self.a.batch()).await;
        std::mem::swap(&mut self.a.from, &mut self.b);
    }

    async fn run(&self, text: &str) {
        self.watcher.batch_execute(&text.replace("{schema}", &self.schema)).await.unwrap();
    }

    /// An append of `a`'s that is committed, and nobody hears of it.
    async fn loses_an_answer(&mut self, message: &Message) {
        let appends = [message.append()];
        let batch = WorkBatch { appends: &appends, ..self.a.batch() };
        self.proxy.arm(Fault::SwallowAnswer);
        self.proxy.refuse();
        let lost = self.a.send(batch).await.map(drop);
        assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
        self.proxy.accept();
    }

    /// While `a` cannot be told what became of its append, it is not told that nothing did; then it is told.
    async fn asks_again(&mut self, message: &Message) {
        let appends = [message.append()];
        let batch = WorkBatch { appends: &appends, ..self.a.batch() };
        self.run("ALTER TABLE {schema}.parked RENAME TO away").await;
        let asked = self.a.send(batch).await.map(drop);
        assert!(matches!(asked, Err(StoreError::Unknown(_))), "{asked:?}");
        self.run("ALTER TABLE {schema}.away RENAME TO parked").await;
        assert_eq!(stored(&self.a.ok(batch).await.appends), [1]);
        assert_eq!(numbers(&self.a.read(0, 0).await), [1]);
    }
}

/// The first call still waits on a connection that is lost when the repeat comes: both are decided on different things, and only
/// what was committed is answered.
#[tokio::test]
async fn what_one_has_sent_in_a_dropped_call_is_fenced_off_behind_another_ones_batch() {
    let mut handle = Handle::new().await;
    let a = &mut handle.a;
    a.append(&[Message::command(1), Message::command(2)]).await;
    let got = a.read(0, 0).await;
    a.units(&[got[0].retry_in(Duration::ZERO), got[1].retry_in(Duration::from_secs(1))]).await;
    let batch = WorkBatch { due: Some(ALL), ..a.batch() };

    let mut mine = connect().await;
    let open = mine.transaction().await.unwrap();
    let (schema, id) = (&handle.schema, a.from.instance.to_bytes());
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let lock = format!("SELECT FROM {schema}.instance WHERE id = '{id}' FOR NO KEY UPDATE");
    open.query(&lock, &[]).await.unwrap();
    let first = tokio::select! {
        _ = a.send(batch) => panic!("it waits"),
        first = waiting(&handle.watcher, schema, 0) => first,
    };
    handle.proxy.cut_all();
    // While somebody else is asked something, it is noticed that the connection has ended: the next call begins with a new one.
    for _ in 0..3 {
        handle.watcher.query_one("SELECT 1", &[]).await.unwrap();
    }
    handle.b_sends().await;
    // By now the second message is due as well.
    handle.clock.advance(Duration::from_secs(1));
    let (a, watcher, schema) = (&mut handle.a, &handle.watcher, &handle.schema);
    let directing = async {
        waiting(watcher, schema, first).await;
        open.rollback().await.unwrap();
    };
    let (given, ()) = tokio::join!(async { Got::all(&a.ok(batch).await.page) }, directing);
    assert_eq!(numbers(&given), [1], "as the first call was decided");
    assert_eq!(numbers(&a.due().await), [2]);
}

#[tokio::test]
async fn whose_answer_was_lost_is_not_told_that_nothing_was_written_behind_another_ones_batch() {
    let mut handle = Handle::new().await;
    let message = Message::command(1);
    handle.loses_an_answer(&message).await;
    handle.b_sends().await;
    handle.asks_again(&message).await;
}

#[tokio::test]
async fn whose_answer_was_lost_is_not_told_that_nothing_was_written_while_nobody_can_look() {
    let mut handle = Handle::new().await;
    let message = Message::command(1);
    handle.loses_an_answer(&message).await;
    handle.asks_again(&message).await;
}
