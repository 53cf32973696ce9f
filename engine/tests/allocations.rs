//! A direct call allocates nothing, and neither do routing and emitting once their buffers have grown.
//!
//! The one file with `unsafe` outside of `lockfree`: a global allocator cannot be written without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};
use whizbang::dispatch::Routed;
use whizbang::{Command, Context, Dispatcher, Event, Failure, PlainReceptor, Receptor, Unit, dispatcher};

mod common;
use common::stored;

/// The system's allocator, which counts what the current thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s promises; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations<T>(of: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.get();
    black_box(of());
    ALLOCATIONS.get() - before
}

#[derive(Serialize, Deserialize, Command)]
#[message(name = "add", version = 1, reply = u64, codec = postcard)]
struct Add(u64, u64);

#[derive(Serialize, Deserialize, Command)]
#[message(name = "add.plain", version = 1, reply = u64)]
struct AddPlain(u64, u64);

#[derive(Serialize, Deserialize, Event)]
#[message(name = "added", version = 1)]
struct Added {
    #[stream]
    sum: u64,
}

struct Sums;

impl Receptor<Add> for Sums {
    async fn receive(&self, Add(left, right): Add, mut cx: Context<'_>) -> Result<u64, Failure> {
        let sum = left + right;
        if sum > 10 {
            cx.publish(&Added { sum })?;
        }
        Ok(sum)
    }
}

impl PlainReceptor<AddPlain> for Sums {
    fn receive_now(&self, AddPlain(left, right): AddPlain, mut cx: Context<'_>) -> Result<u64, Failure> {
        cx.publish(&Added { sum: left + right })?;
        Ok(left + right)
    }
}

dispatcher! {
    struct App { sums: Sums }
    command Add => sums;
    command AddPlain => sums;
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it never waits"),
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| black_box(Box::new(7))), 1);
}

#[test]
fn a_direct_call_allocates_nothing() {
    let app = App { sums: Sums };
    let all = allocations(|| {
        for number in 0..1_000 {
            assert_eq!(ready(app.invoke(Add(black_box(number % 5), 2))).unwrap(), number % 5 + 2);
        }
    });
    assert_eq!(all, 0);
}

#[test]
fn a_direct_call_into_a_unit_that_has_grown_allocates_nothing() {
    let app = App { sums: Sums };
    let mut unit = Unit::default();
    let mut call = || {
        unit.clear();
        assert_eq!(ready(app.invoke_with(Add(black_box(20), 2), &mut unit)).unwrap(), 22);
        assert_eq!(app.invoke_now_with(AddPlain(black_box(1), 2), &mut unit).unwrap(), 3);
        assert_eq!(unit.len(), 2);
    };
    call();
    assert_eq!(allocations(|| (0..100).for_each(|_| call())), 0);
}

#[test]
fn a_stored_message_is_routed_without_an_allocation() {
    let app = App { sums: Sums };
    let (add, plain) = (stored(&Add(20, 2)), stored(&AddPlain(20, 2)));
    let mut unit = Unit::default();
    let mut route = || {
        unit.begin(&add.handed(), None).unwrap();
        let kind = App::resolve(black_box("add")).unwrap();
        match app.route(0, kind, &add.handed(), Context::collecting(&mut unit)) {
            Routed::Running(future) => ready(future).unwrap(),
            _ => panic!("it is async"),
        }
        unit.begin(&plain.handed(), None).unwrap();
        let kind = App::resolve(black_box("add.plain")).unwrap();
        let routed = app.route(0, kind, &plain.handed(), Context::collecting(&mut unit));
        assert!(matches!(routed, Routed::Done(Ok(()))));
        drop(routed);
        assert_eq!(unit.view().emits().count(), 1);
    };
    route();
    assert_eq!(allocations(|| (0..100).for_each(|_| route())), 0);
}
