//! One table for each rule: what comes to pass at which second of a simulated clock, and what that is judged to be.

use super::*;
use crate::alert::rule::defaults;
use crate::alert::{Scope, Seen};
use crate::pacing::DestinationReport;

fn at(second: i64) -> DateTime<Utc> {
    // The start of a minute.
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn attempt(second: i64, success: bool) -> Seen {
    let error = (!success).then(|| "refused".to_owned());
    Seen { at: at(second), success, took_ms: 20, dead: false, expired: false, error }
}

fn see(watch: &mut Watch, seen: &Seen) {
    watch.tally(seen);
    watch.follow(seen);
}

/// T: trouble, W: well, ?: undecided.
fn letter(judgement: &Judgement) -> char {
    match judgement {
        Judgement::Trouble(_) => 'T',
        Judgement::Well => 'W',
        Judgement::Undecided => '?',
    }
}

/// What is judged after each attempt.
fn judged(condition: &Condition, attempts: &[Seen]) -> String {
    let mut watch = Watch::default();
    let after_each = attempts.iter().map(|seen| {
        see(&mut watch, seen);
        letter(&judge(condition, &watch, seen.at))
    });
    after_each.collect()
}

fn evidence(judgement: Judgement) -> Evidence {
    match judgement {
        Judgement::Trouble(evidence) => *evidence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn failures_in_a_row() {
    let condition = Condition::ConsecutiveFailures { failures: 3 };
    let attempts: Vec<Seen> = [true, false, false, true, false, false, false, false, true]
        .into_iter()
        .zip(0..)
        .map(|(success, second)| attempt(second, success))
        .collect();
    assert_eq!(judged(&condition, &attempts), "W??W??TTW");
    let mut watch = Watch::default();
    for seen in &attempts[..8] {
        see(&mut watch, seen);
    }
    let shown = evidence(judge(&condition, &watch, at(8)));
    assert_eq!((shown.failures_in_a_row, shown.since), (Some(4), Some(at(4))));
    assert_eq!((shown.last_success_at, shown.last_error.as_deref()), (Some(at(3)), Some("refused")));
}

#[test]
fn error_rate() {
    let window = Duration::from_mins(5);
    let condition = Condition::ErrorRate { percent: 5.0, window, minimum_attempts: 20 };
    // A failure among too few says nothing; one of twenty is not more than five of a hundred; two of 21 are.
    let mut attempts: Vec<Seen> = (0..21).map(|second| attempt(second, second != 3)).collect();
    attempts[20].success = false;
    assert_eq!(judged(&condition, &attempts), "WWW????????????????WT");
    let mut watch = Watch::default();
    for seen in &attempts {
        see(&mut watch, seen);
    }
    let shown = evidence(judge(&condition, &watch, at(20)));
    assert_eq!((shown.attempts, shown.failures, shown.since), (Some(21), Some(2), Some(at(20 - 300))));
    // Six minutes later no failure is in the window, whether anything is attempted or not.
    assert_eq!(letter(&judge(&condition, &watch, at(359))), 'T');
    assert_eq!(letter(&judge(&condition, &watch, at(360))), 'W');
}

#[test]
fn destination_down() {
    let condition = Condition::DestinationDown { after: Duration::from_mins(10) };
    let attempts = [
        attempt(0, true),
        attempt(60, false),
        attempt(120, false),
        attempt(659, false),
        attempt(660, false),
        attempt(700, true),
        attempt(710, false),
    ];
    assert_eq!(judged(&condition, &attempts), "W???TW?");
    // Three in vain are enough, without another attempt; a single one is not.
    let mut watch = Watch::default();
    see(&mut watch, &attempt(0, false));
    assert_eq!(letter(&judge(&condition, &watch, at(6_000))), '?');
    see(&mut watch, &attempt(1, false));
    see(&mut watch, &attempt(2, false));
    assert_eq!(letter(&judge(&condition, &watch, at(599))), '?');
    assert_eq!(letter(&judge(&condition, &watch, at(600))), 'T');
}

#[test]
fn dead_letters() {
    let condition = Condition::DeadLetters { count: 2, window: Duration::from_mins(1) };
    let dead = |second| Seen { dead: true, ..attempt(second, false) };
    let attempts = [attempt(0, false), dead(1), attempt(2, true), dead(3), attempt(4, true), dead(300)];
    assert_eq!(judged(&condition, &attempts), "W??T??");
    let mut watch = Watch::default();
    for seen in &attempts[..4] {
        see(&mut watch, seen);
    }
    assert_eq!(evidence(judge(&condition, &watch, at(3))).dead_letters, Some(2));
    assert_eq!(letter(&judge(&condition, &watch, at(120))), 'W');
}

#[test]
fn what_has_expired_is_told_of_whatever_else_is_wrong() {
    let expired = |second| Seen {
        dead: true,
        expired: true,
        error: Some("kept too long".to_owned()),
        ..attempt(second, false)
    };
    let mut watch = Watch::default();
    for second in 0..50 {
        see(&mut watch, &attempt(second, false));
    }
    see(&mut watch, &expired(100));
    let failing = watch.failures_in_a_row;
    let rules = defaults(5);
    let (endpoint, destination) = (EndpointId(uuid::Uuid::nil()), DestinationId(uuid::Uuid::nil()));
    let of = |watch: &Watch| {
        judge_destination(&rules, endpoint, destination, watch, at(101))
            .find(|(rule, _)| rule.condition.name() == ConditionName::DeadLetters)
            .map(|(_, judgement)| judgement)
            .unwrap()
    };
    let told = evidence(of(&watch));
    assert_eq!((told.dead_letters, told.last_error.as_deref()), (Some(1), Some("kept too long")));
    assert_eq!(
        (failing, watch.in_window(Duration::from_mins(5), at(101)).attempts),
        (50, 50),
        "nothing was sent"
    );
    see(&mut watch, &attempt(102, false));
    assert_eq!(of(&watch), Judgement::Undecided, "one outage is one alert");
}

#[test]
fn latency() {
    let window = Duration::from_mins(1);
    let condition = Condition::Latency { p95: Duration::from_secs(1), window, minimum_attempts: 10 };
    let slow = |second| Seen { took_ms: 4_000, ..attempt(second, true) };
    let mut attempts: Vec<Seen> = (0..9).map(slow).collect();
    attempts.push(slow(9));
    assert_eq!(judged(&condition, &attempts), "?????????T");
    let fast: Vec<Seen> = (0..10).map(|second| attempt(second, true)).collect();
    assert_eq!(judged(&condition, &fast), "?????????W");
    let mut watch = Watch::default();
    for seen in &attempts {
        see(&mut watch, seen);
    }
    assert!(evidence(judge(&condition, &watch, at(9))).p95_ms > Some(2_000));
    assert_eq!(letter(&judge(&condition, &watch, at(120))), 'W');
}

#[test]
fn warned_and_disabled() {
    let (warning, disabled) = (Condition::DisableWarning {}, Condition::DestinationDisabled {});
    let report = |destination_event| DestinationReport {
        id: uuid::Uuid::nil().into(),
        organization_id: uuid::Uuid::nil().into(),
        endpoint_id: uuid::Uuid::nil().into(),
        destination_id: uuid::Uuid::nil().into(),
        destination_event,
        disabled_reason: None,
        failing_since: Some(at(1)),
        disabled_at_earliest: None,
        happened_at: at(9),
    };
    let mut watch = Watch::default();
    let both = |watch: &Watch| {
        [&warning, &disabled]
            .map(|condition| letter(&judge(condition, watch, at(10))))
            .iter()
            .collect::<String>()
    };
    assert_eq!(both(&watch), "WW");
    see(&mut watch, &attempt(1, false));
    assert_eq!(both(&watch), "??");
    watch.disabling = Some(Box::new(report(DestinationEvent::Warned)));
    assert_eq!(both(&watch), "TW");
    watch.disabling = Some(Box::new(report(DestinationEvent::Disabled)));
    assert_eq!(both(&watch), "WT");
    assert_eq!(evidence(judge(&disabled, &watch, at(10))).since, Some(at(1)));
    see(&mut watch, &attempt(11, true));
    assert_eq!(both(&watch), "WW");
}

#[test]
fn backlog() {
    let condition = Condition::Backlog { waiting: Some(10), oldest: Some(Duration::from_mins(2)) };
    for (waiting, due, expected) in
        [(0, None, 'W'), (10, Some(119), 'W'), (11, Some(119), 'T'), (1, Some(120), 'T')]
    {
        let waits = Waits { waiting, oldest_due_at: due.map(|seconds| at(-seconds)) };
        assert_eq!(letter(&judge_backlog(&condition, waits, at(0))), expected, "{waits:?}");
    }
}

#[test]
fn endpoint_silent() {
    let condition = Condition::EndpointSilent { after: Duration::from_hours(3) };
    let three = 3 * 3_600;
    for (busy_hours, last, expected) in [
        (0, None, '?'),
        (11, Some(three), '?'),
        (12, Some(three - 1), 'W'),
        (12, Some(three), 'T'),
        (0, Some(10), 'W'),
    ] {
        let received = Received { busy_hours, last_at: last.map(|seconds: i64| at(-seconds)) };
        assert_eq!(letter(&judge_silence(&condition, received, at(0))), expected, "{received:?}");
    }
}

#[test]
fn signature_failures() {
    let condition = Condition::SignatureFailures { count: 50, window: Duration::from_hours(1) };
    let hour = 60 * 60;
    let judged = |minutes: &[(i64, u32)]| {
        let minutes: Vec<_> = minutes.iter().map(|(second, count)| (at(*second), *count)).collect();
        judge_rejected(&condition, &minutes, at(0))
    };
    assert_eq!(letter(&judged(&[(-60, 20), (-hour, 29)])), 'W');
    assert_eq!(evidence(judged(&[(-60, 20), (-hour, 30)])).rejected, Some(50));
    assert_eq!(letter(&judged(&[(-60, 20), (-hour - 60, 30)])), 'W', "that was before the window");
}

#[test]
fn one_outage_is_one_alert_unless_somebody_asks_for_more() {
    let (endpoint, destination) = (uuid::Uuid::from_u128(1).into(), uuid::Uuid::from_u128(2).into());
    let mut rules = defaults(3);
    let mut watch = Watch::default();
    for second in 0..3 {
        see(&mut watch, &Seen { dead: true, ..attempt(second, false) });
    }
    let troubles = |rules: &[Rule], watch: &Watch| -> Vec<ConditionName> {
        let all = judge_destination(rules, endpoint, destination, watch, at(2));
        let trouble = all.filter(|(_, judgement)| matches!(judgement, Judgement::Trouble(_)));
        trouble.map(|(rule, _)| rule.condition.name()).collect()
    };
    assert_eq!(troubles(&rules, &watch), [ConditionName::ConsecutiveFailures]);
    let own = RuleKey::Own(uuid::Uuid::from_u128(3).into());
    let scope = Scope::Endpoint { id: endpoint };
    let letters =
        rules.iter().find(|rule| rule.condition.name() == ConditionName::DeadLetters).cloned().unwrap();
    rules.push(Rule { key: own, scope, ..letters.clone() });
    assert_eq!(troubles(&rules, &watch), [ConditionName::ConsecutiveFailures, ConditionName::DeadLetters]);
    // Of another endpoint it says nothing.
    rules.pop();
    rules.push(Rule { key: own, scope: Scope::Endpoint { id: uuid::Uuid::from_u128(9).into() }, ..letters });
    assert_eq!(troubles(&rules, &watch), [ConditionName::ConsecutiveFailures]);
    // Without an outage the default tells of letters.
    let mut healthy = Watch::default();
    see(&mut healthy, &attempt(0, true));
    see(&mut healthy, &Seen { dead: true, ..attempt(1, false) });
    assert_eq!(troubles(&rules, &healthy), [ConditionName::DeadLetters]);
}

#[test]
fn every_headline_tells_how_much() {
    let evidence = Evidence { failures: Some(3), attempts: Some(40), ..Evidence::default() };
    assert_eq!(headline(ConditionName::ErrorRate, &evidence), "fails too often (7.5 % of 40 attempts)");
    for name in ConditionName::ALL {
        assert!(!headline(name, &evidence).is_empty());
    }
}
