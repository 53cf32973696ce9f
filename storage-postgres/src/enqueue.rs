//! Messages in transactions of users.

use std::sync::Arc;

use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;
use whizbang_storage::{Append, Clock, Limits, MessageId, record, refuse};

use crate::body;
use crate::schema::{Agreed, sql};
use crate::wire::{Arguments, uuid};
use crate::{EnqueueError, Enqueued, PostgresOptions};

/// Enqueues messages of one service in transactions of your own: they arrive when the transaction commits.
///
/// A `whizbang::Unit` turns messages of your own into what is enqueued: it gives them ids, encodes
/// them, and takes keys, delays and headers, as a handler's does.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use whizbang::{Command, EmitOptions, Unit};
///
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "shop.place-order", version = 1)]
/// struct PlaceOrder {
///     #[stream]
///     order: u64,
/// }
///
/// # async fn place(store: &whizbang_storage_postgres::PostgresStore, mine: &mut tokio_postgres::Client)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// let enqueuer = store.enqueuer();
/// let mut unit = Unit::default();
/// unit.emit(&PlaceOrder { order: 4711 }, EmitOptions { once: Some(b"order 4711"), ..EmitOptions::default() })?;
///
/// let transaction = mine.transaction().await?;
/// transaction.execute("INSERT INTO orders VALUES (4711)", &[]).await?;
/// for message in unit.view().emits() {
///     enqueuer.enqueue(&transaction, &message).await?;
/// }
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
///
/// # Without this crate
/// sqlx, diesel, psql and every other client call the function `enqueue` in the schema, which does the same. Its comment
/// (`sql/functions/enqueue.sql`, printed by `whizbang-pg-schema`) says everything about its arguments; their order and names
/// are kept.
///
/// ```sql
/// BEGIN;
/// INSERT INTO orders VALUES (4711);
/// SELECT id, arrived FROM whizbang.enqueue('shop', 'shop.place-order', convert_to('{"order": 4711}', 'UTF8'),
///     stream_key => '4711', headers => '{tenant, acme}', dedup_key => 'order 4711', due_in => '5 seconds');
/// COMMIT;
/// ```
///
/// The role needs what a service needs, of it: `USAGE` of the schema, `SELECT` of `service`, `SELECT` and `INSERT` of `dedup`
/// and `arrival`. What is refused is so by the limits of whoever opened the service last. SQL knows no hash of ours, so the
/// message arrives as a draft; every instance that writes partitions reads it, and the one whose partition it is takes it in.
#[derive(Clone)]
pub struct Enqueuer {
    text: Arc<str>,
    service: i32,
    partitions: u32,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
}

impl Enqueuer {
    pub(crate) fn new(options: &PostgresOptions, agreed: Agreed) -> Self {
        let text =
            "SELECT first, first_body FROM {schema}.enqueue_record($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        Self {
            text: sql(text, &options.schema).into(),
            service: agreed.service,
            partitions: options.service.partitions,
            limits: options.service.limits,
            clock: options.clock.clone(),
        }
    }

    /// Enqueues a message in a transaction: it arrives when that commits, and was never there when it does not.
    ///
    /// A key that an open transaction has used makes whoever brings the same key wait for the transaction's end.
    ///
    /// # Errors
    /// [`EnqueueError`].
    pub async fn enqueue<C: GenericClient>(
        &self,
        transaction: &C,
        message: &Append<'_>,
    ) -> Result<Enqueued, EnqueueError> {
        refuse::append(message, &self.limits)?;
        let lane = message.lane();
        let partition = lane.partition(self.partitions).0 as i32;
        let due_in = message.due_in.map(crate::schema::micros);
        let now = self.clock.as_ref().map(|clock| clock.now().micros());
        let mut bytes = Vec::new();
        record::encode(message, &mut bytes);
        let (lane, id) = (uuid(lane.to_bytes()), uuid(message.id.to_bytes()));
        let signed = body::digest(message.payload) as i64;
        let arguments = Arguments::default()
            .add(&self.service, Type::INT4)
            .add(&partition, Type::INT4)
            .add(&due_in, Type::INT8)
            .add(&now, Type::INT8)
            .add(&lane, Type::UUID)
            .add(&bytes, Type::BYTEA)
            .add(&message.dedup, Type::BYTEA)
            .add(&id, Type::UUID)
            .add(&signed, Type::INT8);
        let rows = transaction.query_typed(&self.text, arguments.types()).await?;
        let first = rows.first().and_then(|row| row.get::<_, Option<Uuid>>(0));
        let Some(first) = first.and_then(|first| MessageId::from_bytes(first.into_bytes())) else {
            return Ok(Enqueued::Arrived);
        };
        let first_body: i64 = rows.first().and_then(|row| row.get(1)).unwrap_or_default();
        Ok(Enqueued::Duplicate { first, body: body::compare(first_body as u64, message.payload) })
    }
}
