//! The answers, one by one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use url::Url;

use super::{Answer, Is, Step};
use crate::endpoint::Verification;
use crate::secret::Secret;
use crate::signature::json::text_at;
use crate::signature::odd::sns;
use crate::signature::request::{Place, Request};
use crate::signature::verify;

/// The longest thing that is echoed, in bytes: longer than any provider's challenge.
const MAX_ECHO: usize = 1_024;
/// How long a secret that a handshake brings may be, in bytes.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

/// Slack, "Using the Events API over HTTP" (URL verification handshake); Twitch, "Responding to a challenge request".
pub(super) fn echo_challenge(when: Is, challenge: &str, request: &Request<'_>) -> Option<Answer> {
    let is = match when {
        Is::Json(pointer, value) => text_at(request.body, pointer).as_deref() == Some(value),
        Is::Header(name, value) => request.headers.get(name).is_some_and(|found| found == value),
    };
    is.then_some(())?;
    text_at(request.body, challenge).and_then(echo)
}

/// Okta, "Event hooks" (one-time verification request); Front, "Application webhooks" (challenge).
pub(super) fn echo_header(header: &str, field: &str, request: &Request<'_>) -> Option<Answer> {
    let value = request.headers.get(header)?.to_str().ok()?;
    (value.len() <= MAX_ECHO).then(|| Answer::json(&json!({ field: value })))
}

/// Dropbox, "Webhooks" (verification request).
pub(super) fn echo_query(parameter: &str, request: &Request<'_>) -> Option<Answer> {
    query(parameter, request).and_then(echo)
}

/// Meta, "Webhooks, Getting Started" (verification requests). The verify token is the token of the endpoint's URL, so that only
/// who knows the URL can subscribe it.
pub(super) fn meta_subscription(request: &Request<'_>) -> Option<Answer> {
    (query("hub.mode", request)? == "subscribe").then_some(())?;
    let path = request.url.path_and_query.split('?').next()?;
    let (_, token) = path.rsplit_once('/')?;
    (query("hub.verify_token", request)? == token).then_some(())?;
    query("hub.challenge", request).and_then(echo)
}

/// X, "Challenge-Response Checks". The answer is a signature of what anybody may ask for, so nothing is signed that could
/// be the body of an event.
pub(super) fn crc(secrets: &[Secret], request: &Request<'_>) -> Option<Answer> {
    let token = query("crc_token", request).filter(|token| is_opaque(token))?;
    let response = STANDARD.encode(hmac_sha256(secrets.first()?, token.as_bytes()));
    Some(Answer::json(&json!({ "response_token": format!("sha256={response}") })))
}

/// Zoom, "Using webhooks" (validate your webhook endpoint). Answered with the secret that the request is signed with; never
/// over what could be a signed string of Zoom's.
pub(super) fn zoom_validation(
    verification: &Verification,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Option<Answer> {
    (text_at(request.body, "/event")? == "endpoint.url_validation").then_some(())?;
    let token = text_at(request.body, "/payload/plainToken").filter(|token| is_opaque(token))?;
    let signer =
        secrets.iter().find(|secret| verify(verification, std::slice::from_ref(*secret), request).is_ok())?;
    let encrypted = hex::encode(hmac_sha256(signer, token.as_bytes()));
    Some(Answer::json(&json!({ "plainToken": token, "encryptedToken": encrypted })))
}

/// Discord, "Webhook Events" (PING): 204, with a content type although there is no content.
pub(super) fn discord_ping(request: &Request<'_>) -> Option<Answer> {
    (text_at(request.body, "/type")? == "0").then(|| Answer {
        header: Some(("content-type", "application/json".to_owned())),
        ..Answer::empty(204)
    })
}

/// Xero, "Configuring your server" (intent to receive): 200 with nothing in it.
pub(super) fn intent_to_receive(request: &Request<'_>) -> Option<Answer> {
    #[derive(serde::Deserialize)]
    struct Body {
        events: Vec<serde::de::IgnoredAny>,
    }
    let body: Body = serde_json::from_slice(request.body).ok()?;
    body.events.is_empty().then(|| Answer::empty(200))
}

/// WooCommerce, `WC_Webhook::deliver_ping`: sent when a webhook is made active, `webhook_id=<n>` and no signature.
pub(super) fn form_ping(field: &str, request: &Request<'_>) -> Option<Answer> {
    let (name, number) = std::str::from_utf8(request.body).ok()?.split_once('=')?;
    let is_number = (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (name == field && is_number).then(|| Answer::empty(200))
}

/// AWS SNS, "Confirming the subscription".
pub(super) fn sns_confirmation(request: &Request<'_>) -> Option<Url> {
    (text_at(request.body, "/Type")? == "SubscriptionConfirmation").then_some(())?;
    Url::parse(&text_at(request.body, "/SubscribeURL")?).ok().filter(sns::is_sns)
}

/// Asana, "Webhooks" (the webhook handshake). Answered while there is no secret, and to the one that is kept: another one
/// would sign events that can't be verified.
pub(super) fn secret_in_header(
    header: &'static str,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Option<Step> {
    let secret = Secret::new(request.headers.get(header)?.to_str().ok()?);
    let known = secrets.iter().any(|known| hmac_sha256(known, b"same") == hmac_sha256(&secret, b"same"));
    let plausible = SECRET_LENGTH.contains(&secret.reveal().len());
    let answer =
        Answer { status: 200, header: Some((header, secret.reveal().to_owned())), body: String::new() };
    match (secrets.is_empty() && plausible, known) {
        (_, true) => Some(Step::Answer(answer)),
        (true, false) => Some(Step::Keep(secret, Some(answer))),
        (false, false) => None,
    }
}

/// Notion, "Webhooks" (verification token). Only while the endpoint has no secret: later on it is no handshake.
pub(super) fn secret_in_body(field: &str, secrets: &[Secret], request: &Request<'_>) -> Option<Step> {
    secrets.is_empty().then_some(())?;
    let secret = text_at(request.body, field)?;
    SECRET_LENGTH.contains(&secret.len()).then(|| Step::Keep(Secret::new(secret), None))
}

fn echo(text: String) -> Option<Answer> {
    (text.len() <= MAX_ECHO).then(|| Answer::text(text))
}

fn query(name: &str, request: &Request<'_>) -> Option<String> {
    Place::Query(name).read(request).ok().map(std::borrow::Cow::into_owned)
}

/// Letters, digits and what base64 has besides: no JSON object, no colon.
fn is_opaque(token: &str) -> bool {
    (1..=MAX_ECHO).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte))
}

fn hmac_sha256(secret: &Secret, message: &[u8]) -> [u8; 32] {
    let key = secret.reveal().as_bytes();
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}
