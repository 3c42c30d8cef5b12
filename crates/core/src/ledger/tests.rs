//! Each state by its rows, and each fault by what is missing or too much.

use uuid::Uuid;

use super::*;
use crate::delivery::WaitingReason as Reason;

const DELIVERED: Traces =
    Traces { scheduled: None, dead_letter: None, first_run: Some(0), delivered_run: Some(0), deleted: false };

fn destination(number: u128) -> DestinationId {
    DestinationId(Uuid::from_u128(number))
}

fn entry(status: EventStatus, listed: &[(u128, Listed)], traces: &[(u128, Traces)]) -> Entry {
    Entry {
        id: EventId(Uuid::from_u128(7)),
        organization_id: OrganizationId(Uuid::from_u128(8)),
        status,
        routed: true,
        has_headers: true,
        may_travel: false,
        listed: listed.iter().map(|(number, listed)| (destination(*number), *listed)).collect(),
        traces: traces.iter().map(|(number, traces)| (destination(*number), traces.clone())).collect(),
    }
}

fn scheduled(reason: Reason, run: i32) -> Traces {
    Traces { scheduled: Some((reason, run)), ..Traces::default() }
}

fn letter(run: i32) -> Traces {
    Traces { dead_letter: Some(run), ..Traces::default() }
}

/// The states that are not empty, what is unaccounted for, and the faults.
fn assessed(entry: &Entry) -> (Vec<State>, u64, Vec<Fault>) {
    let mut account = Account::default();
    let findings = assess(entry, &mut account);
    let faults = findings.iter().map(|finding| finding.fault).collect();
    (account.states.keys().copied().collect(), account.unaccounted(), faults)
}

#[test]
fn each_pair_is_in_the_state_that_its_rows_vouch_for() {
    use EventStatus::{Dropped, Failed, Pending as Waits, Success};
    use Listed::{Dead, Delivered, Filtered, Pending};
    let balanced: [(Entry, State); 10] = [
        (entry(Success, &[(1, Delivered)], &[(1, DELIVERED)]), State::Delivered),
        (entry(Waits, &[(1, Pending)], &[(1, scheduled(Reason::Retry, 0))]), State::Retry),
        (entry(Waits, &[(1, Pending)], &[(1, scheduled(Reason::Parked, 0))]), State::Parked),
        (entry(Waits, &[(1, Pending)], &[(1, scheduled(Reason::Held, 0))]), State::Held),
        (entry(Waits, &[(1, Pending)], &[(1, scheduled(Reason::Replay, 1))]), State::Replay),
        (Entry { may_travel: true, ..entry(Waits, &[(1, Pending)], &[]) }, State::InTheAir),
        (Entry { may_travel: true, routed: false, ..entry(Waits, &[], &[]) }, State::NotRouted),
        (entry(Failed, &[(1, Dead)], &[(1, letter(0))]), State::Dead),
        (entry(Dropped, &[], &[]), State::Dropped),
        (entry(Dropped, &[(1, Filtered)], &[]), State::Filtered),
    ];
    for (entry, state) in balanced {
        assert_eq!(assessed(&entry), (vec![state], 0, vec![]), "{entry:?}");
    }
}

#[test]
fn a_deleted_destination_that_was_tried_is_cancelled_and_not_dropped() {
    let cancelled = Traces { deleted: true, ..Traces::default() };
    let event = entry(EventStatus::Dropped, &[], &[(1, cancelled)]);
    assert_eq!(assessed(&event), (vec![State::Cancelled], 0, vec![]));
}

#[test]
fn what_was_tried_only_for_a_replay_that_was_cancelled_is_cancelled() {
    let tried =
        |first_run, delivered_run| Traces { first_run: Some(first_run), delivered_run, ..Traces::default() };
    let assessed = |traces| assessed(&entry(EventStatus::Dropped, &[], &[(1, traces)]));
    assert_eq!(assessed(tried(1, None)), (vec![State::Cancelled], 0, vec![]));
    // What was once meant for the destination, and what has arrived, would be in a set.
    for traces in [tried(0, None), tried(1, Some(1))] {
        assert_eq!(assessed(traces), (vec![], 1, vec![Fault::AttemptUnlisted]));
    }
}

#[test]
fn a_replay_of_what_was_delivered_changes_nothing() {
    for traces in [
        Traces { scheduled: Some((Reason::Replay, 1)), ..DELIVERED },
        Traces { dead_letter: Some(1), ..DELIVERED },
    ] {
        let event = entry(EventStatus::Success, &[(1, Listed::Delivered)], &[(1, traces)]);
        assert_eq!(assessed(&event), (vec![State::Delivered], 0, vec![]));
    }
}

#[test]
fn what_is_missing_or_too_much_is_found() {
    use EventStatus::{Failed, Pending as Waits, Success};
    use Listed::{Dead, Delivered, Filtered, Pending};
    let damaged: [(Entry, Fault); 17] = [
        (entry(EventStatus::Dropped, &[(1, Filtered)], &[(1, DELIVERED)]), Fault::DeliveredAndNot),
        (
            entry(EventStatus::Dropped, &[(1, Filtered)], &[(1, scheduled(Reason::Retry, 0))]),
            Fault::ScheduledAndNot,
        ),
        (entry(EventStatus::Dropped, &[(1, Filtered)], &[(1, letter(0))]), Fault::DeadAndNot),
        (entry(Waits, &[(1, Pending)], &[]), Fault::Lost),
        (Entry { routed: false, ..entry(Waits, &[], &[]) }, Fault::Lost),
        (entry(Success, &[(1, Delivered)], &[]), Fault::DeliveryMissing),
        (entry(Failed, &[(1, Dead)], &[]), Fault::DeadLetterMissing),
        (
            entry(Failed, &[(1, Dead)], &[(1, Traces { dead_letter: Some(0), ..DELIVERED })]),
            Fault::DeliveredAndNot,
        ),
        (entry(Waits, &[(1, Pending)], &[(1, DELIVERED)]), Fault::DeliveredAndNot),
        (entry(Waits, &[(1, Pending)], &[(1, letter(0))]), Fault::DeadAndNot),
        (
            entry(Success, &[(1, Delivered)], &[(1, Traces { dead_letter: Some(0), ..DELIVERED })]),
            Fault::DeadAndNot,
        ),
        (
            entry(
                Success,
                &[(1, Delivered)],
                &[(1, Traces { scheduled: Some((Reason::Retry, 0)), ..DELIVERED })],
            ),
            Fault::ScheduledAndNot,
        ),
        (
            entry(
                Failed,
                &[(1, Dead)],
                &[(1, Traces { dead_letter: Some(0), ..scheduled(Reason::Retry, 0) })],
            ),
            Fault::ScheduledAndNot,
        ),
        (entry(Success, &[(1, Delivered), (1, Delivered)], &[(1, DELIVERED)]), Fault::ListedTwice),
        (entry(Failed, &[(1, Delivered), (1, Dead)], &[(1, DELIVERED)]), Fault::ListedTwice),
        (
            entry(Success, &[(1, Delivered)], &[(1, DELIVERED), (2, scheduled(Reason::Retry, 0))]),
            Fault::ScheduledAndNot,
        ),
        (
            entry(Success, &[(1, Delivered)], &[(1, DELIVERED), (2, Traces::default())]),
            Fault::AttemptUnlisted,
        ),
    ];
    for (entry, fault) in damaged {
        let (_, unaccounted, faults) = assessed(&entry);
        assert_eq!((unaccounted, faults), (1, vec![fault]), "{entry:?}");
    }
}

#[test]
fn a_wrong_status_and_missing_headers_are_told_apart_from_the_pairs() {
    let event = entry(EventStatus::Failed, &[(1, Listed::Delivered)], &[(1, DELIVERED)]);
    assert_eq!(assessed(&event), (vec![State::Delivered], 0, vec![Fault::StatusWrong]));
    let event = Entry { has_headers: false, ..entry(EventStatus::Dropped, &[], &[]) };
    assert_eq!(assessed(&event), (vec![State::Dropped], 0, vec![Fault::HeadersMissing]));
}

#[test]
fn accounts_add_up() {
    let mut account = Account::default();
    let delivered = entry(EventStatus::Success, &[(1, Listed::Delivered)], &[(1, DELIVERED)]);
    let lost = entry(EventStatus::Pending, &[(1, Listed::Pending)], &[]);
    for event in [&delivered, &delivered, &lost] {
        assess(event, &mut account);
    }
    let mut total = account.clone();
    total.add(&account);
    assert_eq!((total.events, total.accepted, total.of(State::Delivered)), (6, 6, 4));
    assert_eq!((total.waiting(), total.unaccounted()), (0, 2));
}
