//! A second receptor is found although the command is written in another way.
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
    struct Shop { first: Orders, second: Orders }
    command CreateOrder => first;
    command self::CreateOrder => second;
}

fn main() {}
