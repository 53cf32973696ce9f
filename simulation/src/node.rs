//! An engine of the one or the other version of the service.

use std::time::Duration;

use whizbang::{Engine, Health, OperationError, ParkedKey, Stopped};

use crate::app::{App, OldApp};

/// An engine, whichever version of the service it runs.
#[derive(Clone)]
pub(crate) enum Node {
    New(Engine<App>),
    Old(Engine<OldApp>),
}

macro_rules! either {
    ($node:expr, $engine:ident => $does:expr) => {
        match $node {
            Node::New($engine) => $does,
            Node::Old($engine) => $does,
        }
    };
}

impl Node {
    /// The process that it runs in.
    pub(crate) fn process(&self) -> usize {
        either!(self, engine => engine.dispatcher().process())
    }

    pub(crate) fn health(&self) -> Health {
        either!(self, engine => engine.health())
    }

    pub(crate) async fn stop(&self, within: Duration) -> Stopped {
        either!(self, engine => engine.stop(within).await)
    }

    pub(crate) async fn pause(&self, subscription: &str) -> Result<(), OperationError> {
        either!(self, engine => engine.pause(subscription).await)
    }

    pub(crate) async fn resume(&self, subscription: &str) -> Result<(), OperationError> {
        either!(self, engine => engine.resume(subscription).await)
    }

    pub(crate) async fn requeue(&self, dead_letter: ParkedKey) -> Result<(), OperationError> {
        either!(self, engine => engine.requeue(dead_letter).await)
    }

    pub(crate) async fn discard(&self, dead_letter: ParkedKey) -> Result<(), OperationError> {
        either!(self, engine => engine.discard(dead_letter).await)
    }
}
