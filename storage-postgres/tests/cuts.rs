//! Connections end anywhere, in either direction, and whoever repeats what was not answered gets the answer, once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Proxy};
use whizbang_storage::{Answer, NotApplied, Service, StoreError, TestClock, WorkBatch, WorkStore};
use whizbang_storage_conformance::differential::{self, Plan};
use whizbang_storage_conformance::{Between, Fixture, Memory, Message, OpenError, World, Wrapped, stored};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

/// A batch is cut after every byte of the exchange on its way there.
#[tokio::test]
async fn an_exchange_that_is_cut_at_any_byte_happened_once_after_it_was_repeated() {
    cut_at_every_byte(Direction::ToServer).await;
}

/// The answer is cut after every byte on its way back.
#[tokio::test]
async fn an_exchange_whose_answer_is_cut_at_any_byte_happened_once_after_it_was_repeated() {
    cut_at_every_byte(Direction::ToClient).await;
}

async fn cut_at_every_byte(direction: Direction) {
    let mut world = World::<Cut>::new(4).await;
    let mut member = world.joined().await;
    let stream = world.stream_in(0, 1);
    let (mut number, mut expected) = (0, 0);
    for after in 0.. {
        number += 2;
        let event = Message::event(number, stream).once(&number.to_be_bytes());
        let messages = [event, Message::command(number + 1).of(stream)];
        let appends: Vec<_> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, ..member.batch() };
        let proxy = Arc::clone(&world.fixture.proxy);
        let before = proxy.faults();
        member.store.between.next = Some(Fault::CutAfterBytes(direction, after));
        let answers = member.ok(batch).await.appends.clone();
        assert_eq!(stored(&answers), [expected + 1, expected + 2], "{direction:?} after {after} bytes");
        expected += 2;
        if proxy.faults() == before {
            // It was over before so many bytes had passed.
            println!("{direction:?}: cut after each of {after} bytes");
            assert!(after > 100, "an exchange is larger than that");
            break;
        }
    }
    let history = member.history(stream, 0, 1 << 20).await;
    assert_eq!(history.len() as u64, expected / 2);
    let read = member.read(0, 0).await;
    assert_eq!(read.len() as u64, expected);
}

/// Whatever is done through connections that keep ending, the answers are those of a store that has no connections.
#[test]
fn what_goes_through_cuts_is_what_memory_does() {
    let plan = Plan::from_environment();
    let fewer = Plan { sequences: plan.sequences.div_ceil(32), ..plan };
    println!("{:?}", differential::run::<Memory, Cut>(fewer));
    println!("{} connections were cut", count(&CUTS, 0));
}

/// How often a connection was cut, in all tests of this process.
static CUTS: Mutex<u64> = Mutex::new(0);

/// Adds to a count, and gives back what it was before.
fn count(of: &Mutex<u64>, more: u64) -> u64 {
    let mut of = of.lock().unwrap_or_else(PoisonError::into_inner);
    let before = *of;
    *of += more;
    before
}

/// A schema of its own behind a proxy of its own.
struct Cut {
    proxy: Arc<Proxy>,
    schema: String,
    clock: TestClock,
}

impl Fixture for Cut {
    type Store = Wrapped<PostgresStore, Persistent>;

    async fn fresh(clock: TestClock) -> Self {
        static SCHEMAS: Mutex<u64> = Mutex::new(0);
        let schema = format!("cuts_{}", count(&SCHEMAS, 1));
        let proxy = Arc::new(Proxy::in_front_of(Cluster::shared()).expect("a proxy"));
        let fixture = Self { proxy, schema, clock };
        fixture.options(Service::named("any")).migrate().await.expect("a schema");
        fixture
    }

    async fn open(&self, service: Service) -> Result<Self::Store, OpenError> {
        let store = self.options(service).open().await?;
        let rng = Rng::with_seed(self.proxy.traffic().connections);
        let between = Persistent { proxy: Arc::clone(&self.proxy), rng, next: None };
        Ok(Wrapped { store, between })
    }

    async fn crash(&mut self, stores: Vec<Self::Store>) {
        drop(stores);
    }
}

impl Cut {
    fn options(&self, service: Service) -> PostgresOptions {
        let options = PostgresOptions::from_url(&self.proxy.url()).expect("its URL is right");
        PostgresOptions {
            service,
            schema: self.schema.clone(),
            clock: Some(Arc::new(self.clock.clone())),
            ..options
        }
    }
}

/// A connection that keeps ending, and somebody who repeats what was not answered, as the engine does.
struct Persistent {
    proxy: Arc<Proxy>,
    rng: Rng,
    /// What goes wrong with the next call; otherwise that is drawn.
    next: Option<Fault>,
}

impl Persistent {
    fn draw(&mut self) -> Option<Fault> {
        let bytes = self.rng.u64(0..4_000);
        match self.rng.u32(0..12) {
            0..3 => Some(Fault::CutAfterBytes(Direction::ToServer, bytes)),
            3..5 => Some(Fault::CutAfterBytes(Direction::ToClient, bytes)),
            5 => Some(Fault::SwallowAnswer),
            _ => None,
        }
    }
}

impl Between<PostgresStore> for Persistent {
    async fn process(
        &mut self,
        store: &mut PostgresStore,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let before = self.proxy.faults();
        let mut fault = self.next.take().or_else(|| self.draw());
        let outcome = loop {
            match fault.take() {
                Some(fault) => self.proxy.arm(fault),
                None => self.proxy.disarm(),
            }
            let outcome = store.process_work_batch(batch, answer).await;
            match &outcome {
                // A connection that has ended is no answer; everything else is one.
                Err(StoreError::Unknown(_)) => {}
                Err(StoreError::NotApplied(NotApplied::Failed(_) | NotApplied::Busy(_)))
                    if self.proxy.faults() > before => {}
                _ => break outcome,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        // The reading side is not what this is about.
        self.proxy.disarm();
        count(&CUTS, self.proxy.faults() - before);
        outcome
    }
}
