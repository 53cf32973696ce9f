//! A transaction that somebody leaves open pins an old snapshot: nothing that dies meanwhile can be vacuumed. The work goes on
//! as before.
//!
//! Two servers do the same work at the same time, and only one of them has such a transaction: whatever else the machine does
//! slows both down.
//!
//! ```text
//! WHIZBANG_PINNED_SECONDS=180 cargo test --release -p whizbang-storage-postgres --test pinned -- --nocapture
//! ```

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use whizbang_postgres_cluster::{Cluster, Options};
use whizbang_storage::*;
use whizbang_storage_conformance::{Member, Message, sender, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

/// Messages of one exchange.
const BATCH: u64 = 10;
/// How long the transaction is open unless the environment says otherwise.
const SECONDS: f64 = 8.0;

/// What was measured of a stretch of time.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    per_second: f64,
    /// Pages of the server's memory that one exchange looks at.
    pages_each: f64,
}

struct Load {
    cluster: Cluster,
    member: Member<PostgresStore>,
    sql: Client,
    next: u64,
    unsettled: Option<u64>,
}

impl Load {
    /// On a server of its own.
    async fn start() -> Self {
        let cluster = Cluster::start(Options::default()).unwrap();
        let url = cluster.url();
        let service = Service { partitions: 1, ..Service::named("pinned") };
        let options = PostgresOptions { service, ..PostgresOptions::from_url(&url).unwrap() };
        options.migrate().await.unwrap();
        let mut member = Member::new(options.open().await.unwrap(), sender(1));
        member.join(Some("group"), &[subscription("all")], &[]).await;
        Self { sql: connect(&url).await, cluster, member, next: 1, unsettled: None }
    }

    /// Appends, reads, settles and trims as fast as it goes.
    async fn run(&mut self, lasting: Duration) -> Stretch {
        let (began, pages) = (Instant::now(), self.pages().await);
        let mut exchanges = 0u64;
        while began.elapsed() < lasting {
            let a = &mut self.member;
            let first = self.next;
            let messages: Vec<Message> = (first..first + BATCH)
                .map(|n| Message::command(n).of(whizbang_storage_conformance::stream_in(1, Partition(0), 1)))
                .collect();
            let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
            let settled: Vec<Settled> =
                self.unsettled.iter().map(|last| a.range(0, last + 1 - BATCH, *last)).collect();
            let reads = [a.reads(0, self.unsettled.unwrap_or(0))];
            let batch = WorkBatch {
                appends: &appends,
                settled: &settled,
                reads: &reads,
                housekeeping: Some(100),
                ..a.batch()
            };
            let answer = a.ok(batch).await;
            assert_eq!(answer.page.len() as u64, BATCH);
            self.unsettled = Some(self.unsettled.unwrap_or(0) + BATCH);
            self.next += BATCH;
            exchanges += 1;
        }
        let per_second = exchanges as f64 / began.elapsed().as_secs_f64();
        Stretch { per_second, pages_each: (self.pages().await - pages) as f64 / exchanges as f64 }
    }

    async fn pages(&self) -> i64 {
        // A connection tells what it did at most once a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let text = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()";
        self.sql.query_one(text, &[]).await.unwrap().get(0)
    }

    async fn dead_rows(&self) -> i64 {
        let text = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_all_tables WHERE schemaname = 'whizbang'";
        self.sql.query_one(text, &[]).await.unwrap().get(0)
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_does_not_slow_the_work_down() {
    let seconds =
        std::env::var("WHIZBANG_PINNED_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"));
    let quarter = Duration::from_secs_f64(seconds / 4.0);
    let (mut pinned, mut free) = (Load::start().await, Load::start().await);
    both(&mut pinned, &mut free, Duration::from_secs(1)).await;

    let before = both(&mut pinned, &mut free, quarter).await;
    let mut mine = connect(&pinned.cluster.url()).await;
    let open = mine.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let open = open.start().await.unwrap();
    // With a snapshot, and a number of its own.
    open.query_one("SELECT whizbang.enqueue('pinned', 'test.command', '')", &[]).await.unwrap();
    let dead_before = pinned.dead_rows().await;
    let early = both(&mut pinned, &mut free, quarter).await;
    let middle = both(&mut pinned, &mut free, quarter * 2).await;
    let late = both(&mut pinned, &mut free, quarter).await;
    let dead = pinned.dead_rows().await - dead_before;
    let quarters = early.pinned.per_second + 2.0 * middle.pinned.per_second + late.pinned.per_second;
    let exchanges = quarter.as_secs_f64() * quarters;
    open.commit().await.unwrap();
    let after = both(&mut pinned, &mut free, quarter).await;

    println!("before {before:?}\nopen   {early:?}\n       {middle:?}\n       {late:?}\nafter  {after:?}");
    let (kept, pages) = (late.ratio() / before.ratio(), late.pinned.pages_each / late.free.pages_each);
    println!(
        "open for {:.0} s: at its end {:.0} and {:.0} exchanges a second with and without, {:.0} % of what it was before, \
         {:.0} % of the pages each, {:.2} dead rows an exchange",
        4.0 * quarter.as_secs_f64(),
        late.pinned.per_second,
        late.free.per_second,
        100.0 * kept,
        100.0 * pages,
        dead as f64 / exchanges,
    );
    // One row an exchange, its own, and what a fold of 64 of them replaces.
    assert!((dead as f64) < 1.5 * exchanges + 1_000.0, "{dead} dead rows of {exchanges:.0} exchanges");
    assert!(late.pinned.pages_each < 2.0 * late.free.pages_each + 20.0, "an exchange looks at more and more");
    // In seconds a checkpoint of one of the servers decides. A design that updates rows in place fell to 4 %.
    let least = if seconds >= 60.0 { 0.8 } else { 0.4 };
    assert!(kept >= least, "{:.0} % of the throughput are left", 100.0 * kept);
}

/// What two servers did at the same time.
#[derive(Debug, Clone, Copy)]
struct Both {
    pinned: Stretch,
    free: Stretch,
}

impl Both {
    fn ratio(&self) -> f64 {
        self.pinned.per_second / self.free.per_second
    }
}

async fn both(pinned: &mut Load, free: &mut Load, lasting: Duration) -> Both {
    let (pinned, free) = tokio::join!(pinned.run(lasting), free.run(lasting));
    Both { pinned, free }
}
