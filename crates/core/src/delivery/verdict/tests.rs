use proptest::prelude::*;

use super::*;
use crate::delivery::{Failure, FailureKind, Phases, Response};
use crate::retry::Override;

fn answer(result: Result<Response, Failure>) -> Answer {
    Answer { result, duration: Duration::ZERO, phases: Phases::default(), address: None }
}

fn answered(status: u16, retry_after: Option<&str>) -> Answer {
    answer(Ok(Response {
        status,
        retry_after: retry_after.map(str::to_owned),
        event_id: None,
        body: Vec::new(),
    }))
}

fn failed(kind: FailureKind) -> Answer {
    answer(Err(Failure { kind, message: String::new(), ours: false }))
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn after(wait: Duration) -> Verdict {
    Verdict::Retry { at: now() + wait }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn made(attempt: u32) -> Made {
    Made { attempt, previous: None }
}

#[test]
fn retries_by_the_policy_until_it_ends() {
    let policy = RetryPolicy::schedule(vec![seconds(60), seconds(300)], 0.0);
    let verdict = |attempt| answered(500, None).verdict(&policy, made(attempt), now(), 0.5);
    assert_eq!([verdict(1), verdict(2)], [after(seconds(60)), after(seconds(300))]);
    assert_eq!(verdict(3), Verdict::GiveUp);
    assert_eq!(answered(201, None).verdict(&policy, made(3), now(), 0.5), Verdict::Delivered);
}

#[test]
fn a_destination_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
    let policy = RetryPolicy::schedule(vec![seconds(60)], 0.0);
    let wait = |header| answered(503, Some(header)).verdict(&policy, made(1), now(), 0.5);
    assert_eq!(wait("120"), after(seconds(120)));
    assert_eq!(wait("5"), after(seconds(60)));
    assert_eq!(wait("99999999999999"), after(seconds(86_400)));
    assert_eq!(wait("absurd"), after(seconds(60)));
}

#[test]
fn a_410_never_ends_a_delivery() {
    let policy = RetryPolicy::schedule(vec![], 0.0);
    let gone = answered(410, None);
    assert_eq!(gone.verdict(&policy, made(1), now(), 0.5), after(Duration::ZERO));
    assert_eq!(gone.signal(now()), Signal::Gone);
}

#[test]
fn what_a_person_has_to_mend_is_tried_once_more_slowly() {
    let policy = RetryPolicy::default();
    for (kind, outcome) in [
        (FailureKind::Certificate, Outcome::Certificate),
        (FailureKind::BlockedAddress, Outcome::BlockedAddress),
    ] {
        let verdict = |previous| failed(kind).verdict(&policy, Made { attempt: 2, previous }, now(), 0.5);
        assert_eq!(verdict(None), after(SLOW_RETRY));
        assert_eq!(verdict(Some(Outcome::Timeout)), after(SLOW_RETRY), "another failure came before");
        assert_eq!(verdict(Some(outcome)), Verdict::GiveUp);
        let no_retries = RetryPolicy::schedule(vec![], 0.0);
        assert_eq!(failed(kind).verdict(&no_retries, made(1), now(), 0.5), Verdict::GiveUp);
    }
}

#[test]
fn an_override_decides_for_its_class_alone() {
    let mut policy = RetryPolicy::schedule(vec![seconds(60)], 0.0);
    let of_its_own = RetryPolicy::schedule(vec![seconds(7), seconds(7)], 0.0);
    policy.overrides = [
        (FailureClass::ClientError, Override::Never),
        (FailureClass::BlockedAddress, Override::Policy(Box::new(of_its_own))),
    ]
    .into();
    let verdict = |answer: Answer, attempt| answer.verdict(&policy, made(attempt), now(), 0.5);
    assert_eq!(verdict(answered(404, None), 1), Verdict::GiveUp);
    assert_eq!(verdict(answered(429, None), 1), after(seconds(60)), "a class of its own");
    assert_eq!(verdict(failed(FailureKind::BlockedAddress), 2), after(seconds(7)));
    assert_eq!(verdict(failed(FailureKind::Timeout), 2), Verdict::GiveUp);
}

#[test]
fn every_answer_tells_something_of_its_destination() {
    let until = Some(now() + seconds(30));
    for (status, retry_after, signal) in [
        (200, None, Signal::Accepts),
        (299, Some("30"), Signal::Accepts),
        (302, None, Signal::Refuses),
        (404, Some("30"), Signal::Refuses),
        (429, Some("30"), Signal::Slow { until }),
        (503, Some("30"), Signal::Slow { until }),
        (503, Some("-1"), Signal::Slow { until: None }),
        (429, None, Signal::Slow { until: None }),
        (500, Some("30"), Signal::Fails),
        (100, None, Signal::Fails),
        (999, None, Signal::Fails),
    ] {
        assert_eq!(answered(status, retry_after).signal(now()), signal, "{status}");
    }
    for kind in FailureKind::ALL {
        let signal = if kind == FailureKind::Timeout { Signal::Hangs } else { Signal::Fails };
        assert_eq!(failed(kind).signal(now()), signal, "{kind:?}");
    }
}

proptest! {
    /// Whatever a destination says: it is not left alone for longer than a day, nor is it stormed.
    #[test]
    fn a_destination_that_is_slow_says_so_within_bounds(status in prop_oneof![Just(429_u16), Just(503)], header in ".{0,40}") {
        if let Signal::Slow { until: Some(until) } = answered(status, Some(&header)).signal(now()) {
            prop_assert!(until >= now() + seconds(1) && until <= now() + seconds(86_400));
        }
    }

    #[test]
    fn a_delivery_ends(status in 100_u16..1000, attempts in 1_u32..30, outcome in 0_usize..Outcome::ALL.len()) {
        let waits = vec![seconds(1); usize::try_from(attempts).unwrap() - 1];
        let policy = RetryPolicy::schedule(waits, 0.1);
        let made = Made { attempt: attempts, previous: Some(Outcome::ALL[outcome]) };
        let ends = answered(status, None).verdict(&policy, made, now(), 0.5);
        prop_assert_eq!(matches!(ends, Verdict::Retry { .. }), status == 410);
    }
}
