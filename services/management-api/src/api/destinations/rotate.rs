//! Another signing secret for a destination, with a time in which the former one counts as well.

use std::time::Duration;

use axum::Json as Answer;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::SecretId;
use ravenpost_core::secret::Secret;
use ravenpost_store::tenant::{MAX_FORMER_SECRETS, NewSigningSecret, SecretRotated};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{CreatedDestinationBody, DestinationPath, missing};
use crate::api::body::OptionalJson;
use crate::api::endpoints::to_seal;
use crate::api::{Failure, checks};
use crate::auth::{Caller, EndpointsWrite};

/// How long former secrets count unless the request says otherwise.
const GRACE: Duration = Duration::from_hours(24);

/// How to rotate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretRotation)]
pub(in crate::api) struct RotationBody {
    /// What we are to sign with, `whsec_…` of Standard Webhooks; one is made unless given.
    #[schema(value_type = Option<String>, format = Password)]
    signing_secret: Option<Secret>,
    /// How long deliveries are signed with the former secret as well, `0s` to `90d`; `24h` unless given. It bounds the
    /// time of those before it, too: after `0s` only the new one counts.
    #[schema(example = "24h")]
    grace: Option<String>,
}

impl RotationBody {
    fn check(&self, now: DateTime<Utc>) -> Result<(Secret, DateTime<Utc>), Problem> {
        let brought = self.signing_secret.as_ref();
        let brought =
            brought.map(|given| checks::signing_secret("signing_secret", given.reveal())).transpose()?;
        let secret = brought.unwrap_or_else(|| Secret::standard_webhooks(random::bytes()));
        Ok((secret, checks::after("grace", self.grace.as_deref(), GRACE, now)?))
    }
}

/// Rotate a destination's signing secret.
///
/// Deliveries are signed with the new secret from now on, and with the former ones as well while their grace lasts:
/// `webhook-signature` then holds several signatures, of which one has to fit. `X-Hub-Signature-256` can hold one, which
/// is that of the new secret. The new secret is shown this once.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/rotate-secret",
    tag = "destinations", operation_id = "rotate_destination_secret", params(DestinationPath),
    request_body = Option<RotationBody>, security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = CreatedDestinationBody), (status = 409)))]
pub(in crate::api) async fn rotate(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
    OptionalJson(body): OptionalJson<RotationBody>,
) -> Result<Answer<CreatedDestinationBody>, Failure> {
    let now = clock::now();
    let (secret, former_expires_at) = body.check(now)?;
    let former_id = SecretId::new(now, random::bytes());
    let new = NewSigningSecret { secret: to_seal(&secret), former_id, former_expires_at };
    let (endpoint, id) = (path.endpoint_id, path.destination_id);
    match caller.tenant.rotate_signing_secret(endpoint, id, &new, now).await? {
        SecretRotated::Rotated => {}
        SecretRotated::Missing => return Err(missing().into()),
        SecretRotated::TooMany => {
            let detail = format!(
                "{MAX_FORMER_SECRETS} former secrets of the destination still count, which is the most; \
                 a shorter grace ends theirs as well"
            );
            return Err(Problem::new(Kind::Conflict, detail).into());
        }
    }
    let destination = caller.tenant.destination(endpoint, id).await?.ok_or_else(missing)?;
    Ok(Answer(CreatedDestinationBody::new(destination, &secret)))
}
