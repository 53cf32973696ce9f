//! What is said when nobody is let in.

use whizbang_postgres_cluster::Cluster;
use whizbang_storage_postgres::PostgresOptions;

#[tokio::test]
async fn who_is_not_let_in_hears_why() {
    let url = Cluster::shared().url();
    let nowhere = match url.rsplit_once('/') {
        Some((server, _)) if !url.contains('?') => format!("{server}/nowhere"),
        _ => format!("{url}&dbname=nowhere"),
    };
    let options = PostgresOptions::from_url(&nowhere).unwrap();
    let refused = options.migrate().await.unwrap_err().to_string();
    assert!(refused.contains("database \"nowhere\" does not exist"), "{refused}");
}
