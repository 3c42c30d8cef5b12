//! Short forms for what most rows have in common.

use crate::signature::encoding::Encoding;
use crate::signature::request::Place;
use crate::signature::rule::{Algorithm, Form, KeyForm, Primitive, Rule};
use crate::signature::template::Part;
use crate::signature::timestamp::{Timestamp, TimestampFormat};

/// What most providers sign.
pub(super) const BODY: &[Part<'static>] = &[Part::Body];

/// An HMAC of the body alone, keyed by the secret's text.
pub(super) const fn hmac(
    header: &'static str,
    algorithm: Algorithm,
    encoding: Encoding,
    form: Form<'static>,
) -> Rule<'static> {
    Rule {
        signature: Place::Header(header),
        form,
        encoding,
        primitive: Primitive::Hmac(algorithm),
        key: KeyForm::Text,
        timestamp: None,
        signed: BODY,
    }
}

/// A time in a header.
pub(super) const fn timestamp(
    header: &'static str,
    format: TimestampFormat,
    tolerance: Option<u64>,
) -> Timestamp<'static> {
    Timestamp { place: Place::Header(header), format, tolerance }
}

/// A time in a part of the header that carries the signature.
pub(super) const fn item(
    header: &'static str,
    separators: &'static [char],
    prefix: &'static str,
    format: TimestampFormat,
    tolerance: Option<u64>,
) -> Timestamp<'static> {
    Timestamp { place: Place::Item { header, separators, prefix }, format, tolerance }
}
