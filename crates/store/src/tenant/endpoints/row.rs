//! How an endpoint is stored.

use chrono::{DateTime, Utc};
use ravenpost_core::endpoint::EndpointStatus;
use url::Url;
use uuid::Uuid;

use super::{Endpoint, EndpointVersion};
use crate::Result;
use crate::decode::Row;
use crate::tenant::unsigned;

/// A row, with the first destination's URL and version.
pub(super) struct EndpointRow {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) verification: serde_json::Value,
    pub(super) max_body_bytes: Option<i32>,
    pub(super) rate_limit: Option<serde_json::Value>,
    pub(super) content_types: Option<serde_json::Value>,
    pub(super) answer: Option<serde_json::Value>,
    pub(super) status: String,
    pub(super) target_url: Option<String>,
    pub(super) version: i64,
    pub(super) first_version: Option<i64>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl EndpointRow {
    pub(super) fn decode(self) -> Result<Endpoint> {
        let row = Row { table: "endpoints", id: self.id };
        let target_url = self.target_url.map(|url| row.value("target_url", Url::parse(&url))).transpose()?;
        Ok(Endpoint {
            id: self.id.into(),
            verification: row.json("verification", self.verification)?,
            max_body_bytes: self
                .max_body_bytes
                .map(|bytes| unsigned(row, "max_body_bytes", bytes))
                .transpose()?,
            rate_limit: self.rate_limit.map(|value| row.json("rate_limit", value)).transpose()?,
            content_types: self.content_types.map(|value| row.json("content_types", value)).transpose()?,
            answer: self.answer.map(|value| row.json("answer", value)).transpose()?,
            status: row.word("status", &self.status, EndpointStatus::parse)?,
            name: self.name,
            token: self.token,
            target_url,
            version: EndpointVersion {
                own: self.version,
                first_destination: self.first_version.unwrap_or_default(),
            },
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
