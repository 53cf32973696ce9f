//! What an upgrade leaves as it was.

mod fixture;

use std::time::Duration;

use fixture::{connect, schema_name, schema_of_version};
use tokio_postgres::Client;
use whizbang_postgres_cluster::Cluster;
use whizbang_storage::{Partition, Service};
use whizbang_storage_conformance::{Member, Message, numbers, sender, stored, stream_in, subscription};
use whizbang_storage_postgres::{PostgresOptions, schema_sql};

/// A schema of today, and a role of its own.
async fn schema() -> (Client, String, String) {
    let schema = schema_name();
    let options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
    PostgresOptions { schema: schema.clone(), ..options }.migrate().await.unwrap();
    let (client, role) = (connect().await, format!("{schema}_role"));
    client.batch_execute(&format!("CREATE ROLE {role}")).await.unwrap();
    (client, schema, role)
}

/// Runs what an upgrade from the newest version to itself would run: everything but steps of tables.
async fn upgrade(client: &Client, schema: &str) {
    let version = format!("SELECT version FROM {schema}.schema_version");
    let version: i32 = client.query_one(&version, &[]).await.unwrap().get(0);
    client.batch_execute(&schema_sql(schema, version, None, None).unwrap()).await.unwrap();
}

async fn says(client: &Client, text: &str) -> bool {
    client.query_one(text, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn grants_views_and_functions_of_others_outlive_an_upgrade() {
    let (client, schema, role) = schema().await;
    let made = format!(
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};
        CREATE VIEW {schema}.mine AS SELECT * FROM {schema}.enqueue('shop', 'shop.order.v1', '{{}}'::bytea);
        CREATE FUNCTION {schema}.enqueue(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
        CREATE FUNCTION {schema}.exchange(currency text) RETURNS text LANGUAGE sql AS 'SELECT $1';"
    );
    client.batch_execute(&made).await.unwrap();
    upgrade(&client, &schema).await;
    let others = format!(
        "SELECT {schema}.enqueue('as it was') = 'as it was' AND {schema}.exchange('EUR') = 'EUR'
            AND EXISTS (SELECT FROM pg_views WHERE schemaname = '{schema}' AND viewname = 'mine')"
    );
    assert!(says(&client, &others).await);
    let granted = format!(
        "SELECT bool_and(has_function_privilege('{role}', p.oid, 'EXECUTE')
            AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))
        FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')"
    );
    assert!(says(&client, &granted).await);
}

#[tokio::test]
async fn a_function_with_other_arguments_gives_its_grants_to_its_successor() {
    let (client, schema, role) = schema().await;
    let count = format!(
        "SELECT count(*) = 1 AND bool_and(has_function_privilege('{role}', p.oid, 'EXECUTE')
            AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))
        FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace AND p.proname = 'exchange'"
    );
    let drop = format!(
        "SELECT 'DROP FUNCTION ' || p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.proname = 'exchange'"
    );
    let drop: String = client.query_one(&drop, &[]).await.unwrap().get(0);
    let made = format!(
        "{drop};
        CREATE FUNCTION {schema}.exchange(p_service integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
        REVOKE EXECUTE ON FUNCTION {schema}.exchange(integer) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION {schema}.exchange(integer) TO {role};"
    );
    client.batch_execute(&made).await.unwrap();
    upgrade(&client, &schema).await;
    assert!(says(&client, &count).await);
}

/// A role that may do what a store needs and no more, where nobody else may do anything by default, does it after an upgrade as
/// before.
#[tokio::test]
async fn a_role_with_few_rights_works_on_after_an_upgrade_from_every_version_that_was_kept() {
    for version in [1, 4] {
        let (client, schema) = (connect().await, schema_name());
        let [owner, role, other] = ["owner", "role", "other"].map(|name| format!("{schema}_{name}"));
        let old = schema_of_version(version, &schema);
        let made = format!(
            "CREATE ROLE {owner} LOGIN;
            CREATE ROLE {role} LOGIN;
            CREATE ROLE {other};
            SELECT pg_advisory_xact_lock(4);
            GRANT CREATE ON DATABASE postgres TO {owner};
            SET ROLE {owner};
            ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
            {old}
            GRANT USAGE ON SCHEMA {schema} TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {schema} TO {role};
            GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role} WITH GRANT OPTION;"
        );
        client.batch_execute(&made).await.unwrap();
        let service = Service {
            partitions: 4,
            // As the program of that time had it by itself.
            time_to_live: Duration::from_secs(10),
            ..Service::named("server")
        };
        let options = PostgresOptions::from_url(&Cluster::shared().url()).unwrap();
        let mut options = PostgresOptions { schema: schema.clone(), service, ..options };
        options.server.user(&owner);
        options.migrate().await.unwrap();

        options.server.user(&role);
        let mut a = Member::new(options.clone().open().await.unwrap(), sender(2));
        a.join(Some("group"), &[subscription("all")], &[]).await;
        // What the database of that time holds is out of the way.
        a.move_arrivals().await;
        let mut b = Member::new(options.open().await.unwrap(), sender(3));
        b.join(None, &[], &[]).await;
        let stream = stream_in(4, Partition(3), 1);
        let first = stored(&a.append(&[Message::event(10, stream)]).await);
        b.append(&[Message::command(11).of(stream)]).await;
        assert_eq!(a.move_arrivals().await, [(3, first[0] + 1)], "from version {version}");
        assert_eq!(numbers(&a.read(3, 0).await), [10, 11], "from version {version}");

        let right = format!(
            "SELECT bool_and(has_function_privilege('{role}', p.oid, 'EXECUTE WITH GRANT OPTION')
                AND NOT has_function_privilege('{other}', p.oid, 'EXECUTE'))
            FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace"
        );
        assert!(says(&client, &right).await, "from version {version}");
    }
}

/// Whoever runs the upgrade owns the functions that it makes. (The database's own grants are changed by one test at a time.)
#[tokio::test]
async fn the_owner_of_a_schema_works_on_after_somebody_else_has_upgraded_it() {
    let (client, schema) = (connect().await, schema_name());
    let owner = format!("{schema}_owner");
    let old = schema_of_version(4, &schema);
    let made = format!(
        "CREATE ROLE {owner} LOGIN;
        SELECT pg_advisory_xact_lock(4);
        GRANT CREATE ON DATABASE postgres TO {owner};
        SET ROLE {owner};
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        {old}
        RESET ROLE;"
    );
    client.batch_execute(&made).await.unwrap();
    client.batch_execute(&schema_sql(&schema, 4, None, None).unwrap()).await.unwrap();
    let new = format!(
        "SELECT count(*) > 0 FROM pg_proc p
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.proowner <> '{owner}'::regrole"
    );
    assert!(says(&client, &new).await, "nothing is new");
    let may = format!(
        "SELECT bool_and(has_function_privilege('{owner}', p.oid, 'EXECUTE')) FROM pg_proc p
        WHERE p.pronamespace = '{schema}'::regnamespace"
    );
    assert!(says(&client, &may).await);
}

#[tokio::test]
async fn a_function_that_somebody_makes_during_an_upgrade_is_not_taken_for_a_new_one() {
    let (client, schema, _) = schema().await;
    let closed = format!("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC");
    client.batch_execute(&closed).await.unwrap();
    let script = schema_sql(&schema, 5, None, None).unwrap();
    let (functions, grants) = script.split_at(script.find("DO $former$").unwrap());
    client.batch_execute(functions).await.unwrap();
    let made = format!("CREATE FUNCTION {schema}.total(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1'");
    connect().await.batch_execute(&made).await.unwrap();
    client.batch_execute(grants).await.unwrap();
    let open = format!(
        "SELECT EXISTS (SELECT FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            WHERE p.oid = '{schema}.total(integer)'::regprocedure AND a.grantee = 0)"
    );
    assert!(says(&client, &open).await);
}
