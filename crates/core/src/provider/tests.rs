use super::*;
use std::collections::BTreeSet;

#[test]
fn rows_are_sorted_and_complete() {
    let slugs: Vec<&str> = Provider::ALL.iter().map(|provider| provider.slug()).collect();
    assert!(slugs.is_sorted(), "{slugs:?}");
    assert_eq!(slugs.iter().collect::<BTreeSet<_>>().len(), slugs.len());
    for provider in Provider::ALL {
        let row = provider.profile();
        assert!(
            row.slug.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')),
            "{}",
            row.slug
        );
        assert!(row.source.contains('"'), "{}: the page has a name", row.slug);
        assert!(row.setup.ends_with('.'), "{}", row.slug);
        assert_eq!(Provider::parse(row.slug), Ok(*provider));
    }
}

#[test]
fn an_unknown_name_gets_a_suggestion_or_the_place_of_the_list() {
    let told = |slug: &str| Provider::parse(slug).unwrap_err().to_string();
    assert_eq!(told("gitub"), "unknown provider `gitub`; did you mean `github`?");
    assert_eq!(
        told("somebody_else"),
        "unknown provider `somebody_else`; GET /api/v1/providers lists those that are known"
    );
}

#[test]
fn the_answer_is_what_the_provider_wants_of_all_that_are_asked() {
    let of = |verification: serde_json::Value| {
        Acknowledgement::of(&serde_json::from_value::<Verification>(verification).unwrap())
    };
    let named = |slug: &str| serde_json::json!({ "type": "provider", "provider": slug });
    assert_eq!(of(named("mailgun")), Acknowledgement::Ok);
    assert_eq!(of(named("discord")), Acknowledgement::NoContent);
    assert_eq!(of(named("github")), Acknowledgement::AnySuccess);
    assert_eq!(of(serde_json::json!({ "type": "bearer" })), Acknowledgement::AnySuccess);
    let networks = serde_json::json!({ "type": "ip_allow_list", "networks": ["192.0.2.0/24"] });
    let both = serde_json::json!({ "type": "all", "of": [networks, named("mailgun")] });
    assert_eq!(of(both), Acknowledgement::Ok);
}
