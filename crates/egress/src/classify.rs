//! What an error on the way out means for the delivery.
//!
//! The message is for the customer: it says what went wrong at their side and holds neither the URL (it may carry
//! secrets) nor an address that a name resolved to (it may be of an internal network).

use std::error::Error;
use std::io;
use std::time::Duration;

use ravenpost_core::delivery::{Failure, FailureKind};
use ravenpost_core::duration;
use rustls::{AlertDescription, CertificateError};

use crate::address::Blocked;
use crate::metered::TooMuch;
use crate::resolve::Refused;
use crate::tls::is_an_authoritys;

/// Longer messages of libraries say nothing more.
const MESSAGE_LIMIT: usize = 200;

pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), ours: false }
}

/// What the operator has to mend.
pub(crate) fn ours(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { ours: true, ..failure(kind, message) }
}

pub(crate) fn blocked(blocked: &Blocked) -> Failure {
    failure(
        FailureKind::BlockedAddress,
        format!("the destination's address is not public: {}", blocked.reason),
    )
}

/// How far an attempt has come, for what is said when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    #[default]
    Name,
    /// A connection to the proxy.
    Proxy,
    /// A connection to the destination, by the proxy if there is one.
    Connect,
    Tls,
    /// The request is on its way, and nothing has come back.
    Waiting,
    /// The response's headers are here.
    Reading,
}

/// The whole request took too long.
pub(crate) fn timed_out(total: Duration, stage: Stage) -> Failure {
    let stage = match stage {
        Stage::Name => "its name had not been resolved",
        Stage::Proxy => "the proxy had not taken the connection",
        Stage::Connect => "the destination had not taken the connection",
        Stage::Tls => "the TLS handshake had not ended",
        Stage::Waiting => "no response had begun",
        Stage::Reading => "the response's body had not ended",
    };
    failure(FailureKind::Timeout, format!("no complete answer within {}: {stage}", duration::format(total)))
}

/// No connection within its own time.
pub(crate) fn connect_timed_out(limit: Duration, stage: Stage) -> Failure {
    let what = match stage {
        Stage::Name => "the name was not resolved",
        Stage::Proxy => "the proxy did not take it",
        Stage::Tls => "the TLS handshake did not end",
        _ => "the destination did not take it",
    };
    let message = format!("no connection within {}: {what}", duration::format(limit));
    Failure { ours: stage == Stage::Proxy, ..failure(FailureKind::Timeout, message) }
}

/// No response began in its own time.
pub(crate) fn first_byte_timed_out(limit: Duration) -> Failure {
    failure(FailureKind::Timeout, format!("no response began within {}", duration::format(limit)))
}

/// A name that gave no address.
pub(crate) fn name(refused: &Refused) -> Failure {
    match refused {
        Refused::NotPublic(address) => blocked(address),
        Refused::NoName => failure(FailureKind::Dns, "the destination's name does not exist"),
        Refused::NoAddress => failure(FailureKind::Dns, "the destination's name has no address"),
        Refused::Unresolved(why) => failure(
            FailureKind::Dns,
            clipped(format!("the destination's name can't be resolved just now: {why}")),
        ),
    }
}

/// The operator's name server has answered nothing.
pub(crate) fn no_name_server() -> Failure {
    ours(FailureKind::Dns, "no name can be resolved just now: the name server does not answer")
}

/// A TCP connection that did not come about.
pub(crate) fn tcp(error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused, nothing listens at this port".to_owned(),
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::TimedOut => "the host does not answer".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to the host".to_owned()
        }
        _ => error.to_string(),
    };
    failure(FailureKind::Connect, clipped(format!("no connection: {why}")))
}

/// A TLS handshake that did not come about.
pub(crate) fn tls(error: &(dyn Error + 'static)) -> Failure {
    let causes = causes(error);
    if let Some(error) = find::<rustls::Error>(&causes) {
        return handshake(error);
    }
    let why = match find::<io::Error>(&causes).map(io::Error::kind) {
        _ if is_too_much(&causes) => "the handshake is too long".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "the destination broke off the handshake".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the destination reset the connection".to_owned(),
        _ => root(&causes),
    };
    failure(FailureKind::Tls, clipped(format!("TLS failed: {why}")))
}

/// The same with the proxy, in words that follow on "the proxy": its troubles are no failure of the destination's.
pub(crate) fn proxy_tls(error: &(dyn Error + 'static)) -> String {
    tls(error).message.replace("the destination's", "its").replace("the destination", "it")
}

fn handshake(error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(error) => failure(
            FailureKind::Certificate,
            clipped(format!("the destination's certificate is not accepted: {}", certificate(error))),
        ),
        rustls::Error::NoCertificatesPresented => {
            failure(FailureKind::Certificate, "the destination has shown no certificate")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate,
        ) => failure(FailureKind::Certificate, "the destination wants a client certificate"),
        rustls::Error::AlertReceived(alert) if ABOUT_CERTIFICATES.contains(alert) => failure(
            FailureKind::Certificate,
            format!("the destination does not accept the client certificate ({alert:?})"),
        ),
        rustls::Error::AlertReceived(alert) => failure(
            FailureKind::Tls,
            format!("TLS failed: the destination refused the handshake ({alert:?})"),
        ),
        rustls::Error::PeerIncompatible(_) => failure(
            FailureKind::Tls,
            clipped(format!(
                "TLS failed: the destination offers no version or cipher that is accepted ({error})"
            )),
        ),
        error => failure(FailureKind::Tls, clipped(format!("TLS failed: {error}"))),
    }
}

/// What servers say of a certificate that was shown to them, or was not.
const ABOUT_CERTIFICATES: [AlertDescription; 9] = [
    AlertDescription::CertificateRequired,
    AlertDescription::NoCertificate,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
];

/// An alert about our certificate among the causes. HTTP/2 keeps of the error its words.
fn alert(causes: &[&(dyn Error + 'static)]) -> Option<rustls::Error> {
    let mut alerts = ABOUT_CERTIFICATES.into_iter().map(rustls::Error::AlertReceived);
    alerts.find(|alert| {
        let words = alert.to_string();
        causes.iter().any(|cause| cause.to_string() == words)
    })
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::UnknownIssuer => "its authority is not known".to_owned(),
        CertificateError::BadSignature => "its signature is not right".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers".to_owned()
        }
        error if is_an_authoritys(error) => "it is an authority's own, and no server's".to_owned(),
        error => error.to_string(),
    }
}

/// What went wrong on a connection that was there.
pub(crate) fn http(error: &hyper::Error) -> Failure {
    let causes = causes(error);
    // TLS 1.3 has a server judge our certificate after we believe the handshake done (RFC 8446, section 4.4.2).
    if let Some(error) = find::<rustls::Error>(&causes).cloned().or_else(|| alert(&causes)) {
        return handshake(&error);
    }
    let protocol = |message: String| failure(FailureKind::Protocol, clipped(message));
    if is_too_much(&causes) {
        return protocol("the destination sends more than a response may be".to_owned());
    }
    if error.is_parse_too_large() {
        return protocol("the response's headers are too large".to_owned());
    }
    if error.is_parse() {
        return protocol(format!("the destination does not speak HTTP: {}", root(&causes)));
    }
    protocol(format!("the destination broke off: {}", root(&causes)))
}

/// Whether a request that has ended so, without the headers of a response, was not taken by its destination. HTTP/2 says so
/// (RFC 9113, sections 6.8 and 8.7). Otherwise a connection that just ends, having served before and silent since, was idle
/// for too long: that is how a server's keep-alive time looks when it is over at the wrong moment.
pub(crate) fn is_untaken(error: &hyper::Error, is_silent: bool) -> bool {
    let causes = causes(error);
    // It was never begun.
    if error.is_canceled() || error.is_closed() {
        return true;
    }
    // An answer that is too long is one.
    if is_too_much(&causes) {
        return false;
    }
    match find::<h2::Error>(&causes) {
        Some(error) if error.is_remote() => {
            error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
        }
        Some(error) => error.is_io(),
        None => is_silent && (error.is_incomplete_message() || find::<io::Error>(&causes).is_some()),
    }
}

/// From the outermost to the innermost.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error)).collect()
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

/// HTTP/2 keeps of the error its words.
fn is_too_much(causes: &[&(dyn Error + 'static)]) -> bool {
    find::<TooMuch>(causes).is_some() || causes.iter().any(|cause| cause.to_string() == TooMuch.to_string())
}

/// The innermost cause says it best, and knows no URL.
fn root(causes: &[&(dyn Error + 'static)]) -> String {
    causes.last().map(ToString::to_string).unwrap_or_default()
}

fn clipped(message: String) -> String {
    if message.len() <= MESSAGE_LIMIT { message } else { message.chars().take(MESSAGE_LIMIT).collect() }
}
