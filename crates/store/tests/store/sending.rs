//! What is sent beside the event: kept sealed, merged by name, and signed with as long as it should.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::delivery::{DeliveryKey, PhaseTimes};
use ravenpost_core::destination::Signing;
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::HeaderChange;
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::ids::{SecretId, SigningKeyId};
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::signing_key::SigningKey;
use ravenpost_store::Tenant;
use ravenpost_store::system::{DeliveryConfig, Record, Routed};
use ravenpost_store::tenant::{
    DestinationChange, DestinationChanged, KeyRotated, KeyRotation, MAX_FORMER_SECRETS, MAX_SIGNING_KEYS,
    NewSigningKey, NewSigningSecret, SecretRotated, ToSeal,
};

use crate::support::{Organization, World, random};

/// Gives an organization's first destination a former secret that counts for an hour.
pub(crate) async fn another_signing_secret(world: &World, organization: &Organization) {
    assert_eq!(rotate(world, organization, world.now, 3_600).await.1, SecretRotated::Rotated);
}

/// Gives an organization a key.
pub(crate) async fn first_key(world: &World, organization: &Organization) {
    let key = SigningKey::from_seed(random());
    organization.tenant.ensure_signing_key(&new_key(&key, world.now), world.now).await.unwrap();
}

pub(crate) async fn a_stranger_rotates_nothing(world: &World, stranger: &Tenant, owner: &Organization) {
    let secret = Secret::standard_webhooks(random());
    let new = NewSigningSecret {
        secret: ToSeal { secret: &secret, nonce: random() },
        former_id: SecretId::new(world.now, random()),
        former_expires_at: world.now,
    };
    let rotated = stranger.rotate_signing_secret(owner.endpoint, owner.first, &new, world.now).await.unwrap();
    assert_eq!(rotated, SecretRotated::Missing);
}

/// Rotates the first destination's secret at a time; the former ones count for so many seconds.
pub(crate) async fn rotate(
    world: &World,
    organization: &Organization,
    at: DateTime<Utc>,
    grace: i64,
) -> (Secret, SecretRotated) {
    let secret = Secret::standard_webhooks(random());
    let new = NewSigningSecret {
        secret: ToSeal { secret: &secret, nonce: random() },
        former_id: SecretId::new(world.now, random()),
        former_expires_at: at + TimeDelta::seconds(grace),
    };
    let tenant = &organization.tenant;
    let rotated = tenant.rotate_signing_secret(organization.endpoint, organization.first, &new, at).await;
    (secret, rotated.unwrap())
}

/// How the worker sends to the first destination.
async fn sent(world: &World, organization: &Organization) -> DeliveryConfig {
    let route = world.store.system().route(organization.endpoint).await.unwrap().unwrap();
    route.destination(organization.first).unwrap().delivery.as_ref().unwrap().clone()
}

async fn signs_with(world: &World, organization: &Organization) -> Vec<String> {
    let config = sent(world, organization).await;
    let former = config.former_secrets.iter().map(|former| &former.secret);
    let all = std::iter::once(&config.signing_secret).chain(former);
    all.map(|secret| secret.reveal().to_owned()).collect()
}

#[tokio::test]
async fn former_secrets_sign_until_their_grace_is_over() {
    let world = World::new().await;
    let owner = world.organization().await;
    let first = signs_with(&world, &owner).await.remove(0);
    let (second, _) = rotate(&world, &owner, world.now, 3_600).await;
    assert_eq!(signs_with(&world, &owner).await, [second.reveal(), &first]);
    let shown = owner.tenant.destination(owner.endpoint, owner.first).await.unwrap().unwrap();
    assert_eq!(shown.former_secrets_expire_at, Some(world.now + TimeDelta::hours(1)));

    let (third, _) = rotate(&world, &owner, world.now, 7_200).await;
    assert_eq!(signs_with(&world, &owner).await, [third.reveal(), second.reveal(), &first]);
    let expiries: Vec<_> =
        sent(&world, &owner).await.former_secrets.iter().map(|former| former.expires_at).collect();
    assert_eq!(expiries, [world.now + TimeDelta::hours(2), world.now + TimeDelta::hours(1)]);

    // Without grace nothing former counts, and nothing of it is kept.
    let (fourth, _) = rotate(&world, &owner, world.now, 0).await;
    assert_eq!(signs_with(&world, &owner).await, [fourth.reveal()]);
    let kept: i64 =
        sqlx::query_scalar("select count(*) from destination_secrets").fetch_one(&world.pool).await.unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn what_has_expired_signs_no_more_although_nobody_removes_it() {
    let world = World::new().await;
    let owner = world.organization().await;
    let (second, _) = rotate(&world, &owner, world.now - TimeDelta::hours(2), 3_600).await;
    assert_eq!(signs_with(&world, &owner).await, [second.reveal()]);
}

#[tokio::test]
async fn former_secrets_are_bounded() {
    let world = World::new().await;
    let owner = world.organization().await;
    for _ in 0..MAX_FORMER_SECRETS {
        assert_eq!(rotate(&world, &owner, world.now, 60).await.1, SecretRotated::Rotated);
    }
    let before = signs_with(&world, &owner).await;
    assert_eq!(rotate(&world, &owner, world.now, 60).await.1, SecretRotated::TooMany);
    assert_eq!(signs_with(&world, &owner).await, before);
    assert_eq!(rotate(&world, &owner, world.now, 0).await.1, SecretRotated::Rotated);
}

fn headers(pairs: &[(&str, Option<&str>)]) -> HeaderChange {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(Secret::new)));
    HeaderChange::parse(&pairs.collect::<BTreeMap<_, _>>()).unwrap()
}

async fn change(world: &World, owner: &Organization, change: DestinationChange<'_>) -> DestinationChanged {
    owner.tenant.change_destination(owner.endpoint, owner.first, &change, world.now).await.unwrap()
}

async fn change_headers(world: &World, owner: &Organization, headers: &HeaderChange) -> DestinationChanged {
    let headers = Some((headers, random()));
    change(world, owner, DestinationChange { headers, ..DestinationChange::default() }).await
}

#[tokio::test]
async fn headers_are_merged_by_name_and_bounded_as_a_whole() {
    let world = World::new().await;
    let owner = world.organization().await;
    change_headers(&world, &owner, &headers(&[("x-a", Some("1")), ("x-b", Some("2"))])).await;
    change_headers(&world, &owner, &headers(&[("x-b", None), ("X-C", Some("3"))])).await;
    assert_eq!(sent(&world, &owner).await.headers.names(), ["x-a", "x-c"]);

    let long = "a".repeat(4_000);
    change_headers(&world, &owner, &headers(&[("x-long", Some(&long))])).await;
    let refused = change_headers(&world, &owner, &headers(&[("x-longer", Some(&long))])).await;
    assert!(matches!(refused, DestinationChanged::Headers(_)), "{refused:?}");
    assert_eq!(sent(&world, &owner).await.headers.names(), ["x-a", "x-c", "x-long"]);

    let cleared = change_headers(&world, &owner, &HeaderChange::clear()).await;
    assert!(matches!(&cleared, DestinationChanged::Changed(now) if now.headers.is_empty()));
    let stored: Option<Vec<u8>> = sqlx::query_scalar("select headers from destinations where id = $1")
        .bind(owner.first.0)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(stored, None);
}

/// The bytes of every row that may hold something of a destination's.
async fn dump(world: &World) -> String {
    let mut dump = String::new();
    for table in ["destinations", "destination_secrets", "signing_keys"] {
        let select = sqlx::AssertSqlSafe(format!(
            "select coalesce(string_agg(t::text || encode(convert_to(t::text, 'utf8'), 'escape'), ' '), '') from {table} t"
        ));
        dump += &sqlx::query_scalar::<_, String>(select).fetch_one(&world.pool).await.unwrap();
    }
    dump
}

#[tokio::test]
async fn credentials_stand_nowhere_in_the_clear() {
    let world = World::new().await;
    let owner = world.organization().await;
    let authentication = Authentication::Bearer { token: Secret::new("hush-token") };
    let tls = TlsSettings { client_key: Some(Secret::new("hush-key")), ..TlsSettings::default() };
    let (sealed_authentication, sealed_tls) = (authentication.to_secret(), tls.to_secret());
    let headers = headers(&[("x-a", Some("hush-header"))]);
    let changed = DestinationChange {
        headers: Some((&headers, random())),
        authentication: Some(Some(ToSeal { secret: &sealed_authentication, nonce: random() })),
        tls: Some(Some(ToSeal { secret: &sealed_tls, nonce: random() })),
        ..DestinationChange::default()
    };
    change(&world, &owner, changed).await;
    first_key(&world, &owner).await;

    let config = sent(&world, &owner).await;
    assert_eq!(config.authentication.as_ref(), Some(&authentication));
    assert_eq!(config.tls.as_ref(), Some(&tls));
    let dump = dump(&world).await;
    assert!(dump.contains(&owner.first.to_string()));
    // In hexadecimal, too, as bytes print.
    for hidden in ["hush", "68757368", "whsk_", "7768736b5f", config.signing_secret.reveal()] {
        assert!(!dump.contains(hidden), "{hidden}");
        assert!(!format!("{config:?}").contains(hidden), "{hidden}");
    }
    let removed =
        DestinationChange { authentication: Some(None), tls: Some(None), ..DestinationChange::default() };
    change(&world, &owner, removed).await;
    let config = sent(&world, &owner).await;
    assert!(config.authentication.is_none() && config.tls.is_none());
    assert_eq!(config.headers.names(), ["x-a"]);
}

fn new_key(key: &SigningKey, now: DateTime<Utc>) -> NewSigningKey<'_> {
    NewSigningKey { id: SigningKeyId::new(now, random()), key, nonce: random() }
}

/// Rotates an organization's key to one that signs in so many seconds; the former ones sign for so many more.
pub(crate) async fn rotate_key(world: &World, owner: &Organization, lead: i64, overlap: i64) -> KeyRotated {
    let key = SigningKey::from_seed(random());
    let signs_from = world.now + TimeDelta::seconds(lead);
    let rotation = KeyRotation { signs_from, others_expire_at: signs_from + TimeDelta::seconds(overlap) };
    owner.tenant.rotate_signing_key(&new_key(&key, world.now), rotation, world.now).await.unwrap()
}

#[tokio::test]
async fn an_organization_has_one_first_key_whoever_makes_it() {
    let world = World::new().await;
    let owner = world.organization().await;
    first_key(&world, &owner).await;
    let keys = owner.tenant.signing_keys(world.now).await.unwrap();
    first_key(&world, &owner).await;
    assert_eq!(owner.tenant.signing_keys(world.now).await.unwrap(), keys);
    assert_eq!((keys.len(), keys[0].signs_from, keys[0].expires_at), (1, world.now, None));

    let by_key = DestinationChange { signing: Some(Signing::Both), ..DestinationChange::default() };
    assert!(sent(&world, &owner).await.keys.is_empty());
    change(&world, &owner, by_key).await;
    let config = sent(&world, &owner).await;
    assert_eq!(config.keys.len(), 1);
    assert_eq!(config.keys[0].key.verifying_key(), keys[0].key);
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs_and_the_old_one_while_it_does() {
    let world = World::new().await;
    let owner = world.organization().await;
    first_key(&world, &owner).await;
    let KeyRotated::Rotated(new) = rotate_key(&world, &owner, 3_600, 7_200).await else { panic!() };
    for lead in [3_600, 7_200] {
        let waits = rotate_key(&world, &owner, lead, 0).await;
        assert!(matches!(waits, KeyRotated::Pending(key) if key == new), "{waits:?}");
    }

    let at = |seconds| world.now + TimeDelta::seconds(seconds);
    let published = owner.tenant.signing_keys(world.now).await.unwrap();
    assert_eq!(published[0], new);
    assert_eq!((published.len(), published[1].expires_at), (2, Some(at(10_800))));
    assert_eq!(owner.tenant.signing_keys(at(10_800)).await.unwrap(), [new]);

    let by_key = DestinationChange { signing: Some(Signing::Ed25519), ..DestinationChange::default() };
    change(&world, &owner, by_key).await;
    let keys = sent(&world, &owner).await.keys;
    let signing = |seconds| {
        let ids = keys.iter().filter(|key| key.signs_at(at(seconds))).map(|key| key.id);
        ids.collect::<Vec<_>>()
    };
    let old = published[1].id;
    assert_eq!(signing(0), [old]);
    assert_eq!(signing(3_600), [old, new.id]);
    assert_eq!(signing(10_800), [new.id]);
}

#[tokio::test]
async fn a_key_that_is_still_to_sign_gives_way_to_one_that_signs_earlier() {
    let world = World::new().await;
    let owner = world.organization().await;
    first_key(&world, &owner).await;
    let KeyRotated::Rotated(late) = rotate_key(&world, &owner, 7_776_000, 0).await else { panic!() };
    let KeyRotated::Rotated(sooner) = rotate_key(&world, &owner, 3_600, 60).await else { panic!() };
    let published = owner.tenant.signing_keys(world.now).await.unwrap();
    let first_ends = Some(world.now + TimeDelta::seconds(3_660));
    assert_eq!((published.len(), published[0], published[1].expires_at), (2, sooner, first_ends));
    // Whichever of them was stolen, it counts no more.
    let KeyRotated::Rotated(fresh) = rotate_key(&world, &owner, 0, 0).await else { panic!() };
    assert_eq!(owner.tenant.signing_keys(world.now).await.unwrap(), [fresh]);

    let replaced: Vec<Option<String>> = sqlx::query_scalar(
        "select after ->> 'replaces' from audit_log where action = 'signing_key.created' order by sequence",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(replaced, [None, None, Some(late.id.to_string()), Some(sooner.id.to_string())]);
}

#[tokio::test]
async fn keys_are_bounded_and_rotations_meet_each_other() {
    let world = World::new().await;
    let owner = world.organization().await;
    // The first rotation makes the first key, which has nobody to wait for.
    let KeyRotated::Rotated(first) = rotate_key(&world, &owner, 3_600, 0).await else { panic!() };
    assert_eq!(first.signs_from, world.now);
    for _ in 1..MAX_SIGNING_KEYS {
        assert!(matches!(rotate_key(&world, &owner, 0, 60).await, KeyRotated::Rotated(_)));
    }
    assert_eq!(rotate_key(&world, &owner, 0, 60).await, KeyRotated::TooMany);
    assert_eq!(owner.tenant.signing_keys(world.now).await.unwrap().len(), MAX_SIGNING_KEYS);
    // Without lead and overlap the new one is alone. Of two rotations at once one wins and the other one sees it.
    assert!(matches!(rotate_key(&world, &owner, 0, 0).await, KeyRotated::Rotated(_)));
    assert_eq!(owner.tenant.signing_keys(world.now).await.unwrap().len(), 1);
    let (one, other) = tokio::join!(rotate_key(&world, &owner, 60, 0), rotate_key(&world, &owner, 60, 0));
    let rotated = [&one, &other].iter().filter(|outcome| matches!(outcome, KeyRotated::Rotated(_))).count();
    let pending = [&one, &other].iter().filter(|outcome| matches!(outcome, KeyRotated::Pending(_))).count();
    assert_eq!((rotated, pending), (1, 1), "{one:?} {other:?}");
}

#[tokio::test]
async fn a_damaged_key_stops_only_those_who_are_signed_for_with_keys() {
    let world = World::new().await;
    let owner = world.organization().await;
    first_key(&world, &owner).await;
    let by_key = DestinationChange { signing: Some(Signing::Ed25519), ..DestinationChange::default() };
    change(&world, &owner, by_key).await;
    sqlx::query("update signing_keys set private_key = 'x'").execute(&world.pool).await.unwrap();
    let route = world.store.system().route(owner.endpoint).await.unwrap().unwrap();
    let damaged = route.destination(owner.first).unwrap().delivery.as_ref().unwrap_err();
    assert_eq!((damaged.table, damaged.column), ("signing_keys", "private_key"));
    assert!(route.destination(owner.second).unwrap().delivery.is_ok());
}

#[tokio::test]
async fn an_attempt_tells_its_phases_and_the_address() {
    let world = World::new().await;
    let owner = world.organization().await;
    let event_id = world.event(&owner).await;
    let key = DeliveryKey { event_id, destination_id: owner.first, run: 0, attempt_number: 1 };
    let mut attempt = world.attempt(&owner, key, 0, Some(true));
    attempt.phases = PhaseTimes {
        queue_us: Some(5_000_000_000),
        dns_us: Some(1),
        connect_us: Some(2),
        tls_us: None,
        first_byte_us: Some(4_000_000),
    };
    attempt.connected_address = Some("[2001:db8::1]:443".to_owned());
    let routed = Routed { event_id, destinations: vec![owner.first] };
    let record = Record { routed: vec![routed], attempts: vec![attempt.clone()], ..Record::default() };
    world.record(record).await;
    let read = owner.tenant.attempts(event_id).await.unwrap().unwrap().deliveries.remove(0);
    assert_eq!(read.phases, attempt.phases);
    assert_eq!(read.connected_address, attempt.connected_address);
}
