//! The PostgreSQL backend of Whizbang: many instances over one server.
#![forbid(unsafe_code)]

mod alone;
mod append;
mod due;
mod enqueue;
mod error;
mod exchange;
mod housekeeping;
mod link;
mod load;
mod members;
mod operations;
mod options;
mod parked;
mod places;
mod read;
mod reader;
mod schema;
mod settle;
mod state;
mod statements;
mod store;
mod tail;
mod tls;
mod wire;

pub use enqueue::Enqueuer;
pub use error::{EnqueueError, Enqueued, OpenError};
pub use options::{Notifications, OptionsError, PostgresOptions, RemotePlaintext, RootCertificates};
pub use reader::PostgresReader;
pub use store::PostgresStore;
pub use whizbang_storage::{Limits, Service};
