//! What a service agrees on with its database: checked at every start, equal for all instances.

use std::time::Duration;

/// The agreement of a service with its schema.
///
/// It is written when the service first opens the database. Later opens must bring the same `partitions` and
/// `time_to_live`; the other fields are each instance's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace of every row; two services in one database never see each other. Default `"default"`.
    pub name: String,
    /// Number of partitions, 1 to 4,096. Default 128. Too few: fewer instances can share the work. Too many: more
    /// cursors to write. It cannot be changed later.
    pub partitions: u32,
    /// An instance silent for this long may be evicted. Default 20 s, of which an engine that is idle makes nine calls a
    /// minute: one in each third. Too short: a paused process loses its work to others and starts over. Too long: the work
    /// of a dead process waits that long.
    pub time_to_live: Duration,
    /// How many positions above `low` a subscription may have open in a partition. Default 4,096.
    pub window: u32,
    /// How long a deduplication key is remembered. Default 7 days.
    pub dedup_retention: Duration,
    /// How long events are kept; `None` keeps them for ever, which is the default.
    pub event_retention: Option<Duration>,
    /// How long a message of a type nobody knows waits before it is a dead letter. Default 1 day. Until then it holds up its stream,
    /// for a program that knows the type and may be under way. Counted from when it was first handed to one that does not: a change
    /// holds for those that come after it.
    pub unroutable_after: Duration,
    /// Sizes above which an item or a batch is refused.
    pub limits: Limits,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            partitions: 128,
            time_to_live: Duration::from_secs(20),
            window: 4_096,
            dedup_retention: Duration::from_secs(7 * 24 * 3_600),
            event_retention: None,
            unroutable_after: Duration::from_secs(24 * 3_600),
            limits: Limits::default(),
        }
    }
}

impl Service {
    /// A service of this name with everything else at its default.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// Sizes above which an item or a batch is refused, before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload. Default 1 MiB.
    pub payload_bytes_max: usize,
    /// Bytes of one message's metadata (headers and trace context, encoded). Default 4 KiB.
    pub metadata_bytes_max: usize,
    /// Bytes of a type, subscription, group, service or perspective name. Default 200.
    pub name_bytes_max: usize,
    /// Bytes of a deduplication or projection key. Default 512.
    pub key_bytes_max: usize,
    /// Bytes of an error text that are kept; longer texts are cut at a character boundary, never refused. Default 2,000.
    pub error_bytes_max: usize,
    /// Bytes of one projection's state. Default 1 MiB.
    pub state_bytes_max: usize,
    /// Messages (appends and emits) in one batch. Default 65,536.
    pub batch_messages_max: usize,
    /// Payload, metadata and state bytes in one batch. Default 64 MiB.
    pub batch_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1 << 20,
            metadata_bytes_max: 4 << 10,
            name_bytes_max: 200,
            key_bytes_max: 512,
            error_bytes_max: 2_000,
            state_bytes_max: 1 << 20,
            batch_messages_max: 65_536,
            batch_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// The part of an error text that is kept: at most `error_bytes_max` bytes, cut between characters.
    pub fn cut<'a>(&self, error: &'a str) -> &'a str {
        if error.len() <= self.error_bytes_max {
            return error;
        }
        let mut end = self.error_bytes_max;
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        &error[..end]
    }
}

/// Why a [`Service`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The name is empty, too long, or holds a NUL character.
    #[error("service name {0:?} is empty, longer than {1} bytes or holds a NUL character")]
    Name(String, usize),
    /// `partitions` is not between 1 and 4,096.
    #[error("{0} partitions: between 1 and 4096 are possible")]
    Partitions(u32),
    /// `time_to_live` is below 30 ms or above a day.
    #[error("a time to live of {0:?}: between 30 ms and 24 h are possible")]
    TimeToLive(Duration),
    /// `window` is zero.
    #[error("a window of 0 messages lets nothing through")]
    Window,
    /// A limit is above 1 GiB, which no backend can store in one piece.
    #[error("{0} = {1}: at most 1 GiB is possible")]
    Limit(&'static str, usize),
    /// The journal could not keep the service, which was opened for the first time.
    #[error("the service {0:?} could not be set up: {1}")]
    NotKept(String, String),
    /// The database was set up with another value, which holds for all instances of the service.
    #[error("the database was set up with {what} = {stored}, this process asks for {asked}")]
    Agreement {
        /// `"partitions"` or `"time_to_live"`.
        what: &'static str,
        /// What is stored.
        stored: String,
        /// What was asked for.
        asked: String,
    },
}

impl Service {
    /// Checks the service against what its database was set up with.
    ///
    /// # Errors
    /// [`ServiceError::Agreement`] with both values.
    pub fn agrees_with(&self, partitions: u32, time_to_live: Duration) -> Result<(), ServiceError> {
        let differ = |what, stored: String, asked: String| {
            if stored == asked { Ok(()) } else { Err(ServiceError::Agreement { what, stored, asked }) }
        };
        differ("partitions", partitions.to_string(), self.partitions.to_string())?;
        differ("time_to_live", format!("{time_to_live:?}"), format!("{:?}", self.time_to_live))
    }

    /// Checks what every backend relies on.
    ///
    /// # Errors
    /// [`ServiceError`] says which field cannot be used, and what would be possible.
    pub fn validate(&self) -> Result<(), ServiceError> {
        let max = self.limits.name_bytes_max;
        if self.name.is_empty() || self.name.len() > max || self.name.contains('\0') {
            return Err(ServiceError::Name(self.name.clone(), max));
        }
        if !(1..=4_096).contains(&self.partitions) {
            return Err(ServiceError::Partitions(self.partitions));
        }
        let ttl = self.time_to_live;
        if ttl < Duration::from_millis(30) || ttl > Duration::from_secs(24 * 3_600) {
            return Err(ServiceError::TimeToLive(ttl));
        }
        if self.window == 0 {
            return Err(ServiceError::Window);
        }
        let limits = &self.limits;
        for (what, bytes) in [
            ("payload_bytes_max", limits.payload_bytes_max),
            ("metadata_bytes_max", limits.metadata_bytes_max),
            ("state_bytes_max", limits.state_bytes_max),
        ] {
            if bytes > 1 << 30 {
                return Err(ServiceError::Limit(what, bytes));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_an_idle_instance_calls_its_store_ten_times_a_minute_at_most() {
        let heartbeat_every = Service::default().time_to_live / 3;
        assert!(heartbeat_every * 10 >= Duration::from_secs(60), "{heartbeat_every:?}");
    }
}
