//! What a destination has been given for its URL, and may not follow the URL to another host.
//!
//! Whoever may change a URL would otherwise have credentials that nobody is shown sent to a host of his own. The signing
//! secret is none of them: it is only signed with.

use ravenpost_core::destination::headers::{CustomHeaders, HeaderChange};
use ravenpost_core::destination::same_origin;
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::ids::{DestinationId, EndpointId};
use sqlx::PgConnection;
use url::Url;

use super::{DestinationChange, Tenant};
use crate::Result;
use crate::decode::Row;

/// The fields of a change that would have to say what becomes of credentials, since its URL leads to another origin:
/// `authentication`, `headers.x-tenant`, `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaid(pub Vec<String>);

/// A destination that nobody else changes until the transaction ends.
pub(in crate::tenant) struct Locked {
    pub(super) headers: CustomHeaders,
    url: Url,
    authenticates: bool,
    has_client_key: bool,
}

impl Tenant {
    /// Locks a destination; `None` when there is none.
    pub(in crate::tenant) async fn lock_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        id: DestinationId,
    ) -> Result<Option<Locked>> {
        let found = sqlx::query!(
            "select url, headers, authentication is not null as \"authenticates!\", tls from destinations
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null for update",
            self.organization.0,
            endpoint.0,
            id.0
        )
        .fetch_optional(connection)
        .await?;
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "destinations", id: id.0 };
        let headers = self.opened(row, "headers", found.headers.as_deref(), CustomHeaders::from_secret)?;
        let tls = self.opened(row, "tls", found.tls.as_deref(), TlsSettings::from_secret)?;
        Ok(Some(Locked {
            headers: headers.unwrap_or_default(),
            url: row.value("url", Url::parse(&found.url))?,
            authenticates: found.authenticates,
            has_client_key: tls.is_some_and(|tls| tls.client_key.is_some()),
        }))
    }
}

impl Locked {
    /// What a change says nothing of and would take along to another origin; `None` when it takes nothing there.
    pub(in crate::tenant) fn unsaid(&self, change: &DestinationChange<'_>) -> Option<Unsaid> {
        if change.url.is_none_or(|url| same_origin(url, &self.url)) {
            return None;
        }
        let headers = change.headers.map(|(headers, _)| headers);
        let kept = |name: &&str| !headers.is_some_and(|headers: &HeaderChange| headers.decides(name));
        let mut unsaid: Vec<String> = Vec::new();
        unsaid.extend(
            (self.authenticates && change.authentication.is_none()).then(|| "authentication".to_owned()),
        );
        unsaid.extend(self.headers.names().into_iter().filter(kept).map(|name| format!("headers.{name}")));
        unsaid.extend((self.has_client_key && change.tls.is_none()).then(|| "tls".to_owned()));
        (!unsaid.is_empty()).then_some(Unsaid(unsaid))
    }
}
