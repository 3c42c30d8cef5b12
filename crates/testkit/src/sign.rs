//! Signing as a producer does and verifying as a destination does, each with an implementation that isn't ours.

use anyhow::{Context as _, Result, ensure};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;
use sha2::Sha256;
use standardwebhooks::Webhook;

use crate::clock;

/// The headers of a Standard Webhooks request, signed now. `secret` is `whsec_…`.
pub fn standard_webhooks(secret: &str, id: &str, body: &[u8]) -> Result<Vec<(String, String)>> {
    standard_webhooks_at(secret, id, clock::now().as_secs().cast_signed(), body)
}

/// The headers of a Standard Webhooks request, signed at a Unix time in seconds.
pub fn standard_webhooks_at(secret: &str, id: &str, at: i64, body: &[u8]) -> Result<Vec<(String, String)>> {
    let signature = Webhook::new(secret)?.sign(id, at, body)?;
    Ok(vec![
        ("webhook-id".to_owned(), id.to_owned()),
        ("webhook-timestamp".to_owned(), at.to_string()),
        ("webhook-signature".to_owned(), signature),
    ])
}

/// Verifies the Standard Webhooks headers of a request that was received.
pub fn verify_standard_webhooks(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<()> {
    Ok(Webhook::new(secret)?.verify(body, headers)?)
}

/// Verifies the asymmetric signatures of a request that was received: one of them has to be by one of the keys of a JSON
/// Web Key Set (RFC 7517), as a receiver does that knows no key but these. Gives the `kid`s of all that fit.
pub fn verify_with_key_set(keys: &Value, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>> {
    let text = |name: &str| {
        let value = headers.get(name).with_context(|| format!("no {name}"))?;
        Ok::<_, anyhow::Error>(value.to_str()?.to_owned())
    };
    let signed =
        [format!("{}.{}.", text("webhook-id")?, text("webhook-timestamp")?).as_bytes(), body].concat();
    let mut fitting = Vec::new();
    for key in keys["keys"].as_array().context("no `keys`")? {
        ensure!(key["kty"] == "OKP" && key["crv"] == "Ed25519", "no Ed25519 key: {key}");
        let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().context("no `x`")?)?;
        let public = UnparsedPublicKey::new(&ED25519, public);
        for signature in text("webhook-signature")?.split(' ') {
            let Some(signature) = signature.strip_prefix("v1a,") else { continue };
            if public.verify(&signed, &STANDARD.decode(signature)?).is_ok() {
                fitting.push(key["kid"].as_str().context("no `kid`")?.to_owned());
            }
        }
    }
    ensure!(!fitting.is_empty(), "no signature by one of {keys} in {:?}", text("webhook-signature"));
    Ok(fitting)
}

/// GitHub's `X-Hub-Signature-256`: `sha256=` and the HMAC in hexadecimal. `secret` is used as it is written.
pub fn github(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(secret.as_bytes(), body)))
}

/// Verifies an `X-Hub-Signature-256` of a request that was received, with the key's own bytes.
pub fn verify_github(key: &[u8], signature: &str, body: &[u8]) -> Result<()> {
    let expected = format!("sha256={}", hex::encode(hmac_sha256(key, body)));
    ensure!(signature == expected, "X-Hub-Signature-256 is {signature}, not {expected}");
    Ok(())
}

/// HMAC-SHA-256.
pub fn hmac_sha256(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn githubs_documented_example() {
        // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
        assert_eq!(
            github("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
