//! What awkward characters there are come back as they went in: in names, URLs, headers, texts, and payloads.

use serde_json::json;

use crate::support::Service;

/// Names of every kind: scripts, directions, joiners, controls that JSON escapes, quotes, what SQL, HTML, URLs and shells
/// take for something.
const NAMES: [&str; 24] = [
    "plain",
    "with spaces  inside",
    "tab\tand\nnewline",
    "\"quotes\" and 'apostrophes' and `ticks`",
    "back\\slash \\\\ \\n",
    "'; drop table endpoints; --",
    "%00 %s {} ${x} $1 {{y}}",
    "<script>alert(1)</script>",
    "a&b=c;d?e#f/g",
    "Gr\u{fc}\u{df}e aus K\u{f6}ln",
    "\u{65e5}\u{672c}\u{8a9e}",
    "\u{5e2}\u{5d1}\u{5e8}\u{5d9}\u{5ea} \u{627}\u{644}\u{639}",
    "\u{1f9d1}\u{200d}\u{1f680} \u{1f1e9}\u{1f1ea} e\u{301} \u{e9}",
    "\u{202e}turned\u{202c}",
    "\u{feff}mark",
    "zero\u{200b}width",
    "\u{1}\u{7f}\u{85}",
    "\u{10ffff}\u{fffe}\u{e000}",
    "\u{2028}\u{2029}",
    "null",
    "0x00",
    "../../etc/passwd",
    "\u{fb01} \u{212a} \u{130}",
    "trailing.",
];

#[tokio::test]
async fn names_come_back() {
    let service = Service::new().await;
    let customer = service.customer().await;
    for name in NAMES {
        let is_name = !name.chars().any(char::is_control) && !name.trim().is_empty();
        let new =
            json!({ "name": name, "target_url": "https://a.example", "verification": { "type": "none" } });
        let created = customer.post("/endpoints", new).await;
        if !is_name {
            assert_eq!(created.status, 422, "{name:?}: {}", created.shown());
            continue;
        }
        assert_eq!(created.status, 201, "{name:?}: {}", created.shown());
        let created = created.json();
        assert_eq!(created["name"], name);
        let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
        assert_eq!(customer.get(&path).await.json()["name"], name);
        assert_eq!(customer.get("/analytics/endpoints?limit=1").await.json()["data"][0]["name"], name);
    }
}

#[tokio::test]
async fn what_no_text_can_hold_is_refused() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let new = |name: &str| json!({ "name": name, "target_url": "https://a.example", "verification": { "type": "none" } });
    let refused = customer.post("/endpoints", new("a\0b")).await;
    assert_eq!(refused.status, 422, "{}", refused.shown());
    for query in ["events?event_type=a%00b", "events?text=%00", "dead-letters?reason=%00"] {
        let refused = customer.get(&format!("/{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.shown());
    }
    assert_eq!(customer.get("/events?event_type=%F0%9F%98%80").await.status, 200);
    let endpoint = customer.endpoint().await;
    let path = format!("/events?endpoint_id={}&producer_event_id=%00%F0%9F%98%80", endpoint.id);
    assert_eq!(customer.get(&path).await.status, 200);
}

#[tokio::test]
async fn times_beyond_all_years_are_refused() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    for (list, parameter) in [
        ("events", "received_after"),
        ("events", "received_before"),
        ("dead-letters", "received_after"),
        ("dead-letters", "received_before"),
        ("audit-log", "from"),
        ("analytics", "to"),
    ] {
        for time in ["%2B262142-12-31T23:59:59Z", "%2B10000-01-01T00:00:00Z", "-262143-01-01T00:00:00Z"] {
            let refused = customer.get(&format!("/{list}?{parameter}={time}")).await;
            assert_eq!(refused.status, 400, "{list} {parameter} {time}: {}", refused.shown());
            assert_eq!(refused.json()["errors"][0]["field"], parameter, "{list} {time}");
        }
    }
    let (first, last) = ("0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
    for list in ["events", "dead-letters"] {
        let all = customer.get(&format!("/{list}?received_after={first}&received_before={last}")).await;
        assert_eq!(all.json()["data"].as_array().unwrap().len(), 1, "{list}: {}", all.shown());
    }
    for (field, time) in [
        ("received_after", "-262143-01-01T00:00:00Z"),
        ("received_before", "+262142-12-31T23:59:59Z"),
        ("since", "+10000-01-01T00:00:00Z"),
    ] {
        let far_off = json!({ "filter": { field: time }, "dry_run": true });
        let refused = customer.post("/replays", far_off).await;
        assert_eq!(refused.status, 422, "{field}: {}", refused.shown());
        assert_eq!(refused.json()["errors"][0]["field"], format!("filter.{field}"));
    }
    let ever = json!({ "received_after": first, "received_before": last, "since": first });
    let counted = customer.post("/replays", json!({ "filter": ever, "dry_run": true })).await;
    assert_eq!(counted.json()["matched"], 1, "{}", counted.shown());
}

#[tokio::test]
async fn urls_come_back() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    for url in [
        "https://a.example/",
        "https://a.example:8443/p?q=1&q=2",
        "https://a.example/%2F%2e%20?a=%00&b=%F0%9F%98%80",
        "https://xn--bcher-kva.example/%C3%BC",
        "https://a.example/a;b=c,d/(e)'f'!*~$&+=:@",
        "https://a.example/?redirect=https://b.example/?x=y",
        "https://[2001:db8::1]/x",
        "https://a.example//double//slashes/",
    ] {
        let changed = customer.patch(&path, json!({ "url": url })).await;
        assert_eq!(changed.status, 200, "{url}: {}", changed.shown());
        assert_eq!(changed.json()["url"], url);
        assert_eq!(customer.get(&path).await.json()["url"], url);
    }
}

#[tokio::test]
async fn payloads_come_back_byte_for_byte() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let mut bodies: Vec<&[u8]> = NAMES.iter().map(|name| name.as_bytes()).collect();
    bodies.extend([
        b"".as_slice(),
        &every,
        b"\0",
        b"\xff\xfe\x00\x00",
        b"\xef\xbb\xbf{}",
        b"{\"a\": 1.0e400, \"a\": \"\\ud800\"}",
        b"\r\n\r\n",
        b"{\"big\": 123456789012345678901234567890.10}",
    ]);
    let events = service.in_segment(&customer, &endpoint, &bodies).await;
    for (event, body) in events.iter().zip(&bodies) {
        let answer = customer.get(&format!("/events/{event}/payload")).await;
        assert_eq!((answer.status.as_u16(), answer.bytes.as_slice()), (200, *body));
    }
}
