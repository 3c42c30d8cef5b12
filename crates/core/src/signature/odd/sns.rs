//! AWS SNS, "Verifying the signatures of Amazon SNS messages": an RSA signature over a selection of the body's fields, by a
//! certificate that AWS serves.

use std::borrow::Cow;

use base64::Engine as _;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use url::Url;

use super::super::encoding::LENIENT;
use super::super::public_key::{CertificateHash, verify_by_certificate};
use super::super::{Rejection, Request};
use crate::secret::Secret;

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

    /// Names and values, each followed by a line feed, in the order of the names.
    fn signed(&self) -> String {
        let notification = self.kind.as_deref() == Some("Notification");
        let only_if = |wanted: bool, value| if wanted { value } else { None };
        let fields = [
            ("Message", self.message.as_deref()),
            ("MessageId", self.message_id.as_deref()),
            ("Subject", only_if(notification, self.subject.as_deref())),
            ("SubscribeURL", only_if(!notification, self.subscribe.as_deref())),
            ("Timestamp", self.timestamp.as_deref()),
            ("Token", only_if(!notification, self.token.as_deref())),
            ("TopicArn", self.topic_arn.as_deref()),
            ("Type", self.kind.as_deref()),
        ];
        let mut text = String::new();
        for (name, value) in fields {
            if let Some(value) = value {
                text.extend([name, "\n", value, "\n"]);
            }
        }
        text
    }
}

fn needed<'f>(field: Option<&'f str>, pointer: &str) -> Result<&'f str, Rejection> {
    field.ok_or_else(|| Rejection::MissingField(pointer.to_owned()))
}

/// The URL of the certificate.
pub(super) fn certificate(request: &Request<'_>) -> Result<Url, Rejection> {
    let message = Posted::read(request)?;
    let url = Url::parse(needed(message.certificate.as_deref(), "/SigningCertURL")?).ok().filter(is_sns);
    let url = url.filter(|url| {
        std::path::Path::new(url.path()).extension().is_some_and(|extension| extension == "pem")
    });
    url.ok_or(Rejection::Certificate("it is not at a host of SNS"))
}

/// Whether a URL is at `sns.<region>.amazonaws.com`, or its Chinese sibling. Whoever could name another host could
/// sign with another key, or have us confirm a subscription anywhere.
pub(crate) fn is_sns(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let region = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
    });
    let is_region = |region: &str| {
        !region.is_empty() && region.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    super::is_plain_https(url) && region.is_some_and(is_region)
}

/// The secrets are the ARNs of the topics that may send: a certificate of AWS alone says nothing about whose topic it is.
pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let message = Posted::read(request)?;
    let hash = match needed(message.signature_version.as_deref(), "/SignatureVersion")? {
        "1" => CertificateHash::Sha1,
        "2" => CertificateHash::Sha256,
        _ => return Err(Rejection::MalformedField("/SignatureVersion".to_owned(), "neither 1 nor 2")),
    };
    let signature = LENIENT
        .decode(needed(message.signature.as_deref(), "/Signature")?)
        .map_err(|_| Rejection::MalformedField("/Signature".to_owned(), "not base64"))?;
    let topic = needed(message.topic_arn.as_deref(), "/TopicArn")?;
    certificate(request)?;
    let pem = request.fetched.ok_or(Rejection::Certificate("it was not fetched"))?;
    match verify_by_certificate(pem, hash, message.signed().as_bytes(), &signature) {
        Some(true) => {}
        Some(false) => return Err(Rejection::WrongSignature),
        None => return Err(Rejection::Certificate("it does not read")),
    }
    let is_topic = |secret: &Secret| bool::from(secret.reveal().as_bytes().ct_eq(topic.as_bytes()));
    match secrets {
        [] => Err(Rejection::NoSecret),
        _ if secrets.iter().any(is_topic) => Ok(()),
        _ => Err(Rejection::WrongSignature),
    }
}
