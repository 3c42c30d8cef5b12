//! The key pairs that an organization's deliveries are signed with (`v1a` of Standard Webhooks), and their public halves
//! for whoever receives.

mod key_sets;

use std::time::Duration;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::audit::Author;
use ravenpost_core::destination::Signing;
use ravenpost_core::ids::{OrganizationId, SigningKeyId};
use ravenpost_core::signature::signing_key::SigningKey;
use ravenpost_store::tenant::{KeyRotated, KeyRotation, MAX_SIGNING_KEYS, NewSigningKey, PublishedKey};
use ravenpost_store::{Store, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::OptionalJson;
use super::{Api, Failure, checks};
use crate::auth::{Caller, EndpointsRead, EndpointsWrite};
pub(super) use key_sets::KeySets;

/// Where public keys are, beside the API and for everybody.
pub(super) const JWKS_PATH: &str = "/.well-known/jwks.json";
/// How long receivers may keep them. A new key is published for longer before it signs, unless somebody is in a hurry.
const JWKS_CACHED: &str = "public, max-age=300";
/// How long a new key is published before it signs, unless the request says otherwise.
const LEAD: Duration = Duration::from_hours(1);
/// How long the former keys sign beside the new one, unless the request says otherwise.
const OVERLAP: Duration = Duration::from_hours(24);

/// The keys of the organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SigningKeys)]
pub(super) struct KeysBody {
    /// Those that are published, newest first; none before the first destination is signed for with one.
    data: Vec<KeyBody>,
    /// Where receivers find them as a JSON Web Key Set (RFC 7517), at this server; it needs no API key.
    #[schema(example = "/.well-known/jwks.json?organization_id=0199d0c4-7a68-7cc2-a54e-0a7d2a2b9c11")]
    jwks_path: String,
}

/// A key pair, as far as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SigningKey)]
pub(super) struct KeyBody {
    /// Its id, and the `kid` in the key set.
    id: SigningKeyId,
    /// Its public half, as Standard Webhooks writes it.
    #[schema(example = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: String,
    /// When it was made and published.
    created_at: DateTime<Utc>,
    /// When it begins to sign.
    signs_from: DateTime<Utc>,
    /// When it no longer signs and is no longer published; null until another one takes its place.
    #[schema(required = true)]
    expires_at: Option<DateTime<Utc>>,
}

impl From<PublishedKey> for KeyBody {
    fn from(key: PublishedKey) -> Self {
        Self {
            id: key.id,
            public_key: key.key.standard_webhooks(),
            created_at: key.created_at,
            signs_from: key.signs_from,
            expires_at: key.expires_at,
        }
    }
}

/// How to rotate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = SigningKeyRotation)]
pub(super) struct KeyRotationBody {
    /// How long the new key is published before it signs, `0s` to `90d`; `1h` unless given. Receivers may keep a key set
    /// for five minutes, and get one that may be five seconds old.
    #[schema(example = "1h")]
    lead: Option<String>,
    /// How long the former keys sign beside the new one, `0s` to `90d`; `24h` unless given.
    #[schema(example = "24h")]
    overlap: Option<String>,
}

/// Makes the organization's first key, if somebody is to be signed for with one and there is none.
pub(super) async fn ensure(
    api: &Api,
    tenant: &Tenant,
    signing: Signing,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    if signing.by_key() {
        let key = SigningKey::from_seed(random::bytes());
        tenant.ensure_signing_key(&new_key(&key, now), now).await?;
        api.key_sets.forget(tenant.organization_id());
    }
    Ok(())
}

fn new_key(key: &SigningKey, now: DateTime<Utc>) -> NewSigningKey<'_> {
    NewSigningKey { id: SigningKeyId::new(now, random::bytes()), key, nonce: random::bytes() }
}

/// List the keys that deliveries are signed with.
#[utoipa::path(get, path = "/signing-keys", tag = "destinations", operation_id = "list_signing_keys",
    security(("api_key" = ["endpoints:read"])), responses((status = 200, body = KeysBody)))]
pub(super) async fn list(caller: Caller<EndpointsRead>) -> Result<Answer<KeysBody>, Failure> {
    let keys = caller.tenant.signing_keys(clock::now()).await?;
    Ok(Answer(KeysBody {
        data: keys.into_iter().map(KeyBody::from).collect(),
        jwks_path: format!("{JWKS_PATH}?organization_id={}", caller.tenant.organization_id()),
    }))
}

/// Rotate the key that deliveries are signed with.
///
/// The new key is published at once and signs after `lead`. From then on deliveries carry a signature of each, until the
/// former keys end after `overlap`. The first key signs at once.
///
/// A key that is still to sign gives way to one that signs earlier; any other rotation is answered 409 until it does. So a
/// key that was stolen can be withdrawn at any time, by `lead` and `overlap` of `0s`. Former keys end no later than they were
/// to before.
#[utoipa::path(post, path = "/signing-keys/rotate", tag = "destinations", operation_id = "rotate_signing_key",
    request_body = Option<KeyRotationBody>, security(("api_key" = ["endpoints:write"])),
    responses((status = 201, body = KeyBody), (status = 409)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    caller: Caller<EndpointsWrite>,
    OptionalJson(body): OptionalJson<KeyRotationBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let signs_from = checks::after("lead", body.lead.as_deref(), LEAD, now)?;
    let others_expire_at = checks::after("overlap", body.overlap.as_deref(), OVERLAP, signs_from)?;
    let key = SigningKey::from_seed(random::bytes());
    let rotation = KeyRotation { signs_from, others_expire_at };
    match caller.tenant.rotate_signing_key(&new_key(&key, now), rotation, now).await? {
        KeyRotated::Rotated(key) => {
            api.key_sets.forget(caller.tenant.organization_id());
            Ok((StatusCode::CREATED, Answer(KeyBody::from(key))))
        }
        KeyRotated::Pending(key) => {
            let detail = format!(
                "key {} was rotated to already and has yet to sign; one that signs earlier takes its place",
                key.id
            );
            Err(Problem::new(Kind::Conflict, detail).into())
        }
        KeyRotated::TooMany => {
            let detail = format!(
                "there are {MAX_SIGNING_KEYS} keys, which is the most; a shorter overlap ends former ones"
            );
            Err(Problem::new(Kind::Conflict, detail).into())
        }
    }
}

/// Whose keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwksQuery {
    organization_id: OrganizationId,
}

/// A JSON Web Key Set (RFC 7517, section 5).
#[derive(Debug, Serialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// An Ed25519 public key (RFC 8037, section 2).
#[derive(Debug, Serialize)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: SigningKeyId,
    x: String,
}

impl From<PublishedKey> for Jwk {
    fn from(key: PublishedKey) -> Self {
        let x = key.key.jwk_x();
        Self { kty: "OKP", crv: "Ed25519", usage: "sig", alg: "EdDSA", kid: key.id, x }
    }
}

/// The public keys of one organization, for everybody. There is no set of all: a receiver that took it would believe every
/// organization. One that does not exist has no keys, as has one that signs with none.
pub(super) async fn jwks(
    State(api): State<Api>,
    Query(query): Query<JwksQuery>,
) -> Result<impl IntoResponse, Failure> {
    let organization = query.organization_id;
    let set = api.key_sets.of(organization, key_set(&api.store, organization)).await?;
    let headers: [(HeaderName, &str); 2] =
        [(header::CACHE_CONTROL, JWKS_CACHED), (header::CONTENT_TYPE, "application/jwk-set+json")];
    Ok((headers, set))
}

async fn key_set(store: &Store, organization: OrganizationId) -> Result<Bytes, Failure> {
    let keys = store.tenant(organization, Author::SYSTEM).signing_keys(clock::now()).await?;
    let set = KeySet { keys: keys.into_iter().map(Jwk::from).collect() };
    Ok(serde_json::to_vec(&set).expect("ids and texts serialise").into())
}
