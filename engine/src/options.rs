//! Everything about an engine that can be set, with defaults that fit a service of ordinary size.

use std::time::Duration;

use serde::Deserialize;
use whizbang_storage::{Service, refuse};

/// How an engine runs. Every field has a default; unknown fields in a configuration file are refused.
///
/// Durations are milliseconds in configuration files.
///
/// ```
/// # use whizbang::Options;
/// let options: Options = serde_json::from_str(r#"{ "workers": 4, "detach_after": 500 }"#)?;
/// assert_eq!(options.detach_after.as_millis(), 500);
/// assert!(serde_json::from_str::<Options>(r#"{ "wokers": 4 }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The group whose work this engine shares; `None`: it only publishes and handles nothing. Default `"main"`. A name has
    /// 1 to 200 bytes, or as many as the service's limits say, and no NUL character.
    pub group: Option<String>,

    /// Tasks that run handlers on your runtime; each owns a part of the partitions. 0, the default: one per core. Fewer
    /// cannot use all cores for handlers that compute; more cost a little memory each.
    pub workers: usize,

    /// Handlers that may wait (for a reply, a timer) at the same time in one worker before it begins with more streams; a stream
    /// that has begun goes on with its next message. Default 1,024. Too small: streams
    /// queue up behind slow calls. Too large: that many calls hit whatever the handlers talk to.
    pub handlers_max: usize,

    /// Messages that may be handed out and not settled at the same time, one for each subscription that has it. Default 16,384. Too small: workers run dry
    /// while an exchange is under way. Too large: memory, and more to repeat after a crash.
    pub in_flight_max: usize,

    /// Payload bytes of messages handed out. Default 64 MiB. A single message may exceed it.
    pub in_flight_bytes_max: usize,

    /// Rings of one thread each: the first so many threads that send have one to themselves, as long as they live; those
    /// that send to other engines of the process count too. 0, the default: two per core, at least four. Fewer: more threads share the stripes and get slower.
    /// More: `ring_bytes` of address space each.
    pub seats: usize,

    /// Rings shared by all threads beyond the seats. Default 4. Fewer: those threads meet at the same ring, and are
    /// refused now and then.
    pub stripes: usize,

    /// Rings for [`publisher`](crate::Engine::publisher). Default 16. A further publisher is refused; with 0, every one is.
    pub publishers_max: usize,

    /// Bytes of one ring, a power of two. Default 4 MiB. It bounds what one producer may have waiting for the disk, and
    /// the largest message: half of it. Memory is only taken as it is used.
    pub ring_bytes: usize,

    /// Messages one exchange takes in. Default 4,096. Too small: the disk's latency is shared by few. Too large: a
    /// message waits longer for its neighbours, and what an exchange touches no longer fits the processor's cache.
    pub batch_messages_max: usize,

    /// Payload bytes one exchange takes in. Default 8 MiB.
    pub batch_bytes_max: usize,

    /// A handler that runs longer is taken out of its partition's flow, so that the log behind it can be settled.
    /// Default 1 s. Too short: a row is written for every slow call. Too long: after a crash, more is looked at twice.
    #[serde(deserialize_with = "millis::deserialize")]
    pub detach_after: Duration,

    /// Time for running handlers to finish when another instance is owed a partition. Default 30 s. What still runs then
    /// is cancelled and counts an attempt.
    #[serde(deserialize_with = "millis::deserialize")]
    pub give_back_within: Duration,

    /// Time between heartbeats of an engine that has nothing else to say. `None`, the default: a third of the service's
    /// time to live, which is also the most that is allowed.
    #[serde(deserialize_with = "millis::option::deserialize")]
    pub heartbeat_every: Option<Duration>,

    /// The longest pause between two tries while storage is away. Default 1 s. The first pause is 10 ms.
    #[serde(deserialize_with = "millis::deserialize")]
    pub storage_retry_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: Some("main".to_owned()),
            workers: 0,
            handlers_max: 1_024,
            in_flight_max: 16_384,
            in_flight_bytes_max: 64 << 20,
            seats: 0,
            stripes: 4,
            publishers_max: 16,
            ring_bytes: 4 << 20,
            batch_messages_max: 4_096,
            batch_bytes_max: 8 << 20,
            detach_after: Duration::from_secs(1),
            give_back_within: Duration::from_secs(30),
            heartbeat_every: None,
            storage_retry_max: Duration::from_secs(1),
        }
    }
}

/// An option that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}` is {value}: {possible}")]
pub struct OptionError {
    /// The field.
    pub option: &'static str,
    /// Its value.
    pub value: String,
    /// What would be possible.
    pub possible: String,
}

impl Options {
    /// Fills in what depends on the machine and the service, and checks the rest.
    ///
    /// # Errors
    /// [`OptionError`] names the first field that cannot work, and what would be possible.
    pub(crate) fn resolve(mut self, cores: usize, service: &Service) -> Result<Self, OptionError> {
        fn must(
            holds: bool,
            option: &'static str,
            value: impl ToString,
            possible: impl ToString,
        ) -> Result<(), OptionError> {
            if holds {
                Ok(())
            } else {
                Err(OptionError { option, value: value.to_string(), possible: possible.to_string() })
            }
        }
        if self.workers == 0 {
            self.workers = cores.max(1);
        }
        if self.seats == 0 {
            self.seats = (2 * cores).max(4);
        }
        let slowest = service.time_to_live / 3;
        let heartbeat = *self.heartbeat_every.get_or_insert(slowest);
        if let Some(group) = &self.group {
            must(
                refuse::name("group", group, &service.limits).is_ok(),
                "group",
                format!("{group:?}"),
                format!(
                    "1 to {} bytes without a NUL character, or none for an engine that handles nothing",
                    service.limits.name_bytes_max
                ),
            )?;
        }
        must(self.workers <= 1_024, "workers", self.workers, "at most 1024")?;
        must(self.handlers_max > 0, "handlers_max", self.handlers_max, "at least 1")?;
        must(self.in_flight_max > 0, "in_flight_max", self.in_flight_max, "at least 1")?;
        must(self.in_flight_bytes_max > 0, "in_flight_bytes_max", self.in_flight_bytes_max, "at least 1")?;
        must(self.seats <= 4_096, "seats", self.seats, "at most 4096")?;
        must((1..=4_096).contains(&self.stripes), "stripes", self.stripes, "1 to 4096")?;
        must(self.publishers_max <= 4_096, "publishers_max", self.publishers_max, "at most 4096")?;
        must(
            self.ring_bytes.is_power_of_two() && (65_536..=1 << 30).contains(&self.ring_bytes),
            "ring_bytes",
            self.ring_bytes,
            "a power of two from 65536 to 1073741824",
        )?;
        must(self.batch_messages_max > 0, "batch_messages_max", self.batch_messages_max, "at least 1")?;
        must(self.batch_bytes_max > 0, "batch_bytes_max", self.batch_bytes_max, "at least 1")?;
        must(
            !heartbeat.is_zero() && heartbeat <= slowest,
            "heartbeat_every",
            format!("{heartbeat:?}"),
            format!("above zero and at most a third of the time to live, {slowest:?}"),
        )?;
        must(!self.detach_after.is_zero(), "detach_after", "0", "above zero")?;
        must(!self.storage_retry_max.is_zero(), "storage_retry_max", "0", "above zero")?;
        Ok(self)
    }
}

/// Durations as whole milliseconds.
mod millis {
    use super::{Deserialize, Duration};

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }

    pub(super) mod option {
        use super::{Deserialize, Duration};

        pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Duration>, D::Error> {
            Option::<u64>::deserialize(from).map(|millis| millis.map(Duration::from_millis))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn service() -> Service {
        Service { time_to_live: TTL, ..Service::default() }
    }

    #[test]
    fn what_depends_on_the_machine_is_filled_in() {
        let options = Options::default().resolve(2, &service()).unwrap();
        assert_eq!((options.workers, options.seats), (2, 4));
        assert_eq!(options.heartbeat_every, Some(TTL / 3));
        assert_eq!(Options::default().resolve(16, &service()).unwrap().seats, 32);
    }

    #[test]
    fn an_option_that_cannot_work_is_named_with_what_would_be_possible() {
        let error = Options { ring_bytes: 5_000, ..Options::default() }.resolve(2, &service()).unwrap_err();
        assert_eq!(error.to_string(), "option `ring_bytes` is 5000: a power of two from 65536 to 1073741824");
        let error =
            Options { heartbeat_every: Some(TTL), ..Options::default() }.resolve(2, &service()).unwrap_err();
        assert_eq!(error.option, "heartbeat_every");
    }

    #[test]
    fn a_group_whose_name_no_store_would_take_is_refused_before_any_store_is_asked() {
        let named =
            |group: String| Options { group: Some(group), ..Options::default() }.resolve(2, &service());
        for bad in [String::new(), "a\0b".to_owned(), "a".repeat(201)] {
            let error = named(bad.clone()).unwrap_err();
            assert_eq!((error.option, error.value), ("group", format!("{bad:?}")));
            assert!(error.possible.contains("1 to 200 bytes"), "{}", error.possible);
        }
        assert!(named("a".repeat(200)).is_ok());
    }

    #[test]
    fn durations_are_milliseconds_in_a_file() {
        let options: Options =
            serde_json::from_str(r#"{"heartbeat_every": 250, "give_back_within": 5000, "group": null}"#)
                .unwrap();
        assert_eq!(options.heartbeat_every, Some(Duration::from_millis(250)));
        assert_eq!(options.give_back_within, Duration::from_secs(5));
        assert_eq!(options.group, None);
    }
}
