//! From the token in a URL to the endpoint, for ingress.

use chrono::{DateTime, Utc};
use ravenpost_core::endpoint::Verification;
use ravenpost_core::ids::{EndpointId, OrganizationId, SecretId, Slot};
use ravenpost_core::limit::{CustomAnswer, MediaType, RateLimit};
use ravenpost_core::secret::Secret;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// What ingress needs to know of an endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its id.
    pub id: EndpointId,
    /// Which slot owns its events.
    pub slot: Slot,
    /// How its producers are verified.
    pub verification: Verification,
    /// What they sign with, newest first: those that had not expired when this was read. Any one suffices.
    pub secrets: Vec<Secret>,
    /// The body limit in bytes where it differs from the default.
    pub max_body_bytes: Option<u32>,
    /// How much is accepted, where it differs from the default.
    pub rate_limit: Option<RateLimit>,
    /// How much its organization may send over all endpoints, where it differs from the default.
    pub organization_rate_limit: Option<RateLimit>,
    /// The content types that are accepted; `None` for any.
    pub content_types: Option<Vec<MediaType>>,
    /// What its producers are answered instead of the ordinary 202.
    pub answer: Option<CustomAnswer>,
    /// Deleted: its producers are told so.
    pub deleted: bool,
}

impl System {
    /// The endpoint of a token, deleted ones included; `None` when there never was one.
    pub async fn endpoint_by_token(&self, token: &str) -> Result<Option<Endpoint>> {
        let found = bounded!(
            self,
            sqlx::query!(
                "select e.organization_id, e.id, e.verification, e.secret_key, e.max_body_bytes, e.slot,
                 e.deleted_at is not null as \"deleted!\", e.rate_limit, e.content_types, e.answer,
                 o.rate_limit as organization_rate_limit,
                 array(select secret from endpoint_secrets s where s.endpoint_id = e.id
                     and (expires_at is null or expires_at > now()) order by created_at desc) as \"older!\"
             from endpoints e join organizations o on o.id = e.organization_id where e.token = $1",
                token
            ),
            fetch_optional
        );
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "endpoints", id: found.id };
        let secrets = found.secret_key.into_iter().chain(found.older);
        let secrets = secrets.map(|sealed| Ok(self.open(row, "secret_key", &sealed, found.id)?));
        Ok(Some(Endpoint {
            organization_id: found.organization_id.into(),
            id: found.id.into(),
            slot: Slot(row.value("slot", u16::try_from(found.slot))?),
            verification: row.json("verification", found.verification)?,
            secrets: secrets.collect::<Result<_>>()?,
            max_body_bytes: found
                .max_body_bytes
                .map(|limit| row.value("max_body_bytes", u32::try_from(limit)))
                .transpose()?,
            rate_limit: found.rate_limit.map(|value| row.json("rate_limit", value)).transpose()?,
            organization_rate_limit: found
                .organization_rate_limit
                .map(|value| {
                    Row { table: "organizations", id: found.organization_id }.json("rate_limit", value)
                })
                .transpose()?,
            content_types: found.content_types.map(|value| row.json("content_types", value)).transpose()?,
            answer: found.answer.map(|value| row.json("answer", value)).transpose()?,
            deleted: found.deleted,
        }))
    }

    /// Keeps a secret that a handshake brought, if the endpoint has none and is still verified as it was when the handshake
    /// was taken for one (`decided_on`): a secret of one provider would be the wrong one for another. Whether it was kept.
    pub async fn keep_first_secret(
        &self,
        endpoint: EndpointId,
        decided_on: &Verification,
        id: SecretId,
        secret: &Secret,
        nonce: [u8; 12],
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let sealed = self.sealing.keyring()?.seal(secret, endpoint.0, nonce);
        let decided_on = serde_json::to_value(decided_on).expect("a way to verify has only strings for keys");
        let kept = bounded!(
            self,
            sqlx::query!(
                r#"update endpoints set secret_key = $2, secret_key_id = $3, secret_key_set_at = $4, updated_at = $4
                 where id = $1 and verification = $5 and secret_key is null and deleted_at is null and not exists (
                     select from endpoint_secrets where endpoint_id = $1 and (expires_at is null or expires_at > $4))
                 returning append_audit(organization_id, $4, 'system', null, null, 'endpoint.secret_added', id, null,
                     json_build_object('secret_id', $3::uuid, 'brought_by', 'handshake')) as "sequence!""#,
                endpoint.0,
                sealed,
                id.0,
                now,
                decided_on
            ),
            fetch_optional
        );
        Ok(kept.is_some())
    }
}
