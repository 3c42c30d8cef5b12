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

/// How far a time may lie from ours, in seconds, where no page says that each attempt is signed anew: as long as the
/// provider tries, and some more, since a retry that is refused for its age is an event lost.
pub(super) mod tries {
    /// Zendesk: a few times within minutes (Webhooks API reference, "Webhook retries").
    pub(in super::super) const ZENDESK: u64 = 900;
    /// Discord: up to 10 minutes ("Webhook Events", "Responding to Events").
    pub(in super::super) const DISCORD: u64 = 900;
    /// Zoom: after 5, 20 and 60 minutes ("Resolving webhook delays").
    pub(in super::super) const ZOOM: u64 = 7_200;
    /// Persona: five to eight times, further apart each time ("Webhook Best Practices", "Retry logic").
    pub(in super::super) const PERSONA: u64 = 7_200;
    /// Mailgun: 8 hours ("Automatic Retries").
    pub(in super::super) const MAILGUN: u64 = 9 * 3_600;
    /// SendGrid: 24 hours ("Event Webhook Reference").
    pub(in super::super) const SENDGRID: u64 = 25 * 3_600;
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
