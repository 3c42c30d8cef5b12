//! A sample event of an endpoint's provider, signed as the provider signs: what a test event is.
//!
//! It is made from the same rows that verification reads, and is handed out only when verification believes it: what we
//! can't sign (a provider's private key, a scheme of its own) is refused with a reason, never guessed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::encoding::Encoding;
use super::macs::{Macs, Signed};
use super::rule::{Primitive, Rule};
use super::template::Part;
use super::timestamp::TimestampFormat;
use super::{Place, Request, Url, standard_webhooks, verify};
use crate::endpoint::Verification;
use crate::provider::{Profile, Scheme};
use crate::secret::Secret;

/// The kind that a sample says it is, where its provider's row has a place for it.
pub const TYPE: &str = "ravenpost.test";

/// A request that its endpoint believes.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What stands behind the path in the URL, without a question mark.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why no sample can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    /// The endpoint has no secret yet.
    #[error("the endpoint has no secret yet: add the one that the producer shows")]
    NoSecret,
    /// Only the provider has the private key.
    #[error("the provider signs with a private key that only it has: have it send an event")]
    PrivateKey,
    /// A scheme that no row describes.
    #[error("the provider signs by a scheme of its own that is not imitated here: have it send an event")]
    OwnScheme,
    /// Only some addresses may send, and ours is none of them.
    #[error("the endpoint believes only some addresses, and a test event comes from another one")]
    Address,
    /// The rows say something that a sample can't satisfy.
    #[error("no sample can be made that this verification believes: have the producer send an event")]
    Unbelieved,
}

/// For what a sample is made.
#[derive(Debug, Clone, Copy)]
pub struct For<'a> {
    /// How the endpoint verifies.
    pub verification: &'a Verification,
    /// With which secrets; the first is signed with.
    pub secrets: &'a [Secret],
    /// The URL that endpoints' URLs begin with, without a slash at the end.
    pub base: &'a str,
    /// The path of the endpoint's URL.
    pub path: &'a str,
    /// Different for each sample; the producer's own id of the event.
    pub id: &'a str,
    /// The time that is signed.
    pub now: DateTime<Utc>,
}

/// A sample that the endpoint believes.
pub fn sample(of: For<'_>) -> Result<Sample, Unsignable> {
    if of.verification.needs_secret() && of.secrets.is_empty() {
        return Err(Unsignable::NoSecret);
    }
    let mut draft = Draft::new(of);
    draft.prove(of.verification)?;
    let sample = draft.finish();
    let query = sample.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let request = Request {
        method: &Method::POST,
        url: Url { base: of.base, path_and_query: &format!("{}{query}", of.path) },
        headers: &sample.headers,
        body: &sample.body,
        peer: None,
        received_at: of.now,
        fetched: None,
    };
    verify(of.verification, of.secrets, &request).map(|()| sample).map_err(|_| Unsignable::Unbelieved)
}

/// A sample in the making.
struct Draft<'a> {
    of: For<'a>,
    json: Value,
    /// The body is a form with this field, which holds the JSON.
    form_field: Option<String>,
    /// The body is a form of several fields.
    is_form: bool,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
}

impl<'a> Draft<'a> {
    fn new(of: For<'a>) -> Self {
        let text = "A test event that was sent by Ravenpost.";
        let json = json!({ "test": true, "message": text, "sent_at": of.now.to_rfc3339_opts(SecondsFormat::Secs, true) });
        let (query, headers) = (BTreeMap::new(), HeaderMap::new());
        Self { of, json, form_field: None, is_form: false, query, headers }
    }

    fn prove(&mut self, verification: &'a Verification) -> Result<(), Unsignable> {
        let (secret, of) = (self.of.secrets.first(), self.of);
        let secret_text = secret.map(Secret::reveal).unwrap_or_default();
        match verification {
            Verification::None {} => Ok(()),
            Verification::IpAllowList { .. } => Err(Unsignable::Address),
            Verification::All { of } => of.iter().try_for_each(|one| self.prove(one)),
            Verification::Bearer {} => {
                self.put(Place::Header("authorization"), &format!("Bearer {secret_text}"))
            }
            Verification::ApiKey { header } => self.put(Place::Header(header), secret_text),
            Verification::BasicAuth { username } => self.basic(&format!("{username}:{secret_text}")),
            Verification::Hmac(scheme) => {
                let template = scheme.signed.as_ref().map(super::template::Template::parts);
                let template = template.transpose().map_err(|_| Unsignable::Unbelieved)?;
                let template = template.as_ref().map(super::template::Parts::as_slice);
                scheme.with_rule(template, |rule| self.sign(rule))
            }
            Verification::StandardWebhooks {} => {
                self.put(Place::Header("webhook-id"), of.id)?;
                self.scheme(&Scheme::Rules(standard_webhooks::RULES))
            }
            Verification::Provider { provider } => self.provider(provider.profile()),
        }
    }

    fn provider(&mut self, profile: &'static Profile) -> Result<(), Unsignable> {
        for place in profile.event_id.iter().take(1) {
            self.put(*place, self.of.id)?;
        }
        for place in profile.event_type.iter().take(1) {
            self.put(*place, TYPE)?;
        }
        self.scheme(&profile.scheme)
    }

    fn scheme(&mut self, scheme: &Scheme) -> Result<(), Unsignable> {
        let secret = self.of.secrets.first().map(Secret::reveal).unwrap_or_default();
        match scheme {
            Scheme::Token { place, prefix } => self.put(*place, &format!("{prefix}{secret}")),
            Scheme::BasicAuth => self.basic(secret),
            Scheme::Odd(_) => Err(Unsignable::OwnScheme),
            Scheme::Rules(rules) => self.by_rules(rules),
            Scheme::ByHeader { header, with, without } => {
                let with_it = self.headers.contains_key(*header);
                self.by_rules(if with_it { with } else { without })
            }
            // Whichever the secret is for: a shared secret has not the form of a key, and the other way round.
            Scheme::Any(schemes) => {
                let mut refused = Err(Unsignable::Unbelieved);
                for scheme in *schemes {
                    let (json, headers) = (self.json.clone(), self.headers.clone());
                    refused = self.scheme(scheme);
                    if refused.is_ok() {
                        return Ok(());
                    }
                    (self.json, self.headers) = (json, headers);
                }
                refused
            }
        }
    }

    fn by_rules(&mut self, rules: &[Rule<'_>]) -> Result<(), Unsignable> {
        let shared = rules.iter().find(|rule| matches!(rule.primitive, Primitive::Hmac(_)));
        self.sign(*shared.ok_or(Unsignable::PrivateKey)?)
    }

    fn basic(&mut self, pair: &str) -> Result<(), Unsignable> {
        self.put(Place::Header("authorization"), &format!("Basic {}", STANDARD.encode(pair)))
    }

    fn sign(&mut self, rule: Rule<'_>) -> Result<(), Unsignable> {
        let Primitive::Hmac(algorithm) = rule.primitive else { return Err(Unsignable::PrivateKey) };
        let secret = self.of.secrets.first().ok_or(Unsignable::NoSecret)?;
        let written = rule.timestamp.map(|timestamp| (timestamp.place, write(timestamp.format, self.of.now)));
        if let Some((place, text)) = &written {
            self.put(*place, text)?;
        }
        for part in rule.signed {
            self.provide(part)?;
        }
        let body = self.body();
        let path_and_query = self.path_and_query();
        let request = Request {
            method: &Method::POST,
            url: Url { base: self.of.base, path_and_query: &path_and_query },
            headers: &self.headers,
            body: &body,
            peer: None,
            received_at: self.of.now,
            fetched: None,
        };
        let text = written.map(|(_, text)| Cow::Owned(text)).unwrap_or_default();
        let signed = Signed::read(rule.signed, &request, &text).map_err(|_| Unsignable::Unbelieved)?;
        let mut macs = Macs::default();
        let made = macs.of(algorithm, rule.key, signed);
        let mac = made.by(0, secret).ok_or(Unsignable::Unbelieved)?;
        let encoded = match rule.encoding {
            Encoding::Hex => hex::encode(mac),
            Encoding::Base64 => STANDARD.encode(mac),
            Encoding::Base64Url => URL_SAFE.encode(mac),
        };
        let signature = format!("{}{encoded}", rule.form.prefix);
        self.put_beside(rule.signature, &signature, rule.form.separators)
    }

    /// What is signed has to be there.
    fn provide(&mut self, part: &Part<'_>) -> Result<(), Unsignable> {
        match *part {
            Part::Header(name) if !self.headers.contains_key(name) => {
                self.put(Place::Header(name), self.of.id)
            }
            Part::Json(pointer) if self.json.pointer(pointer).is_none() => {
                self.put(Place::Json(pointer), self.of.id)
            }
            Part::OnlyField(name) => self.use_form(name),
            Part::SortedForm => {
                self.is_form = true;
                self.put(Place::Header("content-type"), "application/x-www-form-urlencoded")
            }
            _ => Ok(()),
        }
    }

    fn use_form(&mut self, name: &str) -> Result<(), Unsignable> {
        self.form_field = Some(name.to_owned());
        self.put(Place::Header("content-type"), "application/x-www-form-urlencoded")
    }

    fn put(&mut self, place: Place<'_>, text: &str) -> Result<(), Unsignable> {
        self.put_beside(place, text, &[])
    }

    /// Puts a text in its place; in a header's list behind what is there.
    fn put_beside(&mut self, place: Place<'_>, text: &str, separators: &[char]) -> Result<(), Unsignable> {
        match place {
            Place::Header(name) => self.append(name, text, separators),
            Place::Item { header, separators, prefix } => {
                self.append(header, &format!("{prefix}{text}"), separators)
            }
            Place::Json(pointer) => set(&mut self.json, pointer, text).ok_or(Unsignable::Unbelieved),
            Place::Query(name) => {
                self.query.insert(name.to_owned(), text.to_owned());
                Ok(())
            }
        }
    }

    fn append(&mut self, name: &str, text: &str, separators: &[char]) -> Result<(), Unsignable> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsignable::Unbelieved)?;
        let before = self.headers.get(&name).and_then(|value| value.to_str().ok());
        let value = match (before, separators.first()) {
            (Some(before), Some(separator)) => format!("{before}{separator}{text}"),
            _ => text.to_owned(),
        };
        self.headers.insert(name, HeaderValue::try_from(value).map_err(|_| Unsignable::Unbelieved)?);
        Ok(())
    }

    fn path_and_query(&self) -> String {
        let query = self.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.of.path)
    }

    fn query(&self) -> Option<String> {
        if self.query.is_empty() {
            return None;
        }
        Some(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish())
    }

    fn body(&self) -> Vec<u8> {
        let json = self.json.to_string();
        let form = |pairs: &[(&str, &str)]| {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(pairs).finish().into_bytes()
        };
        match &self.form_field {
            Some(name) => form(&[(name.as_str(), &json)]),
            None if self.is_form => form(&[("id", self.of.id), ("message", "A test event"), ("type", TYPE)]),
            None => json.into_bytes(),
        }
    }

    fn finish(mut self) -> Sample {
        let json = HeaderValue::from_static("application/json");
        let (body, query) = (self.body(), self.query());
        self.headers.entry(http::header::CONTENT_TYPE).or_insert(json);
        Sample { query, headers: self.headers, body }
    }
}

fn write(format: TimestampFormat, now: DateTime<Utc>) -> String {
    match format {
        TimestampFormat::Seconds => now.timestamp().to_string(),
        TimestampFormat::Milliseconds => now.timestamp_millis().to_string(),
        TimestampFormat::Rfc3339 => now.to_rfc3339_opts(SecondsFormat::Secs, true),
    }
}

/// Sets a text at a pointer (RFC 6901), with the objects and lists on its way; `None` where something else stands.
fn set(json: &mut Value, pointer: &str, text: &str) -> Option<()> {
    let mut at = json;
    for name in pointer.strip_prefix('/')?.split('/') {
        let name = name.replace("~1", "/").replace("~0", "~");
        if at.is_null() || *at == json!("") {
            *at = if name == "0" { json!([]) } else { json!({}) };
        }
        at = match at {
            Value::Array(items) => {
                let index: usize = name.parse().ok()?;
                if index == items.len() {
                    items.push(Value::Null);
                }
                items.get_mut(index)?
            }
            Value::Object(fields) => fields.entry(name).or_insert(Value::Null),
            _ => return None,
        };
    }
    *at = Value::String(text.to_owned());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;
    use crate::signature::inbound;

    fn made(verification: &Verification, secrets: &[Secret]) -> Result<Sample, Unsignable> {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        sample(For {
            verification,
            secrets,
            base: "https://hooks.example.com",
            path: "/h/abc",
            id: "evt-1",
            now,
        })
    }

    /// A secret of the form that a provider's dashboard shows.
    fn secret(provider: Provider) -> Secret {
        let texts = [
            "0123456789abcdef0123456789abcdef",
            "user:0123456789abcdef",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
        ];
        let fits = |secret: &Secret| inbound::check(&Verification::Provider { provider }, secret).is_ok();
        texts.map(Secret::new).into_iter().find(fits).unwrap_or_else(|| Secret::new(texts[0]))
    }

    #[test]
    fn of_most_providers_a_sample_is_made_and_believed() {
        let mut refused = Vec::new();
        for provider in Provider::ALL {
            let verification = Verification::Provider { provider: *provider };
            if let Err(error) = made(&verification, &[secret(*provider)]) {
                refused.push(format!("{} {error:?}", provider.slug()));
            }
        }
        let own = [
            "adyen OwnScheme",
            "aws_sns OwnScheme",
            "contentful OwnScheme",
            "discord PrivateKey",
            "paypal OwnScheme",
        ];
        let more = ["sendgrid PrivateKey", "travis_ci PrivateKey", "twilio OwnScheme", "wise PrivateKey"];
        assert_eq!(refused, [own.as_slice(), &more].concat());
    }

    #[test]
    fn every_generic_way_to_verify_has_a_sample() {
        let hmac = r#"{ "type": "hmac", "header": "X-Signature", "algorithm": "sha512", "encoding": "base64_url",
            "prefix": "v=", "separator": ";", "timestamp": { "header": "X-Time", "format": "rfc3339" },
            "signed": "{method}.{url}.{timestamp}.{header:X-Other}.{json:/a/b}.{body}" }"#;
        for text in [
            r#"{ "type": "none" }"#,
            r#"{ "type": "standard_webhooks" }"#,
            r#"{ "type": "bearer" }"#,
            r#"{ "type": "api_key", "header": "X-Key" }"#,
            r#"{ "type": "basic_auth", "username": "me" }"#,
            r#"{ "type": "hmac", "header": "X-Signature", "algorithm": "sha256", "encoding": "hex" }"#,
            hmac,
        ] {
            let verification: Verification = serde_json::from_str(text).unwrap();
            let secrets = [Secret::new("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")];
            let sample = made(&verification, &secrets).unwrap();
            assert!(sample.headers.contains_key("content-type"), "{text}");
            let needed = if verification.needs_secret() { Err(Unsignable::NoSecret) } else { Ok(()) };
            assert_eq!(made(&verification, &[]).map(|_| ()), needed, "{text}");
        }
    }

    #[test]
    fn what_depends_on_the_address_is_refused() {
        let text = r#"{ "type": "all", "of": [{ "type": "bearer" }, { "type": "ip_allow_list", "networks": ["192.0.2.0/24"] }] }"#;
        let verification: Verification = serde_json::from_str(text).unwrap();
        assert_eq!(made(&verification, &[Secret::new("secret-secret")]).unwrap_err(), Unsignable::Address);
    }
}
