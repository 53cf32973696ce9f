//! Which server a store works with, how it is reached, and everything else that can be chosen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use whizbang_storage::{Clock, Service, ServiceError};

use crate::tls::{Connector, Encryption};

mod url;

/// Everything that can be chosen about a store. Only the server has no default.
///
/// ```
/// # use std::time::Duration;
/// # use whizbang_storage_postgres::{PostgresOptions, Service};
/// let options = PostgresOptions {
///     service: Service { partitions: 64, ..Service::named("orders") },
///     connect_timeout: Duration::from_secs(2),
///     ..PostgresOptions::from_url("postgres://orders:secret@db.internal/shop?sslmode=verify-full")?
/// };
/// assert!(!format!("{options:?}").contains("secret"));
/// # Ok::<(), whizbang_storage_postgres::OptionsError>(())
/// ```
///
/// # Encryption
/// `sslmode` says what is asked for. Whoever shows a certificate must show a good one, for the host's name: there is no
/// mode that encrypts without knowing for whom.
///
/// | `sslmode` | a local server (Unix socket, `localhost`, loopback address) | a remote one |
/// |---|---|---|
/// | `prefer`, or none | no TLS | TLS, as `require` |
/// | `require`, `verify-ca`, `verify-full` | TLS, certificate and name are checked | the same |
/// | `disable` | no TLS | refused, unless [`remote_plaintext`](Self::remote_plaintext) allows it |
///
/// One remote host among several makes all of them remote. Without this crate's feature `tls` there is no TLS, and what
/// would need it is refused.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Host, port, user, password, database, and what else the driver wants to know. Hosts after the first are tried in
    /// turn, for one that takes writes. Keep-alives that are not set are chosen so that a server that has vanished is
    /// noticed within the service's time to live.
    pub server: Config,
    /// The service as it agrees with its database. Default: [`Service::default`], named `"default"`.
    pub service: Service,
    /// The schema that everything is in. Default `"whizbang"`. Two schemas never see each other. Lower-case letters,
    /// digits and `_`, not first a digit, not first `pg_`, at most 40 bytes.
    pub schema: String,
    /// Whose signature on a server's certificate counts. Default: whom the machine trusts.
    pub root_certificates: RootCertificates,
    /// Whether passwords and payloads may cross a network in the clear. Default: [`RemotePlaintext::Refused`].
    pub remote_plaintext: RemotePlaintext,
    /// How long connecting may take, all hosts and the whole greeting included. Default 5 s. Too short: a busy server
    /// never lets anybody in. Too long: the next host is tried late; keep it below the service's time to live.
    pub connect_timeout: Duration,
    /// Connections of the reading side, opened when they are needed. Default 4. Too few: readers wait for each other.
    /// More: that many more processes on the server, for each instance.
    pub readers_max: usize,
    /// Whether instances tell each other at once that there is work. Default: [`Notifications::On`].
    pub notifications: Notifications,
    /// Where the time comes from. Default: none, the server's own clock. A test takes
    /// [`TestClock`](whizbang_storage::TestClock).
    pub clock: Option<Arc<dyn Clock>>,
}

/// Whose signature on a server's certificate counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RootCertificates {
    /// Those that this machine trusts.
    #[default]
    System,
    /// These and no others, as PEM: what `sslrootcert` in a URL names.
    Pem(String),
}

/// Whether a remote server may be talked to without encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemotePlaintext {
    /// No: such options are refused before anything is sent.
    #[default]
    Refused,
    /// Yes: for a network in which everybody may read everything, or one that encrypts by itself. `prefer` then takes what
    /// the server offers, which somebody in between can turn into nothing.
    Allowed,
}

/// Whether instances tell each other at once that there is work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notifications {
    /// Yes, with `LISTEN` on the connection that is there anyway. They are hints: what a pooler swallows is found by the next
    /// heartbeat.
    #[default]
    On,
    /// No: work from elsewhere waits for the next heartbeat, at most a third of the time to live.
    Off,
}

/// Options that cannot work. No password is ever in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The URL could not be read.
    #[error("the URL of the server cannot be read: {0}")]
    Url(String),
    /// No host is named.
    #[error("no server is named; give a host, or the directory of a Unix socket")]
    NoHost,
    /// The schema's name could be taken for something else.
    #[error(
        "the schema cannot be called {0:?}: lower-case letters, digits and `_`, not first a digit, not first `pg_`, at most {SCHEMA_BYTES_MAX} bytes"
    )]
    Schema(String),
    /// A number that cannot work.
    #[error("option `{option}` is {value}: {possible}")]
    Number {
        /// The field.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be possible.
        possible: &'static str,
    },
    /// Everything that is sent to this host could be read on the way.
    #[error(
        "{host} is not on this machine, and TLS is off: use sslmode=verify-full, or say `RemotePlaintext::Allowed` if others may read and change everything on the way"
    )]
    PlaintextToRemote {
        /// The host.
        host: String,
    },
    /// TLS is asked for or needed, and was not built in.
    #[error(
        "TLS is asked for or needed, and this program was built without it: turn on the feature `tls` of whizbang-storage-postgres"
    )]
    NoTls,
    /// The root certificates cannot be read, or there is none.
    #[error("no root certificates from {from}: {why}")]
    RootCertificates {
        /// Where they should have come from.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// The service's own settings cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

const SCHEMA_BYTES_MAX: usize = 40;

impl PostgresOptions {
    /// Options for the server of a `postgres://user:password@host:port/database?parameter=value` URL. What stands for
    /// itself in it (`:/?#@%`) is percent-encoded; a Unix socket is the percent-encoded path of its directory as the host.
    ///
    /// The parameters are the driver's ([`Config`]), and `sslmode` and `sslrootcert` as in libpq: the latter is the path
    /// of a PEM file, read now, or `system`.
    ///
    /// # Errors
    /// [`OptionsError::Url`], [`OptionsError::RootCertificates`] when there is no certificate where `sslrootcert` says, and
    /// [`OptionsError::NoTls`] when it says something and this crate's feature `tls` is off.
    pub fn from_url(url: &str) -> Result<Self, OptionsError> {
        url::read(url)
    }

    /// Options for the server that the driver's own type describes.
    pub fn from_config(server: Config) -> Self {
        Self {
            server,
            service: Service::default(),
            schema: "whizbang".to_owned(),
            root_certificates: RootCertificates::System,
            remote_plaintext: RemotePlaintext::Refused,
            connect_timeout: Duration::from_secs(5),
            readers_max: 4,
            notifications: Notifications::On,
            clock: None,
        }
    }

    /// Says whether these options can work, without connecting.
    ///
    /// # Errors
    /// [`OptionsError`] names the first thing that cannot.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.service.validate()?;
        if !is_schema_name(&self.schema) {
            return Err(OptionsError::Schema(self.schema.clone()));
        }
        if self.readers_max == 0 {
            let (option, value, possible) = ("readers_max", "0".to_owned(), "at least 1");
            return Err(OptionsError::Number { option, value, possible });
        }
        if self.connect_timeout.is_zero() {
            let (option, value, possible) = ("connect_timeout", "0".to_owned(), "above zero");
            return Err(OptionsError::Number { option, value, possible });
        }
        self.encryption().map(drop)
    }

    /// What makes connections to the server; certificates are read once, here.
    pub(crate) fn connector(&self) -> Result<Connector, OptionsError> {
        self.validate()?;
        Connector::new(
            self.effective_server()?,
            self.encryption()?,
            &self.root_certificates,
            self.connect_timeout,
        )
    }

    /// The driver's configuration with everything that was left open decided.
    fn effective_server(&self) -> Result<Config, OptionsError> {
        let mut server = self.server.clone();
        server.ssl_mode(match self.encryption()? {
            Encryption::Off => SslMode::Disable,
            Encryption::IfOffered => SslMode::Prefer,
            Encryption::On => SslMode::Require,
        });
        if server.get_application_name().is_none() {
            server.application_name(format!("whizbang/{}", self.service.name));
        }
        // Of several hosts the one is meant that takes writes.
        let several = server.get_hosts().len().max(server.get_hostaddrs().len()) > 1;
        if several && server.get_target_session_attrs() == TargetSessionAttrs::Any {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        // A server whose machine has vanished sends no word of it: whoever waits for its answer has to ask.
        let time_to_live = self.service.time_to_live;
        let quarter = (time_to_live / 4).max(Duration::from_secs(1));
        if server.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            server.keepalives_idle(quarter);
        }
        if server.get_keepalives_interval().is_none() {
            server.keepalives_interval((quarter / 2).max(Duration::from_secs(1)));
        }
        if server.get_keepalives_retries().is_none() {
            server.keepalives_retries(2);
        }
        if server.get_tcp_user_timeout().is_none() {
            server.tcp_user_timeout((time_to_live / 2).max(Duration::from_secs(1)));
        }
        Ok(server)
    }

    /// Decides by hosts and mode; the table at [`PostgresOptions`] says how.
    fn encryption(&self) -> Result<Encryption, OptionsError> {
        if self.server.get_hosts().is_empty() && self.server.get_hostaddrs().is_empty() {
            return Err(OptionsError::NoHost);
        }
        let encryption = match (self.server.get_ssl_mode(), remote_host(&self.server), self.remote_plaintext)
        {
            (SslMode::Disable, Some(host), RemotePlaintext::Refused) => {
                return Err(OptionsError::PlaintextToRemote { host });
            }
            (SslMode::Disable, ..) | (SslMode::Prefer, None, _) => Encryption::Off,
            (SslMode::Prefer, Some(_), RemotePlaintext::Allowed) if cfg!(feature = "tls") => {
                Encryption::IfOffered
            }
            (SslMode::Prefer, Some(_), RemotePlaintext::Allowed) => Encryption::Off,
            // `Require`, and whatever the driver comes up with next.
            _ => Encryption::On,
        };
        if encryption == Encryption::On && !cfg!(feature = "tls") {
            return Err(OptionsError::NoTls);
        }
        Ok(encryption)
    }
}

/// The first host that is not on this machine.
fn remote_host(server: &Config) -> Option<String> {
    // An address, where there is one, is what is connected to; the name is then only compared with the certificate.
    let addresses = server.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses
            .iter()
            .find(|address| !address.to_canonical().is_loopback())
            .map(ToString::to_string);
    }
    server.get_hosts().iter().find_map(|host| match host {
        Host::Unix(_) => None,
        Host::Tcp(name) if name.eq_ignore_ascii_case("localhost") => None,
        Host::Tcp(name) => {
            let address = name.parse::<std::net::IpAddr>();
            let is_local = address.is_ok_and(|address| address.to_canonical().is_loopback());
            (!is_local).then(|| name.clone())
        }
    })
}

/// Refuses a schema's name that could be taken for something else.
pub(crate) fn check_schema(name: &str) -> Result<(), OptionsError> {
    if is_schema_name(name) { Ok(()) } else { Err(OptionsError::Schema(name.to_owned())) }
}

fn is_schema_name(name: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter == b'_';
    name.len() <= SCHEMA_BYTES_MAX
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|letter| is_letter(letter) || letter.is_ascii_digit())
        && !name.starts_with("pg_")
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's own Debug leaves the password out.
        f.debug_struct("PostgresOptions")
            .field("server", &self.server)
            .field("service", &self.service)
            .field("schema", &self.schema)
            .field("root_certificates", &self.root_certificates)
            .field("remote_plaintext", &self.remote_plaintext)
            .field("connect_timeout", &self.connect_timeout)
            .field("readers_max", &self.readers_max)
            .field("notifications", &self.notifications)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PostgresOptions {
        PostgresOptions::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    #[cfg(feature = "tls")]
    fn what_is_encrypted_follows_the_table() {
        use Encryption::{IfOffered, Off, On};
        const LOCAL: [&str; 6] = [
            "%2Frun%2Fpostgresql",
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "localhost,127.0.0.1",
        ];
        const REMOTE: [&str; 4] =
            ["db.internal", "10.0.0.1", "localhost,db.internal", "localhost.evil.example"];
        let encryption = |hosts: &str, mode: &str, remote_plaintext| {
            let options = options(&format!("postgres://u@{hosts}/d{mode}"));
            PostgresOptions { remote_plaintext, ..options }.encryption()
        };
        for (mode, local) in
            [("", Off), ("?sslmode=prefer", Off), ("?sslmode=disable", Off), ("?sslmode=require", On)]
        {
            for host in LOCAL {
                assert_eq!(encryption(host, mode, RemotePlaintext::Refused).unwrap(), local, "{host}{mode}");
            }
        }
        for host in REMOTE {
            for mode in
                ["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"]
            {
                assert_eq!(encryption(host, mode, RemotePlaintext::Refused).unwrap(), On, "{host}{mode}");
            }
            let refused = encryption(host, "?sslmode=disable", RemotePlaintext::Refused);
            assert!(matches!(refused, Err(OptionsError::PlaintextToRemote { .. })), "{host}: {refused:?}");
            assert_eq!(
                encryption(host, "?sslmode=disable", RemotePlaintext::Allowed).unwrap(),
                Off,
                "{host}"
            );
            assert_eq!(encryption(host, "", RemotePlaintext::Allowed).unwrap(), IfOffered, "{host}");
        }
    }

    #[test]
    fn an_address_decides_and_not_the_name_beside_it() {
        let remote = |url: &str| remote_host(&options(url).server);
        assert_eq!(remote("postgres://u@localhost/d?hostaddr=10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(remote("postgres://u@db.internal/d?hostaddr=127.0.0.1"), None);
        assert_eq!(remote("postgres://u@[::1]/d"), None);
        assert_eq!(remote("postgres://u@[::ffff:127.0.0.1]/d"), None);
        assert_eq!(remote("postgres://u@[::ffff:10.0.0.1]/d").as_deref(), Some("::ffff:10.0.0.1"));
    }

    #[test]
    fn a_password_is_in_no_debug_text() {
        let options = options("postgres://u:hunter2@localhost/d");
        assert_eq!(options.server.get_password(), Some(&b"hunter2"[..]));
        assert!(!format!("{options:?} {options:#?}").contains("hunter2"));
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        for good in ["whizbang", "_", "a1", "orders_2", &"a".repeat(SCHEMA_BYTES_MAX)] {
            assert!(is_schema_name(good), "{good}");
        }
        let bad = [
            "",
            "1a",
            "Orders",
            "a-b",
            "a.b",
            "a\"b",
            "a b",
            "pg_catalog",
            "ä",
            &"a".repeat(SCHEMA_BYTES_MAX + 1),
        ];
        for bad in bad {
            assert!(!is_schema_name(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_that_cannot_work_are_named() {
        let good = options("postgres://u@localhost/d");
        good.validate().unwrap();
        let error = PostgresOptions { readers_max: 0, ..good.clone() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "option `readers_max` is 0: at least 1");
        let error =
            PostgresOptions { connect_timeout: Duration::ZERO, ..good.clone() }.validate().unwrap_err();
        assert!(matches!(error, OptionsError::Number { option: "connect_timeout", .. }));
        let error = PostgresOptions { server: Config::new(), ..good.clone() }.validate().unwrap_err();
        assert!(matches!(error, OptionsError::NoHost));
        let error = PostgresOptions { schema: "x;".to_owned(), ..good }.validate().unwrap_err();
        assert!(matches!(error, OptionsError::Schema(_)));
    }

    #[test]
    fn a_vanished_server_is_noticed_within_the_time_to_live_unless_the_user_says_otherwise() {
        let service = Service { time_to_live: Duration::from_secs(20), ..Service::default() };
        let server =
            PostgresOptions { service, ..options("postgres://u@localhost/d") }.effective_server().unwrap();
        let (idle, interval) = (server.get_keepalives_idle(), server.get_keepalives_interval().unwrap());
        assert!(idle + interval * server.get_keepalives_retries().unwrap() <= Duration::from_secs(20));
        assert_eq!(server.get_tcp_user_timeout(), Some(&Duration::from_secs(10)));
        assert_eq!(server.get_application_name(), Some("whizbang/default"));
        let own = options("postgres://u@localhost/d?keepalives_idle=77&application_name=shop");
        let own = own.effective_server().unwrap();
        assert_eq!(
            (own.get_keepalives_idle(), own.get_application_name()),
            (Duration::from_secs(77), Some("shop"))
        );
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_meant() {
        let attributes = |url: &str| options(url).effective_server().unwrap().get_target_session_attrs();
        assert_eq!(attributes("postgres://u@localhost,127.0.0.1/d"), TargetSessionAttrs::ReadWrite);
        assert_eq!(attributes("postgres://u@localhost/d"), TargetSessionAttrs::Any);
    }
}
