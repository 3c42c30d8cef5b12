//! The providers whose webhooks can be verified by name: the table of core, for whoever offers them.

use axum::Json as Answer;
use ravenpost_core::provider::{Provider, SecretOrigin};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::{List, all};
use crate::auth::{Caller, EndpointsRead};

/// A provider whose webhooks can be verified by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderProfile)]
pub(super) struct ProviderBody {
    /// What to write as `verification.provider`.
    provider: Provider,
    /// What it is called.
    name: &'static str,
    /// What belongs where, in a sentence or two.
    setup: &'static str,
    /// Who makes the secret: `ours` is made here and given to the provider, `theirs` is shown by the provider, `handshake`
    /// comes by itself.
    secret: SecretOrigin,
    /// What is asked of the URL and answered by itself; null when nothing is.
    #[schema(required = true)]
    handshake: Option<String>,
    /// The page of its documentation that is followed.
    source: &'static str,
}

impl From<Provider> for ProviderBody {
    fn from(provider: Provider) -> Self {
        let row = provider.profile();
        Self {
            provider,
            name: row.name,
            setup: row.setup,
            secret: row.secret,
            handshake: row.handshake.describe(),
            source: row.source,
        }
    }
}

/// List the providers that are known by name.
#[utoipa::path(get, path = "/providers", tag = "endpoints", operation_id = "list_providers",
    security(("api_key" = ["endpoints:read"])), responses((status = 200, body = List<ProviderBody>)))]
pub(super) async fn list(_caller: Caller<EndpointsRead>) -> Answer<List<ProviderBody>> {
    Answer(all(Provider::ALL.iter().map(|provider| ProviderBody::from(*provider))))
}
