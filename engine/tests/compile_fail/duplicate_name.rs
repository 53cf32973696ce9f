//! Two types with one wire name cannot be told apart in a store.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Event, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.created", version = 1)]
struct CreateOrder;

#[derive(Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated;

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

impl Receptor<OrderCreated> for Orders {
    async fn receive(&self, _: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Shop { orders: Orders }
    command CreateOrder => orders;
    event OrderCreated => orders;
}

fn main() {}
