//! Making connections: plain ones, and encrypted ones that know whom they talk to.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};

use crate::options::{OptionsError, RootCertificates};

/// What a connection does about encryption, after everything has been decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    Off,
    /// Only where plaintext is allowed by name.
    IfOffered,
    On,
}

/// What the driver calls to encrypt a connection.
#[cfg(feature = "tls")]
pub(crate) type MakeTls = tokio_postgres_rustls::MakeRustlsConnect;
/// What the driver calls to encrypt a connection: nothing, in a program without TLS.
#[cfg(not(feature = "tls"))]
pub(crate) type MakeTls = tokio_postgres::NoTls;

/// What carries a connection that is encrypted.
pub(crate) type TlsStream = <MakeTls as MakeTlsConnect<Socket>>::Stream;

/// Makes connections to one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: MakeTls,
    timeout: Duration,
}

/// Why there is no connection. Nothing that changes anything was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection to {at} after {after:?}")]
    Timeout { at: String, after: Duration },
    #[error("no connection to {at}")]
    Postgres { at: String, source: tokio_postgres::Error },
}

#[cfg_attr(not(feature = "tls"), allow(clippy::clone_on_copy, reason = "what encrypts nothing is Copy"))]
impl Connector {
    pub(crate) fn new(
        config: Config,
        encryption: Encryption,
        roots: &RootCertificates,
        timeout: Duration,
    ) -> Result<Self, OptionsError> {
        Ok(Self { config, tls: make_tls(encryption, roots)?, timeout })
    }

    /// A connection, and what has to be polled for it to do anything.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), ConnectError> {
        // The driver's own limit ends with the TCP handshake: a server that takes the call and says nothing is waited for.
        let connecting = tokio::time::timeout(self.timeout, self.config.connect(self.tls.clone()));
        match connecting.await {
            Ok(connected) => connected.map_err(|source| self.failed(source)),
            Err(_) => Err(ConnectError::Timeout { at: places(&self.config), after: self.timeout }),
        }
    }

    /// What the driver says, with the server of which it says it.
    pub(crate) fn failed(&self, source: tokio_postgres::Error) -> ConnectError {
        ConnectError::Postgres { at: places(&self.config), source }
    }

    /// The driver's configuration with everything decided, for a pool that makes its own connections.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }
}

/// The pool makes its connections this way: whoever uses one is told what became of it, and a log need not be.
impl deadpool_postgres::Connect for Connector {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        let Self { config, tls, .. } = self.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let task = tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok((client, task))
        })
    }
}

/// A connection of the pool's that is being made, and the task that moves its bytes.
type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

/// The servers that are tried.
fn places(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |nth: usize| ports.get(nth).or(ports.first()).copied().unwrap_or(5432);
    let with_port = |host: &str, nth| match host.contains(':') {
        true => format!("[{host}]:{}", port(nth)),
        false => format!("{host}:{}", port(nth)),
    };
    let hosts = config.get_hosts().iter().enumerate().map(|(nth, host)| match host {
        Host::Tcp(name) => with_port(name, nth),
        Host::Unix(directory) => directory.join(format!(".s.PGSQL.{}", port(nth))).display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().enumerate();
    let addresses: Vec<String> =
        addresses.map(|(nth, address)| with_port(&address.to_string(), nth)).collect();
    let hosts: Vec<String> = hosts.collect();
    match (hosts.is_empty(), addresses.is_empty()) {
        (false, false) => format!("{} ({})", hosts.join(", "), addresses.join(", ")),
        (true, _) => addresses.join(", "),
        (false, true) => hosts.join(", "),
    }
}

#[cfg(not(feature = "tls"))]
fn make_tls(_: Encryption, _: &RootCertificates) -> Result<MakeTls, OptionsError> {
    Ok(tokio_postgres::NoTls)
}

#[cfg(feature = "tls")]
fn make_tls(encryption: Encryption, roots: &RootCertificates) -> Result<MakeTls, OptionsError> {
    use std::sync::Arc;

    let roots = match encryption {
        // Nobody will ask; and a machine without certificates must be able to talk to itself.
        Encryption::Off => rustls::RootCertStore::empty(),
        Encryption::IfOffered | Encryption::On => root_store(roots, "the PEM text")?,
    };
    // Named here, so that it does not matter what else in the program has chosen a provider, or has not.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

/// Refuses the text of a file that would be of no use, with the file's name.
#[cfg(feature = "tls")]
pub(crate) fn check_roots(text: String, path: &str) -> Result<RootCertificates, OptionsError> {
    let roots = RootCertificates::Pem(text);
    root_store(&roots, path)?;
    Ok(roots)
}

/// What nobody would look at is refused: it was meant to protect something.
#[cfg(not(feature = "tls"))]
pub(crate) fn check_roots(_: String, _: &str) -> Result<RootCertificates, OptionsError> {
    Err(OptionsError::NoTls)
}

/// The certificates themselves; `from` says where a text of them is from.
#[cfg(feature = "tls")]
fn root_store(roots: &RootCertificates, from: &str) -> Result<rustls::RootCertStore, OptionsError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut store = rustls::RootCertStore::empty();
    match roots {
        RootCertificates::System => {
            let found = rustls_native_certs::load_native_certs();
            let (usable, _) = store.add_parsable_certificates(found.certs);
            if usable == 0 {
                let why =
                    found.errors.first().map_or_else(|| "there is none".to_owned(), ToString::to_string);
                return Err(OptionsError::RootCertificates { from: "this machine".to_owned(), why });
            }
        }
        RootCertificates::Pem(text) => {
            let failed = |why: String| OptionsError::RootCertificates { from: from.to_owned(), why };
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                store.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(failed("there is none in it".to_owned()));
            }
        }
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::options::PostgresOptions;

    /// Connects, and says whether the server thinks that it is encrypted.
    async fn is_encrypted(url: &str, roots: RootCertificates) -> Result<bool, ConnectError> {
        let options = PostgresOptions { root_certificates: roots, ..PostgresOptions::from_url(url).unwrap() };
        let (client, connection) = options.connector().unwrap().connect().await?;
        let driver = tokio::spawn(connection);
        let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(question, &[]).await.unwrap();
        drop(client);
        driver.await.expect("the connection does not panic").unwrap();
        Ok(row.get(0))
    }

    #[cfg(feature = "tls")]
    mod with_tls {
        use whizbang_postgres_cluster::{Cluster, Options, ServerTls};

        use super::*;

        fn certificate(name: &str) -> (RootCertificates, ServerTls) {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            (RootCertificates::Pem(certificate.clone()), ServerTls { certificate, key })
        }

        fn server(tls: Option<ServerTls>) -> Cluster {
            Cluster::start(Options { fsync: false, tls, ..Options::default() }).unwrap()
        }

        fn url(cluster: &Cluster, host: &str, mode: &str) -> String {
            format!(
                "postgres://postgres@{host}:{}/postgres?sslmode={mode}&hostaddr=127.0.0.1",
                cluster.port()
            )
        }

        #[tokio::test]
        async fn a_server_is_talked_to_in_secret_when_it_is_the_one_that_was_meant() {
            let (roots, tls) = certificate("db.internal");
            let cluster = server(Some(tls));
            for mode in ["require", "verify-full"] {
                assert!(
                    is_encrypted(&url(&cluster, "db.internal", mode), roots.clone()).await.unwrap(),
                    "{mode}"
                );
            }
            let (others, _) = certificate("db.internal");
            for (host, roots, why) in [
                ("db.elsewhere", roots.clone(), "another name"),
                ("db.internal", others, "signed by somebody else"),
            ] {
                let refused = is_encrypted(&url(&cluster, host, "require"), roots).await;
                assert!(matches!(&refused, Err(ConnectError::Postgres { .. })), "{why}: {refused:?}");
            }
            // On one machine nobody asks, so that a certificate that nobody knows is no trouble.
            assert!(!is_encrypted(&cluster.tcp_url(), roots).await.unwrap());
        }

        #[tokio::test]
        async fn a_server_that_cannot_encrypt_is_told_nothing() {
            let (roots, _) = certificate("localhost");
            let cluster = server(None);
            let refused = is_encrypted(&url(&cluster, "localhost", "require"), roots).await;
            let error = refused.expect_err("it was to be encrypted");
            let error = crate::OpenError::Connect(error.into()).to_string();
            assert!(error.contains("TLS"), "{error}");
        }

        #[test]
        fn a_file_without_a_certificate_is_named() {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("root.pem");
            std::fs::write(&path, "no certificate").unwrap();
            let path = path.to_str().unwrap();
            let url = format!("postgres://u@host/d?sslmode=verify-full&sslrootcert={path}");
            let refused = PostgresOptions::from_url(&url).unwrap_err().to_string();
            assert!(refused.contains(path) && refused.contains("there is none in it"), "{refused}");
        }

        #[test]
        fn roots_that_are_none_are_refused_before_anything_is_sent() {
            for pem in
                ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
            {
                let refused = root_store(&RootCertificates::Pem(pem.to_owned()), "the PEM text");
                assert!(matches!(refused, Err(OptionsError::RootCertificates { .. })), "{pem:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_server_on_this_machine_is_talked_to_plainly() {
        let cluster = whizbang_postgres_cluster::Cluster::shared();
        for url in [cluster.url(), cluster.tcp_url()] {
            assert!(!is_encrypted(&url, RootCertificates::System).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        for (url, named) in [
            // None of these is looked up in a network.
            ("postgres://u@localhost:1/d", "localhost:1"),
            (
                "postgres://u@nowhere.invalid:1/d?sslmode=disable&hostaddr=127.0.0.1",
                "nowhere.invalid:1 (127.0.0.1:1)",
            ),
            ("postgres://u@[::1]:1/d", "[::1]:1"),
            ("postgres://u@%2Fnowhere:7/d", "/nowhere/.s.PGSQL.7"),
        ] {
            let options = PostgresOptions::from_url(url).unwrap();
            let remote_plaintext = crate::RemotePlaintext::Allowed;
            let options = PostgresOptions { remote_plaintext, ..options };
            let refused = options.open().await.map(drop).unwrap_err().to_string();
            assert!(refused.contains(&format!("no connection to {named}: ")), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_the_call_and_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://u@127.0.0.1:{}/d", silent.local_addr().unwrap().port());
        let options = PostgresOptions::from_url(&url).unwrap();
        let options = PostgresOptions { connect_timeout: Duration::from_millis(50), ..options };
        let begun = Instant::now();
        let refused = options.connector().unwrap().connect().await.err().expect("nobody answers");
        assert!(matches!(refused, ConnectError::Timeout { .. }), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
