//! Producers that show a secret instead of signing with it: basic auth, bearer tokens, keys in a header.

use base64::Engine as _;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Rejection;
use super::encoding::LENIENT;
use super::request::{Place, Request, header};
use crate::secret::Secret;

/// Checks that one of `secrets` stands after `prefix` at `place`.
pub(super) fn verify_token(
    place: Place<'_>,
    prefix: &str,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Result<(), Rejection> {
    let text = place.read(request)?;
    let token = after(&text, prefix).ok_or_else(|| place.malformed("the prefix is missing"))?;
    any(secrets, |secret| equal(token.as_bytes(), secret.reveal().as_bytes()))
}

/// Checks `Authorization: Basic …` (RFC 7617). Each secret is a password of `username`, or `user:password` itself where
/// that is `None`.
pub(super) fn verify_basic(
    username: Option<&str>,
    secrets: &[Secret],
    headers: &HeaderMap,
) -> Result<(), Rejection> {
    const NAME: &str = "authorization";
    let malformed = |what| Rejection::MalformedHeader(NAME.to_owned(), what);
    let encoded = after(header(headers, NAME)?, "Basic ")
        .ok_or_else(|| malformed("not of the form `Basic <base64>`"))?;
    let presented = LENIENT.decode(encoded.trim()).map_err(|_| malformed("not base64"))?;
    any(secrets, |secret| match username {
        Some(username) => equal(&presented, format!("{username}:{}", secret.reveal()).as_bytes()),
        None => equal(&presented, secret.reveal().as_bytes()),
    })
}

/// What follows the prefix. Schemes of authentication are written in either case (RFC 9110, section 11.1).
fn after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn any(secrets: &[Secret], matches: impl Fn(&Secret) -> bool) -> Result<(), Rejection> {
    match secrets {
        [] => Err(Rejection::NoSecret),
        _ if secrets.iter().any(matches) => Ok(()),
        _ => Err(Rejection::WrongCredentials),
    }
}

/// Compares hashes, so that not even a length shows in the time it takes.
fn equal(presented: &[u8], expected: &[u8]) -> bool {
    Sha256::digest(presented).ct_eq(&Sha256::digest(expected)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn basic() {
        let secrets = [Secret::new("old"), Secret::new("pass:word")];
        let verify = |value: &str| verify_basic(Some("user"), &secrets, &authorization(value));
        assert_eq!(verify("Basic dXNlcjpwYXNzOndvcmQ="), Ok(()));
        assert_eq!(verify("basic dXNlcjpwYXNzOndvcmQ"), Ok(()));
        assert_eq!(verify("Basic dXNlcjpwYXNz"), Err(Rejection::WrongCredentials));
        assert!(matches!(verify("Basic *"), Err(Rejection::MalformedHeader(..))));
        assert!(matches!(verify("Bearer x"), Err(Rejection::MalformedHeader(..))));
        let pair = [Secret::new("user:pass:word")];
        assert_eq!(verify_basic(None, &pair, &authorization("Basic dXNlcjpwYXNzOndvcmQ=")), Ok(()));
        assert_eq!(verify_basic(None, &[], &authorization("Basic dXNlcg==")), Err(Rejection::NoSecret));
        let missing = Rejection::MissingHeader("authorization".to_owned());
        assert_eq!(verify_basic(None, &pair, &HeaderMap::new()), Err(missing));
    }

    #[test]
    fn tokens() {
        let secrets = [Secret::new("old"), Secret::new("tok")];
        let verify = |value: &str| {
            let headers = authorization(value);
            let request = super::super::testing::request(&headers, b"", chrono::DateTime::UNIX_EPOCH);
            verify_token(Place::Header("Authorization"), "Bearer ", &secrets, &request)
        };
        assert_eq!(verify("Bearer tok"), Ok(()));
        assert_eq!(verify("bearer tok"), Ok(()));
        assert_eq!(verify("Bearer tokk"), Err(Rejection::WrongCredentials));
        assert!(matches!(verify("tok"), Err(Rejection::MalformedHeader(..))));
    }
}
