//! What becomes of a message whose handler fails, dies, hangs, or cannot read it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Engine, Failure, Handled, MemoryStore, Options, Receptor, Service, StoreReader,
    dispatcher,
};

/// What the handler is to do with a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum What {
    Succeed,
    FailTimes(u32),
    Reject,
    Panic,
    /// Wait this many milliseconds at the first attempt.
    Wait(u64),
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "jobs.do", version = 1)]
struct Job {
    #[stream]
    stream: String,
    number: u32,
    what: What,
}

fn job(stream: &str, number: u32, what: What) -> Job {
    Job { stream: stream.into(), number, what }
}

type Log = Arc<Mutex<Vec<(String, u32, u32)>>>;

/// Logs stream, number and attempt of everything that it finishes.
#[derive(Default)]
struct Jobs {
    log: Log,
    begun: Log,
}

impl Receptor<Job> for Jobs {
    async fn receive(&self, job: Job, cx: Context<'_>) -> Result<(), Failure> {
        let attempt = cx.attempt();
        self.begun.lock().push((job.stream.clone(), job.number, attempt));
        match job.what {
            What::Succeed => {}
            What::FailTimes(times) if attempt <= times => return Err(Failure::msg("not yet")),
            What::FailTimes(_) => {}
            What::Reject => return Err(Failure::dead("never")),
            What::Panic if attempt == 1 => panic!("out of paper"),
            What::Panic => {}
            What::Wait(millis) if attempt == 1 => tokio::time::sleep(Duration::from_millis(millis)).await,
            What::Wait(_) => {}
        }
        self.log.lock().push((job.stream, job.number, attempt));
        Ok(())
    }
}

dispatcher! {
    struct App { jobs: Jobs }
    command Job => jobs with {
        retry_first: Duration::from_millis(30),
        retry_max: Duration::from_millis(60),
        deadline: Duration::from_millis(700),
        attempts_max: 4,
    };
}

async fn start(options: Options) -> (Engine<App>, Log, Log) {
    let jobs = Jobs::default();
    let (log, begun) = (Arc::clone(&jobs.log), Arc::clone(&jobs.begun));
    let store = MemoryStore::new(Service::default()).unwrap();
    let engine = Engine::builder(App { jobs }).storage(store).options(options).start().await.unwrap();
    (engine, log, begun)
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for {what}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_message_comes_again_and_its_stream_waits_for_it() {
    let (engine, log, _) = start(Options::default()).await;
    let first = engine.send(job("a", 1, What::FailTimes(2))).await.unwrap();
    for number in 2..=5 {
        engine.send(job("a", number, What::Succeed)).await.unwrap();
    }
    let other = engine.send(job("b", 1, What::Succeed)).await.unwrap();
    within("the other stream", other.handled()).await.unwrap();
    assert!(!log.lock().iter().any(|(stream, ..)| stream == "a"), "stream a still waits");
    within("the retried one", first.handled()).await.unwrap();
    let last = engine.send(job("a", 6, What::Succeed)).await.unwrap();
    within("the last", last.handled()).await.unwrap();
    let of_a: Vec<_> =
        log.lock().iter().filter(|(s, ..)| s == "a").map(|(_, n, attempt)| (*n, *attempt)).collect();
    assert_eq!(of_a, [(1, 3), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_waited_for_a_retry_catches_up_in_runs() {
    const BEHIND: u32 = 2_000;
    let (engine, log, _) = start(Options::default()).await;
    let mut publisher = engine.publisher().unwrap();
    let mut last = publisher.send(job("a", 1, What::FailTimes(2))).await.unwrap();
    for number in 2..=BEHIND {
        let what = if number % 400 == 0 { What::FailTimes(1) } else { What::Succeed };
        last = publisher.send(job("a", number, what)).await.unwrap();
    }
    let last = engine.stored(last).await.unwrap();
    let stored = engine.health().exchanges;
    within("the last", last.handled()).await.unwrap();
    let order: Vec<u32> = log.lock().iter().map(|(_, number, _)| *number).collect();
    assert_eq!(order, (1..=BEHIND).collect::<Vec<_>>());
    // Looking for the last one, again and again, takes no exchanges; a message at a time would take 2,000.
    let exchanges = engine.health().exchanges - stored;
    assert!(exchanges < 200, "{exchanges} exchanges");
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_never_succeeds_is_a_dead_letter_and_its_stream_goes_on() {
    let (engine, log, begun) = start(Options::default()).await;
    let doomed = engine.send(job("a", 1, What::FailTimes(99))).await.unwrap();
    let next = engine.send(job("a", 2, What::Succeed)).await.unwrap();
    let Handled::Dead { reason, error } = within("the dead letter", doomed.handled()).await.unwrap() else {
        panic!("it can never succeed");
    };
    assert_eq!((reason, error.as_str()), (whizbang_storage::DeadReason::AttemptsExhausted, "not yet"));
    within("the next", next.handled()).await.unwrap();
    assert_eq!(*log.lock(), [("a".to_owned(), 2, 1)]);
    assert_eq!(begun.lock().iter().filter(|(_, number, _)| *number == 1).count(), 4, "attempts_max is 4");
    let letters = engine.reader().dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].message, letters[0].error.as_str()), (doomed.id(), "not yet"));
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_message_dies_at_once_and_a_panic_is_a_failure_like_any_other() {
    let (engine, log, begun) = start(Options::default()).await;
    let rejected = engine.send(job("a", 1, What::Reject)).await.unwrap();
    let panicking = engine.send(job("b", 1, What::Panic)).await.unwrap();
    let handled = within("the rejected one", rejected.handled()).await.unwrap();
    let reason = whizbang_storage::DeadReason::Rejected;
    assert_eq!(handled, Handled::Dead { reason, error: "never".into() });
    assert_eq!(begun.lock().iter().filter(|(stream, ..)| stream == "a").count(), 1);
    assert_eq!(within("the panicking one", panicking.handled()).await.unwrap(), Handled::Done);
    assert_eq!(*log.lock(), [("b".to_owned(), 1, 2)]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_over_its_deadline_is_cancelled_and_tried_again() {
    let (engine, log, begun) = start(Options::default()).await;
    let slow = engine.send(job("a", 1, What::Wait(60_000))).await.unwrap();
    let next = engine.send(job("a", 2, What::Succeed)).await.unwrap();
    within("the slow one", slow.handled()).await.unwrap();
    within("the next", next.handled()).await.unwrap();
    assert_eq!(*log.lock(), [("a".to_owned(), 1, 2), ("a".to_owned(), 2, 1)]);
    assert_eq!(begun.lock()[0], ("a".to_owned(), 1, 1));
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_runs_long_is_detached_and_only_its_own_stream_waits() {
    let options = Options { detach_after: Duration::from_millis(50), ..Options::default() };
    let (engine, log, _) = start(options).await;
    let long = engine.send(job("a", 1, What::Wait(400))).await.unwrap();
    let behind = engine.send(job("a", 2, What::Succeed)).await.unwrap();
    // Parked as running: the log flows on behind it.
    within("the detachment", async {
        loop {
            let statistics = engine.reader().statistics().await.unwrap();
            if statistics.subscriptions[0].parked == 2 && statistics.subscriptions[0].lag == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let other = engine.send(job("b", 1, What::Succeed)).await.unwrap();
    within("another stream", other.handled()).await.unwrap();
    within("the long one", long.handled()).await.unwrap();
    within("the one behind", behind.handled()).await.unwrap();
    let log = log.lock().clone();
    assert_eq!(log, [("b".to_owned(), 1, 1), ("a".to_owned(), 1, 1), ("a".to_owned(), 2, 1)]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_in_every_stream_while_messages_fail_at_random() {
    order_holds_with(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_when_hardly_any_handler_may_wait() {
    order_holds_with(Options { workers: 1, handlers_max: 1, ..Options::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_when_hardly_anything_may_be_in_flight() {
    order_holds_with(Options { in_flight_max: 3, batch_messages_max: 7, ..Options::default() }).await;
}

async fn order_holds_with(options: Options) {
    let (engine, log, _) = start(options).await;
    let mut publisher = engine.publisher().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut last = None;
    for number in 0..3_000_u32 {
        let what = match random.u32(..50) {
            0 => What::FailTimes(random.u32(1..3)),
            1 => What::Wait(random.u64(..3)),
            2 => What::Panic,
            _ => What::Succeed,
        };
        last = Some(publisher.send(job(&format!("s{}", number % 40), number, what)).await.unwrap());
    }
    engine.stored(last.unwrap()).await.unwrap();
    within("all of them", async {
        while log.lock().len() < 3_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut by_stream: HashMap<String, Vec<u32>> = HashMap::new();
    for (stream, number, _) in log.lock().iter() {
        by_stream.entry(stream.clone()).or_default().push(*number);
    }
    for (stream, numbers) in by_stream {
        assert!(numbers.is_sorted(), "{stream} out of order: {numbers:?}");
        assert_eq!(numbers.len(), 75, "{stream}");
    }
    engine.stop(Duration::from_secs(5)).await;
}

/// The same wire name with another shape, as a producer with a defect would write it.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "jobs.do", version = 1)]
struct Garbled {
    #[stream]
    stream: String,
    number: String,
}

struct Nothing;

impl Receptor<Garbled> for Nothing {
    async fn receive(&self, _: Garbled, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Elsewhere { nothing: Nothing }
    command Garbled => nothing;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undecodable_message_is_a_dead_letter_at_once_and_its_neighbours_flow_on() {
    let database = whizbang_storage::MemoryDatabase::new();
    let only_publish = Options { group: None, ..Options::default() };
    let elsewhere = Engine::builder(Elsewhere { nothing: Nothing })
        .storage(database.open(Service::default()).unwrap())
        .options(only_publish)
        .start()
        .await
        .unwrap();
    elsewhere.send(Garbled { stream: "a".into(), number: "one".into() }).await.unwrap();

    let jobs = Jobs::default();
    let log = Arc::clone(&jobs.log);
    let engine = Engine::builder(App { jobs })
        .storage(database.open(Service::default()).unwrap())
        .start()
        .await
        .unwrap();
    let next = engine.send(job("a", 2, What::Succeed)).await.unwrap();
    within("the neighbour", next.handled()).await.unwrap();
    assert_eq!(*log.lock(), [("a".to_owned(), 2, 1)]);
    let letters = within("the dead letter", async {
        loop {
            let letters = engine.reader().dead_letters(None, 10).await.unwrap();
            if !letters.is_empty() {
                break letters;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(letters[0].reason, whizbang_storage::DeadReason::Undecodable);
    assert!(letters[0].error.contains("jobs.do"), "{}", letters[0].error);
    assert_eq!(letters[0].attempts, 0);
    elsewhere.stop(Duration::from_secs(5)).await;
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_can_be_requeued_and_discarded_and_a_paused_subscription_gets_nothing() {
    let (engine, log, begun) = start(Options::default()).await;
    let doomed = engine.send(job("a", 1, What::Reject)).await.unwrap();
    within("the dead letter", doomed.handled()).await.unwrap();
    let letter = engine.reader().dead_letters(None, 1).await.unwrap().remove(0);
    engine.requeue(letter.key).await.unwrap();
    within("the dead letter again", async {
        while begun.lock().len() < 2 || engine.reader().dead_letters(None, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    engine.discard(letter.key).await.unwrap();
    assert_eq!(engine.requeue(letter.key).await, Err(whizbang::OperationError::Gone));
    assert_eq!(engine.discard(letter.key).await, Err(whizbang::OperationError::Gone));

    assert_eq!(engine.pause("nobody").await, Err(whizbang::OperationError::UnknownSubscription));
    engine.pause("receptors").await.unwrap();
    let waiting = engine.send(job("b", 1, What::Succeed)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(60), waiting.handled()).await;
    assert!(early.is_err() && log.lock().is_empty(), "it is paused");
    engine.resume("receptors").await.unwrap();
    within("the paused one", waiting.handled()).await.unwrap();
    assert_eq!(*log.lock(), [("b".to_owned(), 1, 1)]);
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!(engine.pause("receptors").await, Err(whizbang::OperationError::Closed));
}
