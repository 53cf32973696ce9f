//! Only plain receptors answer without `.await`.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

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

fn create(shop: &Shop) -> Result<(), Failure> {
    shop.invoke_now(CreateOrder)
}

fn main() {}
