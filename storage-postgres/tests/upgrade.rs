//! What an upgrade leaves as it was.

mod fixture;

use fixture::{connect, schema_name};
use tokio_postgres::Client;
use whizbang_postgres_cluster::Cluster;
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
