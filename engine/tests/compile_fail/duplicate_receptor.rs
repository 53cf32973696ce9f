//! A command has exactly one receptor.
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
    struct Twice { first: Orders, second: Orders }
    command CreateOrder => first;
    command CreateOrder => second;
}

dispatcher! {
    struct Several { first: Orders, second: Orders }
    command CreateOrder => first, second;
}

dispatcher! {
    struct None { first: Orders }
    command CreateOrder =>;
}

fn main() {}
