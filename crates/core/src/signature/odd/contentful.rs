//! Contentful, "Webhook request verification": method, path, the headers that a header lists, and the body, in lines.

use super::super::encoding::Encoding;
use super::super::request::{Place, header};
use super::super::rule::{Algorithm, Form, KeyForm, Primitive, Rule};
use super::super::template::Part;
use super::super::timestamp::{Timestamp, TimestampFormat};
use super::super::{Rejection, Request};
use crate::secret::Secret;

const SIGNED_HEADERS: &str = "x-contentful-signed-headers";
/// More headers than Contentful ever signs.
const MAX_HEADERS: usize = 64;

pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let headers = canonical_headers(request)?;
    let signed = [
        Part::Method,
        Part::Literal("\n"),
        Part::PathAndQuery,
        Part::Literal("\n"),
        Part::Literal(&headers),
        Part::Literal("\n"),
        Part::Body,
    ];
    let rule = Rule {
        signature: Place::Header("x-contentful-signature"),
        form: Form::BARE,
        encoding: Encoding::Hex,
        primitive: Primitive::Hmac(Algorithm::Sha256),
        key: KeyForm::Text,
        timestamp: Some(Timestamp {
            place: Place::Header("x-contentful-timestamp"),
            format: TimestampFormat::Milliseconds,
            tolerance: Some(TOLERANCE),
        }),
        signed: &signed,
    };
    rule.verify(secrets, request)
}

/// What Contentful's own library takes, in seconds.
pub(super) const TOLERANCE: u64 = 30;

/// `name:value` of each listed header, separated by semicolons. The timestamp and the list itself have to be among them:
/// what is not signed proves nothing.
fn canonical_headers(request: &Request<'_>) -> Result<String, Rejection> {
    let listed = header(request.headers, SIGNED_HEADERS)?;
    let names: Vec<&str> = listed.split(',').map(str::trim).collect();
    let has = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    if names.len() > MAX_HEADERS || !has("x-contentful-timestamp") || !has(SIGNED_HEADERS) {
        return Err(Rejection::MalformedHeader(SIGNED_HEADERS.to_owned(), "the timestamp is not listed"));
    }
    let mut text = String::new();
    for name in names {
        let separator = if text.is_empty() { "" } else { ";" };
        text.extend([separator, &name.to_ascii_lowercase(), ":", header(request.headers, name)?.trim()]);
    }
    Ok(text)
}
