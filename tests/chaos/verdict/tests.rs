use std::time::Duration;

use super::*;
use crate::{
    places::{Message, Recorded, Row},
    producer::{Attempt, Dialect},
};

const EVENT: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const ORIGINAL: Original = Original(7);
const RECORDED: Duration = Duration::from_secs(100);

fn endpoint() -> Endpoint {
    let (hook, secret) = ("/h/x".to_owned(), String::new());
    Endpoint { dialect: Dialect::GitHub, hook, secret, destination: "/there".to_owned() }
}

fn attempt(heard: Heard) -> Attempt {
    Attempt { at: Duration::ZERO, took: Duration::ZERO, replica: 0, heard }
}

fn sent(heard: impl IntoIterator<Item = Heard>) -> Sent {
    let attempts = heard.into_iter().map(attempt).collect();
    Sent { original: ORIGINAL, endpoint: 0, attempts, despaired: false }
}

/// An event that is everywhere.
fn add(places: &mut Places, event: Uuid) {
    let path = "/there".to_owned();
    let delivery = Delivery { path, at: Duration::ZERO, begun: Duration::ZERO, body: Ok(ORIGINAL) };
    places.rows.insert(event, Row { status: "SUCCESS".to_owned(), payload: Ok(ORIGINAL) });
    places.messages.insert(event, vec![Message { body: Some(Ok(ORIGINAL)) }]);
    places.deliveries.insert(event, vec![delivery]);
    places.recorded.insert(event, Recorded { attempts: 1, succeeded: Some(RECORDED) });
    places.ledger.events += 1;
    places.ledger.delivered += 1;
    places.ledger.payloads_read += 1;
}

fn everywhere() -> Places {
    let mut places = Places::default();
    add(&mut places, EVENT);
    places
}

/// The promises that are broken.
fn broken(heard: impl IntoIterator<Item = Heard>, places: &Places) -> Vec<Promise> {
    broken_by(Subject::Ingress, heard, places)
}

fn broken_by(subject: Subject, heard: impl IntoIterator<Item = Heard>, places: &Places) -> Vec<Promise> {
    let violations = judge(subject, &[endpoint()], &[sent(heard)], places);
    let promises: BTreeSet<Promise> = violations.iter().map(|violation| violation.promise).collect();
    promises.into_iter().collect()
}

fn accepted() -> [Heard; 1] {
    [Heard::Accepted(EVENT)]
}

#[test]
fn nothing_is_broken_when_all_is_everywhere() {
    assert_eq!(broken(accepted(), &everywhere()), []);
    assert_eq!(broken([Heard::Refused(503), Heard::Accepted(EVENT)], &everywhere()), []);
    assert_eq!(broken([Heard::Refused(503)], &everywhere()), [], "it may be there once");
    assert_eq!(broken([Heard::Refused(503)], &Places::default()), [], "or not");
    assert_eq!(broken([Heard::Nothing(String::new())], &everywhere()), []);
}

#[test]
fn each_place_is_missed() {
    let mut places = everywhere();
    places.rows.clear();
    places.ledger = Ledger::default();
    assert_eq!(broken(accepted(), &places), [Promise::Acknowledged, Promise::Message, Promise::Delivered]);

    let mut places = everywhere();
    places.messages.clear();
    assert_eq!(broken(accepted(), &places), [Promise::Message]);

    let mut places = everywhere();
    places.deliveries.clear();
    assert_eq!(broken(accepted(), &places), [Promise::Delivered]);

    let mut places = everywhere();
    places.rows.insert(EVENT, Row { status: "PENDING".to_owned(), payload: Err("no object".to_owned()) });
    assert_eq!(broken(accepted(), &places), [Promise::Payload, Promise::Settled]);

    assert_eq!(broken(accepted(), &Places::default()), [Promise::Acknowledged]);
}

#[test]
fn damage_is_told_in_each_place() {
    let damage = || Err("damaged".to_owned());
    let mut places = everywhere();
    places.messages.insert(EVENT, vec![Message { body: Some(damage()) }]);
    assert_eq!(broken(accepted(), &places), [Promise::Message]);

    let mut places = everywhere();
    places.deliveries.get_mut(&EVENT).unwrap()[0].body = damage();
    assert_eq!(broken(accepted(), &places), [Promise::Delivered]);

    let mut places = everywhere();
    places.deliveries.get_mut(&EVENT).unwrap()[0].path = "/elsewhere".to_owned();
    assert_eq!(broken(accepted(), &places), [Promise::Delivered]);
}

#[test]
fn an_event_is_one_under_its_own_id() {
    let mut places = everywhere();
    add(&mut places, OTHER);
    assert_eq!(broken([Heard::Refused(503)], &places), [Promise::OwnId]);
    assert_eq!(broken([Heard::Refused(503), Heard::Accepted(EVENT)], &places), [Promise::OwnId]);
    assert_eq!(broken([Heard::Accepted(EVENT), Heard::Accepted(OTHER)], &places), [Promise::OwnId]);
    assert_eq!(
        broken([Heard::Accepted(OTHER)], &everywhere()),
        [Promise::Acknowledged, Promise::OwnId],
        "told another id than it has"
    );
}

#[test]
fn twice_is_once_too_often() {
    let mut places = everywhere();
    let again = places.deliveries[&EVENT][0].clone();
    places.deliveries.get_mut(&EVENT).unwrap().push(again);
    assert_eq!(broken(accepted(), &places), [Promise::AtMostOnce]);
    let again = places.messages[&EVENT][0].clone();
    let mut places = everywhere();
    places.messages.get_mut(&EVENT).unwrap().push(again);
    assert_eq!(broken(accepted(), &places), [], "a message may be relayed again");
}

#[test]
fn what_was_in_the_air_may_come_twice_and_what_is_recorded_may_not() {
    let again = |begun: Duration| {
        let mut places = everywhere();
        let delivery = Delivery { begun, ..places.deliveries[&EVENT][0].clone() };
        places.deliveries.get_mut(&EVENT).unwrap().push(delivery);
        broken_by(Subject::Delivery, accepted(), &places)
    };
    assert_eq!(again(RECORDED / 2), []);
    assert_eq!(again(RECORDED + COMMITTED), []);
    assert_eq!(again(RECORDED + COMMITTED + Duration::from_secs(1)), [Promise::NotAgain]);
    let mut places = everywhere();
    places.recorded.clear();
    assert_eq!(broken_by(Subject::Delivery, accepted(), &places), [Promise::Settled]);
    let mut places = everywhere();
    places.rows.get_mut(&EVENT).unwrap().status = "FAILED".to_owned();
    assert_eq!(broken_by(Subject::Delivery, accepted(), &places), [Promise::Settled]);
}

#[test]
fn a_ledger_that_disagrees_is_told() {
    let changes: [fn(&mut Ledger); 4] = [
        |ledger| ledger.events += 1,
        |ledger| ledger.delivered = 0,
        |ledger| ledger.payloads_read = 0,
        |ledger| ledger.faults = vec![(EVENT, "lost".to_owned())],
    ];
    for change in changes {
        let mut places = everywhere();
        change(&mut places.ledger);
        assert_eq!(broken(accepted(), &places), [Promise::Ledger]);
    }
}

#[test]
fn what_nobody_sent_is_told() {
    assert_eq!(broken([], &everywhere()), []);
    let violations = judge(Subject::Ingress, &[endpoint()], &[], &everywhere());
    assert!(violations.iter().all(|violation| violation.promise == Promise::Foreign), "{violations:?}");
    assert_eq!(violations.len(), 3);
    let places = Places { nameless: vec!["a message".to_owned()], ..Places::default() };
    assert_eq!(broken([], &places), [Promise::Foreign]);
}

#[test]
fn what_had_to_be_swept_up_is_told() {
    let places = Places { swept: vec!["events waited nowhere".to_owned()], ..everywhere() };
    assert_eq!(broken(accepted(), &places), [Promise::Unswept]);
}

#[test]
fn nonsense_and_despair_are_told() {
    let nonsense = [Heard::Nonsense("409".to_owned()), Heard::Accepted(EVENT)];
    assert_eq!(broken(nonsense, &everywhere()), [Promise::Answer]);
    let despaired = Sent { despaired: true, ..sent([Heard::Refused(503)]) };
    let violations = judge(Subject::Ingress, &[endpoint()], &[despaired], &Places::default());
    assert_eq!(violations[0].promise, Promise::Recovered);
}
