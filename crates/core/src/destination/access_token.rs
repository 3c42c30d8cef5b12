//! OAuth 2.0 client credentials (RFC 6749, section 4.4): what is asked of a token endpoint, and what it answers.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::form_urlencoded;

use super::authentication::{ClientAuthentication, ClientCredentials, basic};
use crate::delivery::Response;

/// How long a token is believed whose lifetime its endpoint does not tell.
const UNTOLD_LIFETIME: Duration = Duration::from_mins(5);
/// However long a token lives, it is asked for again after this time.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// A token is no longer used when a tenth of its lifetime is left, and at most so much: clocks and networks take time.
const MAX_MARGIN: Duration = Duration::from_mins(1);
/// The longest token, in bytes: it has to fit into a header.
const MAX_TOKEN: usize = 8 * 1_024;
/// The longest error code that is repeated.
const MAX_ERROR: usize = 60;

/// A token, ready to be used. Its value is marked as sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The value of `Authorization`.
    pub authorization: HeaderValue,
    /// How long it is to be used.
    pub lasts: Duration,
}

/// The headers and the body of the request for a token.
pub fn request(credentials: &ClientCredentials) -> (HeaderMap, String) {
    let secret = credentials.client_secret.reveal();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !credentials.scopes.is_empty() {
        form.append_pair("scope", &credentials.scope());
    }
    if let Some(audience) = &credentials.audience {
        form.append_pair("audience", audience);
    }
    match credentials.client_authentication {
        ClientAuthentication::Basic => {
            // Both are form-encoded before they become user and password (section 2.3.1).
            let value = basic(&encoded(&credentials.client_id), &encoded(secret));
            let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        ClientAuthentication::Post => {
            form.append_pair("client_id", &credentials.client_id);
            form.append_pair("client_secret", secret);
        }
    }
    (headers, form.finish())
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some servers write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Reads the answer of a token endpoint. The error is for a person to read and repeats at most the error code of section
/// 5.2: descriptions are free text, in which anything may stand.
pub fn read(response: &Response) -> Result<AccessToken, String> {
    if response.status != 200 {
        let refused = serde_json::from_slice::<Refused>(&response.body).ok();
        let code = refused.map(|refused| refused.error).filter(|code| is_error_code(code));
        let code = code.map(|code| format!(": {code}")).unwrap_or_default();
        return Err(format!("the token endpoint answered {}{code}", response.status));
    }
    let granted: Granted = serde_json::from_slice(&response.body)
        .map_err(|_| "the token endpoint's answer is no JSON object with an access_token".to_owned())?;
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token endpoint gave a token of another type than Bearer".to_owned());
    }
    let token = granted.access_token;
    let usable = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let authorization = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| usable);
    let mut authorization =
        authorization.ok_or_else(|| "the token endpoint gave a token that fits into no header".to_owned())?;
    authorization.set_sensitive(true);
    Ok(AccessToken { authorization, lasts: lasts(granted.expires_in) })
}

fn is_error_code(code: &str) -> bool {
    (1..=MAX_ERROR).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn lasts(expires_in: Option<Seconds>) -> Duration {
    let seconds = match expires_in {
        None => None,
        Some(Seconds::Number(number)) => Some(number),
        Some(Seconds::Text(text)) => text.trim().parse::<f64>().ok(),
    };
    let lifetime = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64())).ok());
    let lifetime = lifetime.unwrap_or(UNTOLD_LIFETIME);
    lifetime.saturating_sub((lifetime / 10).min(MAX_MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn credentials(client_authentication: ClientAuthentication) -> ClientCredentials {
        ClientCredentials {
            token_url: "https://login.example.com/token".parse().unwrap(),
            client_id: "me:too".to_owned(),
            client_secret: Secret::new("hüsh & more"),
            scopes: vec!["a".to_owned(), "b:c".to_owned()],
            audience: Some("https://api.example.com".to_owned()),
            client_authentication,
        }
    }

    fn answered(status: u16, body: &str) -> Result<AccessToken, String> {
        read(&Response { status, retry_after: None, event_id: None, body: body.into() })
    }

    #[test]
    fn asks_as_the_rfc_says() {
        let (headers, body) = request(&credentials(ClientAuthentication::Basic));
        assert_eq!(
            body,
            "grant_type=client_credentials&scope=a+b%3Ac&audience=https%3A%2F%2Fapi.example.com"
        );
        let expected = basic("me%3Atoo", "h%C3%BCsh+%26+more");
        assert_eq!(headers["authorization"], expected.as_str());
        assert!(!format!("{headers:?}").contains(&expected));
        let (headers, body) = request(&credentials(ClientAuthentication::Post));
        assert!(body.ends_with("&client_id=me%3Atoo&client_secret=h%C3%BCsh+%26+more"), "{body}");
        assert!(!headers.contains_key("authorization"));
    }

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        let lasts = |expires_in: &str| {
            let body = format!(r#"{{"access_token": "t", "token_type": "bearer"{expires_in}}}"#);
            answered(200, &body).unwrap().lasts.as_secs()
        };
        assert_eq!(lasts(r#", "expires_in": 3600"#), 3_540);
        assert_eq!(lasts(r#", "expires_in": "100""#), 90);
        assert_eq!(lasts(""), 270);
        assert_eq!(lasts(r#", "expires_in": 0"#), 0);
        assert_eq!(lasts(r#", "expires_in": -5"#), 0);
        assert_eq!(lasts(r#", "expires_in": 1e300"#), 86_340);
        assert_eq!(answered(200, r#"{"access_token": "t.0-k"}"#).unwrap().authorization, "Bearer t.0-k");
    }

    #[test]
    fn says_what_the_endpoint_did_and_repeats_no_free_text() {
        for (status, body, message) in [
            (401, r#"{"error": "invalid_client"}"#, "the token endpoint answered 401: invalid_client"),
            (400, r#"{"error": "Bad secret hush"}"#, "the token endpoint answered 400"),
            (302, "", "the token endpoint answered 302"),
            (503, "<html>", "the token endpoint answered 503"),
            (200, "hush", "the token endpoint's answer is no JSON object with an access_token"),
            (
                200,
                r#"{"token": "hush"}"#,
                "the token endpoint's answer is no JSON object with an access_token",
            ),
            (
                200,
                r#"{"access_token": "hush", "token_type": "mac"}"#,
                "the token endpoint gave a token of another type than Bearer",
            ),
            (200, r#"{"access_token": ""}"#, "the token endpoint gave a token that fits into no header"),
            (
                200,
                "{\"access_token\": \"a\\nb\"}",
                "the token endpoint gave a token that fits into no header",
            ),
        ] {
            assert_eq!(answered(status, body).unwrap_err(), message, "{status} {body}");
        }
    }
}
