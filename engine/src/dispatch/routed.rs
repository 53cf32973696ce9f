//! What became of a message that was given to a dispatcher.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;

use crate::codec::DecodeError;
use crate::failure::Failure;

/// What became of a message that was given to [`Dispatcher::route`](super::Dispatcher::route).
#[must_use = "a message that was routed has to be settled"]
#[derive(Debug)]
pub enum Routed<F> {
    /// The subscription has no receptor for it: it is plainly done.
    NotWanted,
    /// It cannot be read: a dead letter.
    Undecodable(DecodeError),
    /// All its receptors are plain, and have run.
    Done(Result<(), Failure>),
    /// Its receptors run as this future is awaited.
    Running(F),
}

impl<F> Routed<F> {
    /// The same with another future, for instance [one of many](super::OneOf).
    #[inline(always)]
    pub fn map<G>(self, future: impl FnOnce(F) -> G) -> Routed<G> {
        match self {
            Self::NotWanted => Routed::NotWanted,
            Self::Undecodable(error) => Routed::Undecodable(error),
            Self::Done(result) => Routed::Done(result),
            Self::Running(running) => Routed::Running(future(running)),
        }
    }
}

/// What a single receptor has made of a message.
#[must_use = "a receptor that was started may have to be awaited"]
#[derive(Debug)]
pub enum Started<F, T> {
    /// It is plain, and has run.
    Done(Result<T, Failure>),
    /// It runs as this future is awaited.
    Running(F),
}

impl<F: Future<Output = Result<T, Failure>>, T> Started<F, T> {
    /// Waits for its end. Plain ones have ended.
    ///
    /// # Errors
    /// The receptor's [`Failure`].
    pub async fn finish(self) -> Result<T, Failure> {
        match self {
            Self::Done(result) => result,
            Self::Running(future) => future.await,
        }
    }

    /// What became of a message of which this was the only receptor. The reply is dropped: nobody waits for it.
    #[inline(always)]
    pub fn routed(self) -> Routed<WithoutReply<F>> {
        match self {
            Self::Done(result) => Routed::Done(result.map(drop)),
            Self::Running(future) => Routed::Running(WithoutReply { future }),
        }
    }

    /// Its result, if it is plain.
    pub fn done(self) -> Option<Result<T, Failure>> {
        match self {
            Self::Done(result) => Some(result),
            Self::Running(_) => None,
        }
    }
}

pin_project! {
    /// A receptor's future, whose reply is dropped.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct WithoutReply<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for WithoutReply<F> {
    type Output = Result<(), Failure>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.project().future.poll(task).map(|result| result.map(drop))
    }
}

/// The future of what never waits: there is no such value.
#[derive(Debug)]
pub enum Never<T> {
    /// It cannot be made.
    #[doc(hidden)]
    Impossible(std::convert::Infallible, PhantomData<fn() -> T>),
}

impl<T> Future for Never<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match *self {
            Self::Impossible(impossible, _) => match impossible {},
        }
    }
}
