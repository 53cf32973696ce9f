//! The field of a line must receive its message.
use serde::{Deserialize, Serialize};
use whizbang::{Command, Event, dispatcher};

#[derive(Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 1)]
struct CreateOrder;

#[derive(Clone, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated;

struct Orders;
struct Mailer;

dispatcher! {
    struct Shop { orders: Orders, mailer: Mailer }
    command CreateOrder => orders;
    event OrderCreated => mailer;
}

fn main() {}
