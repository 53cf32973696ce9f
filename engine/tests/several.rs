//! Several engines over one database, and storage that fails.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Engine, Event, Failure, Handled, Options, Projection, Receptor, Service, State,
    StoreReader, dispatcher,
};
use whizbang_storage::{MemoryDatabase, MemoryStore, WorkStore};
use whizbang_storage_conformance::{Fault, Faulty, Odds};

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "tally.add", version = 1)]
struct Add {
    #[stream]
    account: u64,
    number: u64,
    /// Milliseconds that the handler waits.
    wait: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "tally.added", version = 1)]
struct Added {
    #[stream]
    account: u64,
    number: u64,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Total {
    count: u64,
    last: u64,
}

impl Projection for Total {
    const NAME: &'static str = "totals";
}

#[derive(Default, Clone)]
struct Tally {
    handled: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Receptor<Add> for Tally {
    async fn receive(&self, add: Add, mut cx: Context<'_>) -> Result<(), Failure> {
        if add.wait > 0 {
            tokio::time::sleep(Duration::from_millis(add.wait)).await;
        }
        cx.publish(&Added { account: add.account, number: add.number })?;
        self.handled.lock().push((add.account, add.number));
        Ok(())
    }
}

impl Receptor<Added> for Tally {
    async fn receive(&self, added: Added, mut cx: Context<'_>) -> Result<(), Failure> {
        let mut total: Total = cx.load().await?.unwrap_or_default();
        assert!(added.number > total.last, "out of order: {} after {}", added.number, total.last);
        total.count += 1;
        total.last = added.number;
        cx.save(&total)?;
        // One for all accounts: handlers of different streams meet here.
        let mut all: Total = cx.load_key("all").await?.unwrap_or_default();
        all.count += 1;
        cx.save_key("all", &all)?;
        Ok(())
    }
}

dispatcher! {
    struct App { tally: Tally }
    command Add => tally;
    subscription "totals" { event Added => tally with { retry_first: Duration::from_millis(20) }; }
}

fn service() -> Service {
    Service { partitions: 16, time_to_live: Duration::from_millis(600), ..Service::default() }
}

async fn engine_on(store: impl WorkStore) -> (Engine<App>, Tally) {
    let tally = Tally::default();
    let engine = Engine::builder(App { tally: tally.clone() }).storage(store).start().await.unwrap();
    (engine, tally)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if waited.await.is_err() {
        panic!("waited too long: {what}");
    }
}

async fn total_of(engine: &Engine<App>, account: u64) -> Option<Total> {
    let stream = whizbang::StreamKey::stream_id(&account);
    let found = engine.reader().projection("totals", &stream.to_bytes()).await.unwrap()?;
    Some(serde_json::from_slice(&found.state).unwrap())
}

async fn sum_of(engine: &Engine<App>, accounts: u64) -> u64 {
    let mut sum = 0;
    for account in 0..accounts {
        sum += total_of(engine, account).await.map_or(0, |total| total.count);
    }
    sum
}

async fn all_of(engine: &Engine<App>) -> u64 {
    let found = engine.reader().projection("totals", b"all").await.unwrap();
    found.map_or(0, |found| serde_json::from_slice::<Total>(&found.state).unwrap().count)
}

async fn add(engine: &Engine<App>, accounts: u64, from: u64, to: u64) {
    let mut publisher = engine.publisher().unwrap();
    let mut last = None;
    for number in from..to {
        last = Some(publisher.send(Add { account: number % accounts, number, wait: 0 }).await.unwrap());
    }
    if let Some(last) = last {
        engine.stored(last).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_count_every_event_once_although_handlers_meet_at_one_key() {
    let (engine, _) = engine_on(MemoryStore::new(service()).unwrap()).await;
    add(&engine, 20, 1, 1_001).await;
    until("all counted", async || sum_of(&engine, 20).await == 1_000).await;
    assert_eq!(all_of(&engine).await, 1_000);
    assert!(engine.reader().dead_letters(None, 1).await.unwrap().is_empty());
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_fails_loses_and_repeats_nothing() {
    for seed in 0..6 {
        let odds = Odds { before: 150, answer_lost: 150, ..Odds::default() };
        let store = Faulty::seeded(MemoryStore::new(service()).unwrap(), seed, odds);
        let faults = store.faults();
        faults.stop();
        let (engine, _) = engine_on(store).await;
        // However few exchanges it takes, one of them fails.
        faults.next(Fault::AnswerLost);
        faults.draw(seed, odds);
        add(&engine, 7, 1, 301).await;
        until("all counted", async || sum_of(&engine, 7).await == 300).await;
        faults.stop();
        assert!(faults.happened() > 0, "seed {seed}: no fault happened");
        assert_eq!(all_of(&engine).await, 300, "seed {seed}");
        for account in 0..7 {
            let stream = whizbang::StreamKey::stream_id(&account);
            let mut page = whizbang_storage::Page::default();
            engine.reader().history(stream, whizbang::Version(0), 1_000, &mut page).await.unwrap();
            let numbers: Vec<u64> = page
                .iter()
                .map(|event| serde_json::from_slice::<Added>(event.payload).unwrap().number)
                .collect();
            let expected: Vec<u64> = (1..301).filter(|number| number % 7 == account).collect();
            assert_eq!(numbers, expected, "seed {seed}: exactly once, in order");
        }
        engine.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_storage_is_away_accepted_messages_wait_and_health_says_so() {
    let store = Faulty::new(MemoryStore::new(service()).unwrap());
    let faults = store.faults();
    let (engine, _) = engine_on(store).await;
    for _ in 0..5 {
        faults.next(Fault::Before);
    }
    let receipt = engine.send(Add { account: 1, number: 1, wait: 0 });
    tokio::pin!(receipt);
    let early = tokio::time::timeout(Duration::from_millis(40), &mut receipt).await;
    assert!(early.is_err(), "it cannot be durable yet");
    assert!(engine.health().storage_away.is_some());
    receipt.await.unwrap().handled().await.unwrap();
    assert!(engine.health().storage_away.is_none());
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_storage_is_away_comes_back_and_says_that_not_all_is_durable() {
    let store = Faulty::new(MemoryStore::new(service()).unwrap());
    let faults = store.faults();
    let (engine, _) = engine_on(store).await;
    for _ in 0..1_000 {
        faults.next(Fault::Before);
    }
    engine.try_send(Add { account: 1, number: 1, wait: 0 }).unwrap();
    let stopped = engine.stop(Duration::from_millis(100)).await;
    assert!(!stopped.all_durable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_engine_gets_its_share_and_a_stopped_one_gives_everything_back() {
    let database = MemoryDatabase::new();
    let (first, _) = engine_on(database.open(service()).unwrap()).await;
    assert_eq!(first.health().partitions_owned, 16);
    let (second, tally) = engine_on(database.open(service()).unwrap()).await;
    let adding = {
        let first = first.clone();
        tokio::spawn(async move { add(&first, 40, 1, 2_001).await })
    };
    until("half each", async || {
        first.health().partitions_owned == 8 && second.health().partitions_owned == 8
    })
    .await;
    adding.await.unwrap();
    until("all counted", async || sum_of(&first, 40).await == 2_000).await;
    add(&first, 40, 2_001, 2_201).await;
    until("all counted", async || sum_of(&first, 40).await == 2_200).await;
    assert!(!tally.handled.lock().is_empty(), "the second engine handles what falls to its partitions");
    first.stop(Duration::from_secs(5)).await;
    until("the rest", async || second.health().partitions_owned == 16).await;
    add(&second, 40, 2_201, 2_401).await;
    until("all counted", async || sum_of(&second, 40).await == 2_400).await;
    assert_eq!(all_of(&second).await, 2_400);
    second.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_taken_for_dead_joins_again_and_nothing_is_done_twice() {
    let database = MemoryDatabase::new();
    let store = Faulty::new(database.open(service()).unwrap());
    let faults = store.faults();
    let (paused, _) = engine_on(store).await;
    let (other, _) = engine_on(database.open(service()).unwrap()).await;
    add(&paused, 30, 1, 501).await;
    // Longer than the time to live: the other one evicts it.
    faults.next(Fault::Delay(Duration::from_millis(1_500)));
    add(&paused, 30, 501, 1_001).await;
    until("an eviction", async || paused.health().evictions > 0).await;
    until("all counted", async || sum_of(&other, 30).await == 1_000).await;
    assert_eq!(all_of(&other).await, 1_000);
    until("its share again", async || paused.health().partitions_owned == 8).await;
    assert_eq!(paused.health().state, State::Running);
    paused.stop(Duration::from_secs(5)).await;
    other.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_only_publishes_owns_nothing_and_waits_for_others_to_handle() {
    let database = MemoryDatabase::new();
    let options = Options { group: None, ..Options::default() };
    let app = App { tally: Tally::default() };
    let publishing = Engine::builder(app)
        .storage(database.open(service()).unwrap())
        .options(options)
        .start()
        .await
        .unwrap();
    let receipt = publishing.send(Add { account: 1, number: 1, wait: 0 }).await.unwrap();
    assert_eq!(publishing.health().partitions_owned, 0);
    let early = tokio::time::timeout(Duration::from_millis(50), receipt.handled()).await;
    assert!(early.is_err(), "nobody is there to handle it");
    let (working, _) = engine_on(database.open(service()).unwrap()).await;
    assert_eq!(receipt.handled().await.unwrap(), Handled::Done);
    publishing.stop(Duration::from_secs(5)).await;
    working.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_handler_may_finish_until_the_deadline_of_a_stop_and_is_cancelled_then() {
    let database = MemoryDatabase::new();
    let (engine, tally) = engine_on(database.open(service()).unwrap()).await;
    engine.send(Add { account: 1, number: 1, wait: 200 }).await.unwrap();
    until("it runs", async || engine.health().in_flight == 1).await;
    assert_eq!(engine.stop(Duration::from_secs(10)).await.cancelled, 0);
    assert_eq!(*tally.handled.lock(), [(1, 1)]);

    let (engine, tally) = engine_on(database.open(service()).unwrap()).await;
    engine.send(Add { account: 2, number: 2, wait: 60_000 }).await.unwrap();
    until("it runs", async || engine.health().in_flight >= 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(engine.stop(Duration::from_millis(50)).await.cancelled, 1);
    assert!(!tally.handled.lock().contains(&(2, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_dropped_keeps_what_it_accepted() {
    let database = MemoryDatabase::new();
    let (engine, _) = engine_on(database.open(service()).unwrap()).await;
    for number in 1..=100 {
        engine.try_send(Add { account: number % 5, number, wait: 0 }).unwrap();
    }
    drop(engine);
    let (next, _) = engine_on(database.open(service()).unwrap()).await;
    until("all counted", async || sum_of(&next, 5).await == 100).await;
    next.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_asks_for_a_stop_is_told_the_same_end() {
    let (engine, _) = engine_on(MemoryStore::new(service()).unwrap()).await;
    engine.send(Add { account: 1, number: 1, wait: 100 }).await.unwrap();
    until("it runs", async || engine.health().in_flight >= 1).await;
    let (first, second) = tokio::join!(engine.stop(Duration::MAX), engine.stop(Duration::ZERO));
    assert_eq!(first, second);
    assert_eq!((first.cancelled, first.all_durable), (0, true));
    assert_eq!(engine.stop(Duration::ZERO).await, first);
}

#[test]
fn an_engine_whose_runtime_ends_leaves_its_work_to_the_group() {
    let database = MemoryDatabase::new();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let deserted = runtime();
    let (engine, _) = deserted.block_on(async { engine_on(database.open(service()).unwrap()).await });
    deserted.block_on(async { engine.send(Add { account: 1, number: 1, wait: 60_000 }).await.unwrap() });
    deserted.shutdown_background();
    runtime().block_on(async {
        let (next, _) = engine_on(database.open(service()).unwrap()).await;
        until("the group takes over", async || next.health().partitions_owned == 16).await;
        assert_eq!(engine.health().state, State::Stopped);
        next.stop(Duration::ZERO).await;
    });
}
