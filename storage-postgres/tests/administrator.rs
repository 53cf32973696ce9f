//! What an administrator runs, what a service may then do, and what either is told when the schema is not as it should be.

mod fixture;

use std::process::{Command, Output};
use std::sync::Mutex;

use fixture::{connect, schema_name, schema_of_version};
use tokio_postgres::Client;
use whizbang_postgres_cluster::Cluster;
use whizbang_storage_postgres::{OpenError, PostgresOptions, Service, schema_sql};

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whizbang-pg-schema")).args(arguments).output().unwrap()
}

/// What the program prints.
fn printed(arguments: &[&str]) -> String {
    let output = program(arguments);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn options(schema: &str) -> PostgresOptions {
    let options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
    PostgresOptions { schema: schema.to_owned(), service: Service::named("orders"), ..options }
}

/// Runs a script that is to be refused, and says how.
async fn refused(sql: &Client, script: &str) -> String {
    let error = sql.batch_execute(script).await.unwrap_err();
    sql.batch_execute("ROLLBACK").await.unwrap();
    error.as_db_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn a_service_is_opened_on_what_the_program_prints_without_being_told_more() {
    let (sql, schema) = (connect().await, schema_name());
    let role = format!("role_{schema}");
    sql.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let script = printed(&["--schema", &schema, "--service", "orders", "--role", &role]);
    sql.batch_execute(&script).await.unwrap();
    let mut options = options(&schema);
    options.server.user(&role);
    options.open().await.unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused_in_words() {
    for (arguments, words) in [
        (&["--time-to-live", "10"][..], "--service"),
        (&["--partitions", "4"], "--service"),
        (&["--service", "orders", "--time-to-live", "0"], "a time to live of 0ns: between 30 ms"),
        (&["--service", "orders", "--time-to-live", "-1"], "a time to live of -1 seconds is none"),
        (&["--from", "-1"], "option `from` is -1"),
        (&["--from", "99"], "has version 99"),
    ] {
        let output = program(arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn help_shows_how_it_is_used() {
    let help = printed(&["--help"]);
    assert!(help.contains("--service orders --role orders | psql -v ON_ERROR_STOP=1"), "{help}");
}

#[tokio::test]
async fn a_service_reads_the_version_and_cannot_change_it() {
    let (sql, schema) = (connect().await, schema_name());
    // Whatever a role is called.
    let role = format!("r$grant$'\"\\{schema}");
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    sql.batch_execute(&format!("CREATE ROLE {quoted}")).await.unwrap();
    sql.batch_execute(&schema_sql(&schema, 0, None, None).unwrap()).await.unwrap();
    // A grant of a program before is taken back.
    sql.batch_execute(&format!("GRANT ALL ON {schema}.schema_version TO {quoted}")).await.unwrap();
    let version: i32 =
        sql.query_one(&format!("SELECT version FROM {schema}.schema_version"), &[]).await.unwrap().get(0);
    sql.batch_execute(&schema_sql(&schema, version, None, Some(&role)).unwrap()).await.unwrap();
    let may = async |right: &str, table: &str| -> bool {
        let text = "SELECT has_table_privilege($1, $2, $3)";
        let row = sql.query_one(text, &[&role, &format!("{schema}.{table}"), &right]).await;
        row.unwrap().get(0)
    };
    assert!(may("SELECT", "schema_version").await);
    for right in ["INSERT", "UPDATE", "DELETE", "TRUNCATE"] {
        assert!(!may(right, "schema_version").await, "{right}");
        assert!(may(right, "instance").await, "{right}");
    }
}

#[tokio::test]
async fn a_role_that_owns_the_schema_stays_its_owner() {
    let (sql, schema) = (connect().await, schema_name());
    let role = format!("owner_{schema}");
    sql.batch_execute(&format!(
        "CREATE ROLE {role}; GRANT CREATE ON DATABASE postgres TO {role}; SET ROLE {role}"
    ))
    .await
    .unwrap();
    sql.batch_execute(&schema_sql(&schema, 0, None, Some(&role)).unwrap()).await.unwrap();
    sql.batch_execute(&format!("UPDATE {schema}.schema_version SET version = version")).await.unwrap();
}

#[tokio::test]
async fn a_script_for_another_version_says_which_one_is_needed_and_changes_nothing() {
    let (sql, schema) = (connect().await, schema_name());
    let missing = refused(&sql, &schema_sql(&schema, 1, None, None).unwrap()).await;
    assert!(missing.contains("has version 0 and not 1"), "{missing}");
    sql.batch_execute(&schema_of_version(1, &schema)).await.unwrap();
    let anew = refused(&sql, &schema_sql(&schema, 0, None, None).unwrap()).await;
    assert!(anew.contains("has version 1 and not 0: print this script with --from 1"), "{anew}");
    let script = schema_sql(&schema, 1, None, None).unwrap();
    sql.batch_execute(&script).await.unwrap();
    let again = refused(&sql, &script).await;
    assert!(again.contains("and not 1: print this script with --from"), "{again}");
    sql.batch_execute(&format!("UPDATE {schema}.schema_version SET version = 99")).await.unwrap();
    let newer = refused(&sql, &script).await;
    assert!(newer.contains("has version 99, this script knows versions up to"), "{newer}");
}

#[tokio::test]
async fn the_database_itself_says_how_enqueue_is_called() {
    let (sql, schema) = (connect().await, schema_name());
    sql.batch_execute(&schema_of_version(4, &schema)).await.unwrap();
    options(&schema).migrate().await.unwrap();
    let text = "SELECT p.proargnames, p.proargmodes::text[], obj_description(p.oid) FROM pg_proc p
        WHERE p.pronamespace = $1::text::regnamespace AND p.proname = 'enqueue'";
    let row = sql.query_one(text, &[&schema]).await.unwrap();
    let (names, modes, comment): (Vec<String>, Vec<String>, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(names.len(), 19);
    for (name, _) in names.iter().zip(modes).filter(|(_, mode)| mode == "i") {
        let told = comment.lines().any(|line| line.starts_with(&format!("{name}: ")));
        assert!(told, "{name}: {comment}");
    }
    assert!(comment.contains("unroutable_after"), "{comment}");
}

/// What the driver would write into a program's log.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn migrating_says_nothing_of_a_schema_that_is_there_already() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let (sql, schema) = (connect().await, schema_name());
    sql.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    options(&schema).migrate().await.unwrap();
    let said = |schema: &str| -> Vec<String> {
        LOG.0.lock().unwrap().iter().filter(|line| line.contains(schema)).cloned().collect()
    };
    assert_eq!(said(&schema), [""; 0]);
    // The driver does say such things, where nobody has asked for silence.
    sql.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await.unwrap();
    sql.batch_execute("SELECT 1").await.unwrap();
    assert!(said(&schema)[0].contains("already exists, skipping"), "{:?}", said(&schema));
}

#[tokio::test]
async fn an_older_schema_is_refused_with_the_command_that_brings_it_up_to_date() {
    let (sql, schema) = (connect().await, schema_name());
    sql.batch_execute(&schema_of_version(4, &schema)).await.unwrap();
    let told = options(&schema).open().await.map(drop).unwrap_err().to_string();
    let command = format!("--schema {schema} --from 4");
    assert!(
        told.contains(&format!("`whizbang-pg-schema {command}`")) && told.contains("`migrate`"),
        "{told}"
    );
    sql.batch_execute(&printed(&command.split(' ').collect::<Vec<_>>())).await.unwrap();
    let service = Service { time_to_live: std::time::Duration::from_secs(10), ..Service::named("server") };
    let service = Service { partitions: 4, ..service };
    PostgresOptions { service, ..options(&schema) }.open().await.unwrap();
}

#[tokio::test]
async fn a_schema_whose_version_is_lost_is_told_alike_by_everything_that_meets_it() {
    let (sql, schema) = (connect().await, schema_name());
    let options = options(&schema);
    options.migrate().await.unwrap();
    sql.batch_execute(&format!("DELETE FROM {schema}.schema_version")).await.unwrap();
    for refused in [options.clone().open().await.map(drop).unwrap_err(), options.migrate().await.unwrap_err()]
    {
        assert!(matches!(refused, OpenError::NoVersion { .. }), "{refused}");
        assert!(refused.to_string().contains("without a row"), "{refused}");
    }
    let script = refused(&sql, &schema_sql(&schema, 0, None, None).unwrap()).await;
    assert!(script.contains("without a row"), "{script}");
}
