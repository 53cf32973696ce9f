//! What any instance may write (what is parked for anybody, what an operator asks for) is changed while none of them writes:
//! their rows are locked, everything is read, decided and written in one transaction of a few round trips.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Stop;
use crate::statements::Statements;

/// Begins the transaction and takes all locks, the service's first, in one round trip.
pub(crate) async fn begin(client: &Client, sql: &Statements, patience: Duration) -> Result<(), Stop> {
    let millis = patience.as_millis().max(1);
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}"
    );
    let lock = |text| async move { client.query_typed(text, &[(&sql.service, Type::INT4)]).await.map(drop) };
    let steps: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = vec![
        Box::pin(async { client.batch_execute(&begin).await }),
        Box::pin(lock(&sql.lock_service)),
        Box::pin(lock(&sql.lock_instances)),
    ];
    join_all(steps).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}
