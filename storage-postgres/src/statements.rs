//! The texts of all statements, with the schema's name in them.

use crate::schema::sql;
use crate::wire::{call_text, change_text};

macro_rules! statements {
    ($($name:ident)*) => {
        /// Everything a store says to its database.
        #[derive(Debug)]
        pub(crate) struct Statements {
            /// The service's number, which nearly all begin with.
            pub(crate) service: i32,
            pub(crate) exchange: String,
            /// An exchange that changes what concerns all instances.
            pub(crate) change: String,
            $(pub(crate) $name: String,)*
        }

        impl Statements {
            pub(crate) fn new(schema: &str, service: i32) -> Self {
                Self {
                    service,
                    exchange: call_text(schema),
                    change: change_text(schema),
                    $($name: sql(include_str!(concat!("sql/", stringify!($name), ".sql")), schema),)*
                }
            }
        }
    };
}

statements! {
    load_service load_instances load_exchanges load_groups load_owners load_subscriptions load_places load_events
    load_parked load_arrivals
    freeze lock_service lock_instances lock_instance outdate
    glance heads read_blocks read_events parked_records is_event first_events old_events
    recycle recycle_events
}
