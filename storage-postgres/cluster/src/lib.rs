//! A private PostgreSQL server for tests, benches and examples: started in a moment, crashed at will, gone with the process.
//!
//! ```
//! use whizbang_postgres_cluster::{Cluster, Options};
//!
//! let cluster = Cluster::start(Options::default())?;
//! println!("connect to {}", cluster.url());
//! cluster.crash()?;       // as a power cut looks to its clients
//! cluster.start_again()?; // on the same port, after recovery
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | take |
//! |---|---|
//! | have a server of one's own | [`Cluster::start`] |
//! | share one among the tests of a process | [`Cluster::shared`] |
//! | connect | [`Cluster::url`], [`Cluster::tcp_url`], [`Cluster::port`] |
//! | see what clients do when it goes away | [`Cluster::stop`], [`Cluster::crash`], [`Cluster::kill`], [`Cluster::start_again`] |
//! | look like the old server after a failover | [`Cluster::refuse_writes`], [`Cluster::accept_writes`] |
//! | cut connections at a chosen byte, lose answers, count round trips | [`Proxy`] |
//! | know why it did not start | [`ClusterError`], [`Cluster::log`] |
//!
//! The server listens on a Unix socket in its directory and on a free port of the loopback address, and trusts everybody
//! who can reach them. PostgreSQL refuses to run as root; then it runs as `postgres`, or as `nobody`.
//!
//! It does not outlive the process that started it, however that ends: a watchdog holds the other end of a pipe, and
//! when that is closed it stops the server and removes the directory.
#![forbid(unsafe_code)]

mod account;
mod binaries;
mod cluster;
mod error;
mod frames;
mod options;
mod proxy;
mod watchdog;

pub use cluster::Cluster;
pub use error::ClusterError;
pub use options::{Options, ServerTls};
pub use proxy::{Direction, Fault, Flow, Proxy, Traffic};
