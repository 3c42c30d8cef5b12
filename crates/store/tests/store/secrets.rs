//! Several secrets of an endpoint are valid at once, and stop to be when they should.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::ids::SecretId;
use ravenpost_core::provider::Provider;
use ravenpost_core::secret::Secret;
use ravenpost_store::tenant::{
    EndpointChange, EndpointChanged, MAX_SECRETS, NewSecret, SecretAdded, SecretRemoved, ToSeal,
    VerificationChange,
};
use sqlx::AssertSqlSafe;

use crate::support::{Organization, World, random};

const STANDARD: Verification = Verification::StandardWebhooks {};

struct Case {
    world: World,
    owner: Organization,
    token: String,
    /// How many secrets were added: each a second after the one before.
    added: AtomicI64,
}

impl Case {
    async fn new() -> Self {
        let world = World::new().await;
        let owner = world.organization().await;
        let token = owner.tenant.endpoint(owner.endpoint).await.unwrap().unwrap().token;
        Self { world, owner, token, added: AtomicI64::new(0) }
    }

    /// Adds a secret; the ones that are there expire so many seconds from now.
    async fn add(&self, text: &str, others_expire_in: Option<i64>) -> (SecretId, SecretAdded) {
        let now = self.world.now + TimeDelta::seconds(self.added.fetch_add(1, Ordering::Relaxed) + 1);
        let id = SecretId::new(now, random());
        let secret = Secret::new(text);
        let new = NewSecret {
            id,
            secret: ToSeal { secret: &secret, nonce: random() },
            verification: &STANDARD,
            others_expire_at: others_expire_in.map(|seconds| self.world.now + TimeDelta::seconds(seconds)),
        };
        (id, self.owner.tenant.add_secret(self.owner.endpoint, &new, now).await.unwrap())
    }

    /// What ingress verifies with, newest first, without the first one, which is random.
    async fn valid(&self) -> Vec<String> {
        let endpoint = self.world.store.system().endpoint_by_token(&self.token).await.unwrap().unwrap();
        let secrets = endpoint.secrets.iter().map(|secret| secret.reveal().to_owned());
        secrets.filter(|secret| !secret.starts_with("whsec_")).collect()
    }
}

#[tokio::test]
async fn all_count_until_they_expire() {
    let case = Case::new().await;
    let (tenant, endpoint, now) = (&case.owner.tenant, case.owner.endpoint, case.world.now);
    case.add("second", None).await;
    case.add("third", Some(3_600)).await;
    assert_eq!(case.valid().await, ["third", "second"]);
    let listed = tenant.secrets(endpoint, now).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].expires_at, None);
    let hour = Some(now + TimeDelta::hours(1));
    assert!(listed[1..].iter().all(|secret| secret.expires_at == hour));
    // A later expiry does not prolong an earlier one.
    case.add("fourth", Some(7_200)).await;
    let listed = tenant.secrets(endpoint, now).await.unwrap();
    assert_eq!(listed.iter().filter(|secret| secret.expires_at == hour).count(), 2);
    assert_eq!(tenant.secrets(endpoint, now + TimeDelta::seconds(3_600)).await.unwrap().len(), 2);
    assert_eq!(tenant.secrets(endpoint, now + TimeDelta::seconds(7_200)).await.unwrap().len(), 1);

    case.add("fifth", Some(0)).await;
    assert_eq!(case.valid().await, ["fifth"]);
}

#[tokio::test]
async fn one_is_removed_but_not_the_last() {
    let case = Case::new().await;
    let (tenant, endpoint, now) = (&case.owner.tenant, case.owner.endpoint, case.world.now);
    let first = tenant.secrets(endpoint, now).await.unwrap()[0].id;
    assert_eq!(tenant.remove_secret(endpoint, first, now).await.unwrap(), SecretRemoved::Last);
    let (second, _) = case.add("second", None).await;
    let (third, _) = case.add("third", None).await;
    // The newest one, which the endpoint's own row holds, and an older one.
    assert_eq!(tenant.remove_secret(endpoint, third, now).await.unwrap(), SecretRemoved::Removed);
    assert_eq!(tenant.remove_secret(endpoint, third, now).await.unwrap(), SecretRemoved::Missing);
    assert_eq!(case.valid().await, ["second"]);
    assert_eq!(tenant.remove_secret(endpoint, first, now).await.unwrap(), SecretRemoved::Removed);
    assert_eq!(tenant.remove_secret(endpoint, second, now).await.unwrap(), SecretRemoved::Last);
    case.add("fourth", Some(0)).await;
    assert_eq!(case.valid().await, ["fourth"]);
    // What is left would expire, and then nobody is believed.
    let (fifth, _) = case.add("fifth", Some(3_600)).await;
    assert_eq!(tenant.remove_secret(endpoint, fifth, now).await.unwrap(), SecretRemoved::Last);
}

#[tokio::test]
async fn their_number_is_bounded_and_they_are_added_to_what_they_were_made_for() {
    let case = Case::new().await;
    for number in 1..MAX_SECRETS {
        assert_eq!(case.add(&format!("number {number}"), None).await.1, SecretAdded::Added);
    }
    assert_eq!(case.add("one too many", None).await.1, SecretAdded::TooMany);

    let to = Verification::Bearer {};
    let change = VerificationChange {
        from: &STANDARD,
        to: &to,
        secret: None,
        secret_id: SecretId::new(case.world.now, random()),
        forget_secrets: true,
    };
    let change = EndpointChange { verification: Some(change), ..EndpointChange::default() };
    let changed = case.owner.tenant.change_endpoint(case.owner.endpoint, &change, case.world.now).await;
    assert!(matches!(changed, Ok(EndpointChanged::Changed(_))));
    assert!(case.valid().await.is_empty(), "secrets of another scheme");
    assert_eq!(case.add("for what it was", None).await.1, SecretAdded::Changed);
}

#[tokio::test]
async fn a_handshake_brings_the_first_secret_and_no_other() {
    let case = Case::new().await;
    let system = case.world.store.system();
    let (endpoint, now) = (case.owner.endpoint, case.world.now);
    let keep = async |text: &str| {
        let (id, secret) = (SecretId::new(now, random()), Secret::new(text));
        system.keep_first_secret(endpoint, &STANDARD, id, &secret, random(), now).await.unwrap()
    };
    assert!(!keep("while there is one").await);
    let forget = format!("update endpoints set secret_key = null where id = '{endpoint}'");
    sqlx::query(AssertSqlSafe(forget)).execute(&case.world.pool).await.unwrap();
    assert!(keep("brought").await);
    assert!(!keep("brought by somebody else").await);
    assert_eq!(case.valid().await, ["brought"]);
}

#[tokio::test]
async fn a_handshake_brings_no_secret_to_what_is_verified_otherwise_by_now() {
    let case = Case::new().await;
    let (endpoint, now) = (case.owner.endpoint, case.world.now);
    let asana = Verification::Provider { provider: Provider::Asana };
    let notion = Verification::Provider { provider: Provider::Notion };
    let becomes = async |from: &Verification, to: &Verification| {
        let secret_id = SecretId::new(now, random());
        let change = VerificationChange { from, to, secret: None, secret_id, forget_secrets: true };
        let change = EndpointChange { verification: Some(change), ..EndpointChange::default() };
        let changed = case.owner.tenant.change_endpoint(endpoint, &change, now).await;
        assert!(matches!(changed, Ok(EndpointChanged::Changed(_))));
    };
    becomes(&STANDARD, &asana).await;
    // Asana's handshake comes, and before its secret is kept the owner turns to Notion.
    becomes(&asana, &notion).await;
    let system = case.world.store.system();
    let keep = async |decided_on: &Verification| {
        let (id, secret) = (SecretId::new(now, random()), Secret::new("brought"));
        system.keep_first_secret(endpoint, decided_on, id, &secret, random(), now).await.unwrap()
    };
    assert!(!keep(&asana).await);
    assert!(case.valid().await.is_empty());
    assert!(keep(&notion).await);
    assert_eq!(case.valid().await, ["brought"]);
}
