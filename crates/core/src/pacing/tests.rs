use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    breaker_failures: 3,
    breaker_wait: Duration::from_secs(5),
    breaker_longest: Duration::from_secs(60),
    disable_after: Some(Duration::from_hours(100)),
    concurrency: 8,
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn hours(hours: i64) -> DateTime<Utc> {
    at(hours * 3_600)
}

/// After these signals, one a second from the first second on.
fn after(signals: &[Signal]) -> Health {
    let mut health = Health::default();
    for (second, signal) in (0..).zip(signals) {
        assert_eq!(health.hear(*signal, at(second), &RULES), None);
    }
    health
}

fn slow(seconds: i64) -> Signal {
    Signal::Slow { until: Some(at(seconds)) }
}

#[test]
fn the_breaker_opens_probes_and_closes_into_a_slow_start() {
    let mut health = after(&[Signal::Fails; 3]);
    assert_eq!(health.breaker(at(2)), Breaker::Open);
    assert_eq!(health.gate(8, at(2)), Gate::ClosedUntil(at(7)));
    assert_eq!((health.breaker(at(7)), health.gate(8, at(7))), (Breaker::HalfOpen, Gate::Open(1)));
    health.hear(Signal::Fails, at(8), &RULES);
    assert_eq!(health.gate(8, at(8)), Gate::ClosedUntil(at(18)), "twice as long");
    assert_eq!(health.opened_at, Some(at(2)), "it has been open since it opened first");
    for (concurrency, second) in [(2, 18), (3, 19), (4, 20)] {
        health.hear(Signal::Accepts, at(second), &RULES);
        assert_eq!(health.gate(8, at(second)), Gate::Open(concurrency));
    }
    assert_eq!((health.breaker(at(20)), health.trips, health.failing_since), (Breaker::Closed, 0, None));
    health.hear(Signal::Fails, at(21), &RULES);
    assert_eq!(health.gate(8, at(21)), Gate::Open(2), "half as fast");
    for second in 22..30 {
        health.hear(Signal::Accepts, at(second), &RULES);
    }
    assert_eq!((health.gate(8, at(30)), health.concurrency), (Gate::Open(8), None));
}

#[test]
fn what_was_sent_before_the_breaker_opened_tells_nothing_new() {
    let mut health = after(&[Signal::Fails; 3]);
    let opens = health.probe_at;
    health.hear(Signal::Fails, at(3), &RULES);
    assert_eq!((health.probe_at, health.trips), (opens, 1));
    health.hear(Signal::Accepts, at(4), &RULES);
    assert_eq!(health.gate(8, at(4)), Gate::Open(2), "an acceptance does");
}

#[test]
fn the_wait_for_a_probe_has_an_end() {
    let mut health = after(&[Signal::Fails; 3]);
    let mut now = at(3);
    for _ in 0..100 {
        now = health.probe_at.unwrap();
        health.hear(Signal::Fails, now, &RULES);
    }
    assert_eq!(health.probe_at, Some(now + RULES.breaker_longest));
}

#[test]
fn who_refuses_is_there() {
    let health = after(&[Signal::Fails, Signal::Fails, Signal::Refuses, Signal::Fails, Signal::Fails]);
    assert_eq!(health.breaker(at(5)), Breaker::Closed);
    assert_eq!(health.failing_since, Some(at(0)), "but it accepts nothing");
}

#[test]
fn who_has_too_much_to_do_is_left_alone_as_long_as_it_asked_for() {
    let mut health = after(&[slow(30), slow(20)]);
    assert_eq!(health.gate(8, at(29)), Gate::ClosedUntil(at(30)), "the longest counts");
    assert_eq!(health.gate(8, at(30)), Gate::Open(1));
    health.hear(Signal::Accepts, at(5), &RULES);
    assert_eq!(health.gate(8, at(6)), Gate::ClosedUntil(at(30)), "one that got through changes nothing");
    let health = after(&[Signal::Slow { until: None }]);
    assert_eq!(health.gate(8, at(0)), Gate::ClosedUntil(at(5)));
    let health = after(&[Signal::Slow { until: None }; 3]);
    assert_eq!(health.breaker(at(3)), Breaker::Open, "who never says for how long is broken");
    let health = after(&[slow(30); 5]);
    assert_eq!(health.breaker(at(5)), Breaker::Closed, "who does is not");
}

#[test]
fn gone_is_gone_until_somebody_resumes_it() {
    let mut health = Health::default();
    let gone = Some(Turn::Disabled(DisabledReason::Gone));
    assert_eq!(health.hear(Signal::Gone, at(0), &RULES), gone);
    assert_eq!(health.hear(Signal::Gone, at(1), &RULES), None, "told once");
    health.hear(Signal::Accepts, at(2), &RULES);
    assert_eq!(health.gate(8, at(3)), Gate::Disabled);
}

#[test]
fn failures_only_lead_to_a_warning_and_to_the_end() {
    let mut health = Health::default();
    let mut hear = |hour| health.hear(Signal::Refuses, hours(hour), &RULES);
    assert_eq!([hear(0), hear(49)], [None, None]);
    assert_eq!(hear(50), Some(Turn::Warned));
    assert_eq!([hear(51), hear(99)], [None, None]);
    assert_eq!(hear(100), Some(Turn::Disabled(DisabledReason::Failing)));
    assert_eq!(hear(101), None);
}

#[test]
fn nobody_is_disabled_without_a_warning_that_leaves_time() {
    let mut health = Health::default();
    let mut hear = |hour| health.hear(Signal::Fails, hours(hour), &RULES);
    assert_eq!(hear(0), None);
    assert_eq!(hear(1_000), Some(Turn::Warned), "it had nothing to do for long");
    assert_eq!(hear(1_024), None);
    assert_eq!(hear(1_025), Some(Turn::Disabled(DisabledReason::Failing)));
}

#[test]
fn one_acceptance_starts_the_time_anew_and_never_is_never() {
    let mut health = Health::default();
    health.hear(Signal::Fails, hours(0), &RULES);
    assert_eq!(health.hear(Signal::Fails, hours(60), &RULES), Some(Turn::Warned));
    health.hear(Signal::Accepts, hours(61), &RULES);
    assert_eq!(health.warned_at, None);
    assert_eq!(health.hear(Signal::Fails, hours(110), &RULES), None);
    let never = Rules { disable_after: None, ..RULES };
    assert_eq!(health.hear(Signal::Fails, hours(9_999), &never), None);
}

#[test]
fn limits_have_bounds_and_read_as_documented() {
    let check =
        |text: &str| serde_json::from_str::<Limits>(text).unwrap().check().map_err(|error| error.field);
    assert_eq!(check("{}"), Ok(()));
    assert_eq!(check(r#"{"concurrency": 256, "rate": {"per_second": 1, "burst": 1}}"#), Ok(()));
    assert_eq!(check(r#"{"concurrency": 0}"#), Err("concurrency"));
    assert_eq!(check(r#"{"concurrency": 257}"#), Err("concurrency"));
    assert_eq!(check(r#"{"rate": {"per_second": 0, "burst": 1}}"#), Err("rate.per_second"));
    assert_eq!(check(r#"{"rate": {"per_second": 1, "burst": 0}}"#), Err("rate.burst"));
    assert!(serde_json::from_str::<Limits>(r#"{"speed": 1}"#).is_err());
}

#[test]
fn who_hangs_is_sent_one_at_a_time_until_it_answers() {
    let mut health = after(&[Signal::Accepts, Signal::Hangs]);
    assert_eq!((health.breaker(at(2)), health.gate(8, at(2))), (Breaker::Closed, Gate::Open(1)));
    health.hear(Signal::Accepts, at(3), &RULES);
    assert_eq!(health.gate(8, at(3)), Gate::Open(2));
    health.hear(Signal::Hangs, at(4), &RULES);
    assert_eq!(health.gate(8, at(4)), Gate::Open(1));
}

#[test]
fn health_is_stored_under_the_names_of_its_columns() {
    let health = after(&[Signal::Fails, slow(9)]);
    let stored = serde_json::to_value(health).unwrap();
    assert_eq!(serde_json::from_value::<Health>(stored).unwrap(), health);
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        3 => Just(Signal::Accepts),
        3 => Just(Signal::Fails),
        1 => Just(Signal::Hangs),
        1 => Just(Signal::Refuses),
        1 => Just(Signal::Slow { until: None }),
        1 => (0_i64..5_000).prop_map(slow),
    ]
}

proptest! {
    /// Whatever it answers: it is let in again, and no sooner closed than for the longest time there is.
    #[test]
    fn a_gate_is_never_closed_for_good(heard in prop::collection::vec((signals(), 0_i64..100), 0..60)) {
        let rules = Rules { disable_after: None, ..RULES };
        let mut health = Health::default();
        let mut now = 0;
        for (signal, later) in heard {
            now += later;
            health.hear(signal, at(now), &rules);
            match health.gate(8, at(now)) {
                Gate::Open(most) => prop_assert!((1..=8).contains(&most)),
                Gate::ClosedUntil(opens_at) => {
                    prop_assert!(opens_at <= at(now.max(5_000)) + RULES.breaker_longest);
                    prop_assert!(matches!(health.gate(8, opens_at), Gate::Open(_)));
                }
                Gate::Disabled => prop_assert!(false, "nothing disables it"),
            }
        }
        // It works again: after as many acceptances as it has room for it is as fast as ever.
        for second in 0..8 {
            health.hear(Signal::Accepts, at(now + 10_000 + second), &rules);
        }
        prop_assert_eq!(health.gate(8, at(now + 20_000)), Gate::Open(8));
    }
}
