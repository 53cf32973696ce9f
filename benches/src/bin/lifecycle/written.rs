//! Bytes written for durability: by this process, or by the server it talks to.

use whizbang_benches::process::Usage;

use crate::Failed;

/// Who writes.
pub(crate) enum Written {
    /// This process.
    Process,
    /// A PostgreSQL server, into its write-ahead log.
    #[cfg(feature = "postgres")]
    Wal(Wal),
}

impl Written {
    /// Bytes so far; only differences mean something.
    pub(crate) async fn bytes(&self) -> Result<u64, Failed> {
        match self {
            Self::Process => Ok(Usage::now().written),
            #[cfg(feature = "postgres")]
            Self::Wal(wal) => wal.bytes().await,
        }
    }
}

/// A connection of its own, on which the server is asked how much it has logged.
#[cfg(feature = "postgres")]
pub(crate) struct Wal(tokio_postgres::Client);

#[cfg(feature = "postgres")]
impl Wal {
    /// Connects without TLS, because a server that is measured is near.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failed> {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    async fn bytes(&self) -> Result<u64, Failed> {
        let row = self.0.query_one("SELECT (pg_current_wal_lsn() - '0/0')::bigint", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }
}
