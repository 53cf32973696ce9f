//! Handlers of messages, in two forms: async, and plain for those that never wait.

use std::future::Future;

use super::routed::{Never, Started};
use crate::context::Context;
use crate::failure::Failure;
use crate::message::Message;

/// Handles messages of one type. One value may be the receptor of several types.
///
/// Write a plain `async fn`. Return `Ok` when the message is handled; any error means that it will be tried again, see
/// [`Failure`]. Receptors run for several messages at the same time, so they have `&self`; messages of one stream come one
/// at a time, in order.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use whizbang::{Command, Context, Failure, Receptor};
///
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "greetings.greet", version = 1, reply = String)]
/// struct Greet {
///     name: String,
/// }
///
/// struct Greeter;
///
/// impl Receptor<Greet> for Greeter {
///     async fn receive(&self, greet: Greet, _: Context<'_>) -> Result<String, Failure> {
///         Ok(format!("Hello, {}!", greet.name))
///     }
/// }
/// ```
///
/// # Cancel safety
/// A receptor over its deadline is dropped at an `.await`, and nothing of its unit exists then. What it did outside of the
/// store stays done, and is done again with the next attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not receive `{M}`",
    label = "no receptor for `{M}`",
    note = "write `impl Receptor<{M}> for {Self} {{ async fn receive(&self, message: {M}, cx: Context<'_>) -> Result<…, Failure> {{ … }} }}`"
)]
pub trait Receptor<M: Message>: Send + Sync + 'static {
    /// Handles one message.
    fn receive(&self, message: M, cx: Context<'_>) -> impl Future<Output = Result<M::Reply, Failure>> + Send;
}

/// Handles messages of one type without ever waiting: for receptors that only compute.
///
/// It is called where the message is routed, without a future. It must not block: it runs on the caller's task.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use whizbang::{Command, Context, Failure, PlainReceptor};
///
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "sums.add", version = 1, reply = u64)]
/// struct Add(u64, u64);
///
/// struct Sums;
///
/// impl PlainReceptor<Add> for Sums {
///     fn receive_now(&self, Add(left, right): Add, _: Context<'_>) -> Result<u64, Failure> {
///         left.checked_add(right).ok_or_else(|| Failure::dead("the sum is too large"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a plain receptor of `{M}`",
    label = "this receptor is async, or does not receive `{M}`",
    note = "only plain receptors answer without `.await`: use `invoke(…).await`, or write \
            `impl PlainReceptor<{M}> for {Self} {{ fn receive_now(&self, message: {M}, cx: Context<'_>) -> Result<…, Failure> {{ … }} }}`"
)]
pub trait PlainReceptor<M: Message>: Send + Sync + 'static {
    /// Handles one message.
    ///
    /// # Errors
    /// Any [`Failure`] says what should happen to the message.
    fn receive_now(&self, message: M, cx: Context<'_>) -> Result<M::Reply, Failure>;
}

/// Marks what receives through [`Receptor`].
#[derive(Debug, Clone, Copy)]
pub enum Async {}

/// Marks what receives through [`PlainReceptor`].
#[derive(Debug, Clone, Copy)]
pub enum Plain {}

/// Both forms of receptors under one name, told apart by `Form`, which the compiler finds out by itself.
///
/// Implemented for every [`Receptor`] and every [`PlainReceptor`]; a type is one of both for a message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not receive `{M}`",
    label = "not a receptor of `{M}`",
    note = "write `impl Receptor<{M}> for {Self} {{ async fn receive(&self, message: {M}, cx: Context<'_>) -> Result<…, Failure> {{ … }} }}`"
)]
pub trait Receives<M: Message, Form>: Send + Sync + 'static {
    /// Whether [`start`](Self::start) has done everything when it returns.
    const PLAIN: bool;

    /// Handles a message, and gives the reply.
    fn receive_any(
        &self,
        message: M,
        cx: Context<'_>,
    ) -> impl Future<Output = Result<M::Reply, Failure>> + Send;

    /// Handles a message of which nobody waits for the reply: at once if it is plain.
    fn start(
        &self,
        message: M,
        cx: Context<'_>,
    ) -> Started<impl Future<Output = Result<M::Reply, Failure>> + Send, M::Reply>;
}

impl<M: Message, R: Receptor<M>> Receives<M, Async> for R {
    const PLAIN: bool = false;

    #[inline(always)]
    fn receive_any(
        &self,
        message: M,
        cx: Context<'_>,
    ) -> impl Future<Output = Result<M::Reply, Failure>> + Send {
        self.receive(message, cx)
    }

    #[inline(always)]
    fn start(
        &self,
        message: M,
        cx: Context<'_>,
    ) -> Started<impl Future<Output = Result<M::Reply, Failure>> + Send, M::Reply> {
        Started::Running(self.receive(message, cx))
    }
}

impl<M: Message, R: PlainReceptor<M>> Receives<M, Plain> for R {
    const PLAIN: bool = true;

    #[inline(always)]
    async fn receive_any(&self, message: M, cx: Context<'_>) -> Result<M::Reply, Failure> {
        self.receive_now(message, cx)
    }

    #[inline(always)]
    fn start(
        &self,
        message: M,
        cx: Context<'_>,
    ) -> Started<impl Future<Output = Result<M::Reply, Failure>> + Send, M::Reply> {
        Started::<Never<M::Reply>, _>::Done(self.receive_now(message, cx))
    }
}
