//! The secrets that endpoints verify with: which form they have, and new ones.
//!
//! A secret is whatever the provider's dashboard shows: a shared text, a key in some encoding, a public key, `user:password`, or
//! an id that ties a certificate to one account (a topic's ARN at SNS, a webhook's id at PayPal).

use std::ops::RangeInclusive;

use base64::Engine as _;

use super::encoding::LENIENT;
use super::public_key;
use super::rule::KeyForm;
use crate::endpoint::Verification;
use crate::provider::{SecretKind, SecretOrigin};
use crate::secret::Secret;

/// How long a secret may be, in bytes, where its scheme does not say more. A public key in PEM is longer than a password.
const LENGTH: RangeInclusive<usize> = 8..=512;
const MAX_PUBLIC_KEY: usize = 2_048;

/// Why a secret is not one for this way to verify. Never shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing is verified with a secret.
    #[error("this verification takes no secret")]
    NotTaken,
    /// Too short to be safe, too long, or not printable.
    #[error("8 to 512 characters of visible ASCII")]
    Text,
    /// Not a key of Standard Webhooks.
    #[error("expected whsec_ followed by 24 to 64 bytes in base64, or whpk_ and an Ed25519 public key")]
    StandardWebhooks,
    /// Not in the encoding that the provider shows it in.
    #[error("expected the key as the provider shows it: {0}")]
    Encoding(&'static str),
    /// Not a public key.
    #[error("expected the provider's public key: {0}")]
    PublicKey(&'static str),
    /// Not a user and a password.
    #[error("expected user:password, 8 to 512 characters of visible ASCII")]
    UserAndPassword,
}

/// Whether a secret has the form that a way to verify wants.
pub fn check(verification: &Verification, secret: &Secret) -> Result<(), InvalidSecret> {
    let holder = verification.secret_holder().ok_or(InvalidSecret::NotTaken)?;
    let kind = match holder {
        Verification::StandardWebhooks {} => SecretKind::Key(KeyForm::Whsec),
        Verification::Provider { provider } => provider.secret_kind(),
        Verification::Hmac(scheme) => scheme.secret_kind(),
        _ => SecretKind::Shared,
    };
    check_kind(kind, secret)
}

fn check_kind(kind: SecretKind, secret: &Secret) -> Result<(), InvalidSecret> {
    if let SecretKind::PublicKey(algorithm, form) = kind {
        let readable = secret.reveal().len() <= MAX_PUBLIC_KEY;
        let key = form.key(secret).filter(|_| readable);
        let is_key = key.is_some_and(|key| public_key::is_key(algorithm, &key));
        return if is_key { Ok(()) } else { Err(InvalidSecret::PublicKey(shown(form))) };
    }
    let visible = secret.reveal().bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !visible || !LENGTH.contains(&secret.reveal().len()) {
        return Err(match kind {
            SecretKind::Key(KeyForm::Whsec) => InvalidSecret::StandardWebhooks,
            SecretKind::UserAndPassword => InvalidSecret::UserAndPassword,
            _ => InvalidSecret::Text,
        });
    }
    match kind {
        SecretKind::Key(KeyForm::Whsec) => check_standard_webhooks(secret),
        SecretKind::Key(form) => {
            let key = form.key(secret).filter(|key| !key.is_empty());
            key.map(|_| ()).ok_or(InvalidSecret::Encoding(shown(form)))
        }
        SecretKind::UserAndPassword => match secret.reveal().split_once(':') {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(()),
            _ => Err(InvalidSecret::UserAndPassword),
        },
        SecretKind::Shared | SecretKind::PublicKey(..) => Ok(()),
    }
}

/// `whsec_` and a key of the specification's length, or `whpk_` and an Ed25519 key.
fn check_standard_webhooks(secret: &Secret) -> Result<(), InvalidSecret> {
    let text = secret.reveal();
    let (encoded, length) = match text.strip_prefix("whpk_") {
        Some(encoded) => (encoded, 32..=32),
        None => (text.strip_prefix("whsec_").ok_or(InvalidSecret::StandardWebhooks)?, 24..=64),
    };
    let key = LENIENT.decode(encoded).map_err(|_| InvalidSecret::StandardWebhooks)?;
    if length.contains(&key.len()) { Ok(()) } else { Err(InvalidSecret::StandardWebhooks) }
}

fn shown(form: KeyForm) -> &'static str {
    match form {
        KeyForm::Text => "as it is",
        KeyForm::Base64 => "in base64",
        KeyForm::Hex => "in hexadecimal",
        KeyForm::Whsec => "whsec_ and base64",
        KeyForm::Whpk => "whpk_ and base64",
        KeyForm::Spki => "PEM, or the base64 of its DER",
        KeyForm::AfterColon => "name:key",
    }
}

/// A new secret that a customer can give to the producer; `None` where nothing takes one, or where the provider alone makes
/// them.
pub fn generate(verification: &Verification, random: [u8; 32]) -> Option<Secret> {
    match verification.secret_holder()? {
        Verification::StandardWebhooks {} => Some(Secret::standard_webhooks(random)),
        Verification::Provider { provider } if provider.profile().secret != SecretOrigin::Ours => None,
        Verification::Provider { provider } => Some(match provider.secret_kind() {
            SecretKind::UserAndPassword => {
                Secret::new(format!("ravenpost:{}", Secret::text(random).reveal()))
            }
            _ => Secret::text(random),
        }),
        Verification::Hmac(scheme) => Some(scheme.new_secret(random)),
        _ => Some(Secret::text(random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;

    #[test]
    fn what_is_generated_has_the_form_that_is_wanted() {
        for provider in Provider::ALL {
            let verification = Verification::Provider { provider: *provider };
            if let Some(secret) = generate(&verification, [7; 32]) {
                assert_eq!(check(&verification, &secret), Ok(()), "{}", provider.slug());
            }
        }
        let made = generate(&Verification::StandardWebhooks {}, [7; 32]).unwrap();
        assert_eq!(check(&Verification::StandardWebhooks {}, &made), Ok(()));
    }

    #[test]
    fn says_which_form_is_wanted() {
        let told = |provider: Provider, text: &str| {
            check(&Verification::Provider { provider }, &Secret::new(text)).unwrap_err().to_string()
        };
        assert!(told(Provider::Discord, "no key at all").contains("hexadecimal"));
        assert!(told(Provider::Sendgrid, "MFkwEwYHKoZIzj0CAQ").contains("base64 of its DER"));
        assert!(told(Provider::Postmark, "password").contains("user:password"));
        assert!(told(Provider::Adyen, "not hexadecimal").contains("hexadecimal"));
        assert!(told(Provider::Github, "short").contains("8 to 512"));
    }
}
