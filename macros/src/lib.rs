//! Derives for messages, and the dispatcher table. Use them through the `whizbang` crate, which documents the traits that
//! they implement; everything written here can also be written by hand.
#![forbid(unsafe_code)]

mod dispatcher;
mod message;
mod name;
mod options;
mod routing;

use proc_macro::TokenStream;

/// Implements `Message` and `Command`.
///
/// ```ignore
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "orders.create", version = 1, reply = OrderNumber)]
/// struct CreateOrder {
///     #[stream]
///     customer: String,
/// }
/// ```
///
/// | in `#[message(…)]` | |
/// |---|---|
/// | `name = "orders.create"` | the wire name; it never changes |
/// | `version = 1` | the version of the type's shape |
/// | `reply = OrderNumber` | what its receptor answers; `()` when left out |
/// | `codec = postcard` | how it is encoded; `json` when left out |
/// | `upcast_from = CreateOrderV1` | also reads what was stored by an older version, through `Upcast` |
///
/// `#[stream]` stands on the field that names the message's stream: a `StreamId`, a string, an integer, bytes, or any
/// `StreamKey`.
#[proc_macro_derive(Command, attributes(message, stream))]
pub fn derive_command(input: TokenStream) -> TokenStream {
    derive(input, message::Kind::Command)
}

/// Implements `Message` and `Event`.
///
/// ```ignore
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[message(name = "orders.created", version = 1)]
/// struct OrderCreated {
///     #[stream]
///     order: u64,
/// }
/// ```
///
/// `#[message(…)]` takes what it takes for a command, without `reply`. An event that several receptors of one subscription
/// handle is `Clone`.
#[proc_macro_derive(Event, attributes(message, stream))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    derive(input, message::Kind::Event)
}

/// Declares what a service handles: a struct of receptors, and one line per message.
///
/// ```ignore
/// dispatcher! {
///     pub struct Shop {
///         orders: Orders,
///         mailer: Mailer,
///         totals: Totals,
///     }
///
///     command CreateOrder => orders;
///     command ChargeCard => orders with { attempts_max: 3, deadline: Duration::from_secs(5) };
///     event OrderCreated => mailer;
///     event OrderSeen =>;
///
///     subscription "totals" with { on_dead: OnDead::Halt } {
///         event OrderCreated => totals;
///     }
/// }
/// ```
///
/// - The struct is an ordinary one: make it with `Shop { orders, mailer, totals }`. It may be generic.
/// - A command has exactly one receptor. An event may have several, separated by commas, which run one after the other in
///   one unit; or none, when it is only published.
/// - A `subscription` reads the log by itself: when it fails or lags behind, nobody else waits. What stands outside of one
///   is in the subscription `"receptors"`.
/// - `with { … }` behind receptors sets fields of `ReceptorOptions`, behind a subscription's name `start` and `on_dead`.
///
/// The struct gets `invoke`, `invoke_with`, `invoke_now` and `invoke_now_with`, and implements `Dispatcher`, and
/// `HasOneReceptorIn` for each of its commands.
#[proc_macro]
pub fn dispatcher(input: TokenStream) -> TokenStream {
    let table = syn::parse_macro_input!(input as dispatcher::Table);
    dispatcher::expand(&table).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn derive(input: TokenStream, kind: message::Kind) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    message::expand(&input, kind).unwrap_or_else(syn::Error::into_compile_error).into()
}
