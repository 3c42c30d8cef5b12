//! What an organization's destinations take of a worker leaves room for everybody else's.

use std::collections::BTreeSet;

use ravenpost_testkit::{receiver::Answer, system::System, wait};
use serde_json::json;

use crate::support::{BOUND, alone, endpoint, endpoint_of, number, retries, send, until_all_succeed};

/// Requests at once of the whole worker; an organization gets a quarter of them.
const REQUESTS: usize = 8;
const SHARE: usize = REQUESTS / 4;
const HANGING: usize = 20;

#[test]
fn an_organization_whose_destinations_hang_leaves_the_others_their_requests() {
    let builder = System::builder().setting("RAVENPOST_DELIVERY_REQUESTS", REQUESTS.to_string());
    alone(builder, async |system| {
        let (_, greedy) = system.another_organization("Greedy").await?;
        system.receiver.script("/hangs", [Answer::hang()]);
        for _ in 0..HANGING {
            // Longer than all of this takes.
            let hanging = endpoint_of(system, &greedy, "/hangs", json!({ "timeout": "60s" })).await?;
            send(&hanging, "{}").await?;
        }
        system.receiver.wait_until("/hangs", BOUND, |all| all.len() >= SHARE).await?;

        let modest = endpoint(system, "/modest", json!({})).await?;
        for _ in 0..HANGING {
            send(&modest, "{}").await?;
        }
        let arrived = |all: &[ravenpost_testkit::receiver::Received]| {
            all.iter().filter(|request| request.path == "/modest").count() == HANGING
        };
        system.receiver.wait_until("/modest", BOUND, arrived).await?;
        assert_eq!(
            system.receiver.received_on("/hangs").len(),
            SHARE,
            "all others wait for their organization's"
        );
        Ok(())
    });
}

/// Bytes of events that wait and of those that are sent, with their part of the memory beside.
const BODY: usize = 10 * 1024;
const LARGE: usize = 100 * 1024;
const MEMORY: usize = 1024 * 1024;

/// What an organization that sends to many destinations has in memory, whatever each of its lanes may hold.
#[test]
fn bodies_of_an_organization_take_half_of_the_memory_at_most() {
    let builder = System::builder().setting("RAVENPOST_DELIVERY_MEMORY", MEMORY.to_string());
    alone(builder, async |system| {
        system.receiver.script("/small", [Answer::hang()]);
        system.receiver.script("/large", [Answer::hang()]);
        // Longer than all of this takes.
        let fields = json!({ "timeout": "60s", "retry_policy": retries(&["1s"; 20]) });
        let mut sent = BTreeSet::new();
        for (path, bytes, events) in [("/large", LARGE, 1), ("/small", BODY, 5)] {
            for _ in 0..HANGING {
                let endpoint = endpoint(system, path, fields.clone()).await?;
                for _ in 0..events {
                    sent.insert(send(&endpoint, "x".repeat(bytes)).await?);
                }
            }
        }
        let waits = i64::try_from(sent.len())?;
        wait::until_true("all to be sent or parked", BOUND, || async {
            Ok(number(system, "select count(*) from scheduled_deliveries").await? == waits)
        })
        .await?;
        for (path, bytes) in [("/small", BODY), ("/large", LARGE)] {
            let held = system.receiver.received_on(path).len();
            let most = MEMORY / 2 / bytes;
            assert!((1..=most).contains(&held), "{held} of {path} are in the air, and {most} have room");
        }
        for path in ["/small", "/large"] {
            system.receiver.script(path, [Answer::ok()]);
        }
        until_all_succeed(system, &sent, 3 * BOUND).await
    });
}
