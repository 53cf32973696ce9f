//! What was sent and never answered comes to nothing, or has come to its end.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use whizbang_storage::InstanceId;

use crate::error::Stop;
use crate::statements::Statements;
use crate::wire::uuid;

/// Ends whatever an instance has sent on a connection that is lost, in one round trip.
///
/// An exchange that is being carried out holds the instance's row, and a change of what all know alike, such as a join, whose
/// instance has no row yet, the service's: both are waited for. One that has not begun finds another version of the service
/// than it was decided on, and writes nothing; all others look again for that.
pub(crate) async fn fence(
    client: &Client,
    sql: &Statements,
    sender: InstanceId,
    patience: Duration,
) -> Result<(), Stop> {
    let millis = patience.as_millis().max(1);
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}"
    );
    let id = uuid(sender.to_bytes());
    let service: [(&(dyn ToSql + Sync), Type); 1] = [(&sql.service, Type::INT4)];
    let instance: [(&(dyn ToSql + Sync), Type); 2] = [(&sql.service, Type::INT4), (&id, Type::UUID)];
    let steps: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = vec![
        Box::pin(client.batch_execute(&begin)),
        Box::pin(async { client.query_typed(&sql.lock_service, &service).await.map(drop) }),
        Box::pin(async { client.query_typed(&sql.lock_instance, &instance).await.map(drop) }),
        Box::pin(async { client.query_typed(&sql.outdate, &service).await.map(drop) }),
        Box::pin(client.batch_execute("COMMIT")),
    ];
    join_all(steps).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}
