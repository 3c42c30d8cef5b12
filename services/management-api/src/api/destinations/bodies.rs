//! What destinations look like in requests and answers.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::Problem;
use ravenpost_chassis::{clock, random};
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::{CustomHeaders, HeaderChange};
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::destination::{DEFAULT_TIMEOUT, DestinationStatus, Signing};
use ravenpost_core::duration;
use ravenpost_core::filter::Filter;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_core::pacing::{Limits, NEVER};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::DisableAfter;
use ravenpost_store::tenant::{Destination, DestinationChange, NewDestination};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::state::{DestinationStateBody, FilterErrorBody};
use crate::api::body::{given, nullable};
use crate::api::checks;
use crate::api::endpoints::to_seal;

/// A destination to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDestination)]
pub(in crate::api) struct NewDestinationBody {
    /// What to call it.
    #[schema(min_length = 1, max_length = 200, example = "Billing")]
    name: String,
    /// Where to POST.
    #[schema(format = Uri, example = "https://api.example.com/webhooks")]
    url: String,
    /// When to try again; 1m, 5m, 15m, 1h, 6h unless given.
    retry_policy: Option<RetryPolicy>,
    /// How long it has to answer, `100ms` to `60s`; `30s` unless given.
    #[schema(example = "30s")]
    timeout: Option<String>,
    /// How long it has to begin to answer, within `timeout`; as the operator has set it unless given.
    #[schema(example = "10s")]
    first_byte_timeout: Option<String>,
    /// What we are to sign with, `whsec_…` of Standard Webhooks; one is made unless given.
    #[schema(value_type = Option<String>, format = Password)]
    signing_secret: Option<Secret>,
    /// How deliveries are signed; `hmac` unless given.
    #[serde(default)]
    signing: Signing,
    /// Headers that go with each request, over the producer's of the same name. Their values are never shown again.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, example = json!({"x-tenant": "acme"}))]
    headers: BTreeMap<String, Secret>,
    /// How we prove to the destination who we are.
    authentication: Option<Authentication>,
    /// What the destination wants of TLS.
    tls: Option<TlsSettings>,
    /// Which events it gets; all unless given.
    filter: Option<Filter>,
    /// How fast it is sent to; what is absent is as the operator has set it.
    limits: Option<Limits>,
    /// After how long of failures only it is disabled, `1s` to `90d`, or `never`; as the operator has set it unless
    /// given. Its owner is warned at half the time.
    #[schema(example = "5d")]
    disable_after: Option<String>,
    /// Replay its dead letters by themselves when it has recovered: with the first success after three failures in a
    /// row, each at most three times. False unless given.
    #[serde(default)]
    replay_on_recovery: bool,
}

/// What to change; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DestinationChange)]
pub(in crate::api) struct DestinationChangeBody {
    /// What to call it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Where to POST. With another scheme, host or port all credentials have to be given again.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, format = Uri)]
    url: Option<String>,
    /// When to try again; null goes back to 1m, 5m, 15m, 1h, 6h.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<RetryPolicy>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    retry_policy: Option<Option<RetryPolicy>>,
    /// How long it has to answer, `100ms` to `60s`; null goes back to `30s`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "30s")]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    timeout: Option<Option<String>>,
    /// How long it has to begin to answer, within `timeout`; null goes back to what the operator has set.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "10s")]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    first_byte_timeout: Option<Option<String>>,
    /// `paused` holds its events, `active` delivers them. `active` also enables a destination that was disabled, and
    /// lets one be tried at once that is being given a rest: how it has fared so far is forgotten.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = DestinationStatus)]
    status: Option<DestinationStatus>,
    /// How deliveries are signed; null goes back to `hmac`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Signing>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    signing: Option<Option<Signing>>,
    /// Headers to set, and by null to remove; null removes them all.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>, example = json!({"x-tenant": "acme", "x-old": null}))]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    headers: Option<Option<BTreeMap<String, Option<Secret>>>>,
    /// How we prove to the destination who we are; null: not at all.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Authentication>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    authentication: Option<Option<Authentication>>,
    /// What the destination wants of TLS; null: nothing beyond the ordinary.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<TlsSettings>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    tls: Option<Option<TlsSettings>>,
    /// Which events it gets; null for all. It is asked for the events that have not come to their first attempt yet.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Filter>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    filter: Option<Option<Filter>>,
    /// How fast it is sent to; null goes back to what the operator has set.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Limits>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    limits: Option<Option<Limits>>,
    /// After how long of failures only it is disabled, `1s` to `90d`, or `never`; null goes back to what the operator
    /// has set.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "5d")]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    disable_after: Option<Option<String>>,
    /// Whether its dead letters are replayed by themselves when it has recovered; null goes back to false.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<bool>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    replay_on_recovery: Option<Option<bool>>,
}

/// One target URL of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destination)]
pub(in crate::api) struct DestinationBody {
    /// Its id.
    id: DestinationId,
    /// Whose events it gets: those accepted since it was made.
    endpoint_id: EndpointId,
    /// What it is called.
    name: String,
    /// Where we POST.
    #[schema(format = Uri)]
    url: String,
    /// When it is tried again.
    retry_policy: RetryPolicy,
    /// How long it has to answer.
    #[schema(example = "30s")]
    timeout: String,
    /// How long it has to begin to answer; null means as the operator has set it.
    #[schema(required = true, example = "10s")]
    first_byte_timeout: Option<String>,
    /// How deliveries are signed.
    signing: Signing,
    /// Until when deliveries are signed with its former secrets as well; null when there are none.
    #[schema(required = true)]
    former_secrets_expire_at: Option<DateTime<Utc>>,
    /// The names of the headers that go with each request.
    #[schema(example = json!(["x-tenant"]))]
    header_names: Vec<String>,
    /// How we prove to it who we are, without what proves it.
    #[schema(required = true)]
    authentication: Option<Authentication>,
    /// What it wants of TLS, without the private key.
    #[schema(required = true)]
    tls: Option<TlsSettings>,
    /// Which events it gets; null for all.
    #[schema(required = true)]
    filter: Option<Filter>,
    /// The last failure of the filter's expression that was noted, at most one a minute; null when there was none since
    /// the filter was set. The event was delivered.
    #[schema(required = true)]
    filter_error: Option<FilterErrorBody>,
    /// Sent to, or held.
    status: DestinationStatus,
    /// Whether its dead letters are replayed by themselves when it has recovered.
    replay_on_recovery: bool,
    /// How fast it is sent to; what is absent is as the operator has set it.
    limits: Limits,
    /// After how long of failures only it is disabled; null means as the operator has set it.
    #[schema(required = true, example = "5d")]
    disable_after: Option<String>,
    /// How it fares.
    state: DestinationStateBody,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last changed.
    updated_at: DateTime<Utc>,
}

/// A new destination, with what is shown only this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedDestination)]
pub(in crate::api) struct CreatedDestinationBody {
    #[serde(flatten)]
    destination: DestinationBody,
    /// What we sign with (Standard Webhooks).
    #[schema(format = Password)]
    signing_secret: String,
}

impl From<Destination> for DestinationBody {
    fn from(destination: Destination) -> Self {
        let now = clock::now();
        let state = DestinationStateBody::of(&destination, now);
        Self {
            id: destination.id,
            endpoint_id: destination.endpoint_id,
            name: destination.name,
            url: destination.url.into(),
            retry_policy: destination.retry_policy,
            timeout: duration::format(destination.timeout),
            first_byte_timeout: destination.first_byte_timeout.map(duration::format),
            signing: destination.signing,
            former_secrets_expire_at: destination.former_secrets_expire_at.filter(|at| *at > now),
            header_names: destination.headers.names().into_iter().map(str::to_owned).collect(),
            authentication: destination.authentication,
            tls: destination.tls,
            filter: destination.filter,
            filter_error: destination.filter_error.map(FilterErrorBody::from),
            status: destination.status,
            replay_on_recovery: destination.replay_on_recovery,
            limits: destination.limits,
            disable_after: match destination.disable_after {
                DisableAfter::Operator => None,
                DisableAfter::Never => Some(NEVER.to_owned()),
                DisableAfter::After(time) => Some(duration::format(time)),
            },
            state,
            created_at: destination.created_at,
            updated_at: destination.updated_at,
        }
    }
}

/// A destination that can be made as it is.
pub(in crate::api) struct DestinationDraft {
    id: DestinationId,
    name: String,
    url: Url,
    signing_secret: Secret,
    retry_policy: RetryPolicy,
    timeout: Duration,
    first_byte_timeout: Option<Duration>,
    pub(in crate::api) signing: Signing,
    headers: Option<Secret>,
    authentication: Option<Secret>,
    tls: Option<Secret>,
    filter: Option<Filter>,
    limits: Limits,
    disable_after: DisableAfter,
    replay_on_recovery: bool,
}

impl DestinationDraft {
    pub(in crate::api) fn check(
        url: Url,
        name: String,
        retry_policy: Option<RetryPolicy>,
        timeout: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Self, Problem> {
        retry_policy.as_ref().map(checks::retry_policy).transpose()?;
        Ok(Self {
            id: DestinationId::new(now, random::bytes()),
            name,
            url,
            signing_secret: Secret::standard_webhooks(random::bytes()),
            retry_policy: retry_policy.unwrap_or_default(),
            timeout: timeout.map_or(Ok(DEFAULT_TIMEOUT), |timeout| checks::timeout("timeout", timeout))?,
            first_byte_timeout: None,
            signing: Signing::default(),
            headers: None,
            authentication: None,
            tls: None,
            filter: None,
            limits: Limits::default(),
            disable_after: DisableAfter::Operator,
            replay_on_recovery: false,
        })
    }

    pub(in crate::api) fn as_new(&self) -> NewDestination<'_> {
        NewDestination {
            id: self.id,
            name: &self.name,
            url: &self.url,
            signing_secret: to_seal(&self.signing_secret),
            retry_policy: &self.retry_policy,
            timeout: self.timeout,
            first_byte_timeout: self.first_byte_timeout,
            signing: self.signing,
            headers: self.headers.as_ref().map(to_seal),
            authentication: self.authentication.as_ref().map(to_seal),
            tls: self.tls.as_ref().map(to_seal),
            filter: self.filter.as_ref(),
            limits: self.limits,
            disable_after: self.disable_after,
            replay_on_recovery: self.replay_on_recovery,
        }
    }

    /// What was made of it, with the secret.
    pub(in crate::api) fn created(&self, destination: Destination) -> CreatedDestinationBody {
        CreatedDestinationBody::new(destination, &self.signing_secret)
    }
}

impl CreatedDestinationBody {
    pub(super) fn new(destination: Destination, secret: &Secret) -> Self {
        Self { destination: destination.into(), signing_secret: secret.reveal().to_owned() }
    }
}

impl NewDestinationBody {
    pub(super) fn check(self, now: DateTime<Utc>) -> Result<DestinationDraft, Problem> {
        checks::all! {
            _name = checks::name("name", &self.name);
            url = checks::url("url", &self.url);
            brought = self
                .signing_secret
                .map(|given| checks::signing_secret("signing_secret", given.reveal()))
                .transpose();
            headers = new_headers(self.headers);
            limits = self.limits.map(checks::pace).transpose();
            disable_after = self.disable_after.as_deref().map(checks::disable_after).transpose();
            first_byte_timeout = self.first_byte_timeout.as_deref().map(first_byte_timeout).transpose();
            authentication = self.authentication.as_ref().map(checks::authentication).transpose();
            tls = self.tls.as_ref().map(checks::tls).transpose();
            filter = self.filter.map(checks::filter).transpose();
            _policy = self.retry_policy.as_ref().map(checks::retry_policy).transpose();
            _timeout = self.timeout.as_deref().map(|text| checks::timeout("timeout", text)).transpose();
        }
        let draft = DestinationDraft::check(url, self.name, self.retry_policy, self.timeout.as_deref(), now)?;
        Ok(DestinationDraft {
            signing_secret: brought.unwrap_or(draft.signing_secret),
            first_byte_timeout,
            signing: self.signing,
            headers: (!headers.is_empty()).then(|| headers.to_secret()),
            authentication,
            tls,
            filter: filter.flatten(),
            limits: limits.unwrap_or_default(),
            disable_after: disable_after.unwrap_or_default(),
            replay_on_recovery: self.replay_on_recovery,
            ..draft
        })
    }
}

/// A change that can be made as it is.
pub(super) struct ChangeDraft {
    body: DestinationChangeBody,
    retry_policy: Option<RetryPolicy>,
    url: Option<Url>,
    timeout: Option<Duration>,
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    first_byte_timeout: Option<Option<Duration>>,
    pub(super) signing: Option<Signing>,
    headers: Option<HeaderChange>,
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    authentication: Option<Option<Secret>>,
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    tls: Option<Option<Secret>>,
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    filter: Option<Option<Filter>>,
    limits: Option<Limits>,
    disable_after: Option<DisableAfter>,
}

impl DestinationChangeBody {
    pub(super) fn check(mut self) -> Result<ChangeDraft, Problem> {
        let filter = self.filter.take().map(|filter| match filter {
            None => Ok(None),
            Some(filter) => checks::filter(filter),
        });
        let disable_after = self.disable_after.as_ref().map(|text| match text {
            None => Ok(DisableAfter::Operator),
            Some(text) => checks::disable_after(text),
        });
        let headers = self.headers.as_ref().map(|headers| match headers {
            None => Ok(HeaderChange::clear()),
            Some(headers) => checks::headers(headers),
        });
        let given = self.authentication.as_ref();
        let authentication = given.map(|given| given.as_ref().map(checks::authentication).transpose());
        let tls = self.tls.as_ref().map(|given| given.as_ref().map(checks::tls).transpose());
        let timeout = self.timeout.as_ref().map(|text| match text {
            None => Ok(DEFAULT_TIMEOUT),
            Some(text) => checks::timeout("timeout", text),
        });
        let given = self.first_byte_timeout.as_ref();
        let first_byte = given.map(|given| given.as_deref().map(first_byte_timeout).transpose());
        checks::all! {
            _status = self.status.map(checks::status).transpose();
            _name = self.name.as_deref().map(|name| checks::name("name", name)).transpose();
            url = self.url.as_deref().map(|url| checks::url("url", url)).transpose();
            _policy = self.retry_policy.iter().flatten().try_for_each(checks::retry_policy);
            timeout = timeout.transpose();
            first_byte_timeout = first_byte.transpose();
            headers = headers.transpose();
            authentication = authentication.transpose();
            tls = tls.transpose();
            filter = filter.transpose();
            limits = self.limits.map(|limits| checks::pace(limits.unwrap_or_default())).transpose();
            disable_after = disable_after.transpose();
        }
        Ok(ChangeDraft {
            url,
            timeout,
            first_byte_timeout,
            retry_policy: self.retry_policy.take().map(Option::unwrap_or_default),
            signing: self.signing.map(Option::unwrap_or_default),
            headers,
            authentication,
            tls,
            filter,
            limits,
            disable_after,
            body: self,
        })
    }
}

impl ChangeDraft {
    pub(super) fn as_change(&self) -> DestinationChange<'_> {
        DestinationChange {
            if_version: None,
            name: self.body.name.as_deref(),
            url: self.url.as_ref(),
            retry_policy: self.retry_policy.as_ref(),
            timeout: self.timeout,
            first_byte_timeout: self.first_byte_timeout,
            signing: self.signing,
            headers: self.headers.as_ref().map(|change| (change, random::bytes())),
            authentication: self.authentication.as_ref().map(|secret| secret.as_ref().map(to_seal)),
            tls: self.tls.as_ref().map(|secret| secret.as_ref().map(to_seal)),
            status: self.body.status,
            filter: self.filter.as_ref().map(Option::as_ref),
            limits: self.limits,
            disable_after: self.disable_after,
            replay_on_recovery: self.body.replay_on_recovery.map(Option::unwrap_or_default),
        }
    }
}

fn new_headers(headers: BTreeMap<String, Secret>) -> Result<CustomHeaders, Problem> {
    let headers = headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
    let headers = CustomHeaders::default().changed(&checks::headers(&headers)?);
    headers.map_err(|invalid| checks::invalid_header(&invalid))
}

fn first_byte_timeout(text: &str) -> Result<Duration, Problem> {
    checks::timeout("first_byte_timeout", text)
}
