//! Standard Webhooks 1.0, asymmetric signatures (`v1a`): the key pairs that we sign deliveries with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::secret::Secret;

const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// A private key that is not of the form `whsk_` and 64 bytes in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a private key as it is stored")]
pub struct InvalidKey;

/// The public half: 32 bytes (RFC 8032).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// As Standard Webhooks writes it: `whpk_` and base64.
    pub fn standard_webhooks(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }

    /// The `x` of a JSON Web Key (RFC 8037, section 2).
    pub fn jwk_x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// An Ed25519 key pair. Shows itself to nobody.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The pair of a seed, which must be fresh random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed (RFC 8032)");
        Self { seed, pair }
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey(bytes)
    }

    /// As it is sealed: `whsk_` and, in base64, the seed with the public half behind it.
    pub fn to_secret(&self) -> Secret {
        let bytes = [self.seed, self.verifying_key().0].concat();
        Secret::new(format!("{PRIVATE_PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The inverse of [`SigningKey::to_secret`]. Halves that do not belong together are refused: with a wrong public
    /// half a signature gives the private one away.
    pub fn from_secret(secret: &Secret) -> Result<Self, InvalidKey> {
        let encoded = secret.reveal().strip_prefix(PRIVATE_PREFIX).ok_or(InvalidKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidKey)?;
        let (seed, public) = bytes.split_first_chunk::<32>().ok_or(InvalidKey)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| InvalidKey)?;
        Ok(Self { seed: *seed, pair })
    }

    /// One signature of `webhook-signature`: `v1a,` and base64, over `id.timestamp.body`. The algorithm reads its message
    /// twice, so the body is copied once.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        format!("v1a,{}", STANDARD.encode(self.pair.sign(&message)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key().standard_webhooks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn key() -> SigningKey {
        let mut seed = [0; 32];
        hex::decode_to_slice(SEED, &mut seed).unwrap();
        SigningKey::from_seed(seed)
    }

    #[test]
    fn agrees_with_the_rfc_and_with_our_own_verification() {
        assert_eq!(hex::encode(key().verifying_key().0), PUBLIC);
        let signature = key().sign("msg_1", 1_614_265_330, b"{}");
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let public =
            ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key().verifying_key().0);
        assert!(public.verify(b"msg_1.1614265330.{}", &signature).is_ok());
        assert!(public.verify(b"msg_1.1614265331.{}", &signature).is_err());
    }

    #[test]
    fn reads_back_and_shows_no_secret() {
        let stored = key().to_secret();
        let read = SigningKey::from_secret(&stored).unwrap();
        assert_eq!(read.verifying_key(), key().verifying_key());
        let shown = format!("{read:?}");
        assert!(shown.contains("whpk_") && !shown.contains(&stored.reveal()[5..40]), "{shown}");
    }

    #[test]
    fn halves_of_two_keys_are_refused() {
        let other = SigningKey::from_seed([7; 32]);
        let mixed = [[7; 32], key().verifying_key().0].concat();
        let mixed = Secret::new(format!("whsk_{}", STANDARD.encode(mixed)));
        assert_eq!(SigningKey::from_secret(&mixed).unwrap_err(), InvalidKey);
        let short = Secret::new(format!("whsk_{}", STANDARD.encode([7; 32])));
        assert_eq!(SigningKey::from_secret(&short).unwrap_err(), InvalidKey);
        let unnamed = Secret::new(other.to_secret().reveal().replace("whsk_", "whsec_"));
        assert_eq!(SigningKey::from_secret(&unnamed).unwrap_err(), InvalidKey);
    }
}
