//! What a request shows of who sends it.

use axum::http::{HeaderMap, header};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::ApiKey;

/// What `Authorization` holds.
#[derive(Debug)]
pub(super) enum Credentials<'h> {
    ApiKey(ApiKey),
    /// Anything else: an access token, if it is one.
    AccessToken(&'h str),
}

/// Reads the header. Where nobody can log in, everything has to be an API key.
pub(super) fn read(headers: &HeaderMap, logins: bool) -> Result<Credentials<'_>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let detail = if logins {
            "the request carries neither an API key nor an access token: send Authorization: Bearer …"
        } else {
            "the request carries no API key: send Authorization: Bearer rvp_…"
        };
        return Err(Problem::new(Kind::ApiKeyInvalid, detail));
    };
    let text = value.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    if logins && !token.starts_with(ApiKey::START) {
        return Ok(Credentials::AccessToken(token));
    }
    ApiKey::parse(token).map(Credentials::ApiKey).ok_or_else(malformed)
}

fn malformed() -> Problem {
    Problem::new(Kind::ApiKeyInvalid, "the Authorization header is not of the form Bearer rvp_…")
}

/// An access token where none is taken.
pub(super) fn no_logins() -> Problem {
    malformed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(value: &str, logins: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        match read(&headers, logins) {
            Ok(Credentials::ApiKey(key)) => format!("key {}", key.prefix()),
            Ok(Credentials::AccessToken(token)) => format!("token {token}"),
            Err(problem) => problem.kind.slug().to_owned(),
        }
    }

    #[test]
    fn a_key_is_told_from_a_token_by_its_beginning() {
        let key = ApiKey::new([7; 40]);
        let bearer = format!("bearer  {}", key.reveal());
        for logins in [true, false] {
            assert_eq!(presented(&bearer, logins), "key 0707070707070707");
            for none in ["Bearer rvp_x", "Basic YTpi", "Bearer"] {
                assert_eq!(presented(none, logins), "api-key-invalid", "{none}");
            }
        }
        assert_eq!(presented("Bearer a.b.c", true), "token a.b.c");
        assert_eq!(presented("Bearer a.b.c", false), "api-key-invalid");
    }
}
