//! The spine: messages from dispatch to settle, on the memory store.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Engine, Event, Failure, Handled, MemoryStore, PlainReceptor, Receptor, Service,
    dispatcher,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1, reply = u64)]
struct CreateOrder {
    #[stream]
    order: u64,
    number: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated {
    #[stream]
    order: u64,
    number: u32,
    note: String,
}

#[derive(Default)]
struct Orders {
    seen: Seen,
}

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, command: CreateOrder, mut cx: Context<'_>) -> Result<u64, Failure> {
        let CreateOrder { order, number } = command;
        self.seen.lock().push((order, number));
        cx.publish(&OrderCreated { order, number, note: "created".into() })?;
        Ok(order)
    }
}

#[derive(Default)]
struct Audit {
    seen: Seen,
}

impl PlainReceptor<OrderCreated> for Audit {
    fn receive_now(&self, event: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
        self.seen.lock().push((event.order, event.number));
        Ok(())
    }
}

dispatcher! {
    struct App { orders: Orders, audit: Audit }
    command CreateOrder => orders;
    event OrderCreated => audit;
}

type Seen = Arc<Mutex<Vec<(u64, u32)>>>;

fn app() -> (App, Seen, Seen) {
    let (orders, audit) = (Orders::default(), Audit::default());
    let (seen, audited) = (Arc::clone(&orders.seen), Arc::clone(&audit.seen));
    (App { orders, audit }, seen, audited)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_stored_handled_and_its_event_too() {
    let (app, seen, audited) = app();
    let engine =
        Engine::builder(app).storage(MemoryStore::new(Service::default()).unwrap()).start().await.unwrap();
    let receipt = engine.send(CreateOrder { order: 1, number: 7 }).await.unwrap();
    assert_eq!(receipt.handled().await.unwrap(), Handled::Done);
    assert_eq!(*seen.lock(), [(1, 7)]);
    let reply = engine.invoke(CreateOrder { order: 2, number: 8 }).await.unwrap();
    assert_eq!(reply, 2);
    let stopped = engine.stop(Duration::from_secs(5)).await;
    assert_eq!(stopped.cancelled, 0);
    assert!(stopped.all_durable);
    let mut audited = audited.lock().clone();
    audited.sort();
    assert_eq!(audited, [(1, 7), (2, 8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_stream_are_handled_in_order() {
    let (app, seen, audited) = app();
    let engine =
        Engine::builder(app).storage(MemoryStore::new(Service::default()).unwrap()).start().await.unwrap();
    let mut publisher = engine.publisher().unwrap();
    let mut last = None;
    for number in 0..20_000_u32 {
        last = Some(publisher.send(CreateOrder { order: u64::from(number % 50), number }).await.unwrap());
    }
    let receipt = engine.stored(last.unwrap()).await.unwrap();
    receipt.handled().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while audited.lock().len() < 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| {
        panic!("{:?} seen {} audited {}", engine.health(), seen.lock().len(), audited.lock().len())
    });
    for log in [seen.lock().clone(), audited.lock().clone()] {
        assert_eq!(log.len(), 20_000);
        for order in 0..50 {
            let numbers: Vec<u32> =
                log.iter().filter(|(of, _)| *of == order).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted(), "order {order} out of order");
        }
    }
    engine.stop(Duration::from_secs(5)).await;
}
