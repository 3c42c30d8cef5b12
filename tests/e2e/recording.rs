//! What Postgres refuses to record holds up nobody else, and piles up no further than its bound.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ravenpost_core::ids::{EndpointId, Slot};
use ravenpost_testkit::{
    kafka,
    receiver::{Answer, Received},
    system::System,
};
use serde_json::json;

use crate::support::{BOUND, Endpoint, alone, deliveries, destination, endpoint, send, until_all_succeed};

/// Two attempts each are more than an owner makes without recording any.
const REFUSED: usize = 1_300;
const BESIDE: usize = 200;
/// Attempts of an owner that are not recorded, and those that two lanes have in the air.
const BOUND_OF_UNRECORDED: usize = 2_000;
const IN_THE_AIR: usize = 2 * 16;

#[test]
fn what_postgres_refuses_holds_up_no_other_partition() {
    alone(System::builder(), async |system| {
        let refused = endpoint(system, "/refused", json!({})).await?;
        destination(system, &refused, "/refused/second", json!({})).await?;
        let beside = in_another_partition(system, &refused).await?;
        refuse_records_of(system, &refused).await?;

        let turns = (0..REFUSED).map(|number| number * BESIDE / REFUSED < (number + 1) * BESIDE / REFUSED);
        let endpoints = turns.flat_map(|both| [Some(&refused), both.then_some(&beside)]).flatten();
        let sent = stream::iter(endpoints).map(sent_to).buffered(32);
        let sent: Vec<(&String, String)> = sent.try_collect().await?;
        let of = |endpoint: &Endpoint| -> BTreeSet<String> {
            sent.iter().filter(|(id, _)| **id == endpoint.id).map(|(_, event)| event.clone()).collect()
        };
        assert_eq!((of(&refused).len(), of(&beside).len()), (REFUSED, BESIDE));

        until_all_succeed(system, &of(&beside), 2 * BOUND).await?;
        let as_many = |all: &[Received]| attempts(all) >= BOUND_OF_UNRECORDED;
        system.receiver.wait_until("/refused", 2 * BOUND, as_many).await?;
        // Nothing that was asked of the worker later is still to come.
        let last = BTreeSet::from([send(&beside, "{}").await?]);
        until_all_succeed(system, &last, BOUND).await?;
        let made = attempts(&system.receiver.received());
        assert!(made <= BOUND_OF_UNRECORDED + IN_THE_AIR, "{made} attempts, and none recorded");

        allow_records(system).await?;
        until_all_succeed(system, &of(&refused), 2 * BOUND).await?;
        let mut times: BTreeMap<(String, String), usize> = BTreeMap::new();
        for request in system.receiver.received() {
            let event = request.header("webhook-id").context("webhook-id")?.to_owned();
            *times.entry((event, request.path.clone())).or_default() += 1;
        }
        assert_eq!(times.len(), 2 * REFUSED + BESIDE + 1);
        assert!(times.values().all(|times| *times == 1), "what was refused was not sent again");
        Ok(())
    });
}

#[test]
fn what_a_receiver_says_that_postgres_refuses_is_left_out_and_holds_up_nothing() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/says", json!({})).await?;
        let refuse = "create function refuse() returns trigger language plpgsql as $$
                 begin raise exception 'refused' using errcode = 'untranslatable_character'; end $$;
             create trigger refuse before insert on deliveries for each row
                 when (new.response_body_snippet like '%unspeakable%') execute function refuse()";
        system.database.execute(refuse).await?;
        system.receiver.script("/says", [Answer::ok().body("unspeakable"), Answer::ok().body("fine")]);
        let first = send(&endpoint, "{}").await?;
        until_all_succeed(system, &BTreeSet::from([first.clone()]), BOUND).await?;
        let next = send(&endpoint, "{}").await?;
        until_all_succeed(system, &BTreeSet::from([next.clone()]), BOUND).await?;
        let said = |told: &serde_json::Value| told["data"][0]["response_body_snippet"].clone();
        assert_eq!(said(&deliveries(system, &first).await?), json!(null));
        assert_eq!(said(&deliveries(system, &next).await?), json!("fine"));
        assert_eq!(system.receiver.received_on("/says").len(), 2, "nothing is sent again for it");
        Ok(())
    });
}

/// How often the refused endpoint's destinations were sent to.
fn attempts(received: &[Received]) -> usize {
    received.iter().filter(|request| request.path.starts_with("/refused")).count()
}

async fn sent_to(endpoint: &Endpoint) -> Result<(&String, String)> {
    Ok((&endpoint.id, send(endpoint, "{}").await?))
}

async fn in_another_partition(system: &System, from: &Endpoint) -> Result<Endpoint> {
    let partition = |endpoint: &Endpoint| -> Result<i32> {
        Ok(Slot::of(endpoint.id.parse::<EndpointId>()?).partition(kafka::PARTITIONS))
    };
    loop {
        let other = endpoint(system, "/beside", json!({})).await?;
        if partition(&other)? != partition(from)? {
            return Ok(other);
        }
    }
}

/// As if its attempts had something in them that Postgres does not take.
async fn refuse_records_of(system: &System, endpoint: &Endpoint) -> Result<()> {
    let pool = system.database.pool().await?;
    let id: EndpointId = endpoint.id.parse()?;
    for statement in [
        "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'refused' using errcode = 'invalid_parameter_value'; end $$"
            .to_owned(),
        format!(
            "create trigger refuse before insert on deliveries for each row
                 when (new.endpoint_id = '{id}') execute function refuse()"
        ),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await?;
    }
    Ok(())
}

async fn allow_records(system: &System) -> Result<()> {
    let pool = system.database.pool().await?;
    sqlx::raw_sql("drop trigger refuse on deliveries").execute(&pool).await?;
    Ok(())
}
