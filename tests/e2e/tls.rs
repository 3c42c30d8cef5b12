//! TLS as a destination wants it: an authority of its own, a certificate of ours, no old version.

use anyhow::Result;
use ravenpost_testkit::{authority::Authority, receiver::Receiver, system::System};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::{SHARED, column, deliveries, endpoint, retries, send};

/// How the one attempt ended that was made with these settings.
async fn outcome(system: &System, receiver: &Receiver, tls: Value) -> Result<Value> {
    let fields = json!({ "target_url": receiver.url("/hook"), "retry_policy": retries(&[]) });
    let endpoint = endpoint(system, "/tls", fields).await?;
    system.api.patch(&endpoint.destination_path(), &json!({ "tls": tls })).await?;
    let id = send(&endpoint, "{}").await?;
    let status = |event: &Value| event["status"].clone();
    let event = ravenpost_testkit::wait::until("an end", crate::support::BOUND, || async {
        let event = system.api.get(&format!("/api/v1/events/{id}")).await?;
        Ok(Some(event).filter(|event| status(event) != "PENDING"))
    })
    .await?;
    let told = deliveries(system, &id).await?;
    assert_eq!(status(&event) == "SUCCESS", column(&told, "outcome") == ["success"]);
    Ok(told["data"][0].clone())
}

#[test]
fn a_private_authority_is_believed_where_it_is_named() {
    SHARED.run(async |system| {
        let (authority, other) = (Authority::new("Ours")?, Authority::new("Theirs")?);
        let receiver = Receiver::start_tls(authority.server(&[&TLS12, &TLS13], None)?).await?;
        let named = outcome(system, &receiver, json!({ "ca_certificates": authority.pem() })).await?;
        assert_eq!(named["outcome"], "success");
        assert!(named["phases"]["tls_us"].is_u64(), "{named}");
        for tls in [Value::Null, json!({ "ca_certificates": other.pem() })] {
            assert_eq!(outcome(system, &receiver, tls).await?["outcome"], "certificate");
        }
        assert_eq!(receiver.received().len(), 1);
        Ok(())
    });
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    SHARED.run(async |system| {
        let (authority, clients) = (Authority::new("Servers")?, Authority::new("Clients")?);
        let receiver = Receiver::start_tls(authority.server(&[&TLS13], Some(&clients))?).await?;
        let identity = clients.issue(&["ravenpost.example"])?;
        let mut tls = json!({ "ca_certificates": authority.pem() });
        assert_ne!(outcome(system, &receiver, tls.clone()).await?["outcome"], "success");
        assert!(receiver.received().is_empty());
        tls["client_certificate"] = identity.certificate.into();
        tls["client_key"] = identity.key.into();
        assert_eq!(outcome(system, &receiver, tls).await?["outcome"], "success");
        Ok(())
    });
}

#[test]
fn an_old_version_is_not_spoken_where_a_new_one_is_wanted() {
    SHARED.run(async |system| {
        let authority = Authority::new("Old")?;
        let receiver = Receiver::start_tls(authority.server(&[&TLS12], None)?).await?;
        let tls = |version: &str| json!({ "ca_certificates": authority.pem(), "minimum_version": version });
        assert_eq!(outcome(system, &receiver, tls("1.3")).await?["outcome"], "tls");
        assert_eq!(outcome(system, &receiver, tls("1.2")).await?["outcome"], "success");
        Ok(())
    });
}
