//! What providers ask of a URL before they send events there, and what is answered.
//!
//! Pure: ingress carries the answers out. A handshake is no event. Those that a provider signs are answered only once
//! the signature is verified; the others give away nothing that the asker does not have.

mod answers;

use http::Method;
use url::Url;

use crate::endpoint::Verification;
use crate::secret::Secret;
use crate::signature::{Rejection, Request, verify};

/// What a provider asks. Part of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Nothing.
    None,
    /// That the URL answers a `HEAD`.
    Head,
    /// A signed POST that says what it is; the answer is the text of a field.
    EchoChallenge {
        /// What it says.
        when: Is,
        /// The field to answer with (RFC 6901 pointer).
        challenge: &'static str,
    },
    /// A signed POST with a header, whose value is answered as a field of a JSON object.
    EchoSignedHeader {
        /// The header.
        header: &'static str,
        /// The field of the answer.
        field: &'static str,
    },
    /// An unsigned GET with a header, whose value is answered as a field of a JSON object.
    EchoHeader {
        /// The header.
        header: &'static str,
        /// The field of the answer.
        field: &'static str,
    },
    /// An unsigned GET with a parameter, whose value is the answer.
    EchoQuery {
        /// The parameter.
        parameter: &'static str,
    },
    /// Meta's verification request: an unsigned GET with a token that only who knows the URL can know.
    MetaSubscription,
    /// X' challenge-response check: an unsigned GET; the answer is the HMAC of a token.
    Crc,
    /// Zoom's `endpoint.url_validation`: a signed POST; the answer is the HMAC of a token.
    ZoomValidation,
    /// Discord's PING: a signed POST.
    DiscordPing,
    /// Xero's intent to receive: a POST without events, answered 200 or 401 by its signature. Xero takes nothing but those
    /// two, with nothing in them.
    IntentToReceive,
    /// SNS' subscription: a signed POST with a URL to fetch.
    SnsConfirmation,
    /// WooCommerce's ping: an unsigned POST whose form has nothing but a number in this field. It has to be answered 200.
    FormPing {
        /// The field.
        field: &'static str,
    },
    /// An unsigned POST with the secret of what follows in a header, which is answered.
    SecretInHeader {
        /// The header.
        header: &'static str,
    },
    /// An unsigned POST with the secret of what follows in its body.
    SecretInBody {
        /// The field (RFC 6901 pointer).
        field: &'static str,
    },
}

impl Handshake {
    /// Refuses a body whose signature the handshake gives to whoever asks: X' events are objects, and
    /// what [`Handshake::Crc`] signs never begins like one.
    pub(crate) fn check_body(self, body: &[u8]) -> Result<(), Rejection> {
        if self != Self::Crc || body.trim_ascii_start().starts_with(b"{") {
            return Ok(());
        }
        Err(Rejection::MalformedField("/".to_owned(), "not a JSON object"))
    }
}

/// The longest body of a handshake, in bytes: what is longer is an event, and is not searched for one.
const LONGEST: usize = 64 * 1_024;

/// What a request says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// A field (RFC 6901 pointer) has this value.
    Json(&'static str, &'static str),
    /// A header has this value.
    Header(&'static str, &'static str),
}

/// What to do about a request that is a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answer so; it is no event.
    Answer(Answer),
    /// Keep this as the endpoint's secret if it has none, then answer so; without an answer it is an event, too, since
    /// a person has to see what it says.
    Keep(Secret, Option<Answer>),
    /// Fetch this URL, then answer 200 with nothing. Its host has been checked.
    Confirm(Url),
}

/// An answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// A header that belongs to it, `content-type` mostly.
    pub header: Option<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Handshake {
    /// What it is, in words, for documents; `None` when there is nothing.
    pub fn describe(self) -> Option<String> {
        Some(match self {
            Self::None => return None,
            Self::Head => "`HEAD` is answered 200".to_owned(),
            Self::EchoChallenge { when: Is::Json(name, value) | Is::Header(name, value), challenge } => {
                format!("signed POST with `{name}` = `{value}`: its `{challenge}` is answered")
            }
            Self::EchoSignedHeader { header, field } => {
                format!("signed POST with `{header}`: it is answered as `{field}`")
            }
            Self::EchoHeader { header, field } => format!("GET with `{header}`: it is answered as `{field}`"),
            Self::EchoQuery { parameter } => format!("GET with `?{parameter}=`: it is answered"),
            Self::MetaSubscription => "GET with `hub.challenge`: it is answered".to_owned(),
            Self::Crc => "GET with `crc_token`: its HMAC is answered".to_owned(),
            Self::ZoomValidation => {
                "signed `endpoint.url_validation`: its token's HMAC is answered".to_owned()
            }
            Self::DiscordPing => "signed PING: answered".to_owned(),
            Self::IntentToReceive => "intent to receive: answered 200 or 401 by its signature".to_owned(),
            Self::SnsConfirmation => {
                "signed `SubscriptionConfirmation`: its `SubscribeURL` is fetched".to_owned()
            }
            Self::FormPing { field } => format!("unsigned ping with a number as `{field}`: answered 200"),
            Self::SecretInHeader { header } => {
                format!("`{header}` is kept as the secret while there is none, and answered")
            }
            Self::SecretInBody { field } => {
                format!("`{field}` of an unsigned POST is kept as the secret while there is none")
            }
        })
    }

    /// Whether what is refused has to be answered without a word, too.
    pub fn wants_empty_answers(self) -> bool {
        self == Self::IntentToReceive
    }

    /// Whether it comes by this method; POST always may.
    pub fn allows(self, method: &Method) -> bool {
        match self {
            Self::Head => method == Method::HEAD,
            Self::EchoHeader { .. } | Self::EchoQuery { .. } | Self::MetaSubscription | Self::Crc => {
                method == Method::GET
            }
            _ => false,
        }
    }
}

/// The handshake that an endpoint's producer has, if any.
pub fn of(verification: &Verification) -> Handshake {
    match verification {
        Verification::Provider { provider } => provider.profile().handshake,
        Verification::All { of: members } => {
            members.iter().map(of).find(|handshake| *handshake != Handshake::None).unwrap_or(Handshake::None)
        }
        _ => Handshake::None,
    }
}

/// What is asked without a signature. `None` when it is no handshake: a request that is no POST is then not allowed, and a
/// POST goes on to be verified.
pub fn unsigned(verification: &Verification, secrets: &[Secret], request: &Request<'_>) -> Option<Step> {
    let handshake = of(verification);
    if handshake == Handshake::None || request.body.len() > LONGEST || !may_ask(verification, request) {
        return None;
    }
    if request.method == Method::POST {
        return match handshake {
            Handshake::FormPing { field } => answers::form_ping(field, request).map(Step::Answer),
            Handshake::SecretInHeader { header } => answers::secret_in_header(header, secrets, request),
            Handshake::SecretInBody { field } => answers::secret_in_body(field, secrets, request),
            _ => None,
        };
    }
    handshake.allows(request.method).then_some(())?;
    let answer = match handshake {
        Handshake::Head => Some(Answer::empty(200)),
        Handshake::EchoHeader { header, field } => answers::echo_header(header, field, request),
        Handshake::EchoQuery { parameter } => answers::echo_query(parameter, request),
        Handshake::MetaSubscription => answers::meta_subscription(request),
        Handshake::Crc => answers::crc(secrets, request),
        _ => None,
    };
    answer.map(Step::Answer)
}

/// Whether what is demanded beside a secret holds, such as the sender's address.
fn may_ask(verification: &Verification, request: &Request<'_>) -> bool {
    let Verification::All { of: members } = verification else { return true };
    let mut others = members.iter().filter(|member| !member.needs_secret());
    others.all(|member| verify(member, &[], request).is_ok())
}

/// What is asked with a signature, which has been verified. `None` when it is an event.
pub fn signed(verification: &Verification, secrets: &[Secret], request: &Request<'_>) -> Option<Step> {
    if request.body.len() > LONGEST {
        return None;
    }
    let answer = match of(verification) {
        Handshake::EchoChallenge { when, challenge } => answers::echo_challenge(when, challenge, request),
        Handshake::EchoSignedHeader { header, field } => answers::echo_header(header, field, request),
        Handshake::ZoomValidation => answers::zoom_validation(verification, secrets, request),
        Handshake::DiscordPing => answers::discord_ping(request),
        Handshake::IntentToReceive => answers::intent_to_receive(request),
        Handshake::SnsConfirmation => return answers::sns_confirmation(request).map(Step::Confirm),
        _ => None,
    };
    answer.map(Step::Answer)
}

impl Answer {
    /// A status alone.
    pub const fn empty(status: u16) -> Self {
        Self { status, header: None, body: String::new() }
    }

    fn text(body: String) -> Self {
        Self { status: 200, header: Some(("content-type", "text/plain".to_owned())), body }
    }

    fn json(body: &serde_json::Value) -> Self {
        Self {
            status: 200,
            header: Some(("content-type", "application/json".to_owned())),
            body: body.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
