//! `X-Hub-Signature-256`, as GitHub sends it ("Validating webhook deliveries"): the second signature of our deliveries.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use sha2::Sha256;

use crate::secret::Secret;

/// `x-hub-signature-256`.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// The header's value: `sha256=` and the HMAC of the body in hexadecimal. The key is the secret's text as it is
/// shown, `whsec_` included, since that is what libraries of this scheme are given.
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_githubs_documented_example() {
        let signature = sign(&Secret::new("It's a Secret to Everybody"), b"Hello, World!");
        assert_eq!(signature, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }
}
