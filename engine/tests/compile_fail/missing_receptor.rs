//! A command without a line in the table cannot be invoked.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.ship", version = 1)]
struct ShipOrder;

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Shop { orders: Orders }
    command CreateOrder => orders;
}

async fn ship(shop: &Shop) -> Result<(), Failure> {
    shop.invoke(ShipOrder).await
}

fn main() {}
