//! Rows in words, for documents.

use super::{Profile, Scheme};
use crate::signature::Odd;
use crate::signature::encoding::Encoding;
use crate::signature::public_key::PublicKey;
use crate::signature::request::Place;
use crate::signature::rule::{Algorithm, Primitive, Rule};
use crate::signature::template::Part;

impl Profile {
    /// How it proves that a request is its own: where the proof is, how it is made, over what.
    pub fn proof(&self) -> String {
        scheme(&self.scheme)
    }

    /// Whether a time is signed in a form that can be read.
    pub fn signs_time(&self) -> bool {
        signs_time(&self.scheme)
    }

    /// How far a signed time may lie from ours, in seconds; `None` where nothing limits it.
    pub fn tolerance(&self) -> Option<u64> {
        tolerance(&self.scheme)
    }
}

fn scheme(known: &Scheme) -> String {
    match known {
        Scheme::Rules(rules) => self::rules(rules),
        Scheme::ByHeader { header, with, without } => {
            format!("{}; or, without `{header}`, {}", self::rules(with), self::rules(without))
        }
        Scheme::Token { place, prefix: "" } => format!("the secret itself in {}", self::place(place)),
        Scheme::Token { place, prefix } => {
            format!("the secret itself in {}, after `{prefix}`", self::place(place))
        }
        Scheme::BasicAuth => "HTTP basic authentication".to_owned(),
        Scheme::Odd(odd) => self::odd(*odd).to_owned(),
        Scheme::Any(schemes) => schemes.iter().map(scheme).collect::<Vec<_>>().join("; or "),
    }
}

fn rules(rules: &[Rule<'_>]) -> String {
    let mut told: Vec<String> = rules.iter().map(rule).collect();
    told.dedup();
    told.join("; or ")
}

fn rule(rule: &Rule<'_>) -> String {
    let primitive = match rule.primitive {
        Primitive::Hmac(Algorithm::Sha1) => "HMAC-SHA-1",
        Primitive::Hmac(Algorithm::Sha256) => "HMAC-SHA-256",
        Primitive::Hmac(Algorithm::Sha384) => "HMAC-SHA-384",
        Primitive::Hmac(Algorithm::Sha512) => "HMAC-SHA-512",
        Primitive::PublicKey(PublicKey::Ed25519) => "Ed25519",
        Primitive::PublicKey(PublicKey::EcdsaP256Sha256) => "ECDSA (P-256, SHA-256)",
        Primitive::PublicKey(PublicKey::RsaSha256) => "RSA (PKCS#1 v1.5, SHA-256)",
        Primitive::PublicKey(PublicKey::RsaSha1) => "RSA (PKCS#1 v1.5, SHA-1)",
    };
    let encoding = match rule.encoding {
        Encoding::Hex => "hexadecimal",
        Encoding::Base64 => "base64",
        Encoding::Base64Url => "base64 for URLs",
    };
    let signed: Vec<String> = rule.signed.iter().map(|part| self::part(part, rule)).collect();
    let prefix =
        if rule.form.prefix.is_empty() { String::new() } else { format!(" after `{}`", rule.form.prefix) };
    format!("{}{prefix}: {primitive} of {}, {encoding}", place(&rule.signature), signed.join(" + "))
}

fn part(part: &Part<'_>, rule: &Rule<'_>) -> String {
    match part {
        Part::Literal(text) => format!("`{text}`"),
        Part::Body => "body".to_owned(),
        Part::BodySha256 => "SHA-256 of the body".to_owned(),
        Part::Timestamp => rule.timestamp.map_or_else(String::new, |timestamp| place(&timestamp.place)),
        Part::Method => "method".to_owned(),
        Part::Url => "URL".to_owned(),
        Part::UrlWithPort => "URL with port".to_owned(),
        Part::UrlUnescaped => "URL without escapes".to_owned(),
        Part::PathAndQuery => "path and query".to_owned(),
        Part::Header(name) => format!("`{name}`"),
        Part::Json(pointer) => format!("body's `{pointer}`"),
        Part::OnlyField(name) => format!("form's only field `{name}`"),
        Part::SortedForm => "sorted form".to_owned(),
    }
}

/// A place in words.
pub fn place(place: &Place<'_>) -> String {
    match place {
        Place::Header(name) => format!("`{name}`"),
        Place::Item { header, prefix, .. } => format!("`{header}`'s `{prefix}`"),
        Place::Json(pointer) => format!("body's `{pointer}`"),
        Place::Query(name) => format!("`?{name}=`"),
    }
}

fn odd(odd: Odd) -> &'static str {
    match odd {
        Odd::Adyen => "HMAC-SHA-256 of eight fields of each item, in the item's `hmacSignature`, base64",
        Odd::Contentful => {
            "`x-contentful-signature`: HMAC-SHA-256 of method, path, the headers that `x-contentful-signed-headers` lists, and body, hexadecimal"
        }
        Odd::PayPal => {
            "`PAYPAL-TRANSMISSION-SIG`: RSA (PKCS#1 v1.5, SHA-256) of the transmission's id and time, the webhook's id and the body's CRC-32, by the certificate at `PAYPAL-CERT-URL`, which has to be at PayPal's host; base64"
        }
        Odd::Sns => {
            "body's `/Signature`: RSA (PKCS#1 v1.5, SHA-256 or SHA-1 by `/SignatureVersion`) of the message's fields, by the certificate at `/SigningCertURL`, which has to be at `sns.<region>.amazonaws.com`; base64"
        }
        Odd::Twilio => {
            "`X-Twilio-Signature`: HMAC-SHA-1 of the URL and the sorted form, base64; the SHA-256 of any other body in the URL's `bodySHA256`"
        }
    }
}

fn signs_time(scheme: &Scheme) -> bool {
    match scheme {
        Scheme::Rules(rules) | Scheme::ByHeader { with: rules, .. } => {
            rules.iter().any(|rule| rule.timestamp.is_some())
        }
        Scheme::Any(schemes) => schemes.iter().any(signs_time),
        Scheme::Odd(odd) => odd.tolerance().is_some(),
        Scheme::Token { .. } | Scheme::BasicAuth => false,
    }
}

fn tolerance(scheme: &Scheme) -> Option<u64> {
    match scheme {
        Scheme::Rules(rules) | Scheme::ByHeader { with: rules, .. } => {
            rules.iter().find_map(|rule| rule.timestamp?.tolerance)
        }
        Scheme::Any(schemes) => schemes.iter().find_map(tolerance),
        Scheme::Odd(odd) => odd.tolerance(),
        Scheme::Token { .. } | Scheme::BasicAuth => None,
    }
}
