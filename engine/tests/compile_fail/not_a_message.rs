//! What is given to a receptor is a message.
use whizbang::{Context, Failure, Receptor};

struct CreateOrder;
struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {}
