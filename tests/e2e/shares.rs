//! What an organization's destinations take of a worker leaves room for everybody else's.

use ravenpost_testkit::{receiver::Answer, system::System};
use serde_json::json;

use crate::support::{BOUND, alone, endpoint, endpoint_of, send};

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
