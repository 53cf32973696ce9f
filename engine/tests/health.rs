//! What an engine says of itself when its store is away, and when others take over.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use whizbang::{
    Command, Context, Engine, Event, Failure, Options, Receptor, Service, StoreReader, StreamKey, dispatcher,
};
use whizbang_storage::{
    Abilities, Answer, Hint, MemoryDatabase, MemoryStore, Partition, StoreError, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{Faulty, Odds};

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "doors.open", version = 1)]
struct Open {
    #[stream]
    door: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "doors.opened", version = 1)]
struct Opened {
    #[stream]
    door: u64,
}

/// Opens a door as soon as it is allowed to.
struct Porter {
    allowed: Arc<Semaphore>,
}

impl Receptor<Open> for Porter {
    async fn receive(&self, _: Open, _: Context<'_>) -> Result<(), Failure> {
        self.allowed.acquire().await.map_err(|_| Failure::msg("nobody is allowed in any more"))?.forget();
        Ok(())
    }
}

dispatcher! {
    struct House { porter: Porter }
    command Open => porter;
    event Opened => ;
}

const ALL: usize = 1_000_000;

fn house(allowed: usize) -> House {
    House { porter: Porter { allowed: Arc::new(Semaphore::new(allowed)) } }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited too long: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_publish_waits_and_health_says_so_and_a_time_out_ends_the_wait() {
    let store = Faulty::new(MemoryStore::new(Service::default()).unwrap());
    let faults = store.faults();
    let options = Options { storage_retry_max: Duration::from_millis(20), ..Options::default() };
    let engine = Engine::builder(house(ALL)).storage(store).options(options).start().await.unwrap();
    assert_eq!(engine.health().storage_away, None);

    faults.draw(1, Odds { full: 1_000, ..Odds::default() });
    let waiting = engine.publish(Opened { door: 1 });
    let timed_out = tokio::time::timeout(Duration::from_millis(100), waiting).await;
    assert!(timed_out.is_err(), "nothing can be stored: {timed_out:?}");
    until("health tells", || engine.health().storage_away.is_some()).await;
    let away = engine.health().storage_away.expect("it was there a moment ago");
    assert!(away.error.contains("the disk is full"), "{}", away.error);
    // What is accepted lies in the rings, and waits there.
    let accepted = engine.try_publish(Opened { door: 1 }).expect("there is room in the rings");

    faults.stop();
    engine.stored(accepted).await.expect("it is stored when there is room again");
    let stored = engine.reader().statistics().await.unwrap().events;
    assert_eq!(stored, 2, "what nobody waited for any more is stored, too");
    until("the store is back", || engine.health().storage_away.is_none()).await;
    engine.stop(Duration::from_secs(5)).await;
}

/// Looks at its engine's health whenever a batch comes.
struct Watched<S> {
    store: S,
    engine: Arc<OnceLock<Engine<House>>>,
    /// Partitions that it owned, and messages in flight.
    seen: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl<S: WorkStore> WorkStore for Watched<S> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        if let Some(engine) = self.engine.get() {
            let health = engine.health();
            self.seen.lock().push((health.partitions_owned, health.in_flight));
        }
        self.store.process_work_batch(batch, answer).await
    }

    fn reader(&self) -> Self::Reader {
        self.store.reader()
    }

    fn service(&self) -> &Service {
        self.store.service()
    }

    fn abilities(&self) -> Abilities {
        self.store.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.store.on_hint(hint);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_away_with_its_partition_is_in_flight_no_more() {
    let service = Service { partitions: 2, ..Service::default() };
    let database = MemoryDatabase::new();
    let (engine, seen) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(Vec::new())));
    let store = Watched {
        store: database.open(service.clone()).unwrap(),
        engine: Arc::clone(&engine),
        seen: Arc::clone(&seen),
    };
    let heartbeat_every = Some(Duration::from_millis(20));
    // It never gets anything done, and gives up at once what is running.
    let give_back_within = Duration::from_millis(1);
    let options = Options { workers: 1, give_back_within, heartbeat_every, ..Options::default() };
    let first = Engine::builder(house(0)).storage(store).options(options).start().await.unwrap();
    engine.set(first.clone()).expect("it is set once");
    until("it owns everything", || first.health().partitions_owned == 2).await;
    // All of them are in the partition that is given back first: the last.
    let doors: Vec<u64> =
        (0..200).filter(|door: &u64| door.stream_id().partition(2) == Partition(1)).collect();
    first.send_all(doors.iter().map(|&door| Open { door })).await.unwrap();
    until("they are handed out", || first.health().in_flight == doors.len()).await;

    let options = Options { heartbeat_every, ..Options::default() };
    let second = Engine::builder(house(ALL)).storage(database.open(service).unwrap()).options(options);
    let second = second.start().await.unwrap();
    until("the second has its share", || second.health().partitions_owned == 1).await;
    until("the first has noticed", || seen.lock().last().is_some_and(|&(owned, _)| owned == 1)).await;
    let seen = seen.lock().clone();
    assert!(seen.contains(&(2, doors.len())), "{seen:?}");
    assert!(seen.iter().all(|&(owned, in_flight)| owned == 2 || in_flight == 0), "{seen:?}");
    first.stop(Duration::ZERO).await;
    second.stop(Duration::from_secs(5)).await;
}
