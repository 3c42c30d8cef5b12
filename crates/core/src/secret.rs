//! Secrets at rest: sealed with AES-256-GCM under a master key that can rotate.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A secret in the clear. It shows itself to nobody who does not ask by name.
#[derive(Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new signing secret of Standard Webhooks' form: `whsec_` and 32 random bytes in base64.
    pub fn standard_webhooks(random: [u8; 32]) -> Self {
        Self(format!("whsec_{}", STANDARD.encode(random)))
    }

    /// A new secret that is used as the text it is: 32 random bytes in hexadecimal.
    pub fn text(random: [u8; 32]) -> Self {
        Self(hex::encode(random))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// For fields that are written and never read: `#[serde(skip_serializing_if = "always", serialize_with = "nothing")]`
/// leaves them out. Plain `skip_serializing` would leave them out of the API's document as well.
pub(crate) mod write_only {
    use serde::Serializer;

    /// Left out, whatever it holds.
    pub(crate) fn always<T>(_: &T) -> bool {
        true
    }

    /// Never called; a secret does not serialise.
    pub(crate) fn nothing<T, S: Serializer>(_: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

/// Why master keys do not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected id:base64 of 32 bytes, several separated by commas, the first one seals; such as k1:$(openssl rand -base64 32)"
)]
pub struct InvalidKeyring;

/// A sealed secret that does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// The master key that sealed it is not among ours.
    #[error("sealed under master key `{0}`, which is not configured")]
    UnknownKey(String),
    /// It was altered, moved to another owner, or sealed under another key of the same id.
    #[error("the sealed secret is damaged or belongs elsewhere")]
    Damaged,
}

/// The master keys: the first one seals, each opens what it sealed.
#[derive(Clone)]
pub struct Keyring {
    sealing: String,
    keys: BTreeMap<String, Aes256Gcm>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({:?})", self.keys.keys().collect::<Vec<_>>())
    }
}

impl FromStr for Keyring {
    type Err = InvalidKeyring;

    fn from_str(text: &str) -> Result<Self, InvalidKeyring> {
        let mut keys = BTreeMap::new();
        let mut sealing = None;
        for entry in text.split(',').map(str::trim) {
            let (id, key) = entry.split_once(':').ok_or(InvalidKeyring)?;
            let key = STANDARD.decode(key).map_err(|_| InvalidKeyring)?;
            let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| InvalidKeyring)?;
            let well_named =
                !id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !well_named || keys.insert(id.to_owned(), cipher).is_some() {
                return Err(InvalidKeyring);
            }
            sealing.get_or_insert_with(|| id.to_owned());
        }
        Ok(Self { sealing: sealing.ok_or(InvalidKeyring)?, keys })
    }
}

const NONCE_LENGTH: usize = 12;

impl Keyring {
    /// Seals `secret` for `owner` (the id of the row that will hold it), so that it opens nowhere else.
    ///
    /// Layout: length of the key's id, the key's id, 12 bytes nonce, ciphertext and tag. `random` must be fresh.
    pub fn seal(&self, secret: &Secret, owner: uuid::Uuid, random: [u8; NONCE_LENGTH]) -> Vec<u8> {
        let payload = Payload { msg: secret.reveal().as_bytes(), aad: owner.as_bytes() };
        let sealed = self.keys[&self.sealing]
            .encrypt(&Nonce::from(random), payload)
            .expect("AES-GCM seals anything shorter than 64 GiB");
        let id = self.sealing.as_bytes();
        let id_length = u8::try_from(id.len()).expect("ids are 32 bytes at most");
        [&[id_length], id, random.as_slice(), sealed.as_slice()].concat()
    }

    /// Opens what was sealed for `owner`.
    pub fn open(&self, sealed: &[u8], owner: uuid::Uuid) -> Result<Secret, Unsealable> {
        let (id_length, rest) = sealed.split_first().ok_or(Unsealable::Damaged)?;
        let (id, rest) = rest.split_at_checked(usize::from(*id_length)).ok_or(Unsealable::Damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LENGTH>().ok_or(Unsealable::Damaged)?;
        let id = String::from_utf8_lossy(id).into_owned();
        let cipher = self.keys.get(&id).ok_or(Unsealable::UnknownKey(id))?;
        let payload = Payload { msg: ciphertext, aad: owner.as_bytes() };
        let opened = cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| Unsealable::Damaged)?;
        String::from_utf8(opened).map(Secret).map_err(|_| Unsealable::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn keyring(text: &str) -> Keyring {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    #[test]
    fn opens_what_it_sealed_for_the_same_owner_only() {
        let keys = keyring(&format!("k1:{}", key(1)));
        let sealed = keys.seal(&Secret::new("hush"), Uuid::from_u128(1), [3; 12]);
        assert_eq!(keys.open(&sealed, Uuid::from_u128(1)).unwrap().reveal(), "hush");
        assert_eq!(keys.open(&sealed, Uuid::from_u128(2)), Err(Unsealable::Damaged));
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(keys.open(&altered, Uuid::from_u128(1)).is_err());
            assert!(keys.open(&sealed[..index], Uuid::from_u128(1)).is_err());
        }
    }

    #[test]
    fn a_rotated_keyring_opens_the_old_and_seals_with_the_new() {
        let old = keyring(&format!("k1:{}", key(1)));
        let new = keyring(&format!("k2:{},k1:{}", key(2), key(1)));
        let owner = Uuid::from_u128(1);
        assert_eq!(new.open(&old.seal(&Secret::new("a"), owner, [0; 12]), owner).unwrap().reveal(), "a");
        let resealed = new.seal(&Secret::new("b"), owner, [1; 12]);
        assert_eq!(old.open(&resealed, owner), Err(Unsealable::UnknownKey("k2".to_owned())));
    }

    #[test]
    fn refuses_keys_that_are_none() {
        let short = format!("k1:{}", STANDARD.encode([1; 16]));
        let twice = format!("k1:{},k1:{}", key(1), key(2));
        for text in
            ["", "k1", "k1:", "k1:AAAA", &short, &twice, &format!(":{}", key(1)), &format!("k1:{},", key(1))]
        {
            assert!(text.parse::<Keyring>().is_err(), "{text}");
        }
        let shown = format!("{:?} {:?}", keyring(&format!("k1:{}", key(1))), Secret::new("hush"));
        assert_eq!(shown, "Keyring([\"k1\"]) Secret(…)");
    }
}
