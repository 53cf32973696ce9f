//! The PostgreSQL backend of Whizbang: many instances over one server.
#![forbid(unsafe_code)]

mod options;
mod tls;

pub use options::{Notifications, OptionsError, PostgresOptions, RemotePlaintext, RootCertificates};
pub use whizbang_storage::{Limits, Service};
