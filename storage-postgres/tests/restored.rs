//! A database that was restored from a dump into a server that counts its transactions anew: what is in it is of transactions that
//! this server has not come to.

mod fixture;

use std::time::Duration;

use fixture::{OnServer, connect, schema_name, waiting};
use tokio_postgres::Client;
use whizbang_postgres_cluster::Cluster;
use whizbang_storage::SettledAnswer;
use whizbang_storage_conformance::{Fixture, Member, Message, TransactionEnd, World, numbers, stored};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

/// Makes rows of a table those of later transactions than any of this server.
async fn restore_where(schema: &str, table: &str, condition: &str) {
    let later = format!(
        "UPDATE {schema}.{table} SET transaction = (transaction::text::bigint + 1000000000)::text::xid8 WHERE {condition}"
    );
    connect().await.batch_execute(&later).await.unwrap();
}

async fn restore(schema: &str) {
    for table in ["arrival", "exchange", "instance"] {
        restore_where(schema, table, "true").await;
    }
}

/// How many rows are of transactions that this server has not come to.
async fn later(sql: &Client, schema: &str) -> i64 {
    let rows = ["arrival", "exchange", "instance"].map(|table| {
        format!("(SELECT count(*) FROM {schema}.{table} WHERE transaction >= pg_snapshot_xmax(pg_current_snapshot()))")
    });
    sql.query_one(&format!("SELECT {}", rows.join(" + ")), &[]).await.unwrap().get(0)
}

/// Two messages of a user arrive for one stream.
async fn enqueue(world: &World<OnServer>) {
    let stream = world.stream_in(0, 1);
    let messages = [Message::command(1).of(stream), Message::event(2, stream)];
    let appends = [messages[0].append(), messages[1].append()];
    world.fixture.enqueue(&world.service, &appends, TransactionEnd::Commit).await;
}

/// What waits is moved, once and in order, and its stream goes on in the log.
async fn moves_once(world: &World<OnServer>, member: &mut Member<PostgresStore>) {
    assert_eq!(member.move_arrivals().await, [(0, 2)]);
    let next = Message::event(3, world.stream_in(0, 1));
    assert_eq!(stored(&member.append(&[next]).await), [3]);
    assert_eq!(member.move_arrivals().await, []);
    assert_eq!(numbers(&member.read(0, 0).await), [1, 2, 3]);
}

#[tokio::test]
async fn what_had_arrived_before_the_dump_is_moved_into_the_log_once() {
    let mut world = World::<OnServer>::new(4).await;
    world.joined().await.leave(&[]).await;
    enqueue(&world).await;
    restore(&world.fixture.schema).await;
    let mut b = world.joined().await;
    moves_once(&world, &mut b).await;
    assert_eq!(later(&connect().await, &world.fixture.schema).await, 0);
}

#[tokio::test]
async fn the_partitions_of_those_who_lived_at_the_dump_are_taken_over_within_a_time_to_live() {
    let mut world = World::<OnServer>::new(4).await;
    let mut a = world.joined().await;
    a.append(&[Message::command(1).of(world.stream_in(0, 1))]).await;
    world.kill(a).await;
    restore(&world.fixture.schema).await;
    world.clock.advance(Duration::from_secs(3_600));
    let mut b = world.joined().await;
    world.outlive(&mut b).await;
    assert_eq!(b.owned.keys().map(|partition| partition.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(numbers(&b.read(0, 0).await), [1]);
}

/// This server has come to some of the transactions of the dump, and not to others.
#[tokio::test]
async fn where_somebody_stood_at_the_dump_is_what_the_last_exchange_says() {
    let mut world = World::<OnServer>::new(4).await;
    let mut a = world.joined().await;
    let stream = world.stream_in(0, 1);
    a.append(&[1, 2, 3].map(|n| Message::command(n).of(stream))).await;
    a.read(0, 0).await;
    for position in 1..=3 {
        assert_eq!(a.settle(0, position, position).await, SettledAnswer::Applied);
    }
    let last = a.from.number;
    world.kill(a).await;
    let (sql, schema) = (connect().await, world.fixture.schema.clone());
    restore_where(&schema, "exchange", &format!("number = {last}")).await;
    assert_eq!(later(&sql, &schema).await, 1);
    let mut b = world.joined().await;
    assert_eq!(later(&sql, &schema).await, 0);
    world.outlive(&mut b).await;
    assert_eq!(b.low(0).await, 3);
}

/// Somebody whose server is replaced by a restored one connects to that, and opens nothing.
#[tokio::test]
async fn a_process_that_outlives_its_server_works_on_with_the_restored_one() {
    let mut world = World::<OnServer>::new(4).await;
    let mut a = world.joined().await;
    enqueue(&world).await;
    world.fixture.cut_connections().await;
    restore(&world.fixture.schema).await;
    moves_once(&world, &mut a).await;
}

#[tokio::test]
async fn of_two_that_connect_at_once_one_waits_and_finds_nothing_left_to_do() {
    let mut world = World::<OnServer>::new(4).await;
    let a = world.joined().await;
    enqueue(&world).await;
    world.kill(a).await;
    let schema = world.fixture.schema.clone();
    restore(&schema).await;
    let freeze = format!("SELECT {schema}.freeze(s.id, '60s') FROM {schema}.service s");
    let (mut first, watcher) = (connect().await, connect().await);
    let mut options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
    let name = schema_name();
    options.server.application_name(&name);
    let (second, connection) = options.server.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let open = first.transaction().await.unwrap();
    assert!(open.query_one(&freeze, &[]).await.unwrap().get::<_, bool>(0));
    let waits = async { second.query_one(&freeze, &[]).await.unwrap().get::<_, bool>(0) };
    let directs = async {
        waiting(&watcher, &name, 0).await;
        open.commit().await.unwrap();
    };
    let (found, ()) = tokio::join!(waits, directs);
    assert!(!found, "there was nothing left");
    assert_eq!(later(&watcher, &schema).await, 0);
}

#[tokio::test]
async fn a_database_that_was_not_restored_is_left_as_it_is() {
    let mut world = World::<OnServer>::new(4).await;
    let a = world.joined().await;
    enqueue(&world).await;
    let (sql, schema) = (connect().await, &world.fixture.schema);
    let all = format!(
        "SELECT array_agg(xmin::text || ctid::text ORDER BY ctid)::text FROM {schema}.arrival
        UNION ALL SELECT array_agg(xmin::text || ctid::text ORDER BY ctid)::text FROM {schema}.instance
        UNION ALL SELECT array_agg(xmin::text || ctid::text ORDER BY ctid)::text FROM {schema}.exchange"
    );
    let rows = |rows: Vec<tokio_postgres::Row>| -> Vec<Option<String>> {
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = rows(sql.query(&all, &[]).await.unwrap());
    let freeze = format!("SELECT {schema}.freeze(s.id, '60s') FROM {schema}.service s");
    assert!(!sql.query_one(&freeze, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(rows(sql.query(&all, &[]).await.unwrap()), before);
    drop(a);
}

/// This server has come to a transaction of the dump, and its own of that number is still open.
#[tokio::test]
async fn what_has_the_number_of_an_open_transaction_is_moved_into_the_log_once() {
    let mut world = World::<OnServer>::new(4).await;
    let mut a = world.joined().await;
    enqueue(&world).await;
    world.fixture.cut_connections().await;
    let (mut mine, sql, schema) = (connect().await, connect().await, &world.fixture.schema);
    let open = mine.transaction().await.unwrap();
    let number: String = open.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let same = format!("UPDATE {schema}.arrival SET transaction = '{number}'");
    assert_eq!(sql.execute(&same, &[]).await.unwrap(), 2);
    moves_once(&world, &mut a).await;
    open.rollback().await.unwrap();
}

/// Whatever has taken an arrival away: what is not there cannot be moved.
#[tokio::test]
async fn an_arrival_that_is_gone_is_not_moved() {
    let mut world = World::<OnServer>::new(4).await;
    let mut a = world.joined().await;
    enqueue(&world).await;
    // It has taken note of both.
    a.heartbeat().await;
    let (sql, schema) = (connect().await, &world.fixture.schema);
    let first = format!("DELETE FROM {schema}.arrival WHERE id = (SELECT min(id) FROM {schema}.arrival)");
    assert_eq!(sql.execute(&first, &[]).await.unwrap(), 1);
    assert_eq!(a.move_arrivals().await, [(0, 1)]);
    assert_eq!(numbers(&a.read(0, 0).await), [2]);
}
