//! What the bench and the chaos runs end with: every acknowledged event is looked for in all three stores, and one that
//! is not where it was promised to be is told.

use std::collections::BTreeSet;

use anyhow::Result;
use ravenpost_testkit::{
    s3, stored,
    system::{Service, System},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{Endpoint, alone, endpoint, send};

/// Sends events one after the other, so that each has an object of its own.
async fn acknowledge(endpoint: &Endpoint, count: usize) -> Result<(Vec<Uuid>, BTreeSet<[u8; 32]>)> {
    let (mut acknowledged, mut sent) = (Vec::new(), BTreeSet::new());
    for number in 0..count {
        let body = format!("event {number}");
        sent.insert(Sha256::digest(&body).into());
        acknowledged.push(send(endpoint, body).await?.parse()?);
    }
    Ok((acknowledged, sent))
}

async fn key_of(system: &System, event: Uuid) -> Result<String> {
    let pool = system.database.pool().await?;
    let key: String =
        sqlx::query_scalar("SELECT s3_key FROM events WHERE id = $1").bind(event).fetch_one(&pool).await?;
    Ok(key)
}

/// A row, with its payload, that was never published: its id is below what the process has published by now.
async fn commit_without_message(system: &System, like: Uuid) -> Result<Uuid> {
    let id = Uuid::from_u128(like.as_u128() - 1);
    let copy = "INSERT INTO events (id, organization_id, endpoint_id, instance_id, received_at, updated_at, s3_offset, \
                s3_length, slot, s3_key, body_sha256) SELECT $1, organization_id, endpoint_id, instance_id, \
                received_at, updated_at, s3_offset, s3_length, slot, s3_key, body_sha256 FROM events WHERE id = $2";
    let pool = system.database.pool().await?;
    let copied = sqlx::query(copy).bind(id).bind(like).execute(&pool).await?;
    assert_eq!(copied.rows_affected(), 1);
    Ok(id)
}

#[test]
fn what_is_missing_is_told() {
    let builder = System::builder().replicas(Service::DeliveryWorker, 0).replicas(Service::Notifier, 0);
    alone(builder, async |system| {
        let system = &*system;
        let endpoint = endpoint(system, "/stored", json!({})).await?;
        let (mut acknowledged, sent) = acknowledge(&endpoint, 5).await?;
        let [whole, rowless, objectless, short, altered] = acknowledged[..] else { panic!("five events") };

        let report = stored::check(system, &acknowledged, &sent).await?;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!((report.acknowledged, report.rows, report.payloads_read), (5, 5, 5));

        let (address, prefix) = (&system.stores.s3, system.key_prefix());
        let (client, bucket) = (s3::client(address), &address.bucket);
        let mut keys = Vec::new();
        for event in [objectless, short, altered] {
            keys.push(key_of(system, event).await?);
        }
        s3::remove(&client, bucket, &format!("{prefix}{}", keys[0])).await?;
        s3::put(&client, bucket, &format!("{prefix}{}", keys[1]), b"event").await?;
        s3::put(&client, bucket, &format!("{prefix}{}", keys[2]), b"EVENT 4").await?;
        let pool = system.database.pool().await?;
        sqlx::query("DELETE FROM events WHERE id = $1").bind(rowless).execute(&pool).await?;
        let silent = commit_without_message(system, whole).await?;
        acknowledged.push(silent);
        acknowledged.push(whole);

        let report = stored::check(system, &acknowledged, &sent).await?;
        assert!(!report.is_complete());
        let missing = report.missing;
        let sorted = |mut ids: Vec<Uuid>| {
            ids.sort();
            ids
        };
        assert_eq!(missing.repeated, [whole]);
        assert_eq!(missing.rows, [rowless]);
        assert_eq!(missing.messages, [silent]);
        assert_eq!(sorted(missing.payloads), sorted(vec![objectless, short, altered]));
        let objects: BTreeSet<&String> = missing.objects.iter().collect();
        assert_eq!(objects, keys[..2].iter().collect());

        let nobody_sent = stored::check(system, &[whole], &BTreeSet::new()).await?;
        assert_eq!(nobody_sent.missing.payloads, [whole], "a body that nobody has sent");
        assert!(!nobody_sent.is_complete());
        Ok(())
    });
}
