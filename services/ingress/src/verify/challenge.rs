//! What a refused producer is told to prove itself with: RFC 9110, section 11.6.1, wants it with every 401.
//!
//! `Basic` and `Bearer` are registered (RFC 7617, RFC 6750). For what has no registered name there are ours: `Signature` for
//! whatever is signed, `Token` for a secret in a header of its own, `Address` for a sender's address.

use std::fmt::Write as _;

use axum::http::HeaderValue;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::provider::Scheme;

const BASIC: &str = "Basic realm=\"ravenpost\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"ravenpost\"";
const SIGNATURE: &str = "Signature realm=\"ravenpost\"";
const ADDRESS: &str = "Address realm=\"ravenpost\"";

/// The challenges of an endpoint, in one header.
pub fn challenge(verification: &Verification) -> HeaderValue {
    let mut challenges = Vec::new();
    collect(verification, &mut challenges);
    challenges.dedup();
    // None is refused where nothing is demanded; a 401 has a challenge whatever happens.
    let text = if challenges.is_empty() { SIGNATURE.to_owned() } else { challenges.join(", ") };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(SIGNATURE))
}

fn collect(verification: &Verification, challenges: &mut Vec<String>) {
    match verification {
        Verification::None {} => {}
        Verification::StandardWebhooks {} | Verification::Hmac(_) => challenges.push(SIGNATURE.to_owned()),
        Verification::Provider { provider } => collect_scheme(&provider.profile().scheme, challenges),
        Verification::BasicAuth { .. } => challenges.push(BASIC.to_owned()),
        Verification::Bearer {} => challenges.push(BEARER.to_owned()),
        Verification::ApiKey { header } => challenges.push(token(Some(header))),
        Verification::IpAllowList { .. } => challenges.push(ADDRESS.to_owned()),
        Verification::All { of } => of.iter().for_each(|one| collect(one, challenges)),
    }
}

fn collect_scheme(scheme: &Scheme, challenges: &mut Vec<String>) {
    match scheme {
        Scheme::BasicAuth => challenges.push(BASIC.to_owned()),
        Scheme::Token { place, .. } => challenges.push(token(place.header())),
        Scheme::Any(schemes) => schemes.iter().for_each(|one| collect_scheme(one, challenges)),
        Scheme::Rules(_) | Scheme::ByHeader { .. } | Scheme::Odd(_) => challenges.push(SIGNATURE.to_owned()),
    }
}

/// The names of headers have no quotes in them.
fn token(header: Option<&str>) -> String {
    let mut text = "Token realm=\"ravenpost\"".to_owned();
    if let Some(header) = header {
        let _ = write!(text, ", header=\"{}\"", header.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use ravenpost_core::provider::Provider;

    use super::*;

    fn told(verification: &Verification) -> String {
        challenge(verification).to_str().unwrap().to_owned()
    }

    #[test]
    fn fits_what_the_endpoint_demands() {
        let basic = Verification::BasicAuth { username: "user".to_owned() };
        assert_eq!(told(&basic), "Basic realm=\"ravenpost\", charset=\"UTF-8\"");
        assert_eq!(told(&Verification::Bearer {}), "Bearer realm=\"ravenpost\"");
        assert_eq!(told(&Verification::StandardWebhooks {}), "Signature realm=\"ravenpost\"");
        let api_key = Verification::ApiKey { header: "X-Api-Key".to_owned() };
        assert_eq!(told(&api_key), "Token realm=\"ravenpost\", header=\"x-api-key\"");
        let provider = |provider| told(&Verification::Provider { provider });
        assert_eq!(provider(Provider::Postmark), "Basic realm=\"ravenpost\", charset=\"UTF-8\"");
        assert_eq!(provider(Provider::Github), "Signature realm=\"ravenpost\"");
        assert_eq!(provider(Provider::AwsSns), "Signature realm=\"ravenpost\"");
        assert_eq!(
            provider(Provider::Gitlab),
            "Signature realm=\"ravenpost\", Token realm=\"ravenpost\", header=\"x-gitlab-token\""
        );
        let all = Verification::All { of: vec![Verification::IpAllowList { networks: Vec::new() }, basic] };
        assert_eq!(told(&all), "Address realm=\"ravenpost\", Basic realm=\"ravenpost\", charset=\"UTF-8\"");
    }

    #[test]
    fn no_provider_is_without_one() {
        for provider in Provider::ALL {
            assert!(!told(&Verification::Provider { provider: *provider }).is_empty());
        }
    }
}
