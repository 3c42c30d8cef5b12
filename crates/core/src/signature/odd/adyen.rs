//! Adyen, "Verify HMAC signatures" (standard webhooks): each item of the body carries a signature over eight of its own
//! fields.

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::super::encoding::LENIENT;
use super::super::{Rejection, Request};
use crate::secret::Secret;

/// Most items of one request. Adyen sends one in each.
const MAX_ITEMS: usize = 100;
const SIGNATURE: &str = "/notificationItems/0/NotificationRequestItem/additionalData/hmacSignature";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    notification_items: Vec<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    notification_request_item: Item,
}

/// What is signed, in the order in which it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Item {
    psp_reference: String,
    original_reference: String,
    merchant_account_code: String,
    merchant_reference: String,
    amount: Amount,
    event_code: String,
    success: String,
    additional_data: AdditionalData,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Amount {
    value: Option<serde_json::Number>,
    currency: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AdditionalData {
    hmac_signature: Option<String>,
}

pub(super) fn verify(secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    let malformed = || Rejection::MalformedField("/notificationItems".to_owned(), "not as Adyen sends it");
    let body: Notification = serde_json::from_slice(request.body).map_err(|_| malformed())?;
    if body.notification_items.is_empty() {
        return Err(Rejection::MissingField(SIGNATURE.to_owned()));
    }
    if body.notification_items.len() > MAX_ITEMS {
        return Err(Rejection::MalformedField("/notificationItems".to_owned(), "more than 100 items"));
    }
    // One forged item among good ones would be delivered with them: all have to be right.
    body.notification_items.iter().try_for_each(|envelope| {
        let item = &envelope.notification_request_item;
        let signature = item.additional_data.hmac_signature.as_ref();
        let signature = signature.ok_or_else(|| Rejection::MissingField(SIGNATURE.to_owned()))?;
        let signature = LENIENT
            .decode(signature)
            .map_err(|_| Rejection::MalformedField(SIGNATURE.to_owned(), "not base64"))?;
        match secrets {
            [] => Err(Rejection::NoSecret),
            _ if secrets.iter().any(|secret| signed_by(item, secret, &signature)) => Ok(()),
            _ => Err(Rejection::WrongSignature),
        }
    })
}

fn signed_by(item: &Item, secret: &Secret, signature: &[u8]) -> bool {
    let Ok(key) = hex::decode(secret.reveal()) else { return false };
    let value = item.amount.value.as_ref().map(ToString::to_string).unwrap_or_default();
    let signed = [
        &item.psp_reference,
        &item.original_reference,
        &item.merchant_account_code,
        &item.merchant_reference,
        &value,
        &item.amount.currency,
        &item.event_code,
        &item.success,
    ];
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    for (index, field) in signed.into_iter().enumerate() {
        if index > 0 {
            mac.update(b":");
        }
        mac.update(field.as_bytes());
    }
    mac.verify_slice(signature).is_ok()
}
