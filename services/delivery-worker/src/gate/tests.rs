use chrono::TimeDelta;
use proptest::prelude::*;
use ravenpost_core::ids::{DestinationId, OrganizationId};
use ravenpost_core::pacing::{DisabledReason, Limits};
use uuid::Uuid;

use super::*;
use crate::settings::DisableAfter as Operator;

pub(crate) const OPERATOR: PacingSettings = PacingSettings {
    lane_concurrency: 4,
    lane_queue: 8,
    destination_rate_limit: None,
    breaker_failures: 3,
    breaker_wait: Duration::from_secs(5),
    breaker_longest_wait: Duration::from_secs(60),
    disable_after: Operator(None),
};

pub(crate) fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + milliseconds).unwrap()
}

pub(crate) fn pace(settings: PaceSettings, health: Health) -> Pace {
    Pace {
        destination_id: DestinationId(Uuid::from_u128(1)),
        organization_id: OrganizationId(Uuid::from_u128(2)),
        settings,
        health,
        held: false,
        behind: false,
        next_due_at: None,
    }
}

fn limited(per_second: u32, burst: u32) -> PaceSettings {
    let limits = Limits { concurrency: None, rate: Some(RateLimit { per_second, burst }) };
    PaceSettings { limits, ..PaceSettings::default() }
}

fn gate(settings: PaceSettings) -> Gate {
    Gate::new(OPERATOR, &pace(settings, Health::default()), at(0))
}

#[test]
fn concurrency_is_the_destinations_own_or_the_operators() {
    let operators = gate(PaceSettings::default());
    assert_eq!((operators.ask(3, at(0)), operators.ask(4, at(0))), (Permit::Now, Permit::AfterAnother));
    let limits = Limits { concurrency: Some(1), rate: None };
    let own = gate(PaceSettings { limits, ..PaceSettings::default() });
    assert_eq!((own.ask(0, at(0)), own.ask(1, at(0))), (Permit::Now, Permit::AfterAnother));
}

#[test]
fn without_a_way_out_one_at_a_time_looks_for_it_until_one_is_answered() {
    let mut gate = gate(PaceSettings::default());
    assert_eq!(gate.lose_way_out(at(5_000)), WayOut::Open);
    assert_eq!(
        (gate.ask(3, at(0)), gate.most_waiting(8, at(0))),
        (Permit::Now, 8),
        "a single one says little"
    );
    assert_eq!(gate.lose_way_out(at(5_000)), WayOut::Doubted);
    assert_eq!(gate.ask(0, at(4_999)), Permit::At(at(5_000)));
    assert_eq!((gate.ask(0, at(5_000)), gate.ask(1, at(5_000))), (Permit::Now, Permit::AfterAnother));
    assert_eq!(gate.most_waiting(8, at(5_000)), 0);
    assert_eq!(gate.lose_way_out(at(10_000)), WayOut::Closed);
    assert_eq!(gate.ask(0, at(9_999)), Permit::At(at(10_000)));
    gate.hear(Signal::Fails, at(10_000));
    assert_eq!((gate.ask(3, at(10_000)), gate.most_waiting(8, at(10_000))), (Permit::Now, 8), "an answer");
    assert_eq!(gate.lose_way_out(at(15_000)), WayOut::Open);
}

#[test]
fn a_probe_that_did_not_get_out_is_made_again() {
    let mut gate = gate(PaceSettings::default());
    for _ in 0..OPERATOR.breaker_failures {
        gate.hear(Signal::Fails, at(0));
    }
    // Its wait is spread at random.
    assert_eq!(gate.ask(0, at(20_000)), Permit::Now);
    for until in [25_000, 30_000] {
        gate.lose_way_out(at(until));
        assert_eq!((gate.shut(at(until)), gate.ask(0, at(until))), (Shut::HalfOpen, Permit::Now));
    }
    gate.hear(Signal::Accepts, at(30_000));
    assert_ne!(gate.shut(at(30_000)), Shut::HalfOpen);
}

#[test]
fn the_rate_says_when() {
    let mut gate = gate(limited(10, 2));
    for _ in 0..2 {
        assert_eq!(gate.ask(0, at(0)), Permit::Now);
        gate.pass(at(0));
    }
    let Permit::At(then) = gate.ask(0, at(0)) else { panic!("the burst is used up") };
    assert!(then > at(100) && then < at(101), "{then}");
    assert_eq!(gate.ask(0, then), Permit::Now);
    assert_eq!(gate.most_waiting(8, at(0)), 5);
    assert_eq!(super::tests::gate(limited(1, 1)).most_waiting(8, at(0)), 1);
    assert_eq!(super::tests::gate(limited(99, 1)).most_waiting(8, at(0)), 8);
}

#[test]
fn whoever_takes_over_does_not_begin_with_a_burst() {
    let at_work = Health { last_success_at: Some(at(-1_000)), ..Health::default() };
    let taken_over = Gate::new(OPERATOR, &pace(limited(10, 50), at_work), at(0));
    assert!(matches!(taken_over.ask(0, at(0)), Permit::At(_)));
    let rested = Health { last_failure_at: Some(at(-16_000)), ..Health::default() };
    let taken_over = Gate::new(OPERATOR, &pace(limited(10, 50), rested), at(0));
    assert_eq!(taken_over.ask(0, at(0)), Permit::Now);
    let mut changed = gate(limited(10, 50));
    changed.configure(limited(10, 60), at(0));
    assert!(matches!(changed.ask(0, at(0)), Permit::At(_)), "nor does who changes the limit");
}

#[test]
fn a_stored_state_goes_on() {
    let open = Health { opened_at: Some(at(-10)), probe_at: Some(at(500)), ..Health::default() };
    let taken_over = Gate::new(OPERATOR, &pace(PaceSettings::default(), open), at(0));
    assert_eq!(taken_over.ask(0, at(0)), Permit::At(at(500)));
    assert_eq!((taken_over.most_at_once(at(499)), taken_over.most_at_once(at(500))), (0, 1));
    assert_eq!(taken_over.most_waiting(8, at(500)), 0, "nothing waits behind a probe");
    assert_eq!((taken_over.shut(at(0)), taken_over.shut(at(500))), (Shut::Breaker, Shut::HalfOpen));
}

#[test]
fn who_is_resumed_starts_anew_and_old_news_changes_nothing() {
    let mut gate = gate(PaceSettings::default());
    gate.hear(Signal::Gone, at(1));
    assert_eq!((gate.ask(0, at(2)), gate.shut(at(2))), (Permit::Never, Shut::Disabled));
    assert!(gate.follow(Some(at(3))));
    assert_eq!(gate.ask(0, at(3)), Permit::Now);
    gate.hear(Signal::Gone, at(4));
    assert!(!gate.follow(Some(at(3))), "it is known");
    assert!(!gate.follow(None), "read before it was resumed");
    assert_eq!(gate.health().disabled_reason, Some(DisabledReason::Gone));
}

#[test]
fn what_gates_is_stored_at_once_and_the_rest_now_and_then() {
    let mut gate = gate(PaceSettings::default());
    gate.hear(Signal::Accepts, at(0));
    assert!(gate.to_store(at(0)).is_some(), "the first time");
    gate.hear(Signal::Accepts, at(10));
    assert_eq!(gate.to_store(at(10)), None);
    gate.hear(Signal::Fails, at(20));
    assert_eq!(gate.to_store(at(20)).unwrap().failures, 1);
    gate.hear(Signal::Accepts, at(30));
    assert!(gate.to_store(at(30)).is_some());
    gate.hear(Signal::Accepts, at(10_030));
    assert_eq!(gate.to_store(at(10_030)).unwrap().last_success_at, Some(at(10_030)));
}

#[test]
fn the_shortest_setting_decides_when_it_is_disabled() {
    let after =
        |disable_after| gate(PaceSettings { disable_after, ..PaceSettings::default() }).disable_after();
    assert_eq!(after(DisableAfter::Operator), None);
    assert_eq!(after(DisableAfter::Never), None);
    assert_eq!(after(DisableAfter::After(Duration::from_secs(9))), Some(Duration::from_secs(9)));
}

proptest! {
    /// Whatever comes back when: not more is sent than rate and concurrency let through, and something always comes
    /// through in the end.
    #[test]
    fn no_more_passes_than_the_limits_let_through(steps in prop::collection::vec((0_u8..4, 1_i64..400), 1..200)) {
        let mut gate = gate(limited(20, 3));
        let (mut now, mut running, mut passed) = (at(0), 0_usize, 0_u32);
        for (kind, wait) in steps {
            now += TimeDelta::milliseconds(wait);
            while gate.ask(running, now) == Permit::Now {
                gate.pass(now);
                running += 1;
                passed += 1;
            }
            prop_assert!(running <= 4);
            let seconds = (now - at(0)).as_seconds_f64();
            prop_assert!(f64::from(passed) <= 3.0 + 20.0 * seconds + 1e-6, "{passed} in {seconds}");
            if running > 0 {
                running -= 1;
                let signal = match kind {
                    0 => Signal::Fails,
                    1 => Signal::Slow { until: Some(now + TimeDelta::seconds(1)) },
                    _ => Signal::Accepts,
                };
                gate.hear(signal, now);
            }
        }
        let later = now + TimeDelta::minutes(2);
        prop_assert_eq!(gate.ask(0, later), Permit::Now);
    }
}

#[test]
fn a_rest_is_over_when_it_is_and_is_nothing_of_the_destinations() {
    let mut gate = gate(PaceSettings::default());
    gate.rest_until(at(1_000));
    assert_eq!((gate.ask(0, at(999)), gate.most_at_once(at(999))), (Permit::At(at(1_000)), 0));
    assert_eq!((gate.ask(0, at(1_000)), gate.shut(at(0))), (Permit::Now, Shut::Not));
    assert_eq!(*gate.health(), Health::default());
}
