//! What an engine asks of its store: nothing while it is idle, one call for everything else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Engine, Failure, MemoryStore, PlainReceptor, Service, dispatcher};
use whizbang_storage_conformance::{OwnedBatch, OwnedMembership, Recorded};

#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "ping", version = 1)]
struct Ping {
    #[stream]
    number: u64,
}

struct Pong;

impl PlainReceptor<Ping> for Pong {
    fn receive_now(&self, _: Ping, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct App { pong: Pong }
    command Ping => pong;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_engine_makes_no_call_but_its_heartbeat() {
    let service = Service { time_to_live: Duration::from_millis(900), ..Service::default() };
    let store = Recorded::new(MemoryStore::new(service).unwrap());
    let calls = store.calls();
    let engine = Engine::builder(App { pong: Pong }).storage(store).start().await.unwrap();
    engine.send(Ping { number: 1 }).await.unwrap().handled().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    calls.take();
    // Not a time that decides: however slow the machine, an idle engine cannot make more calls than heartbeats fit.
    let began = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let most = began.elapsed().as_millis() / 300 + 1;
    let idle = calls.take();
    assert!(!idle.is_empty(), "it has a heartbeat");
    assert!(idle.len() as u128 <= most, "{} calls where {most} heartbeats fit: {idle:?}", idle.len());
    for call in &idle {
        // It looks for work while it is there; it brings none.
        let heartbeat = OwnedBatch {
            membership: Some(OwnedMembership::Heartbeat),
            arrivals: call.batch.arrivals,
            due: call.batch.due,
            housekeeping: call.batch.housekeeping,
            ..OwnedBatch::empty(call.batch.from)
        };
        assert_eq!(call.batch, heartbeat, "a heartbeat carries nothing, and reads nothing");
    }
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_wait_together_are_stored_by_one_call() {
    let store = Recorded::new(MemoryStore::new(Service::default()).unwrap());
    let calls = store.calls();
    let engine = Engine::builder(App { pong: Pong }).storage(store).start().await.unwrap();
    let tickets: Vec<_> = (0..5_000).map(|number| engine.try_send(Ping { number }).unwrap()).collect();
    for ticket in tickets {
        engine.stored(ticket).await.unwrap();
    }
    let made = calls.take().len();
    assert!(made < 500, "{made} calls for 5,000 messages");
    engine.stop(Duration::from_secs(5)).await;
}
