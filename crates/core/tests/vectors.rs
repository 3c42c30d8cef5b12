//! Every provider against vectors that were computed independently (`vectors/generate`), as one table test.

#![expect(clippy::unwrap_used, reason = "a vector that does not read fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ravenpost_core::endpoint::{Verification, event_id, event_type};
use ravenpost_core::handshake::{self, Step};
use ravenpost_core::provider::{Provider, Scheme};
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::rule::Rule;
use ravenpost_core::signature::{self, Rejection, Request, Url, verify};
use serde::Deserialize;

/// Vectors that are decided otherwise on purpose: the file, the vector, what is said instead, and why.
const OTHERWISE: &[(&str, &str, &str, &str)] = &[
    ("box", "malformed", "accepted", "the version is not signed, so it decides nothing"),
    ("paypal", "untrusted_certificate", "accepted", "trusted because PayPal's host serves it over TLS"),
    ("paypal", "certificate_of_someone_else", "accepted", "the same"),
    ("paypal", "expired_certificate", "accepted", "the same: PayPal's host would not serve it"),
];
/// Whose kinds of events are a key's name or put together of several fields, which no place is.
const NO_EVENT_TYPE: &[&str] = &["telegram"];

#[derive(Deserialize)]
struct File {
    provider: String,
    vectors: Vec<Vector>,
    #[serde(default)]
    handshakes: Vec<Handshake>,
}

/// A request and what has to be said of it.
#[derive(Deserialize)]
struct Vector {
    #[serde(flatten)]
    sent: Sent,
    expect: String,
    event_id: Option<String>,
    event_type: Option<String>,
}

/// A handshake and how it has to be answered; `null` where it must not be.
#[derive(Deserialize)]
struct Handshake {
    #[serde(flatten)]
    sent: Sent,
    answer: Option<Answer>,
    secret_to_keep: Option<String>,
    shown_to_customer: Option<String>,
    fetch: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Sent {
    name: String,
    secrets: Vec<String>,
    now: i64,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
    /// What the URL of the certificate serves, whatever the URL.
    certificate: Option<String>,
    /// What URLs of certificates serve.
    #[serde(default)]
    certificates: BTreeMap<String, String>,
}

/// The pieces that a request borrows from.
struct Pieces<'a> {
    method: Method,
    url: Url<'a>,
    headers: HeaderMap,
    body: Vec<u8>,
    secrets: Vec<Secret>,
    now: i64,
}

impl Sent {
    fn pieces(&self) -> Pieces<'_> {
        let host_ends = self.url[8..].find('/').map_or(self.url.len(), |index| index + 8);
        let (base, path_and_query) = self.url.split_at(host_ends);
        let headers = self.headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let body = self.body_base64.as_ref().map(|text| STANDARD.decode(text).unwrap());
        Pieces {
            method: self.method.parse().unwrap(),
            url: Url { base, path_and_query },
            headers: headers.collect(),
            body: body.unwrap_or_else(|| self.body.clone().unwrap().into_bytes()),
            secrets: self.secrets.iter().map(Secret::new).collect(),
            now: self.now,
        }
    }
}

impl Pieces<'_> {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            url: self.url,
            headers: &self.headers,
            body: &self.body,
            peer: None,
            received_at: DateTime::from_timestamp(self.now, 0).unwrap(),
            fetched: None,
        }
    }
}

fn files() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &_| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    paths.iter().map(read).collect()
}

fn verification(name: &str) -> Verification {
    match name {
        "standard_webhooks" => Verification::StandardWebhooks {},
        name => Verification::Provider { provider: Provider::parse(name).unwrap() },
    }
}

/// Verifies as ingress does, with what the vector says a certificate's URL serves.
fn outcome(verification: &Verification, sent: &Sent, pieces: &Pieces<'_>) -> Result<(), Rejection> {
    let mut request = pieces.request();
    if let Some(url) = signature::to_fetch(verification, &pieces.secrets, &request)? {
        let served = sent.certificate.as_ref().or_else(|| sent.certificates.get(url.as_str()));
        request.fetched = served.map(String::as_bytes);
    }
    verify(verification, &pieces.secrets, &request)
}

/// The vectors know fewer words than we do: whether the secret was shown or signed with is one to them, as is where a
/// part was missing or malformed.
fn word(rejection: &Rejection) -> &'static str {
    match rejection.reason() {
        "wrong_credentials" | "certificate" => "wrong_signature",
        "missing_field" => "missing_header",
        "malformed_field" => "malformed_header",
        reason => reason,
    }
}

fn expected<'a>(file: &'a File, vector: &'a Vector) -> &'a str {
    let name = &vector.sent.name;
    let otherwise = OTHERWISE.iter().find(|(slug, known, ..)| slug == &file.provider && known == name);
    otherwise.map_or(&vector.expect, |(_, _, instead, _)| instead)
}

#[test]
fn every_vector_is_decided_as_it_should_be() {
    let mut wrong = Vec::new();
    for file in files() {
        let verification = verification(&file.provider);
        for vector in &file.vectors {
            let label = format!("{}/{}", file.provider, vector.sent.name);
            let pieces = vector.sent.pieces();
            let result = outcome(&verification, &vector.sent, &pieces);
            let got = result.as_ref().map_or_else(word, |()| "accepted");
            let expected = expected(&file, vector);
            if got != expected {
                wrong.push(format!("{label}: {got} instead of {expected} ({result:?})"));
            }
            if vector.expect == "accepted" {
                let found = event_id(&verification, &pieces.headers, &pieces.body);
                told(&mut wrong, &label, vector.event_id.as_deref(), found.as_deref());
                let found = event_type(&verification, &pieces.headers, &pieces.body);
                let known = !NO_EVENT_TYPE.contains(&file.provider.as_str());
                told(&mut wrong, &label, vector.event_type.as_deref().filter(|_| known), found.as_deref());
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn told(wrong: &mut Vec<String>, label: &str, expected: Option<&str>, found: Option<&str>) {
    if expected != found {
        wrong.push(format!("{label}: told {found:?} instead of {expected:?}"));
    }
}

#[test]
fn every_handshake_is_answered_as_it_should_be() {
    let mut wrong = Vec::new();
    for file in files() {
        let verification = verification(&file.provider);
        for case in &file.handshakes {
            let label = format!("{}/{}", file.provider, case.sent.name);
            let pieces = case.sent.pieces();
            let step = step(&verification, &case.sent, &pieces);
            if let Some(problem) = difference(case, step.as_ref()) {
                wrong.push(format!("{label}: {problem} ({step:?})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn step(verification: &Verification, sent: &Sent, pieces: &Pieces<'_>) -> Option<Step> {
    let request = pieces.request();
    handshake::unsigned(verification, &pieces.secrets, &request).or_else(|| {
        outcome(verification, sent, pieces).ok()?;
        handshake::signed(verification, &pieces.secrets, &request)
    })
}

fn difference(case: &Handshake, step: Option<&Step>) -> Option<String> {
    let (answer, kept, fetched) = match step {
        None => (None, None, None),
        Some(Step::Answer(answer)) => (Some(answer.clone()), None, None),
        Some(Step::Keep(secret, answer)) => (answer.clone(), Some(secret.reveal().to_owned()), None),
        Some(Step::Confirm(url)) => (Some(handshake::Answer::empty(200)), None, Some(url.to_string())),
    };
    if fetched != case.fetch {
        return Some(format!("fetches {fetched:?} instead of {:?}", case.fetch));
    }
    if let Some(shown) = &case.shown_to_customer {
        // It is an event then, answered as events are.
        return (answer.is_some() || kept.as_ref() != Some(shown)).then(|| "not kept and shown".to_owned());
    }
    if kept != case.secret_to_keep {
        return Some(format!("keeps {kept:?}"));
    }
    match (&case.answer, answer) {
        (None, None) => None,
        (Some(expected), Some(answer)) => {
            let told =
                |name: &str| answer.header.as_ref().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            let headers = expected
                .headers
                .iter()
                .all(|(name, value)| told(name).is_some_and(|(_, told)| told == value));
            let same = expected.status == answer.status && same_body(&expected.body, &answer.body) && headers;
            (!same).then(|| format!("answered otherwise than {} {:?}", expected.status, expected.body))
        }
        (expected, _) => Some(format!("answered: {}", expected.is_none())),
    }
}

/// JSON may be written in another order.
fn same_body(expected: &str, answer: &str) -> bool {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    expected == answer || json(expected).is_some_and(|expected| Some(expected) == json(answer))
}

/// What each provider's file must have. Who shows a secret instead of signing with it can't notice a changed body.
#[test]
fn every_provider_has_the_vectors_that_matter() {
    let files = files();
    let mut missing = Vec::new();
    for provider in Provider::ALL {
        let row = provider.profile();
        let Some(file) = files.iter().find(|file| file.provider == row.slug) else {
            missing.push(format!("{}: no file", row.slug));
            continue;
        };
        let names: BTreeSet<&str> = file.vectors.iter().map(|vector| vector.sent.name.as_str()).collect();
        let needed = needed(&row.scheme);
        missing.extend(
            needed.iter().filter(|name| !names.contains(*name)).map(|name| format!("{}: {name}", row.slug)),
        );
    }
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}

fn needed(scheme: &Scheme) -> Vec<&'static str> {
    let mut needed = vec!["good", "other_secret", "rotated"];
    let limits = |rule: &Rule<'_>| rule.timestamp.is_some_and(|timestamp| timestamp.tolerance.is_some());
    match scheme {
        Scheme::Rules(rules) | Scheme::ByHeader { with: rules, .. } if rules.iter().any(limits) => {
            needed.extend(["tampered", "stale"]);
        }
        Scheme::Odd(odd) if odd.tolerance().is_some() => needed.extend(["tampered", "stale"]),
        Scheme::Rules(_) | Scheme::ByHeader { .. } | Scheme::Odd(_) => needed.push("tampered"),
        Scheme::Any(_) | Scheme::Token { .. } | Scheme::BasicAuth => {}
    }
    needed
}
