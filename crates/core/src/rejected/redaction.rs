//! Which headers and parameters are credentials, by their names.
//!
//! Producers choose names freely (`X-Gitlab-Token`, `apiKey`, `accesskey`), so this goes by the words in them, whichever way
//! they are put together. The words are those that OWASP's Logging Cheat Sheet, Sentry's default scrubbing and Rails' default
//! `filter_parameters` have in common, as far as they name what proves an identity. A signature proves one body only, so it
//! is none of them: people need it to see what is wrong.

/// Words that make any name a credential's.
const WORDS: [&str; 36] = [
    "authorization",
    "authentication",
    "auth",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "csrf",
    "csrftoken",
    "cvc",
    "cvv",
    "jwt",
    "otp",
    "totp",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "passwort",
    "pin",
    "psk",
    "pw",
    "pwd",
    "secret",
    "secrets",
    "session",
    "sessionid",
    "sid",
    "ssn",
    "token",
    "tokens",
    "xsrf",
    "2fa",
];

/// Ends of words that are written together: `accesstoken`, `clientsecret`, `mysqlpwd`.
const ENDS: [&str; 11] = [
    "authcode",
    "authorizationcode",
    "cookie",
    "passcode",
    "passphrase",
    "password",
    "pwd",
    "secret",
    "sessid",
    "sessionid",
    "token",
];

/// Before `key`, what makes it no credential: keys that name something.
const NAMING_KEYS: [&str; 14] = [
    "cache",
    "deduplication",
    "event",
    "foreign",
    "group",
    "idempotency",
    "issue",
    "object",
    "partition",
    "primary",
    "project",
    "public",
    "routing",
    "sort",
];

/// Before a `key` that is written together with it, what makes it a credential: no `monkey` is one.
const SECRET_KEYS: [&str; 15] = [
    "access",
    "account",
    "api",
    "app",
    "auth",
    "client",
    "encryption",
    "license",
    "master",
    "private",
    "secret",
    "service",
    "shared",
    "signing",
    "webhook",
];

/// Before `code`, what makes it a credential: a country's, a status' or an error's code is none.
const SECRET_CODES: [&str; 14] = [
    "access",
    "activation",
    "auth",
    "authorization",
    "backup",
    "confirmation",
    "invitation",
    "invite",
    "login",
    "pass",
    "recovery",
    "reset",
    "security",
    "verification",
];

/// Whether the value of a header or parameter of that name is likely to be a credential.
pub fn is_credential(name: &str) -> bool {
    let words = words(name);
    let before = |index: usize| index.checked_sub(1).map(|index| words[index].as_str());
    words.iter().enumerate().any(|(index, word)| match word.as_str() {
        // By itself, `code` is OAuth's, or the key of a function in a cloud.
        "code" => words.len() == 1 || before(index).is_some_and(|before| SECRET_CODES.contains(&before)),
        // An id by which a repetition is told.
        "token" if before(index) == Some("idempotency") => false,
        "key" | "keys" => before(index).is_none_or(|before| !NAMING_KEYS.contains(&before)),
        word => WORDS.contains(&word) || ENDS.iter().any(|end| word.ends_with(end)) || is_secret_key(word),
    })
}

/// Whether a word is a secret key written together, such as `apikey` or `xapikey`.
fn is_secret_key(word: &str) -> bool {
    let word = word.strip_suffix("keys").or_else(|| word.strip_suffix("key"));
    word.is_some_and(|before| SECRET_KEYS.iter().any(|secret| before.ends_with(secret)))
}

/// The words of a name, in lower case: `X-Api-Key`, `api_key` and `apiKey` have the same ones.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        let starts = !c.is_ascii_alphanumeric() || (after_lower && c.is_ascii_uppercase());
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_by_any_name() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-gitlab-token",
            "x-api-key",
            "x-apikey",
            "apikey",
            "apiKey",
            "APIKey",
            "api_key",
            "key",
            "accesskey",
            "access-key",
            "AccessKeyId",
            "awsSecretAccessKey",
            "privatekey",
            "subscription-key",
            "x-functions-key",
            "ocp-apim-subscription-key",
            "accesstoken",
            "accessToken",
            "refresh_token",
            "x-amz-security-token",
            "clientsecret",
            "client_secret",
            "code",
            "auth_code",
            "authCode",
            "authcode",
            "authorization_code",
            "verification-code",
            "security_code",
            "passcode",
            "password",
            "newPassword",
            "user[password]",
            "passphrase",
            "pass",
            "passwd",
            "pwd",
            "mysql_pwd",
            "userpwd",
            "pw",
            "pin",
            "otp",
            "x-csrf",
            "x-csrftoken",
            "xsrf",
            "session",
            "sessionid",
            "JSESSIONID",
            "phpsessid",
            "sid",
            "jwt",
            "cvv",
            "ssn",
            "credentials",
        ] {
            assert!(is_credential(name), "{name}");
        }
    }

    #[test]
    fn what_people_need_to_see() {
        for name in [
            "",
            "country_code",
            "countryCode",
            "countrycode",
            "postal-code",
            "zipcode",
            "status_code",
            "error-code",
            "currency_code",
            "x-response-code",
            "language-code",
            "encode",
            "monkey",
            "turkey",
            "keyboard",
            "keyword",
            "x-event-key",
            "idempotency-key",
            "i-twilio-idempotency-token",
            "login",
            "x-contentful-idempotency-key",
            "partition_key",
            "issueKey",
            "project_key",
            "public-key",
            "author",
            "compass",
            "passenger",
            "pinned",
            "spin",
            "inside",
            "side",
            "content-length",
            "content-type",
            "user-agent",
            "x-hub-signature-256",
            "stripe-signature",
            "x-shopify-hmac-sha256",
            "webhook-id",
            "webhook-timestamp",
            "x-github-delivery",
            "x-request-id",
            "traceparent",
            "x-forwarded-for",
            "utm_source",
            "order_id",
            "pattern",
            "path",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
