//! The small things that many operations contain: an id, a ready future, an answer that is there already, an event encoded.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use whizbang::{Context, Event, Message, Unit};
use whizbang_lockfree::ids::next_id;
use whizbang_lockfree::{Doorbell, DrainLimit, NoSink, RingsConfig, rings};

use crate::calls::ready;
use crate::rows::{CALLS, Floor, Ours, Rival, Table};

pub(crate) fn rows(table: &mut Table) {
    table.row("ids", "a new id, unique and in order", None, |row| {
        row.call(Ours, "next_id()", next_id);
        row.call(Rival, "Uuid::now_v7()", uuid::Uuid::now_v7);
    });
    table.row("ready-async", "an async function that does not wait", None, |row| {
        row.call(Ours, "awaited where it lies", || ready(add(black_box(1), black_box(2))));
        row.call(Floor, "the same, not async", || plain_add(black_box(1), black_box(2)));
        row.call(Rival, "boxed", || ready(boxed_add(black_box(1), black_box(2))));
    });
    table.row("malloc", "what a heap allocation costs here", None, |row| {
        row.call(Floor, "malloc and free of 64 bytes", || Box::new(black_box([0_u64; 8])));
    });
    table.row("receipt", "an answer that is there already", None, |row| {
        let (producers, mut consumer) =
            rings::<u64, NoSink>(RingsConfig::default(), &Doorbell::new()).expect("bounds that can be");
        let ticket = producers.try_push(1, b"payload").expect("there is room");
        consumer.drain(DrainLimit::NONE).finish();
        let looked = producers.clone();
        row.call(Ours, "await the ring's horizon", move || ready(producers.answered(black_box(ticket))));
        row.call(Ours, "ask whether the horizon has passed", move || looked.passed(black_box(ticket)));
        // It is only dropped: nothing is drained here any more.
        row.turn(Rival, "tokio oneshot: make, send, await", move |taken| {
            let _ends_with_the_row = &consumer;
            taken.take(CALLS, || {
                for _ in 0..CALLS {
                    let (sender, receiver) = oneshot::channel::<u64>();
                    let _ = sender.send(black_box(1));
                    let _ = black_box(ready(receiver));
                }
            });
        });
    });
    table.row("emit-postcard", "an event of 5 fields, published into a handler's unit", None, |row| {
        let event = black_box(Compact::example());
        let (mut unit, mut buffer) = (Unit::default(), Vec::with_capacity(1_024));
        row.call(Ours, "cx.publish(&event), postcard", move || {
            unit.clear();
            Context::collecting(&mut unit).publish(black_box(&event))
        });
        row.call(Floor, "encode it into a vector", move || {
            buffer.clear();
            black_box(&event).encode(&mut buffer)
        });
    });
    table.row("emit-json", "the same, as JSON", None, |row| {
        let event = black_box(Readable::example());
        let (mut unit, mut buffer) = (Unit::default(), Vec::with_capacity(1_024));
        row.call(Ours, "cx.publish(&event), JSON", move || {
            unit.clear();
            Context::collecting(&mut unit).publish(black_box(&event))
        });
        row.call(Floor, "encode it into a vector", move || {
            buffer.clear();
            black_box(&event).encode(&mut buffer)
        });
    });
    table.row("drain-nothing", "a look at rings in which nothing is", None, |row| {
        let (_, mut consumer) =
            rings::<u64, NoSink>(RingsConfig::default(), &Doorbell::new()).expect("bounds that can be");
        row.call(Ours, "drain of 8 seats, 4 stripes and 16 publishers' rings", move || {
            let batch = consumer.drain(DrainLimit::NONE);
            let is_empty = batch.is_empty();
            batch.finish();
            is_empty
        });
    });
}

#[inline(never)]
async fn add(left: u64, right: u64) -> u64 {
    left.wrapping_add(right)
}

#[inline(never)]
fn plain_add(left: u64, right: u64) -> u64 {
    left.wrapping_add(right)
}

#[inline(never)]
fn boxed_add(left: u64, right: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(add(left, right))
}

macro_rules! event {
    ($ty:ident $name:literal $codec:ident) => {
        #[derive(Clone, Copy, Serialize, Deserialize, Event)]
        #[message(name = $name, version = 1, codec = $codec)]
        struct $ty {
            #[stream]
            order: u64,
            customer: u64,
            cents: u32,
            lines: u16,
            express: bool,
        }

        impl $ty {
            fn example() -> Self {
                Self { order: 123_456_789, customer: 4_711, cents: 129_900, lines: 3, express: true }
            }
        }
    };
}
event!(Compact "table.compact" postcard);
event!(Readable "table.readable" json);
