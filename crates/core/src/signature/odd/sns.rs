//! AWS SNS, "Verifying the signatures of Amazon SNS messages": an RSA signature over a selection of the body's fields, by a
//! certificate that AWS serves.

use std::borrow::Cow;

use base64::Engine as _;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use url::Url;

use super::super::encoding::LENIENT;
use super::super::public_key::{CertificateHash, verify_by_certificate};
use super::super::request::Place;
use super::super::timestamp::{Timestamp, TimestampFormat};
use super::super::{Rejection, Request};
use crate::secret::Secret;

const NOTIFICATION: &str = "Notification";
const KINDS: [&str; 3] = [NOTIFICATION, "SubscriptionConfirmation", "UnsubscribeConfirmation"];

/// A message's time is when it was published, the same on each attempt. SNS goes on trying for an hour at most ("Amazon SNS
/// message delivery retries"); what is throttled waits before that. In seconds.
pub(super) const TOLERANCE: u64 = 24 * 3_600;
const SENT: Timestamp<'static> = Timestamp {
    place: Place::Json("/Timestamp"),
    format: TimestampFormat::Rfc3339,
    tolerance: Some(TOLERANCE),
};

/// The fields of a message that SNS posts, those that count here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Posted<'m> {
    #[serde(borrow, rename = "Type")]
    kind: Text<'m>,
    #[serde(borrow)]
    message_id: Text<'m>,
    #[serde(borrow)]
    topic_arn: Text<'m>,
    #[serde(borrow)]
    message: Text<'m>,
    #[serde(borrow)]
    timestamp: Text<'m>,
    #[serde(borrow)]
    signature_version: Text<'m>,
    #[serde(borrow)]
    signature: Text<'m>,
    #[serde(borrow, rename = "SigningCertURL")]
    certificate: Text<'m>,
    #[serde(borrow)]
    subject: Text<'m>,
    #[serde(borrow)]
    token: Text<'m>,
    #[serde(borrow, rename = "SubscribeURL")]
    subscribe: Text<'m>,
}

/// A text that may be missing.
type Text<'m> = Option<Cow<'m, str>>;

impl<'m> Posted<'m> {
    fn read(request: &Request<'m>) -> Result<Self, Rejection> {
        serde_json::from_slice(request.body)
            .map_err(|_| Rejection::MalformedField("/".to_owned(), "not a message of SNS"))
    }

    /// Names and values, each followed by a line feed, in the order of the names. The message alone may have lines of its
    /// own: if more fields could, somebody could have the end of his own message read as other fields.
    fn signed(&self) -> Result<String, Rejection> {
        let kind = needed(self.kind.as_deref(), "/Type")?;
        if !KINDS.contains(&kind) {
            return Err(Rejection::MalformedField("/Type".to_owned(), "no kind of message that SNS has"));
        }
        needed(self.message_id.as_deref(), "/MessageId")?;
        needed(self.timestamp.as_deref(), "/Timestamp")?;
        let only_if = |wanted: bool, value| if wanted { value } else { None };
        let notification = kind == NOTIFICATION;
        let fields = [
            ("Message", self.message.as_deref()),
            ("MessageId", self.message_id.as_deref()),
            ("Subject", only_if(notification, self.subject.as_deref())),
            ("SubscribeURL", only_if(!notification, self.subscribe.as_deref())),
            ("Timestamp", self.timestamp.as_deref()),
            ("Token", only_if(!notification, self.token.as_deref())),
            ("TopicArn", self.topic_arn.as_deref()),
            ("Type", Some(kind)),
        ];
        let mut text = String::new();
        for (name, value) in fields {
            let Some(value) = value else { continue };
            if name != "Message" && value.contains(['\n', '\r']) {
                return Err(Rejection::MalformedField(format!("/{name}"), "it has a line break"));
            }
            text.extend([name, "\n", value, "\n"]);
        }
        Ok(text)
    }
}

fn needed<'f>(field: Option<&'f str>, pointer: &str) -> Result<&'f str, Rejection> {
    field.ok_or_else(|| Rejection::MissingField(pointer.to_owned()))
}

/// What is left of a message that is believed as soon as its signature is.
struct Checked {
    signed: String,
    hash: CertificateHash,
    signature: Vec<u8>,
    certificate: Url,
}

/// The secrets are the ARNs of the topics that may send: a certificate of AWS alone says nothing about whose topic it is.
fn check(secrets: &[Secret], request: &Request<'_>) -> Result<Checked, Rejection> {
    let message = Posted::read(request)?;
    let hash = match needed(message.signature_version.as_deref(), "/SignatureVersion")? {
        "1" => CertificateHash::Sha1,
        "2" => CertificateHash::Sha256,
        _ => return Err(Rejection::MalformedField("/SignatureVersion".to_owned(), "neither 1 nor 2")),
    };
    let signature = LENIENT
        .decode(needed(message.signature.as_deref(), "/Signature")?)
        .map_err(|_| Rejection::MalformedField("/Signature".to_owned(), "not base64"))?;
    let signed = message.signed()?;
    SENT.check(message.timestamp.as_deref().unwrap_or_default(), request)?;
    let topic = needed(message.topic_arn.as_deref(), "/TopicArn")?;
    let is_topic = |secret: &Secret| bool::from(secret.reveal().as_bytes().ct_eq(topic.as_bytes()));
    if secrets.is_empty() {
        return Err(Rejection::NoSecret);
    }
    if !secrets.iter().any(is_topic) {
        return Err(Rejection::WrongSignature);
    }
    let certificate = Url::parse(needed(message.certificate.as_deref(), "/SigningCertURL")?).ok();
    let certificate = certificate
        .filter(is_certificate)
        .ok_or(Rejection::Certificate("it is not where SNS has certificates"))?;
    Ok(Checked { signed, hash, signature, certificate })
}

/// The URL of the certificate.
pub(super) fn certificate(secrets: &[Secret], request: &Request<'_>) -> Result<Url, Rejection> {
    check(secrets, request).map(|checked| checked.certificate)
}

pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let Checked { signed, hash, signature, .. } = check(secrets, request)?;
    let pem = request.fetched.ok_or(Rejection::Certificate("it was not fetched"))?;
    // A page of the host that somebody has got a certificate into is none.
    if !pem.starts_with(b"-----BEGIN CERTIFICATE-----") {
        return Err(Rejection::Certificate("it does not read"));
    }
    match verify_by_certificate(pem, hash, signed.as_bytes(), &signature) {
        Some(true) => Ok(()),
        Some(false) => Err(Rejection::WrongSignature),
        None => Err(Rejection::Certificate("it does not read")),
    }
}

/// Whether a URL is of the form that all of SNS' certificates have.
fn is_certificate(url: &Url) -> bool {
    let name = url.path().strip_prefix("/SimpleNotificationService-");
    let is_hash = |hash: &str| {
        (16..=64).contains(&hash.len()) && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_named = name.and_then(|name| name.strip_suffix(".pem")).is_some_and(is_hash);
    is_sns(url) && is_named && url.query().is_none() && url.fragment().is_none()
}

/// Whether a URL is at `sns.<region>.amazonaws.com`, or its Chinese sibling. Whoever could name another host could
/// sign with another key, or have us confirm a subscription anywhere.
pub(crate) fn is_sns(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let Some(rest) = host.strip_prefix("sns.") else { return false };
    let is_at_sns = match rest.strip_suffix(".amazonaws.com.cn") {
        Some(region) => is_region(region) && region.starts_with("cn-"),
        None => rest.strip_suffix(".amazonaws.com").is_some_and(is_region),
    };
    super::is_plain_https(url) && is_at_sns
}

/// Two letters, one or more words, a number: `eu-west-1`, `us-gov-east-1`.
fn is_region(text: &str) -> bool {
    let all = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.as_bytes().iter().all(is);
    let mut parts = text.split('-');
    let (first, last) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    let mut words = parts.peekable();
    first.len() == 2
        && all(first, u8::is_ascii_lowercase)
        && all(last, u8::is_ascii_digit)
        && words.peek().is_some()
        && words.all(|word| all(word, u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::testing;

    #[test]
    fn nothing_is_fetched_for_a_topic_that_the_endpoint_does_not_have() {
        let body = br#"{"Type": "Notification", "MessageId": "x", "TopicArn": "arn:aws:sns:eu-west-1:1:a", "Message": "m",
            "Timestamp": "1970-01-01T00:00:00.000Z", "SignatureVersion": "2", "Signature": "AAAA", "SigningCertURL":
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem"}"#;
        let headers = http::HeaderMap::new();
        let request = testing::request(&headers, body, chrono::DateTime::UNIX_EPOCH);
        let fetched = |secrets: &[&str]| {
            let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
            certificate(&secrets, &request).map(|url| url.host_str().map(str::to_owned))
        };
        let host = Some("sns.eu-west-1.amazonaws.com".to_owned());
        assert_eq!(fetched(&["arn:aws:sns:eu-west-1:1:b", "arn:aws:sns:eu-west-1:1:a"]), Ok(host));
        assert_eq!(fetched(&["arn:aws:sns:eu-west-1:1:b"]), Err(Rejection::WrongSignature));
        assert_eq!(fetched(&[]), Err(Rejection::NoSecret));
    }

    #[test]
    fn certificates_have_one_form_of_url() {
        let is = |text: &str| is_certificate(&Url::parse(text).unwrap());
        let name = "SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem";
        for host in [
            "sns.us-east-1.amazonaws.com",
            "sns.us-gov-west-1.amazonaws.com",
            "sns.ap-southeast-12.amazonaws.com",
            "sns.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(is(&format!("https://{host}/{name}")), "{host}");
        }
        for host in [
            "sns.us-east-1.amazonaws.com.cn",
            "sns.us-1.amazonaws.com",
            "sns.east-1.amazonaws.com",
            "sns.us-east.amazonaws.com",
            "sns.us--1.amazonaws.com",
            "sns.us-east-1-s3.amazonaws.com",
            "sns.my-bucket-x1.amazonaws.com",
            "sns.s3.amazonaws.com",
            "sns.us-east-1.amazonaws.com.example.org",
            "sns.us-east-1.amazonaws.com:8443",
            "us-east-1.amazonaws.com",
        ] {
            assert!(!is(&format!("https://{host}/{name}")), "{host}");
        }
        for path in [
            "cert.pem",
            "SimpleNotificationService-.pem",
            "SimpleNotificationService-01d088a6f77103d.pem",
            "SimpleNotificationService-01D088A6F77103D0FE307C0069E40ED6.pem",
            "x/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem",
            "SimpleNotificationService-01d088a6f77103d0%2ffe307c0069e40ed6.pem",
            "SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem?Action=GetTopicAttributes",
            "?x=/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem",
            "SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem#x",
        ] {
            assert!(!is(&format!("https://sns.us-east-1.amazonaws.com/{path}")), "{path}");
        }
    }
}
