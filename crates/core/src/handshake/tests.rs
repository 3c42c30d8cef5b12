use super::*;
use crate::provider::Provider;
use crate::signature::{Url as Address, testing};
use chrono::DateTime;
use http::{HeaderMap, HeaderName};

const SECRET: &str = "z3ZX4v7mAAUGykl3EcmkqbartmuW8VFOOzCloLx9Q45P0hLrFu";

/// What is done about a request, as if its signature had been verified.
fn asked(
    provider: Provider,
    method: &Method,
    path_and_query: &str,
    header: Option<(&str, &str)>,
    body: &str,
) -> Option<Step> {
    let header = header.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    let headers: HeaderMap = header.into_iter().collect();
    let request = Request {
        method,
        url: Address { base: "https://hooks.example.com", path_and_query },
        ..testing::request(&headers, body.as_bytes(), DateTime::UNIX_EPOCH)
    };
    let (verification, secrets) = (Verification::Provider { provider }, [Secret::new(SECRET)]);
    unsigned(&verification, &secrets, &request).or_else(|| signed(&verification, &secrets, &request))
}

fn get(provider: Provider, path_and_query: &str, header: Option<(&str, &str)>) -> Option<Step> {
    asked(provider, &Method::GET, path_and_query, header, "")
}

fn post(provider: Provider, header: Option<(&str, &str)>, body: &str) -> Option<Step> {
    asked(provider, &Method::POST, "/h/token", header, body)
}

#[expect(clippy::unnecessary_wraps, reason = "reads like what it is compared with")]
fn answered(body: &str) -> Option<String> {
    Some(body.to_owned())
}

fn body(step: Option<Step>) -> Option<String> {
    match step {
        Some(Step::Answer(answer)) => Some(answer.body),
        _ => None,
    }
}

#[test]
fn gets_are_answered_to_who_knows_the_url() {
    // The example of X' documentation, "Challenge-Response Checks".
    let crc = get(Provider::X, "/h/token?crc_token=9b4507b3-9040-4669-9ca3-6b94edb50553", None);
    let expected = r#"{"response_token":"sha256=Cytd4Sq+NvEcV3MMrXxWJGJx5A+y/lXzzU2Maartkx8="}"#;
    assert_eq!(body(crc), answered(expected));
    let meta = |query: &str| body(get(Provider::Whatsapp, &format!("/h/token?{query}"), None));
    assert_eq!(meta("hub.mode=subscribe&hub.challenge=7&hub.verify_token=token"), answered("7"));
    assert_eq!(meta("hub.mode=subscribe&hub.challenge=7&hub.verify_token=other"), None);
    assert_eq!(meta("hub.mode=unsubscribe&hub.challenge=7&hub.verify_token=token"), None);
    let okta = get(Provider::Okta, "/h/token", Some(("x-okta-verification-challenge", "a \"b\"")));
    assert_eq!(body(okta), answered(r#"{"verification":"a \"b\""}"#));
    assert_eq!(get(Provider::Github, "/h/token?challenge=x", None), None);
}

#[test]
fn nothing_is_signed_that_could_be_an_event() {
    for token in ["%7B%22id%22%3A1%7D", "v0%3A1%3Abody", ""] {
        assert_eq!(get(Provider::X, &format!("/h/token?crc_token={token}"), None), None, "{token}");
    }
}

#[test]
fn signed_questions_are_told_from_events() {
    let twitch =
        |kind| post(Provider::Twitch, Some(("twitch-eventsub-message-type", kind)), r#"{"challenge":"c"}"#);
    assert_eq!(body(twitch("webhook_callback_verification")), answered("c"));
    assert_eq!(twitch("notification"), None);
    let front = post(Provider::Front, Some(("x-front-challenge", "c")), "{}");
    assert_eq!(body(front), answered(r#"{"challenge":"c"}"#));
    assert_eq!(post(Provider::Front, None, "{}"), None);
    let ping = post(Provider::Discord, None, r#"{"version":1,"type":0}"#);
    assert!(matches!(ping, Some(Step::Answer(Answer { status: 204, .. }))));
    assert_eq!(post(Provider::Discord, None, r#"{"type":1,"event":{"type":"X"}}"#), None);
}

#[test]
fn only_sns_itself_is_asked_to_confirm() {
    let confirm = |url: &str| {
        let body = format!(r#"{{"Type":"SubscriptionConfirmation","SubscribeURL":"{url}"}}"#);
        post(Provider::AwsSns, None, &body)
    };
    let good = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x";
    assert_eq!(confirm(good), Some(Step::Confirm(good.parse().unwrap())));
    for bad in [
        "http://sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com.example.org/",
        "https://user@sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com:8443/",
        "https://sns..amazonaws.com/",
        "https://sns.a.b.amazonaws.com/",
        "https://169.254.169.254/",
    ] {
        assert_eq!(confirm(bad), None, "{bad}");
    }
    assert_eq!(post(Provider::AwsSns, None, r#"{"Type":"Notification"}"#), None);
}

#[test]
fn who_may_not_send_may_not_bring_a_secret() {
    let networks = vec!["192.0.2.0/24".parse().unwrap()];
    let verification = Verification::All {
        of: vec![
            Verification::Provider { provider: Provider::Asana },
            Verification::IpAllowList { networks },
        ],
    };
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-hook-secret"), SECRET.parse().unwrap())]);
    let from = |peer: &str| {
        let request = testing::request(&headers, b"{}", DateTime::UNIX_EPOCH);
        unsigned(&verification, &[], &Request { peer: Some(peer.parse().unwrap()), ..request })
    };
    assert!(matches!(from("192.0.2.7"), Some(Step::Keep(..))));
    assert_eq!(from("198.51.100.7"), None);
}

#[test]
fn a_ping_is_a_number_and_nothing_else() {
    let form = Some(("content-type", "application/x-www-form-urlencoded"));
    let ping = |body: &str| post(Provider::Woocommerce, form, body);
    assert_eq!(ping("webhook_id=17"), Some(Step::Answer(Answer::empty(200))));
    for event in ["", "webhook_id=", "webhook_id=1a", "webhook_id=1&id=2", "id=1", r#"{"id":1}"#] {
        assert_eq!(ping(event), None, "{event}");
    }
    assert_eq!(post(Provider::Github, form, "webhook_id=17"), None);
}
