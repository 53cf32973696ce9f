//! What happens in a run: engines start, producers send, mishaps strike; then it is calm, and everything must come to rest.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use whizbang::simulation::{Gauges, Holding, Part};
use whizbang::{Engine, InvokeError, Receipt, SendError, Stopped};
use whizbang_storage::{MemoryDatabase, MemoryReader, Statistics, StoreReader, WorkStore};
use whizbang_storage_conformance::Faults;

use crate::app::{App, Direct, Hand, Loose, Work};
use crate::journal::{Fate, Journal};
use crate::scheduler::{ProcessId, Scheduler};
use crate::shape::{Deed, Shape, What};
use crate::station::{Network, Station};
use crate::verdict::number_of;
use crate::watch::Watch;

/// Everything that the parts of a run share.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) scheduler: Scheduler,
    pub(crate) shape: Arc<Shape>,
    pub(crate) journal: Journal,
    pub(crate) watch: Watch,
    pub(crate) database: MemoryDatabase,
    pub(crate) seed: u64,
    processes: Rc<RefCell<Vec<Process>>>,
}

/// One service process.
struct Process {
    id: ProcessId,
    state: Life,
    role: Role,
    engine: Option<Engine<App>>,
    gauges: Gauges,
    faults: Vec<Faults>,
    networks: Vec<Network>,
    stopped: Option<Stopped>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Of the group that handles everything.
    Member,
    /// It only publishes.
    Outsider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    Leaves,
    Gone,
}

/// How long everything may take to come to rest once nothing goes wrong any more.
const REST_WITHIN: Duration = Duration::from_secs(60);

impl Run {
    pub(crate) fn new(
        scheduler: Scheduler,
        shape: Arc<Shape>,
        journal: Journal,
        watch: Watch,
        database: MemoryDatabase,
        seed: u64,
    ) -> Self {
        Self { scheduler, shape, journal, watch, database, seed, processes: Rc::default() }
    }

    /// The whole run; what was noticed stands in the journal.
    pub(crate) async fn script(self) {
        for _ in 0..self.shape.engines {
            self.start(Role::Member);
        }
        if self.shape.has_outsider {
            self.start(Role::Outsider);
        }
        for number in 0..self.shape.producers.len() {
            self.clone().assign(number);
        }
        let began = Instant::now();
        for mishap in &self.shape.mishaps {
            tokio::time::sleep_until(began + Duration::from_millis(mishap.at)).await;
            self.strike(mishap.what);
        }
        sleep(Duration::from_millis(20)).await;
        self.calm();
        // What is on its way now still takes its time.
        sleep(self.shape.odds.delay_max + 2 * self.shape.latency_max).await;
        self.rest().await;
        if self.journal.has_violations() {
            return;
        }
        self.look_at_shares();
        self.stay_quiet().await;
        self.leave_all().await;
    }

    /// Starts an engine in a process of its own.
    fn start(&self, role: Role) {
        let id = self.scheduler.process();
        let place = self.processes.borrow().len();
        self.processes.borrow_mut().push(Process {
            id,
            state: Life::Runs,
            role,
            engine: None,
            gauges: Gauges::default(),
            faults: Vec::new(),
            networks: Vec::new(),
            stopped: None,
        });
        self.journal.line(|| format!("process {place}: starts"));
        let run = self.clone();
        self.scheduler.spawn(id, "start", async move {
            while !run.try_start(place).await {
                sleep(Duration::from_millis(30)).await;
            }
        });
    }

    /// Joins once; an engine that could not join is started anew, as by a supervisor.
    async fn try_start(&self, place: usize) -> bool {
        let store = match self.database.open(self.shape.service.clone()) {
            Ok(store) => store,
            Err(error) => {
                self.journal.violation(format!("the store cannot be opened: {error}"));
                return true;
            }
        };
        let (id, gauges, role, seed) = {
            let processes = self.processes.borrow();
            let process = &processes[place];
            let seed = self.seed ^ ((place as u64 + 1) << 32) ^ ((process.faults.len() as u64) << 48);
            (process.id, process.gauges.clone(), process.role, seed)
        };
        let (station, faults, network) = Station::new(store, place, seed, &self.shape, self.watch.clone());
        {
            let mut processes = self.processes.borrow_mut();
            let process = &mut processes[place];
            if self.is_calm() {
                faults.stop();
                network.calm();
            }
            process.faults.push(faults);
            process.networks.push(network);
        }
        let hand = Hand {
            process: place,
            shape: Arc::clone(&self.shape),
            journal: self.journal.clone(),
            watch: self.watch.clone(),
        };
        let mut options = self.shape.options.clone();
        if role == Role::Outsider {
            options.group = None;
        }
        let builder = Engine::builder(App::of(hand)).storage(station).options(options);
        let scheduler = self.scheduler.clone();
        let mut spawn = move |part, future| {
            let name = match part {
                Part::Pump => "pump",
                Part::Worker(_) => "worker",
                Part::Herald => "herald",
            };
            scheduler.spawn_boxed(id, name, future);
        };
        match builder.start_in(&mut spawn, &gauges).await {
            Ok(engine) => {
                self.journal.line(|| format!("process {place}: runs"));
                self.processes.borrow_mut()[place].engine = Some(engine);
                true
            }
            Err(error) => {
                self.journal.line(|| format!("process {place}: did not start: {error}"));
                false
            }
        }
    }

    fn is_calm(&self) -> bool {
        self.journal.with(|notes| notes.is_calm)
    }

    /// Lets a producer run in the process of some engine, as soon as that is there.
    fn assign(self, producer: usize) {
        let place = producer % (self.shape.engines + usize::from(self.shape.has_outsider));
        let id = self.processes.borrow()[place].id;
        self.journal.with(|notes| notes.producing += 1);
        let scheduler = self.scheduler.clone();
        let done = Producing(self.journal.clone());
        scheduler.spawn(id, "producer", async move {
            let _done = done;
            let engine = loop {
                let engine = self.processes.borrow()[place].engine.clone();
                let is_leaving = self.processes.borrow()[place].state != Life::Runs;
                match engine {
                    Some(engine) => break engine,
                    None if is_leaving => return,
                    None => sleep(Duration::from_millis(3)).await,
                }
            };
            let shape = Arc::clone(&self.shape);
            for deed in &shape.producers[producer] {
                if self.deed(&engine, deed).await.is_none() {
                    break;
                }
            }
        });
    }

    /// Does one thing; none: the engine takes nothing any more.
    async fn deed(&self, engine: &Engine<App>, deed: &Deed) -> Option<()> {
        match deed {
            Deed::Wait(millis) => sleep(Duration::from_millis(*millis)).await,
            Deed::Send(number) => {
                self.sent(*number);
                match self.work(*number) {
                    Ok(work) => self.told(*number, engine.send(work).await)?,
                    Err(loose) => self.told(*number, engine.send(loose).await)?,
                }
            }
            Deed::Invoke(number) => {
                self.sent(*number);
                let stream = crate::app::stream_of(*number, &self.shape.offers[*number]);
                let fate = match engine.invoke(Direct { stream, number: *number }).await {
                    Ok(()) => Fate::Stored,
                    Err(InvokeError::Unanswered) => Fate::Unknown,
                    Err(_) => Fate::Refused,
                };
                self.journal.fate(*number, fate);
            }
            Deed::SendOnce(number) => {
                self.sent(*number);
                let key = format!("key {:?}", self.shape.offers[*number].once);
                self.told(*number, engine.send_once(key, self.stream_work(*number)).await)?;
            }
            Deed::SendIn(number, millis) => {
                self.sent(*number);
                let after = Duration::from_millis(*millis);
                self.journal.with(|notes| notes.due.insert(*number, Instant::now() + after));
                self.told(*number, engine.send_in(after, self.stream_work(*number)).await)?;
            }
            Deed::SendAll(numbers) => {
                numbers.iter().for_each(|number| self.sent(*number));
                let sent = engine.send_all(numbers.iter().map(|number| self.stream_work(*number))).await;
                let fate = fate_of(&sent);
                numbers.iter().for_each(|number| self.journal.fate(*number, fate));
                (fate == Fate::Stored).then_some(())?;
            }
            Deed::Publisher(numbers) => {
                let Ok(mut publisher) = engine.publisher() else {
                    return Some(());
                };
                let mut tickets = Vec::new();
                for &number in numbers {
                    self.sent(number);
                    match publisher.send(self.stream_work(number)).await {
                        Ok(ticket) => {
                            self.accepted(engine, number);
                            tickets.push((number, ticket));
                        }
                        Err(error) => {
                            self.told::<Work>(number, Err(error));
                            break;
                        }
                    }
                }
                let mut is_open = tickets.len() == numbers.len();
                for (number, ticket) in tickets {
                    let stored = engine.stored(ticket).await.map_err(SendError::<Work>::from);
                    is_open &= self.told(number, stored).is_some();
                }
                is_open.then_some(())?;
            }
            Deed::Fire(numbers) => {
                for &number in numbers {
                    self.sent(number);
                    match engine.try_send(self.stream_work(number)) {
                        Ok(_) => self.accepted(engine, number),
                        Err(_) => self.journal.fate(number, Fate::Refused),
                    }
                }
            }
        }
        Some(())
    }

    /// An engine that says at its end that all is durable has stored this.
    fn accepted(&self, engine: &Engine<App>, number: usize) {
        self.journal.with(|notes| notes.accepted.push((engine_id(engine), number)));
    }

    fn sent(&self, number: usize) {
        self.journal.fate(number, Fate::Unknown);
    }

    /// Takes note of what became of a message; none: the engine takes nothing any more.
    fn told<M>(&self, number: usize, sent: Result<Receipt, SendError<M>>) -> Option<()> {
        let fate = match &sent {
            Ok(receipt) if receipt.duplicate_of().is_some() => Fate::Duplicate,
            _ => fate_of(&sent),
        };
        if let Err(SendError::Refused(why)) = &sent {
            self.journal.violation(format!("offer {number} was refused: {why}"));
        }
        self.journal.fate(number, fate);
        sent.is_ok().then_some(())
    }

    fn work(&self, number: usize) -> Result<Work, Loose> {
        let offer = &self.shape.offers[number];
        match offer.stream {
            Some(_) => Ok(self.stream_work(number)),
            None => Err(Loose { number, padding: "w".repeat(offer.plan.bytes) }),
        }
    }

    fn stream_work(&self, number: usize) -> Work {
        let offer = &self.shape.offers[number];
        Work { stream: offer.stream.unwrap_or_default(), number, padding: "w".repeat(offer.plan.bytes) }
    }

    /// The place of one of the engines that run.
    fn pick(&self, which: usize) -> Option<usize> {
        let processes = self.processes.borrow();
        let running: Vec<usize> =
            (0..processes.len()).filter(|at| processes[*at].state == Life::Runs).collect();
        (!running.is_empty()).then(|| running[which % running.len()])
    }

    /// Somebody has to be there who handles things.
    fn keep_one(&self) {
        let is_there =
            self.processes.borrow().iter().any(|of| of.state == Life::Runs && of.role == Role::Member);
        if !is_there {
            self.start(Role::Member);
        }
    }

    fn strike(&self, what: What) {
        match what {
            What::Join => self.start(Role::Member),
            What::Hold(which, millis) => self.by_one_of(which, async move |run, engine| {
                run.journal.line(|| "the perspective is paused".to_owned());
                if engine.pause("totals").await.is_ok() {
                    sleep(Duration::from_millis(millis)).await;
                    // Its process may be gone by then; when it is calm somebody else does it.
                    let _ = engine.resume("totals").await;
                }
            }),
            What::Requeue(which) => self.by_one_of(which, async |run, engine| {
                for letter in run.reader().dead_letters(None, usize::MAX).await.expect("memory can be read") {
                    let number = number_of(&letter.type_name, &letter.payload);
                    run.journal.line(|| format!("offer {number:?} is requeued"));
                    run.journal.with(|notes| notes.requeued.extend(number));
                    let _ = engine.requeue(letter.key).await;
                }
            }),
            What::Crash(which) => {
                let Some(place) = self.pick(which) else { return };
                self.journal.line(|| format!("process {place}: crashes"));
                self.journal.with(|notes| notes.deaths += 1);
                self.bury(place);
                self.keep_one();
            }
            What::Pause(which, millis) => {
                let Some(place) = self.pick(which) else { return };
                let id = self.processes.borrow()[place].id;
                if self.scheduler.is_paused(id) {
                    return;
                }
                self.journal.line(|| format!("process {place}: is paused for {millis} ms"));
                self.scheduler.pause(id);
                let run = self.clone();
                let world = self.scheduler.process();
                self.scheduler.spawn(world, "resume", async move {
                    sleep(Duration::from_millis(millis)).await;
                    run.journal.line(|| format!("process {place}: goes on"));
                    run.scheduler.resume(id);
                });
            }
            What::Leave(which, millis) => {
                let Some(place) = self.pick(which) else { return };
                self.leave(place, Duration::from_millis(millis));
                self.keep_one();
            }
        }
    }

    /// Lets one of the group do something on its own.
    fn by_one_of(&self, which: usize, deed: impl AsyncFnOnce(Self, Engine<App>) + 'static) {
        let members: Vec<(ProcessId, Engine<App>)> = {
            let processes = self.processes.borrow();
            let members = processes.iter().filter(|of| of.state == Life::Runs && of.role == Role::Member);
            members.filter_map(|of| Some((of.id, of.engine.clone()?))).collect()
        };
        let Some((id, engine)) = members.get(which % members.len().max(1)).cloned() else { return };
        let run = self.clone();
        self.scheduler.spawn(id, "operator", async move { deed(run, engine).await });
    }

    /// Drops a process with all it has in memory.
    fn bury(&self, place: usize) {
        let (id, engine) = {
            let mut processes = self.processes.borrow_mut();
            processes[place].state = Life::Gone;
            (processes[place].id, processes[place].engine.take())
        };
        self.scheduler.kill(id);
        drop(engine);
    }

    /// Stops an engine in good order.
    fn leave(&self, place: usize, within: Duration) {
        let (id, engine) = {
            let mut processes = self.processes.borrow_mut();
            let process = &mut processes[place];
            process.state = Life::Leaves;
            (process.id, process.engine.take())
        };
        let Some(engine) = engine else {
            return self.bury(place);
        };
        self.journal.line(|| format!("process {place}: leaves"));
        let run = self.clone();
        self.scheduler.spawn(id, "stop", async move {
            let stopped = engine.stop(within).await;
            run.journal.line(|| format!("process {place}: {stopped:?}"));
            run.journal.with(|notes| {
                if stopped.all_durable {
                    let of = engine_id(&engine);
                    for (_, number) in notes.accepted.extract_if(.., |(engine, _)| *engine == of) {
                        notes.fates[number] = Fate::Stored;
                    }
                }
                // What was cut off counts an attempt; so does all that is in hand when the store was not told.
                notes.deaths += u32::from(stopped.cancelled > 0 || !stopped.all_durable);
            });
            run.processes.borrow_mut()[place].stopped = Some(stopped);
        });
    }

    /// From now on nothing goes wrong.
    fn calm(&self) {
        self.journal.line(|| "it is calm".to_owned());
        self.journal.with(|notes| notes.is_calm = true);
        for process in self.processes.borrow().iter() {
            process.faults.iter().for_each(Faults::stop);
            process.networks.iter().for_each(Network::calm);
        }
    }

    /// Waits until everything is handled and nobody holds anything any more.
    async fn rest(&self) {
        let ttl = self.shape.service.time_to_live;
        let rested = timeout(REST_WITHIN, async {
            let mut since = None;
            while !self.journal.has_violations() {
                sleep(Duration::from_millis(50)).await;
                since = match self.unrest().await {
                    Some(_) => None,
                    None => since.or(Some(Instant::now())),
                };
                // Whoever was taken for dead has noticed by then.
                if since.is_some_and(|since| since.elapsed() > 2 * ttl) {
                    return;
                }
            }
        });
        if rested.await.is_err() {
            let why = self.unrest().await.unwrap_or_default();
            self.journal.violation(format!("{REST_WITHIN:?} after the last fault: {why}"));
        }
    }

    /// What is not at rest yet.
    async fn unrest(&self) -> Option<String> {
        let producing = self.journal.with(|notes| notes.producing);
        if producing > 0 {
            return Some(format!("{producing} producers still wait"));
        }
        let statistics = self.statistics().await;
        let open = |of: &whizbang_storage::SubscriptionStatistics| of.lag + of.parked + of.unroutable > 0;
        if statistics.subscriptions.iter().any(|of| of.paused) {
            self.by_one_of(0, async |_, engine| {
                // When it fails, the next look tries again.
                let _ = engine.resume("totals").await;
            });
            return Some("the perspective is paused".to_owned());
        }
        if statistics.arrivals > 0 || statistics.subscriptions.iter().any(open) {
            let open = statistics.subscriptions.iter().map(|of| {
                let whizbang_storage::SubscriptionStatistics { name, lag, parked, unroutable, .. } = of;
                format!("{name}: {lag} unsettled, {parked} parked, {unroutable} unroutable")
            });
            let open: Vec<_> = open.collect();
            return Some(format!("{} arrivals wait; {}", statistics.arrivals, open.join("; ")));
        }
        let processes = self.processes.borrow();
        let mut running = 0;
        for (place, process) in processes.iter().enumerate() {
            match process.state {
                Life::Gone => continue,
                Life::Leaves if process.stopped.is_some() && self.scheduler.alive(process.id).is_empty() => {
                    continue;
                }
                Life::Leaves => {
                    return Some(format!(
                        "process {place} has not ended: {:?}",
                        self.scheduler.alive(process.id)
                    ));
                }
                Life::Runs => {}
            }
            let Some(engine) = &process.engine else {
                return Some(format!("process {place} has not started"));
            };
            let health = engine.health();
            if health.state != whizbang::State::Running {
                let error = health.storage_away.map(|away| away.error);
                return Some(format!("process {place} is {:?}: {error:?}", health.state));
            }
            if health.in_flight > 0 || self.scheduler.is_paused(process.id) {
                return Some(format!("process {place} has {} messages in flight", health.in_flight));
            }
            if let Some(holding) =
                process.gauges.read().into_iter().find(|holding| *holding != Holding::default())
            {
                return Some(format!("a worker of process {place} holds {holding:?}"));
            }
            running += 1;
        }
        if statistics.instances.len() != running {
            return Some(format!("{} instances are alive, and {running} run", statistics.instances.len()));
        }
        self.unfair_share()
    }

    /// Who has too much or too little.
    fn unfair_share(&self) -> Option<String> {
        let processes = self.processes.borrow();
        let engines =
            processes.iter().filter(|process| process.state == Life::Runs && process.role == Role::Member);
        let owned: Vec<usize> =
            engines.filter_map(|process| Some(process.engine.as_ref()?.health().partitions_owned)).collect();
        let partitions = self.shape.service.partitions as usize;
        // The contract's measure: nobody holds less than the whole part of an equal share.
        let share = partitions / owned.len().max(1);
        let is_fair = owned.iter().sum::<usize>() == partitions && owned.iter().all(|owned| *owned >= share);
        (!is_fair).then(|| format!("{partitions} partitions are shared as {owned:?}"))
    }

    fn look_at_shares(&self) {
        if let Some(unfair) = self.unfair_share() {
            self.journal.violation(unfair);
        }
    }

    /// An idle group makes no calls but heartbeats, and evicts nobody.
    async fn stay_quiet(&self) {
        let ttl = self.shape.service.time_to_live;
        let evictions = self.journal.with(|notes| notes.evictions);
        sleep(Duration::from_millis(200)).await;
        let calls = self.watch.calls();
        sleep(3 * ttl).await;
        let calls = self.watch.calls() - calls;
        let every = self.shape.options.heartbeat_every.unwrap_or(ttl / 3);
        let running =
            self.processes.borrow().iter().filter(|process| process.state == Life::Runs).count() as u64;
        let heartbeats = running * (3 * ttl).as_micros().div_ceil(every.as_micros()) as u64;
        if calls > heartbeats + running {
            self.journal
                .violation(format!("{calls} calls of an idle group; {heartbeats} would be heartbeats"));
        }
        if self.journal.with(|notes| notes.evictions) != evictions {
            self.journal.violation("an idle engine was evicted".to_owned());
        }
    }

    async fn leave_all(&self) {
        while let Some(place) = self.pick(0) {
            self.leave(place, Duration::from_secs(10));
        }
        let ended = timeout(Duration::from_secs(20), async {
            while self.processes.borrow().iter().any(|process| {
                process.state == Life::Leaves
                    && (process.stopped.is_none() || !self.scheduler.alive(process.id).is_empty())
            }) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        if ended.await.is_err() {
            let processes = self.processes.borrow();
            let alive: Vec<_> = processes.iter().map(|process| self.scheduler.alive(process.id)).collect();
            drop(processes);
            self.journal.violation(format!("engines that were stopped have not ended: {alive:?}"));
        }
    }

    fn reader(&self) -> MemoryReader {
        let store = self.database.open(self.shape.service.clone()).expect("it was opened like this before");
        store.reader()
    }

    async fn statistics(&self) -> Statistics {
        self.reader().statistics().await.expect("memory can be read")
    }
}

/// Counts a producer off when it ends, however it ends.
struct Producing(Journal);

impl Drop for Producing {
    fn drop(&mut self) {
        self.0.with(|notes| notes.producing -= 1);
    }
}

fn fate_of<T, M>(sent: &Result<T, SendError<M>>) -> Fate {
    match sent {
        Ok(_) => Fate::Stored,
        Err(SendError::Unanswered) => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}

fn engine_id(engine: &Engine<App>) -> usize {
    engine.dispatcher().process()
}
