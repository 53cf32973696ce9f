//! Old events go by age, in whole parts: nothing is deleted row by row, versions go on, and nothing that is kept is lost.

mod fixture;

use std::time::{Duration, Instant};

use fixture::{OnServer, connect};
use tokio_postgres::Client;
use whizbang_storage::{AppendAnswer, Clock, Service, Version};
use whizbang_storage_conformance::{Fixture, Member, Message, World, numbers};
use whizbang_storage_postgres::PostgresStore;

const HOUR: Duration = Duration::from_secs(3_600);

async fn world() -> (World<OnServer>, Member<PostgresStore>) {
    let service = Service { partitions: 4, event_retention: Some(HOUR), ..Service::named("events") };
    let mut world = World::<OnServer>::with(service).await;
    let a = world.joined().await;
    (world, a)
}

/// Appends so many events of 40 streams, and settles them.
async fn live(world: &World<OnServer>, a: &mut Member<PostgresStore>, first: u64, events: u64) {
    let stream = |n: u64| world.stream_in(n as u32 % 4, n as u32 % 40);
    let messages: Vec<Message> = (first..first + events).map(|n| Message::event(n, stream(n))).collect();
    a.append(&messages).await;
    for partition in 0..4 {
        let (_, through) = a.reading(a.reads(partition, 0)).await;
        a.settle(partition, 1, through).await;
    }
}

/// One step of emptying parts, as every instance takes one now and then; how many parts were emptied.
async fn step(sql: &Client, world: &World<OnServer>) -> i32 {
    let text = format!("SELECT emptied FROM {}.recycle_events($1, 7)", world.fixture.schema);
    sql.query_one(&text, &[&world.clock.now().micros()]).await.unwrap().get(0)
}

async fn bytes(sql: &Client, world: &World<OnServer>) -> i64 {
    let text = "SELECT sum(pg_relation_size(c.oid))::bigint FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname LIKE 'event__' AND c.relkind = 'r'";
    sql.query_one(text, &[&world.fixture.schema]).await.unwrap().get(0)
}

#[tokio::test]
async fn old_events_go_without_a_row_being_deleted() {
    let (world, mut a) = world().await;
    let sql = connect().await;
    for batch in 0..4 {
        live(&world, &mut a, batch * 1_000, 1_000).await;
    }
    world.clock.advance(HOUR);
    a.heartbeat().await;
    let written = world.fixture.rows_written().await;
    assert_eq!(a.housekeep(1_500).await, 1_500, "in bounded steps");
    assert_eq!(a.housekeep(1 << 20).await, 2_500);
    let rows = world.fixture.rows_written().await - written;
    assert!(rows <= 16, "{rows} rows were written to remove 4,000 events from 4 partitions");
    assert_eq!(a.statistics().await.events, 0);
    assert!(a.history(world.stream_in(0, 0), 0, 99).await.is_empty());
    assert_eq!(a.housekeep(1 << 20).await, 0);

    let began = Instant::now();
    assert!(bytes(&sql, &world).await > 0);
    while step(&sql, &world).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the part is never emptied");
    }
    assert_eq!(bytes(&sql, &world).await, 0, "all of it lay in one part");
    live(&world, &mut a, 4_000, 40).await;
    for n in 0..40 {
        let next = a.history(world.stream_in(n % 4, n), 0, 99).await;
        assert_eq!(next.iter().map(|got| got.version.unwrap()).collect::<Vec<_>>(), [Version(101)]);
    }
}

#[tokio::test]
async fn what_is_not_old_is_kept_and_the_part_with_it() {
    let (world, mut a) = world().await;
    let sql = connect().await;
    live(&world, &mut a, 0, 40).await;
    world.clock.advance(HOUR / 2);
    a.heartbeat().await;
    step(&sql, &world).await;
    // In the next part.
    live(&world, &mut a, 40, 40).await;
    world.clock.advance(HOUR / 2);
    a.heartbeat().await;
    assert_eq!(a.housekeep(1 << 20).await, 40);
    let began = Instant::now();
    while step(&sql, &world).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the first part is never emptied");
    }
    for _ in 0..5 {
        assert_eq!(step(&sql, &world).await, 0, "the others hold what is young");
    }
    assert!(bytes(&sql, &world).await > 0);
    let history = a.history(world.stream_in(1, 1), 0, 99).await;
    assert_eq!((numbers(&history), history[0].version), (vec![41], Some(Version(2))));
}

/// Whoever may still write into a part is waited for: what it writes there is not lost with it.
#[tokio::test]
async fn a_part_is_not_emptied_while_somebody_may_still_write_into_it() {
    let (world, mut a) = world().await;
    let sql = connect().await;
    live(&world, &mut a, 0, 40).await;
    world.clock.advance(HOUR);
    a.heartbeat().await;
    a.housekeep(1 << 20).await;
    // As an exchange that has locked its instance and looked which part is written.
    let writer = connect().await;
    let schema = &world.fixture.schema;
    writer.batch_execute(&format!("BEGIN; SELECT FROM {schema}.service FOR NO KEY UPDATE")).await.unwrap();
    for _ in 0..20 {
        assert_eq!(step(&sql, &world).await, 0);
    }
    writer.batch_execute("COMMIT").await.unwrap();
    let began = Instant::now();
    while step(&sql, &world).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the part is never emptied");
    }
}

/// A database may be restored into a server whose transactions have smaller numbers: there they say nothing.
#[tokio::test]
async fn a_part_that_waits_for_a_transaction_of_another_server_is_emptied() {
    let (world, mut a) = world().await;
    let sql = connect().await;
    live(&world, &mut a, 0, 40).await;
    world.clock.advance(HOUR);
    a.heartbeat().await;
    a.housekeep(1 << 20).await;
    let schema = &world.fixture.schema;
    let far =
        format!("UPDATE {schema}.event_part SET barrier = '4611686018427387904' WHERE barrier IS NOT NULL");
    let began = Instant::now();
    while sql.execute(&far, &[]).await.unwrap() == 0 {
        assert_eq!(step(&sql, &world).await, 0);
        assert!(began.elapsed() < Duration::from_secs(60), "nobody is waited for");
    }
    while step(&sql, &world).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the part is never emptied");
    }
}

/// A service that keeps its events for ever is in nobody's way, and nobody is in its.
#[tokio::test]
async fn what_is_kept_for_ever_lies_elsewhere() {
    let (mut world, mut a) = world().await;
    let sql = connect().await;
    live(&world, &mut a, 0, 40).await;
    let kept = Service { partitions: 4, ..Service::named("archive") };
    let mut b = world.member_of(kept).await.unwrap();
    b.join(Some("group"), &[whizbang_storage_conformance::subscription("all")], &[]).await;
    live(&world, &mut b, 0, 40).await;
    world.clock.advance(HOUR);
    a.heartbeat().await;
    assert_eq!((a.housekeep(1 << 20).await, b.housekeep(1 << 20).await), (40, 0));
    let began = Instant::now();
    while step(&sql, &world).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the part is never emptied");
    }
    assert_eq!(numbers(&b.history(world.stream_in(2, 2), 0, 9).await), [2]);
    // Its events of before go row by row, should it change its mind.
    drop(b.store);
    let shorter = Service { partitions: 4, event_retention: Some(HOUR), ..Service::named("archive") };
    b.store = world.fixture.open(shorter).await.unwrap();
    assert_eq!(b.housekeep(1 << 20).await, 40);
    let left = format!("SELECT count(*) FROM {}.event_0", world.fixture.schema);
    assert_eq!(sql.query_one(&left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let stream = world.stream_in(2, 2);
    assert!(matches!(
        b.append(&[Message::event(99, stream)]).await[0],
        AppendAnswer::Stored { version: Some(Version(2)), .. }
    ));
}
