//! A producer: events that follow from their number alone, signed in the dialect of their endpoint, and what was
//! answered to each.

use std::{collections::BTreeSet, fmt, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ravenpost_testkit::{clock, sign};
use serde_json::Value;
use uuid::Uuid;

/// Past this a producer takes its request for unanswered; some are in a hurry, and come again while ingress still works on
/// what they sent before.
const PATIENCE: Duration = Duration::from_secs(6);
const HURRY: Duration = Duration::from_millis(700);
const NUMBER: &str = r#"{"number":"#;

/// How a producer says which of its events this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `webhook-id`, signed.
    StandardWebhooks,
    /// `X-GitHub-Delivery`, signed.
    GitHub,
    /// `Idempotency-Key`, unsigned.
    IdempotencyKey,
}

impl Dialect {
    pub(crate) const ALL: [Self; 3] = [Self::StandardWebhooks, Self::GitHub, Self::IdempotencyKey];
}

/// Where a producer posts to, and where it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) dialect: Dialect,
    /// The path of its hook URL.
    pub(crate) hook: String,
    pub(crate) secret: String,
    /// Its path at the receiver.
    pub(crate) destination: String,
}

/// What a producer does when it isn't told `202`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Sends it again until it is accepted when it was told 5xx; else gives it up.
    pub(crate) insists_when_refused: bool,
    /// The same when nobody answered.
    pub(crate) insists_when_unanswered: bool,
    pub(crate) repeats: Repeats,
    pub(crate) patience: Duration,
}

/// Whether a producer sends an event twice although it could know better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    Never,
    /// Two requests at the same time.
    AtOnce,
    /// Once more when it was accepted.
    Afterwards,
}

/// The event with this number: everything about it, before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Original(pub(crate) u64);

impl Original {
    pub(crate) fn plan(self) -> Plan {
        let drawn = self.mixed() / 1_000;
        Plan {
            insists_when_refused: drawn % 10 < 6,
            insists_when_unanswered: drawn / 10 % 10 < 6,
            repeats: match drawn / 100 % 20 {
                0 => Repeats::AtOnce,
                1 => Repeats::Afterwards,
                _ => Repeats::Never,
            },
            patience: if (drawn / 2_000).is_multiple_of(4) { HURRY } else { PATIENCE },
        }
    }

    /// The producer's own id of it.
    pub(crate) fn id(self, dialect: Dialect) -> String {
        match dialect {
            Dialect::StandardWebhooks => format!("msg_{:012}", self.0),
            Dialect::GitHub => format!("00000000-0000-4000-8000-{:012x}", self.0),
            Dialect::IdempotencyKey => format!("key-{}", self.0),
        }
    }

    /// Most are small; some are too large to travel inline or to be committed with others.
    pub(crate) fn body(self) -> Bytes {
        let drawn = self.mixed();
        let spread = |least: u64, most: u64| least + drawn / 100 % (most - least);
        let length = match drawn % 100 {
            0..80 => spread(100, 1_000),
            80..95 => spread(4_000, 16_000),
            95..99 => spread(17_000, 40_000),
            _ => spread(70_000, 150_000),
        };
        let filler: String =
            (0..length).map(|index| char::from(b'a' + (mix(self.0 ^ (index / 16)) % 26) as u8)).collect();
        Bytes::from(format!(r#"{NUMBER}{},"filler":"{filler}"}}"#, self.0))
    }

    /// Which original these bytes are; an error when they are damaged.
    pub(crate) fn of(body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).context("not text")?;
        let number = text.strip_prefix(NUMBER).and_then(|rest| rest.split(',').next());
        let number = number.and_then(|digits| digits.parse().ok());
        let original = Self(number.with_context(|| format!("nobody's bytes: {text:.60}"))?);
        ensure!(original.body() == body, "the bytes of {} are damaged ({} bytes)", original.0, body.len());
        Ok(original)
    }

    fn mixed(self) -> u64 {
        mix(self.0)
    }
}

/// Spreads neighbouring numbers over the whole range (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What a producer hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// `202`, and the event's id.
    Accepted(Uuid),
    /// 5xx: come again.
    Refused(u16),
    /// Nothing: the connection broke or it took too long.
    Nothing(String),
    /// What it should never hear.
    Nonsense(String),
}

impl fmt::Display for Heard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(id) => write!(formatter, "202 {id}"),
            Self::Refused(status) => write!(formatter, "{status}"),
            Self::Nothing(why) => write!(formatter, "no answer ({why})"),
            Self::Nonsense(what) => write!(formatter, "nonsense: {what}"),
        }
    }
}

/// One request of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Since the Unix epoch.
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) replica: usize,
    pub(crate) heard: Heard,
}

/// An event that was sent, once or more.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) original: Original,
    pub(crate) endpoint: usize,
    pub(crate) attempts: Vec<Attempt>,
    /// It would have insisted, and nobody accepted it for long after all was whole again.
    pub(crate) despaired: bool,
}

impl Sent {
    /// The ids that its producer was told.
    pub(crate) fn accepted(&self) -> BTreeSet<Uuid> {
        let told = self.attempts.iter().filter_map(|attempt| match attempt.heard {
            Heard::Accepted(id) => Some(id),
            _ => None,
        });
        told.collect()
    }

    pub(crate) fn was_refused(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.heard, Heard::Refused(_)))
    }
}

/// Sends one request.
pub(crate) async fn post(
    client: &reqwest::Client,
    base_url: &str,
    endpoint: &Endpoint,
    original: Original,
) -> Result<Heard> {
    let body = original.body();
    let mut request = client.post(format!("{base_url}{}", endpoint.hook)).timeout(original.plan().patience);
    for (name, value) in headers(endpoint, original, &body)? {
        request = request.header(name, value);
    }
    let answered = async {
        let answer = request.body(body).send().await?;
        let status = answer.status().as_u16();
        Ok::<_, reqwest::Error>((status, answer.bytes().await?))
    };
    Ok(match answered.await {
        Ok((202, body)) => accepted(&body),
        Ok((status @ 500..600, _)) => Heard::Refused(status),
        Ok((status, body)) => Heard::Nonsense(format!("{status} {}", String::from_utf8_lossy(&body))),
        Err(error) => Heard::Nothing(reason(&error)),
    })
}

fn headers(endpoint: &Endpoint, original: Original, body: &[u8]) -> Result<Vec<(String, String)>> {
    let id = original.id(endpoint.dialect);
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    match endpoint.dialect {
        Dialect::StandardWebhooks => headers.extend(sign::standard_webhooks(&endpoint.secret, &id, body)?),
        Dialect::GitHub => headers.extend([
            ("x-hub-signature-256".to_owned(), sign::github(&endpoint.secret, body)),
            ("x-github-delivery".to_owned(), id),
            ("x-github-event".to_owned(), "push".to_owned()),
        ]),
        Dialect::IdempotencyKey => headers.push(("idempotency-key".to_owned(), id)),
    }
    Ok(headers)
}

fn accepted(body: &[u8]) -> Heard {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer["id"].as_str().and_then(|id| id.parse().ok()) {
        Some(id) => Heard::Accepted(id),
        None => Heard::Nonsense(format!("202 without an id: {}", String::from_utf8_lossy(body))),
    }
}

fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timeout".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Now, since the Unix epoch.
pub(crate) fn now() -> Duration {
    clock::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_of_all_sizes_and_know_their_number() {
        let lengths: Vec<usize> = (0..2_000).map(|number| Original(number).body().len()).collect();
        for (least, most) in [(100, 1_100), (4_000, 16_384), (16_385, 41_000), (65_537, 151_000)] {
            assert!(lengths.iter().any(|length| (least..most).contains(length)), "none from {least}");
        }
        for number in 0..200 {
            assert_eq!(Original::of(&Original(number).body()).unwrap(), Original(number));
        }
    }

    #[test]
    fn damage_is_seen() {
        let body = Original(3).body();
        assert!(Original::of(&body[..body.len() - 1]).is_err());
        let mut flipped = body.to_vec();
        flipped[60] ^= 1;
        assert!(Original::of(&flipped).is_err());
        assert!(Original::of(b"something else").is_err());
    }

    #[test]
    fn some_insist_and_some_do_not() {
        let plans: Vec<Plan> = (0..1_000).map(|number| Original(number).plan()).collect();
        let count = |is_meant: fn(&Plan) -> bool| plans.iter().filter(|plan| is_meant(plan)).count();
        assert!((500..700).contains(&count(|plan| plan.insists_when_refused)));
        assert!((500..700).contains(&count(|plan| plan.insists_when_unanswered)));
        assert!((20..100).contains(&count(|plan| plan.repeats == Repeats::AtOnce)));
        assert!((20..100).contains(&count(|plan| plan.repeats == Repeats::Afterwards)));
        assert!((200..300).contains(&count(|plan| plan.patience == HURRY)));
    }
}
