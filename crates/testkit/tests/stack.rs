//! The local stack itself: that each store starts, keeps its data over a kill, and comes back where it was.

use std::time::{Duration, Instant};

use ravenpost_testkit::{
    kafka, s3,
    stack::{Daemon, Kafka, Options, Postgres, Progress, SeaweedFs, Stack, stop_all},
    wait,
};
use sqlx::{Connection as _, PgConnection, Row as _};

#[tokio::test]
async fn a_killed_postgres_keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres =
        Postgres::start(folder.path(), &Options::for_tests(), &Progress::silent()).await.unwrap();
    let url = postgres.admin_url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 7 AS number").execute(&mut connection).await.unwrap();

    postgres.daemon().kill9().unwrap();
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.restart().await.unwrap();

    let mut connection = PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SELECT number FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test]
async fn a_paused_postgres_answers_nobody_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres =
        Postgres::start(folder.path(), &Options::for_tests(), &Progress::silent()).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.admin_url()).await.unwrap();

    postgres.daemon().pause().unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(500), connection.ping()).await;
    assert!(asked.is_err(), "an open connection's backend is paused too");
    postgres.daemon().resume().unwrap();
    wait::until_true("Postgres to answer again", Duration::from_secs(10), || async {
        Ok(PgConnection::connect(&postgres.admin_url()).await.is_ok())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_killed_s3_keeps_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let mut store =
        SeaweedFs::start(folder.path(), &Options::for_tests(), &Progress::silent()).await.unwrap();
    let address = store.address();
    let client = s3::client(&address);
    s3::put(&client, &address.bucket, "payloads/one", b"body").await.unwrap();

    store.daemon().kill9().unwrap();
    assert!(s3::get(&address, "payloads/one").await.is_err());
    store.restart().await.unwrap();

    assert_eq!(store.address(), address);
    assert_eq!(s3::get(&address, "payloads/one").await.unwrap().as_ref(), b"body");
    assert_eq!(s3::keys(&address, "payloads/").await.unwrap(), ["payloads/one"]);
}

#[tokio::test]
async fn a_killed_kafka_keeps_its_topics() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Kafka::start(folder.path(), &Options::for_tests(), &Progress::silent()).await.unwrap();
    let brokers = broker.brokers();
    kafka::create_topics(&brokers, "t1.").await.unwrap();
    kafka::create_topics(&brokers, "t1.").await.unwrap();

    broker.daemon().kill9().unwrap();
    broker.restart().await.unwrap();

    assert_eq!(broker.brokers(), brokers);
    assert_eq!(kafka::messages(&brokers, "t1.webhooks.ingest").await.unwrap(), []);
}

#[tokio::test]
async fn a_stack_starts_again_on_its_ports_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let start =
        async || Stack::start(folder.path(), &Options::for_tests(), &Progress::silent()).await.unwrap();
    let stack = start().await;
    let first = stack.addresses();
    stack.stop().unwrap();
    assert_eq!(Daemon::find_all(folder.path()).unwrap().len(), 0);

    let again = Instant::now();
    let stack = start().await;
    assert!(again.elapsed() < Duration::from_secs(40), "a second start took {:?}", again.elapsed());
    assert_eq!(stack.addresses().postgres_url, first.postgres_url);
    assert_eq!(stack.addresses().kafka_brokers, first.kafka_brokers);
    assert_eq!(stack.addresses().s3, first.s3);

    assert_eq!(stop_all(folder.path()).unwrap().len(), 4);
    drop(stack);
    assert_eq!(Daemon::find_all(folder.path()).unwrap().len(), 0);
}
