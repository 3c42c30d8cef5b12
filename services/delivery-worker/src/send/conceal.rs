//! What a destination repeats of our credentials, such as a page that shows the request: the start of an answer is kept,
//! and is shown to people who may not see those.

use http::{HeaderMap, header};
use ravenpost_core::delivery::Answer;
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::rule::KeyForm;

/// Shorter values are in many texts by chance, and are no good secrets.
const SHORTEST: usize = 8;
const INSTEAD: &[u8] = b"[hidden]";

/// The credentials in a request's headers: the values that are marked as sensitive, those of `Authorization` without
/// their scheme, and what HTTP Basic encodes.
pub(super) fn credentials(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let sensitive = headers.iter().filter(|(_, value)| value.is_sensitive());
    let values = sensitive.flat_map(|(name, value)| {
        let value = value.as_bytes();
        let blank = value.iter().position(|byte| *byte == b' ').filter(|_| name == header::AUTHORIZATION);
        let Some(blank) = blank else { return vec![value.to_vec()] };
        let (scheme, shown) = (&value[..blank], &value[blank + 1..]);
        let mut values = vec![shown.to_vec()];
        if scheme.eq_ignore_ascii_case(b"basic") {
            values.extend(basic(shown));
        }
        values
    });
    values.filter(|value| value.len() >= SHORTEST).collect()
}

/// `user:password`, and the password by itself (RFC 7617): whoever decodes them may repeat them in the clear.
fn basic(encoded: &[u8]) -> Vec<Vec<u8>> {
    let encoded = Secret::new(String::from_utf8_lossy(encoded).trim());
    let Some(pair) = KeyForm::Base64.key(&encoded) else { return Vec::new() };
    let password = pair.iter().position(|byte| *byte == b':').map(|colon| pair[colon + 1..].to_vec());
    std::iter::once(pair.to_vec()).chain(password).collect()
}

/// Blots them out of what came back.
pub(super) fn conceal(answer: &mut Answer, credentials: &[Vec<u8>]) {
    let Ok(response) = &mut answer.result else { return };
    for credential in credentials {
        if let Some(blotted) = blotted(&response.body, credential) {
            response.body = blotted;
        }
    }
}

/// `None` when it isn't there.
fn blotted(body: &[u8], credential: &[u8]) -> Option<Vec<u8>> {
    let find = |from: &[u8]| from.windows(credential.len()).position(|window| window == credential);
    let mut at = find(body)?;
    let (mut blotted, mut rest) = (Vec::with_capacity(body.len()), body);
    loop {
        blotted.extend_from_slice(&rest[..at]);
        blotted.extend_from_slice(INSTEAD);
        rest = &rest[at + credential.len()..];
        match find(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    blotted.extend_from_slice(rest);
    Some(blotted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};
    use ravenpost_core::delivery::{Phases, Response};

    use super::*;

    fn concealed(body: &str, sent: &[(&'static str, &'static str, bool)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value, sensitive) in sent {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(*sensitive);
            headers.insert(HeaderName::from_static(name), value);
        }
        let response = Response { status: 500, retry_after: None, event_id: None, body: body.into() };
        let (duration, phases) = (Duration::ZERO, Phases::default());
        let mut answer = Answer { result: Ok(response), duration, phases, address: None };
        conceal(&mut answer, &credentials(&headers));
        String::from_utf8(answer.result.unwrap().body).unwrap()
    }

    #[test]
    fn what_is_repeated_of_a_credential_is_blotted_out() {
        let sent = [
            ("authorization", "Bearer tok.en.123", true),
            ("x-key", "a key of ours", true),
            ("x-short", "abc", true),
            ("x-open", "nothing secret", false),
        ];
        assert_eq!(
            concealed("Bearer tok.en.123, tok.en.123tok.en.123; a key of ours, abc, nothing secret", &sent),
            "Bearer [hidden], [hidden][hidden]; [hidden], abc, nothing secret"
        );
        assert_eq!(concealed("", &sent), "");
        assert_eq!(concealed("tok.en.12", &sent), "tok.en.12");
    }

    #[test]
    fn what_http_basic_encodes_is_blotted_out_in_the_clear() {
        // `merchant:open:sesame`; a user name has no colon.
        let sent = [("authorization", "Basic bWVyY2hhbnQ6b3BlbjpzZXNhbWU=", true)];
        assert_eq!(
            concealed("bWVyY2hhbnQ6b3BlbjpzZXNhbWU=; merchant:open:sesame; merchant, open:sesame", &sent),
            "[hidden]; [hidden]; merchant, [hidden]"
        );
        // `merchant:sesame`: such a short password is in texts by chance.
        let sent = [("authorization", "basic bWVyY2hhbnQ6c2VzYW1l", true)];
        assert_eq!(concealed("merchant:sesame, sesame", &sent), "[hidden], sesame");
        let sent = [("authorization", "Basic no base64!", true)];
        assert_eq!(concealed("Basic no base64!", &sent), "Basic [hidden]");
    }
}
