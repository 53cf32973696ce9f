//! A store whose calls fail, as a disk, a network or a server lets them fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use whizbang_storage::{Abilities, Answer, Hint, NotApplied, Service, StoreError, WorkBatch, WorkStore};

use crate::OwnedBatch;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it goes through.
    None,
    /// It fails before anything is written; the caller cannot know.
    Before,
    /// It is refused as a whole ([`NotApplied::Failed`]): nothing is written, and the caller knows.
    NotApplied,
    /// It is refused because the disk is full ([`NotApplied::Full`]): nothing is written, and the caller knows.
    Full,
    /// It is committed, and the answer is lost; the caller cannot know.
    AnswerLost,
    /// It goes through after so long (by tokio's clock).
    Delay(Duration),
    /// The batch that reached the store so many calls ago reaches it once more, before this one: a network that repeats. Nothing
    /// happens when there was none, or when that is longer ago than is remembered (16 calls).
    RepeatOld(usize),
}

/// How often a [`Faulty`] store draws which fault, in thousandths of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odds {
    /// For [`Fault::Before`].
    pub before: u32,
    /// For [`Fault::NotApplied`].
    pub not_applied: u32,
    /// For [`Fault::Full`].
    pub full: u32,
    /// For [`Fault::AnswerLost`].
    pub answer_lost: u32,
    /// For [`Fault::RepeatOld`], 1 to 8 calls ago.
    pub repeat_old: u32,
    /// For [`Fault::Delay`], of `delay_max` at most.
    pub delay: u32,
    /// The longest delay that is drawn.
    pub delay_max: Duration,
}

/// Wraps a store and lets its calls fail, at chosen or at drawn ones.
///
/// ```
/// # use whizbang_storage::*;
/// # use whizbang_storage_conformance::*;
/// let store = MemoryStore::new(Service::default())?;
/// let store = Faulty::new(store);
/// // The engine will own the store; the faults stay in the test's hand.
/// let faults = store.faults();
/// faults.next(Fault::AnswerLost);
/// assert_eq!(faults.waiting(), 1);
/// # Ok::<(), ServiceError>(())
/// ```
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
    sent: VecDeque<OwnedBatch>,
}

/// The faults that are waiting for their calls. Clones belong to the same store.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    next: VecDeque<Fault>,
    drawn: Option<(fastrand::Rng, Odds)>,
    calls: u64,
    happened: u64,
}

/// Batches that are kept for [`Fault::RepeatOld`].
const KEPT_MAX: usize = 16;

impl<S> Faulty<S> {
    /// A store without faults; [`faults`](Self::faults) brings them.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            faults: Faults(Arc::new(Mutex::new(State {
                next: VecDeque::new(),
                drawn: None,
                calls: 0,
                happened: 0,
            }))),
            sent: VecDeque::new(),
        }
    }

    /// A store whose faults are drawn, the same for the same seed.
    pub fn seeded(inner: S, seed: u64, odds: Odds) -> Self {
        let faulty = Self::new(inner);
        faulty.faults.draw(seed, odds);
        faulty
    }

    /// The faults to come.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The store itself.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl Faults {
    /// Appends a fault for the call after those that already have one.
    pub fn next(&self, fault: Fault) {
        self.with(|state| state.next.push_back(fault));
    }

    /// Lets every call without a chosen fault draw one.
    pub fn draw(&self, seed: u64, odds: Odds) {
        self.with(|state| state.drawn = Some((fastrand::Rng::with_seed(seed), odds)));
    }

    /// No faults any more.
    pub fn stop(&self) {
        self.with(|state| {
            state.next.clear();
            state.drawn = None;
        });
    }

    /// Chosen faults that have not happened yet.
    pub fn waiting(&self) -> usize {
        self.with(|state| state.next.len())
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.with(|state| state.calls)
    }

    /// Calls to which something happened: an answer that is an error anyway cannot be lost, and what never was cannot come again.
    pub fn happened(&self) -> u64 {
        self.with(|state| state.happened)
    }

    fn happens(&self) {
        self.with(|state| state.happened += 1);
    }

    fn take(&self) -> Fault {
        self.with(|state| {
            state.calls += 1;
            state.next.pop_front().unwrap_or_else(|| state.draw())
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn draw(&mut self) -> Fault {
        let Some((random, odds)) = &mut self.drawn else {
            return Fault::None;
        };
        let mut drawn = random.u32(0..1_000);
        for (odds, fault) in [
            (odds.before, Fault::Before),
            (odds.not_applied, Fault::NotApplied),
            (odds.full, Fault::Full),
            (odds.answer_lost, Fault::AnswerLost),
            (odds.repeat_old, Fault::RepeatOld(random.usize(1..=8))),
            (odds.delay, Fault::Delay(odds.delay_max.mul_f64(random.f64()))),
        ] {
            if drawn < odds {
                return fault;
            }
            drawn -= odds;
        }
        Fault::None
    }
}

impl<S: WorkStore> WorkStore for Faulty<S> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let fault = self.faults.take();
        match fault {
            Fault::Before => {
                self.faults.happens();
                answer.clear();
                return Err(lost("the call never reached the store"));
            }
            Fault::NotApplied => {
                self.faults.happens();
                answer.clear();
                return Err(NotApplied::Failed("injected fault: the store refuses the batch".into()).into());
            }
            Fault::Full => {
                self.faults.happens();
                answer.clear();
                return Err(NotApplied::Full("injected fault: no room".into()).into());
            }
            Fault::Delay(time) => {
                self.faults.happens();
                tokio::time::sleep(time).await;
            }
            Fault::RepeatOld(ago) => {
                let old = self.sent.len().checked_sub(ago).and_then(|index| self.sent.get(index));
                if let Some(old) = old {
                    self.faults.happens();
                    // Whatever the store says to it, nobody hears.
                    let _ = old.send_to(&mut self.inner, answer).await;
                }
            }
            Fault::AnswerLost | Fault::None => {}
        }
        if self.sent.len() == KEPT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(OwnedBatch::from(batch));
        let done = self.inner.process_work_batch(batch, answer).await;
        if fault == Fault::AnswerLost && done.is_ok() {
            self.faults.happens();
            answer.clear();
            return Err(lost("the answer never reached the caller"));
        }
        done
    }

    fn reader(&self) -> S::Reader {
        self.inner.reader()
    }

    fn service(&self) -> &Service {
        self.inner.service()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.inner.on_hint(hint);
    }
}

fn lost(how: &str) -> StoreError {
    StoreError::Unknown(format!("injected fault: {how}").into())
}
