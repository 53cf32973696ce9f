//! How often a message is begun at the most, whatever becomes of those who begin it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, DeadReason, Engine, Failure, Receptor, Service, StoreReader, dispatcher};
use whizbang_storage::MemoryDatabase;

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "caps.stuck", version = 1)]
struct Stuck {
    number: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "caps.patient", version = 1)]
struct Patient {
    number: u64,
}

#[derive(Clone, Default)]
struct Hand {
    begun: Arc<Mutex<u32>>,
}

impl Receptor<Stuck> for Hand {
    async fn receive(&self, _: Stuck, _: Context<'_>) -> Result<(), Failure> {
        *self.begun.lock() += 1;
        std::future::pending().await
    }
}

impl Receptor<Patient> for Hand {
    async fn receive(&self, _: Patient, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

// The subscription counts to the cap of its most patient receptor.
dispatcher! {
    struct App { hand: Hand }
    command Stuck => hand with { attempts_max: 2 };
    command Patient => hand with { attempts_max: 10 };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_begun_no_more_often_than_its_receptor_allows_although_each_attempt_was_cut_off() {
    let database = MemoryDatabase::default();
    let hand = Hand::default();
    let start = async || {
        let store = database.open(Service::default()).unwrap();
        Engine::builder(App { hand: hand.clone() }).storage(store).start().await.unwrap()
    };
    let mut engine = start().await;
    engine.send(Stuck { number: 1 }).await.unwrap();
    for attempt in 1..=2 {
        until(async || *hand.begun.lock() == attempt).await;
        let stopped = engine.stop(Duration::ZERO).await;
        assert_eq!(stopped.cancelled, 1);
        engine = start().await;
    }
    until(async || !engine.reader().dead_letters(None, 9).await.unwrap().is_empty()).await;
    assert_eq!(*hand.begun.lock(), 2);
    let dead = engine.reader().dead_letters(None, 9).await.unwrap();
    assert_eq!((dead[0].reason, dead[0].attempts), (DeadReason::AttemptsExhausted, 2));
    assert!(dead[0].error.contains("did not come to its end"), "{}", dead[0].error);
    engine.stop(Duration::from_secs(5)).await;
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it happens within 30 s");
}
