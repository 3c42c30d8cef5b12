//! Access tokens for destinations: each is asked for once, remembered until shortly before it expires, and asked for again
//! when its destination refuses it. A token endpoint that fails is left alone for a while. Whoever waits for one may
//! stop to wait: it is asked for all the same, for the next attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use moka::sync::Cache;
use ravenpost_core::delivery::{Failure, FailureKind};
use ravenpost_core::destination::access_token::{self, AccessToken};
use ravenpost_core::destination::authentication::ClientCredentials;
use ravenpost_core::ids::DestinationId;
use ravenpost_egress::{Client, Request};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::metrics::WorkerMetrics;

/// How long a token endpoint has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is left alone after a failure, doubled with each, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long it is not asked again when there was no way to it: as long as a destination rests then.
const NOT_ASKED: Duration = Duration::from_secs(5);
/// How soon after one refused token the next one may be asked for: a destination that refuses everything must not cost a
/// token for each event.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// Tokens remembered at once, and for how long after their last use.
const REMEMBERED: u64 = 20_000;
const IDLE: Duration = Duration::from_secs(3_600);

/// A token is of a destination and of the very credentials that it was asked for with: changed ones need another.
type Key = (DestinationId, ClientCredentials);

/// The tokens of all destinations. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    client: Client,
    metrics: WorkerMetrics,
    slots: Cache<Key, Arc<Mutex<Slot>>>,
}

/// A token as it was given to an attempt.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    /// Which one it is of its destination's.
    serial: u64,
}

/// One destination's. Its lock is held while a token is asked for, so that everybody waits for the one answer.
#[derive(Default)]
struct Slot {
    token: Option<(Token, Instant)>,
    asked: u64,
    /// The last failure, how many there were in a row, and until when nothing is asked.
    failure: Option<(Failure, u32, Instant)>,
    /// When a refused token was replaced.
    renewed: Option<Instant>,
}

impl Tokens {
    /// Asks by this client.
    pub fn new(client: Client, metrics: WorkerMetrics) -> Self {
        let slots = Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build();
        Self { client, metrics, slots }
    }

    /// A token that should do.
    pub(super) async fn get(&self, id: DestinationId, with: &ClientCredentials) -> Result<Token, Failure> {
        let slot = self.slot(id, with).lock_owned().await;
        match slot.usable(Instant::now()) {
            Some(token) => Ok(token),
            None => self.ask(slot, with).await,
        }
    }

    /// Another token than one that was refused; `None` when there was another one a moment ago and it did no better.
    pub(super) async fn renew(
        &self,
        id: DestinationId,
        with: &ClientCredentials,
        refused: &Token,
    ) -> Option<Result<Token, Failure>> {
        let mut slot = self.slot(id, with).lock_owned().await;
        let now = Instant::now();
        if let Some(token) = slot.usable(now).filter(|token| token.serial != refused.serial) {
            return Some(Ok(token));
        }
        if slot.renewed.is_some_and(|renewed| now < renewed + RENEW_EVERY) {
            return None;
        }
        slot.renewed = Some(now);
        slot.token = None;
        Some(self.ask(slot, with).await)
    }

    fn slot(&self, id: DestinationId, with: &ClientCredentials) -> Arc<Mutex<Slot>> {
        self.slots.get_with((id, with.clone()), Arc::default)
    }

    async fn ask(&self, mut slot: OwnedMutexGuard<Slot>, with: &ClientCredentials) -> Result<Token, Failure> {
        if let Some((failure, _, until)) = &slot.failure
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        let (tokens, with) = (self.clone(), with.clone());
        let asking = tokio::spawn(async move {
            let asked = tokens.fetch(&with).await;
            tokens.metrics.asked_for_token(asked.is_ok());
            slot.settle(asked, Instant::now())
        });
        asking.await.unwrap_or_else(|error| {
            let message = format!("the token endpoint could not be asked: {error}");
            Err(Failure { kind: FailureKind::Token, message, ours: false })
        })
    }

    async fn fetch(&self, with: &ClientCredentials) -> Result<AccessToken, Failure> {
        let (headers, body) = access_token::request(with);
        let request = Request {
            url: with.token_url.clone(),
            headers,
            body: Bytes::from(body),
            timeout: TIMEOUT,
            first_byte_timeout: None,
            tls: None,
        };
        let (message, ours) = match self.client.send(request).await.result {
            Ok(response) => match access_token::read(&response) {
                Ok(token) => return Ok(token),
                Err(message) => (message, false),
            },
            Err(failure) => {
                let why = failure.message.replace("the destination", "the endpoint");
                (format!("no answer of the token endpoint: {why}"), failure.ours)
            }
        };
        Err(Failure { kind: FailureKind::Token, message, ours })
    }
}

impl Slot {
    fn usable(&self, now: Instant) -> Option<Token> {
        self.token.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }

    /// What was asked for has come, or has not.
    fn settle(&mut self, asked: Result<AccessToken, Failure>, now: Instant) -> Result<Token, Failure> {
        match asked {
            Ok(AccessToken { authorization, lasts }) => {
                self.asked += 1;
                self.failure = None;
                let token = Token { authorization, serial: self.asked };
                self.token = Some((token.clone(), now + lasts));
                Ok(token)
            }
            Err(failure) => {
                let failures = self.failure.as_ref().map_or(0, |(_, failures, _)| *failures);
                // What was not asked at all has not failed.
                let (failures, rest) = if failure.ours {
                    (failures, NOT_ASKED)
                } else {
                    (failures.saturating_add(1), backoff(failures))
                };
                self.failure = Some((failure.clone(), failures, now + rest));
                Err(failure)
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, most) = BACKOFF;
    first.saturating_mul(2_u32.saturating_pow(failures)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(seconds: u64) -> AccessToken {
        let authorization = HeaderValue::from_static("Bearer a");
        AccessToken { authorization, lasts: Duration::from_secs(seconds) }
    }

    fn refused() -> Failure {
        Failure {
            kind: FailureKind::Token,
            message: "the token endpoint answered 500".to_owned(),
            ours: false,
        }
    }

    #[test]
    fn a_token_is_used_until_its_time_is_over() {
        let (mut slot, now) = (Slot::default(), Instant::now());
        let first = slot.settle(Ok(granted(10)), now).unwrap();
        assert_eq!(slot.usable(now + Duration::from_secs(9)).unwrap().serial, first.serial);
        assert!(slot.usable(now + Duration::from_secs(10)).is_none());
        let second = slot.settle(Ok(granted(10)), now).unwrap();
        assert_ne!(first.serial, second.serial);
    }

    #[test]
    fn an_endpoint_that_fails_is_left_alone_longer_and_longer() {
        let (mut slot, now) = (Slot::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            slot.settle(Err(refused()), now).unwrap_err();
            waits.push((slot.failure.as_ref().unwrap().2 - now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let ours = Failure { ours: true, ..refused() };
        slot.settle(Err(ours), now).unwrap_err();
        assert_eq!(slot.failure.as_ref().unwrap().2 - now, NOT_ASKED, "it was not asked");
        slot.settle(Ok(granted(10)), now).unwrap();
        assert!(slot.failure.is_none());
    }
}
