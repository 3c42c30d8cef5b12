//! API keys of the organization: shown once, revoked at once.

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::access::{ApiKey as Key, Scope};
use ravenpost_core::ids::ApiKeyId;
use ravenpost_store::tenant::{ApiKey, MAX_API_KEYS, NewApiKey};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::members::PersonBody;
use super::page::{List, PageQuery, list as listed};
use super::{BASE, Failure, checks};
use crate::auth::{ApiKeysRead, ApiKeysWrite, Caller, Standing};

/// The path of one key.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ApiKeyPath {
    /// The key's id.
    api_key_id: ApiKeyId,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey)]
pub(super) struct NewApiKeyBody {
    /// What it is called: what it is for, so that somebody dares to revoke it.
    #[schema(example = "Deployment")]
    name: String,
    /// What it may do, at least one, and nothing that you may not.
    #[schema(example = json!(["events:read"]))]
    scopes: Vec<Scope>,
    /// From when on it is refused; never unless given.
    expires_at: Option<DateTime<Utc>>,
}

/// A key, without what proves it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct ApiKeyBody {
    /// Its id.
    id: ApiKeyId,
    /// What it is called.
    name: String,
    /// What the key begins with, to recognise it by.
    #[schema(example = "rvp_0199d0c47a687cc2")]
    prefix: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// Who made it; null for a program or the operator.
    #[schema(required = true)]
    created_by: Option<PersonBody>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// From when on it is refused; null for never.
    #[schema(required = true)]
    expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute; null for never.
    #[schema(required = true)]
    last_used_at: Option<DateTime<Utc>>,
}

/// A key that was just made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub(super) struct CreatedApiKeyBody {
    /// What it is from now on.
    #[serde(flatten)]
    shown: ApiKeyBody,
    /// The key itself. It is told this once.
    #[schema(example = "rvp_0199d0c47a687cc2_…")]
    key: String,
}

impl From<ApiKey> for ApiKeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: format!("{}{}", Key::START, key.prefix),
            scopes: key.scopes,
            created_by: key.created_by.map(PersonBody::from),
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// List API keys.
///
/// Those that have expired are listed as well; those that were revoked are not.
#[utoipa::path(get, path = "/api-keys", tag = "identity", operation_id = "list_api_keys", params(PageQuery),
    responses((status = 200, body = List<ApiKeyBody>)))]
pub(super) async fn list(
    caller: Caller<ApiKeysRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<ApiKeyBody>>, Failure> {
    let keys = caller.tenant.api_keys(query.page()?).await?;
    Ok(Answer(listed(keys, ApiKeyBody::from)))
}

/// Create an API key.
///
/// The answer is the only place where the key is ever told. One that is made by another key ends with it at the latest.
#[utoipa::path(post, path = "/api-keys", tag = "identity", operation_id = "create_api_key",
    request_body = NewApiKeyBody, responses((status = 201, body = CreatedApiKeyBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    caller: Caller<ApiKeysWrite>,
    Json(body): Json<NewApiKeyBody>,
) -> Result<impl IntoResponse, Failure> {
    let (name, now) = (checks::name("name", &body.name)?, clock::now());
    let scopes = scopes(&body.scopes, &caller.standing)?;
    if body.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Problem::invalid_field("expires_at", "a time that has not come yet").into());
    }
    // Nobody gives what they have not: a key that ends makes none that goes on.
    let expires_at = match (body.expires_at, caller.until) {
        (Some(wanted), Some(until)) if wanted > until => {
            let detail = format!("no later than the key that makes it ends, {}", until.to_rfc3339());
            return Err(Problem::invalid_field("expires_at", detail).into());
        }
        (wanted, until) => wanted.or(until),
    };
    let (key, created_by) = (Key::new(random::bytes()), caller.user_id());
    let id = ApiKeyId::new(now, random::bytes());
    let new = NewApiKey { id, name, key: &key, scopes: &scopes, expires_at, created_by };
    let Some(created) = caller.tenant.create_api_key(&new, now).await? else {
        let detail =
            format!("there are {MAX_API_KEYS} keys, which is the most: revoke one that nobody needs");
        return Err(Problem::new(Kind::Conflict, detail).into());
    };
    let location = format!("{BASE}/api-keys/{id}");
    let body = CreatedApiKeyBody { shown: created.into(), key: key.reveal().to_owned() };
    // What holds a secret is not to be kept on the way.
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Answer(body)))
}

/// Each scope once, in the order of the list, and none that the caller has not.
fn scopes(wanted: &[Scope], standing: &Standing) -> Result<Vec<Scope>, Problem> {
    if wanted.is_empty() {
        return Err(Problem::invalid_field("scopes", "at least one"));
    }
    if let Some(lacking) = wanted.iter().find(|scope| !standing.carries(**scope)) {
        let detail = format!("a key can't carry {}, since you have not got that scope", lacking.as_str());
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(Scope::ALL.iter().copied().filter(|scope| wanted.contains(scope)).collect())
}

/// Revoke an API key.
///
/// It is refused everywhere within a second.
#[utoipa::path(delete, path = "/api-keys/{api_key_id}", tag = "identity", operation_id = "revoke_api_key",
    params(ApiKeyPath), responses((status = 204)))]
pub(super) async fn revoke(
    caller: Caller<ApiKeysWrite>,
    Path(path): Path<ApiKeyPath>,
) -> Result<StatusCode, Failure> {
    let revoked = caller.tenant.revoke_api_key(path.api_key_id, clock::now()).await?;
    if revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("API key").into()) }
}
