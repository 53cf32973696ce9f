//! A line, `publish` and `send` take what they are called for.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Event, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

#[derive(Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated;

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, order: CreateOrder, mut cx: Context<'_>) -> Result<(), Failure> {
        cx.publish(&order)?;
        cx.send(&OrderCreated)?;
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
    event CreateOrder => orders;
}

fn main() {}
