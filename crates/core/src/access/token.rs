//! Credentials of our own: API keys, and the tokens of invitations. What is stored of either is a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// An API key: `rvp_<prefix>_<secret>`. The prefix finds its row, the SHA-256 of the whole key proves it.
#[derive(Clone)]
pub struct ApiKey {
    prefix: String,
    text: String,
}

impl ApiKey {
    /// What every key begins with; no access token does.
    pub const START: &str = "rvp_";

    /// A new key from random bytes: 8 for the prefix, 32 for the secret.
    pub fn new(random: [u8; 40]) -> Self {
        let prefix = hex::encode(&random[..8]);
        let secret = hex::encode(&random[8..]);
        Self { text: format!("{}{prefix}_{secret}", Self::START), prefix }
    }

    /// Reads a key as a caller presents it; `None` when it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(Self::START)?.split_once('_')?;
        let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let well_formed = prefix.len() == 16 && secret.len() == 64 && is_hex(prefix) && is_hex(secret);
        well_formed.then(|| Self { prefix: prefix.to_owned(), text: text.to_owned() })
    }

    /// What finds the key's row. Not secret.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// Whether this key is the one whose hash was stored; in constant time.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.hash().ct_eq(stored).into()
    }

    /// The whole key, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({}{}_…)", Self::START, self.prefix)
    }
}

/// What an invited person shows: `rvi_` and 32 random bytes in base64url. Its SHA-256 finds the invitation.
#[derive(Clone)]
pub struct InvitationToken(String);

impl InvitationToken {
    const START: &str = "rvi_";

    /// A new token from random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(format!("{}{}", Self::START, URL_SAFE_NO_PAD.encode(random)))
    }

    /// Reads a token as a person presents it; `None` when it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(Self::START)?).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The whole token, for the mail.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for InvitationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InvitationToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_proves_itself() {
        let key = ApiKey::new([7; 40]);
        let presented = ApiKey::parse(key.reveal()).unwrap();
        assert_eq!(presented.prefix(), "0707070707070707");
        assert!(presented.matches(&key.hash()));
        assert!(!ApiKey::new([8; 40]).matches(&key.hash()));
        assert!(!format!("{key:?}").contains("07_07"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "rvp_", "rvp_07_07", "sk_0707070707070707_00", "rvp_070707070707070g_00"] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_token_reads_back_and_shows_itself_to_nobody() {
        let token = InvitationToken::new([7; 32]);
        assert_eq!(InvitationToken::parse(token.reveal()).unwrap().hash(), token.hash());
        assert_ne!(InvitationToken::new([8; 32]).hash(), token.hash());
        assert_eq!(format!("{token:?}"), "InvitationToken(…)");
        for text in ["", "rvi_", "rvi_BwcH", "rvp_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"] {
            assert!(InvitationToken::parse(text).is_none(), "{text}");
        }
    }
}
