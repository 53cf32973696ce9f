//! What stands in a line, or is given to a receptor, is a message.
use whizbang::{Context, Failure, Receptor, dispatcher};

struct CreateOrder;
struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {}
