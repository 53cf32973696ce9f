//! A server comes, goes, comes back with what was committed, and never outlives its owner.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use whizbang_postgres_cluster::{Cluster, ClusterError, Options};

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Its end is seen in what the client answers.
    tokio::spawn(connection);
    Ok(client)
}

async fn one(client: &Client, question: &str) -> String {
    client.query_one(question, &[]).await.expect("it answers").get(0)
}

#[test]
fn the_program_explains_itself_and_refuses_arguments_without_starting_a_server() {
    let run = |argument| {
        let program = env!("CARGO_BIN_EXE_whizbang-postgres-cluster");
        let said = Command::new(program).arg(argument).stdin(Stdio::null()).output().expect("it runs");
        let [out, err] = [said.stdout, said.stderr].map(|text| String::from_utf8(text).expect("text"));
        (said.status.code(), out, err)
    };
    let (code, out, _) = run("--help");
    assert!(code == Some(0) && out.contains("Usage") && !out.contains("postgres://"), "{out}");
    let (code, out, err) = run("--port");
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(err.contains("--port"), "{err}");
}

#[tokio::test]
async fn a_server_is_reached_over_its_socket_and_the_loopback_address_and_syncs_what_it_commits() {
    let cluster = Cluster::start(Options::default()).unwrap();
    for url in [cluster.url(), cluster.tcp_url()] {
        let client = connect(&url).await.unwrap();
        assert_eq!(one(&client, "SHOW fsync").await, "on");
        assert_eq!(one(&client, "SHOW server_encoding").await, "UTF8");
    }
    assert!(cluster.socket().exists());
}

#[tokio::test]
async fn what_was_committed_is_there_again_however_the_server_ended() {
    let cluster = Cluster::start(Options::default()).unwrap();
    connect(&cluster.url()).await.unwrap().batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    type End = fn(&Cluster) -> Result<(), ClusterError>;
    let ends: [End; 3] = [Cluster::stop, Cluster::crash, Cluster::kill];
    for (count, end) in ends.into_iter().enumerate() {
        let client = connect(&cluster.tcp_url()).await.unwrap();
        client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        let port = cluster.port();
        end(&cluster).unwrap();
        assert!(connect(&cluster.tcp_url()).await.is_err(), "it has ended");
        assert!(matches!(end(&cluster), Err(ClusterError::State(_))), "it cannot end twice");
        cluster.start_again().unwrap();
        assert_eq!(cluster.port(), port);
        let client = connect(&cluster.tcp_url()).await.unwrap();
        let kept: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
        assert_eq!(kept, count as i64 + 1);
    }
    assert!(matches!(cluster.start_again(), Err(ClusterError::State(_))), "it runs already");
}

#[tokio::test]
async fn a_server_that_refuses_writes_says_so_until_it_accepts_them_again() {
    let cluster = Cluster::start(Options { fsync: false, ..Options::default() }).unwrap();
    let client = connect(&cluster.url()).await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    cluster.refuse_writes().unwrap();
    until(&client, "on").await;
    let error = client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    cluster.accept_writes().unwrap();
    until(&client, "off").await;
    client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
}

/// Waits until a session has taken notice.
async fn until(client: &Client, expected: &str) {
    let begun = Instant::now();
    while one(client, "SHOW default_transaction_read_only").await != expected {
        assert!(begun.elapsed() < Duration::from_secs(10), "the session was not told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_shared_server_is_one_and_settings_of_ones_own_are_taken() {
    let shared = connect(&Cluster::shared().url()).await.unwrap();
    assert_eq!(Cluster::shared().port(), Cluster::shared().port());
    assert_eq!(one(&shared, "SHOW fsync").await, "off");
    let settings = vec![("max_connections".to_owned(), "7".to_owned())];
    let own = Cluster::start(Options { settings, ..Options::default() }).unwrap();
    let client = connect(&own.url()).await.unwrap();
    assert_eq!(one(&client, "SHOW max_connections").await, "7");
}

#[test]
fn a_setting_that_the_server_does_not_take_is_told_in_its_words() {
    let settings = vec![("shared_buffers".to_owned(), "a lot".to_owned())];
    let error = Cluster::start(Options { settings, ..Options::default() }).unwrap_err();
    assert!(matches!(&error, ClusterError::NotReady { log, .. } if log.contains("a lot")), "{error}");
}

#[test]
fn a_server_does_not_outlive_a_process_that_is_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_whizbang-postgres-cluster"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap());
    let urls: Vec<String> = said.lines().take(2).map(Result::unwrap).collect();
    let between = |text: &str, from: char| text.rsplit_once(from).unwrap().1.to_owned();
    let directory = between(urls[0].rsplit_once(':').unwrap().0, '@').replace("%2F", "/");
    let address = between(urls[1].rsplit_once('/').unwrap().0, '@');
    assert!(Path::new(&directory).join("data").exists());
    assert!(TcpStream::connect(&address).is_ok());

    owner.kill().unwrap();
    owner.wait().unwrap();
    let begun = Instant::now();
    while Path::new(&directory).exists() || TcpStream::connect(&address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{directory} and {address} are still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_server_programs_it_says_what_to_install() {
    let nothing = tempfile::tempdir().unwrap();
    let said = Command::new(env!("CARGO_BIN_EXE_whizbang-postgres-cluster"))
        .env("WHIZBANG_POSTGRES_BIN", nothing.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success());
    assert!(error.contains("apt-get install postgresql") && error.contains("no postgres"), "{error}");
}
