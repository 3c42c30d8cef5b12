//! Keys of requests: one of them carries out what was asked for, whatever crashes in between.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::{ChannelId, OrganizationId, UserId};
use ravenpost_core::secret::Secret;
use ravenpost_store::system::{Keeping, Leftover, Login, NewOrganization};
use ravenpost_store::tenant::{Claimed, KeyClaim, Page, ToSeal};
use ravenpost_store::{Error, Tenant};
use uuid::Uuid;

use crate::alerts::email_channel;
use crate::support::{Organization, World, random};

const LOCK: Duration = Duration::from_secs(60);

struct Caller {
    id: Uuid,
}

impl Caller {
    fn claim(&self, key: &'static str, fingerprint: u8) -> KeyClaim<'static> {
        KeyClaim {
            actor_id: self.id,
            key,
            fingerprint: [fingerprint; 32],
            request_id: Uuid::from_bytes(random()),
            lock: LOCK,
            keep: Duration::from_hours(24),
        }
    }
}

fn caller() -> Caller {
    Caller { id: Uuid::from_bytes(random()) }
}

fn as_request(world: &World, acme: &Organization, request: Uuid) -> Tenant {
    world.store.tenant(acme.id, Author { request: Some(request), ..Author::SYSTEM })
}

async fn channel(tenant: &Tenant, now: DateTime<Utc>) -> ravenpost_store::Result<()> {
    let id = ChannelId::new(now, random());
    email_channel(tenant, &format!("{id}@example.com"), now).await.map(|_| ())
}

async fn channels(acme: &Organization) -> usize {
    acme.tenant.channels(Page { after: None, limit: 250 }).await.unwrap().rows.len()
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller() {
    let world = World::new().await;
    let (acme, caller) = (world.organization().await, caller());
    let claim = caller.claim("k", 1);
    let claimed = |claim: KeyClaim<'static>, now| {
        let tenant = acme.tenant.clone();
        async move { tenant.claim_key(&claim, now).await.unwrap() }
    };
    assert!(matches!(claimed(claim, world.now).await, Claimed::Ours));
    assert!(matches!(claimed(caller.claim("k", 1), world.now).await, Claimed::InProgress));
    assert!(matches!(claimed(caller.claim("k", 2), world.now).await, Claimed::Other));
    let somebody_else = Caller { id: Uuid::from_bytes(random()) };
    assert!(matches!(claimed(somebody_else.claim("k", 2), world.now).await, Claimed::Ours));

    let secret = Secret::new("whsec_hush");
    acme.tenant.keep_reply(claim.request_id, ToSeal { secret: &secret, nonce: random() }).await.unwrap();
    let Claimed::Answered(kept) = claimed(caller.claim("k", 1), world.now).await else { panic!() };
    assert_eq!(kept, secret);
    let stored: Vec<u8> = sqlx::query_scalar("select reply from idempotency_keys where reply is not null")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains("hush"), "it is sealed");

    // After its time it is a new one.
    let later = world.now + TimeDelta::hours(25);
    assert!(matches!(claimed(caller.claim("k", 2), later).await, Claimed::Ours));
}

#[tokio::test]
async fn a_key_that_is_released_is_free_at_once() {
    let world = World::new().await;
    let (acme, caller) = (world.organization().await, caller());
    let claim = caller.claim("k", 1);
    assert!(matches!(acme.tenant.claim_key(&claim, world.now).await.unwrap(), Claimed::Ours));
    acme.tenant.release_key(claim.request_id).await.unwrap();
    // Nothing was done, so that it may stand for anything.
    assert!(matches!(acme.tenant.claim_key(&caller.claim("k", 2), world.now).await.unwrap(), Claimed::Ours));
}

#[tokio::test]
async fn a_crash_before_the_change_leaves_it_to_the_repeat_and_one_after_it_does_not() {
    let world = World::new().await;
    let (acme, caller) = (world.organization().await, caller());
    let later = world.now + TimeDelta::from_std(LOCK).unwrap();

    // Before: the repeat carries it out, and the one that was believed dead can't any more.
    let (first, second) = (caller.claim("k", 1), caller.claim("k", 1));
    assert!(matches!(acme.tenant.claim_key(&first, world.now).await.unwrap(), Claimed::Ours));
    assert!(matches!(acme.tenant.claim_key(&second, later).await.unwrap(), Claimed::Ours));
    channel(&as_request(&world, &acme, second.request_id), world.now).await.unwrap();
    let late = channel(&as_request(&world, &acme, first.request_id), world.now).await;
    assert!(matches!(late, Err(Error::Superseded)), "{late:?}");
    assert_eq!(channels(&acme).await, 1);

    // After: nobody does it again.
    let much_later = later + TimeDelta::from_std(LOCK).unwrap();
    let repeat = caller.claim("k", 1);
    assert!(matches!(acme.tenant.claim_key(&repeat, much_later).await.unwrap(), Claimed::Lost));
    acme.tenant.release_key(second.request_id).await.unwrap();
    assert!(matches!(acme.tenant.claim_key(&repeat, much_later).await.unwrap(), Claimed::Lost));
}

#[tokio::test]
async fn of_many_at_once_one_is_first() {
    let world = World::new().await;
    let (acme, caller) = (world.organization().await, caller());
    let claims = (0..20).map(|_| {
        let (tenant, claim, now) = (acme.tenant.clone(), caller.claim("k", 1), world.now);
        tokio::spawn(async move { matches!(tenant.claim_key(&claim, now).await.unwrap(), Claimed::Ours) })
    });
    let mut ours = 0;
    for claim in claims.collect::<Vec<_>>() {
        ours += usize::from(claim.await.unwrap());
    }
    assert_eq!(ours, 1);
}

#[tokio::test]
async fn what_has_expired_goes() {
    let world = World::new().await;
    let (acme, caller) = (world.organization().await, caller());
    acme.tenant.claim_key(&caller.claim("old", 1), world.now - TimeDelta::hours(25)).await.unwrap();
    acme.tenant.claim_key(&caller.claim("new", 1), world.now).await.unwrap();
    let keeping = Keeping { of_deleted: TimeDelta::days(1), replay_jobs: TimeDelta::days(90) };
    let removed = world.store.system().remove_leftovers(Leftover::IdempotencyKeys, keeping, world.now).await;
    assert_eq!(removed.unwrap().unwrap().count, 1);
    let left: Vec<String> =
        sqlx::query_scalar("select key from idempotency_keys").fetch_all(&world.pool).await.unwrap();
    assert_eq!(left, ["new"]);
}

/// As between a claim that was taken over and the late commit of whoever held it before.
#[tokio::test]
async fn what_a_person_does_is_carried_out_by_who_holds_the_key() {
    let world = World::new().await;
    let system = world.store.system();
    let login =
        Login { issuer: "https://id.example", subject: "ada", email: Some("ada@example.com"), name: None };
    let organization = |name| NewOrganization { id: OrganizationId::new(world.now, random()), name };
    let id = UserId::new(world.now, random());
    let user = system.sign_in(&login, id, &organization("First"), None, world.now).await.unwrap();
    let caller = Caller { id: user.0 };
    let keys = world.store.personal(user, Author::SYSTEM);
    let (first, second) = (caller.claim("k", 1), caller.claim("k", 1));
    let later = world.now + TimeDelta::from_std(LOCK).unwrap();
    assert!(matches!(keys.claim_key(&first, world.now).await.unwrap(), Claimed::Ours));
    assert!(matches!(keys.claim_key(&second, later).await.unwrap(), Claimed::Ours));
    let found = async |request| {
        let author = Author { request: Some(request), ..Author::SYSTEM };
        system.create_organization(user, &organization("Second"), &author, world.now).await
    };
    assert!(matches!(found(first.request_id).await, Err(Error::Superseded)));
    assert!(found(second.request_id).await.unwrap());
    assert_eq!(system.organizations_of(user).await.unwrap().len(), 2);
    let much_later = later + TimeDelta::from_std(LOCK).unwrap();
    assert!(matches!(keys.claim_key(&caller.claim("k", 1), much_later).await.unwrap(), Claimed::Lost));
    // It is nobody else's business, not even of an organization of theirs.
    let (acme, theirs) = (world.organization().await, caller.claim("k", 2));
    assert!(matches!(acme.tenant.claim_key(&theirs, much_later).await.unwrap(), Claimed::Ours));
}
