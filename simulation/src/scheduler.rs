//! Who is polled next: one thread, seeded choices, and time that passes only when nothing can run.
//!
//! Tasks belong to processes. A process can be paused (its tasks are woken, and wait) and killed (its tasks are dropped
//! where they stand). A task that is woken may be held for a while, as an operating system does, so that others overtake it;
//! for a number of steps one task may be left to starve. Everything is drawn from the run's seed, so a seed is one interleaving.

use std::any::Any;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A handle on one run's tasks; clones are the same scheduler.
#[derive(Clone)]
pub(crate) struct Scheduler(Rc<RefCell<State>>);

/// Names a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) usize);

/// How woken tasks get their turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Of a thousand turns, how many are given away: the task is held for a while instead.
    pub(crate) held: u32,
    /// For how long at the most.
    pub(crate) held_max: Duration,
    /// Of a thousand steps, before how many another task begins to starve (or none does).
    pub(crate) starved: u32,
}

/// A run that did not come to its end.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// After so many steps.
    Steps(u64),
    /// A task panicked.
    Panicked { task: &'static str, text: String },
}

type Local = Pin<Box<dyn Future<Output = ()>>>;

struct State {
    tasks: Vec<Task>,
    processes: Vec<Process>,
    /// Woken, and nobody keeps them.
    ready: Vec<usize>,
    held: BinaryHeap<Reverse<(Instant, usize)>>,
    starving: Option<usize>,
    habits: Habits,
    random: fastrand::Rng,
    woken: Arc<Woken>,
    began: Instant,
    steps: u64,
    trace: DefaultHasher,
    panicked: Option<(&'static str, String)>,
}

struct Task {
    process: ProcessId,
    name: &'static str,
    /// Taken out while it is polled, and when it has ended.
    future: Option<Local>,
    is_alive: bool,
    waker: Waker,
}

#[derive(Default)]
struct Process {
    is_paused: bool,
    /// Woken while paused.
    waiting: Vec<usize>,
}

/// What wakers can reach.
struct Woken {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<usize>,
    /// Whether a task is ready, held or waiting already.
    is_queued: Vec<bool>,
    root: Option<Waker>,
}

struct WakeTask {
    task: usize,
    woken: Arc<Woken>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.task);
    }
}

impl Woken {
    fn wake(&self, task: usize) {
        let mut queue = self.queue.lock();
        if std::mem::replace(&mut queue.is_queued[task], true) {
            return;
        }
        queue.tasks.push(task);
        let root = queue.root.take();
        drop(queue);
        if let Some(root) = root {
            root.wake();
        }
    }
}

impl Scheduler {
    pub(crate) fn new(seed: u64, habits: Habits) -> Self {
        Self(Rc::new(RefCell::new(State {
            tasks: Vec::new(),
            processes: Vec::new(),
            ready: Vec::new(),
            held: BinaryHeap::new(),
            starving: None,
            habits,
            random: fastrand::Rng::with_seed(seed),
            woken: Arc::new(Woken { queue: Mutex::default() }),
            began: Instant::now(),
            steps: 0,
            trace: DefaultHasher::new(),
            panicked: None,
        })))
    }

    /// Polls `main` and everything that is spawned until `main` is done; the other tasks are dropped then. After every poll
    /// `look` may look at what is there.
    ///
    /// To be called within a paused tokio runtime: its clock is the run's.
    pub(crate) async fn run(
        &self,
        main: impl Future<Output = ()> + 'static,
        steps_max: u64,
        mut look: impl FnMut(),
    ) -> Result<(), Stuck> {
        let process = self.process();
        let main = self.spawn(process, "script", main);
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        let ended = tokio::task::unconstrained(std::future::poll_fn(|cx| {
            loop {
                if let Some((task, text)) = self.0.borrow_mut().panicked.take() {
                    return Poll::Ready(Err(Stuck::Panicked { task, text }));
                }
                if !self.0.borrow().tasks[main].is_alive {
                    return Poll::Ready(Ok(()));
                }
                let steps = self.0.borrow().steps;
                if steps >= steps_max {
                    return Poll::Ready(Err(Stuck::Steps(steps)));
                }
                if self.step() {
                    look();
                    continue;
                }
                // Nothing can run: the clock may move on, to a timer or to the end of a hold.
                let until = self.0.borrow().held.peek().map(|Reverse((until, _))| *until);
                if let Some(until) = until {
                    alarm.as_mut().reset(until);
                    if alarm.as_mut().poll(cx).is_ready() {
                        continue;
                    }
                }
                let woken = Arc::clone(&self.0.borrow().woken);
                let mut queue = woken.queue.lock();
                if queue.tasks.is_empty() {
                    queue.root = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }))
        .await;
        self.clear();
        ended
    }

    /// Polls one task, if there is one to poll.
    fn step(&self) -> bool {
        let Some((task, name, mut future, waker)) = self.0.borrow_mut().choose() else {
            return false;
        };
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        let mut state = self.0.borrow_mut();
        let has_ended = !matches!(polled, Ok(Poll::Pending));
        state.note(task, has_ended);
        if let Err(panic) = &polled {
            state.panicked = Some((name, text_of(&**panic)));
        }
        let killed = !state.tasks[task].is_alive;
        if has_ended {
            state.tasks[task].is_alive = false;
        } else if !killed {
            state.tasks[task].future = Some(future);
            return true;
        }
        drop(state);
        // What a future drops may wake others, or spawn.
        self.drop_quietly(name, future);
        true
    }

    /// A process that runs.
    pub(crate) fn process(&self) -> ProcessId {
        let mut state = self.0.borrow_mut();
        state.processes.push(Process::default());
        ProcessId(state.processes.len() - 1)
    }

    /// Gives a process another task.
    pub(crate) fn spawn(
        &self,
        process: ProcessId,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> usize {
        self.spawn_boxed(process, name, Box::pin(future))
    }

    /// As [`spawn`](Self::spawn).
    pub(crate) fn spawn_boxed(&self, process: ProcessId, name: &'static str, future: Local) -> usize {
        let mut state = self.0.borrow_mut();
        let task = state.tasks.len();
        let woken = Arc::clone(&state.woken);
        woken.queue.lock().is_queued.push(false);
        let waker = Waker::from(Arc::new(WakeTask { task, woken: Arc::clone(&woken) }));
        state.tasks.push(Task { process, name, future: Some(future), is_alive: true, waker });
        drop(state);
        woken.wake(task);
        task
    }

    /// Stops giving turns to a process.
    pub(crate) fn pause(&self, process: ProcessId) {
        self.0.borrow_mut().processes[process.0].is_paused = true;
    }

    /// Goes on with a process.
    pub(crate) fn resume(&self, process: ProcessId) {
        let mut state = self.0.borrow_mut();
        let process = &mut state.processes[process.0];
        process.is_paused = false;
        let waiting = std::mem::take(&mut process.waiting);
        state.ready.extend(waiting);
    }

    pub(crate) fn is_paused(&self, process: ProcessId) -> bool {
        self.0.borrow().processes[process.0].is_paused
    }

    /// Ends a process where it stands: nothing of it runs any more, and all it had in memory is gone.
    pub(crate) fn kill(&self, process: ProcessId) {
        let mut dropped = Vec::new();
        let mut state = self.0.borrow_mut();
        for task in state.tasks.iter_mut().filter(|task| task.process == process) {
            task.is_alive = false;
            dropped.extend(task.future.take().map(|future| (task.name, future)));
        }
        drop(state);
        for (name, future) in dropped {
            self.drop_quietly(name, future);
        }
    }

    /// The names of the tasks of a process that have not ended.
    pub(crate) fn alive(&self, process: ProcessId) -> Vec<&'static str> {
        let state = self.0.borrow();
        state
            .tasks
            .iter()
            .filter(|task| task.process == process && task.is_alive)
            .map(|task| task.name)
            .collect()
    }

    /// How often a task was polled.
    pub(crate) fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// Tells one interleaving from another.
    pub(crate) fn trace(&self) -> u64 {
        self.0.borrow().trace.finish()
    }

    /// Lets something that happened outside of the tasks tell interleavings apart, too.
    pub(crate) fn mark(&self, what: impl Hash) {
        what.hash(&mut self.0.borrow_mut().trace);
    }

    fn clear(&self) {
        let futures: Vec<_> = {
            let mut state = self.0.borrow_mut();
            state
                .tasks
                .iter_mut()
                .filter_map(|task| task.future.take().map(|future| (task.name, future)))
                .collect()
        };
        for (name, future) in futures {
            self.drop_quietly(name, future);
        }
    }

    fn drop_quietly(&self, name: &'static str, future: Local) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.0.borrow_mut().panicked = Some((name, text_of(&*panic)));
        }
    }
}

impl State {
    /// Takes the task out whose turn it is.
    fn choose(&mut self) -> Option<(usize, &'static str, Local, Waker)> {
        let woken = Arc::clone(&self.woken);
        self.ready.append(&mut woken.queue.lock().tasks);
        let now = Instant::now();
        while let Some(Reverse((until, task))) = self.held.peek().copied()
            && until <= now
        {
            self.held.pop();
            self.ready.push(task);
        }
        if self.random.u32(0..1_000) < self.habits.starved {
            self.starving = self.random.bool().then(|| self.random.usize(0..self.tasks.len()));
        }
        while !self.ready.is_empty() {
            let mut at = self.random.usize(0..self.ready.len());
            if Some(self.ready[at]) == self.starving {
                at = (at + 1) % self.ready.len();
            }
            let number = self.ready.swap_remove(at);
            let task = &mut self.tasks[number];
            let process = &mut self.processes[task.process.0];
            if process.is_paused {
                process.waiting.push(number);
                continue;
            }
            if task.is_alive && self.random.u32(0..1_000) < self.habits.held && task.name != "script" {
                let micros = self.random.u64(0..=self.habits.held_max.as_micros() as u64);
                self.held.push(Reverse((now + Duration::from_micros(micros), number)));
                continue;
            }
            // From here on it can be woken again.
            woken.queue.lock().is_queued[number] = false;
            if let Some(future) = task.future.take() {
                return Some((number, task.name, future, task.waker.clone()));
            }
        }
        None
    }

    fn note(&mut self, task: usize, has_ended: bool) {
        self.steps += 1;
        let micros = self.began.elapsed().as_micros() as u64;
        (task, has_ended, micros).hash(&mut self.trace);
    }
}

/// Lets the scheduler choose anew.
pub(crate) async fn give_way() {
    let mut has_given_way = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}
