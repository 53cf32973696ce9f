//! The PostgreSQL backend of Whizbang: many instances over one server.
//!
//! ```no_run
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! use whizbang_storage_postgres::PostgresOptions;
//!
//! let options = PostgresOptions::from_url("postgres://orders:secret@localhost/shop")?;
//! options.migrate().await?;
//! let store = options.open().await?;
//! # drop(store); Ok(()) }
//! ```
//!
//! | to | take |
//! |---|---|
//! | choose the server, and anything else | [`PostgresOptions`] |
//! | set the schema up | [`PostgresOptions::migrate`], or [`schema_sql`] and the program `whizbang-pg-schema` for an administrator |
//! | send messages in a transaction of your own | [`Enqueuer`] |
//! | the same from sqlx, diesel, psql, whatever speaks SQL | the function `enqueue` of the schema: [there](Enqueuer#without-this-crate) |
//! | know why a database was refused | [`OpenError`] |
//!
//! # How it works
//! *The client decides, the database verifies.* Only its owner writes a partition, so a store remembers what its instance owns:
//! heads, cursors, what is parked, the newest messages. A batch is decided on that, and sent as the arguments of one SQL
//! function, which takes the instance's row lock, compares everything that was assumed (that nobody has changed the service, that keys
//! are new, at which versions streams and projections are, that no arrivals came that matter), and writes. One round trip, one
//! transaction. When something is otherwise nothing is written, and the batch is decided again on what is so.
//!
//! What all instances know alike (who is there, who owns what) has a version. A batch that changes it (joining, leaving, giving
//! back, taking what is free, evicting) goes the same way, in one round trip: it locks the service's row, and those of the evicted,
//! compares the version on which it was decided, and adds one to it. Nobody else waits for that; who has decided on the version
//! before is told, looks again, and goes on. Only what any instance might be writing at that moment (an operator's wishes, what
//! is parked for whoever knows its type, a partition that changes hands while another group appends to it) is done with all their
//! rows locked, in a few round trips.
//!
//! The log is written as blocks of many messages into one table after the other; one in which everything is settled is
//! truncated. What each exchange has moved is appended, and folded into rows of its own now and then. So nothing is updated in place
//! once an exchange, and an old snapshot keeps little alive.
//!
//! # What is kept
//! Events of a service without a retention stay. With one, an event that is old and settled by all is gone at once for every reader,
//! by one number for each partition; its bytes lie in one of four parts, which follow each other every half
//! retention, and are given back when all events of a part are gone: after at most one and a half retentions while parts
//! follow each other. What stays of events that are gone is the version of each stream that has no newer event, a row of
//! about 60 bytes a stream, for ever: versions go on without gaps. Services that share a schema share the parts; the longest
//! retention holds. Deduplication keys are deleted row by row when they are old; who has left is remembered for a day.
//!
//! # Connections
//! One per store for batches and notifications, because an instance's batches come one after the other; up to
//! [`readers_max`](PostgresOptions::readers_max) for the reading side, made when there is a question. [`open`](PostgresOptions::open) and
//! [`migrate`](PostgresOptions::migrate) make one of their own and give it back when they are done, so a start takes one more for a moment.
//! Nothing relies on a session: it works through a transaction pooler, without notifications.
#![forbid(unsafe_code)]

mod alone;
mod append;
mod body;
mod change;
mod changes;
mod draft;
mod due;
mod enqueue;
mod error;
mod exchange;
mod fence;
mod freeze;
mod glance;
mod housekeeping;
mod link;
mod load;
mod look_up;
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
pub use schema::schema_sql;
pub use store::PostgresStore;
pub use whizbang_storage::{Limits, Service};
