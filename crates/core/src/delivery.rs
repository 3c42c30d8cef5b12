//! What came of an attempt, what that means, and how it is told on `webhooks.deliveries`.

mod verdict;

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{DeliveryId, DestinationId, EndpointId, EventId, OrganizationId};

pub use verdict::{Made, SLOW_RETRY, Signal, Verdict};

/// What came back from a destination, or why nothing did.
#[derive(Debug, Clone)]
pub struct Answer {
    /// A response of any status, or the failure that prevented one.
    pub result: Result<Response, Failure>,
    /// From the start of the attempt to the end of the (bounded) response body or the failure.
    pub duration: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// The address that the connection was opened to, or was tried last; `None` when it did not come to that. It may
    /// be of a network that only the operator knows.
    pub address: Option<SocketAddr>,
}

/// How long each phase of an attempt took. A phase that was not needed or not finished has none: a connection that is
/// used again needs no name lookup, no connection and no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// The lookup of the name.
    pub dns: Option<Duration>,
    /// From the first try to the TCP connection that was used.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the connection to the end of the response's headers: sending and waiting.
    pub first_byte: Option<Duration>,
}

/// [`Phases`] as they are stored and told, and how long the attempt had waited for its turn: each in microseconds.
/// A phase that was not needed or not finished has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Phases)]
pub struct PhaseTimes {
    /// From when it could have been sent (received or due) to its start.
    #[schema(required = true)]
    pub queue_us: Option<u64>,
    /// The lookup of the name; null when a connection was used again.
    #[schema(required = true)]
    pub dns_us: Option<u64>,
    /// Until the TCP connection was there.
    #[schema(required = true)]
    pub connect_us: Option<u64>,
    /// The TLS handshake.
    #[schema(required = true)]
    pub tls_us: Option<u64>,
    /// From the connection to the end of the response's headers: sending and waiting.
    #[schema(required = true)]
    pub first_byte_us: Option<u64>,
}

impl PhaseTimes {
    /// Of an attempt that had waited for so long.
    pub fn new(queue: Option<Duration>, phases: Phases) -> Self {
        let microseconds =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        Self {
            queue_us: microseconds(queue),
            dns_us: microseconds(phases.dns),
            connect_us: microseconds(phases.connect),
            tls_us: microseconds(phases.tls),
            first_byte_us: microseconds(phases.first_byte),
        }
    }
}

/// An HTTP response, read to a bound.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The raw `Retry-After` header.
    pub retry_after: Option<String>,
    /// As which event an ingress of ours has accepted the request, by its `ravenpost-event-id`.
    pub event_id: Option<EventId>,
    /// The first bytes of the body.
    pub body: Vec<u8>,
}

/// Why there was no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// For a person to read; holds no secret.
    pub message: String,
    /// It says nothing of the other side: the operator's proxy or name server can't be reached. Nothing was sent.
    pub ours: bool,
}

/// Classes of failures without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The address is not public and the operator has not allowed it.
    BlockedAddress,
    /// The URL is not one that can be delivered to.
    InvalidUrl,
    /// The name did not resolve.
    Dns,
    /// No connection came about.
    Connect,
    /// The TLS handshake failed for another reason than a certificate.
    Tls,
    /// A certificate is not accepted: the destination's by us, or ours by the destination.
    Certificate,
    /// The deadline passed.
    Timeout,
    /// The other side did not speak HTTP properly.
    Protocol,
    /// The destination wants an access token and its token endpoint gave none: nothing was sent.
    Token,
}

impl FailureKind {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::BlockedAddress,
        Self::InvalidUrl,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Certificate,
        Self::Timeout,
        Self::Protocol,
        Self::Token,
    ];
}

/// The outcome of an attempt in one word: a metric's label, a column, a field of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A 2xx.
    Success,
    /// A 3xx: never followed.
    Redirect,
    /// A 4xx.
    ClientError,
    /// A 5xx, or a status outside 200 to 599.
    ServerError,
    /// See [`FailureKind::BlockedAddress`].
    BlockedAddress,
    /// See [`FailureKind::InvalidUrl`].
    InvalidUrl,
    /// See [`FailureKind::Dns`].
    Dns,
    /// See [`FailureKind::Connect`].
    Connect,
    /// See [`FailureKind::Tls`].
    Tls,
    /// See [`FailureKind::Certificate`].
    Certificate,
    /// See [`FailureKind::Timeout`].
    Timeout,
    /// See [`FailureKind::Protocol`].
    Protocol,
    /// See [`FailureKind::Token`].
    Token,
    /// Not sent: it waited for longer than its event is kept.
    Expired,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::ServerError,
        Self::BlockedAddress,
        Self::InvalidUrl,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Certificate,
        Self::Timeout,
        Self::Protocol,
        Self::Token,
        Self::Expired,
    ];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::BlockedAddress => "blocked_address",
            Self::InvalidUrl => "invalid_url",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Token => "token",
            Self::Expired => "expired",
        }
    }

    /// The inverse of [`Outcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Delivered.
    pub fn is_success(self) -> bool {
        self == Self::Success
    }

    /// Something was sent, or was tried to be: it says how the destination fares.
    pub fn is_of_an_attempt(self) -> bool {
        self != Self::Expired
    }
}

impl Answer {
    /// Why nothing could be sent, if that says nothing of the other side ([`Failure::ours`]).
    pub fn why_not_out(&self) -> Option<&str> {
        self.result.as_ref().err().filter(|failure| failure.ours).map(|failure| failure.message.as_str())
    }

    /// The answer in one word.
    pub fn outcome(&self) -> Outcome {
        match &self.result {
            Ok(Response { status: 200..=299, .. }) => Outcome::Success,
            Ok(Response { status: 300..=399, .. }) => Outcome::Redirect,
            Ok(Response { status: 400..=499, .. }) => Outcome::ClientError,
            Ok(_) => Outcome::ServerError,
            Err(failure) => match failure.kind {
                FailureKind::BlockedAddress => Outcome::BlockedAddress,
                FailureKind::InvalidUrl => Outcome::InvalidUrl,
                FailureKind::Dns => Outcome::Dns,
                FailureKind::Connect => Outcome::Connect,
                FailureKind::Tls => Outcome::Tls,
                FailureKind::Certificate => Outcome::Certificate,
                FailureKind::Timeout => Outcome::Timeout,
                FailureKind::Protocol => Outcome::Protocol,
                FailureKind::Token => Outcome::Token,
            },
        }
    }

    /// The HTTP status, if there was a response.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|response| response.status)
    }

    /// The start of the response body as text that any database, terminal and browser takes: at most `limit` bytes,
    /// with U+FFFD for what is not UTF-8, for control characters, and for what turns the direction of writing or can't
    /// be seen.
    pub fn body_snippet(&self, limit: usize) -> Option<String> {
        let response = self.result.as_ref().ok()?;
        let mut snippet = String::new();
        for character in String::from_utf8_lossy(&response.body).chars() {
            let shown = if is_shown(character) { character } else { char::REPLACEMENT_CHARACTER };
            if snippet.len() + shown.len_utf8() > limit {
                break;
            }
            snippet.push(shown);
        }
        Some(snippet)
    }

    /// Why it failed, for a person to read; `None` for a success.
    pub fn error_message(&self) -> Option<String> {
        match &self.result {
            Ok(_) if self.outcome().is_success() => None,
            Ok(response) if self.outcome() == Outcome::Redirect => {
                Some(format!("the destination answered {}; redirects are never followed", response.status))
            }
            Ok(response) => Some(format!("the destination answered {}", response.status)),
            Err(failure) => Some(failure.message.clone()),
        }
    }
}

/// Not a control character (but of lines and columns), nor one of Unicode's invisible ones that reorder or hide text.
pub fn is_shown(character: char) -> bool {
    let is_hidden = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    matches!(character, '\n' | '\r' | '\t') || !(is_hidden || character.is_control())
}

/// Why an attempt waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// The one before it failed.
    Retry,
    /// Its destination is busy or slow.
    Parked,
    /// Its endpoint or destination is paused.
    Held,
    /// A person asked for it.
    Replay,
}

impl WaitingReason {
    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::Replay => "replay",
        }
    }

    /// The inverse of [`WaitingReason::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Retry, Self::Parked, Self::Held, Self::Replay]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// What keeps a destination from being sent to, though something waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// A person has paused the endpoint.
    EndpointPaused,
    /// A person has paused the destination.
    DestinationPaused,
    /// It was disabled, since it answered 410 or failed for too long.
    DestinationDisabled,
    /// It has answered 429 or 503.
    SlowedDown,
    /// It has failed several times in a row.
    BreakerOpen,
}

impl KeptBy {
    const ALL: [(&str, Self); 5] = [
        ("endpoint_paused", Self::EndpointPaused),
        ("destination_paused", Self::DestinationPaused),
        ("destination_disabled", Self::DestinationDisabled),
        ("slowed_down", Self::SlowedDown),
        ("breaker_open", Self::BreakerOpen),
    ];

    /// The reading of a word, as it is told.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(word, _)| *word == text).map(|(_, kept)| kept)
    }
}

/// What makes an attempt one of its kind: recording the same key twice records it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// Which event.
    pub event_id: EventId,
    /// To which destination.
    pub destination_id: DestinationId,
    /// 0 for the original delivery; each replay is the next run.
    pub run: i32,
    /// From 1, within the run.
    pub attempt_number: i32,
}

/// The body of a message on `webhooks.deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// The attempt's id.
    pub id: DeliveryId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// Which attempt of what to where. Consumers deduplicate by it.
    #[serde(flatten)]
    pub key: DeliveryKey,
    /// In one word.
    pub outcome: Outcome,
    /// HTTP status, if there was a response.
    pub response_code: Option<u16>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When the next attempt is due; absent when there is none.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// Given up: the event is a dead letter of this destination.
    pub dead: bool,
    /// When the attempt started.
    pub attempted_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: u64,
    /// Where the time went.
    #[serde(default)]
    pub phases: PhaseTimes,
    /// What was connected to, as `address:port`; absent when it did not come to that.
    #[serde(default)]
    pub connected_address: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Answer {
        answer(Response {
            status,
            retry_after: retry_after.map(str::to_owned),
            event_id: None,
            body: Vec::new(),
        })
    }

    fn answer(response: Response) -> Answer {
        Answer { result: Ok(response), duration: Duration::ZERO, phases: Phases::default(), address: None }
    }

    #[test]
    fn only_a_2xx_is_a_success() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (204, Outcome::Success),
            (301, Outcome::Redirect),
            (410, Outcome::ClientError),
            (500, Outcome::ServerError),
            (999, Outcome::ServerError),
        ] {
            assert_eq!(answered(status, None).outcome(), outcome, "{status}");
        }
    }

    #[test]
    fn a_snippet_is_clean_text() {
        let snippet = |body: &[u8], limit| {
            let response = Response { status: 500, retry_after: None, event_id: None, body: body.to_vec() };
            answer(response).body_snippet(limit).unwrap()
        };
        assert_eq!(snippet(b"ok\0\xff\n\x1b[31mred", 99), "ok\u{fffd}\u{fffd}\n\u{fffd}[31mred");
        assert_eq!(snippet("a\u{202e}b\u{200b}c\u{feff}".as_bytes(), 99), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(snippet("gr\u{fc}\u{df}e".as_bytes(), 4), "gr\u{fc}", "no half character");
        for limit in 0..40 {
            assert!(snippet(&[0xff; 99], limit).len() <= limit);
            assert_eq!(snippet(&[b'x'; 99], limit).len(), limit);
        }
    }

    #[test]
    fn every_outcome_reads_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        for (word, kept) in KeptBy::ALL {
            assert_eq!(KeptBy::parse(word), Some(kept));
            assert_eq!(serde_json::to_value(kept).unwrap(), word);
        }
    }
}
