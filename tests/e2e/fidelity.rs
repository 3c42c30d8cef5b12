//! What arrives is what was sent: every byte of the body, the producer's headers and its trace.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ravenpost_testkit::{
    receiver::{Answer, Received},
    s3, sign,
    system::{Service, System},
    wait,
};
use serde_json::json;

use crate::pacing::until_waiting;
use crate::support::{
    BOUND, Endpoint, SHARED, alone, endpoint, number, post, retries, sample, send, text, until_all_succeed,
    until_status,
};

/// `{"packed": true}`, by gzip.
const GZIP: [u8; 36] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x2a, 0x48, 0x4c, 0xce, 0x4e,
    0x4d, 0x51, 0xb2, 0x52, 0x28, 0x29, 0x2a, 0x4d, 0xad, 0x05, 0x00, 0xb9, 0xd0, 0xbb, 0x73, 0x10, 0x00,
    0x00, 0x00,
];

/// Sends a body with headers and gives what arrived.
async fn pass(
    system: &System,
    endpoint: &Endpoint,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Received> {
    let accepted = post(&endpoint.hook_url, headers, body).await?;
    let id = text(&accepted.expect(202)?, "/id")?;
    until_status(system, &id, "SUCCESS").await?;
    let received = system.receiver.received().into_iter().find(|it| it.header("webhook-id") == Some(&id));
    received.with_context(|| format!("{id} is delivered and was not received"))
}

#[test]
fn a_body_arrives_byte_for_byte() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/bytes", json!({})).await?;
        let random: Vec<u8> = (0..10_000).map(|_| rand::random()).collect();
        let bodies = [
            ("application/json", Vec::new()),
            ("application/octet-stream", random),
            ("application/json", br#"{ "a":1,   "a":2, "b" : "\u00fc" }"#.to_vec()),
            ("application/xml; charset=latin1", b"<a>\xfc\r\n</a>".to_vec()),
            // On both sides of what a message carries itself, and of what shares an object with others.
            ("text/plain", vec![b'i'; 16 * 1024]),
            ("text/plain", vec![b'i'; 16 * 1024 + 1]),
            ("text/plain", vec![b's'; 64 * 1024 + 1]),
            ("application/octet-stream", (0..600 * 1024).map(|_| rand::random()).collect()),
        ];
        for (content_type, body) in bodies {
            let received = pass(system, &endpoint, &[("content-type", content_type)], body.clone()).await?;
            assert!(received.body == body, "{content_type} of {} bytes", body.len());
            assert_eq!(received.header("content-type"), Some(content_type));
            assert_eq!(received.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(received.header("webhook-signature"), Some(signature(&endpoint, &received)?.as_str()));
        }
        let packed = [("content-encoding", "gzip"), ("content-type", "application/json")];
        let received = pass(system, &endpoint, &packed, GZIP.to_vec()).await?;
        assert_eq!((received.body.as_ref(), received.header("content-encoding")), (&GZIP[..], Some("gzip")));
        Ok(())
    });
}

/// By hand, as the crate `standardwebhooks` takes only text.
fn signature(endpoint: &Endpoint, request: &Received) -> Result<String> {
    let key = STANDARD.decode(endpoint.signing_secret.trim_start_matches("whsec_"))?;
    let [id, timestamp] =
        ["webhook-id", "webhook-timestamp"].map(|name| request.header(name).unwrap_or_default());
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    Ok(format!("v1,{}", STANDARD.encode(sign::hmac_sha256(&key, &signed))))
}

#[test]
fn events_that_share_an_object_do_not_mix() {
    SHARED.run(async |system| {
        system.receiver.script("/segment", [Answer::status(500), Answer::ok()]);
        let endpoint =
            endpoint(system, "/segment", json!({ "retry_policy": retries(&["50ms", "50ms"]) })).await?;
        // More than travels inline, at the same time: they are fetched as ranges of what they were stored in together.
        let bodies: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 17_000 + usize::from(number)]).collect();
        let sent = bodies.iter().map(|body| send(&endpoint, body.clone()));
        let ids = futures::future::try_join_all(sent).await?;
        for id in &ids {
            until_status(system, id, "SUCCESS").await?;
        }
        let received = system.receiver.received_on("/segment");
        for (id, body) in ids.iter().zip(&bodies) {
            let mut of_event =
                received.iter().filter(|request| request.header("webhook-id") == Some(id)).peekable();
            assert!(of_event.peek().is_some() && of_event.all(|request| request.body == body), "{id}");
        }
        Ok(())
    });
}

#[test]
fn what_was_altered_in_the_payload_store_is_not_sent_before_it_is_put_right() {
    const SMALL: &[u8] = b"as it was received";
    /// It does not travel with its message.
    const LARGE: &[u8] = &[b'l'; 20 * 1024];
    const ALTERED: &[u8] = &[b'm'; LARGE.len()];
    alone(System::builder().replicas(Service::DeliveryWorker, 0), async |system| {
        let held = endpoint(system, "/held", json!({ "timeout": "5s" })).await?;
        let other = endpoint(system, "/other", json!({ "timeout": "5s" })).await?;
        system.api.patch(&held.path(), &json!({ "status": "paused" })).await?;
        let ids = [send(&held, SMALL).await?, send(&other, LARGE).await?];
        let (address, prefix) = (system.stores.s3.clone(), system.key_prefix());
        let client = s3::client(&address);
        let put = async |id: &str, body| {
            s3::put(&client, &address.bucket, &format!("{prefix}payloads/{id}.json"), body).await
        };
        put(&ids[0], b"as it was altered!").await?;
        put(&ids[1], ALTERED).await?;

        system.add(Service::DeliveryWorker).await?;
        until_waiting(system, &ids[0], "held").await?;
        system.api.patch(&held.path(), &json!({ "status": "active" })).await?;
        wait::until_true("both to be found altered and put off", BOUND, || async {
            let metrics = system.workers[0].metrics().await?;
            // Later than the row of what is still in the air.
            let put_off =
                "select count(*) from scheduled_deliveries where due_at > now() + interval '30 seconds'";
            Ok(sample(&metrics, "ravenpost_delivery_payloads_missing_total") == Some(2.0)
                && number(system, put_off).await? == 2)
        })
        .await?;
        assert_eq!(system.receiver.received().len(), 0, "nothing else is sent in their place");

        put(&ids[0], SMALL).await?;
        put(&ids[1], LARGE).await?;
        system.database.execute("update scheduled_deliveries set due_at = now()").await?;
        until_all_succeed(system, &BTreeSet::from(ids), BOUND).await?;
        for (path, body) in [("/held", SMALL), ("/other", LARGE)] {
            let received = system.receiver.received_on(path);
            assert!(received.len() == 1 && received[0].body == body, "{path}");
        }
        Ok(())
    });
}

#[test]
fn the_producers_headers_travel_on_and_credentials_end() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/headers", json!({})).await?;
        let sent = [
            ("content-type", "application/json"),
            ("x-shop-topic", "orders/create"),
            ("x-many", "first"),
            ("x-many", "second"),
            ("user-agent", "Shop/1.0"),
            ("authorization", "Bearer of-the-producer"),
            ("cookie", "session=1"),
            ("x-forwarded-for", "203.0.113.7"),
            ("webhook-id", "the producer's own"),
            ("webhook-signature", "v1,no"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
        ];
        let received = pass(system, &endpoint, &sent, b"{}".to_vec()).await?;
        assert_eq!(received.method, "POST");
        assert_eq!(received.header("x-shop-topic"), Some("orders/create"));
        assert_eq!(received.header("user-agent"), Some("Shop/1.0"));
        let many: Vec<_> = received.headers.get_all("x-many").iter().collect();
        assert_eq!(many, ["first", "second"]);
        for gone in ["authorization", "cookie", "x-forwarded-for", "x-hop"] {
            assert_eq!(received.header(gone), None, "{gone}");
        }
        for ours in
            ["webhook-id", "webhook-timestamp", "webhook-signature", "x-hub-signature-256", "traceparent"]
        {
            assert_eq!(received.headers.get_all(ours).iter().count(), 1, "{ours}");
        }
        sign::verify_standard_webhooks(&endpoint.signing_secret, &received.headers, &received.body)?;
        Ok(())
    });
}

#[test]
fn one_trace_leads_from_the_producer_to_the_destination() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    SHARED.run(async |system| {
        system.receiver.script("/traced", [Answer::status(500), Answer::ok()]);
        let endpoint = endpoint(system, "/traced", json!({ "retry_policy": retries(&["50ms"]) })).await?;
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let sent = [("traceparent", traceparent.as_str()), ("tracestate", "rojo=00f067aa0ba902b7,congo=t61")];
        let received = pass(system, &endpoint, &sent, b"{}".to_vec()).await?;
        assert_eq!(received.header("traceparent").and_then(trace), Some(TRACE));
        assert_eq!(received.header("tracestate"), Some("rojo=00f067aa0ba902b7,congo=t61"));
        for attempt in system.receiver.received_on("/traced") {
            assert_eq!(
                attempt.header("traceparent").and_then(trace),
                Some(TRACE),
                "the retry is of the same trace"
            );
        }
        // A state without its trace belongs to nothing.
        let received = pass(system, &endpoint, &[("tracestate", "rojo=1")], b"{}".to_vec()).await?;
        assert_eq!(received.header("tracestate"), None);
        let begun = received.header("traceparent").and_then(trace).context("no trace")?;
        assert!(begun.len() == 32 && begun != TRACE && begun.bytes().any(|digit| digit != b'0'), "{begun}");
        Ok(())
    });
}

/// The trace's id.
fn trace(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1)
}
