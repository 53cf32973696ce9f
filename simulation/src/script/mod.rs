//! What happens in a run: engines start, producers send, mishaps strike; then it is calm, and everything must come to rest.

mod produce;
mod rest;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use whizbang::simulation::{Gauges, Part};
use whizbang::{DeadReason, Engine, Stopped};
use whizbang_storage::{MemoryDatabase, StoreReader, WorkStore};
use whizbang_storage_conformance::Faults;

use crate::app::{App, Hand, Noted, OldApp};
use crate::clock::RunClock;
use crate::journal::{Fate, Journal};
use crate::node::Node;
use crate::scheduler::{ProcessId, Scheduler};
use crate::shape::{Edition, Shape, What};
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
    pub(crate) clock: RunClock,
    pub(crate) seed: u64,
    processes: Rc<RefCell<Vec<Process>>>,
}

/// One service process.
struct Process {
    id: ProcessId,
    state: Life,
    role: Role,
    edition: Edition,
    engine: Option<Node>,
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

/// What becomes of an event that the strict subscription has rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Requeue,
    Discard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    Leaves,
    Gone,
}

impl Run {
    pub(crate) fn new(
        scheduler: Scheduler,
        shape: Arc<Shape>,
        journal: Journal,
        watch: Watch,
        database: MemoryDatabase,
        clock: RunClock,
        seed: u64,
    ) -> Self {
        Self { scheduler, shape, journal, watch, database, clock, seed, processes: Rc::default() }
    }

    /// The whole run; what was noticed stands in the journal.
    pub(crate) async fn script(self) {
        for _ in 0..self.shape.engines {
            self.start(Role::Member, Edition::New);
        }
        if self.shape.has_outsider {
            self.start(Role::Outsider, Edition::New);
        }
        if self.shape.has_old_ones {
            self.start(Role::Member, Edition::Old);
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
    fn start(&self, role: Role, edition: Edition) {
        let id = self.scheduler.process();
        let place = self.processes.borrow().len();
        self.processes.borrow_mut().push(Process {
            id,
            state: Life::Runs,
            role,
            edition,
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
        let (id, gauges, role, edition, seed) = {
            let processes = self.processes.borrow();
            let process = &processes[place];
            let seed = self.seed ^ ((place as u64 + 1) << 32) ^ ((process.faults.len() as u64) << 48);
            (process.id, process.gauges.clone(), process.role, process.edition, seed)
        };
        let reader = store.reader();
        let (station, faults, network) =
            Station::new(store, place, seed, &self.shape, self.watch.clone(), self.clock.clone());
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
            reader,
        };
        let mut options = self.shape.options.clone();
        if role == Role::Outsider {
            options.group = None;
        }
        let scheduler = self.scheduler.clone();
        let mut spawn = move |part, future| {
            let name = match part {
                Part::Pump => "pump",
                Part::Worker(_) => "worker",
                Part::Herald => "herald",
            };
            scheduler.spawn_boxed(id, name, future);
        };
        let started = match edition {
            Edition::New => {
                let builder = Engine::builder(App::of(hand)).storage(station).options(options);
                builder.start_in(&mut spawn, &gauges).await.map(Node::New)
            }
            Edition::Old => {
                let builder = Engine::builder(OldApp::of(hand)).storage(station).options(options);
                builder.start_in(&mut spawn, &gauges).await.map(Node::Old)
            }
        };
        match started {
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

    /// What an engine has in memory stays within what its options allow.
    pub(crate) fn look_at_memory(&self) {
        let options = &self.shape.options;
        for (place, process) in self.processes.borrow().iter().enumerate() {
            let Some(engine) = &process.engine else { continue };
            let in_flight = engine.health().in_flight;
            // A message in flight is its lane's, runs beside it, or is a unit without an answer; work of a type that only this
            // engine knows comes on top. What follows in a lane that has
            // begun does not wait for room.
            let (held_max, waiting_max) =
                (8 * options.in_flight_max, options.handlers_max + options.in_flight_max);
            let holds = process.gauges.read();
            let is_bounded = in_flight <= options.in_flight_max
                && holds.iter().all(|of| of.lanes <= held_max && of.waiting <= waiting_max);
            if !is_bounded && !self.journal.has_violations() {
                self.journal.violation(format!(
                    "process {place} has {in_flight} messages in flight of {}; its workers hold {holds:?}",
                    options.in_flight_max
                ));
            }
        }
    }

    fn is_calm(&self) -> bool {
        self.journal.with(|notes| notes.is_calm)
    }

    /// The place of one of the engines that run.
    fn pick(&self, which: usize) -> Option<usize> {
        let processes = self.processes.borrow();
        let running: Vec<usize> =
            (0..processes.len()).filter(|at| processes[*at].state == Life::Runs).collect();
        (!running.is_empty()).then(|| running[which % running.len()])
    }

    /// Somebody has to be there who handles things, all of them.
    fn keep_one(&self) {
        let is_there = self
            .processes
            .borrow()
            .iter()
            .any(|of| of.state == Life::Runs && of.role == Role::Member && of.edition == Edition::New);
        if !is_there {
            self.start(Role::Member, Edition::New);
        }
    }

    fn strike(&self, what: What) {
        match what {
            What::Join(edition) => self.start(Role::Member, edition),
            What::Jump(millis) => {
                self.journal.line(|| format!("the store's clock is set by {millis} ms"));
                self.clock.jump(millis);
                if millis > 0 {
                    self.journal.with(|notes| notes.set_forward = Some(Instant::now()));
                }
            }
            What::Discard(which) => self.look_after_the_strict(which, Care::Discard),
            What::Hold(which, millis) => self.by_one_of(which, async move |run, engine| {
                run.journal.line(|| "the perspective is paused".to_owned());
                if engine.pause("totals").await.is_ok() {
                    sleep(Duration::from_millis(millis)).await;
                    // Its process may be gone by then; when it is calm somebody else does it.
                    let _ = engine.resume("totals").await;
                }
            }),
            What::Requeue(which) => self.by_one_of(which, async |run, engine| {
                for _ in 0..4 {
                    let dead = run.reader().dead_letters(None, usize::MAX).await.expect("memory can be read");
                    for letter in dead {
                        let number = number_of(&letter.type_name, &letter.payload);
                        run.journal.line(|| format!("offer {number:?} is requeued"));
                        run.journal.with(|notes| notes.requeued.extend(number));
                        let _ = engine.requeue(letter.key).await;
                    }
                    sleep(Duration::from_millis(50)).await;
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

    /// Sees to what the strict subscription has rejected: it stands still behind that.
    fn look_after_the_strict(&self, which: usize, care: Care) {
        self.by_one_of(which, async move |run, engine| {
            for letter in run.reader().dead_letters(None, usize::MAX).await.expect("memory can be read") {
                if letter.subscription != "strict" {
                    continue;
                }
                if letter.reason != DeadReason::Rejected {
                    run.journal.violation(format!("an event is dead without a reason: {letter:?}"));
                }
                run.journal.line(|| format!("event {} is looked after: {care:?}", letter.message));
                if care == Care::Requeue {
                    let _ = engine.requeue(letter.key).await;
                    continue;
                }
                let noted: Noted = serde_json::from_slice(&letter.payload).expect("it was written as JSON");
                let note = |is_done| {
                    run.journal.with(|notes| {
                        let (_, done) =
                            notes.discarded.entry(letter.message).or_insert((noted.stream, false));
                        *done |= is_done;
                    });
                };
                note(false);
                note(engine.discard(letter.key).await.is_ok());
            }
        });
    }

    /// Lets one of the group do something on its own.
    fn by_one_of(&self, which: usize, deed: impl AsyncFnOnce(Self, Node) + 'static) {
        let members: Vec<(ProcessId, Node)> = {
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
                    let of = engine.process();
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
}
