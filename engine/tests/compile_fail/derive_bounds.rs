//! What a message needs beside the derive.
use serde::{Deserialize, Serialize};
use whizbang::Event;

#[derive(Event)]
#[message(name = "no.serde", version = 1)]
struct NoSerde;

#[derive(Serialize, Deserialize, Event)]
#[message(name = "odd.stream", version = 1)]
struct OddStream {
    #[stream]
    price: f64,
}

#[derive(Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 1)]
struct PriceSetV1;

#[derive(Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 2, upcast_from = PriceSetV1)]
struct PriceSet;

fn main() {}
