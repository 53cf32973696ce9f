//! An older version has the same name and a lower version.
use serde::{Deserialize, Serialize};
use whizbang::{Event, Upcast};

#[derive(Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 2)]
struct PriceSetV2;

#[derive(Serialize, Deserialize, Event)]
#[message(name = "prices.changed", version = 3, upcast_from = PriceSetV2)]
struct PriceChanged;

impl Upcast for PriceChanged {
    type Previous = PriceSetV2;

    fn upcast(_: PriceSetV2) -> Self {
        Self
    }
}

#[derive(Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 2, upcast_from = PriceSetV2)]
struct PriceSet;

impl Upcast for PriceSet {
    type Previous = PriceSetV2;

    fn upcast(_: PriceSetV2) -> Self {
        Self
    }
}

fn main() {}
