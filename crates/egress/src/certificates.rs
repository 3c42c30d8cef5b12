//! What some providers have us fetch: the certificates that they sign with, and the confirmations of subscriptions. Only
//! from hosts that the provider's row has pinned, each bounded in time and size.
//!
//! Whoever knows an endpoint's URL can have us fetch for it, so an endpoint has a share: few requests out at once, and few
//! that find nothing. What it makes up keeps no other endpoint waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::ids::EndpointId;
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::{self, Rejection, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use url::Url;

use crate::Client;

/// How long a certificate is believed: their URLs name them, so they don't change.
const FRESH: Duration = Duration::from_secs(3_600);
/// How long nothing is asked again after it was not there.
const ABSENT: Duration = Duration::from_secs(10);
/// Certificates remembered at once, and what is not there: whoever makes URLs up can't grow it.
const REMEMBERED: u64 = 256;
/// Requests out at once, for everybody together and for one endpoint. Those beyond wait for their turn.
const AT_ONCE: usize = 64;
const AT_ONCE_OF_ENDPOINT: usize = 2;
/// So many times an endpoint may name what is not there; then its host is not asked for it again for a while.
const MISSES: u32 = 8;
/// Endpoints whose share is remembered, and for how long; a forgotten one begins anew, within everybody's bound as ever.
const ENDPOINTS: u64 = 4_096;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// For one request out, and for its turn, while the producer waits for our answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a certificate is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Its host says that there is none.
    NotThere,
    /// It can't be asked just now.
    Unreachable,
}

/// The way out for verification.
pub struct Certificates {
    client: Client,
    known: Cache<Url, Bytes>,
    absent: Cache<Url, Absence>,
    slots: Semaphore,
    endpoints: Cache<EndpointId, Arc<Semaphore>>,
    misses: Cache<(EndpointId, String), Arc<AtomicU32>>,
    timeout: Duration,
}

/// Leave to have a request out.
type Turn<'s> = (OwnedSemaphorePermit, SemaphorePermit<'s>);

impl Certificates {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build(),
            absent: Cache::builder().max_capacity(REMEMBERED).time_to_live(ABSENT).build(),
            slots: Semaphore::new(AT_ONCE),
            endpoints: Cache::builder().max_capacity(ENDPOINTS).time_to_idle(FORGOTTEN_AFTER).build(),
            misses: Cache::builder().max_capacity(ENDPOINTS).time_to_live(ABSENT).build(),
            timeout: TIMEOUT,
        }
    }

    /// Checks a request to an endpoint as [`signature::verify`] does, with whatever has to be fetched for it.
    pub async fn verify(
        &self,
        endpoint: EndpointId,
        verification: &Verification,
        secrets: &[Secret],
        request: Request<'_>,
    ) -> Result<(), Rejection> {
        let Some(url) = signature::to_fetch(verification, secrets, &request)? else {
            return signature::verify(verification, secrets, &request);
        };
        // Boxed: rare, and large.
        let fetched = Box::pin(self.get(endpoint, &url)).await?;
        signature::verify(verification, secrets, &Request { fetched: Some(&fetched), ..request })
    }

    /// What the URL serves, which an endpoint's request has named. Requests for the same URL wait for one fetch.
    pub async fn get(&self, endpoint: EndpointId, url: &Url) -> Result<Bytes, Rejection> {
        if let Some(certificate) = self.known.get(url).await {
            return Ok(certificate);
        }
        let asked = (endpoint, url.host_str().unwrap_or_default().to_owned());
        self.check(&asked, url).await.map_err(rejection)?;
        let _turn = self.turn(endpoint).await.ok_or_else(|| rejection(Absence::Unreachable))?;
        // Others of the endpoint may have found out meanwhile.
        self.check(&asked, url).await.map_err(rejection)?;
        match self.known.try_get_with_by_ref(url, self.fetch(url)).await {
            Ok(certificate) => Ok(certificate),
            Err(absence) => {
                self.absent.insert(url.clone(), *absence).await;
                self.misses.get_with(asked, async { Arc::default() }).await.fetch_add(1, Ordering::Relaxed);
                Err(rejection(*absence))
            }
        }
    }

    /// Refuses what was not there a moment ago, and an endpoint that has named too much of that.
    async fn check(&self, asked: &(EndpointId, String), url: &Url) -> Result<(), Absence> {
        if let Some(absence) = self.absent.get(url).await {
            return Err(absence);
        }
        let misses = self.misses.get(asked).await.map_or(0, |misses| misses.load(Ordering::Relaxed));
        if misses < MISSES { Ok(()) } else { Err(Absence::Unreachable) }
    }

    /// Waits for an endpoint's turn; `None` when it does not come in time.
    async fn turn(&self, endpoint: EndpointId) -> Option<Turn<'_>> {
        let own = async { Arc::new(Semaphore::new(AT_ONCE_OF_ENDPOINT)) };
        let own = self.endpoints.get_with(endpoint, own).await;
        let both = async { Some((own.acquire_owned().await.ok()?, self.slots.acquire().await.ok()?)) };
        tokio::time::timeout(self.timeout, both).await.ok().flatten()
    }

    async fn fetch(&self, url: &Url) -> Result<Bytes, Absence> {
        match self.client.get(url.clone(), self.timeout).await.result {
            Ok(response) if response.status == 200 => Ok(response.body.into()),
            Ok(response) if (400..500).contains(&response.status) => Err(Absence::NotThere),
            other => {
                tracing::warn!(host = url.host_str(), outcome = ?other.map(|response| response.status), "a signing certificate can't be fetched");
                Err(Absence::Unreachable)
            }
        }
    }

    /// Confirms a subscription of an endpoint: whether its host answered with success.
    pub async fn confirm(&self, endpoint: EndpointId, url: &Url) -> bool {
        let Some(_turn) = self.turn(endpoint).await else { return false };
        let answer = self.client.get(url.clone(), self.timeout).await;
        answer.result.is_ok_and(|response| (200..300).contains(&response.status))
    }
}

fn rejection(absence: Absence) -> Rejection {
    match absence {
        Absence::NotThere => Rejection::Certificate("its host has none there"),
        Absence::Unreachable => Rejection::CertificateUnavailable,
    }
}

#[cfg(test)]
mod tests;
