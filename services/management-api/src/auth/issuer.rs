//! The keys that the issuer signs access tokens with: fetched by OpenID Connect Discovery, refreshed in the background
//! and when a token names an unknown one. While the issuer is away, the keys that are known go on being good.

mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ravenpost_egress::{OperatorClient, OperatorError};
use serde::Deserialize;
use url::Url;

use crate::metrics::Metrics;
pub(super) use keys::Key;

/// How often the keys are fetched, and how soon again after that has failed.
const REFRESH: Duration = Duration::from_mins(5);
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The least time between two fetches, however many tokens name unknown keys.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long the issuer has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The issuer of logins.
pub(super) struct Issuer {
    /// As its tokens name it.
    name: String,
    client: OperatorClient,
    metrics: Metrics,
    known: Mutex<Known>,
    /// Held by the one who asks the issuer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<Key>>,
    asked: Option<Instant>,
    /// The last fetch has failed.
    failed: bool,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has none of that id.
    Unknown,
    /// It may have one, and can't be asked.
    Unreachable,
}

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{url} is of no use: {cause}")]
    Answer { url: Url, cause: OperatorError },
    #[error("{url} is not what it should be: {cause}")]
    Content { url: Url, cause: serde_json::Error },
    #[error("the discovery document is of the issuer `{0}`, which is not the one that is configured")]
    OtherIssuer(String),
    #[error("the key set at {0} has no key that a token may be signed with")]
    NoKeys(Url),
}

/// What is needed of a discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

impl Issuer {
    /// `name` is a URL, exactly as tokens have it.
    pub(super) fn new(name: String, client: OperatorClient, metrics: Metrics) -> Self {
        Self { name, client, metrics, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// As its tokens name it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key of that id. An unknown one is asked for, unless the issuer was asked a moment ago.
    pub(super) async fn key(&self, id: &str) -> Result<Arc<Key>, NoKey> {
        if let Some(key) = self.lock().keys.get(id) {
            return Ok(Arc::clone(key));
        }
        // Boxed: rare, and large.
        Box::pin(self.ask_again()).await;
        let known = self.lock();
        let absence = if known.failed { NoKey::Unreachable } else { NoKey::Unknown };
        known.keys.get(id).cloned().ok_or(absence)
    }

    /// Fetches the keys again and again.
    pub(super) async fn keep(&self) {
        loop {
            self.ask_again().await;
            let failed = self.lock().failed;
            tokio::time::sleep(if failed { AFTER_FAILURE } else { REFRESH }).await;
        }
    }

    /// One at a time; whoever has waited for another's fetch has its outcome.
    async fn ask_again(&self) {
        let _turn = self.asking.lock().await;
        {
            let mut known = self.lock();
            if known.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
                return;
            }
            // Before the fetch as well: a request that is given up halfway has asked all the same.
            known.asked = Some(Instant::now());
            known.failed |= known.keys.is_empty();
        }
        let fetched = self.fetch().await;
        self.metrics.issuer_asked(fetched.is_ok());
        let mut known = self.lock();
        known.asked = Some(Instant::now());
        known.failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                if keys.keys().any(|id| !known.keys.contains_key(id)) {
                    tracing::info!(keys = keys.len(), "the issuer of logins has told its keys");
                }
                known.keys = keys;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    keys = known.keys.len(),
                    "the keys of the issuer of logins can't be fetched; those that are known stay"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<Key>>, FetchError> {
        let base = self.name.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration").parse();
        let url = url.expect("a URL with a longer path is one");
        let discovery: Discovery = self.get(url).await?;
        if discovery.issuer != self.name {
            return Err(FetchError::OtherIssuer(discovery.issuer));
        }
        let set: keys::KeySet = self.get(discovery.jwks_uri.clone()).await?;
        let keys = set.usable();
        if keys.is_empty() { Err(FetchError::NoKeys(discovery.jwks_uri)) } else { Ok(keys) }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: Url) -> Result<T, FetchError> {
        match self.client.get(&url, TIMEOUT).await {
            Ok(body) => serde_json::from_slice(&body).map_err(|cause| FetchError::Content { url, cause }),
            Err(cause) => Err(FetchError::Answer { url, cause }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
