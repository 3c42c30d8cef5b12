//! Who is asking, and whether they may: from `Authorization` to a [`Caller`] with a right.
//!
//! ```text
//! Authorization ──▶ credentials ──▶ api_key (rvp_…)     ──▶ a program: its key's organization and scopes
//!                              └──▶ access_token (JWT)  ──▶ people: a person, and what they are a member of
//!                                     └── issuer: the keys that the issuer signs with
//! caller: which organization (path, header, or the only one), and what the operation demands of them there
//! news: what is remembered of keys and memberships is forgotten when it changes
//! ```

mod access_token;
mod api_key;
mod caller;
mod credentials;
mod cryptography;
mod identity;
mod issuer;
mod news;
mod people;
mod settings;
mod uses;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use ravenpost_chassis::Context;
use ravenpost_egress::OperatorClient;
use ravenpost_store::Store;

use crate::api::Failure;
use crate::metrics::Metrics;
use access_token::Verifier;
use api_key::Keys;
use credentials::Credentials;
use issuer::Issuer;
use news::News;
use uses::Uses;

pub(crate) use access_token::Refusal;
pub(crate) use caller::Demands;
pub(crate) use caller::admitted;
pub use caller::{
    AlertsRead, AlertsWrite, ApiKeysRead, ApiKeysWrite, AuditRead, Caller, EndpointsRead, EndpointsWrite,
    EventsRead, EventsReplay, Known, MembersRead, MembersWrite, ORGANIZATION_HEADER, OrganizationRead,
    OrganizationWrite, Right, Standing, demands,
};
pub use identity::Identity;
pub use people::{People, Person};
pub use settings::OidcSettings;

/// What recognises callers. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    store: Store,
    news: Arc<News>,
    keys: Keys,
    uses: Arc<Uses>,
    people: People,
    tokens: Option<Arc<Verifier>>,
    metrics: Metrics,
}

impl Auth {
    /// Recognises API keys and, if an issuer is configured, its access tokens.
    pub fn new(store: Store, settings: &OidcSettings, metrics: Metrics) -> anyhow::Result<Self> {
        let news = Arc::new(News::default());
        let tokens = match &settings.oidc_issuer {
            Some(issuer) => {
                cryptography::install();
                let client = OperatorClient::new().context("the issuer of logins can't be asked")?;
                let issuer = Issuer::new(issuer.clone(), client, metrics.clone());
                Some(Arc::new(Verifier::new(issuer, settings)))
            }
            None => None,
        };
        Ok(Self {
            keys: Keys::new(store.system(), Arc::clone(&news)),
            people: People::new(store.system(), Arc::clone(&news)),
            uses: Arc::default(),
            store,
            news,
            tokens,
            metrics,
        })
    }

    /// Keeps what is remembered true, notes when keys are used, and keeps the issuer's keys; until the process stops.
    pub fn start(&self, ctx: &Context) {
        ctx.spawn("news of access", news::follow(self.clone(), ctx.stopping.clone()));
        ctx.spawn("uses of API keys", uses::note(Arc::clone(&self.uses), self.store.system(), ctx.clone()));
        if let Some(tokens) = self.tokens.clone() {
            let stopping = ctx.stopping.clone();
            ctx.spawn("keys of the issuer", async move {
                stopping.run_until_cancelled(tokens.issuer().keep()).await;
                Ok(())
            });
        }
    }

    /// Who presents these headers, from this address as far as it is known.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Identity, Failure> {
        match credentials::read(headers, self.tokens.is_some())? {
            Credentials::ApiKey(key) => {
                let record = self.keys.identify(&key, now).await?;
                self.uses.add(record.id, now);
                Ok(Identity::Program(record))
            }
            Credentials::AccessToken(token) => {
                let verifier = self.tokens.as_ref().ok_or_else(credentials::no_logins)?;
                let claims = verifier.verify(token, now).await;
                self.metrics.token_checked(claims.as_ref().err());
                let claims = claims?;
                let person = self.people.recognise(verifier.issuer().name(), claims, address, now).await?;
                Ok(Identity::Person(person))
            }
        }
    }

    /// What people are and become.
    pub fn people(&self) -> &People {
        &self.people
    }
}
