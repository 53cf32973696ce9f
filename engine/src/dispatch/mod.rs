//! Who handles what: receptors, and the table that is known while compiling.
//!
//! The table is declared once, with [`dispatcher!`](crate::dispatcher):
//!
//! ```
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Serialize};
//! use whizbang::{Command, Context, Event, Failure, OnDead, PlainReceptor, Receptor, dispatcher};
//!
//! #[derive(Serialize, Deserialize, Command)]
//! #[message(name = "orders.create", version = 1, reply = u64)]
//! struct CreateOrder {
//!     customer: String,
//! }
//!
//! #[derive(Clone, Serialize, Deserialize, Event)]
//! #[message(name = "orders.created", version = 1)]
//! struct OrderCreated {
//!     #[stream]
//!     order: u64,
//! }
//!
//! struct Orders;
//! struct Mailer;
//! struct Totals;
//!
//! impl Receptor<CreateOrder> for Orders {
//!     async fn receive(&self, command: CreateOrder, mut cx: Context<'_>) -> Result<u64, Failure> {
//!         let order = command.customer.len() as u64;
//!         cx.publish(&OrderCreated { order })?;
//!         Ok(order)
//!     }
//! }
//! impl Receptor<OrderCreated> for Mailer {
//!     async fn receive(&self, event: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
//!         Ok(println!("order {} is confirmed", event.order))
//!     }
//! }
//! impl PlainReceptor<OrderCreated> for Totals {
//!     fn receive_now(&self, event: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
//!         Ok(println!("order {} is counted", event.order))
//!     }
//! }
//!
//! dispatcher! {
//!     pub struct Shop {
//!         orders: Orders,
//!         mailer: Mailer,
//!         totals: Totals,
//!     }
//!
//!     command CreateOrder => orders with { deadline: Duration::from_secs(5) };
//!     event OrderCreated => mailer;
//!
//!     subscription "totals" with { on_dead: OnDead::Halt } {
//!         event OrderCreated => totals;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Failure> {
//! let shop = Shop { orders: Orders, mailer: Mailer, totals: Totals };
//! let mut unit = whizbang::Unit::default();
//! assert_eq!(shop.invoke_with(CreateOrder { customer: "ann".into() }, &mut unit).await?, 3);
//! # Ok(())
//! # }
//! ```
//!
//! What it writes can be written by hand; a table of one command is this:
//!
//! ```
//! # use std::future::Future;
//! # use serde::{Deserialize, Serialize};
//! # use whizbang::{Command, Context, Failure, HasOneReceptorIn, Message, OnDead, Receptor, ReceptorOptions, StartAt};
//! use whizbang::dispatch::{Dispatcher, Handed, Kind, KnownType, Routed, SubscriptionSpec};
//! # #[derive(Serialize, Deserialize, Command)]
//! # #[message(name = "orders.create", version = 1, reply = u64)]
//! # struct CreateOrder { customer: String }
//! # struct Orders;
//! # impl Receptor<CreateOrder> for Orders {
//! #     async fn receive(&self, command: CreateOrder, _: Context<'_>) -> Result<u64, Failure> {
//! #         Ok(command.customer.len() as u64)
//! #     }
//! # }
//!
//! struct Shop {
//!     orders: Orders,
//! }
//!
//! impl HasOneReceptorIn<Shop> for CreateOrder {
//!     fn receive_in(self, shop: &Shop, cx: Context<'_>) -> impl Future<Output = Result<u64, Failure>> + Send {
//!         shop.orders.receive(self, cx)
//!     }
//! }
//!
//! impl Dispatcher for Shop {
//!     const SUBSCRIPTIONS: &'static [SubscriptionSpec<'static>] = &[SubscriptionSpec {
//!         name: "receptors",
//!         start: StartAt::First,
//!         on_dead: OnDead::Skip,
//!         attempts_max: 10,
//!     }];
//!     const TYPES: &'static [KnownType<'static>] =
//!         &[KnownType { name: CreateOrder::NAME, version_max: CreateOrder::VERSION }];
//!
//!     fn resolve(type_name: &str) -> Option<Kind> {
//!         (type_name == CreateOrder::NAME).then_some(Kind(0))
//!     }
//!
//!     fn options(subscription: usize, kind: Kind) -> Option<&'static ReceptorOptions> {
//!         (subscription == 0 && kind == Kind(0)).then_some(&ReceptorOptions::DEFAULT)
//!     }
//!
//!     fn route<'a>(
//!         &'a self,
//!         subscription: usize,
//!         kind: Kind,
//!         message: &Handed<'_>,
//!         cx: Context<'a>,
//!     ) -> Routed<impl Future<Output = Result<(), Failure>> + Send + use<'a>> {
//!         if Self::options(subscription, kind).is_none() {
//!             return Routed::NotWanted;
//!         }
//!         // With several receptors this is a `match`, and `Running` holds an enum with a variant for each: `OneOf`.
//!         match CreateOrder::decode(message.type_version, message.content_type, message.payload) {
//!             Ok(command) => Routed::Running(async move { self.orders.receive(command, cx).await.map(drop) }),
//!             Err(error) => Routed::Undecodable(error),
//!         }
//!     }
//! }
//! # assert_eq!(Shop::resolve("orders.create"), Some(Kind(0)));
//! ```

mod checks;
mod names;
mod one_of;
mod receptor;
mod retry;
mod routed;

use std::future::Future;

// What a table is made of, for those who write one.
pub use whizbang_storage::{Handed, KnownType, SubscriptionSpec};

pub use self::checks::{
    assert_command, assert_event, copy_for_next_receptor, decode, is_plain_receptor, receive_plain,
};
pub use self::names::{NameTable, NamedType, assert_unique};
pub use self::one_of::OneOf;
pub use self::receptor::{Async, Plain, PlainReceptor, Receives, Receptor};
pub use self::retry::{ReceptorOptions, attempts_max_of};
pub use self::routed::{Never, Routed, Started, WithoutReply};
use crate::context::Context;
use crate::failure::Failure;
use crate::message::Command;

/// Everything a service handles, known while compiling: [`dispatcher!`](crate::dispatcher) writes the implementation.
///
/// An engine asks three things of a message that a store hands out, in this order: [`resolve`](Self::resolve) its name,
/// whether a subscription wants it ([`options`](Self::options)), and to [`route`](Self::route) it.
pub trait Dispatcher: Send + Sync + 'static {
    /// The named readers of the log. The receptors outside of any `subscription` are the one called `"receptors"`.
    const SUBSCRIPTIONS: &'static [SubscriptionSpec<'static>];

    /// The types it knows, in the order of their [`Kind`].
    const TYPES: &'static [KnownType<'static>];

    /// The number of a type by its wire name; `None` when this program does not know it.
    fn resolve(type_name: &str) -> Option<Kind>;

    /// How this subscription handles this type: by its place in [`SUBSCRIPTIONS`](Self::SUBSCRIPTIONS). `None` when it has
    /// no receptor for it: then there is nothing to do, and the message is plainly done.
    fn options(subscription: usize, kind: Kind) -> Option<&'static ReceptorOptions>;

    /// Gives a message to the receptors that this subscription has for it, one after the other.
    ///
    /// Plain receptors have run when this returns; otherwise a future has to be awaited. `kind` is what
    /// [`resolve`](Self::resolve) said of the message's type.
    ///
    /// # Panics
    /// A plain receptor that panics does so in here; an async one in the future.
    fn route<'a>(
        &'a self,
        subscription: usize,
        kind: Kind,
        message: &Handed<'_>,
        cx: Context<'a>,
    ) -> Routed<impl Future<Output = Result<(), Failure>> + Send + use<'a, Self>>;
}

/// The number of a message type within one dispatcher: 0, 1, 2 … in the order of [`Dispatcher::TYPES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

/// A command for which the dispatcher `D` has its one receptor: what `invoke` and `engine.send` ask for.
///
/// [`dispatcher!`](crate::dispatcher) writes it for each of its `command` lines. A second line for the same command would
/// be a second implementation, which is a compile error.
#[diagnostic::on_unimplemented(
    message = "no receptor of `{D}` handles the command `{Self}`",
    label = "`{D}` has no receptor for this command",
    note = "add a line to the `dispatcher!` that declares `{D}`: `command {Self} => <the field of its receptor>;`"
)]
pub trait HasOneReceptorIn<D>: Command {
    /// Calls the receptor: what comes back is its own future.
    fn receive_in(
        self,
        dispatcher: &D,
        cx: Context<'_>,
    ) -> impl Future<Output = Result<Self::Reply, Failure>> + Send;
}

/// A command whose one receptor in `D` is a [`PlainReceptor`]: what `invoke_now` asks for.
///
/// [`dispatcher!`](crate::dispatcher) writes it for each of its `command` lines; it holds for the plain ones.
#[diagnostic::on_unimplemented(
    message = "no plain receptor of `{D}` handles the command `{Self}`",
    label = "`{D}` has no plain receptor for this command",
    note = "add a line to the `dispatcher!` that declares `{D}`: `command {Self} => <the field of its receptor>;`"
)]
pub trait HasOnePlainReceptorIn<D>: HasOneReceptorIn<D> {
    /// Calls the receptor, which never waits.
    ///
    /// # Errors
    /// What the receptor returns.
    fn receive_now_in(self, dispatcher: &D, cx: Context<'_>) -> Result<Self::Reply, Failure>;
}
