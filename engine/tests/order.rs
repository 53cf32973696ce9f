//! Order within a stream, where a message fails while others that it has nothing to do with are on their way.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Engine, Event, Failure, MemoryStore, Projection, Receptor, Service, dispatcher,
};

/// Sends the next one of its stream, and says that it was taken.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "order.step", version = 1)]
struct Step {
    #[stream]
    stream: u64,
    number: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "order.taken", version = 1)]
struct Taken {
    #[stream]
    stream: u64,
    number: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Last {
    number: u64,
}

impl Projection for Last {
    const NAME: &'static str = "last";
}

const STEPS: u64 = 6;

#[derive(Default, Clone)]
struct Walker {
    /// Streams whose first event has failed.
    failed: Arc<Mutex<Vec<u64>>>,
    /// Stream, the number that came, and the one before it.
    overtaken: Arc<Mutex<Vec<(u64, u64, u64)>>>,
    finished: Arc<Mutex<usize>>,
}

impl Receptor<Step> for Walker {
    async fn receive(&self, step: Step, mut cx: Context<'_>) -> Result<(), Failure> {
        let Step { stream, number } = step;
        if number < STEPS {
            cx.send(&Step { stream, number: number + 1 })?;
        }
        cx.publish(&Taken { stream, number })?;
        Ok(())
    }
}

impl Receptor<Taken> for Walker {
    async fn receive(&self, taken: Taken, mut cx: Context<'_>) -> Result<(), Failure> {
        let Taken { stream, number } = taken;
        if number == 1 && !self.failed.lock().contains(&stream) {
            self.failed.lock().push(stream);
            return Err(Failure::msg("the first one fails once"));
        }
        let mut last: Last = cx.load().await?.unwrap_or_default();
        if last.number + 1 != number {
            self.overtaken.lock().push((stream, number, last.number));
        }
        last.number = number;
        cx.save(&last)?;
        if number == STEPS {
            *self.finished.lock() += 1;
        }
        Ok(())
    }
}

dispatcher! {
    struct App { walker: Walker }
    command Step => walker;
    subscription "walk" { event Taken => walker with { retry_first: Duration::from_millis(5) }; }
}

/// What a unit emits may be handed out by the batch that stores it; a retry that is stored with the same batch comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_emitted_beside_a_retry_of_its_stream_does_not_overtake_it() {
    const STREAMS: u64 = 300;
    let walker = Walker::default();
    let store = MemoryStore::new(Service::named("order")).unwrap();
    let engine = Engine::builder(App { walker: walker.clone() }).storage(store).start().await.unwrap();
    let steps = (0..STREAMS).map(|stream| Step { stream, number: 1 });
    engine.send_all(steps).await.unwrap();
    let all = async {
        while *walker.finished.lock() < STREAMS as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let finished = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert_eq!(*walker.overtaken.lock(), []);
    assert!(finished.is_ok(), "every stream comes to its end");
    engine.stop(Duration::from_secs(5)).await;
}
