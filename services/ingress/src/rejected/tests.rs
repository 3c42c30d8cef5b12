//! Floods, without stores: what is held and counted, and what is given back.

use std::time::Duration;

use axum::http::HeaderMap;
use ravenpost_chassis::metrics::Metrics;
use ravenpost_chassis::{clock, random};

use super::*;

type Endpoint = (OrganizationId, EndpointId);

fn endpoint() -> Endpoint {
    let now = clock::now();
    (OrganizationId::new(now, random::bytes()), EndpointId::new(now, random::bytes()))
}

/// A request to `endpoint` with a body of so many bytes.
fn request((organization_id, endpoint_id): Endpoint, body: usize) -> Rejected {
    Rejected {
        organization_id,
        endpoint_id,
        received_at: clock::now(),
        method: "POST".to_owned(),
        peer: None,
        head: Head { query: None, headers: HeaderMap::new(), credential_header: None },
        body: vec![b'x'; body].into(),
        rejection: Rejection::WrongSignature,
    }
}

fn recorder() -> RejectedRequests {
    RejectedRequests::new(IngressMetrics::new(&Metrics::default()))
}

#[test]
fn a_flood_is_kept_in_small_part_counted_in_full_and_takes_nothing_from_others() {
    let now = Instant::now();
    let rejected = recorder();
    let (flooded, quiet) = (endpoint(), endpoint());
    let fates: Vec<_> = (0..10_000).map(|_| rejected.take(request(flooded, 100), now)).collect();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Kept).count(), 20);
    assert!(fates[20..].iter().all(|fate| *fate == Fate::OverAllowance));
    assert_eq!(rejected.take(request(quiet, 100), now), Fate::Kept);

    let (waiting, counts) = rejected.drain(clock::now(), now);
    assert_eq!(waiting.len(), 21);
    let counted = |endpoint: Endpoint| {
        let count = counts.iter().find(|count| count.endpoint_id == endpoint.1).unwrap();
        (count.kept, count.not_kept)
    };
    assert_eq!((counted(flooded), counted(quiet)), ((20, 9_980), (1, 0)));

    // Counted once; the allowance is remembered until it is full again.
    assert!(rejected.drain(clock::now(), now).1.is_empty());
    assert_eq!(rejected.take(request(flooded, 100), now), Fate::OverAllowance);
    let later = now + Duration::from_secs(5);
    let kept = (0..10).filter(|_| rejected.take(request(flooded, 100), later) == Fate::Kept);
    assert_eq!(kept.count(), 5);
    rejected.drain(clock::now(), later + Duration::from_secs(20));
    assert!(rejected.state().endpoints.is_empty(), "an endpoint with a full bucket is forgotten");
}

#[test]
fn memory_is_bounded_however_many_endpoints_are_flooded() {
    let now = Instant::now();
    let rejected = recorder();
    let fates: Vec<_> = (0..100).map(|_| rejected.take(request(endpoint(), MAX_BODY), now)).collect();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Kept).count(), 7, "of 8 MiB, with heads");
    assert!(fates[7..].iter().all(|fate| *fate == Fate::NoRoom));
    drop(rejected.drain(clock::now(), now));
    assert_eq!(rejected.room.available_permits(), MAX_HELD);
}

#[test]
fn the_process_has_an_allowance_and_a_queue_has_an_end() {
    let now = Instant::now();
    let rejected = recorder();
    let kept = |now| {
        let fates = (0..1_000).map(|_| rejected.take(request(endpoint(), 1), now));
        fates.filter(|fate| *fate == Fate::Kept).count()
    };
    assert_eq!(kept(now), 200);
    // Nothing is written meanwhile.
    assert_eq!(kept(now + Duration::from_secs(60)), MAX_WAITING - 200);
}

#[test]
fn a_body_that_is_larger_than_what_is_kept_is_only_counted() {
    let now = Instant::now();
    let rejected = recorder();
    let endpoint = endpoint();
    assert_eq!(rejected.take(request(endpoint, MAX_BODY + 1), now), Fate::TooLarge);
    // A body of the largest size is within a burst, and costs its length.
    assert_eq!(rejected.take(request(endpoint, MAX_BODY), now), Fate::Kept);
    assert_eq!(rejected.take(request(endpoint, MAX_BODY), now), Fate::OverAllowance);
    let (waiting, counts) = rejected.drain(clock::now(), now);
    assert_eq!((waiting.len(), counts[0].kept, counts[0].not_kept), (1, 1, 2));
}

#[test]
fn what_turns_out_not_to_be_kept_is_counted_so() {
    let now = Instant::now();
    let rejected = recorder();
    let endpoint = endpoint();
    assert_eq!(rejected.take(request(endpoint, 1), now), Fate::Kept);
    drop(rejected.drain(clock::now(), now));
    rejected.correct(endpoint.0, endpoint.1, -1, 1);
    let counts = rejected.drain(clock::now(), now).1;
    assert_eq!((counts[0].kept, counts[0].not_kept), (-1, 1));
}
