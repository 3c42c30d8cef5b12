//! The request itself: with the destination's TLS, with its access token, and once more when the token is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, header};
use moka::sync::Cache;
use ravenpost_core::delivery::{Answer, Failure, FailureKind, Phases};
use ravenpost_core::destination::authentication::{Authentication, ClientCredentials};
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::ids::DestinationId;
use ravenpost_core::secret::Secret;
use ravenpost_egress::{Request, TlsProfile};
use ravenpost_store::system::DeliveryConfig;

use super::{Sender, conceal};

/// With less time than this left nothing is sent: that it does not answer then would say nothing of the destination.
const LEAST: Duration = Duration::from_millis(100);
/// A destination has refused our credentials.
const UNAUTHORIZED: u16 = 401;

impl Sender {
    /// Sends, and answers what came of it; `None` when this process may no longer send.
    pub(super) async fn exchange(
        &self,
        id: DestinationId,
        destination: &DeliveryConfig,
        headers: HeaderMap,
        body: Bytes,
    ) -> Option<Answer> {
        let started = Instant::now();
        let tls = match self.profiles.of(id, destination.tls.as_ref()) {
            Ok(tls) => tls,
            Err(failure) => return Some(failed(failure, started)),
        };
        let request = Request {
            url: destination.url.clone(),
            headers,
            body,
            timeout: destination.timeout,
            first_byte_timeout: destination.first_byte_timeout,
            tls,
        };
        match &destination.authentication {
            Some(Authentication::Oauth2ClientCredentials(credentials)) => {
                let answer = Box::pin(self.with_token(id, credentials, request, started)).await?;
                Some(Answer { duration: started.elapsed(), ..answer })
            }
            _ => self.send_if_live(request).await,
        }
    }

    /// Asked at the last moment: what comes before may have taken its time.
    async fn send_if_live(&self, request: Request) -> Option<Answer> {
        if !self.liveness.is_live() {
            return None;
        }
        let credentials = conceal::credentials(&request.headers);
        let mut answer = self.client.send(request).await;
        conceal::conceal(&mut answer, &credentials);
        Some(answer)
    }

    async fn with_token(
        &self,
        id: DestinationId,
        credentials: &ClientCredentials,
        mut request: Request,
        started: Instant,
    ) -> Option<Answer> {
        // The destination's time is for all of it: its row in the schedule is due when that is over.
        let deadline = started + request.timeout;
        let token = match within(deadline, self.tokens.get(id, credentials)).await {
            Some(Ok(token)) => token,
            Some(Err(failure)) => return Some(failed(failure, started)),
            None => return Some(failed(no_token(), started)),
        };
        request.timeout = left(deadline);
        if request.timeout < LEAST {
            return Some(failed(no_token(), started));
        }
        request.headers.insert(header::AUTHORIZATION, token.authorization.clone());
        let answer = self.send_if_live(request.clone()).await?;
        if answer.status() != Some(UNAUTHORIZED) {
            return Some(answer);
        }
        match within(deadline, self.tokens.renew(id, credentials, &token)).await {
            // The destination has answered, at least.
            None | Some(None) => Some(answer),
            Some(Some(Err(failure))) if failure.ours => Some(answer),
            Some(Some(Err(failure))) => Some(failed(failure, started)),
            Some(Some(Ok(_))) if left(deadline) < LEAST => Some(answer),
            Some(Some(Ok(token))) => {
                request.timeout = left(deadline);
                request.headers.insert(header::AUTHORIZATION, token.authorization.clone());
                let second = self.send_if_live(request).await?;
                Some(if second.why_not_out().is_some() { answer } else { second })
            }
        }
    }
}

async fn within<T>(deadline: Instant, asked: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), asked).await.ok()
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn no_token() -> Failure {
    Failure {
        kind: FailureKind::Token,
        message: "the token endpoint has taken all the time that the destination has to answer".to_owned(),
        ours: false,
    }
}

/// Nothing was sent.
fn failed(failure: Failure, started: Instant) -> Answer {
    Answer { result: Err(failure), duration: started.elapsed(), phases: Phases::default(), address: None }
}

/// Destinations whose TLS is remembered at once, and for how long after its last use.
const REMEMBERED: u64 = 10_000;
const IDLE: Duration = Duration::from_secs(600);

/// TLS profiles by destination: keys and certificates are read once and not for each attempt.
pub struct Profiles(Cache<DestinationId, Known>);

/// What was read, and what came of it.
#[derive(Clone)]
struct Known {
    settings: Arc<TlsSettings>,
    profile: Result<Arc<TlsProfile>, Failure>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build())
    }
}

impl Profiles {
    fn of(&self, id: DestinationId, tls: Option<&TlsSettings>) -> Result<Option<Arc<TlsProfile>>, Failure> {
        let Some(tls) = tls else { return Ok(None) };
        if let Some(known) = self.0.get(&id).filter(|known| *known.settings == *tls) {
            return known.profile.map(Some);
        }
        let profile = read(tls);
        self.0.insert(id, Known { settings: Arc::new(tls.clone()), profile: profile.clone() });
        profile.map(Some)
    }
}

/// The API has read it before; certificates that it took may be refused by a later version.
fn read(tls: &TlsSettings) -> Result<Arc<TlsProfile>, Failure> {
    let (ca, certificate) = (tls.ca_certificates.as_deref(), tls.client_certificate.as_deref());
    let key = tls.client_key.as_ref().map(Secret::reveal);
    let profile = TlsProfile::parse(ca, certificate, key, tls.minimum_version.as_deref());
    profile.map(Arc::new).map_err(|invalid| Failure {
        kind: FailureKind::Certificate,
        message: format!("the destination's TLS settings can't be used: {invalid}"),
        ours: false,
    })
}
