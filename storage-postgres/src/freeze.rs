//! What a database that was restored from a dump brought along of its old server's transactions.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Stop;
use crate::statements::Statements;

/// Makes what was restored look as old as it is, see `sql/functions/freeze.sql`.
pub(crate) async fn freeze(client: &Client, sql: &Statements, patience: Duration) -> Result<(), Stop> {
    let lock_timeout = format!("{}ms", patience.as_millis().max(1));
    let arguments = [(&sql.service as _, Type::INT4), (&lock_timeout as _, Type::TEXT)];
    let rows = client.query_typed(&sql.freeze, &arguments).await?;
    if rows.first().is_some_and(|row| row.get(0)) {
        tracing::info!("the database was restored from a dump: its transactions are none of this server's");
    }
    Ok(())
}
