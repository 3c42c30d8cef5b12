//! Listening: what happens arrives, once for each id, filtered, resumable, bounded; and ends with the key and the process.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use chrono::SubsecRound;
use futures::StreamExt;
use ravenpost_chassis::clock;
use ravenpost_core::audit::Author;
use ravenpost_management_api::live::{Live, LiveFilter, LiveLimits};
use ravenpost_testkit::wait;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Customer, Service};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

/// An open stream.
struct Stream {
    body: BodyDataStream,
    text: String,
}

/// A message of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    id: String,
    name: String,
    data: Value,
}

async fn listen(customer: &Customer, query: &str, last: Option<&str>) -> Stream {
    let mut request = Request::builder().uri(format!("/api/v1/events/stream{query}"));
    request = request.header("authorization", format!("Bearer {}", customer.key.as_ref().unwrap()));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = customer.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = Stream { body: response.into_body().into_data_stream(), text: String::new() };
    assert_eq!(stream.block().await.unwrap(), ": listening\nretry: 2000");
    stream
}

impl Stream {
    /// What stands up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(SOON, self.body.next()).await.expect("something comes soon");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            if !field("event:").is_empty() {
                let data = serde_json::from_str(&field("data:")).unwrap();
                return Some(Message { id: field("id:"), name: field("event:"), data });
            }
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_once_and_resumed() {
    let mut service = Service::new().await;
    let (customer, other) = (service.customer().await, service.customer().await);
    let (endpoint, theirs) = (customer.endpoint().await, other.endpoint().await);
    let mut stream = listen(&customer, "", None).await;
    let mut attempts_only = listen(&customer, "?kind=attempt&outcome=server_error", None).await;
    watched(&service).await;
    service.now = clock::now().trunc_subsecs(6);
    service.attempted(&other, &theirs, Some(true)).await;
    let event = service.attempted(&customer, &endpoint, Some(true)).await;
    let first = stream.next().await.unwrap();
    let second = stream.next().await.unwrap();
    let mut names = [first.name.as_str(), second.name.as_str()];
    names.sort_unstable();
    assert_eq!(names, ["accepted", "attempt"]);
    service.now = clock::now().trunc_subsecs(6);
    let failed = service.attempted(&customer, &endpoint, Some(false)).await;
    let told = attempts_only.next().await.unwrap();
    assert_eq!((&told.data["event_id"], &told.data["outcome"]), (&json!(failed), &json!("server_error")));

    let of_event =
        |message: &Message| message.data["event_id"] == json!(event) || message.data["id"] == json!(event);
    assert!(of_event(&first) && of_event(&second), "{first:?} {second:?}");
    // From a few seconds before on: the same again, under the same ids.
    let mut resumed = listen(&customer, "", Some(&first.id)).await;
    let mut again = Vec::new();
    while again.len() < 4 {
        let message = resumed.next().await.unwrap();
        // Somebody has listened only since a moment ago.
        if message.name != "lagged" {
            again.push(message);
        }
    }
    assert!(again.contains(&first) && again.contains(&second), "{again:?}");
    assert!(again.contains(&told), "what came later, too");
}

/// Waits until attempts are kept.
async fn watched(service: &Service) {
    let count = async || service.database.number("select count(*) from live_watches").await;
    wait::until_true("somebody listens", SOON, async || Ok(count().await? > 0)).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_its_key() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let mut stream = listen(&customer, "", None).await;
    service.database.execute("update api_keys set expires_at = now() - interval '1 minute'").await.unwrap();
    let end = stream.next().await.unwrap();
    assert_eq!((end.name.as_str(), &end.data["status"]), ("end", &json!(401)));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn what_is_no_place_or_no_filter_is_refused() {
    let service = Service::new().await;
    let customer = service.customer().await;
    assert_eq!(customer.get("/events/stream?kind=both").await.status, 400);
    assert_eq!(customer.get("/events/stream?since=1").await.status, 400);
    let request = Request::builder()
        .uri("/api/v1/events/stream")
        .header("authorization", format!("Bearer {}", customer.key.as_ref().unwrap()))
        .header("last-event-id", "yesterday")
        .body(Body::empty())
        .unwrap();
    let refused = customer.router.clone().oneshot(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn however_many_listen_there_is_one_source_and_a_bound() {
    let service = Service::new().await;
    let (one, two) = (service.customer().await, service.customer().await);
    let stopping = tokio_util::sync::CancellationToken::new();
    let limits = LiveLimits { of_organization: 2, all: 3, ..LiveLimits::default() };
    let live = Live::new(limits, stopping.clone());
    let tenant = |customer: &Customer| service.store.tenant(customer.organization, Author::SYSTEM);
    let listen = |customer: &Customer| live.listen(&tenant(customer), LiveFilter::default());
    let (first, second) = (listen(&one).unwrap(), listen(&one).unwrap());
    assert_eq!((live.listeners(), live.source_count()), (2, 1));
    assert!(listen(&one).is_err(), "as many as may of one organization");
    let mut third = listen(&two).unwrap();
    assert!(listen(&two).is_err(), "as many as this process serves");
    assert_eq!(live.source_count(), 2);
    drop((first, second));
    assert_eq!((live.listeners(), live.source_count()), (1, 1));
    stopping.cancel();
    let told = tokio::time::timeout(SOON, third.next()).await.unwrap().unwrap();
    assert!(matches!(told, ravenpost_management_api::live::Told::Over));
}

#[tokio::test]
async fn who_is_too_slow_is_told_so_and_reads_on_from_the_database() {
    const COUNT: usize = 1_200;
    let mut service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let limits = LiveLimits { buffered: 1_024, ..LiveLimits::default() };
    let live = Live::new(limits, tokio_util::sync::CancellationToken::new());
    let tenant = service.store.tenant(customer.organization, Author::SYSTEM);
    let mut listener = live.listen(&tenant, LiveFilter::default()).unwrap();
    service.now = clock::now().trunc_subsecs(6);
    service.events(&customer, &endpoint, COUNT).await;
    let (mut lagged, mut seen) = (false, std::collections::HashSet::new());
    while seen.len() < COUNT {
        match tokio::time::timeout(SOON, listener.next()).await.unwrap().unwrap() {
            ravenpost_management_api::live::Told::Happened(item) => {
                seen.insert(item.place().unwrap().id);
            }
            ravenpost_management_api::live::Told::Lagged => lagged = true,
            ravenpost_management_api::live::Told::Over => panic!("it goes on"),
        }
    }
    assert!(lagged, "1,200 items do not fit");
}

#[tokio::test]
async fn who_belongs_to_another_organization_now_hears_no_more_of_the_one_before() {
    let (service, issuer) = Service::with_logins().await;
    let (listening, other) = (service.person(&issuer, "ada").await, service.person(&issuer, "bob").await);
    service.join(&other, &listening, "owner").await;
    let mut stream = listen(&listening, "", None).await;
    // In one moment: there is always just one organization that they can mean.
    let moved = format!(
        "insert into memberships values ('{}', '{id}', 'viewer', now(), now());
         delete from memberships where organization_id = '{}' and user_id = '{id}'",
        other.organization,
        listening.organization,
        id = listening.id().await
    );
    service.database.execute(&moved).await.unwrap();
    let end = stream.next().await.unwrap();
    assert_eq!((end.name.as_str(), &end.data["status"]), ("end", &json!(403)), "{end:?}");
    assert_eq!(stream.next().await, None);
}
