//! From the token in a URL to the endpoint, for ingress.

use ravenpost_core::endpoint::Verification;
use ravenpost_core::ids::{EndpointId, OrganizationId, Slot};
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
    /// What they sign with; any one suffices.
    pub secrets: Vec<Secret>,
    /// The body limit in bytes where it differs from the default.
    pub max_body_bytes: Option<u32>,
    /// Deleted: its producers are told so.
    pub deleted: bool,
}

impl System {
    /// The endpoint of a token, deleted ones included; `None` when there never was one.
    pub async fn endpoint_by_token(&self, token: &str) -> Result<Option<Endpoint>> {
        let found = bounded!(self, sqlx::query!(
            "select organization_id, id, verification, secret_key, max_body_bytes, slot, deleted_at is not null as \"deleted!\"
             from endpoints where token = $1",
            token
        ), fetch_optional);
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "endpoints", id: found.id };
        let secret =
            found.secret_key.map(|sealed| self.open(row, "secret_key", &sealed, found.id)).transpose()?;
        Ok(Some(Endpoint {
            organization_id: found.organization_id.into(),
            id: found.id.into(),
            slot: Slot(row.value("slot", u16::try_from(found.slot))?),
            verification: row.json("verification", found.verification)?,
            secrets: secret.into_iter().collect(),
            max_body_bytes: found
                .max_body_bytes
                .map(|limit| row.value("max_body_bytes", u32::try_from(limit)))
                .transpose()?,
            deleted: found.deleted,
        }))
    }
}
