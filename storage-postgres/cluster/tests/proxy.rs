//! The proxy cuts where it is told to, and counts what passes.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Proxy};

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A table of its own, and a connection that bypasses the proxy, to look what is there.
async fn table(name: &str) -> Client {
    let witness = connect(&Cluster::shared().url()).await.unwrap();
    witness.batch_execute(&format!("CREATE TABLE {name} (n bigint)")).await.unwrap();
    witness
}

async fn count(witness: &Client, table: &str) -> i64 {
    witness.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_passes_is_counted_and_a_simple_question_is_one_turn() {
    let proxy = Proxy::in_front_of(Cluster::shared()).unwrap();
    let client = connect(&proxy.url()).await.unwrap();
    let before = proxy.traffic();
    assert_eq!((before.connections, before.answers), (1, 1));
    client.batch_execute("SELECT 1; SELECT 2").await.unwrap();
    let after = proxy.traffic();
    assert_eq!(after.questions - before.questions, 1);
    assert_eq!(after.answers - before.answers, 1);
    assert_eq!(after.turns - before.turns, 1);
    assert_eq!(after.to_server.messages - before.to_server.messages, 1);
    // Two times a description, a row and its end, and that it is ready.
    assert_eq!(after.to_client.messages - before.to_client.messages, 7);
}

#[tokio::test]
async fn an_answer_is_cut_at_every_byte_and_what_was_asked_is_done_nevertheless() {
    let (proxy, witness) = (Proxy::in_front_of(Cluster::shared()).unwrap(), table("cut_answers").await);
    let (mut cuts, mut done) = (0, 0);
    loop {
        let client = connect(&proxy.url()).await.unwrap();
        proxy.arm(Fault::CutAfterBytes(Direction::ToClient, cuts));
        let answered = client.batch_execute("INSERT INTO cut_answers VALUES (1)").await;
        assert_eq!(count(&witness, "cut_answers").await, done + 1, "after {cuts} bytes");
        done += 1;
        if answered.is_ok() {
            break;
        }
        cuts += 1;
        assert_eq!(proxy.faults(), cuts);
    }
    // CommandComplete "INSERT 0 1" and ReadyForQuery; cut after its last byte, it is not cut.
    assert_eq!(cuts, 16 + 6);
}

#[tokio::test]
async fn a_question_that_does_not_arrive_whole_is_not_done() {
    let (proxy, witness) = (Proxy::in_front_of(Cluster::shared()).unwrap(), table("cut_questions").await);
    let question = "INSERT INTO cut_questions VALUES (1)";
    let bytes = question.len() as u64 + 6;
    for passes in 0..bytes {
        let client = connect(&proxy.url()).await.unwrap();
        proxy.arm(Fault::CutAfterBytes(Direction::ToServer, passes));
        client.batch_execute(question).await.expect_err("it was cut");
    }
    assert_eq!(proxy.faults(), bytes);
    assert_eq!(count(&witness, "cut_questions").await, 0);
}

#[tokio::test]
async fn a_transaction_is_cut_between_its_messages() {
    let (proxy, witness) = (Proxy::in_front_of(Cluster::shared()).unwrap(), table("cut_messages").await);
    for (passes, expected) in [(0, 0), (1, 0), (2, 0), (3, 1)] {
        let client = connect(&proxy.url()).await.unwrap();
        proxy.arm(Fault::CutAfterMessages(Direction::ToServer, passes));
        let mut ended = Ok(());
        for statement in ["BEGIN", "INSERT INTO cut_messages VALUES (1)", "COMMIT", "SELECT 1"] {
            ended = ended.and(client.batch_execute(statement).await);
        }
        ended.expect_err("it was cut");
        assert_eq!(count(&witness, "cut_messages").await, expected, "after {passes} messages");
    }
}

#[tokio::test]
async fn a_swallowed_answer_leaves_done_what_was_asked() {
    let (proxy, witness) = (Proxy::in_front_of(Cluster::shared()).unwrap(), table("swallowed").await);
    let client = connect(&proxy.url()).await.unwrap();
    proxy.arm(Fault::SwallowAnswer);
    client.batch_execute("INSERT INTO swallowed VALUES (1)").await.expect_err("nobody answers");
    assert_eq!((proxy.faults(), count(&witness, "swallowed").await), (1, 1));
    // It happens once.
    connect(&proxy.url()).await.unwrap().batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_transaction_is_held_between_its_messages_and_goes_on() {
    let (proxy, witness) = (Proxy::in_front_of(Cluster::shared()).unwrap(), table("held").await);
    let client = connect(&proxy.url()).await.unwrap();
    proxy.arm(Fault::HoldAfterMessages(Direction::ToServer, 2));
    // Sent at once: the proxy stands between messages that came together.
    let statements = futures_util::future::join_all(
        ["BEGIN", "INSERT INTO held VALUES (1)", "COMMIT"].map(|statement| client.batch_execute(statement)),
    );
    let mut statements = std::pin::pin!(statements);
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut statements).await;
    assert!(waited.is_err() && proxy.is_held(), "it is not committed");
    assert_eq!(count(&witness, "held").await, 0);
    proxy.release();
    statements.await.into_iter().for_each(|done| done.unwrap());
    assert_eq!((count(&witness, "held").await, proxy.faults()), (1, 1));
}

#[tokio::test]
async fn connections_are_refused_cut_and_held_as_long_as_that_is_asked() {
    let proxy = Proxy::in_front_of(Cluster::shared()).unwrap();
    let client = connect(&proxy.url()).await.unwrap();
    proxy.refuse();
    connect(&proxy.url()).await.expect_err("nobody is let in");
    client.batch_execute("SELECT 1").await.expect("who was in before stays");
    proxy.accept();
    let other = connect(&proxy.url()).await.unwrap();

    proxy.hold();
    let mut asked = std::pin::pin!(other.batch_execute("SELECT 1"));
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut asked).await;
    assert!(waited.is_err(), "nothing passes");
    proxy.release();
    asked.await.unwrap();

    proxy.delay(Duration::from_millis(20));
    let begun = std::time::Instant::now();
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40), "there and back");
    proxy.delay(Duration::ZERO);

    proxy.cut_all();
    for client in [&client, &other] {
        client.batch_execute("SELECT 1").await.expect_err("it was cut");
    }
}

#[tokio::test]
async fn it_stays_while_the_server_is_away() {
    let cluster = Cluster::start(Default::default()).unwrap();
    let proxy = Proxy::in_front_of(&cluster).unwrap();
    connect(&proxy.url()).await.unwrap();
    cluster.crash().unwrap();
    connect(&proxy.url()).await.expect_err("there is no server");
    cluster.start_again().unwrap();
    connect(&proxy.url()).await.unwrap();
}
