//! The schema: made and brought up to date under a lock, checked at every start, printed for an administrator.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use whizbang_storage::Service;

use crate::{OpenError, OptionsError, PostgresOptions};

/// The version that this crate's statements are written for.
pub(crate) const VERSION: i32 = 5;

/// The tables' steps to each version, the first from nothing.
const MIGRATIONS: [&str; VERSION as usize] = [
    include_str!("sql/schema/1_tables.sql"),
    include_str!("sql/schema/2_limits.sql"),
    include_str!("sql/schema/3_event_parts.sql"),
    include_str!("sql/schema/4_lateness.sql"),
    include_str!("sql/schema/5_come.sql"),
];

/// The functions hold nothing, so there are only those of today: they replace those that were there, and nothing else.
const FUNCTIONS: [&str; 10] = [
    include_str!("sql/functions/before.sql"),
    include_str!("sql/functions/freeze.sql"),
    include_str!("sql/functions/come.sql"),
    include_str!("sql/functions/exchange.sql"),
    include_str!("sql/functions/members.sql"),
    include_str!("sql/functions/recycle.sql"),
    include_str!("sql/functions/recycle_events.sql"),
    include_str!("sql/functions/enqueue_record.sql"),
    include_str!("sql/functions/enqueue.sql"),
    include_str!("sql/functions/former.sql"),
];

/// What an opened service knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) service: i32,
}

/// A statement with the schema's name in it.
pub(crate) fn sql(text: &str, schema: &str) -> String {
    // Only names that need no care are accepted; quoted, they may be reserved words.
    text.replace("{schema}", &format!("\"{schema}\""))
}

/// The SQL that brings a schema from version `from` (0: it is not there) to this crate's, in one transaction, for an
/// administrator to run; with a service to make known, and a role that may use it and no more than that. Run on a schema of
/// another version than `from`, it raises an error and changes nothing.
///
/// ```
/// let sql = whizbang_storage_postgres::schema_sql("whizbang", 0, None, Some("orders"))?;
/// assert!(sql.starts_with("BEGIN;") && sql.contains("GRANT"));
/// # Ok::<(), whizbang_storage_postgres::OpenError>(())
/// ```
///
/// # Errors
/// [`OpenError`] when the schema's name, the service or the role cannot be used, or nothing is known of version `from`.
pub fn schema_sql(
    schema: &str,
    from: i32,
    service: Option<&Service>,
    role: Option<&str>,
) -> Result<String, OpenError> {
    crate::options::check_schema(schema)?;
    if from > VERSION {
        return Err(OpenError::Newer { schema: schema.to_owned(), found: from, known: VERSION });
    }
    if from < 0 {
        let possible = "0, or the version that the schema has";
        return Err(OptionsError::Number { option: "from", value: from.to_string(), possible }.into());
    }
    let (found, known) = (from.to_string(), VERSION.to_string());
    let check =
        include_str!("sql/administrator/from.sql").replace("{from}", &found).replace("{known}", &known);
    let mut out = format!("BEGIN;\n\n{}{}", sql(&check, schema), statements(schema, from));
    if let Some(service) = service {
        service.validate()?;
        let (name, partitions) = (literal(&service.name), service.partitions);
        out.push_str(&sql(
            &format!(
                "INSERT INTO {{schema}}.service (name, partitions, time_to_live) VALUES ({name}, {partitions}, {})
    ON CONFLICT (name) DO NOTHING;\n",
                micros(service.time_to_live),
            ),
            schema,
        ));
    }
    if let Some(role) = role {
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        // The schema first: a role may be called whatever its administrator likes.
        let grant = sql(include_str!("sql/administrator/grant.sql"), schema);
        out.push_str(&grant.replace("{role}", &quoted).replace("{role_name}", &literal(role)));
    }
    out.push_str("\nCOMMIT;\n");
    Ok(out)
}

/// A text as a literal, whatever is in it and however the server reads backslashes, inside dollar quotes as well.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('$', "\\x24"))
}

/// The statements that bring a schema from a version to this crate's.
fn statements(schema: &str, from: i32) -> String {
    let mut out = String::new();
    if from == 0 {
        out.push_str(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";\n\n"));
    }
    for step in MIGRATIONS.iter().skip(from.max(0) as usize).chain(&FUNCTIONS) {
        out.push_str(&sql(step, schema));
        out.push('\n');
    }
    out.push_str(&sql(
        &format!(
            "INSERT INTO {{schema}}.schema_version (version) VALUES ({VERSION})
    ON CONFLICT (single) DO UPDATE SET version = excluded.version;\n"
        ),
        schema,
    ));
    out
}

impl PostgresOptions {
    /// Makes the schema, or brings it up to date; nothing happens when it is. Of several processes one does it, the others wait.
    ///
    /// The role needs the right to create the schema. Where it must not have that, `whizbang-pg-schema` prints the same
    /// statements for an administrator.
    ///
    /// # Errors
    /// [`OpenError`]; the database is then as it was before.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        let client = self.connect_once().await?;
        let failed = |source| OpenError::Postgres { schema: self.schema.clone(), source };
        // Held until the end of the transaction: through a pooler as well.
        // That the schema is there already is what is wished for, and no news.
        let lock = format!(
            "BEGIN; SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock(hashtext('whizbang'), hashtext('{}'));",
            self.schema
        );
        client.batch_execute(&lock).await.map_err(failed)?;
        let found = self.schema_version(&client).await?.unwrap_or(0);
        if found > VERSION {
            let schema = self.schema.clone();
            return Err(OpenError::Newer { schema, found, known: VERSION });
        }
        if found < VERSION {
            client.batch_execute(&statements(&self.schema, found)).await.map_err(failed)?;
        }
        client.batch_execute("COMMIT").await.map_err(failed)
    }

    /// Checks the schema, and agrees with it on the service.
    pub(crate) async fn agree(&self) -> Result<Agreed, OpenError> {
        let client = self.connect_once().await?;
        let schema = || self.schema.clone();
        match self.schema_version(&client).await? {
            None => return Err(OpenError::NoSchema { schema: schema(), known: VERSION }),
            Some(found) if found > VERSION => {
                return Err(OpenError::Newer { schema: schema(), found, known: VERSION });
            }
            Some(found) if found < VERSION => {
                return Err(OpenError::Older { schema: schema(), found, known: VERSION });
            }
            Some(_) => {}
        }
        let failed = |source| OpenError::Postgres { schema: schema(), source };
        let service = &self.service;
        let find = sql(include_str!("sql/find_service.sql"), &self.schema);
        let add = sql(include_str!("sql/add_service.sql"), &self.schema);
        let mut found = client.query_typed(&find, &[(&service.name, Type::TEXT)]).await.map_err(failed)?;
        if found.is_empty() {
            let (partitions, time_to_live) = (service.partitions as i32, micros(service.time_to_live));
            client
                .query_typed(
                    &add,
                    &[(&service.name, Type::TEXT), (&partitions, Type::INT4), (&time_to_live, Type::INT8)],
                )
                .await
                .map_err(failed)?;
            found = client.query_typed(&find, &[(&service.name, Type::TEXT)]).await.map_err(failed)?;
        }
        let row = found.first().ok_or_else(|| OpenError::NoSchema { schema: schema(), known: VERSION })?;
        let partitions = row.get::<_, i32>(1) as u32;
        let time_to_live = std::time::Duration::from_micros(row.get::<_, i64>(2) as u64);
        service.agrees_with(partitions, time_to_live)?;
        let limits = service.limits;
        let bytes = |max: usize| i32::try_from(max).unwrap_or(i32::MAX);
        let (id, payload, metadata): (i32, _, _) =
            (row.get(0), bytes(limits.payload_bytes_max), bytes(limits.metadata_bytes_max));
        let (name, key) = (bytes(limits.name_bytes_max), bytes(limits.key_bytes_max));
        let event_retention = service.event_retention.map(micros);
        let put = sql(include_str!("sql/put_settings.sql"), &self.schema);
        let arguments = crate::wire::Arguments::default()
            .add(&id, Type::INT4)
            .add(&payload, Type::INT4)
            .add(&metadata, Type::INT4)
            .add(&name, Type::INT4)
            .add(&key, Type::INT4)
            .add(&event_retention, Type::INT8);
        client.query_typed(&put, arguments.types()).await.map_err(failed)?;
        Ok(Agreed { service: row.get(0) })
    }

    /// None: there is no such schema, or it is not ours.
    ///
    /// # Errors
    /// [`OpenError::NoVersion`] for one of ours of which nobody can say what is in it.
    async fn schema_version(&self, client: &Client) -> Result<Option<i32>, OpenError> {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let table = format!("\"{}\".schema_version", self.schema);
        let failed = |source| OpenError::Postgres { schema: self.schema.clone(), source };
        let rows = client.query_typed(there, &[(&table, Type::TEXT)]).await.map_err(failed)?;
        if !rows.first().is_some_and(|row| row.get(0)) {
            return Ok(None);
        }
        let text = sql("SELECT version FROM {schema}.schema_version", &self.schema);
        match client.query_typed(&text, &[]).await {
            Ok(rows) => match rows.first() {
                Some(row) => Ok(Some(row.get(0))),
                None => Err(OpenError::NoVersion { schema: self.schema.clone() }),
            },
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// A connection for a moment.
    async fn connect_once(&self) -> Result<Client, OpenError> {
        let (client, connection) =
            self.connector()?.connect().await.map_err(|error| OpenError::Connect(error.into()))?;
        tokio::spawn(async move {
            // Whoever uses the client is told.
            let _ = connection.await;
        });
        Ok(client)
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
