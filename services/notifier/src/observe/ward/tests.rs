//! A partition's reports by a simulated clock, read once, and again after a crash.

use ravenpost_core::alert::rule::defaults;
use ravenpost_core::delivery::{DeliveryKey, Outcome};
use uuid::Uuid;

use super::*;

const ORGANIZATION: OrganizationId = OrganizationId(Uuid::from_u128(1));
const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(2));

fn destination(number: u128) -> DestinationId {
    DestinationId(Uuid::from_u128(100 + number))
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn report(offset: i64, number: u128, success: bool) -> (i64, Report) {
    let key = DeliveryKey {
        event_id: Uuid::from_u128(u128::from(offset.unsigned_abs())).into(),
        destination_id: destination(number),
        run: 0,
        attempt_number: 1,
    };
    let report = DeliveryReport {
        id: Uuid::from_u128(8).into(),
        organization_id: ORGANIZATION,
        endpoint_id: ENDPOINT,
        key,
        outcome: if success { Outcome::Success } else { Outcome::Connect },
        response_code: None,
        error_message: (!success).then(|| "refused".to_owned()),
        next_retry_at: None,
        dead: false,
        attempted_at: at(offset),
        duration_ms: 10,
        phases: ravenpost_core::delivery::PhaseTimes::default(),
        connected_address: None,
    };
    (offset, Report::Attempt(report))
}

fn rules() -> HashMap<OrganizationId, OfOrganization> {
    HashMap::from([(ORGANIZATION, defaults(3).into())])
}

/// What opens (`+`) and resolves (`-`), for rules that had something to say.
fn shown(turns: &[Turn]) -> Vec<String> {
    let told = turns.iter().map(|turn| {
        let number = turn.subject.destination_id.map_or(0, |id| id.0.as_u128() - 100);
        format!("{}{number} {}", if turn.fires.is_some() { '+' } else { '-' }, turn.rule)
    });
    told.collect()
}

#[test]
fn an_alert_opens_and_resolves_once() {
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let outcomes = [false, false, false, false, true, true];
    let batch: Vec<_> = (1..).zip(outcomes).map(|(offset, success)| report(offset, 1, success)).collect();
    let step = ward.take(&batch, &rules());
    let failing = shown(&step.turns).into_iter().filter(|turn| turn.ends_with("consecutive_failures"));
    assert_eq!(failing.collect::<Vec<_>>(), ["+1 consecutive_failures", "-1 consecutive_failures"]);
    assert_eq!(step.observed.len(), 1);
    let observed = &step.observed[0];
    assert_eq!((observed.offset, observed.failures_in_a_row, observed.recovered), (6, 0, true));
    // Read again, all of it decides nothing.
    let again = ward.take(&batch, &rules());
    assert!(again.turns.is_empty() && again.observed.is_empty());
}

#[test]
fn whoever_takes_over_knows_what_was_decided_and_counts_what_was_read() {
    let mut first = Ward::new(0, Vec::new(), Vec::new());
    // Every tenth fails: more than five of a hundred, as soon as there are fifty.
    let batch: Vec<_> = (1..=60).map(|offset| report(offset, 1, offset % 10 != 0)).collect();
    let before = first.take(&batch[..45], &rules());
    assert!(!shown(&before.turns).contains(&"+1 error_rate".to_owned()));
    let mut second = Ward::new(0, before.observed, Vec::new());
    let replayed = second.take(&batch[..45], &rules());
    assert!(replayed.turns.is_empty() && replayed.observed.is_empty());
    let went_on = second.take(&batch[45..], &rules());
    assert!(shown(&went_on.turns).contains(&"+1 error_rate".to_owned()), "{:?}", shown(&went_on.turns));
    // It has fired: the third does not fire again, even if what was read of it was forgotten.
    let open = vec![(destination(1), RuleKey::Default(ravenpost_core::alert::ConditionName::ErrorRate))];
    let mut third = Ward::new(0, went_on.observed, open);
    third.take(&batch, &rules());
    let more = third.take(&[report(61, 1, false)], &rules());
    assert!(!shown(&more.turns).iter().any(|turn| turn.ends_with("error_rate")), "{:?}", shown(&more.turns));
    // And resolves it when no window holds a failure any more, although nothing is attempted.
    let turns = third.tick(&rules(), at(4_000));
    assert!(shown(&turns).contains(&"-1 error_rate".to_owned()), "{:?}", shown(&turns));
}

/// A worker that was cut off from Postgres tells again what it could not record.
#[test]
fn an_attempt_that_is_told_twice_counts_once() {
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let told: Vec<_> = (1..=2).map(|offset| report(offset, 1, false)).collect();
    let again = told.iter().map(|(offset, report)| (offset + 2, report.clone()));
    let batch: Vec<_> = told.iter().cloned().chain(again).collect();
    let step = ward.take(&batch, &rules());
    assert!(step.turns.iter().all(|turn| turn.fires.is_none()), "two failures: {:?}", shown(&step.turns));
    assert_eq!((step.observed[0].failures_in_a_row, step.observed[0].offset), (2, 4));
    let third = ward.take(&[report(5, 1, false)], &rules());
    assert!(shown(&third.turns).contains(&"+1 consecutive_failures".to_owned()));
    // Made again by another worker, under the same key, the last one succeeded.
    let (_, Report::Attempt(mut again)) = report(5, 1, true) else { panic!("an attempt") };
    again.attempted_at = at(6);
    let step = ward.take(&[(6, Report::Attempt(again))], &rules());
    assert_eq!(step.observed[0].failures_in_a_row, 0);
}

#[test]
fn what_did_not_open_is_tried_again_later() {
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let batch: Vec<_> = (1..=3).map(|offset| report(offset, 1, false)).collect();
    let step = ward.take(&batch, &rules());
    let refused = vec![false; step.turns.len()];
    ward.settle(&step.turns, &refused, at(3));
    assert!(ward.take(&[report(4, 1, false)], &rules()).turns.is_empty());
    let later = ward.take(&[report(40, 1, false)], &rules());
    assert_eq!(shown(&later.turns), ["+1 consecutive_failures"]);
}

#[test]
fn a_destination_of_which_nothing_is_heard_is_forgotten() {
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let batch: Vec<_> = (1..=100).map(|offset| report(offset, offset.unsigned_abs().into(), true)).collect();
    ward.take(&batch, &rules());
    ward.take(&[report(101, 500, false)], &rules());
    ward.tick(&rules(), at(10_000));
    assert_eq!(ward.destinations(), 1, "the one that fails is not forgotten");
}

#[test]
fn what_could_not_be_written_is_found_again() {
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let failing: Vec<_> = (0..3).map(|offset| report(offset, 1, false)).collect();
    let opened = ward.take(&failing, &rules()).turns;
    ward.settle(&opened, &vec![true; opened.len()], at(2));
    // Time resolves what a window had opened, and the store is away just then.
    let resolves = ward.take(&[report(3, 1, true)], &rules()).turns;
    assert!(shown(&resolves).contains(&"-1 consecutive_failures".to_owned()));
    ward.unsay(&resolves);
    assert_eq!(shown(&ward.tick(&rules(), at(4))), shown(&resolves));
    assert_eq!(shown(&ward.tick(&rules(), at(5))), [""; 0]);
}

#[test]
fn a_time_that_nobody_has_stalls_nobody() {
    let (offset, Report::Attempt(mut absurd)) = report(0, 1, false) else { panic!("an attempt") };
    (absurd.attempted_at, absurd.duration_ms) = (DateTime::<Utc>::MAX_UTC, u64::MAX);
    let mut ward = Ward::new(0, Vec::new(), Vec::new());
    let step = ward.take(&[(offset, Report::Attempt(absurd))], &rules());
    let last = step.observed[0].last_attempt_at.unwrap();
    assert!(last < DateTime::from_timestamp(253_402_300_800, 0).unwrap(), "{last}");
}
