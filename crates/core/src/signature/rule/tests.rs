use http::HeaderMap;

use super::super::encoding::LENIENT;
use super::super::testing;
use super::*;
use crate::provider::{Provider, Scheme};

fn rules(provider: Provider) -> &'static [Rule<'static>] {
    match provider.profile().scheme {
        Scheme::Rules(rules) => rules,
        _ => panic!("{} has no rules", provider.slug()),
    }
}

fn secrets(count: usize) -> Vec<Secret> {
    (0..count).map(|number| Secret::new(format!("secret number {number}"))).collect()
}

/// Checks a request with these headers; how many HMACs it took.
fn cost(provider: Provider, secrets: &[Secret], headers: &HeaderMap) -> (Result<(), Rejection>, usize) {
    let request =
        testing::request(headers, b"{}", chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
    let mut macs = Macs::default();
    let result = verify_sharing(rules(provider), secrets, &request, &mut macs);
    (result, macs.count())
}

#[test]
fn ten_headers_cost_no_more_than_one() {
    let wrong = LENIENT.encode([7; 32]);
    let mut headers = HeaderMap::new();
    let mut costs = Vec::new();
    for rule in rules(Provider::Docusign) {
        headers.insert(
            rule.signature.header().unwrap().parse::<http::HeaderName>().unwrap(),
            wrong.parse().unwrap(),
        );
        let (result, count) = cost(Provider::Docusign, &secrets(10), &headers);
        assert_eq!(result, Err(Rejection::WrongSignature));
        costs.push(count);
    }
    assert_eq!(costs, [10; 10]);
}

#[test]
fn the_same_string_by_two_rules_is_signed_once() {
    // The URL of these tests has no escapes: with them undone it is the same.
    let headers = HeaderMap::from_iter([
        (http::HeaderName::from_static("x-hubspot-signature-v3"), LENIENT.encode([7; 32]).parse().unwrap()),
        (http::HeaderName::from_static("x-hubspot-request-timestamp"), "1700000000000".parse().unwrap()),
    ]);
    assert_eq!(cost(Provider::Hubspot, &secrets(3), &headers), (Err(Rejection::WrongSignature), 3));
}

#[test]
fn a_header_full_of_signatures_is_not_read_to_its_end() {
    let secret = Secret::new("a secret of these tests");
    let right = super::super::hub::sign(&secret, b"1700000000.{}");
    let right = right.strip_prefix("sha256=").unwrap();
    let with = |wrong: usize| {
        let wrong = "v1=00,".repeat(wrong);
        let header = format!("t=1700000000,{wrong}v1={right}").parse().unwrap();
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("stripe-signature"), header)]);
        cost(Provider::Stripe, std::slice::from_ref(&secret), &headers).0
    };
    assert_eq!(with(MAX_SIGNATURES - 1), Ok(()));
    assert_eq!(with(MAX_SIGNATURES), Err(Rejection::WrongSignature));
}
