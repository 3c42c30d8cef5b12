//! Schemes that no row of the table can describe: each has code, and says why.

mod adyen;
mod contentful;
mod paypal;
pub(crate) mod sns;
mod twilio;

use super::{Rejection, Request};
use crate::secret::Secret;

/// A scheme with code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// Each item of the body carries its own signature over a selection of its fields.
    Adyen,
    /// A list of headers is signed, which a header names.
    Contentful,
    /// An RSA signature by a certificate that the request names.
    PayPal,
    /// The same, over a selection of the body's fields.
    Sns,
    /// What is signed depends on what the body is.
    Twilio,
}

impl Odd {
    /// Checks a request.
    pub fn verify(self, secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
        match self {
            Self::Adyen => adyen::verify(secrets, request),
            Self::Contentful => contentful::verify(secrets, request),
            Self::PayPal => paypal::verify(secrets, request),
            Self::Sns => sns::verify(secrets, request),
            Self::Twilio => twilio::verify(secrets, request),
        }
    }

    /// How far its signed time may lie from ours, in seconds; `None` where nothing limits it.
    pub fn tolerance(self) -> Option<u64> {
        match self {
            Self::Contentful => Some(contentful::TOLERANCE),
            Self::PayPal => Some(paypal::TOLERANCE),
            Self::Sns => Some(sns::TOLERANCE),
            Self::Adyen | Self::Twilio => None,
        }
    }

    /// The certificate that has to be fetched first; a rejection where none would help.
    pub fn to_fetch(self, secrets: &[Secret], request: &Request<'_>) -> Result<Option<url::Url>, Rejection> {
        match self {
            Self::Adyen | Self::Contentful | Self::Twilio => Ok(None),
            Self::PayPal => paypal::certificate(request).map(Some),
            Self::Sns => sns::certificate(secrets, request).map(Some),
        }
    }
}

/// Whether a URL is https at the usual port, without user or password.
fn is_plain_https(url: &url::Url) -> bool {
    url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none()
}
