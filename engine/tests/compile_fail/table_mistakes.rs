//! Mistakes in a table are told at the word that is wrong.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Event, Failure, Receptor, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

#[derive(Clone, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated;

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct UnknownField { orders: Orders, mailer: Orders }
    command CreateOrder => order;
}

dispatcher! {
    struct UnknownWord { orders: Orders }
    handle CreateOrder => orders;
}

dispatcher! {
    struct UnknownOption { orders: Orders }
    command CreateOrder => orders with { retries: 3 };
}

dispatcher! {
    struct OptionTwice { orders: Orders }
    command CreateOrder => orders with { attempts_max: 3, attempts_max: 4 };
}

dispatcher! {
    struct EventTwice { orders: Orders }
    event OrderCreated => orders;
    event OrderCreated => orders;
}

dispatcher! {
    struct ReceptorTwice { orders: Orders }
    event OrderCreated => orders, orders;
}

dispatcher! {
    struct CommandInSubscription { orders: Orders }
    subscription "totals" {
        command CreateOrder => orders;
    }
}

dispatcher! {
    struct SubscriptionTwice { orders: Orders }
    subscription "totals" {}
    subscription "totals" {}
}

dispatcher! {
    struct EmptyName { orders: Orders }
    subscription "" {}
}

dispatcher! {
    struct UnknownSubscriptionOption { orders: Orders }
    subscription "totals" with { attempts_max: 3 } {}
}

dispatcher! {
    struct Tuple(Orders);
}

dispatcher! {
    struct NoSemicolon { orders: Orders }
    command CreateOrder => orders
}

fn main() {}
