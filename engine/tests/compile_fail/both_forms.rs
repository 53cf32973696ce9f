//! A receptor of a message is async or plain, not both.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Failure, PlainReceptor, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

impl PlainReceptor<CreateOrder> for Orders {
    fn receive_now(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Shop { orders: Orders }
    command CreateOrder => orders;
}

fn main() {}
