//! A certificate that is not accepted: only a person can mend it, so it is tried once more, slowly, and then given up with
//! what is wrong with it. Whoever names the authority in time, or later, gets everything.

use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::topic;
use ravenpost_testkit::{
    authority::{Authority, Identity},
    receiver::Receiver,
    system::System,
};
use rustls::{ServerConfig, version::TLS13};
use serde_json::{Value, json};

use crate::pacing::until_waiting;
use crate::support::{Endpoint, SHARED, column, deliveries, endpoint, retries, send, text, until_status};

const UNKNOWN: &str = "its authority is not known";
const ITS_OWN: &str = "it is an authority's own, and no server's";

/// A destination whose certificate is not accepted.
struct Bad {
    server: Arc<ServerConfig>,
    /// Whom the destination is told to believe.
    ca_certificates: Option<String>,
    why: &'static str,
}

fn bad() -> Result<[Bad; 4]> {
    let (authority, here) = (Authority::new("Theirs")?, ["127.0.0.1"]);
    let server = |identity: Identity| identity.server(&[&TLS13], None);
    Ok([
        Bad { server: server(Identity::self_signed(&here)?)?, ca_certificates: None, why: ITS_OWN },
        Bad {
            server: server(authority.issue(&here)?)?,
            ca_certificates: Some(Authority::new("Others'")?.pem()),
            why: UNKNOWN,
        },
        Bad {
            server: server(authority.issue_expired(&here)?)?,
            ca_certificates: Some(authority.pem()),
            why: "it has expired",
        },
        Bad {
            server: server(authority.issue(&["hooks.example.com", "192.0.2.1"])?)?,
            ca_certificates: Some(authority.pem()),
            why: "it is for another name",
        },
    ])
}

/// An endpoint that delivers there.
async fn endpoint_at(
    system: &System,
    receiver: &Receiver,
    ca_certificates: Option<&str>,
    policy: &Value,
) -> Result<Endpoint> {
    let fields = json!({ "target_url": receiver.url("/hook"), "retry_policy": policy });
    let endpoint = endpoint(system, "/certificate", fields).await?;
    if let Some(pem) = ca_certificates {
        believe(system, &endpoint, pem).await?;
    }
    Ok(endpoint)
}

async fn believe(system: &System, endpoint: &Endpoint, ca_certificates: &str) -> Result<()> {
    let tls = json!({ "tls": { "ca_certificates": ca_certificates } });
    system.api.patch(&endpoint.destination_path(), &tls).await?;
    Ok(())
}

/// Waits until the first attempt has failed, and sees that the next one is slow.
async fn until_waiting_slowly(system: &System, id: &str) -> Result<()> {
    until_waiting(system, id, "retry").await?;
    let told = deliveries(system, id).await?;
    let due: DateTime<Utc> = text(&told, "/waiting/0/due_at")?.parse()?;
    let attempted: DateTime<Utc> = text(&told, "/data/0/attempted_at")?.parse()?;
    assert_eq!(column(&told, "outcome"), ["certificate"]);
    assert!(due - attempted >= TimeDelta::minutes(59) && due - attempted <= TimeDelta::minutes(70), "{told}");
    Ok(())
}

/// Lets the time of the slow retry come, but not before what was changed just now has reached the worker (a second).
async fn an_hour_later(system: &System, id: &str) -> Result<()> {
    let pool = system.database.pool().await?;
    sqlx::query(
        "update scheduled_deliveries set due_at = now() + interval '3 seconds' where event_id = $1::uuid",
    )
    .bind(uuid::Uuid::parse_str(id)?)
    .execute(&pool)
    .await?;
    Ok(())
}

/// Checks that an event is a dead letter after these many attempts, which the destination's certificate has ended.
async fn is_dead(system: &System, endpoint: &Endpoint, id: &str, attempts: usize, why: &str) -> Result<()> {
    let event = until_status(system, id, "FAILED").await?;
    assert_eq!(event["dead"], json!([endpoint.destination]));
    let told = deliveries(system, id).await?;
    assert_eq!(column(&told, "outcome"), vec!["certificate"; attempts]);
    assert_eq!(told["waiting"], json!([]));
    let message = format!("the destination's certificate is not accepted: {why}");
    assert_eq!(column(&told, "error_message"), vec![message.as_str(); attempts]);

    let path = format!("/api/v1/dead-letters?endpoint_id={}", endpoint.id);
    let mut listed = system.api.list(&path).await?;
    listed.retain(|letter| letter["event_id"] == id);
    assert_eq!(column(&json!({ "data": listed }), "reason"), ["certificate"]);
    let mut letters = system.messages(topic::DLQ).await?;
    letters.retain(|letter| letter.header("ce_id") == Some(id));
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("dead-letter-reason"), Some("certificate"));
    Ok(())
}

#[test]
fn a_bad_certificate_gets_one_slow_retry_and_is_dead_with_its_own_reason() {
    SHARED.run(async |system| {
        for Bad { server, ca_certificates, why } in bad()? {
            let receiver = Receiver::start_tls(server).await?;
            // Any other failure would be tried again nine times.
            let policy = retries(&["10ms"; 9]);
            let endpoint = endpoint_at(system, &receiver, ca_certificates.as_deref(), &policy).await?;
            let id = send(&endpoint, "{}").await?;
            until_waiting_slowly(system, &id).await?;
            an_hour_later(system, &id).await?;
            is_dead(system, &endpoint, &id, 2, why).await?;
            assert!(receiver.received().is_empty());
        }
        Ok(())
    });
}

#[test]
fn a_policy_of_its_own_goes_before_the_slow_retry() {
    SHARED.run(async |system| {
        for Bad { server, ca_certificates, why } in bad()? {
            let receiver = Receiver::start_tls(server).await?;
            let mut policy = retries(&[]);
            policy["overrides"] = json!({ "certificate": retries(&["10ms", "20ms", "30ms"]) });
            let endpoint = endpoint_at(system, &receiver, ca_certificates.as_deref(), &policy).await?;
            let id = send(&endpoint, "{}").await?;
            is_dead(system, &endpoint, &id, 4, why).await?;
        }
        Ok(())
    });
}

#[test]
fn an_authority_that_is_named_in_time_or_later_is_believed() {
    SHARED.run(async |system| {
        let (authority, alone) = (Authority::new("Named")?, Identity::self_signed(&["127.0.0.1"])?);
        for (server, pem, why) in [
            (authority.server(&[&TLS13], None)?, authority.pem(), UNKNOWN),
            // A certificate that has signed itself is its own authority.
            (alone.server(&[&TLS13], None)?, alone.certificate.clone(), ITS_OWN),
        ] {
            let receiver = Receiver::start_tls(server).await?;
            let mut never = retries(&["10ms"]);
            never["overrides"] = json!({ "certificate": "none" });
            let hasty = endpoint_at(system, &receiver, None, &never).await?;
            let dead = send(&hasty, "{}").await?;
            is_dead(system, &hasty, &dead, 1, why).await?;
            let patient = endpoint_at(system, &receiver, None, &retries(&["10ms"])).await?;
            let waiting = send(&patient, "{}").await?;
            until_waiting_slowly(system, &waiting).await?;

            for endpoint in [&hasty, &patient] {
                believe(system, endpoint, &pem).await?;
            }
            an_hour_later(system, &waiting).await?;
            until_status(system, &waiting, "SUCCESS").await?;
            system.api.post(&format!("/api/v1/events/{dead}/replay"), &json!({})).await?;
            until_status(system, &dead, "SUCCESS").await?;
            for id in [&waiting, &dead] {
                assert_eq!(column(&deliveries(system, id).await?, "outcome"), ["certificate", "success"]);
            }
            assert_eq!(receiver.received().len(), 2);
        }
        Ok(())
    });
}
