//! Replicas remove what nobody needs any more, each row once, and count it.

use std::time::Duration;

use ravenpost_chassis::{clock, metrics};
use ravenpost_management_api::maintenance::leftovers::Remover;
use ravenpost_management_api::metrics::Metrics;
use ravenpost_management_api::settings::LeftoverSettings;
use serde_json::json;

use crate::support::Service;

/// How many former secrets have expired: more than a step takes.
const EXPIRED: u64 = 1_200;

/// An endpoint with many former secrets of its destination, of which one counts, and a second destination with a
/// header that was deleted long ago.
async fn leave(service: &Service) {
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let secrets = "insert into destination_secrets (organization_id, id, destination_id, secret, retired_at, expires_at)
        select organization_id, uuidv7(), id, signing_secret, now(), now() + n * interval '1 hour'
        from destinations, generate_series(-1200, 1) n where n <> 0";
    service.database.execute(secrets).await.unwrap();
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let new = json!({ "name": "b", "url": "https://b.example", "headers": { "x-key": "hush" } });
    let second = customer.post(&all, new).await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(customer.delete(&format!("{all}/{second}")).await.status, 204);
    let long_ago =
        "update destinations set deleted_at = now() - interval '2 days' where deleted_at is not null";
    service.database.execute(long_ago).await.unwrap();
}

#[tokio::test]
async fn several_replicas_remove_each_leftover_once_and_count_it() {
    let service = Service::new().await;
    leave(&service).await;
    let metrics = Metrics::declare(&metrics::Metrics::default(), service.store.clone());
    let settings = LeftoverSettings { replay_job_retention: Duration::from_hours(1) };
    let replica = || Remover::new(service.store.system(), &settings, metrics.clone());
    let (one, other, now) = (replica(), replica(), clock::now());
    tokio::join!(one.remove(now), other.remove(now));
    let removed = |kind: &str| metrics.leftovers_removed.with_label_values(&[kind]).get();
    assert_eq!(removed("destination_secrets"), EXPIRED);
    assert_eq!(removed("destination_credentials"), 1);
    let left = service.database.number("select count(*) from destination_secrets").await.unwrap();
    assert_eq!(left, 1, "the one that counts");
    one.remove(now).await;
    assert_eq!((removed("destination_secrets"), removed("destination_credentials")), (EXPIRED, 1));
}
