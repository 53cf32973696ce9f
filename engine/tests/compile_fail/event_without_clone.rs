//! An event that several receptors of one subscription handle is copied for each.
use serde::{Deserialize, Serialize};
use whizbang::{Context, Event, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated;

struct Mailer;

impl Receptor<OrderCreated> for Mailer {
    async fn receive(&self, _: OrderCreated, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Shop { mailer: Mailer, other: Mailer }
    event OrderCreated => mailer, other;
}

fn main() {}
