//! The secrets that an endpoint's producers sign with. Several are valid at once, so that they can rotate.

use std::time::Duration;

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::{EndpointId, SecretId};
use ravenpost_store::tenant::{InboundSecret, MAX_SECRETS, NewSecret, SecretAdded, SecretRemoved};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::endpoints::{EndpointPath, conflict, missing, to_seal};
use super::page::{List, all};
use super::{BASE, Failure, checks};
use crate::auth::{Caller, EndpointsRead, EndpointsWrite};

/// The path of one secret.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct SecretPath {
    /// The endpoint's id.
    endpoint_id: EndpointId,
    /// The secret's id.
    secret_id: SecretId,
}

/// A secret to be added.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = NewSecret)]
pub(super) struct NewSecretBody {
    /// The secret that the producer gave; unless given, one is made.
    #[schema(format = Password)]
    secret: Option<String>,
    /// How long the secrets that are there stay valid, `0s` to `90d`; unless given, for good.
    #[schema(example = "24h")]
    others_expire_in: Option<String>,
}

/// One of an endpoint's secrets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Secret)]
pub(super) struct SecretBody {
    /// Its id.
    id: SecretId,
    /// When it was added.
    created_at: DateTime<Utc>,
    /// When it stops to count; null means never.
    #[schema(required = true)]
    expires_at: Option<DateTime<Utc>>,
    /// Itself. Shown only in the answer to the request that adds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<InboundSecret> for SecretBody {
    fn from(secret: InboundSecret) -> Self {
        Self { id: secret.id, created_at: secret.created_at, expires_at: secret.expires_at, secret: None }
    }
}

impl NewSecretBody {
    fn others_expire_at(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = &self.others_expire_in else { return Ok(None) };
        checks::after("others_expire_in", Some(text), Duration::ZERO, now).map(Some)
    }
}

/// List the secrets of an endpoint.
///
/// Those that are valid, newest first, without themselves.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/secrets", tag = "endpoints", operation_id = "list_secrets",
    params(EndpointPath), security(("api_key" = ["endpoints:read"])),
    responses((status = 200, body = List<SecretBody>)))]
pub(super) async fn list(
    caller: Caller<EndpointsRead>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<List<SecretBody>>, Failure> {
    caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing)?;
    let secrets = caller.tenant.secrets(path.endpoint_id, clock::now()).await?;
    Ok(Answer(all(secrets.into_iter().map(SecretBody::from))))
}

/// Add a secret to an endpoint.
///
/// It counts from now on, and the ones that are there go on to count until they expire. It is shown this once.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/secrets", tag = "endpoints", operation_id = "add_secret",
    params(EndpointPath), request_body = NewSecretBody, security(("api_key" = ["endpoints:write"])),
    responses((status = 201, body = SecretBody, headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn add(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<EndpointPath>,
    Json(body): Json<NewSecretBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let others_expire_at = body.others_expire_at(now)?;
    let endpoint = caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing)?;
    let brought =
        body.secret.as_deref().map(|text| checks::secret(&endpoint.verification, text)).transpose()?;
    let secret = brought.or_else(|| checks::new_secret(&endpoint.verification)).ok_or_else(|| {
        let message = if endpoint.verification.needs_secret() {
            "needed: this endpoint's provider makes its secrets itself"
        } else {
            "this verification takes no secret"
        };
        Problem::invalid_field("secret", message)
    })?;
    let id = SecretId::new(now, random::bytes());
    let new =
        NewSecret { id, secret: to_seal(&secret), verification: &endpoint.verification, others_expire_at };
    match caller.tenant.add_secret(path.endpoint_id, &new, now).await? {
        SecretAdded::Added => {}
        SecretAdded::Changed => {
            return Err(conflict("the endpoint was changed by somebody else meanwhile").into());
        }
        SecretAdded::TooMany => {
            let detail = format!("the endpoint has {MAX_SECRETS} secrets, which is the most; remove one");
            return Err(Problem::new(Kind::Conflict, detail).into());
        }
    }
    let location = format!("{BASE}/endpoints/{}/secrets/{id}", path.endpoint_id);
    let added =
        SecretBody { id, created_at: now, expires_at: None, secret: Some(secret.reveal().to_owned()) };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(added)))
}

/// Remove a secret from an endpoint.
///
/// What is signed with it is refused from now on. The last one can't be removed while the verification needs one.
#[utoipa::path(delete, path = "/endpoints/{endpoint_id}/secrets/{secret_id}", tag = "endpoints",
    operation_id = "remove_secret", params(SecretPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 204), (status = 409)))]
pub(super) async fn remove(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<SecretPath>,
) -> Result<StatusCode, Failure> {
    match caller.tenant.remove_secret(path.endpoint_id, path.secret_id, clock::now()).await? {
        SecretRemoved::Removed => Ok(StatusCode::NO_CONTENT),
        SecretRemoved::Missing => Err(Problem::not_found("secret").into()),
        SecretRemoved::Last => {
            let detail =
                "it is the only secret, and the endpoint's verification needs one; add another one first";
            Err(conflict(detail).into())
        }
    }
}
