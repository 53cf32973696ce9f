//! Whizbang.
#![forbid(unsafe_code)]
#![allow(dead_code)]
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
    Command, Event, HeaderError, Headers, HeadersView, Message, Metadata, MetadataError, StreamKey, TraceParent,
    TraceParentError, Upcast,
};
pub use projection::{Loader, Projection, ProjectionError, ProjectionSource, Projections};
pub use unit::{EmitError, EmitOptions, Unit, UnitFormatError, UnitView};
pub use whizbang_macros::{Command, Event, dispatcher};
pub use whizbang_storage::{
    ContentType, CorrelationId, InstanceId, MessageId, MessageKind, OnDead, StartAt, StreamId, Version,
};
mod agenda;
mod assemble;
mod conflicts;
mod deliver;
mod exchange;
mod flows;
mod handout;
mod handover;
mod intake;
mod lanes;
mod options;
mod pump;
mod ranges;
mod reader;
mod receive;
mod replies;
mod settle;
mod shared;
pub use options::*;
