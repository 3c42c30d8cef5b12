use proptest::prelude::*;
use serde_json::json;

use super::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn read(value: &serde_json::Value) -> Result<RetryPolicy, String> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

#[test]
fn the_default_is_five_retries_over_seven_hours() {
    let policy = RetryPolicy::default();
    let json = serde_json::to_value(&policy).unwrap();
    assert_eq!(json, json!({"schedule": ["1m", "5m", "15m", "1h", "6h"], "jitter": 0.1}));
    assert_eq!(policy.wait_after(1, 0.5), Some(seconds(60)));
    assert_eq!(policy.wait_after(1, 0.0), Some(seconds(54)));
    assert_eq!(policy.wait_after(1, 1.0), Some(seconds(66)));
    assert_eq!(policy.wait_after(6, 0.5), None);
    assert_eq!(policy.wait_after(0, 0.5), None);
}

#[test]
fn waits_grow_up_to_the_longest() {
    let policy =
        read(&json!({"type": "exponential", "first": "10s", "factor": 3, "max": "60s", "attempts": 5}))
            .unwrap();
    policy.check().unwrap();
    let waits: Vec<_> = (1..=5).map(|attempt| policy.waits.after(attempt)).collect();
    assert_eq!(waits, [Some(seconds(10)), Some(seconds(30)), Some(seconds(60)), Some(seconds(60)), None]);
    let by_default = read(&json!({"type": "exponential", "first": "1s", "attempts": 2})).unwrap();
    let exponential =
        Waits::Exponential { first: seconds(1), factor: 2.0, longest: DEFAULT_LONGEST, attempts: 2 };
    assert_eq!(by_default.waits, exponential);
}

#[test]
fn jitter_makes_no_more_of_a_week() {
    let spread = |schedule: &[&str], random| {
        let policy = read(&json!({"schedule": schedule, "jitter": 1})).unwrap();
        policy.check().unwrap();
        (1..).map_while(|attempt| policy.wait_after(attempt, random)).collect::<Vec<_>>()
    };
    let day = seconds(86_400);
    assert_eq!(spread(&["7d"], 1.0), [7 * day]);
    assert_eq!(spread(&["7d"], 0.5), [7 * day]);
    assert_eq!(spread(&["7d"], 0.25), [day * 7 / 2]);
    assert_eq!(spread(&["5d", "1d"], 1.0).iter().sum::<Duration>(), 7 * day);
    assert_eq!(spread(&["1d", "2d"], 1.0), [2 * day, 4 * day], "there is room for all of it");
    assert_eq!(spread(&["0s"], 1.0), [Duration::ZERO]);
}

#[test]
fn what_is_out_of_bounds_is_refused_by_its_field() {
    let day = "24h";
    let exponential = |first: &str, factor: f64, max: &str, attempts: u32| json!({"type": "exponential", "first": first, "factor": factor, "max": max, "attempts": attempts});
    for (policy, field) in [
        (json!({"schedule": vec!["1m"; 30]}), "schedule"),
        (json!({"schedule": ["8d"]}), "schedule"),
        (json!({"schedule": vec![day; 8]}), "schedule"),
        (json!({"schedule": [], "jitter": 1.1}), "jitter"),
        (exponential("1s", 2.0, day, 31), "attempts"),
        (exponential("1s", 2.0, day, 0), "attempts"),
        (exponential("12h", 2.0, day, 9), "attempts"),
        (exponential("1s", 0.5, day, 5), "factor"),
        (exponential("1s", 1e9, day, 5), "factor"),
        (exponential("1s", 2.0, "8d", 5), "max"),
        (exponential("2m", 2.0, "1m", 5), "first"),
        (
            json!({"schedule": [], "overrides": {"timeout": {"schedule": ["8d"]}}}),
            "overrides.timeout.schedule",
        ),
    ] {
        let refused = read(&policy).unwrap().check().unwrap_err();
        assert_eq!(refused.field, field, "{policy}: {refused}");
    }
    for good in [
        json!({"schedule": vec!["1m"; 29], "jitter": 1.0}),
        json!({"schedule": vec![day; 7]}),
        exponential("12h", 2.0, day, 8),
        json!({"schedule": ["1s"], "overrides": {"client_error": "none"}}),
    ] {
        assert_eq!(read(&good).unwrap().check(), Ok(()), "{good}");
    }
    assert_eq!(RetryPolicy::schedule(vec![], f64::NAN).check().unwrap_err().field, "jitter");
}

#[test]
fn what_is_no_policy_says_why() {
    for (policy, why) in [
        (json!({}), "missing field `schedule`"),
        (json!({"type": "exponential", "attempts": 3}), "missing field `first`"),
        (json!({"type": "exponential", "first": "1s"}), "missing field `attempts`"),
        (json!({"schedule": [], "first": "1s"}), "are for `type`: `exponential`"),
        (json!({"type": "exponential", "schedule": []}), "schedule is for"),
        (json!({"type": "linear"}), "unknown variant `linear`"),
        (json!({"waits": []}), "unknown field `waits`"),
        (json!({"schedule": [], "overrides": {"slow": "none"}}), "unknown variant `slow`"),
        (json!({"schedule": [], "overrides": {"dns": "never"}}), "`none` or a policy"),
        (
            json!({"schedule": [], "overrides": {"dns": {"schedule": [], "overrides": {"tls": "none"}}}}),
            "no overrides of its own",
        ),
    ] {
        let said = read(&policy).unwrap_err();
        assert!(said.contains(why), "{policy}: {said}");
    }
}

#[test]
fn a_policy_reads_back() {
    for text in [
        r#"{"schedule":["1m","7d"],"jitter":0.0}"#,
        r#"{"type":"exponential","first":"30s","factor":1.5,"max":"6h","attempts":30,"jitter":0.2}"#,
        r#"{"schedule":[],"jitter":0.1,"overrides":{"client_error":"none","timeout":{"schedule":["1s"],"jitter":0.0}}}"#,
    ] {
        let policy: RetryPolicy = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
    }
    for class in FailureClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}

#[test]
fn retry_after_has_two_forms_and_bounds() {
    let now = DateTime::parse_from_rfc2822("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().with_timezone(&Utc);
    let seconds = |header| retry_after(header, now).map(|wait| wait.as_secs());
    assert_eq!(seconds("120"), Some(120));
    assert_eq!(seconds("0"), Some(1));
    assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
    for form in
        ["Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994", "Sun, 6 Nov 1994 09:50:37 +0100"]
    {
        assert_eq!(seconds(form), Some(60), "{form}");
    }
    assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(1));
    assert_eq!(seconds("Fri, 31 Dec 9999 23:59:59 GMT"), Some(86_400));
    assert_eq!(seconds("999999999999999999999999"), Some(86_400));
    for absurd in ["", "-5", "soon", "1.5", "1e9"] {
        assert_eq!(seconds(absurd), None, "{absurd}");
    }
}

/// Policies of any kind, about half of which are accepted.
fn policies() -> impl Strategy<Value = RetryPolicy> {
    let schedule = |most, count| {
        prop::collection::vec(0_u64..most, 0..count)
            .prop_map(|waits| Waits::Schedule(waits.into_iter().map(Duration::from_secs).collect()))
    };
    let exponential = |most: u64, factor: f64, count: u32| {
        (0..most, 0.9..factor, 0..most, 0..count).prop_map(|(first, factor, more, attempts)| {
            Waits::Exponential { first: seconds(first), factor, longest: seconds(first + more), attempts }
        })
    };
    let waits = prop_oneof![
        schedule(20_000, 30),
        schedule(700_000, 40),
        exponential(10_000, 3.0, 31),
        exponential(700_000, 1e6, 40),
    ];
    (waits, -0.1_f64..1.1).prop_map(|(waits, jitter)| RetryPolicy {
        waits,
        jitter,
        overrides: BTreeMap::new(),
    })
}

proptest! {
    /// What is accepted ends after 30 attempts and a week at the latest.
    #[test]
    fn an_accepted_policy_ends(policy in policies(), random in 0.0_f64..=1.0) {
        if policy.check().is_err() {
            return Ok(());
        }
        let waits: Vec<_> = (1..100).map_while(|attempt| policy.wait_after(attempt, random)).collect();
        prop_assert!(waits.len() < MAX_ATTEMPTS);
        // Half a wait's rounding error each.
        prop_assert!(waits.iter().sum::<Duration>() <= MAX_WAIT + Duration::from_millis(1));
    }

    #[test]
    fn jitter_stays_within_its_share(policy in policies(), attempt in 1_u32..40, random in 0.0_f64..1.0) {
        if policy.check().is_err() {
            return Ok(());
        }
        if let (Some(wait), Some(spread)) = (policy.waits.after(attempt), policy.wait_after(attempt, random)) {
            let off = spread.as_secs_f64() - wait.as_secs_f64();
            prop_assert!(off.abs() <= wait.as_secs_f64() * policy.jitter + 1e-6);
        }
    }

    #[test]
    fn any_policy_reads_back(policy in policies()) {
        if policy.check().is_err() {
            return Ok(());
        }
        // What was read once: numbers are written as they were read, not as they were drawn.
        let read = |policy: &RetryPolicy| -> RetryPolicy {
            serde_json::from_str(&serde_json::to_string(policy).unwrap()).unwrap()
        };
        let once = read(&policy);
        prop_assert_eq!(read(&once), once);
    }

    #[test]
    fn any_header_is_harmless(header in ".{0,60}") {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        if let Some(wait) = retry_after(&header, now) {
            prop_assert!(wait >= seconds(1) && wait <= seconds(86_400));
        }
    }
}
