//! PayPal, "Verify webhook signature" (self verification): an RSA signature over the transmission's id and time, the
//! webhook's id and the body's CRC-32, by a certificate that PayPal serves.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use url::Url;

use super::super::encoding::LENIENT;
use super::super::public_key::{CertificateHash, verify_by_certificate};
use super::super::request::{Place, header};
use super::super::timestamp::{Timestamp, TimestampFormat};
use super::super::{Rejection, Request};
use crate::secret::Secret;

const CERTIFICATE: &str = "paypal-cert-url";
/// Where PayPal serves its certificates. Whoever could name another host could sign with another key.
const HOSTS: [&str; 4] =
    ["api.paypal.com", "api.sandbox.paypal.com", "api-m.paypal.com", "api-m.sandbox.paypal.com"];
const PATH: &str = "/v1/notifications/certs/";

/// PayPal tries again for three days ("Integrate webhooks"), and does not say whether with a new time. In seconds.
pub(super) const TOLERANCE: u64 = 73 * 3_600;

/// When it was sent, as it is signed.
fn time<'r>(request: &Request<'r>) -> Result<Cow<'r, str>, Rejection> {
    let place = Place::Header("paypal-transmission-time");
    Timestamp { place, format: TimestampFormat::Rfc3339, tolerance: Some(TOLERANCE) }.fresh(request)
}

/// The URL of the certificate.
pub(super) fn certificate(request: &Request<'_>) -> Result<Url, Rejection> {
    time(request)?;
    let served_by_paypal = |url: &Url| {
        super::is_plain_https(url)
            && HOSTS.contains(&url.host_str().unwrap_or_default())
            && url.path().strip_prefix(PATH).is_some_and(is_name)
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(header(request.headers, CERTIFICATE)?).ok().filter(served_by_paypal).ok_or_else(|| {
        Rejection::MalformedHeader(CERTIFICATE.to_owned(), "not where PayPal has certificates")
    })
}

/// Letters, digits, `-` and `_`: no other place of the host, by whatever way of writing it.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The secrets are the ids of webhooks, as PayPal's dashboard shows them.
pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let signature = header(request.headers, "paypal-transmission-sig")?;
    let malformed = |what| Rejection::MalformedHeader("paypal-transmission-sig".to_owned(), what);
    let signature = LENIENT.decode(signature).map_err(|_| malformed("not base64"))?;
    let algorithm = header(request.headers, "paypal-auth-algo")?;
    if algorithm != "SHA256withRSA" {
        return Err(Rejection::MalformedHeader("paypal-auth-algo".to_owned(), "not SHA256withRSA"));
    }
    let id = header(request.headers, "paypal-transmission-id")?;
    let time = time(request)?;
    certificate(request)?;
    let pem = request.fetched.ok_or(Rejection::Certificate("it was not fetched"))?;
    let crc = crc32fast::hash(request.body);
    for secret in secrets {
        let mut message = String::new();
        let _ = write!(message, "{id}|{time}|{}|{crc}", secret.reveal());
        match verify_by_certificate(pem, CertificateHash::Sha256, message.as_bytes(), &signature) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => return Err(Rejection::Certificate("it does not read")),
        }
    }
    Err(if secrets.is_empty() { Rejection::NoSecret } else { Rejection::WrongSignature })
}
