//! Messages from whoever speaks SQL: the function `enqueue` does what the contract says of users' own transactions, and what
//! it writes is handled by an engine.

mod fixture;

use std::any::Any;
use std::time::Duration;

use fixture::{OnServer, connect, schema_name};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;
use whizbang::{Command, Context, EmitOptions, Engine, Event, Failure, Headers, Receptor, Unit, dispatcher};
use whizbang_postgres_cluster::Cluster;
use whizbang_storage::*;
use whizbang_storage_conformance::{
    Fixture, Member, Message, OpenError, SchemaAge, TransactionEnd, World, applied, cases, numbers, sender,
    stored, stream_in, subscription,
};
use whizbang_storage_postgres::{Enqueued, PostgresOptions, PostgresStore};

/// The contract's cases, with users' transactions through the SQL function.
struct ThroughSql(OnServer);

impl Fixture for ThroughSql {
    type Store = PostgresStore;

    async fn fresh(clock: TestClock) -> Self {
        Self(OnServer::fresh(clock).await)
    }

    async fn open(&self, service: Service) -> Result<PostgresStore, OpenError> {
        self.0.open(service).await
    }

    async fn crash(&mut self, stores: Vec<PostgresStore>) {
        self.0.crash(stores).await;
    }

    async fn enqueue(
        &self,
        service: &Service,
        messages: &[Append<'_>],
        end: TransactionEnd,
    ) -> Vec<AppendAnswer> {
        let mut mine = connect().await;
        let mut transaction = mine.transaction().await.unwrap();
        let mut answers = Vec::new();
        for message in messages {
            let attempt = transaction.transaction().await.unwrap();
            match enqueue(&attempt, &self.0.schema, &service.name, message).await {
                Ok(answer) => {
                    attempt.commit().await.unwrap();
                    answers.push(answer);
                }
                Err(refused) => {
                    assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{refused:?}");
                    attempt.rollback().await.unwrap();
                    answers.push(AppendAnswer::Refused(Refusal::NotDone));
                }
            }
        }
        match end {
            TransactionEnd::Commit => transaction.commit().await.unwrap(),
            TransactionEnd::Rollback => transaction.rollback().await.unwrap(),
        }
        answers
    }

    async fn hold(&self) -> Box<dyn Any> {
        self.0.hold().await
    }

    async fn set_schema(&self, age: SchemaAge) {
        self.0.set_schema(age).await;
    }
}

/// What the function says of a message.
async fn enqueue<C: GenericClient>(
    client: &C,
    schema: &str,
    service: &str,
    message: &Append<'_>,
) -> Result<AppendAnswer, tokio_postgres::Error> {
    let text = format!(
        "SELECT id, arrived, same_body FROM {schema}.enqueue($1, $2, $3, stream => $4, kind => $5, type_version => $6,
            content_type => $7, dedup_key => $8, due_in => $9::text::interval, message => $10, correlation => $11,
            causation => $12)"
    );
    let kind = if message.kind == MessageKind::Event { "event" } else { "command" };
    let content_type = if message.content_type == ContentType::JSON { "json" } else { "postcard" };
    let due_in = message.due_in.map(|due_in| format!("{} microseconds", due_in.as_micros()));
    let row = client
        .query_one(
            &text,
            &[
                &service,
                &message.type_name,
                &message.payload,
                &message.stream.map(|stream| Uuid::from_bytes(stream.to_bytes())),
                &kind,
                &i32::from(message.type_version),
                &content_type,
                &message.dedup,
                &due_in,
                &Uuid::from_bytes(message.id.to_bytes()),
                &Uuid::from_bytes(message.correlation.to_bytes()),
                &message.causation.map(|causation| Uuid::from_bytes(causation.to_bytes())),
            ],
        )
        .await?;
    let id: Uuid = row.get(0);
    Ok(if row.get(1) {
        assert_eq!(id.into_bytes(), message.id.to_bytes());
        AppendAnswer::Arrived
    } else {
        let body = if row.get(2) { SameBody::Same } else { SameBody::Different };
        AppendAnswer::Duplicate { first: MessageId::from_bytes(id.into_bytes()).unwrap(), body }
    })
}

#[tokio::test]
async fn a_message_comes_with_the_users_commit() {
    cases::enqueue::s77_a_message_comes_with_the_users_commit::<ThroughSql>().await;
}

#[tokio::test]
async fn messages_of_transactions_keep_their_order() {
    cases::enqueue::s79_messages_of_transactions_keep_their_order::<ThroughSql>().await;
}

#[tokio::test]
async fn a_used_key_does_not_abort_the_transaction() {
    cases::enqueue::s80_a_used_key_does_not_abort_the_transaction::<ThroughSql>().await;
}

#[tokio::test]
async fn a_draft_counts_for_who_expects_a_version() {
    cases::enqueue::what_a_user_has_enqueued_counts_for_who_expects_a_version::<ThroughSql>().await;
}

#[tokio::test]
async fn an_open_transaction_delays_nobody() {
    let mut world = World::<ThroughSql>::new(4).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let mut mine = connect().await;
    let open = mine.transaction().await.unwrap();
    let (schema, service) = (world.fixture.0.schema.clone(), world.service.name.clone());
    enqueue(&open, &schema, &service, &Message::command(1).of(stream).append()).await.unwrap();
    for n in 2..=20 {
        assert_eq!(stored(&a.append(&[Message::command(n).of(stream)]).await), [n - 1]);
        assert_eq!(a.move_arrivals().await, []);
        world.clock.advance(Duration::from_secs(3));
    }
    open.commit().await.unwrap();
    assert_eq!(a.move_arrivals().await, [(0, 20)]);
    assert_eq!(numbers(&a.read(0, 19).await), [1]);
}

/// Every instance sees every draft; the one whose partition it is takes it in.
#[tokio::test]
async fn whoever_writes_the_partition_takes_the_message_in_once() {
    let mut world = World::<ThroughSql>::new(8).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    let some: Vec<Partition> = (0..4).map(Partition).collect();
    a.release(&some).await;
    b.heartbeat().await;
    assert_eq!((a.heartbeat().await.owned.len(), b.owned.len()), (4, 4));
    let messages: Vec<Message> =
        (0..80).map(|n| Message::command(n).of(world.stream_in(n as u32 % 8, 1))).collect();
    let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
    let service = world.service.clone();
    world.fixture.enqueue(&service, &appends, TransactionEnd::Commit).await;
    for (member, first) in [(&mut a, 4), (&mut b, 0)] {
        assert_eq!(member.heartbeat().await.arrivals_waiting, 40);
        member.move_arrivals().await;
        for partition in first..first + 4 {
            let expected: Vec<u64> = (0..10).map(|n| n * 8 + partition).collect();
            assert_eq!(numbers(&member.read(partition as u32, 0).await), expected);
        }
    }
    assert_eq!(a.statistics().await.arrivals, 0);
}

#[tokio::test]
async fn a_message_waits_for_the_partitions_first_owner() {
    let mut world = World::<ThroughSql>::new(4).await;
    let a = world.member().await;
    let stream = world.stream_in(2, 1);
    let service = world.service.clone();
    let message = Message::event(1, stream);
    world.fixture.enqueue(&service, &[message.append()], TransactionEnd::Commit).await;
    drop(a);
    let mut b = world.joined().await;
    b.move_arrivals().await;
    let got = b.read(2, 0).await;
    assert_eq!((numbers(&got), got[0].version), (vec![1], Some(Version(1))));
    assert_eq!(Message::from(&got[0]), message, "every field");
}

/// What is appended later does not overtake what was committed before, and nobody waits for what keeps coming.
#[tokio::test]
async fn a_draft_keeps_its_place_before_what_is_appended_after_it() {
    let mut world = World::<ThroughSql>::new(1).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    let service = world.service.clone();
    world.fixture.enqueue(&service, &[Message::command(1).of(stream).append()], TransactionEnd::Commit).await;
    assert_eq!(a.append(&[Message::command(2).of(stream)]).await, [AppendAnswer::Arrived]);
    a.move_arrivals().await;
    assert_eq!(numbers(&a.read(0, 0).await), [1, 2]);
}

async fn opened(options: &PostgresOptions) -> Client {
    options.migrate().await.unwrap();
    drop(options.clone().open().await.unwrap());
    connect().await
}

fn options(limits: Limits) -> PostgresOptions {
    PostgresOptions {
        schema: schema_name(),
        service: Service { partitions: 4, limits, ..Service::named("shop") },
        ..PostgresOptions::from_url(&Cluster::shared().url()).unwrap()
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_by_name_and_writes_nothing() {
    let limits = Limits { payload_bytes_max: 10, name_bytes_max: 20, key_bytes_max: 5, ..Limits::default() };
    let options = options(limits);
    let sql = opened(&options).await;
    let schema = &options.schema;
    let many: Vec<String> = (0..65).map(|n| format!("{n},v")).collect();
    let refused = [
        ("'shop', 't', '12345678901'", "the payload has 11 bytes, 10 are allowed"),
        (
            "'shop', '', ''",
            "the type name has 0 bytes or a NUL character: 1 to 20 bytes without NUL are allowed",
        ),
        ("'shop', repeat('ä', 11), ''", "the type name has 22 bytes"),
        ("'shop', 't', NULL", "a message has a type and a payload: neither is null"),
        ("'shop', NULL, ''", "a message has a type and a payload: neither is null"),
        ("'shop', 't', '', dedup_key => '123456'", "the key has 6 bytes, 1 to 5 are allowed"),
        ("'shop', 't', '', dedup_key => ''", "the key has 0 bytes"),
        ("'shop', 't', '', stream_key => '12345678901'", "the stream key has 11 bytes, 10 are allowed"),
        ("'shop', 't', '', kind => 'query'", "'query' is no kind of message: 'command' and 'event' are"),
        ("'shop', 't', '', kind => NULL", "NULL is no kind of message"),
        ("'shop', 't', '', content_type => 'xml'", "'xml' is no content type: 'json' and 'postcard' are"),
        ("'shop', 't', '', type_version => 65536", "a type has no version 65536: 0 to 65535 are possible"),
        ("'shop', 't', '', headers => '{a}'", "headers are pairs of a name and a value, none of them null"),
        ("'shop', 't', '', headers => '{a,NULL}'", "headers are pairs"),
        ("'shop', 't', '', headers => '{a,b,a,c}'", "a header is named twice"),
        ("'shop', 't', '', headers => ARRAY['', 'v']", "a header name of 0 bytes: 1 to 255 are possible"),
        (
            "'shop', 't', '', headers => ARRAY['n', repeat('v', 3997)]",
            "a message carries at most 4000 bytes of headers",
        ),
        (
            &format!("'shop', 't', '', headers => '{{{}}}'", many.join(",")),
            "a message carries at most 64 headers, not 65",
        ),
        ("'shop', 't', '', traceparent => '00-0-0-0'", "not a W3C traceparent"),
        (
            "'shop', 't', '', stream_key => 'a', stream => gen_random_uuid()",
            "by its key or by its id, not by both",
        ),
        ("'shop', 't', '', message => '00000000-0000-0000-0000-000000000000'", "the nil UUID is not an id"),
        ("'shop', 't', '', due_in => '-1 second'", "a message cannot be due 00:00:01 ago"),
        ("'shop', 't', '', due_in => '170000 years'", "a thousand years are possible"),
        ("'shop', 't', '', headers => ARRAY[['a', 'b'], ['c', NULL]]", "headers are pairs"),
        ("'shops', 't', ''", "this database knows no service \"shops\"; open a store for it once"),
        ("NULL, 't', ''", "this database knows no service"),
        ("'shop'' OR true --', 't', ''", "this database knows no service \"shop' OR true --\""),
    ];
    for (arguments, why) in refused {
        let error = sql.query(&format!("SELECT {schema}.enqueue({arguments})"), &[]).await.unwrap_err();
        let said = error.as_db_error().unwrap();
        assert_eq!(*said.code(), SqlState::INVALID_PARAMETER_VALUE, "{arguments}: {said}");
        assert!(said.message().contains(why), "{arguments}: {said}");
    }
    let left =
        format!("SELECT (SELECT count(*) FROM {schema}.arrival) + (SELECT count(*) FROM {schema}.dedup)");
    assert_eq!(sql.query_one(&left, &[]).await.unwrap().get::<_, i64>(0), 0);
    // At the limit everything is taken.
    let taken = "'shop', repeat('t', 20), '1234567890', dedup_key => '12345', headers => ARRAY['n', repeat('v', 3996)]";
    sql.query(&format!("SELECT {schema}.enqueue({taken})"), &[]).await.unwrap();
    let pairs = "'shop', 't', '', headers => ARRAY[['a', 'b'], ['c', 'd']]";
    sql.query(&format!("SELECT {schema}.enqueue({pairs})"), &[]).await.unwrap();
}

/// A key that a transaction has used and given up is free, and who waited for it has it.
#[tokio::test]
async fn of_two_transactions_with_one_key_the_second_waits_for_the_first() {
    for (end, arrives) in [("COMMIT", false), ("ROLLBACK", true)] {
        let options = options(Limits::default());
        let (one, other) = (opened(&options).await, connect().await);
        let call = format!(
            "SELECT arrived FROM {}.enqueue('shop', 't', 'body', dedup_key => 'key')",
            options.schema
        );
        one.batch_execute("BEGIN").await.unwrap();
        assert!(one.query_one(&call, &[]).await.unwrap().get::<_, bool>(0));
        let waits = tokio::spawn(async move { other.query_one(&call, &[]).await.unwrap().get::<_, bool>(0) });
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '.enqueue%'";
        let watcher = connect().await;
        while watcher.query_one(blocked, &[&options.schema]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        one.batch_execute(end).await.unwrap();
        assert_eq!(waits.await.unwrap(), arrives, "{end}");
    }
}

#[derive(serde::Serialize, serde::Deserialize, Command)]
#[message(name = "shop.place-order", version = 1)]
struct PlaceOrder {
    #[stream]
    order: u64,
    amount: u32,
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[message(name = "shop.paid", version = 1)]
struct Paid {
    #[stream]
    order: u64,
}

struct Orders(mpsc::UnboundedSender<String>);

impl Receptor<PlaceOrder> for Orders {
    async fn receive(&self, command: PlaceOrder, cx: Context<'_>) -> Result<(), Failure> {
        let tenant = cx.headers().value_of("tenant").unwrap_or("nobody").to_owned();
        let stream = cx.stream() == Some(StreamId::from_key(command.order.to_string()));
        self.0
            .send(format!("order {} over {} of {tenant}, {stream}", command.order, command.amount))
            .unwrap();
        Ok(())
    }
}

impl Receptor<Paid> for Orders {
    async fn receive(&self, event: Paid, _: Context<'_>) -> Result<(), Failure> {
        self.0.send(format!("paid {}", event.order)).unwrap();
        Ok(())
    }
}

dispatcher! {
    struct Shop { orders: Orders }
    command PlaceOrder => orders;
    event Paid => orders;
}

#[tokio::test]
async fn what_sql_enqueues_an_engine_handles() {
    let options = options(Limits::default());
    options.migrate().await.unwrap();
    let (seen, mut handled) = mpsc::unbounded_channel();
    let shop = Shop { orders: Orders(seen) };
    let engine = Engine::builder(shop).storage(options.clone().open().await.unwrap()).start().await.unwrap();
    let sql = connect().await;
    let schema = &options.schema;
    sql.batch_execute(&format!(
        "BEGIN;
         SELECT {schema}.enqueue('shop', 'shop.place-order', '{{\"order\": 1, \"amount\": 0}}', stream_key => '1');
         ROLLBACK;
         BEGIN;
         SELECT {schema}.enqueue('shop', 'shop.place-order', '{{\"order\": 1, \"amount\": 5}}', stream_key => '1',
             headers => '{{tenant,acme,other,ünï}}', traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
         SELECT {schema}.enqueue('shop', 'shop.paid', '{{\"order\": 1}}', kind => 'event', stream_key => '1',
             due_in => '0 seconds');
         COMMIT;"
    ))
    .await
    .unwrap();
    let patience = Duration::from_secs(20);
    let next = async |handled: &mut mpsc::UnboundedReceiver<String>| {
        tokio::time::timeout(patience, handled.recv()).await.expect("it is handled").unwrap()
    };
    let mut both = [next(&mut handled).await, next(&mut handled).await];
    both.sort();
    assert_eq!(both, ["order 1 over 5 of acme, true", "paid 1"]);
    engine.stop(patience).await;
    assert!(handled.try_recv().is_err(), "what was rolled back is not handled, and nothing twice");
}

#[tokio::test]
async fn messages_of_a_program_go_through_a_unit_into_its_own_transaction() {
    let options = options(Limits::default());
    options.migrate().await.unwrap();
    let (seen, mut handled) = mpsc::unbounded_channel();
    let shop = Shop { orders: Orders(seen) };
    let store = options.clone().open().await.unwrap();
    let enqueuer = store.enqueuer();
    let engine = Engine::builder(shop).storage(store).start().await.unwrap();

    let mut headers = Headers::new();
    headers.set("tenant", "acme").unwrap();
    let mut unit = Unit::default();
    let once = EmitOptions { once: Some(b"order 1"), headers: Some(&headers), ..EmitOptions::default() };
    unit.emit(&PlaceOrder { order: 1, amount: 5 }, once).unwrap();
    unit.emit(&Paid { order: 1 }, EmitOptions::default()).unwrap();
    let mut mine = connect().await;
    for end in [TransactionEnd::Rollback, TransactionEnd::Commit] {
        let transaction = mine.transaction().await.unwrap();
        for message in unit.view().emits() {
            assert!(matches!(enqueuer.enqueue(&transaction, &message).await.unwrap(), Enqueued::Arrived));
        }
        match end {
            TransactionEnd::Rollback => transaction.rollback().await.unwrap(),
            TransactionEnd::Commit => transaction.commit().await.unwrap(),
        }
    }
    let patience = Duration::from_secs(20);
    for expected in ["order 1 over 5 of acme, true", "paid 1"] {
        let got = tokio::time::timeout(patience, handled.recv()).await.expect("it is handled");
        assert_eq!(got.unwrap(), expected, "in the order of the unit");
    }
    engine.stop(patience).await;
    assert!(handled.try_recv().is_err(), "what was rolled back is not handled, and nothing twice");
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_to_date_with_everything_in_it() {
    let sql = connect().await;
    let schema = schema_name();
    sql.batch_execute(&fixture::schema_of_version(1, &schema)).await.unwrap();
    let options = PostgresOptions {
        schema: schema.clone(),
        service: Service {
            partitions: 4,
            // As the program of that time had it by itself.
            time_to_live: Duration::from_secs(10),
            ..Service::named("server")
        },
        ..PostgresOptions::from_url(&Cluster::shared().url()).unwrap()
    };
    let refused = options.clone().open().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("has version 1, this program needs version"), "{refused}");
    options.migrate().await.unwrap();
    options.migrate().await.unwrap();
    let mut a = Member::new(options.open().await.unwrap(), sender(2));
    a.join(Some("group"), &[subscription("all")], &[]).await;
    let stream = stream_in(4, Partition(0), 1);
    assert_eq!(a.move_arrivals().await, [(0, 4)]);
    let log: Vec<u64> = [a.read(0, 0).await, a.read(1, 0).await].iter().flat_map(numbers).collect();
    assert_eq!(log, [3, 5, 4]);
    let due = a.due().await;
    assert_eq!(numbers(&due), [2]);
    assert!(applied(&a.units(&[due[0].done()]).await));
    let again = Message::event(1, stream).once(b"key");
    let same = AppendAnswer::Duplicate { first: again.id, body: SameBody::Same };
    assert_eq!(a.append(&[again.clone(), again.with(*b"other")]).await[0], same);
    a.append(&[Message::event(6, stream)]).await;
    let history = a.history(stream, 0, 9).await;
    assert_eq!(numbers(&history), [1, 3, 6]);
    assert_eq!(history.iter().map(|got| got.version.unwrap().0).collect::<Vec<_>>(), [1, 2, 3]);
}
