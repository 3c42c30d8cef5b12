//! The headers of a delivery: the producer's own, the destination's over them, ours over both.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::headers;
use ravenpost_core::signature::{hub, standard_webhooks};
use ravenpost_core::trace::Traceparent;
use ravenpost_store::system::{DeliveryConfig, OrganizationKey};
use tracing::error;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Everything that goes with the body, but for a token that has to be asked for.
pub(super) fn headers(
    event: &EventMessage,
    destination: &DeliveryConfig,
    now: DateTime<Utc>,
    body: &Bytes,
    traceparent: &Traceparent,
) -> HeaderMap {
    let mut headers = headers::decode(&event.headers).unwrap_or_else(|damaged| {
        error!(
            error = &damaged as &dyn std::error::Error,
            "an event is delivered without its producer's headers"
        );
        HeaderMap::new()
    });
    for (name, value) in destination.headers.iter() {
        headers.insert(name, value.clone());
    }
    let authentication = destination.authentication.as_ref();
    if let Some((name, value)) = authentication.and_then(Authentication::header) {
        headers.insert(name, value);
    }
    for ours in headers::OURS {
        headers.remove(ours);
    }
    sign(&mut headers, &event.id.to_string(), destination, now, body);
    insert(&mut headers, TRACEPARENT, &traceparent.to_string());
    headers
}

/// One signature for each secret and key that counts now: whoever knows one of them is told (Standard Webhooks, "Signature
/// scheme"). `X-Hub-Signature-256` can hold but one, which is the newest secret's.
fn sign(headers: &mut HeaderMap, id: &str, destination: &DeliveryConfig, now: DateTime<Utc>, body: &[u8]) {
    let mut signatures = Vec::new();
    if destination.signing.by_secret() {
        let former = destination.former_secrets.iter().filter(|former| now < former.expires_at);
        let former = former.map(|former| &former.secret);
        for secret in std::iter::once(&destination.signing_secret).chain(former) {
            match standard_webhooks::sign(secret, id, now.timestamp(), body) {
                Ok(signature) => signatures.push(signature),
                Err(invalid) => {
                    error!(error = &invalid as &dyn std::error::Error, "a destination's secret can't sign");
                }
            }
        }
        insert(headers, hub::SIGNATURE, &hub::sign(&destination.signing_secret, body));
    }
    for key in keys(&destination.keys, now) {
        signatures.push(key.key.sign(id, now.timestamp(), body));
    }
    insert(headers, standard_webhooks::ID, id);
    insert(headers, standard_webhooks::TIMESTAMP, &now.timestamp().to_string());
    if !signatures.is_empty() {
        insert(headers, standard_webhooks::SIGNATURE, &signatures.join(" "));
    }
}

/// The keys that sign now; the first one when none does, for a clock that is a little behind the one that made it.
fn keys(all: &[OrganizationKey], now: DateTime<Utc>) -> impl Iterator<Item = &OrganizationKey> {
    let none = !all.iter().any(|key| key.signs_at(now));
    let first = all.first().filter(|_| none);
    all.iter().filter(move |key| key.signs_at(now)).chain(first)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("ids, numbers and signatures are visible ASCII");
    headers.insert(name, value);
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use ravenpost_core::ids::SigningKeyId;
    use ravenpost_core::signature::signing_key::SigningKey;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn key(byte: u8, from: i64, to: Option<i64>) -> OrganizationKey {
        OrganizationKey {
            id: SigningKeyId::new(now(), [byte; 10]),
            key: SigningKey::from_seed([byte; 32]),
            signs_from: now() + TimeDelta::seconds(from),
            expires_at: to.map(|to| now() + TimeDelta::seconds(to)),
        }
    }

    fn signing(all: &[OrganizationKey]) -> Vec<usize> {
        let position = |key: &OrganizationKey| all.iter().position(|known| known.id == key.id).unwrap();
        keys(all, now()).map(position).collect()
    }

    #[test]
    fn every_key_signs_whose_time_it_is() {
        assert_eq!(signing(&[]), [0; 0]);
        assert_eq!(signing(&[key(1, -9, Some(0)), key(2, -5, Some(5)), key(3, 0, None)]), [1, 2]);
        assert_eq!(signing(&[key(1, -9, Some(9)), key(2, 5, None)]), [0]);
    }

    #[test]
    fn the_first_key_signs_although_our_clock_is_behind_the_one_that_made_it() {
        assert_eq!(signing(&[key(1, 2, None)]), [0]);
    }
}
