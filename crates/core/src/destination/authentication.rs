//! How we prove to a destination who we are, beside the signature. What proves it is written and never read: serialised,
//! these types show only what is no secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::headers;
use crate::limit::Invalid;
use crate::secret::Secret;
use crate::secret::write_only::{always, nothing};

/// The longest user name, password, key or client id, in bytes.
const MAX_TEXT: usize = 1_024;
/// The longest token, in bytes.
const MAX_TOKEN: usize = 4 * 1_024;
/// Most scopes, and the longest list of them in bytes.
const MAX_SCOPES: (usize, usize) = (50, 2_048);

/// What goes with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = Authentication)]
pub enum Authentication {
    /// HTTP Basic (RFC 7617).
    #[schema(example = json!({"type": "basic", "username": "ravenpost", "password": "…"}))]
    Basic {
        /// Who we are; no colon.
        username: String,
        /// Never shown again.
        #[serde(skip_serializing_if = "always", serialize_with = "nothing")]
        #[schema(value_type = String, format = Password, write_only, required = true)]
        password: Secret,
    },
    /// A bearer token (RFC 6750).
    Bearer {
        /// Never shown again.
        #[serde(skip_serializing_if = "always", serialize_with = "nothing")]
        #[schema(value_type = String, format = Password, write_only, required = true)]
        token: Secret,
    },
    /// A key in a header.
    ApiKey {
        /// The header's name.
        #[schema(example = "x-api-key")]
        header: String,
        /// Never shown again.
        #[serde(skip_serializing_if = "always", serialize_with = "nothing")]
        #[schema(value_type = String, format = Password, write_only, required = true)]
        value: Secret,
    },
    /// A token that we ask for (RFC 6749, section 4.4).
    Oauth2ClientCredentials(ClientCredentials),
}

/// OAuth 2.0 client credentials. The token is asked for when it is first needed, remembered until shortly before it
/// expires, and asked for again when the destination answers 401.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// Where tokens are given out. The same rules hold as for a destination's URL.
    #[schema(value_type = String, format = Uri, example = "https://login.example.com/oauth/token")]
    pub token_url: Url,
    /// Who we are there.
    pub client_id: String,
    /// Never shown again.
    #[serde(skip_serializing_if = "always", serialize_with = "nothing")]
    #[schema(value_type = String, format = Password, write_only, required = true)]
    pub client_secret: Secret,
    /// What the token is to be good for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50, example = json!(["webhooks:write"]))]
    pub scopes: Vec<String>,
    /// For whom the token is meant, where the server wants to know (`audience`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://api.example.com")]
    pub audience: Option<String>,
    /// How the client proves itself to the token endpoint; `basic` unless given.
    #[serde(default)]
    pub client_authentication: ClientAuthentication,
}

/// How an OAuth client proves itself (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// By HTTP Basic.
    #[default]
    Basic,
    /// In the body.
    Post,
}

impl Authentication {
    /// Checks what deserialising can't.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Basic { username, password } => {
                text("username", username)?;
                if username.contains(':') {
                    return Err(invalid("username", "no colon (RFC 7617)"));
                }
                text("password", password.reveal())
            }
            Self::Bearer { token } => {
                let bearer = format!("Bearer {}", token.reveal());
                visible("token", token.reveal())?;
                HeaderValue::from_str(&bearer).map(drop).map_err(|_| invalid("token", "not a header's value"))
            }
            Self::ApiKey { header, value } => {
                headers::name(header).map_err(|message| Invalid { field: "header", message })?;
                let field = "value";
                headers::value(value.reveal()).map(drop).map_err(|message| Invalid { field, message })
            }
            Self::Oauth2ClientCredentials(credentials) => credentials.check(),
        }
    }

    /// The header that shows it; `None` where a token has to be asked for first. The value is marked as sensitive.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::Basic { username, password } => (header::AUTHORIZATION, basic(username, password.reveal())),
            Self::Bearer { token } => (header::AUTHORIZATION, format!("Bearer {}", token.reveal())),
            Self::ApiKey { header, value } => (headers::name(header).ok()?, value.reveal().to_owned()),
            Self::Oauth2ClientCredentials(_) => return None,
        };
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// The secrets among its fields.
    fn secrets(&self) -> (&'static str, &Secret) {
        match self {
            Self::Basic { password, .. } => ("password", password),
            Self::Bearer { token } => ("token", token),
            Self::ApiKey { value, .. } => ("value", value),
            Self::Oauth2ClientCredentials(credentials) => ("client_secret", &credentials.client_secret),
        }
    }

    /// As it is sealed: what is shown, and the secret.
    pub fn to_secret(&self) -> Secret {
        let mut document = serde_json::to_value(self).expect("texts serialise");
        let (field, secret) = self.secrets();
        document[field] = secret.reveal().into();
        Secret::new(document.to_string())
    }

    /// The inverse of [`Authentication::to_secret`]; the error holds nothing of it.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        serde_json::from_str(secret.reveal()).map_err(|_| "not an authentication as it is stored")
    }
}

impl ClientCredentials {
    fn check(&self) -> Result<(), Invalid> {
        super::target_url(self.token_url.as_str())
            .map_err(|error| Invalid { field: "token_url", message: error.to_string() })?;
        text("client_id", &self.client_id)?;
        text("client_secret", self.client_secret.reveal())?;
        // RFC 6749, section 3.3.
        let is_scope = |scope: &String| {
            !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'))
        };
        if !self.scopes.iter().all(is_scope) {
            return Err(invalid("scopes", "each of visible ASCII without quotes, backslashes and spaces"));
        }
        if self.scopes.len() > MAX_SCOPES.0 || self.scope().len() > MAX_SCOPES.1 {
            let message = format!("at most {}, and {} bytes together", MAX_SCOPES.0, MAX_SCOPES.1);
            return Err(Invalid { field: "scopes", message });
        }
        self.audience.as_deref().map_or(Ok(()), |audience| text("audience", audience))
    }

    /// The scopes as the token endpoint is told them.
    pub fn scope(&self) -> String {
        self.scopes.join(" ")
    }
}

/// The value of `Authorization` by RFC 7617.
pub fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn invalid(field: &'static str, message: &str) -> Invalid {
    Invalid { field, message: message.to_owned() }
}

fn text(field: &'static str, text: &str) -> Result<(), Invalid> {
    if (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Invalid { field, message: format!("1 to {MAX_TEXT} bytes without control characters") })
}

fn visible(field: &'static str, text: &str) -> Result<(), Invalid> {
    if (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Invalid { field, message: format!("1 to {MAX_TOKEN} characters of visible ASCII, no blanks") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: serde_json::Value) -> Authentication {
        serde_json::from_value(document).unwrap()
    }

    fn all() -> [(serde_json::Value, &'static str); 4] {
        [
            (json!({"type": "basic", "username": "Aladdin", "password": "open sesame"}), "password"),
            (json!({"type": "bearer", "token": "mF_9.B5f-4.1JqM"}), "token"),
            (json!({"type": "api_key", "header": "x-api-key", "value": "k3y value"}), "value"),
            (
                json!({"type": "oauth2_client_credentials", "token_url": "https://login.example.com/token",
                    "client_id": "me", "client_secret": "hush hush", "scopes": ["a", "b:c"], "audience": "them",
                    "client_authentication": "post"}),
                "client_secret",
            ),
        ]
    }

    #[test]
    fn secrets_are_sealed_and_never_shown() {
        for (document, field) in all() {
            let authentication = read(document.clone());
            authentication.check().unwrap();
            let secret = document[field].as_str().unwrap();
            let shown = format!("{} {authentication:?}", serde_json::to_value(&authentication).unwrap());
            assert!(!shown.contains(secret), "{shown}");
            assert_eq!(Authentication::from_secret(&authentication.to_secret()).unwrap(), authentication);
            let damaged = Secret::new(authentication.to_secret().reveal().replace('}', ""));
            assert!(!Authentication::from_secret(&damaged).unwrap_err().contains(secret));
        }
    }

    #[test]
    fn the_header_is_that_of_the_scheme() {
        let shown: Vec<_> = all().into_iter().map(|(document, _)| read(document).header()).collect();
        let text = |header: &Option<(HeaderName, HeaderValue)>| {
            header.as_ref().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        };
        // The example of RFC 7617, section 2.
        assert_eq!(text(&shown[0]).unwrap(), "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(text(&shown[1]).unwrap(), "authorization: Bearer mF_9.B5f-4.1JqM");
        assert_eq!(text(&shown[2]).unwrap(), "x-api-key: k3y value");
        assert_eq!(text(&shown[3]), None);
        assert!(shown.iter().flatten().all(|(_, value)| value.is_sensitive()));
    }

    #[test]
    fn refuses_by_field() {
        for (document, field) in [
            (json!({"type": "basic", "username": "a:b", "password": "x"}), "username"),
            (json!({"type": "basic", "username": "a", "password": ""}), "password"),
            (json!({"type": "basic", "username": "a", "password": "x\r\ny"}), "password"),
            (json!({"type": "bearer", "token": "two words"}), "token"),
            (json!({"type": "bearer", "token": "line\n"}), "token"),
            (json!({"type": "api_key", "header": "Webhook-Id", "value": "x"}), "header"),
            (json!({"type": "api_key", "header": "transfer-encoding", "value": "x"}), "header"),
            (json!({"type": "api_key", "header": "x-key", "value": "ü"}), "value"),
            (oauth(&json!({"token_url": "ftp://example.com"})), "token_url"),
            (oauth(&json!({"token_url": "https://a:b@example.com"})), "token_url"),
            (oauth(&json!({"client_id": ""})), "client_id"),
            (oauth(&json!({"scopes": ["a b"]})), "scopes"),
            (oauth(&json!({"scopes": vec!["a"; 51]})), "scopes"),
            (oauth(&json!({"audience": "\n"})), "audience"),
        ] {
            assert_eq!(read(document.clone()).check().unwrap_err().field, field, "{document}");
        }
        assert!(serde_json::from_value::<Authentication>(json!({"type": "bearer", "tokn": "x"})).is_err());
        assert!(serde_json::from_value::<Authentication>(json!({"type": "digest"})).is_err());
    }

    fn oauth(fields: &serde_json::Value) -> serde_json::Value {
        let mut document = json!({"type": "oauth2_client_credentials", "token_url": "https://login.example.com/token",
            "client_id": "me", "client_secret": "hush hush"});
        for (name, value) in fields.as_object().unwrap() {
            document[name] = value.clone();
        }
        document
    }
}
