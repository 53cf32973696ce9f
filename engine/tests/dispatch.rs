//! The dispatcher table: direct calls, and the routing of stored messages.

#![allow(clippy::multiple_bound_locations, reason = "a table may be written so, and must work")]

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whizbang::codec::DecodeError;
use whizbang::dispatch::{Handed, Kind, Routed};
use whizbang::{
    Command, Context, Dispatcher, EmitError, Event, Failure, Message, OnDead, PlainReceptor, Receptor,
    ReceptorOptions, StartAt, Unit, Verdict, dispatcher,
};

mod common;
use common::stored;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1, reply = u64)]
struct CreateOrder {
    #[stream]
    customer: String,
    amount: u64,
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[message(name = "sums.add", version = 1, reply = u64, codec = postcard)]
struct Add(u64, u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated {
    #[stream]
    order: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "sums.added", version = 1)]
struct Added {
    sum: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "orders.seen", version = 1)]
struct OrderSeen;

/// Writes down what it is given; async, and waits once.
#[derive(Default)]
struct Orders {
    log: Mutex<Vec<String>>,
}

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, order: CreateOrder, mut cx: Context<'_>) -> Result<u64, Failure> {
        tokio::task::yield_now().await;
        if order.amount == 0 {
            return Err(Failure::dead("nothing was ordered"));
        }
        self.log.lock().unwrap().push(format!("create {}", order.amount));
        cx.publish(&OrderCreated { order: order.amount })?;
        Ok(order.amount * 2)
    }
}

impl Receptor<OrderCreated> for Orders {
    async fn receive(&self, event: OrderCreated, mut cx: Context<'_>) -> Result<(), Failure> {
        tokio::task::yield_now().await;
        self.log.lock().unwrap().push(format!("created {}", event.order));
        cx.publish(&Added { sum: 1 })?;
        Ok(())
    }
}

/// Plain.
#[derive(Default)]
struct Sums {
    log: Mutex<Vec<String>>,
}

impl PlainReceptor<Add> for Sums {
    fn receive_now(&self, Add(left, right): Add, mut cx: Context<'_>) -> Result<u64, Failure> {
        let sum = left.checked_add(right).ok_or_else(|| Failure::dead("the sum is too large"))?;
        if cx.message_id().is_some() {
            cx.publish(&Added { sum })?;
        }
        Ok(sum)
    }
}

impl PlainReceptor<Added> for Sums {
    fn receive_now(&self, event: Added, _: Context<'_>) -> Result<(), Failure> {
        self.log.lock().unwrap().push(format!("first {}", event.sum));
        if event.sum == 13 { Err(Failure::msg("thirteen")) } else { Ok(()) }
    }
}

impl PlainReceptor<OrderCreated> for Sums {
    fn receive_now(&self, event: OrderCreated, mut cx: Context<'_>) -> Result<(), Failure> {
        self.log.lock().unwrap().push(format!("created {}", event.order));
        cx.publish(&Added { sum: 2 })?;
        Ok(())
    }
}

#[derive(Default)]
struct Audit {
    log: Mutex<Vec<String>>,
}

impl PlainReceptor<Added> for Audit {
    fn receive_now(&self, event: Added, _: Context<'_>) -> Result<(), Failure> {
        self.log.lock().unwrap().push(format!("second {}", event.sum));
        Ok(())
    }
}

impl PlainReceptor<OrderCreated> for Audit {
    fn receive_now(&self, event: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
        self.log.lock().unwrap().push(format!("total {}", event.order));
        Ok(())
    }
}

dispatcher! {
    /// Everything this test handles.
    #[derive(Default)]
    struct Shop {
        orders: Orders,
        sums: Sums,
        audit: Audit,
    }

    command CreateOrder => orders with { attempts_max: 3, deadline: Duration::from_secs(5) };
    command Add => sums;
    event OrderCreated => orders, sums;
    event OrderSeen =>;

    subscription "totals" with { on_dead: OnDead::Halt, start: StartAt::End } {
        event OrderCreated => audit;
        event Added => sums, audit with { attempts_max: 25 };
    }
}

const RECEPTORS: usize = 0;
const TOTALS: usize = 1;

fn kind_of<M: Message>() -> Kind {
    Shop::resolve(M::NAME).expect("it is in the table")
}

/// Routes a message as an engine does, and drives what has to be awaited.
async fn route<M: Message>(
    shop: &Shop,
    subscription: usize,
    message: &M,
    unit: &mut Unit,
) -> Result<&'static str, Failure> {
    let stored = stored(message);
    unit.begin(&stored.handed(), None)?;
    match shop.route(subscription, kind_of::<M>(), &stored.handed(), Context::collecting(unit)) {
        Routed::NotWanted => Ok("not wanted"),
        Routed::Undecodable(error) => Err(error.into()),
        Routed::Done(result) => result.map(|()| "done"),
        Routed::Running(future) => future.await.map(|()| "ran"),
    }
}

#[tokio::test]
async fn a_command_is_called_directly_and_replies() {
    let shop = Shop::default();
    assert_eq!(shop.invoke(Add(2, 3)).await.unwrap(), 5);
    assert_eq!(shop.invoke_now(Add(2, 3)).unwrap(), 5);
    let failure = shop.invoke(Add(u64::MAX, 1)).await.unwrap_err();
    assert_eq!((failure.verdict(), failure.to_string().as_str()), (Verdict::Dead, "the sum is too large"));
}

#[tokio::test]
async fn without_an_engine_a_receptor_that_publishes_fails_and_says_why() {
    let shop = Shop::default();
    let failure = shop.invoke(CreateOrder { customer: "ann".into(), amount: 4 }).await.unwrap_err();
    assert!(matches!(failure.downcast_ref(), Some(EmitError::NoEngine { name: "orders.created" })));
    assert!(failure.to_string().starts_with("no engine: `orders.created` cannot be stored"), "{failure}");
}

#[tokio::test]
async fn a_unit_of_ones_own_collects_what_a_receptor_publishes() {
    let shop = Shop::default();
    let mut unit = Unit::default();
    let reply = shop.invoke_with(CreateOrder { customer: "ann".into(), amount: 4 }, &mut unit).await.unwrap();
    assert_eq!(reply, 8);
    assert_eq!(unit.emitted::<OrderCreated>().unwrap(), [OrderCreated { order: 4 }]);
    assert_eq!(shop.invoke_now_with(Add(1, 1), &mut unit).unwrap(), 2);
}

#[test]
fn an_invocation_does_nothing_until_it_is_polled() {
    struct Counts(Mutex<u32>);
    impl PlainReceptor<Add> for Counts {
        fn receive_now(&self, _: Add, _: Context<'_>) -> Result<u64, Failure> {
            *self.0.lock().unwrap() += 1;
            Ok(0)
        }
    }
    dispatcher! {
        struct App { counts: Counts }
        command Add => counts;
    }
    let app = App { counts: Counts(Mutex::new(0)) };
    drop(app.invoke(Add(1, 1)));
    assert_eq!(*app.counts.0.lock().unwrap(), 0);
    let poll = pin!(app.invoke(Add(1, 1))).poll(&mut std::task::Context::from_waker(Waker::noop()));
    assert!(matches!(poll, Poll::Ready(Ok(0))));
    assert_eq!(*app.counts.0.lock().unwrap(), 1);
}

#[test]
fn the_table_says_what_it_knows() {
    let known: Vec<_> = Shop::TYPES.iter().map(|known| (known.name, known.version_max)).collect();
    assert_eq!(
        known,
        [("orders.create", 1), ("sums.add", 1), ("orders.created", 1), ("orders.seen", 1), ("sums.added", 1)]
    );
    let [receptors, totals] = Shop::SUBSCRIPTIONS else { panic!("{:?}", Shop::SUBSCRIPTIONS) };
    assert_eq!(
        (receptors.name, receptors.start, receptors.on_dead),
        ("receptors", StartAt::First, OnDead::Skip)
    );
    assert_eq!((totals.name, totals.start, totals.on_dead), ("totals", StartAt::End, OnDead::Halt));
    assert_eq!((receptors.attempts_max, totals.attempts_max), (10, 25));
}

#[test]
fn a_subscription_wants_what_it_has_a_receptor_for() {
    let options = Shop::options(RECEPTORS, kind_of::<CreateOrder>()).unwrap();
    let expected =
        ReceptorOptions { attempts_max: 3, deadline: Duration::from_secs(5), ..ReceptorOptions::DEFAULT };
    assert_eq!(*options, expected);
    assert_eq!(Shop::options(RECEPTORS, kind_of::<Add>()), Some(&ReceptorOptions::DEFAULT));
    assert_eq!(Shop::options(TOTALS, kind_of::<CreateOrder>()), None);
    assert_eq!(Shop::options(RECEPTORS, kind_of::<OrderSeen>()), None, "known, and nobody's");
    assert_eq!(Shop::options(2, kind_of::<Add>()), None);
    assert_eq!(Shop::options(RECEPTORS, Kind(99)), None);
    assert_eq!(Shop::resolve("orders.delete"), None);
}

#[tokio::test]
async fn stored_messages_find_their_receptors() {
    let shop = Shop::default();
    let mut unit = Unit::default();
    let order = CreateOrder { customer: "ann".into(), amount: 4 };
    assert_eq!(route(&shop, RECEPTORS, &order, &mut unit).await.unwrap(), "ran");
    assert_eq!(unit.emitted::<OrderCreated>().unwrap(), [OrderCreated { order: 4 }]);

    assert_eq!(route(&shop, RECEPTORS, &Add(3, 4), &mut unit).await.unwrap(), "done", "plain ones have run");
    assert_eq!(unit.emitted::<Added>().unwrap()[0].sum, 7);

    assert_eq!(route(&shop, TOTALS, &order, &mut unit).await.unwrap(), "not wanted");
    assert_eq!(route(&shop, RECEPTORS, &OrderSeen, &mut unit).await.unwrap(), "not wanted");
    assert_eq!(route(&shop, 7, &order, &mut unit).await.unwrap(), "not wanted");
}

#[tokio::test]
async fn several_receptors_of_an_event_run_in_order_and_share_a_unit() {
    let shop = Shop::default();
    let mut unit = Unit::default();
    assert_eq!(route(&shop, RECEPTORS, &OrderCreated { order: 9 }, &mut unit).await.unwrap(), "ran");
    assert_eq!(*shop.orders.log.lock().unwrap(), ["created 9"]);
    assert_eq!(*shop.sums.log.lock().unwrap(), ["created 9"]);
    let sums: Vec<u64> = unit.emitted::<Added>().unwrap().iter().map(|added| added.sum).collect();
    assert_eq!(sums, [1, 2], "the async one first, as the line says");

    assert_eq!(route(&shop, TOTALS, &OrderCreated { order: 9 }, &mut unit).await.unwrap(), "done");
    assert_eq!(*shop.audit.log.lock().unwrap(), ["total 9"]);

    assert_eq!(
        route(&shop, TOTALS, &Added { sum: 1 }, &mut unit).await.unwrap(),
        "done",
        "all of them are plain"
    );
    assert_eq!(*shop.sums.log.lock().unwrap(), ["created 9", "first 1"]);
    assert_eq!(*shop.audit.log.lock().unwrap(), ["total 9", "second 1"]);
}

#[tokio::test]
async fn after_a_receptor_failed_the_next_one_does_not_run() {
    let shop = Shop::default();
    let failure = route(&shop, TOTALS, &Added { sum: 13 }, &mut Unit::default()).await.unwrap_err();
    assert_eq!(failure.to_string(), "thirteen");
    assert!(shop.audit.log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failure_of_a_stored_message_keeps_its_verdict() {
    let order = CreateOrder { customer: "ann".into(), amount: 0 };
    let failure = route(&Shop::default(), RECEPTORS, &order, &mut Unit::default()).await.unwrap_err();
    assert_eq!(failure.verdict(), Verdict::Dead);
}

#[test]
fn what_cannot_be_decoded_is_said_before_any_receptor_runs() {
    let shop = Shop::default();
    let mut unit = Unit::default();
    let good = stored(&CreateOrder { customer: "ann".into(), amount: 1 });
    let kind = kind_of::<CreateOrder>();
    let mut error_of =
        |handed: &Handed<'_>| match shop.route(RECEPTORS, kind, handed, Context::collecting(&mut unit)) {
            Routed::Undecodable(error) => error,
            _ => panic!("it was taken for a good one"),
        };
    let broken = Handed { payload: b"{", ..good.handed() };
    assert!(matches!(error_of(&broken), DecodeError::Payload { name: "orders.create", .. }));
    let newer = Handed { type_version: 2, ..good.handed() };
    assert!(matches!(error_of(&newer), DecodeError::TooNew { version: 2, newest: 1, .. }));
    let older = Handed { type_version: 0, ..good.handed() };
    assert!(matches!(error_of(&older), DecodeError::TooOld { version: 0, oldest: 1, .. }));
}

#[test]
fn what_runs_is_no_larger_than_its_largest_receptor() {
    struct Large;
    impl Receptor<OrderCreated> for Large {
        async fn receive(&self, _: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
            let large = [7_u8; 1_000];
            tokio::task::yield_now().await;
            std::hint::black_box(&large);
            Ok(())
        }
    }
    struct Small;
    impl Receptor<Added> for Small {
        async fn receive(&self, _: Added, _: Context<'_>) -> Result<(), Failure> {
            Ok(())
        }
    }
    struct Wide;
    impl PlainReceptor<OrderSeen> for Wide {
        fn receive_now(&self, _: OrderSeen, _: Context<'_>) -> Result<(), Failure> {
            let large = [7_u8; 100_000];
            std::hint::black_box(&large);
            Ok(())
        }
    }
    dispatcher! {
        struct App { large: Large, small: Small, wide: Wide }
        event OrderCreated => large;
        event Added => small;
        event OrderSeen => wide;
    }
    fn running_bytes<F>(routed: &Routed<F>) -> usize {
        assert!(matches!(routed, Routed::Running(_)));
        size_of::<F>()
    }
    let app = App { large: Large, small: Small, wide: Wide };
    let largest = size_of_val(&Large.receive(OrderCreated { order: 1 }, Context::none()));
    let small = stored(&Added { sum: 1 });
    let kind = App::resolve("sums.added").unwrap();
    let running = running_bytes(&app.route(0, kind, &small.handed(), Context::none()));
    assert!(largest > 1_000);
    assert!(running <= largest + 16, "{running} bytes for at most {largest}");
}

/// A table may be generic over what its receptors need.
mod generic {
    use super::*;

    trait Clock: Send + Sync + 'static {
        fn hour(&self) -> u64;
    }

    struct Fixed(u64);
    impl Clock for Fixed {
        fn hour(&self) -> u64 {
            self.0
        }
    }

    struct Hours<C>(C);
    impl<C: Clock> Receptor<Add> for Hours<C> {
        async fn receive(&self, add: Add, _: Context<'_>) -> Result<u64, Failure> {
            Ok(self.0.hour() + add.0)
        }
    }

    dispatcher! {
        struct App<C, const N: usize>
        where
            C: Clock + Clone,
        {
            hours: Hours<C>,
        }
        command Add => hours;
    }

    impl Clone for Fixed {
        fn clone(&self) -> Self {
            Self(self.0)
        }
    }

    #[tokio::test]
    async fn a_generic_table_is_called_and_routed() {
        let app = App::<_, 3> { hours: Hours(Fixed(7)) };
        assert_eq!(app.invoke(Add(1, 0)).await.unwrap(), 8);
        let add = stored(&Add(1, 0));
        let kind = App::<Fixed, 3>::resolve("sums.add").unwrap();
        match app.route(0, kind, &add.handed(), Context::none()) {
            Routed::Running(future) => future.await.unwrap(),
            _ => panic!("an async receptor is awaited"),
        }
    }
}

#[test]
fn a_table_without_receptors_wants_nothing() {
    dispatcher! {
        struct App {}
        event OrderSeen =>;
    }
    let seen = stored(&OrderSeen);
    let kind = App::resolve("orders.seen").unwrap();
    assert!(matches!(App {}.route(0, kind, &seen.handed(), Context::none()), Routed::NotWanted));
    dispatcher! {
        struct Empty {}
    }
    assert!(Empty::TYPES.is_empty());
    assert_eq!(Empty::resolve("orders.seen"), None);
}

#[test]
fn lines_for_receptors_may_also_stand_in_a_block_of_that_name() {
    dispatcher! {
        #[derive(Default)]
        struct App { audit: Audit, sums: Sums }
        event OrderCreated => audit;
        subscription "receptors" with { on_dead: OnDead::Halt } {
            event Added => audit;
            command Add => sums;
        }
    }
    let [receptors] = App::SUBSCRIPTIONS else { panic!("one subscription") };
    assert_eq!(receptors.on_dead, OnDead::Halt);
    assert!(App::options(0, App::resolve("sums.added").unwrap()).is_some());
}

/// A table may be written by another macro.
mod inside_a_macro {
    use super::*;

    macro_rules! service {
        ($name:ident { $($field:ident: $receptor:ty),* } $($message:ty => $to:ident),*) => {
            dispatcher! {
                #[derive(Default)]
                struct $name { $($field: $receptor),* }
                $(event $message => $to;)*
                subscription "both" {
                    $(event $message => $to, other;)*
                }
            }
        };
    }
    service!(App { sums: Sums, other: Audit } Added => sums);

    #[test]
    fn it_is_the_same_table() {
        let app = App::default();
        let added = stored(&Added { sum: 4 });
        let kind = App::resolve("sums.added").unwrap();
        for subscription in [0, 1] {
            let routed = app.route(subscription, kind, &added.handed(), Context::none());
            assert!(matches!(routed, Routed::Done(Ok(()))));
        }
        assert_eq!((app.sums.log.lock().unwrap().len(), app.other.log.lock().unwrap().len()), (2, 1));
    }
}

/// What a service shows of itself may be public while its receptors stay private.
pub mod public {
    use super::*;

    /// Public, as its table.
    #[derive(Serialize, Deserialize, Command)]
    #[message(name = "orders.ship", version = 1)]
    pub struct ShipOrder;

    /// Public, and plain.
    #[derive(Serialize, Deserialize, Command)]
    #[message(name = "orders.weigh", version = 1, reply = u64)]
    pub struct WeighOrder;

    #[derive(Default)]
    struct Shipping;

    impl Receptor<ShipOrder> for Shipping {
        async fn receive(&self, _: ShipOrder, _: Context<'_>) -> Result<(), Failure> {
            Ok(())
        }
    }

    impl PlainReceptor<WeighOrder> for Shipping {
        fn receive_now(&self, _: WeighOrder, _: Context<'_>) -> Result<u64, Failure> {
            Ok(3)
        }
    }

    dispatcher! {
        /// Public.
        #[derive(Default)]
        pub struct Warehouse { shipping: Shipping }
        command ShipOrder => shipping;
        command WeighOrder => shipping;
    }

    #[tokio::test]
    async fn its_receptors_are_called() {
        let warehouse = Warehouse::default();
        warehouse.invoke(ShipOrder).await.unwrap();
        assert_eq!(warehouse.invoke_now(WeighOrder).unwrap(), 3);
    }
}
