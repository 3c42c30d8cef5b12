//! Endpoints: inbound addresses and how their producers are verified.

pub(super) mod health;
pub(super) mod steer;
pub(super) mod test_event;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::endpoint::{EndpointStatus, Verification, token};
use ravenpost_core::ids::{EndpointId, SecretId};
use ravenpost_core::limit::{CustomAnswer, MediaType, RateLimit};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use ravenpost_store::tenant::{
    Deleted, Endpoint, EndpointChange, EndpointChanged, EndpointVersion, NewEndpoint, ToSeal, Unsaid,
    VerificationChange,
};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::body::{Patch, TRIES, contended, given, nullable};
use super::destinations::{CreatedDestinationBody, DestinationDraft};
use super::page::{List, PageQuery, list as listed};
use super::{Api, BASE, Failure, checks};
use crate::auth::{Caller, EndpointsRead, EndpointsWrite};
use crate::conventions::preconditions::{Preconditions, Version, answer, failed};

/// The path of one endpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct EndpointPath {
    /// The endpoint's id.
    pub(super) endpoint_id: EndpointId,
}

/// An endpoint to be made, with its first destination.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEndpoint)]
pub(super) struct NewEndpointBody {
    /// What to call it.
    #[schema(min_length = 1, max_length = 200, example = "Orders")]
    name: String,
    /// Where its events are delivered: the URL of its first destination.
    #[schema(format = Uri, example = "https://api.example.com/webhooks")]
    target_url: String,
    /// How it knows its producer. `none` has to be chosen explicitly.
    verification: Verification,
    /// The secret that the producer gave, if it gave one; otherwise one is made, unless the provider makes them itself: then
    /// it is added later (`POST …/secrets`). For `standard_webhooks` of the form `whsec_…`, for a provider as its
    /// dashboard shows it, otherwise 8 to 512 characters.
    #[schema(format = Password)]
    secret: Option<String>,
    /// The largest body that is accepted, in bytes; 1 MiB unless given.
    #[schema(minimum = 1, maximum = 26_214_400)]
    max_body_bytes: Option<u32>,
    /// How many events are accepted; what exceeds it is answered 429. As the operator has set it unless given.
    rate_limit: Option<RateLimit>,
    /// The content types that are accepted, such as `application/json` or `text/*`; any unless given. Others are
    /// answered 415.
    #[schema(min_items = 1, max_items = 20)]
    content_types: Option<Vec<MediaType>>,
    /// What its producers are answered when an event is accepted, instead of 202 with the event's id or what their provider
    /// wants.
    answer: Option<CustomAnswer>,
    /// When the first destination is tried again; 1m, 5m, 15m, 1h, 6h unless given.
    retry_policy: Option<RetryPolicy>,
    /// How long the first destination has to answer, `100ms` to `60s`; `30s` unless given.
    #[schema(example = "30s")]
    timeout: Option<String>,
}

/// What to change; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = EndpointChange)]
pub(super) struct EndpointChangeBody {
    /// What to call it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    name: Option<String>,
    /// `paused` accepts and holds events, `active` delivers them.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = EndpointStatus)]
    status: Option<EndpointStatus>,
    /// The URL of the first destination. One of another scheme, host or port is refused while the destination has
    /// credentials; it is changed where they are.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, format = Uri)]
    target_url: Option<String>,
    /// Another way to verify producers. A secret is made and shown when the type needs another one and none is given.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Verification)]
    verification: Option<Verification>,
    /// Another secret that the producer gave. It replaces all that the endpoint has, at once; to have both valid for a
    /// while, add one (`POST …/secrets`).
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, format = Password)]
    secret: Option<String>,
    /// The largest body that is accepted, in bytes; null goes back to 1 MiB.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 26_214_400)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    max_body_bytes: Option<Option<u32>>,
    /// How many events are accepted; null goes back to what the operator has set.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<RateLimit>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    rate_limit: Option<Option<RateLimit>>,
    /// The content types that are accepted; null goes back to any.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<MediaType>>, min_items = 1, max_items = 20)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    content_types: Option<Option<Vec<MediaType>>>,
    /// What its producers are answered; null goes back to 202 with the event's id, or to what their provider wants.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<CustomAnswer>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    answer: Option<Option<CustomAnswer>>,
}

/// An inbound address.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointBody {
    /// Its id.
    id: EndpointId,
    /// What it is called.
    name: String,
    /// Where its producer POSTs. Whoever has it can try to send.
    #[schema(format = Uri)]
    hook_url: String,
    /// The URL of its first destination; null when it has none left.
    #[schema(format = Uri, required = true)]
    target_url: Option<String>,
    /// How it knows its producer.
    verification: Verification,
    /// The largest body that is accepted, in bytes; null means 1 MiB.
    #[schema(required = true)]
    max_body_bytes: Option<u32>,
    /// How many events are accepted; null means as the operator has set it.
    #[schema(required = true)]
    rate_limit: Option<RateLimit>,
    /// The content types that are accepted; null means any.
    #[schema(required = true)]
    content_types: Option<Vec<MediaType>>,
    /// What its producers are answered; null means 202 with the event's id, or what their provider wants.
    #[schema(required = true)]
    answer: Option<CustomAnswer>,
    /// Delivered, or held.
    status: EndpointStatus,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last changed.
    updated_at: DateTime<Utc>,
    /// What its producer signs with. Shown only in the answer to the request that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A new endpoint, with what is shown only this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedEndpoint)]
pub(super) struct CreatedEndpointBody {
    #[serde(flatten)]
    endpoint: EndpointBody,
    /// Its destinations, with what we sign with.
    destinations: Vec<CreatedDestinationBody>,
}

impl EndpointBody {
    fn show(api: &Api, endpoint: Endpoint, secret: Option<&Secret>) -> Self {
        Self {
            id: endpoint.id,
            name: endpoint.name,
            hook_url: format!("{}/h/{}", api.hook_base_url, endpoint.token),
            target_url: endpoint.target_url.map(String::from),
            verification: endpoint.verification,
            max_body_bytes: endpoint.max_body_bytes,
            rate_limit: endpoint.rate_limit,
            content_types: endpoint.content_types,
            answer: endpoint.answer,
            status: endpoint.status,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            secret: secret.map(|secret| secret.reveal().to_owned()),
        }
    }
}

/// An endpoint that can be made as it is.
struct Draft {
    id: EndpointId,
    name: String,
    verification: Verification,
    secret: Option<Secret>,
    max_body_bytes: Option<u32>,
    rate_limit: Option<RateLimit>,
    content_types: Option<Vec<MediaType>>,
    answer: Option<CustomAnswer>,
    destination: DestinationDraft,
}

impl NewEndpointBody {
    fn check(self, now: DateTime<Utc>) -> Result<Draft, Problem> {
        checks::all! {
            _name = checks::name("name", &self.name);
            target_url = checks::url("target_url", &self.target_url);
            _verification = checks::verification(&self.verification);
            brought = self.secret.map(|secret| checks::secret(&self.verification, &secret)).transpose();
            max_body_bytes = self.max_body_bytes.map(checks::max_body_bytes).transpose();
            _limits = checks::limits(self.rate_limit, self.content_types.as_deref(), self.answer.as_ref());
            _policy = self.retry_policy.as_ref().map(checks::retry_policy).transpose();
            _timeout = self.timeout.as_deref().map(|text| checks::timeout("timeout", text)).transpose();
        }
        Ok(Draft {
            id: EndpointId::new(now, random::bytes()),
            secret: brought.or_else(|| checks::new_secret(&self.verification)),
            verification: self.verification,
            max_body_bytes,
            rate_limit: self.rate_limit,
            content_types: self.content_types,
            answer: self.answer,
            destination: DestinationDraft::check(
                target_url,
                self.name.clone(),
                self.retry_policy,
                self.timeout.as_deref(),
                now,
            )?,
            name: self.name,
        })
    }
}

/// A change of the verification that has been decided upon.
struct Decided {
    to: Verification,
    secret: Option<Secret>,
    forget_secrets: bool,
}

impl EndpointChangeBody {
    fn check(&self) -> Result<Option<Url>, Problem> {
        let (content_types, answer) = (self.content_types.as_ref(), self.answer.as_ref());
        let content_types = content_types.and_then(|types| types.as_deref());
        let answer = answer.and_then(Option::as_ref);
        checks::all! {
            _name = self.name.as_deref().map(|name| checks::name("name", name)).transpose();
            target_url = self.target_url.as_deref().map(|url| checks::url("target_url", url)).transpose();
            _verification = self.verification.as_ref().map(checks::verification).transpose();
            _bytes = self.max_body_bytes.flatten().map(checks::max_body_bytes).transpose();
            _limits = checks::limits(self.rate_limit.flatten(), content_types, answer);
        }
        Ok(target_url)
    }

    /// The stored secrets stay while they are used in the same way; another way gets another secret.
    fn decide(&self, current: &Verification) -> Result<Option<Decided>, Problem> {
        if self.verification.is_none() && self.secret.is_none() {
            return Ok(None);
        }
        let to = self.verification.clone().unwrap_or_else(|| current.clone());
        let same_use = same_secrets(&to, current);
        let secret = match &self.secret {
            Some(brought) => Some(checks::secret(&to, brought)?),
            None if same_use => None,
            None => checks::new_secret(&to),
        };
        Ok(Some(Decided { to, secret, forget_secrets: !same_use }))
    }
}

/// Whether two ways to verify can use the same secrets.
fn same_secrets(one: &Verification, other: &Verification) -> bool {
    let kind = |verification: &Verification| verification.secret_holder().map(std::mem::discriminant);
    kind(one) == kind(other) && one.provider() == other.provider()
}

/// List endpoints.
#[utoipa::path(get, path = "/endpoints", tag = "endpoints", operation_id = "list_endpoints", params(PageQuery),
    security(("api_key" = ["endpoints:read"])), responses((status = 200, body = List<EndpointBody>)))]
pub(super) async fn list(
    caller: Caller<EndpointsRead>,
    State(api): State<Api>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<EndpointBody>>, Failure> {
    let endpoints = caller.tenant.endpoints(query.page()?).await?;
    Ok(Answer(listed(endpoints, |endpoint| EndpointBody::show(&api, endpoint, None))))
}

/// Create an endpoint.
///
/// It gets its first destination with it. The secrets are shown this once.
#[utoipa::path(post, path = "/endpoints", tag = "endpoints", operation_id = "create_endpoint",
    request_body = NewEndpointBody, security(("api_key" = ["endpoints:write"])),
    responses((status = 201, body = CreatedEndpointBody, headers(("Location" = String, description = "Its path.")))))]
pub(super) async fn create(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Json(body): Json<NewEndpointBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let draft = body.check(now)?;
    let new = NewEndpoint {
        id: draft.id,
        name: &draft.name,
        token: &token(random::bytes()),
        verification: &draft.verification,
        secret: draft.secret.as_ref().map(to_seal),
        max_body_bytes: draft.max_body_bytes,
        rate_limit: draft.rate_limit,
        content_types: draft.content_types.as_deref(),
        answer: draft.answer.as_ref(),
        destination: draft.destination.as_new(),
    };
    let (endpoint, destination) = caller.tenant.create_endpoint(&new, now).await?;
    let location = format!("{BASE}/endpoints/{}", endpoint.id);
    let created = CreatedEndpointBody {
        endpoint: EndpointBody::show(&api, endpoint, draft.secret.as_ref()),
        destinations: vec![draft.destination.created(destination)],
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(created)))
}

/// Get an endpoint.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}", tag = "endpoints", operation_id = "get_endpoint",
    params(EndpointPath), security(("api_key" = ["endpoints:read"])),
    responses((status = 200, body = EndpointBody), (status = 304)))]
pub(super) async fn get(
    caller: Caller<EndpointsRead>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
    preconditions: Preconditions,
) -> Result<Response, Failure> {
    let endpoint = caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing)?;
    Ok(preconditions.answer(endpoint.version, &EndpointBody::show(&api, endpoint, None)))
}

impl Version for EndpointVersion {
    fn parse(text: &str) -> Option<Self> {
        let (own, first_destination) = text.split_once('.')?;
        Some(Self { own: own.parse().ok()?, first_destination: first_destination.parse().ok()? })
    }

    fn write(self) -> String {
        format!("{}.{}", self.own, self.first_destination)
    }

    fn never() -> Self {
        Self { own: -1, first_destination: -1 }
    }
}

/// A change of the endpoint can't say what becomes of its first destination's credentials.
fn guarded(credentials: &[String]) -> Problem {
    let message = format!(
        "leads to another scheme, host or port, and the first destination has credentials for the present one ({}): \
         change the url of the destination itself, and give them again or remove them there",
        credentials.join(", ")
    );
    Problem::invalid_field("target_url", message)
}

/// Change, pause or activate an endpoint.
#[utoipa::path(patch, path = "/endpoints/{endpoint_id}", tag = "endpoints", operation_id = "change_endpoint",
    params(EndpointPath), request_body = EndpointChangeBody, security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = EndpointBody), (status = 409), (status = 412)))]
pub(super) async fn change(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
    preconditions: Preconditions,
    asked: Patch<EndpointChangeBody>,
) -> Result<Response, Failure> {
    let now = clock::now();
    let demanded = preconditions.version()?;
    for _ in 0..TRIES {
        let current = caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing)?;
        if demanded.is_some_and(|demanded| demanded != current.version) {
            return Err(failed("endpoint").into());
        }
        let (body, merged) = asked.of(&EndpointBody::show(&api, current.clone(), None))?;
        let (if_version, target_url) = (demanded.or(merged.then_some(current.version)), body.check()?);
        if target_url.is_some() && current.target_url.is_none() {
            return Err(conflict("the endpoint has no destination whose URL could be changed").into());
        }
        let decided = body.decide(&current.verification)?;
        let change = EndpointChange {
            if_version,
            name: body.name.as_deref(),
            status: body.status,
            target_url: target_url.as_ref(),
            verification: decided.as_ref().map(|decided| VerificationChange {
                from: &current.verification,
                to: &decided.to,
                secret: decided.secret.as_ref().map(to_seal),
                secret_id: SecretId::new(now, random::bytes()),
                forget_secrets: decided.forget_secrets,
            }),
            max_body_bytes: body.max_body_bytes,
            rate_limit: body.rate_limit,
            content_types: body.content_types.as_ref().map(|types| types.as_deref()),
            answer: body.answer.as_ref().map(Option::as_ref),
        };
        let changed = match caller.tenant.change_endpoint(path.endpoint_id, &change, now).await? {
            EndpointChanged::Changed(changed) => *changed,
            // Another verification than the one that it was made of.
            EndpointChanged::Missing => continue,
            EndpointChanged::Stale if demanded.is_none() => continue,
            EndpointChanged::Stale => return Err(failed("endpoint").into()),
            EndpointChanged::Unsaid(Unsaid(credentials)) => return Err(guarded(&credentials).into()),
        };
        let version = changed.version;
        let secret = decided.and_then(|decided| decided.secret);
        return Ok(answer(version, &EndpointBody::show(&api, changed, secret.as_ref())));
    }
    Err(contended("endpoint").into())
}

/// Delete an endpoint.
///
/// Its producers are answered 410 from now on, its destinations are deleted too, and what waits for them is cancelled.
/// Its events stay readable.
#[utoipa::path(delete, path = "/endpoints/{endpoint_id}", tag = "endpoints", operation_id = "delete_endpoint",
    params(EndpointPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 204), (status = 412)))]
pub(super) async fn delete(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<EndpointPath>,
    preconditions: Preconditions,
) -> Result<StatusCode, Failure> {
    let if_version = preconditions.version()?;
    match caller.tenant.delete_endpoint(path.endpoint_id, if_version, clock::now()).await? {
        Deleted::Deleted => Ok(StatusCode::NO_CONTENT),
        Deleted::Missing => Err(missing().into()),
        Deleted::Stale => Err(failed("endpoint").into()),
    }
}

pub(super) fn to_seal(secret: &Secret) -> ToSeal<'_> {
    ToSeal { secret, nonce: random::bytes() }
}

pub(super) fn missing() -> Problem {
    Problem::not_found("endpoint")
}

pub(super) fn conflict(detail: &str) -> Problem {
    Problem::new(Kind::Conflict, detail)
}
