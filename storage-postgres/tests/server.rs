//! What only a server can do to us: rights that are missing, migrations at once, transactions left open, old snapshots,
//! clocks, round trips.

mod fixture;

use std::time::Duration;

use fixture::{OnServer, connect, schema_name};
use whizbang_postgres_cluster::Cluster;
use whizbang_postgres_cluster::Proxy;
use whizbang_storage::*;
use whizbang_storage_conformance::{
    Fixture, Member, Message, World, applied, numbers, sender, stored, subscription,
};
use whizbang_storage_postgres::{OpenError, PostgresOptions, PostgresStore, schema_sql};

fn options() -> PostgresOptions {
    let url = Cluster::shared().url();
    PostgresOptions {
        schema: schema_name(),
        service: Service { partitions: 4, ..Service::named("server") },
        ..PostgresOptions::from_url(&url).unwrap()
    }
}

async fn joined(options: PostgresOptions, number: u32) -> Member<PostgresStore> {
    let mut member = Member::new(options.open().await.unwrap(), sender(number));
    member.join(Some("group"), &[subscription("all")], &[]).await;
    member
}

/// One partition's messages, commands and events, through their whole life.
async fn live(a: &mut Member<PostgresStore>) {
    let stream = whizbang_storage_conformance::stream_in(4, Partition(0), 1);
    let messages = [
        Message::command(1).of(stream),
        Message::event(2, stream).once(b"key"),
        Message::command(3).of(stream),
    ];
    assert_eq!(stored(&a.append(&messages).await), [1, 2, 3]);
    let got = a.read(0, 0).await;
    assert_eq!(numbers(&got), [1, 2, 3]);
    assert!(applied(&a.units(&[got[0].done(), got[1].retry_in(Duration::ZERO)]).await));
    let due = a.due().await;
    assert_eq!(numbers(&due), [2]);
    let late = Message::command(4).of(stream).due_in(Duration::ZERO);
    a.append(&[late]).await;
    assert_eq!(a.move_arrivals().await, [(0, 4)]);
    assert!(applied(&a.units(&[due[0].done()]).await));
    assert_eq!(a.settle(0, 3, 3).await, SettledAnswer::Applied);
    assert_eq!(a.housekeep(99).await, 2, "1 and 3; 2 is an event");
    assert_eq!(numbers(&a.history(stream, 0, 9).await), [2]);
    a.leave(&[]).await;
}

#[tokio::test]
async fn a_role_that_may_only_read_and_write_can_do_everything() {
    let options = options();
    let (sql, role) = (connect().await, format!("role_{}", options.schema));
    sql.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let print = schema_sql(&options.schema, 0, Some(&options.service), Some(&role)).unwrap();
    sql.batch_execute(&print).await.unwrap();
    let mut limited = options.clone();
    limited.server.user(&role);
    live(&mut joined(limited.clone(), 1).await).await;
    let refused =
        sql.batch_execute(&format!("SET ROLE {role}; CREATE TABLE {}.mine ()", options.schema)).await;
    assert!(refused.is_err(), "the role may create nothing");
    // Emptying parts of the log is among what it may do, and sending messages by SQL.
    let message = "'server', 'test.command', '{}'";
    sql.batch_execute(&format!("SELECT {}.enqueue({message})", options.schema)).await.unwrap();
    sql.batch_execute(&format!("SELECT {}.recycle(1)", options.schema)).await.unwrap();
}

#[tokio::test]
async fn of_many_that_migrate_at_once_one_does_and_the_others_wait() {
    let options = options();
    let all = futures_util::future::join_all((0..8).map(|_| options.migrate())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    live(&mut joined(options, 1).await).await;
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_refused_with_what_to_do() {
    let refused = options().open().await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::NoSchema { .. }), "{refused}");
    assert!(refused.to_string().contains("migrate"), "{refused}");
    assert!(schema_sql("Robert'); DROP", 0, None, None).is_err());
}

#[tokio::test]
async fn the_servers_own_clock_is_followed() {
    let options = options();
    options.migrate().await.unwrap();
    live(&mut joined(options, 1).await).await;
}

#[tokio::test]
async fn a_users_open_transaction_delays_nobody() {
    let options = options();
    options.migrate().await.unwrap();
    let mut a = joined(options, 1).await;
    let stream = whizbang_storage_conformance::stream_in(4, Partition(0), 1);
    let mut mine = connect().await;
    let open = mine.transaction().await.unwrap();
    let enqueuer = a.store.enqueuer();
    enqueuer.enqueue(&open, &Message::command(1).of(stream).append()).await.unwrap();
    for n in 2..=20 {
        assert_eq!(stored(&a.append(&[Message::command(n).of(stream)]).await), [n - 1]);
        assert_eq!(a.move_arrivals().await, []);
    }
    open.commit().await.unwrap();
    // It was enqueued before all others, and comes when it is there.
    assert_eq!(a.move_arrivals().await, [(0, 20)]);
    assert_eq!(numbers(&a.read(0, 19).await), [1]);
}

#[tokio::test]
async fn an_exchange_is_one_round_trip() {
    let proxy = Proxy::in_front_of(Cluster::shared()).unwrap();
    let schema = schema_name();
    let service = Service { partitions: 4, ..Service::named("server") };
    let options = PostgresOptions { schema, service, ..PostgresOptions::from_url(&proxy.url()).unwrap() };
    options.migrate().await.unwrap();
    let mut a = joined(options, 1).await;
    let stream = whizbang_storage_conformance::stream_in(4, Partition(0), 1);
    // What was read ahead, and the first fold, are behind us.
    a.append(&[Message::command(1).of(stream)]).await;
    let before = proxy.traffic().turns;
    let mut exchanges = 0;
    for n in 0..10u64 {
        let first = 2 + 4 * n;
        let messages = [
            Message::command(first).of(stream).once(&first.to_be_bytes()),
            Message::event(first + 1, stream),
            Message::event(first + 2, StreamId::from_key(first.to_be_bytes())),
            Message::command(first + 3).of(stream),
        ];
        a.append(&messages).await;
        let got = a.read(0, 0).await;
        let position = got[0].position.0;
        assert!(applied(&a.units(&[got[0].retry_in(Duration::ZERO)]).await));
        let due = a.due().await;
        assert!(applied(&a.units(&[due[0].done()]).await));
        a.settle(0, position + 1, position + 1).await;
        a.heartbeat().await;
        exchanges += 7;
    }
    assert_eq!(proxy.traffic().turns - before, exchanges);
}

#[tokio::test]
async fn what_is_settled_takes_no_room_also_under_an_old_snapshot() {
    let options = options();
    options.migrate().await.unwrap();
    let schema = options.schema.clone();
    let mut a = joined(options, 1).await;
    let mut mine = connect().await;
    let old = mine.transaction().await.unwrap();
    old.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    old.query_one("SELECT count(*) FROM pg_class", &[]).await.unwrap();
    let stream = whizbang_storage_conformance::stream_in(4, Partition(0), 1);
    // 150 MiB through parts of 32 MiB.
    let payload = vec![7; 1 << 18];
    for n in 0..600u64 {
        let message = Message::command(n).of(stream).with(payload.clone());
        let appends = [message.append()];
        let settled = [a.range(0, n.max(1), n.max(1))];
        let settled = if n == 0 { &[][..] } else { &settled[..] };
        let reads = [a.reads(0, n)];
        let batch =
            WorkBatch { appends: &appends, settled, reads: &reads, housekeeping: Some(99), ..a.batch() };
        a.ok(batch).await;
    }
    let size = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname LIKE 'log%' AND c.relkind = 'r'";
    let size: i64 = connect().await.query_one(size, &[&schema]).await.unwrap().get(0);
    assert!(size < 110 << 20, "{} MiB are left of 150", size >> 20);
    old.commit().await.unwrap();
}

#[tokio::test]
async fn a_look_at_what_has_arrived_does_not_read_what_waits() {
    let options = options();
    options.migrate().await.unwrap();
    let mut publisher = Member::new(options.clone().open().await.unwrap(), sender(1));
    publisher.join(None, &[], &[]).await;
    let messages: Vec<Message> = (0..20_000).map(Message::command).collect();
    publisher.append(&messages).await;
    let looked = format!(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
            SELECT * FROM {}.come(1, pg_current_snapshot()::text, '{{0, 1, 2, 3, -1}}')",
        options.schema
    );
    let sql = connect().await;
    let mut read = Vec::new();
    // The first one finds out what the tables are; and after some calls, plans are made without the arguments.
    for _ in 0..9 {
        let plan = sql.simple_query(&looked).await.unwrap();
        let plan: String = plan
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        let blocks = |of: &str| -> u64 {
            let number = plan.split(of).nth(1).expect("it is counted").trim_start_matches("\": ");
            number.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).expect("a number")
        };
        read.push(blocks("Shared Hit Blocks") + blocks("Shared Read Blocks"));
    }
    assert!(read[1..].iter().all(|blocks| *blocks < 20), "{read:?} blocks of some 400");
}

#[tokio::test]
async fn two_instances_that_write_one_projection_lose_nothing() {
    let mut world = World::<OnServer>::new(2).await;
    let (mut a, mut b) = (world.joined().await, world.joined().await);
    let _ = (&mut a, &mut b);
    let (mut before, mut conflicts) = (None::<[u8; 8]>, 0);
    for n in 0..20u64 {
        let state = n.to_be_bytes();
        let from = before.as_ref().map(|state| &state[..]);
        let one = [whizbang_storage_conformance::projection(b"shared", from, Some(&state))];
        let two = one;
        let (one, two) = (
            [Unit { projections: &one, ..whizbang_storage_conformance::group(&[]) }],
            [Unit { projections: &two, ..whizbang_storage_conformance::group(&[]) }],
        );
        let (first, second) = (a.batch(), b.batch());
        let first = WorkBatch { units: &one, ..first };
        let second = WorkBatch { units: &two, ..second };
        let (first, second) = futures_util::future::join(a.send(first), b.send(second)).await;
        let answers = [first.unwrap().units[0].clone(), second.unwrap().units[0].clone()];
        let won = answers.iter().filter(|answer| matches!(answer, UnitAnswer::Applied { .. })).count();
        assert_eq!(won, 1, "{answers:?}");
        conflicts += 2 - won;
        before = Some(state);
    }
    assert_eq!(conflicts, 20);
    let read = a.store.reader().projection("totals", b"shared").await.unwrap();
    assert_eq!(read.map(|read| read.revision), Some(Revision::of(&19u64.to_be_bytes())));
    let _ = OnServer::fresh;
}

/// However much waits: it is read in rows of their own and moved in steps, since neither a value nor a message of the protocol has
/// more than 1 GiB.
#[tokio::test]
async fn a_backlog_of_large_arrivals_is_moved_in_steps() {
    const ARRIVALS: u64 = 100;
    let options = options();
    options.migrate().await.unwrap();
    let mut b = Member::new(options.clone().open().await.unwrap(), sender(2));
    b.join(None, &[], &[]).await;
    let stream = whizbang_storage_conformance::stream_in(4, Partition(0), 1);
    let large = Message::command(1).of(stream).with(vec![7; 1 << 20]);
    assert_eq!(b.append(&[large]).await, [AppendAnswer::Arrived]);
    let more = format!(
        "INSERT INTO {0}.arrival (service, partition, lane, record)
        SELECT a.service, a.partition, a.lane, a.record FROM {0}.arrival a, generate_series(2, {ARRIVALS})",
        options.schema
    );
    connect().await.batch_execute(&more).await.unwrap();
    let mut a = joined(options, 1).await;
    let (mut steps, mut head) = (0, 0);
    while let [(0, moved)] = a.move_arrivals().await[..] {
        assert!(moved > head && moved - head <= 64, "{moved} behind {head}");
        (steps, head) = (steps + 1, moved);
    }
    assert_eq!((steps, head), (ARRIVALS.div_ceil(64), ARRIVALS));
}
