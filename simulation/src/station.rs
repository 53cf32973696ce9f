//! The store as one process reaches it: over a network that is slow, loses answers and repeats itself.
//!
//! From the engine inwards: latency, [`Faulty`], the [`Watch`], a planted defect of the store, the store itself.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use whizbang_storage::{
    Abilities, Answer, DeadLetter, Hint, MemoryReader, MemoryStore, MessageId, Page, ParkedKey,
    ProjectionState, ReadError, Service, Statistics, StoreError, StoreReader, StreamId, Version, Whereabouts,
    WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{Between, Faults, Faulty, Wrapped};

use crate::clock::RunClock;
use crate::planted::Wrong;
use crate::scheduler::give_way;
use crate::shape::Shape;
use crate::watch::Watch;

/// A store handle of one process.
pub(crate) struct Station {
    inner: Faulty<Wrapped<Wrapped<MemoryStore, Wrong>, Watched>>,
    network: Network,
    hints: bool,
}

/// Time that passes on the way to the store and back, and reads that fail.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<Weather>>);

struct Weather {
    random: fastrand::Rng,
    latency_max: Duration,
    reads_fail: u32,
}

impl Network {
    fn new(seed: u64, shape: &Shape) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(Weather {
            random,
            latency_max: shape.latency_max,
            reads_fail: shape.reads_fail,
        })))
    }

    /// Nothing fails any more.
    pub(crate) fn calm(&self) {
        self.0.lock().reads_fail = 0;
    }

    async fn pass(&self) {
        let wait = {
            let weather = &mut *self.0.lock();
            match weather.latency_max {
                Duration::ZERO => Duration::ZERO,
                max => max.mul_f64(weather.random.f64()),
            }
        };
        if wait.is_zero() {
            // Others may have their turn in between, and whoever calls in a circle is noticed.
            give_way().await;
        } else {
            sleep(wait).await;
        }
    }

    fn read(&self) -> Result<(), ReadError> {
        let weather = &mut *self.0.lock();
        if weather.random.u32(0..1_000) < weather.reads_fail {
            return Err(ReadError("injected fault: the reading side is away".into()));
        }
        Ok(())
    }
}

impl Station {
    /// A handle for this process; `seed` decides what happens to its calls.
    pub(crate) fn new(
        store: MemoryStore,
        process: usize,
        seed: u64,
        shape: &Shape,
        watch: Watch,
        clock: RunClock,
    ) -> (Self, Faults, Network) {
        let network = Network::new(seed ^ 1, shape);
        // Every other process is ahead of its neighbours, by less than what is a silence of all.
        let ahead = (process % 2) as i64 * shape.service.time_to_live.as_micros() as i64 * 9 / 20;
        let store = Wrapped { store, between: Wrong::new(clock.clone(), seed, shape.planted) };
        let between = Watched { process, watch, clock, ahead };
        let inner = Faulty::seeded(Wrapped { store, between }, seed, shape.odds);
        let faults = inner.faults();
        (Self { inner, network: network.clone(), hints: shape.hints }, faults, network)
    }
}

impl WorkStore for Station {
    type Reader = FarReader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.network.pass().await;
        let done = self.inner.process_work_batch(batch, answer).await;
        self.network.pass().await;
        done
    }

    fn reader(&self) -> FarReader {
        FarReader { inner: self.inner.reader(), network: self.network.clone() }
    }

    fn service(&self) -> &Service {
        self.inner.service()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        if self.hints {
            self.inner.on_hint(hint);
        }
    }
}

/// Somebody who looks at every answer.
pub(crate) struct Watched {
    process: usize,
    watch: Watch,
    clock: RunClock,
    /// Microseconds by which the process's own clock is ahead.
    ahead: i64,
}

impl<S: WorkStore> Between<S> for Watched {
    async fn process(
        &mut self,
        store: &mut S,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.clock.called_by(self.ahead);
        let done = store.process_work_batch(batch, answer).await;
        self.watch.answered(self.process, batch, answer, &done);
        done
    }
}

/// The reading side at the other end of the network.
#[derive(Clone)]
pub(crate) struct FarReader {
    inner: MemoryReader,
    network: Network,
}

impl FarReader {
    async fn reach(&self) -> Result<(), ReadError> {
        self.network.pass().await;
        self.network.read()
    }
}

impl StoreReader for FarReader {
    async fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> Result<(), ReadError> {
        self.reach().await?;
        self.inner.history(stream, after, messages_max, page).await
    }

    async fn projection(&self, perspective: &str, key: &[u8]) -> Result<Option<ProjectionState>, ReadError> {
        self.reach().await?;
        self.inner.projection(perspective, key).await
    }

    async fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, ReadError> {
        self.reach().await?;
        self.inner.projections(perspective, after, count_max).await
    }

    async fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> Result<Whereabouts, ReadError> {
        self.reach().await?;
        self.inner.whereabouts(message, stream).await
    }

    async fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.reach().await?;
        self.inner.dead_letters(after, count_max).await
    }

    async fn statistics(&self) -> Result<Statistics, ReadError> {
        self.reach().await?;
        self.inner.statistics().await
    }
}
