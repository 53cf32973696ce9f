//! What all rivals have in common: what is asked of them, and what they answer.
//!
//! A file that each of them includes, and no package: rivals are packages of their own because they exclude each other.

use std::time::Duration;

use clap::Parser;

/// What is asked of every rival.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// A file, or a URL.
    #[arg(long)]
    pub database: String,
    /// How many messages.
    #[arg(long, default_value_t = 100_000)]
    pub messages: usize,
    /// Bytes of payload in each.
    #[arg(long, default_value_t = 120)]
    pub payload: usize,
    /// Workers, or handlers that run at once.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
}

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Messages of one insert.
pub const BULK: usize = 1_000;

/// Who was measured, and how it was set.
pub struct Rival {
    pub name: &'static str,
    pub version: &'static str,
    pub backend: &'static str,
    pub settings: &'static str,
}

impl Rival {
    /// Prints the line that scripts/rivals collects.
    pub fn report(&self, arguments: &Arguments, took: Duration) {
        let seconds = took.as_secs_f64();
        let line = serde_json::json!({
            "name": self.name, "version": self.version, "backend": self.backend,
            "messages": arguments.messages, "payload_bytes": arguments.payload,
            "seconds": seconds, "per_second": arguments.messages as f64 / seconds,
            "settings": self.settings,
        });
        println!("{line}");
    }
}
