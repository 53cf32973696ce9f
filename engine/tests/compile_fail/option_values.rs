//! Settings that cannot work are found while compiling.
use std::time::Duration;

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
    struct NoAttempts { orders: Orders }
    command CreateOrder => orders with { attempts_max: 0 };
}

dispatcher! {
    struct LongFirst { orders: Orders }
    command CreateOrder => orders with { retry_first: Duration::from_secs(3_600) };
}

fn main() {}
