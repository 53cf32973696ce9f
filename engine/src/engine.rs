//! The engine: what a service holds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use whizbang_lockfree::{ConfigError, NoSink, RingsConfig, rings};
use whizbang_storage::{Service, StoreError, WorkStore};

use crate::agenda::later;
use crate::context::Context;
use crate::dispatch::{Dispatcher, HasOneReceptorIn};
use crate::failure::Failure;
use crate::host;
use crate::intake::{Header, PlainSink};
use crate::options::{OptionError, Options};
use crate::projection::{Loader, Projections};
use crate::pump::{Ends, Profile, Pump, Stopped, ToWorker};
use crate::reader::AnyReader;
use crate::receive::{self, Worker};
use crate::replies::Refused;
use crate::send::NotStored;
use crate::settle::{SettleRing, Settlement};
use crate::shared::{Health, Shared, State, StopTimes};
use crate::unit::Unit;

/// Dispatches commands, makes messages durable, and gives them to their receptors, once and in order per stream.
///
/// A handle: clones share one engine. When the last one is dropped without [`stop`](Self::stop), the engine makes durable
/// what it has accepted and ends by itself; nothing that was acknowledged is lost.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use whizbang::{Command, Context, Engine, Failure, MemoryStore, Receptor, Service, dispatcher};
///
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "greet", version = 1, reply = String)]
/// struct Greet {
///     name: String,
/// }
///
/// struct Greeter;
///
/// impl Receptor<Greet> for Greeter {
///     async fn receive(&self, greet: Greet, _: Context<'_>) -> Result<String, Failure> {
///         Ok(format!("hello {}", greet.name))
///     }
/// }
///
/// dispatcher! {
///     struct App { greeter: Greeter }
///     command Greet => greeter;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new(Service::default())?;
/// let engine = Engine::builder(App { greeter: Greeter }).storage(store).start().await?;
///
/// assert_eq!(engine.invoke(Greet { name: "you".into() }).await?, "hello you");
/// let receipt = engine.send(Greet { name: "later".into() }).await?; // durable now
/// receipt.handled().await?; // and handled
/// engine.stop(std::time::Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
pub struct Engine<D> {
    pub(crate) inner: Arc<Inner<D>>,
}

impl<D> Clone for Engine<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D> std::fmt::Debug for Engine<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("health", &self.inner.shared.health()).finish()
    }
}

pub(crate) struct Inner<D> {
    dispatcher: Arc<D>,
    pub(crate) shared: Arc<Shared>,
    loader: Loader,
    units: Mutex<Vec<Unit>>,
    unit_bytes_max: usize,
}

impl<D> Drop for Inner<D> {
    fn drop(&mut self) {
        self.shared.intake.close();
        self.shared.order_stop(StopTimes::at_once(host::now()), None);
    }
}

/// Puts an engine together. Made by [`Engine::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `start` is awaited"]
pub struct Builder<D, S = NoStorage> {
    dispatcher: D,
    storage: S,
    options: Options,
}

/// No storage has been chosen: an engine cannot be started without one.
#[derive(Debug)]
pub struct NoStorage;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option cannot work.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The rings cannot be made as the options say.
    #[error("the rings cannot be made: {0}")]
    Rings(#[from] ConfigError),
    /// `start` was not called within a tokio runtime, on which the handlers could run.
    #[error("an engine runs its handlers on a tokio runtime: call `start` within one")]
    NoRuntime,
    /// The runtime has no timer, which deadlines need.
    #[error("the tokio runtime has no timer: build it with `enable_time` or `enable_all`")]
    NoTimer,
    /// The pump's thread could not be started.
    #[error("the pump's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The store did not let this instance join.
    #[error("the store did not let this instance join: {0}")]
    Storage(#[from] StoreError),
    /// The pump ended before it had joined.
    #[error("the pump ended before it had joined; its panic is on standard error")]
    PumpEnded,
}

impl<D: Dispatcher> Engine<D> {
    /// Begins an engine with these receptors.
    pub fn builder(dispatcher: D) -> Builder<D> {
        Builder { dispatcher, storage: NoStorage, options: Options::default() }
    }
}

impl<D: Dispatcher, S> Builder<D, S> {
    /// Keeps everything durable in this store. The only line that changes when the storage does.
    pub fn storage<T: WorkStore>(self, store: T) -> Builder<D, T> {
        Builder { dispatcher: self.dispatcher, storage: store, options: self.options }
    }

    /// Runs with these options in place of the defaults.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

impl<D: Dispatcher, S: WorkStore> Builder<D, S> {
    /// Starts the engine: joins the service, and begins to handle what is there.
    ///
    /// Handlers run on the tokio runtime that this is called on; the store is only used by the engine's own thread.
    ///
    /// # Errors
    /// [`StartError`] when an option cannot work, there is no runtime, or the store does not let the engine join.
    ///
    /// # Cancel safety
    /// A start that is dropped may have joined the service; it is taken for dead after the time to live.
    pub async fn start(self) -> Result<Engine<D>, StartError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let has_timer = std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
        if !has_timer {
            return Err(StartError::NoTimer);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let Parts { engine, pump, joined, workers, herald } = self.parts(cores)?;
        start_thread(pump)?;
        joined.await.map_err(|_| StartError::PumpEnded)??;
        for worker in workers {
            runtime.spawn(receive::work(worker));
        }
        runtime.spawn(herald.run());
        Ok(engine)
    }

    /// Starts the engine as futures that the caller polls, on a simulated thread. See [`simulation`](crate::simulation).
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub async fn start_in(
        self,
        spawn: crate::simulation::Spawn<'_>,
        gauges: &crate::simulation::Gauges,
    ) -> Result<Engine<D>, StartError> {
        use crate::simulation::Part;
        let Parts { engine, pump, joined, workers, herald } = self.parts(1)?;
        let (watched, notify) = (Arc::clone(&pump.shared), Arc::clone(&pump.ends.herald));
        let pump = async move {
            run_pump(pump).await;
            watched.ended(Stopped { cancelled: 0, all_durable: true });
            notify.notify_one();
        };
        spawn(Part::Pump, Box::pin(pump));
        joined.await.map_err(|_| StartError::PumpEnded)??;
        for mut worker in workers {
            worker.gauges = gauges.clone();
            spawn(Part::Worker(worker.number), Box::pin(receive::work(worker)));
        }
        spawn(Part::Herald, Box::pin(herald.run()));
        Ok(engine)
    }

    /// Everything that an engine consists of; nothing of it runs yet.
    fn parts(self, cores: usize) -> Result<Parts<D, S>, StartError> {
        let Self { dispatcher, storage: mut store, options } = self;
        let Service { limits, partitions, .. } = *store.service();
        let mut options = options.resolve(cores, store.service())?;
        if options.group.is_none() {
            options.workers = 0;
        }

        let bell = host::bell();
        let ring_bytes = options.ring_bytes;
        let Options { seats, stripes, publishers_max, .. } = options;
        let config = RingsConfig { seats, stripes, publishers_max, ring_bytes };
        let (producers, intake) = rings::<Header, PlainSink>(config, &bell)?;
        // Every worker owns its ring; the one stripe that there must be is not used.
        let config = RingsConfig { seats: 0, stripes: 1, publishers_max: options.workers, ring_bytes };
        let (settlers, settled) = rings::<Settlement, NoSink>(config, &bell)?;
        let unit_bytes_max = producers.record_bytes_max().min(settlers.record_bytes_max());

        let loader = Loader::new(store.reader());
        let wants = Arc::new(|flow: u32, type_name: &str| {
            // What is not known is not unwanted: it is parked for an instance that knows it.
            D::resolve(type_name).is_none_or(|kind| D::options(flow as usize, kind).is_some())
        });
        let reader = AnyReader::new(store.reader());
        let shared = Arc::new(Shared::new(producers, bell, reader, limits, partitions, wants));
        let hinted = Arc::downgrade(&shared);
        store.on_hint(Arc::new(move || {
            if let Some(shared) = hinted.upgrade() {
                shared.hint();
            }
        }));

        let dispatcher = Arc::new(dispatcher);
        let mut to_workers = Vec::with_capacity(options.workers);
        let mut workers = Vec::with_capacity(options.workers);
        for number in 0..options.workers {
            let (to_worker, from_pump) = mpsc::unbounded_channel::<ToWorker>();
            to_workers.push(to_worker);
            workers.push(Worker {
                number: number as u32,
                dispatcher: Arc::clone(&dispatcher),
                from_pump,
                ring: SettleRing::new(settlers.publisher().expect("there is a ring for each worker")),
                loader: loader.clone(),
                limits,
                unit_bytes_max,
                handlers_max: options.handlers_max,
                detach_after: options.detach_after,
                #[cfg(feature = "simulation")]
                gauges: crate::simulation::Gauges::default(),
            });
        }
        let notify = Arc::new(Notify::new());
        let herald = Herald {
            notify: Arc::clone(&notify),
            intake: intake.herald(),
            settled: settled.herald(),
            watched: Arc::downgrade(&shared),
        };
        let profile =
            Profile { group: options.group.clone(), subscriptions: D::SUBSCRIPTIONS, types: D::TYPES };
        let ends = Ends { intake, settled, workers: to_workers, herald: notify };
        let (tell, joined) = oneshot::channel();
        let pump = PumpParts { store, shared: Arc::clone(&shared), profile, options, ends, tell };
        let inner = Inner { dispatcher, shared, loader, units: Mutex::new(Vec::new()), unit_bytes_max };
        Ok(Parts { engine: Engine { inner: Arc::new(inner) }, pump, joined, workers, herald })
    }
}

/// An engine that does not run yet.
struct Parts<D, S> {
    engine: Engine<D>,
    pump: PumpParts<S>,
    joined: oneshot::Receiver<Result<(), StoreError>>,
    workers: Vec<Worker<D>>,
    herald: Herald,
}

/// What a pump is made of, on the thread that it runs on.
struct PumpParts<S> {
    store: S,
    shared: Arc<Shared>,
    profile: Profile,
    options: Options,
    ends: Ends,
    /// Is told whether it has joined.
    tell: oneshot::Sender<Result<(), StoreError>>,
}

/// Starts the pump's thread.
fn start_thread<S: WorkStore>(parts: PumpParts<S>) -> Result<(), std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (watched, herald) = (Arc::clone(&parts.shared), Arc::clone(&parts.ends.herald));
    let body = move || {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(run_pump(parts));
        }));
        if ended.is_err() {
            watched.with_health(|health| health.state = State::Failed);
        }
        watched.ended(Stopped { cancelled: 0, all_durable: ended.is_ok() });
        herald.notify_one();
        if ended.is_err() {
            tracing::error!(
                "the pump panicked; the engine has ended, and nothing that was acknowledged is lost"
            );
        }
    };
    std::thread::Builder::new().name("whizbang-pump".to_owned()).spawn(body)?;
    Ok(())
}

/// Joins the service and turns until the engine is stopped.
async fn run_pump<S: WorkStore>(parts: PumpParts<S>) {
    let PumpParts { store, shared, profile, options, ends, tell } = parts;
    let mut pump = Pump::new(store, shared, profile, options, ends);
    let result = pump.join().await;
    let is_joined = result.is_ok();
    let is_awaited = tell.send(result).is_ok();
    if is_joined && is_awaited {
        pump.run().await;
    }
}

/// Woken by the pump when the next exchange is under way; walks the waiters in its stead.
struct Herald {
    notify: Arc<Notify>,
    intake: whizbang_lockfree::Herald,
    settled: whizbang_lockfree::Herald,
    watched: Weak<Shared>,
}

impl Herald {
    async fn run(self) {
        loop {
            self.notify.notified().await;
            self.intake.wake();
            self.settled.wake();
            let state = self.watched.upgrade().map(|shared| shared.with_health(|health| health.state));
            if state.is_none_or(|state| matches!(state, State::Stopped | State::Failed)) {
                break;
            }
        }
    }
}

/// When an [`Engine::invoke_with`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When everything the receptor published is durable. What [`Engine::invoke`] does.
    Durable,
    /// When everything the receptor published has been accepted by the engine: a crash may lose it, all of it together.
    Accepted,
}

/// Why a command that was invoked has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// Its receptor failed; nothing of what it published exists.
    #[error("the receptor failed: {0}")]
    Failed(Failure),
    /// What the receptor published was not stored; nothing of it exists.
    #[error("what the receptor published was not stored: {0}")]
    Refused(Refused),
    /// The engine has stopped; nothing of what the receptor published exists.
    #[error("the engine has stopped")]
    Closed,
    /// The engine ended before it could say whether what the receptor published was stored.
    #[error("the engine ended before it could say whether what the receptor published was stored")]
    Unanswered,
}

impl<D: Dispatcher> Engine<D> {
    /// Calls the command's receptor at once, in this task, and returns its reply when everything it published is durable;
    /// immediately, when it published nothing.
    ///
    /// What it published is one unit: all of it is stored, or none. There is no order between this call and stored
    /// messages of the same stream; a receptor that depends on a stream's state says so with
    /// [`Context::expect_version`], or loads and saves a projection, and a conflict comes back here.
    ///
    /// # Errors
    /// [`InvokeError`]: the receptor's own failure, or what kept its messages from being stored.
    ///
    /// # Cancel safety
    /// Dropped before the receptor has returned, nothing has happened. Dropped later, what it published may be stored.
    pub async fn invoke<C: HasOneReceptorIn<D>>(&self, command: C) -> Result<C::Reply, InvokeError> {
        self.invoke_with(command, Durability::Durable).await
    }

    /// As [`invoke`](Self::invoke), with a choice of what to wait for.
    ///
    /// # Errors
    /// As [`invoke`](Self::invoke).
    ///
    /// # Cancel safety
    /// As [`invoke`](Self::invoke).
    pub async fn invoke_with<C: HasOneReceptorIn<D>>(
        &self,
        command: C,
        durability: Durability,
    ) -> Result<C::Reply, InvokeError> {
        let mut unit = self.unit();
        let context = Context::collecting(&mut unit);
        let result = command.receive_in(&self.inner.dispatcher, context).await;
        let reply = match result {
            Ok(reply) => reply,
            Err(failure) => {
                self.keep(unit);
                return Err(InvokeError::Failed(failure));
            }
        };
        if unit.is_empty() {
            self.keep(unit);
            return Ok(reply);
        }
        let entered = self.enter_unit(&unit).await;
        self.keep(unit);
        let answer = entered.map_err(|_| InvokeError::Closed)?;
        if durability == Durability::Durable {
            match answer.await {
                Ok(Ok(_)) => {}
                Ok(Err(why)) => return Err(InvokeError::Refused(why)),
                Err(_) => return Err(InvokeError::Unanswered),
            }
        }
        Ok(reply)
    }

    /// The receptors themselves, for calls without any engine.
    pub fn dispatcher(&self) -> &D {
        &self.inner.dispatcher
    }

    /// What the store has: histories, projections, dead letters, counts. On connections of its own.
    pub fn reader(&self) -> &AnyReader {
        &self.inner.shared.reader
    }

    /// How the engine is.
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// Makes the engine look at the store at once, instead of at its next heartbeat: after a message was enqueued in a
    /// transaction of your own, for instance. Never needed, only faster.
    pub fn hint(&self) {
        self.inner.shared.hint();
    }

    /// Stops the engine: no message is accepted any more, what was accepted becomes durable, running handlers may finish
    /// until the deadline, and the group takes over at once.
    ///
    /// The first call's deadline counts. Later calls, and calls on other handles, wait for the same end and are told the same.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the stop back.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        self.inner.shared.intake.close();
        let (done, stopped) = oneshot::channel();
        let deadline = later(host::now(), deadline);
        self.inner.shared.order_stop(StopTimes { deadline, give_up_at: deadline }, Some(done));
        stopped.await.unwrap_or(Stopped { cancelled: 0, all_durable: false })
    }

    /// A unit from the pool, empty.
    pub(crate) fn unit(&self) -> Unit {
        let Inner { units, shared, loader, unit_bytes_max, .. } = &*self.inner;
        let pooled = units.lock().pop();
        let mut unit = pooled.unwrap_or_else(|| {
            let mut unit = Unit::new(shared.limits, *unit_bytes_max);
            unit.set_projections(&Projections::new(loader.clone(), 0));
            unit
        });
        unit.begin_alone(None, None);
        unit
    }

    /// Gives a unit back to the pool.
    pub(crate) fn keep(&self, mut unit: Unit) {
        const KEPT_MAX: usize = 64;
        unit.forget_projections();
        unit.shrink_to(16 << 10);
        let mut units = self.inner.units.lock();
        if units.len() < KEPT_MAX {
            units.push(unit);
        }
    }
}

impl From<NotStored> for InvokeError {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Refused(why) => Self::Refused(why),
            NotStored::Unanswered => Self::Unanswered,
        }
    }
}
