//! What some providers have us fetch: the certificates that they sign with, and the confirmations of subscriptions. Only
//! from hosts that the provider's row has pinned, each bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::{self, Rejection, Request};
use tokio::sync::Semaphore;
use url::Url;

use crate::Client;

/// How long a certificate is believed: their URLs name them, so they don't change.
const FRESH: Duration = Duration::from_secs(3_600);
/// How long nothing is asked again after it was not there.
const ABSENT: Duration = Duration::from_secs(10);
/// Certificates remembered at once, and what is not there: whoever makes URLs up can't grow it.
const REMEMBERED: u64 = 256;
/// Requests out at once. More would be somebody who makes URLs up.
const AT_ONCE: usize = 8;
/// For one request out, while the producer waits for our answer.
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
}

impl Certificates {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build(),
            absent: Cache::builder().max_capacity(REMEMBERED).time_to_live(ABSENT).build(),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// Checks a request as [`signature::verify`] does, with whatever has to be fetched for it.
    pub async fn verify(
        &self,
        verification: &Verification,
        secrets: &[Secret],
        request: Request<'_>,
    ) -> Result<(), Rejection> {
        let Some(url) = signature::to_fetch(verification, secrets, &request)? else {
            return signature::verify(verification, secrets, &request);
        };
        // Boxed: rare, and large.
        let fetched = Box::pin(self.get(&url)).await?;
        signature::verify(verification, secrets, &Request { fetched: Some(&fetched), ..request })
    }

    /// What the URL serves. Requests for the same URL wait for one fetch.
    async fn get(&self, url: &Url) -> Result<Bytes, Rejection> {
        if let Some(absence) = self.absent.get(url).await {
            return Err(rejection(absence));
        }
        match self.known.try_get_with_by_ref(url, self.fetch(url)).await {
            Ok(certificate) => Ok(certificate),
            Err(absence) => {
                self.absent.insert(url.clone(), *absence).await;
                Err(rejection(*absence))
            }
        }
    }

    async fn fetch(&self, url: &Url) -> Result<Bytes, Absence> {
        let _slot = self.slots.try_acquire().map_err(|_| Absence::Unreachable)?;
        match self.client.get(url.clone(), TIMEOUT).await.result {
            Ok(response) if response.status == 200 => Ok(response.body.into()),
            Ok(response) if (400..500).contains(&response.status) => Err(Absence::NotThere),
            other => {
                tracing::warn!(host = url.host_str(), outcome = ?other.map(|response| response.status), "a signing certificate can't be fetched");
                Err(Absence::Unreachable)
            }
        }
    }

    /// Confirms a subscription: whether its host answered with success.
    pub async fn confirm(&self, url: &Url) -> bool {
        let Ok(_slot) = self.slots.try_acquire() else { return false };
        let answer = self.client.get(url.clone(), TIMEOUT).await;
        answer.result.is_ok_and(|response| (200..300).contains(&response.status))
    }
}

fn rejection(absence: Absence) -> Rejection {
    match absence {
        Absence::NotThere => Rejection::Certificate("its host has none there"),
        Absence::Unreachable => Rejection::CertificateUnavailable,
    }
}
