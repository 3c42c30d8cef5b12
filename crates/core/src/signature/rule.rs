//! How a signature is made, as data: the one engine behind providers' rows, Standard Webhooks and customers' own HMACs.

use std::borrow::Cow;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::Rejection;
use super::encoding::{Encoding, LENIENT, MAX_SIGNATURE};
use super::macs::{Macs, Signed};
use super::public_key::{self, PublicKey};
use super::request::{Place, Request};
use super::template::Part;
use super::timestamp::Timestamp;
use crate::secret::Secret;

/// A signature over parts of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Where the signature stands.
    pub signature: Place<'a>,
    /// How it stands there.
    pub form: Form<'a>,
    /// How its bytes are written.
    pub encoding: Encoding,
    /// How it is made.
    pub primitive: Primitive,
    /// How the secret's text becomes the key.
    pub key: KeyForm,
    /// The time that is signed, if one is.
    pub timestamp: Option<Timestamp<'a>>,
    /// What is signed.
    pub signed: &'a [Part<'a>],
}

/// How one signature, or several, stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<'a> {
    /// What can stand between several; nothing where there is only one.
    pub separators: &'a [char],
    /// What stands before each, such as `sha256=`. Parts of a list that begin otherwise are something else.
    pub prefix: &'a str,
}

/// A way to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primitive {
    /// With a shared secret.
    Hmac(Algorithm),
    /// With a private key, whose public half is the endpoint's "secret".
    PublicKey(PublicKey),
}

/// A hash for an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-384.
    Sha384,
    /// HMAC-SHA-512.
    Sha512,
    /// HMAC-SHA-1: only for producers that have nothing better.
    Sha1,
}

/// How the text of a secret becomes the bytes of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// Its characters are the key.
    Text,
    /// It is the key in base64.
    Base64,
    /// It is the key in hexadecimal.
    Hex,
    /// The key in base64, with or without `whsec_` before it (Standard Webhooks, "Signature scheme").
    Whsec,
    /// `whpk_` and a public key in base64 (Standard Webhooks, asymmetric signatures).
    Whpk,
    /// A SubjectPublicKeyInfo in base64 or PEM.
    Spki,
    /// A name, a colon, and the key as text.
    AfterColon,
}

/// Most signatures of one form that are looked at: many times what a producer sends while it rotates its secrets.
pub const MAX_SIGNATURES: usize = 32;

impl<'a> Form<'a> {
    /// A single signature with nothing around it.
    pub const BARE: Form<'static> = Form { separators: &[], prefix: "" };

    /// A single signature after `prefix`.
    pub const fn prefixed(prefix: &'a str) -> Self {
        Self { separators: &[], prefix }
    }

    /// Several, each after `prefix`.
    pub const fn list(separators: &'a [char], prefix: &'a str) -> Self {
        Self { separators, prefix }
    }

    /// The signatures in a text, still encoded; the first [`MAX_SIGNATURES`] of them.
    pub fn signatures<'t>(self, text: &'t str) -> impl Iterator<Item = &'t str> + use<'t, 'a> {
        // A header that is there twice is two lines to us.
        let between = move |c: char| c == '\n' || self.separators.contains(&c);
        text.split(between).filter_map(move |item| item.trim().strip_prefix(self.prefix)).take(MAX_SIGNATURES)
    }
}

impl KeyForm {
    /// The key; `None` when the secret is not of this form.
    pub fn key(self, secret: &Secret) -> Option<Cow<'_, [u8]>> {
        let text = secret.reveal();
        match self {
            Self::Text => Some(Cow::Borrowed(text.as_bytes())),
            Self::Base64 => LENIENT.decode(text).ok().map(Cow::Owned),
            Self::Hex => hex::decode(text).ok().map(Cow::Owned),
            Self::Whsec => LENIENT.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().map(Cow::Owned),
            Self::Whpk => LENIENT.decode(text.strip_prefix("whpk_")?).ok().map(Cow::Owned),
            Self::AfterColon => text.split_once(':').map(|(_, key)| Cow::Borrowed(key.as_bytes())),
            Self::Spki => public_key::der(text).map(Cow::Owned),
        }
    }
}

/// Checks a request by several rules, where a provider signs in more than one way: any one suffices. Rules that differ in
/// no more than where the signature stands cost one HMAC for each secret together.
pub fn verify_any(rules: &[Rule<'_>], secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    verify_sharing(rules, secrets, request, &mut Macs::default())
}

fn verify_sharing<'q>(
    rules: &[Rule<'q>],
    secrets: &[Secret],
    request: &Request<'q>,
    macs: &mut Macs<'q>,
) -> Result<(), Rejection> {
    first_success(rules.iter().map(|rule| {
        let result = rule.verify_with(secrets, request, macs);
        result.map_err(|rejection| (rule.progress(&rejection), rejection))
    }))
}

/// How far a request came that was refused so, as far as can be told without the scheme.
pub(super) fn progress(rejection: &Rejection) -> u8 {
    match rejection {
        Rejection::MissingHeader(_) | Rejection::MissingField(_) => 0,
        Rejection::MalformedHeader(..) | Rejection::MalformedField(..) => 1,
        _ => 2,
    }
}

/// The first success; of several failures the one that came furthest.
pub(super) fn first_success(
    results: impl Iterator<Item = Result<(), (u8, Rejection)>>,
) -> Result<(), Rejection> {
    let mut told: Option<(u8, Rejection)> = None;
    for result in results {
        let Err(failure) = result else { return Ok(()) };
        if told.as_ref().is_none_or(|told| failure.0 > told.0) {
            told = Some(failure);
        }
    }
    Err(told.map_or(Rejection::NoSecret, |(_, rejection)| rejection))
}

/// What is told where a list holds no signature of a rule's form, which is then not meant.
const NO_SUCH_FORM: &str = "no signature of the expected form is in it";

impl<'a> Rule<'a> {
    /// Checks a request: any of its signatures by any of `secrets`, compared in constant time.
    pub fn verify(&self, secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
        verify_any(std::slice::from_ref(self), secrets, request)
    }

    fn verify_with(
        &self,
        secrets: &[Secret],
        request: &Request<'a>,
        macs: &mut Macs<'a>,
    ) -> Result<(), Rejection> {
        let text = self.signature.read_all(request)?;
        self.check_form(&text)?;
        let timestamp = self.timestamp.map(|timestamp| timestamp.fresh(request)).transpose()?;
        let signed = Signed::read(self.signed, request, &timestamp.unwrap_or_default())?;
        let matches = match self.primitive {
            Primitive::Hmac(algorithm) => {
                let of = macs.of(algorithm, self.key, signed);
                secrets.iter().enumerate().any(|(index, secret)| {
                    of.by(index, secret).is_some_and(|expected| self.is_among(expected, &text))
                })
            }
            Primitive::PublicKey(kind) => {
                let message = signed.joined();
                let mut keys = secrets.iter().filter_map(|secret| self.key.key(secret));
                keys.any(|key| self.key_matches(kind, &key, &message, &text))
            }
        };
        match secrets {
            _ if matches => Ok(()),
            [] => Err(Rejection::NoSecret),
            _ => Err(Rejection::WrongSignature),
        }
    }

    /// How far a request came that was refused so.
    fn progress(&self, rejection: &Rejection) -> u8 {
        match rejection {
            Rejection::MissingHeader(name)
                if self.signature.header().is_some_and(|header| header.eq_ignore_ascii_case(name)) =>
            {
                0
            }
            Rejection::MalformedHeader(_, what) if *what == NO_SUCH_FORM => 1,
            rejection => 2 + progress(rejection),
        }
    }

    /// Whether there is anything that could be a signature.
    fn check_form(&self, text: &str) -> Result<(), Rejection> {
        let mut buffer = [0; MAX_SIGNATURE];
        let mut found = false;
        for signature in self.form.signatures(text) {
            found = true;
            if self.encoding.decode(signature, &mut buffer).is_some() {
                return Ok(());
            }
        }
        Err(self.signature.malformed(match (found, self.encoding) {
            (false, _) if !self.form.separators.is_empty() => NO_SUCH_FORM,
            (false, _) => "the prefix is missing",
            (true, Encoding::Hex) => "not hexadecimal",
            (true, Encoding::Base64 | Encoding::Base64Url) => "not base64",
        }))
    }

    fn is_among(&self, expected: &[u8], text: &str) -> bool {
        let mut buffer = [0; MAX_SIGNATURE];
        self.form.signatures(text).any(|signature| {
            let presented = self.encoding.decode(signature, &mut buffer);
            presented.is_some_and(|presented| bool::from(presented.ct_eq(expected)))
        })
    }

    fn key_matches(&self, kind: PublicKey, key: &[u8], message: &[u8], text: &str) -> bool {
        let mut buffer = [0; MAX_SIGNATURE];
        // Each costs an operation on a curve: more than a few are an attack.
        self.form.signatures(text).take(4).any(|signature| {
            let presented = self.encoding.decode(signature, &mut buffer);
            presented.is_some_and(|presented| public_key::verify(kind, key, message, presented))
        })
    }
}

#[cfg(test)]
mod tests;
