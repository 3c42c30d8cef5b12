//! Twilio, "Secure webhooks": the URL is signed, with the fields of a form behind it; the hash of any other body stands in
//! the URL.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::super::encoding::Encoding;
use super::super::request::Place;
use super::super::rule::{Algorithm, Form, KeyForm, Primitive, Rule, verify_any};
use super::super::template::{Part, is_form, sorted_form};
use super::super::{Rejection, Request};
use crate::secret::Secret;

const RULE: Rule<'static> = Rule {
    signature: Place::Header("X-Twilio-Signature"),
    form: Form::BARE,
    encoding: Encoding::Base64,
    primitive: Primitive::Hmac(Algorithm::Sha1),
    key: KeyForm::Text,
    timestamp: None,
    signed: &[],
};

pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let form = is_form(request).then(|| sorted_form(request)).transpose()?;
    let text = Part::Literal(form.as_deref().unwrap_or_default());
    // Twilio signs some URLs with the port that their scheme implies; its own libraries accept either.
    let rules =
        [Rule { signed: &[Part::Url, text], ..RULE }, Rule { signed: &[Part::UrlWithPort, text], ..RULE }];
    verify_any(&rules, secrets, request)?;
    if request.body.is_empty() || form.is_some() {
        return Ok(());
    }
    let hash = Place::Query("bodySHA256").read(request)?;
    let expected = hex::encode(Sha256::digest(request.body));
    let equal = hash.to_ascii_lowercase().as_bytes().ct_eq(expected.as_bytes());
    if bool::from(equal) { Ok(()) } else { Err(Rejection::WrongSignature) }
}
