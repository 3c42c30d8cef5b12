//! An HMAC in a header as a customer describes it: for producers that no row of the table knows.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::Rejection;
use super::encoding::Encoding;
use super::request::{Place, Request};
use super::rule::{Algorithm, Form, KeyForm, Primitive, Rule};
use super::template::{Part, Parts, Template};
use super::timestamp::{Timestamp, TimestampFormat};
use crate::provider::SecretKind;
use crate::secret::Secret;

/// Where the signature is and how it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacScheme {
    /// The header that carries the signature.
    #[schema(example = "X-Signature")]
    pub header: String,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What stands before the signature in the header, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What stands between several signatures in the header; where given, any right one suffices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = ",")]
    pub separator: Option<char>,
    /// A timestamp that is signed with the body, and how old it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedTimestamp>,
    /// What is signed, such as `{timestamp}.{body}`. In braces: `body`, `body_sha256`, `timestamp`, `method`, `url`,
    /// `path`, `header:Name`, `json:/pointer`; `{{` and `}}` are braces themselves. Unless given: the body, or
    /// `{timestamp}.{body}` where there is a timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Template>,
    /// How the secret's text becomes the key; `text` unless given.
    #[serde(default, skip_serializing_if = "is_text")]
    pub key: SecretForm,
}

/// How the text of a secret becomes the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// Its characters are the key.
    #[default]
    Text,
    /// It is the key in base64.
    Base64,
    /// It is the key in hexadecimal.
    Hex,
}

impl SecretForm {
    fn key_form(self) -> KeyForm {
        match self {
            Self::Text => KeyForm::Text,
            Self::Base64 => KeyForm::Base64,
            Self::Hex => KeyForm::Hex,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_text(form: &SecretForm) -> bool {
    *form == SecretForm::Text
}

/// A signed timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedTimestamp {
    /// The header that carries it.
    #[schema(example = "X-Timestamp")]
    pub header: String,
    /// How far it may lie from now, either way; `5m` unless given, at most `1d`.
    #[serde(default = "default_tolerance", with = "crate::duration::text")]
    #[schema(value_type = String, example = "5m")]
    pub tolerance: Duration,
    /// How it is written; `seconds` unless given.
    #[serde(default, skip_serializing_if = "is_seconds")]
    pub format: TimestampFormat,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_seconds(format: &TimestampFormat) -> bool {
    *format == TimestampFormat::Seconds
}

fn default_tolerance() -> Duration {
    Duration::from_mins(5)
}

/// What is signed where a scheme does not say.
const BODY: &[Part<'static>] = &[Part::Body];
const TIMESTAMP_AND_BODY: &[Part<'static>] = &[Part::Timestamp, Part::Literal("."), Part::Body];

/// Why a scheme is refused, and which field is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidScheme {
    /// The field, relative to the scheme.
    pub field: &'static str,
    /// What it should be.
    pub message: &'static str,
}

impl HmacScheme {
    /// Checks what deserializing can't.
    pub fn check(&self) -> Result<(), InvalidScheme> {
        let invalid = |field, message| Err(InvalidScheme { field, message });
        if !is_header(&self.header) {
            return invalid("header", "not the name of an HTTP header");
        }
        if self.prefix.len() > 100 || !self.prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return invalid("prefix", "at most 100 characters of visible ASCII");
        }
        let signs_timestamp = self.signed.as_ref().is_none_or(Template::has_timestamp);
        match &self.timestamp {
            Some(timestamp) if !is_header(&timestamp.header) => {
                invalid("timestamp.header", "not the name of an HTTP header")
            }
            Some(timestamp) if timestamp.tolerance > Duration::from_hours(24) => {
                invalid("timestamp.tolerance", "at most 1d")
            }
            Some(_) if !signs_timestamp => {
                invalid("signed", "{timestamp} is missing: a timestamp that is not signed proves nothing")
            }
            None if self.signed.is_some() && signs_timestamp => {
                invalid("timestamp", "needed, since {timestamp} is among the signed parts")
            }
            _ => Ok(()),
        }
    }

    /// Checks a request: the header's signature by any of `secrets`, compared in constant time.
    pub fn verify(&self, secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
        let template = match &self.signed {
            Some(template) => Some(template.parts().map_err(|_| Rejection::WrongSignature)?),
            None => None,
        };
        self.with_rule(template.as_ref().map(Parts::as_slice), |rule| rule.verify(secrets, request))
    }

    /// What is made of it as a rule that signs these parts, or what is signed unless it says.
    pub(super) fn with_rule<T>(&self, template: Option<&[Part<'_>]>, make: impl FnOnce(Rule<'_>) -> T) -> T {
        make(self.rule(match (template, &self.timestamp) {
            (Some(parts), _) => parts,
            (None, Some(_)) => TIMESTAMP_AND_BODY,
            (None, None) => BODY,
        }))
    }

    /// What its secret is.
    pub(super) fn secret_kind(&self) -> SecretKind {
        match self.key {
            SecretForm::Text => SecretKind::Shared,
            form => SecretKind::Key(form.key_form()),
        }
    }

    /// A new secret of the form that it wants.
    pub(super) fn new_secret(&self, random: [u8; 32]) -> Secret {
        match self.key {
            SecretForm::Text | SecretForm::Hex => Secret::text(random),
            SecretForm::Base64 => Secret::new(STANDARD.encode(random)),
        }
    }

    fn rule<'a>(&'a self, signed: &'a [Part<'a>]) -> Rule<'a> {
        Rule {
            signature: Place::Header(&self.header),
            form: Form { separators: self.separator.as_slice(), prefix: &self.prefix },
            encoding: self.encoding,
            primitive: Primitive::Hmac(self.algorithm),
            key: self.key.key_form(),
            timestamp: self.timestamp.as_ref().map(|timestamp| Timestamp {
                place: Place::Header(&timestamp.header),
                format: timestamp.format,
                tolerance: Some(timestamp.tolerance.as_secs()),
            }),
            signed,
        }
    }
}

fn is_header(name: &str) -> bool {
    name.len() <= 100 && HeaderName::from_bytes(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests;
