//! A rejected request's head: what verifying it again needs of it, and what people may see of that.
//!
//! It is kept whole and sealed, since credentials stand in it: a bearer token is wrong for its endpoint, and right for
//! whoever finds it.

mod redaction;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::headers;
use crate::secret::Secret;

pub use redaction::is_credential;

/// What stands where a value is not shown.
pub const REDACTED: &str = "[redacted]";

/// Query and headers of a request, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What followed the `?` in its URL.
    pub query: Option<String>,
    /// Its headers, all of them, in their order.
    pub headers: HeaderMap,
    /// The header that carried what the endpoint took for its secret, in lower case.
    pub credential_header: Option<String>,
}

/// A stored head that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored head does not read")]
pub struct DamagedHead;

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    query: Option<String>,
    /// As HTTP/1.1 writes them, in base64: a value need not be UTF-8.
    headers: String,
    #[serde(default)]
    credential_header: Option<String>,
}

impl Head {
    /// As a text, to be sealed.
    pub fn to_secret(&self) -> Secret {
        let headers = STANDARD.encode(headers::encode(&self.headers));
        let sealed =
            Sealed { query: self.query.clone(), headers, credential_header: self.credential_header.clone() };
        Secret::new(serde_json::to_string(&sealed).expect("two texts serialise"))
    }

    /// The inverse of [`Head::to_secret`].
    pub fn from_secret(secret: &Secret) -> Result<Self, DamagedHead> {
        let sealed: Sealed = serde_json::from_str(secret.reveal()).map_err(|_| DamagedHead)?;
        let headers = STANDARD.decode(sealed.headers).map_err(|_| DamagedHead)?;
        Ok(Self {
            query: sealed.query,
            headers: headers::decode(&headers).map_err(|_| DamagedHead)?,
            credential_header: sealed.credential_header,
        })
    }

    /// How many bytes it holds, about.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        headers.sum::<usize>() + self.query.as_ref().map_or(0, String::len)
    }

    /// The headers as people may see them. Bytes that are not UTF-8 are shown as U+FFFD.
    pub fn shown_headers(&self) -> Vec<(String, String)> {
        let show = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let is_secret = self.credential_header.as_deref() == Some(name.as_str());
            let shown = if is_secret || is_credential(name.as_str()) {
                REDACTED.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), shown)
        };
        self.headers.iter().map(show).collect()
    }

    /// The query as people may see it. What has no name may be a credential by itself.
    pub fn shown_query(&self) -> Option<String> {
        let show = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if is_credential(&decoded(name)) => format!("{name}={REDACTED}"),
            Some(_) => pair.to_owned(),
            None if pair.is_empty() => String::new(),
            None => REDACTED.to_owned(),
        };
        let query = self.query.as_deref()?;
        Some(query.split('&').map(show).collect::<Vec<_>>().join("&"))
    }
}

/// A name as it is meant: `%63ode` is `code`.
fn decoded(name: &str) -> Cow<'_, str> {
    let pair = url::form_urlencoded::parse(name.as_bytes()).next();
    pair.map_or(Cow::Borrowed(name), |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn head(query: Option<&str>, headers: &[(&'static str, &'static str)]) -> Head {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(pair).collect();
        Head { query: query.map(str::to_owned), headers, credential_header: None }
    }

    #[test]
    fn credentials_are_not_shown_and_signatures_are() {
        let head = head(
            Some("a=1&api_key=k&hush&accessToken=t&code=c&%63ode=c&country_code=DE&"),
            &[
                ("authorization", "Basic dXNlcjpwYXNz"),
                ("cookie", "a=b"),
                ("x-gitlab-token", "t"),
                ("x-api-key", "k"),
                ("x-hub-signature-256", "sha256=00"),
                ("stripe-signature", "t=1,v1=00"),
                ("x-shopify-hmac-sha256", "AA=="),
                ("webhook-id", "msg_1"),
            ],
        );
        let shown: Vec<_> = head.shown_headers().into_iter().map(|(_, value)| value).collect();
        let [signature, stripe, shopify, id] = ["sha256=00", "t=1,v1=00", "AA==", "msg_1"];
        assert_eq!(shown, [REDACTED, REDACTED, REDACTED, REDACTED, signature, stripe, shopify, id]);
        let query = "a=1&api_key=[redacted]&[redacted]&accessToken=[redacted]&code=[redacted]&%63ode=[redacted]&country_code=DE&";
        assert_eq!(head.shown_query().as_deref(), Some(query));
    }

    #[test]
    fn what_was_not_sealed_by_us_does_not_read() {
        for text in ["", "{}", r#"{"query":null,"headers":"*"}"#, r#"{"query":null,"headers":"AAAA"}"#] {
            assert_eq!(Head::from_secret(&Secret::new(text)), Err(DamagedHead), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_back_as_it_was(
            query in proptest::option::of("[!-~]{0,40}"),
            pairs in proptest::collection::vec(("[a-z-]{1,20}", proptest::collection::vec(32u8..=255, 0..20)), 0..8)
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let head = Head { query, headers, credential_header: Some("x-one".to_owned()) };
            prop_assert_eq!(Head::from_secret(&head.to_secret()).unwrap(), head);
        }
    }
}
