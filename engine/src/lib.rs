//! Whizbang.
#![forbid(unsafe_code)]
// The macros write `::whizbang` paths, also in this crate's own tests.
#[cfg(test)]
extern crate self as whizbang;

pub mod codec;
mod context;
pub mod dispatch;
mod failure;
pub mod message;
mod projection;
mod unit;
pub use context::{Cancel, Cancellation, Context};
pub use dispatch::{Dispatcher, HasOneReceptorIn, PlainReceptor, Receptor, ReceptorOptions};
pub use failure::{Failure, Verdict};
pub use message::{
    Command, Event, HeaderError, Headers, HeadersView, Message, Metadata, MetadataError, StreamKey,
    TraceParent, TraceParentError, Upcast,
};
pub use projection::{Loader, Projection, ProjectionError, ProjectionSource, Projections};
pub use unit::{EmitError, EmitOptions, Unit, UnitFormatError, UnitView};
pub use whizbang_macros::{Command, Event, dispatcher};
pub use whizbang_storage::{
    ContentType, CorrelationId, InstanceId, Limits, MemoryStore, MessageId, MessageKind, OnDead, Service,
    StartAt, StoreReader, StreamId, Version,
};
mod agenda;
mod assemble;
mod conflicts;
mod deliver;
mod engine;
mod exchange;
mod flows;
mod handout;
mod handover;
mod intake;
mod lanes;
mod operate;
mod options;
mod pump;
mod ranges;
mod reader;
mod receipt;
mod receive;
mod replies;
mod send;
mod settle;
mod shared;
pub use engine::{Builder, Durability, Engine, InvokeError, NoStorage, StartError};
pub use operate::OperationError;
pub use options::{OptionError, Options};
pub use pump::Stopped;
pub use reader::AnyReader;
pub use receipt::{Handled, Receipt};
pub use replies::Refused;
pub use send::{Accepted, NotStored, Publisher, SendError, Ticket};
pub use shared::{Health, State, StorageAway};
