//! A typed message engine you embed: dispatch costs nanoseconds, durability costs one batched call.
//!
//! An [`Engine`] holds your receptors and a store. A command is invoked directly, or sent and handled later; an event is
//! published to whoever receives it. What must survive is durable when you hold its [`Receipt`], and is handled once, in
//! order per stream, whatever happens to the process.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use whizbang::{Command, Context, Engine, Event, Failure, MemoryStore, Receptor, Service, dispatcher};
//!
//! #[derive(Serialize, Deserialize, Command)]
//! #[message(name = "orders.create", version = 1, reply = u64)]
//! struct CreateOrder {
//!     #[stream]
//!     order: u64,
//! }
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[message(name = "orders.created", version = 1)]
//! struct OrderCreated {
//!     #[stream]
//!     order: u64,
//! }
//!
//! struct Orders;
//! struct Mailer;
//!
//! impl Receptor<CreateOrder> for Orders {
//!     async fn receive(&self, command: CreateOrder, mut cx: Context<'_>) -> Result<u64, Failure> {
//!         cx.publish(&OrderCreated { order: command.order })?; // stored together with "this command is done"
//!         Ok(command.order)
//!     }
//! }
//!
//! impl Receptor<OrderCreated> for Mailer {
//!     async fn receive(&self, _: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
//!         Ok(()) // an error would be tried again, while the rest of its stream waits
//!     }
//! }
//!
//! dispatcher! {
//!     struct Shop { orders: Orders, mailer: Mailer }
//!     command CreateOrder => orders;
//!     event OrderCreated => mailer;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shop = Shop { orders: Orders, mailer: Mailer };
//! let engine = Engine::builder(shop).storage(MemoryStore::new(Service::default())?).start().await?;
//! let order = engine.invoke(CreateOrder { order: 7 }).await?;
//! let receipt = engine.send(CreateOrder { order: order + 1 }).await?;
//! receipt.handled().await?;
//! engine.stop(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! | to | take |
//! |---|---|
//! | define messages | [`derive@Command`], [`derive@Event`], [`Message`], [`StreamKey`], [`Upcast`] |
//! | handle them | [`Receptor`], [`PlainReceptor`], [`Context`], [`Failure`], [`dispatcher!`] |
//! | keep state per stream | [`Projection`], [`Context::load`], [`Context::save`] |
//! | start and stop | [`Engine::builder`], [`Options`], [`Engine::stop`], [`Health`] |
//! | call a receptor now | [`Engine::invoke`], or `dispatcher.invoke` without any engine |
//! | send and publish | [`Engine::send`], [`Engine::publish`], [`Engine::send_all`], [`Engine::send_once`], [`Engine::publisher`] |
//! | know what became of it | [`Receipt`], [`Handled`], [`Engine::reader`] |
//! | operate | [`Engine::requeue`], [`Engine::discard`], [`Engine::pause`], [`Engine::resume`] |
//!
//! Tracing events and metrics carry the design's words: `exchange`, `receive`, `settle`; `whizbang_exchanges_total`,
//! `whizbang_messages_stored_total`, `whizbang_units_total`, `whizbang_exchange_seconds`,
//! `whizbang_exchange_failures_total`, `whizbang_messages_in_flight`.
#![forbid(unsafe_code)]

// The macros write `::whizbang` paths, also in this crate's own tests.
#[cfg(test)]
extern crate self as whizbang;

// What a message is, and what may be done with it.
pub mod codec;
pub mod message;

pub mod dispatch;

mod context;
mod failure;
mod projection;
mod unit;

// Its path: in, through an exchange, to its handler, and back.
mod engine;
mod options;
mod publisher;
mod send;

mod door;
mod intake;

mod assemble;
mod exchange;
mod pump;

mod deliver;
mod handout;

mod lanes;
mod own;
mod receive;
mod settle;
mod waiting;

mod receipt;
mod replies;

// What the pump decides, without input or output.
mod agenda;
mod conflicts;
mod flows;
mod handover;
mod ranges;
mod room;

mod operate;
mod reader;
mod shared;

mod host;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;

pub use context::{Cancel, Cancellation, Context};
pub use dispatch::{Dispatcher, HasOneReceptorIn, PlainReceptor, Receptor, ReceptorOptions};
pub use engine::{Builder, Durability, Engine, InvokeError, NoStorage, StartError};
pub use failure::{Failure, Verdict};
pub use message::{
    Command, Event, HeaderError, Headers, HeadersView, Message, Metadata, MetadataError, StreamKey,
    TraceParent, TraceParentError, Upcast,
};
pub use operate::OperationError;
pub use options::{OptionError, Options};
pub use projection::{Loader, Projection, ProjectionError, ProjectionSource, Projections};
pub use publisher::Publisher;
pub use pump::Stopped;
pub use reader::AnyReader;
pub use receipt::{Handled, Receipt};
pub use replies::Refused;
pub use send::{Accepted, NotStored, SendError, Ticket};
pub use shared::{Health, State, StorageAway};
pub use unit::{EmitError, EmitOptions, Unit, UnitFormatError, UnitView};
pub use whizbang_macros::{Command, Event, dispatcher};
pub use whizbang_storage::{
    ContentType, CorrelationId, DeadLetter, DeadReason, InstanceId, Limits, MemoryStore, MessageId,
    MessageKind, OnDead, ParkedKey, Service, StartAt, StoreReader, StreamId, Version,
};
