//! What an error of the HTTP client means for the delivery.
//!
//! The message is for the customer: it says what went wrong at their side and holds neither the URL (it may carry
//! secrets) nor an address that a name resolved to (it may be of an internal network).

use std::error::Error;
use std::io;
use std::time::Duration;

use ravenpost_core::delivery::{Failure, FailureKind};
use ravenpost_core::duration;

use crate::address::Blocked;
use crate::resolve::Refused;

/// Longer messages of libraries say nothing more.
const MESSAGE_LIMIT: usize = 200;

pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

pub(crate) fn blocked(blocked: &Blocked) -> Failure {
    failure(
        FailureKind::BlockedAddress,
        format!("the destination's address is not public: {}", blocked.reason),
    )
}

/// The whole request took too long.
pub(crate) fn timed_out(timeout: Duration) -> Failure {
    failure(FailureKind::Timeout, format!("no complete answer within {}", duration::format(timeout)))
}

/// Sorts an error of the HTTP client by its causes.
pub(crate) fn classify(error: &reqwest::Error) -> Failure {
    let causes: Vec<&(dyn Error + 'static)> =
        std::iter::successors(Some(error as _), |error| cause(*error)).collect();
    if let Some(refused) = find::<Refused>(&causes) {
        return match refused {
            Refused::NotPublic(address) => blocked(address),
            Refused::NoAddress => failure(FailureKind::Dns, "the destination's name has no address"),
        };
    }
    let (kind, what) = if find::<rustls::Error>(&causes).is_some() || is_handshake_end(&causes) {
        (FailureKind::Tls, "TLS failed")
    } else if error.is_timeout() && error.is_connect() {
        return failure(FailureKind::Timeout, "no connection came about in time");
    } else if error.is_timeout() {
        return failure(FailureKind::Timeout, "no answer came in time");
    } else if error.is_dns() {
        (FailureKind::Dns, "the destination's name does not resolve")
    } else if error.is_connect() {
        (FailureKind::Connect, "no connection")
    } else if error.is_builder() {
        (FailureKind::InvalidUrl, "no request can be made of this URL and these headers")
    } else {
        (FailureKind::Protocol, "the destination broke off or does not speak HTTP")
    };
    failure(kind, format!("{what}: {}", root(&causes)))
}

/// The next cause. An `io::Error` hides the error that it was made from behind its own `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn find<'a, E: Error + 'static>(causes: &[&'a (dyn Error + 'static)]) -> Option<&'a E> {
    causes.iter().find_map(|cause| cause.downcast_ref())
}

/// The TLS library reports a peer that hangs up during the handshake as a plain `io::Error` with this text.
fn is_handshake_end(causes: &[&(dyn Error + 'static)]) -> bool {
    causes.iter().any(|cause| cause.to_string() == "tls handshake eof")
}

/// The innermost cause says it best, and knows no URL.
fn root(causes: &[&(dyn Error + 'static)]) -> String {
    let text = causes.last().map(ToString::to_string).unwrap_or_default();
    text.chars().take(MESSAGE_LIMIT).collect()
}
