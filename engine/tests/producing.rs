//! The ways in: keys, groups, delays, refusals, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, EmitOptions, Engine, Event, Failure, Handled, Headers, InvokeError, Limits,
    MemoryStore, Options, PlainReceptor, Receptor, Refused, SendError, Service, State, StoreReader, StreamId,
    Version, dispatcher,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "notes.taken", version = 1)]
struct Noted {
    #[stream]
    stream: String,
    text: String,
}

fn noted(text: impl Into<String>) -> Noted {
    Noted { stream: "s".into(), text: text.into() }
}

/// Owns nothing, so it is moved into the ring as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "notes.counted", version = 1)]
struct Counted {
    #[stream]
    stream: u64,
    #[serde(serialize_with = "odd_only")]
    number: u64,
}

/// A message whose own `Serialize` fails for some values, and panics for one.
fn odd_only<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    assert_ne!(*number, 666, "the number of the beast");
    match number % 2 {
        1 => serializer.serialize_u64(*number),
        _ => Err(serde::ser::Error::custom("even numbers have no form")),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "notes.write", version = 1, reply = usize)]
struct Write {
    texts: Vec<String>,
    expect: Option<u64>,
}

struct Notes {
    seen: Arc<Mutex<Vec<String>>>,
}

impl PlainReceptor<Noted> for Notes {
    fn receive_now(&self, event: Noted, cx: Context<'_>) -> Result<(), Failure> {
        let mut text = event.text;
        if let Some(colour) = cx.headers().value_of("colour") {
            text = format!("{text} in {colour}");
        }
        if let Some(trace) = cx.traceparent() {
            text = format!("{text} of {trace}");
        }
        self.seen.lock().push(text);
        Ok(())
    }
}

impl PlainReceptor<Counted> for Notes {
    fn receive_now(&self, event: Counted, _: Context<'_>) -> Result<(), Failure> {
        self.seen.lock().push(event.number.to_string());
        Ok(())
    }
}

impl Receptor<Write> for Notes {
    async fn receive(&self, command: Write, mut cx: Context<'_>) -> Result<usize, Failure> {
        if let Some(version) = command.expect {
            cx.expect_version(StreamId::from_key("s"), Version(version))?;
        }
        for text in &command.texts {
            cx.publish(&noted(text.as_str()))?;
        }
        if command.texts.iter().any(|text| text == "fail") {
            return Err(Failure::msg("as asked"));
        }
        Ok(command.texts.len())
    }
}

dispatcher! {
    struct App { notes: Notes }
    command Write => notes;
    event Noted => notes;
    event Counted => notes;
}

async fn start_with(service: Service, options: Options) -> (Engine<App>, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = App { notes: Notes { seen: Arc::clone(&seen) } };
    let store = MemoryStore::new(service).unwrap();
    (Engine::builder(app).storage(store).options(options).start().await.unwrap(), seen)
}

async fn start() -> (Engine<App>, Arc<Mutex<Vec<String>>>) {
    start_with(Service::default(), Options::default()).await
}

#[tokio::test]
async fn a_key_that_was_seen_before_makes_a_duplicate_that_nobody_handles() {
    let (engine, seen) = start().await;
    let first = engine.publish_once("k1", noted("one")).await.unwrap();
    let again = engine.publish_once("k1", noted("one")).await.unwrap();
    let other = engine.publish_once("k1", noted("two")).await.unwrap();
    assert_eq!((first.duplicate_of(), first.version()), (None, Some(Version(1))));
    assert_eq!((again.duplicate_of(), again.is_conflicting_duplicate()), (Some(first.id()), false));
    assert_eq!((other.duplicate_of(), other.is_conflicting_duplicate()), (Some(first.id()), true));
    assert_eq!(again.handled().await.unwrap(), Handled::Done);
    assert_eq!(*seen.lock(), ["one"]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_group_is_stored_whole_and_in_the_order_of_its_producer() {
    let (engine, seen) = start().await;
    let mut publisher = engine.publisher().unwrap();
    // Single messages and messages with options, mixed, not awaited one by one: order holds all the same.
    let mut accepted = Vec::new();
    for round in 0..50 {
        publisher.publish(noted(format!("{round} a"))).await.unwrap();
        let key = format!("k{round}");
        let options = EmitOptions { once: Some(key.as_bytes()), ..EmitOptions::default() };
        accepted.push(publisher.publish_with(noted(format!("{round} b")), options).await.unwrap());
        publisher.publish(noted(format!("{round} c"))).await.unwrap();
    }
    for receipt in accepted {
        receipt.await.unwrap();
    }
    let group = engine.publish_all((0..3).map(|n| noted(format!("group {n}")))).await.unwrap();
    assert_eq!(group.iter().map(|receipt| receipt.version().unwrap().0).collect::<Vec<_>>(), [151, 152, 153]);
    group[2].handled().await.unwrap();
    let mut expected: Vec<String> =
        (0..50).flat_map(|round| ["a", "b", "c"].map(|letter| format!("{round} {letter}"))).collect();
    expected.extend((0..3).map(|n| format!("group {n}")));
    assert_eq!(*seen.lock(), expected);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_delayed_message_does_not_hold_up_its_stream_and_headers_travel_along() {
    let (engine, seen) = start().await;
    let began = Instant::now();
    let late = engine.publish_in(Duration::from_millis(150), noted("late")).await.unwrap();
    let mut headers = Headers::default();
    headers.set("colour", "red").unwrap();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traceparent = Some(trace.parse().unwrap());
    let options = EmitOptions { headers: Some(&headers), traceparent, ..EmitOptions::default() };
    let soon = engine.publish_with(noted("soon"), options).await.unwrap();
    soon.handled().await.unwrap();
    assert_eq!(*seen.lock(), [format!("soon in red of {trace}")]);
    late.handled().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(*seen.lock(), [format!("soon in red of {trace}"), "late".to_owned()]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_kept_is_refused_with_its_bounds() {
    let (engine, _) = start().await;
    let error = engine.publish_once("", noted("one")).await.unwrap_err();
    assert_eq!(error.to_string(), "the message was refused: the key has 0 bytes, 1 to 512 are allowed");
}

#[tokio::test]
async fn a_message_that_cannot_be_encoded_is_refused_alone() {
    let (engine, seen) = start().await;
    let counted = |number| Counted { stream: 1, number };
    let tickets: Vec<_> = [1, 2, 666, 3].map(|number| engine.try_publish(counted(number)).unwrap()).into();
    let mut results = Vec::new();
    for ticket in tickets {
        results.push(engine.stored(ticket).await.map(|_| ()).map_err(|error| error.to_string()));
    }
    assert_eq!(results[0], Ok(()));
    let even = results[1].as_ref().unwrap_err();
    assert!(even.contains("even numbers have no form"), "{even}");
    let beast = results[2].as_ref().unwrap_err();
    assert!(beast.contains("it panicked") && beast.contains("number of the beast"), "{beast}");
    assert_eq!(results[3], Ok(()));
    let Err(SendError::Refused(Refused::Encoding(_))) = engine.publish(counted(4)).await else {
        panic!("refused")
    };
    engine.publish(counted(5)).await.unwrap().handled().await.unwrap();
    assert_eq!(*seen.lock(), ["1", "3", "5"]);
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_is_too_large_comes_back() {
    let limits = Limits { payload_bytes_max: 1_000, ..Limits::default() };
    let (engine, _) = start_with(Service { limits, ..Service::default() }, Options::default()).await;
    let large = noted("x".repeat(1_000));
    let Err(SendError::TooLarge { message, bytes_max }) = engine.publish(large.clone()).await else {
        panic!("too large")
    };
    assert_eq!((message, bytes_max), (large.clone(), 1_000));
    let Err(SendError::TooLarge { message, .. }) = engine.publish_once("k", large.clone()).await else {
        panic!("too large")
    };
    assert_eq!(message, large);
    let Err(SendError::TooLarge { message, .. }) = engine.publish_all([noted("small"), large.clone()]).await
    else {
        panic!("too large")
    };
    assert_eq!(message.len(), 2);
    assert_eq!(engine.reader().statistics().await.unwrap().events, 0, "nothing of the group is there");
    engine.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_invoked_command_publishes_is_one_unit() {
    let (engine, seen) = start().await;
    let write =
        |texts: &[&str], expect| Write { texts: texts.iter().map(|t| t.to_string()).collect(), expect };
    assert_eq!(engine.invoke(write(&[], None)).await.unwrap(), 0);
    assert_eq!(engine.health().messages_stored, 0, "nothing was published, so nothing was stored");
    assert_eq!(engine.invoke(write(&["a", "b"], Some(0))).await.unwrap(), 2);
    let Err(InvokeError::Failed(failure)) = engine.invoke(write(&["c", "fail"], None)).await else {
        panic!("failed")
    };
    assert_eq!(failure.to_string(), "as asked");
    let Err(InvokeError::Refused(refused)) = engine.invoke(write(&["d"], Some(0))).await else {
        panic!("conflict")
    };
    assert!(
        matches!(refused, Refused::StreamConflict { expected: Version(0), actual: Version(2), .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("was expected at version 0, and is at version 2"), "{refused}");
    let last = engine.publish(noted("e")).await.unwrap();
    last.handled().await.unwrap();
    assert_eq!(*seen.lock(), ["a", "b", "e"]);
    let accepted = engine.invoke_with(write(&["f"], None), whizbang::Durability::Accepted).await.unwrap();
    assert_eq!(accepted, 1);
    engine.stop(Duration::from_secs(5)).await;
    assert!(seen.lock().contains(&"f".to_owned()) || seen.lock().len() == 3, "accepted, so at least durable");
}

#[tokio::test]
async fn a_stopped_engine_gives_messages_back_and_a_second_stop_returns() {
    let (engine, _) = start().await;
    engine.publish(noted("kept")).await.unwrap();
    let stopped = engine.stop(Duration::from_secs(5)).await;
    assert_eq!((stopped.cancelled, stopped.all_durable), (0, true));
    assert_eq!(engine.health().state, State::Stopped);
    let Err(SendError::Closed(message)) = engine.publish(noted("late")).await else { panic!("closed") };
    assert_eq!(message, noted("late"));
    let Err(SendError::Closed(_)) = engine.try_publish(noted("late")) else { panic!("closed") };
    let Err(InvokeError::Closed) = engine.invoke(Write { texts: vec!["x".into()], expect: None }).await
    else {
        panic!("closed")
    };
    assert_eq!(engine.stop(Duration::from_secs(5)).await.cancelled, 0);
    assert_eq!(engine.reader().statistics().await.unwrap().events, 1);
}

#[tokio::test]
async fn options_and_messages_that_cannot_work_are_named() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = App { notes: Notes { seen } };
    let options = Options { ring_bytes: 1_000, ..Options::default() };
    let store = MemoryStore::new(Service::default()).unwrap();
    let error = Engine::builder(app).storage(store).options(options).start().await.unwrap_err();
    assert!(error.to_string().contains("ring_bytes"), "{error}");

    let (engine, _) = start().await;
    let error = engine.publish_once("", noted("empty key")).await.unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
    engine.stop(Duration::from_secs(5)).await;
}
