//! What fields may hold, beyond their type. Each check names its field.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::problem::Problem;
use ravenpost_chassis::random;
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::{HeaderChange, InvalidHeader};
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::destination::{DestinationStatus, TIMEOUT_BOUNDS, target_url};
use ravenpost_core::duration;
use ravenpost_core::endpoint::{MAX_BODY_BYTES, MAX_NAME, Verification};
use ravenpost_core::filter::Filter;
use ravenpost_core::limit::{CustomAnswer, Invalid, MediaType, RateLimit, check_content_types};
use ravenpost_core::pacing::{self, Limits};
use ravenpost_core::retry::{InvalidPolicy, RetryPolicy};
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::{inbound, standard_webhooks};
use ravenpost_egress::TlsProfile;
use ravenpost_store::system::DisableAfter;
use url::Url;

/// The longest e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 with its brackets).
pub(crate) const MAX_ADDRESS: usize = 254;

/// The longest time that something former can be given.
const MAX_GRACE: Duration = Duration::from_hours(24 * 90);

type Checked<T> = Result<T, Problem>;

/// Names the results of checks that don't need each other, or returns the problem of all of them that found something:
/// who sends a body is told at once what is wrong with it.
macro_rules! all {
    ($($name:ident = $check:expr;)+) => {
        let mut found = None;
        $(let $name = $crate::api::checks::keep($check, &mut found);)+
        if let Some(problem) = found {
            return Err(problem);
        }
        let ($(Some($name),)+) = ($($name,)+) else { unreachable!("what is missing was found") };
    };
}

pub(super) use all;

/// The result, or its problem joins those `found`.
pub(super) fn keep<T>(result: Checked<T>, found: &mut Option<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(problem) => {
            *found = Some(match found.take() {
                None => problem,
                Some(first) => first.and(problem),
            });
            None
        }
    }
}

pub(super) fn name<'a>(field: &str, text: &'a str) -> Checked<&'a str> {
    let length = text.chars().count();
    if !(1..=MAX_NAME).contains(&length) || text.trim().is_empty() || text.chars().any(char::is_control) {
        let message = format!("1 to {MAX_NAME} characters, not all of them blank, and no control characters");
        return Err(Problem::invalid_field(field, message));
    }
    Ok(text)
}

pub(super) fn url(field: &str, text: &str) -> Checked<Url> {
    target_url(text).map_err(|error| Problem::invalid_field(field, error.to_string()))
}

pub(super) fn timeout(field: &str, text: &str) -> Checked<Duration> {
    let timeout = duration::parse(text).map_err(|error| Problem::invalid_field(field, error.to_string()))?;
    let (least, most) = TIMEOUT_BOUNDS;
    if !(least..=most).contains(&timeout) {
        let message = format!("from {} to {}", duration::format(least), duration::format(most));
        return Err(Problem::invalid_field(field, message));
    }
    Ok(timeout)
}

pub(super) fn retry_policy(policy: &RetryPolicy) -> Checked<()> {
    policy.check().map_err(|InvalidPolicy { field, message }| {
        Problem::invalid_field(format!("retry_policy.{field}"), message)
    })
}

/// A filter; `None` for one that wants everything.
pub(super) fn filter(filter: Filter) -> Checked<Option<Filter>> {
    let checked = filter.check();
    checked.map_err(|error| Problem::invalid_field(format!("filter.{}", error.field), error.message))?;
    Ok(Some(filter).filter(|filter| !filter.is_empty()))
}

/// How fast a destination is sent to.
pub(super) fn pace(limits: Limits) -> Checked<Limits> {
    let checked = limits.check().map(|()| limits);
    checked.map_err(|Invalid { field, message }| Problem::invalid_field(format!("limits.{field}"), message))
}

/// After how long of failures only a destination is disabled.
pub(super) fn disable_after(text: &str) -> Checked<DisableAfter> {
    let time = pacing::disable_after(text).map_err(|why| Problem::invalid_field("disable_after", why))?;
    Ok(time.map_or(DisableAfter::Never, DisableAfter::After))
}

/// What a person may make of a destination.
pub(super) fn status(status: DestinationStatus) -> Checked<DestinationStatus> {
    if status == DestinationStatus::Disabled {
        return Err(Problem::invalid_field("status", "active or paused: only we disable a destination"));
    }
    Ok(status)
}

pub(super) fn max_body_bytes(bytes: u32) -> Checked<u32> {
    if (1..=MAX_BODY_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    Err(Problem::invalid_field("max_body_bytes", format!("from 1 to {MAX_BODY_BYTES}")))
}

/// What an endpoint lets in and answers.
pub(super) fn limits(
    rate_limit: Option<RateLimit>,
    content_types: Option<&[MediaType]>,
    answer: Option<&CustomAnswer>,
) -> Checked<()> {
    let within = |parent: &'static str| {
        move |Invalid { field, message }| Problem::invalid_field(format!("{parent}{field}"), message)
    };
    rate_limit.map_or(Ok(()), RateLimit::check).map_err(within("rate_limit."))?;
    content_types.map_or(Ok(()), check_content_types).map_err(within(""))?;
    answer.map_or(Ok(()), CustomAnswer::check).map_err(within("answer."))
}

pub(super) fn verification(verification: &Verification) -> Checked<()> {
    verification
        .check()
        .map_err(|error| Problem::invalid_field(format!("verification.{}", error.field), error.message))
}

/// A secret that the customer brings, in the form that `verification` wants.
pub(super) fn secret(verification: &Verification, text: &str) -> Checked<Secret> {
    let secret = Secret::new(text);
    match inbound::check(verification, &secret) {
        Ok(()) => Ok(secret),
        Err(error) => Err(Problem::invalid_field("secret", error.to_string())),
    }
}

/// A secret to sign with by Standard Webhooks.
pub(super) fn signing_secret(field: &str, text: &str) -> Checked<Secret> {
    let secret = Secret::new(text);
    match standard_webhooks::key(&secret) {
        Ok(_) => Ok(secret),
        Err(error) => Err(Problem::invalid_field(field, error.to_string())),
    }
}

/// A new secret for producers that are verified so; `None` where there is nothing to prove, or where the secret comes from
/// the provider.
pub(super) fn new_secret(verification: &Verification) -> Option<Secret> {
    inbound::generate(verification, random::bytes())
}

/// The time that is so long after `from`: up to 90 days, or `default` where nothing is given.
pub(super) fn after(
    field: &str,
    text: Option<&str>,
    default: Duration,
    from: DateTime<Utc>,
) -> Checked<DateTime<Utc>> {
    let invalid = |message: String| Problem::invalid_field(field, message);
    let wait = text.map_or(Ok(default), duration::parse).map_err(|error| invalid(error.to_string()))?;
    if wait > MAX_GRACE {
        return Err(invalid(format!("at most {}", duration::format(MAX_GRACE))));
    }
    Ok(from + TimeDelta::from_std(wait).unwrap_or_default())
}

/// Headers to be set and removed.
pub(super) fn headers(change: &BTreeMap<String, Option<Secret>>) -> Checked<HeaderChange> {
    HeaderChange::parse(change).map_err(|invalid| invalid_header(&invalid))
}

pub(super) fn invalid_header(invalid: &InvalidHeader) -> Problem {
    let field = invalid.name.as_ref().map_or("headers".to_owned(), |name| format!("headers.{name}"));
    Problem::invalid_field(field, invalid.message.as_str())
}

/// As it is sealed.
pub(super) fn authentication(authentication: &Authentication) -> Checked<Secret> {
    let within =
        |Invalid { field, message }| Problem::invalid_field(format!("authentication.{field}"), message);
    authentication.check().map_err(within)?;
    Ok(authentication.to_secret())
}

/// As they are sealed.
pub(super) fn tls(tls: &TlsSettings) -> Checked<Secret> {
    let (ca, certificate) = (tls.ca_certificates.as_deref(), tls.client_certificate.as_deref());
    let key = tls.client_key.as_ref().map(Secret::reveal);
    let profile = TlsProfile::parse(ca, certificate, key, tls.minimum_version.as_deref());
    profile.map_err(|invalid| Problem::invalid_field(format!("tls.{}", invalid.field), invalid.reason))?;
    Ok(tls.to_secret())
}

/// An e-mail address as people have them; whether it receives mail only mail can tell.
pub(super) fn email(field: &str, text: &str) -> Checked<()> {
    let plausible = |local: &str, domain: &str| {
        !local.is_empty()
            && local.len() <= 64
            && domain.contains('.')
            && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-'))
            && domain.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-'))
    };
    let clean = text
        .chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | ',' | ';' | '"'));
    let valid = text.len() <= MAX_ADDRESS
        && clean
        && text
            .rsplit_once('@')
            .is_some_and(|(local, domain)| !local.contains('@') && plausible(local, domain));
    if valid { Ok(()) } else { Err(Problem::invalid_field(field, "not an e-mail address")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["ops@example.com", "first.last+tag@sub.example.co", "ü@bücher.example"] {
            assert!(email("address", good).is_ok(), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "ops",
            "ops@",
            "@example.com",
            "a@b",
            "a@b..c",
            "a b@example.com",
            "a@b@example.com",
            "a@example.com\r\nBcc: x@example.com",
            "<a@example.com>",
            "a@-x.com",
            "a@example.com,b@example.com",
            &long,
        ] {
            assert!(email("address", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        assert!(name("name", &"ü".repeat(200)).is_ok());
        for bad in ["", "   ", "a\nb", &"a".repeat(201)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_have_the_form_of_their_scheme() {
        let github = Verification::Provider { provider: ravenpost_core::provider::Provider::Github };
        let standard = Verification::StandardWebhooks {};
        for scheme in [&github, &standard] {
            let made = new_secret(scheme).unwrap();
            assert!(secret(scheme, made.reveal()).is_ok());
            assert!(secret(scheme, "short").is_err());
        }
        assert!(secret(&standard, "It's a Secret to Everybody").is_err());
        assert!(secret(&github, "It's a Secret to Everybody").is_ok());
        assert!(secret(&github, "line\nbreak").is_err());
        assert!(secret(&Verification::None {}, "It's a Secret to Everybody").is_err());
        assert!(new_secret(&Verification::None {}).is_none());
    }
}
