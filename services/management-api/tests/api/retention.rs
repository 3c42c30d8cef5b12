//! Payloads go with their events: what is older than every event that is kept, and nothing else.

use chrono::TimeDelta;
use ravenpost_chassis::{metrics, random};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EventId, RejectedRequestId};
use ravenpost_management_api::maintenance::retention::Dropper;
use ravenpost_management_api::metrics::Metrics;
use ravenpost_management_api::settings::RetentionSettings;

use crate::support::Service;

/// More than a step takes.
const OLD: i64 = 1_100;
const SMALL: &[u8] = b"{}";

async fn is_there(service: &Service, key: String) -> bool {
    let location = PayloadLocation { s3_key: key, s3_offset: 0, s3_length: 2 };
    service.payloads.get(&location).await.unwrap().is_some()
}

#[tokio::test]
async fn payloads_of_dropped_events_go_and_no_others() {
    let service = Service::new().await;
    let dropped_through = service.now - TimeDelta::days(30);
    let event = |at| EventId::new(at, random::bytes());
    for n in 0..OLD {
        let old = event(dropped_through - TimeDelta::days(2) + TimeDelta::seconds(n));
        let key =
            if n % 2 == 0 { PayloadLocation::object_key(old) } else { PayloadLocation::segment_key(old) };
        service.payloads.put(&key, SMALL.into()).await.unwrap();
    }
    // Of the day after which nothing was dropped, of today, and of no event at all.
    let kept: Vec<String> = [dropped_through - TimeDelta::hours(23), service.now]
        .into_iter()
        .flat_map(|at| [PayloadLocation::object_key(event(at)), PayloadLocation::segment_key(event(at))])
        .collect();
    let rejected = RejectedRequestId::new(dropped_through - TimeDelta::days(9), random::bytes());
    let others = [PayloadLocation::of_rejected(rejected, 2).s3_key, "payloads/readme.txt".to_owned()];
    for key in kept.iter().chain(&others) {
        service.payloads.put(key, SMALL.into()).await.unwrap();
    }
    let bound = format!("update retention set kept_from = '{}'", EventId::floor(dropped_through));
    service.database.execute(&bound).await.unwrap();

    let metrics = Metrics::declare(&metrics::Metrics::default(), service.store.clone());
    let settings = RetentionSettings { event_retention: std::time::Duration::from_hours(24 * 30) };
    let dropper = Dropper::new(service.store.clone(), service.payloads.clone(), &settings, metrics.clone());
    dropper.remove_payloads().await.unwrap();
    assert_eq!(metrics.payloads_removed.get(), u64::try_from(OLD).unwrap());
    for key in kept.into_iter().chain(others) {
        assert!(is_there(&service, key.clone()).await, "{key}");
    }
    dropper.remove_payloads().await.unwrap();
    assert_eq!(metrics.payloads_removed.get(), u64::try_from(OLD).unwrap());
}

#[tokio::test]
async fn nothing_of_a_young_installation_is_dropped() {
    let service = Service::new().await;
    let metrics = Metrics::declare(&metrics::Metrics::default(), service.store.clone());
    let settings = RetentionSettings { event_retention: std::time::Duration::from_hours(24 * 9) };
    let dropper = Dropper::new(service.store.clone(), service.payloads.clone(), &settings, metrics.clone());
    service
        .payloads
        .put(&PayloadLocation::object_key(EventId::new(service.now, random::bytes())), SMALL.into())
        .await
        .unwrap();
    dropper.drop_days().await.unwrap();
    dropper.remove_payloads().await.unwrap();
    assert_eq!((metrics.days_dropped.get(), metrics.payloads_removed.get()), (0, 0));
}
