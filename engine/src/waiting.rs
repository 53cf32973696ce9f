//! Handlers that have to wait: their futures, set aside in boxes that are used again.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::Sleep;
use whizbang_storage::Position;

use crate::failure::Failure;
use crate::host;
use crate::intake::panic_text;
use crate::lanes::LaneKey;
use crate::unit::Unit;

/// How a handler ended.
pub(crate) enum Ended {
    /// It was handled, or nobody here wants it.
    Done,
    /// Its payload is not what its type says.
    Undecodable(String),
    /// Its receptor failed.
    Failed(Failure),
}

/// A handler's end, and what it produced.
pub(crate) struct Handled {
    pub(crate) ended: Ended,
    pub(crate) unit: Box<Unit>,
}

/// Where a handler's future lies; the box is used again.
pub(crate) type Slot<F> = Pin<Box<Option<F>>>;

/// A handler that has to wait.
pub(crate) struct Waiting<F> {
    // Taken out when something has happened to it.
    pub(crate) inner: Option<WaitingInner<F>>,
}

pub(crate) struct WaitingInner<F> {
    pub(crate) slot: Slot<F>,
    pub(crate) alarm: Pin<Box<Sleep>>,
    pub(crate) cancelled: oneshot::Receiver<()>,
    pub(crate) key: LaneKey,
    pub(crate) position: Position,
    pub(crate) deadline: Instant,
    pub(crate) detached: bool,
    /// It came from the log's flow, so it can be taken out of it.
    pub(crate) detach_at: Option<Instant>,
}

/// What happened to a handler that waited.
pub(crate) enum Happened {
    Finished(Handled),
    Panicked(String),
    RunsLong,
    OverDeadline,
    Cancelled,
}

impl<F: Future<Output = Handled>> Future for Waiting<F> {
    type Output = (Happened, WaitingInner<F>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let inner = self.inner.as_mut().expect("a handler is not polled after something happened to it");
        let happened = if Pin::new(&mut inner.cancelled).poll(cx).is_ready() {
            Happened::Cancelled
        } else if let Some(happened) = poll_slot(&mut inner.slot, cx) {
            happened
        } else if inner.alarm.as_mut().poll(cx).is_ready() {
            if inner.deadline <= host::now() { Happened::OverDeadline } else { Happened::RunsLong }
        } else {
            return Poll::Pending;
        };
        let inner = self.inner.take().expect("it was there a moment ago");
        Poll::Ready((happened, inner))
    }
}

// The future itself never moves: it is pinned in its box.
impl<F> Unpin for Waiting<F> {}

pub(crate) fn poll_slot<F: Future<Output = Handled>>(
    slot: &mut Slot<F>,
    cx: &mut TaskContext<'_>,
) -> Option<Happened> {
    let future = slot.as_mut().as_pin_mut().expect("a slot in use holds a future");
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Pending) => None,
        Ok(Poll::Ready(handled)) => Some(Happened::Finished(handled)),
        Err(panic) => Some(Happened::Panicked(format!("the receptor panicked: {}", panic_text(&*panic)))),
    }
}
