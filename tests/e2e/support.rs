//! What all promises are tested with: systems, endpoints, producers, and waits that end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use http::HeaderMap;
use ravenpost_testkit::{
    api::{Answer, Api},
    kafka,
    receiver::Received,
    system::{Builder, System},
    wait,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{runtime::Runtime, sync::Mutex};
use uuid::Uuid;

/// Longer than anything takes on a loaded machine: only what never happens runs into it.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// One runtime for all tests, since a system that tests share has to outlive the first of them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

static CLIENT: LazyLock<reqwest::Client> =
    LazyLock::new(|| ravenpost_testkit::http_client().expect("an HTTP client"));

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = Result<()>>) {
    if let Err(error) = RUNTIME.block_on(test) {
        panic!("{error:?}");
    }
}

/// Runs a test on a system of its own.
pub(crate) fn alone(builder: Builder, test: impl AsyncFnOnce(&mut System) -> Result<()>) {
    run(on(builder, test));
}

/// [`alone`], for a test that has prepared something before.
pub(crate) async fn on(builder: Builder, test: impl AsyncFnOnce(&mut System) -> Result<()>) -> Result<()> {
    let mut system = Box::pin(builder.start()).await.context("the system does not start")?;
    let _report = Report(system.logs().to_owned());
    if let Err(error) = test(&mut system).await {
        // Not passed on: a system that is dropped by a panic leaves its logs.
        panic!("{error:?}");
    }
    Ok(())
}

/// A system that independent tests share. It lives while one of them runs.
pub(crate) struct Shared {
    builder: fn() -> Builder,
    system: Mutex<Weak<System>>,
}

/// For all who need nothing of their own. Its alerts open after three failures in a row.
pub(crate) static SHARED: Shared =
    Shared::new(|| System::builder().setting("RAVENPOST_ALERT_CONSECUTIVE_FAILURES", "3"));

impl Shared {
    const fn new(builder: fn() -> Builder) -> Self {
        Self { builder, system: Mutex::const_new(Weak::new()) }
    }

    /// Runs a test on the shared system.
    pub(crate) fn run(&self, test: impl AsyncFnOnce(&System) -> Result<()>) {
        let system = RUNTIME.block_on(self.get()).unwrap_or_else(|error| panic!("{error:?}"));
        let _report = Report(system.logs().to_owned());
        run(test(&system));
    }

    async fn get(&self) -> Result<Arc<System>> {
        let mut shared = self.system.lock().await;
        if let Some(system) = shared.upgrade() {
            return Ok(system);
        }
        let starting = Box::pin((self.builder)().start());
        let system = Arc::new(starting.await.context("the system does not start")?);
        *shared = Arc::downgrade(&system);
        Ok(system)
    }
}

/// Shows what the services complained of when a test panics.
struct Report(PathBuf);

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&complaints(&self.0));
        }
    }
}

/// Tells whoever reads why a test has failed.
#[expect(clippy::print_stderr, reason = "libtest shows it with the failed test")]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

/// The last warnings and errors of each service.
fn complaints(folder: &Path) -> String {
    const LINES: usize = 15;
    let mut text = Vec::new();
    for (name, log) in logs(folder).unwrap_or_default() {
        let lines: Vec<&str> = log.lines().filter(|line| is_complaint(line)).collect();
        text.push(format!("--- {name}: {} warnings and errors", lines.len()));
        text.extend(lines[lines.len().saturating_sub(LINES)..].iter().map(ToString::to_string));
    }
    text.join("\n")
}

fn is_complaint(line: &str) -> bool {
    !["info", "debug", "trace"].iter().any(|level| line.contains(&format!(r#""level":"{level}""#)))
}

/// The logs of all services, by their names.
pub(crate) fn logs(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut logs = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            logs.insert(name, String::from_utf8_lossy(&fs::read(&path)?).into_owned());
        }
    }
    Ok(logs)
}

/// How many partitions a worker believes to own, by what it logs.
pub(crate) fn partitions(system: &System, worker: usize) -> Result<usize> {
    let mut owned = BTreeSet::new();
    let log = logs(system.logs())?.remove(&format!("delivery-worker-{worker}")).context("no such worker")?;
    for line in log.lines() {
        // Its last line may be half written.
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        match record["message"].as_str() {
            Some("partition taken") => owned.insert(record["partition"].as_i64()),
            Some("partition let go") => owned.remove(&record["partition"].as_i64()),
            _ => false,
        };
    }
    Ok(owned.len())
}

/// Waits until two workers share all partitions.
pub(crate) async fn until_balanced(system: &System) -> Result<()> {
    let half = usize::try_from(kafka::PARTITIONS)? / 2;
    wait::until_true("both workers to have half of the partitions", BOUND, || async {
        Ok(partitions(system, 0)? == half && partitions(system, 1)? == half)
    })
    .await
}

/// An endpoint with its first destination, as customer and producer know it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) hook_url: String,
    /// What its producer signs with; empty when it doesn't.
    pub(crate) secret: String,
    pub(crate) destination: String,
    /// What its destination verifies with.
    pub(crate) signing_secret: String,
}

impl Endpoint {
    /// Its path in the API.
    pub(crate) fn path(&self) -> String {
        format!("/api/v1/endpoints/{}", self.id)
    }

    /// The path of its first destination in the API.
    pub(crate) fn destination_path(&self) -> String {
        format!("{}/destinations/{}", self.path(), self.destination)
    }
}

/// Creates an endpoint that delivers to a path of the system's receiver and believes everybody, unless `fields` say
/// otherwise.
pub(crate) async fn endpoint(system: &System, path: &str, fields: Value) -> Result<Endpoint> {
    endpoint_of(system, &system.api, path, fields).await
}

/// [`endpoint`], of the organization that `api` belongs to.
pub(crate) async fn endpoint_of(system: &System, api: &Api, path: &str, fields: Value) -> Result<Endpoint> {
    let mut body =
        json!({ "name": path, "target_url": system.receiver.url(path), "verification": { "type": "none" } });
    for (name, value) in fields.as_object().context("fields")? {
        body[name] = value.clone();
    }
    let created = api.post("/api/v1/endpoints", &body).await?;
    Ok(Endpoint {
        id: text(&created, "/id")?,
        hook_url: text(&created, "/hook_url")?,
        secret: created["secret"].as_str().unwrap_or_default().to_owned(),
        destination: text(&created, "/destinations/0/id")?,
        signing_secret: text(&created, "/destinations/0/signing_secret")?,
    })
}

/// One more destination of an endpoint, at a path of the system's receiver; gives its id.
pub(crate) async fn destination(
    system: &System,
    endpoint: &Endpoint,
    path: &str,
    fields: Value,
) -> Result<String> {
    let mut body = json!({ "name": path, "url": system.receiver.url(path) });
    for (name, value) in fields.as_object().context("fields")? {
        body[name] = value.clone();
    }
    text(&system.api.post(&format!("{}/destinations", endpoint.path()), &body).await?, "/id")
}

/// A retry policy without jitter.
pub(crate) fn retries(schedule: &[&str]) -> Value {
    json!({ "schedule": schedule, "jitter": 0 })
}

/// The string at a JSON pointer.
pub(crate) fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("no text at {pointer} in {value}"))
}

/// Posts as a producer does.
pub(crate) async fn post(
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Result<Answer> {
    let mut request = CLIENT.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

/// Sends any request.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    Ok(Answer { status: answer.status(), headers: answer.headers().clone(), body: answer.bytes().await? })
}

/// The client of all producers, for requests that [`post`] can't make.
pub(crate) fn client() -> &'static reqwest::Client {
    &CLIENT
}

/// Sends an unsigned JSON event; gives its id.
pub(crate) async fn send(endpoint: &Endpoint, body: impl Into<reqwest::Body>) -> Result<String> {
    let answer = post(&endpoint.hook_url, &[("content-type", "application/json")], body).await?;
    text(&answer.expect(202)?, "/id")
}

/// Checks that an answer is a problem of this status and kind, as RFC 9457 writes it.
pub(crate) fn ensure_problem(answer: &Answer, status: u16, kind: &str) -> Result<Value> {
    let problem = answer.expect(status)?;
    let content_type = header(&answer.headers, "content-type");
    ensure!(
        content_type == Some("application/problem+json"),
        "a problem of type {content_type:?}: {problem}"
    );
    ensure!(problem["type"] == format!("urn:ravenpost:problem:{kind}"), "not {kind}: {problem}");
    ensure!(problem["status"] == status && problem["title"].is_string(), "{problem}");
    Ok(problem)
}

/// The first header of that name, as text.
pub(crate) fn header<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    headers.get(name)?.to_str().ok()
}

/// The event, as soon as the API tells this status.
pub(crate) async fn until_status(system: &System, event: &str, status: &str) -> Result<Value> {
    let path = format!("/api/v1/events/{event}");
    let waited = wait::until(&format!("{event} to be {status}"), BOUND, || async {
        let event = system.api.get(&path).await?;
        Ok(Some(event).filter(|event| event["status"] == status))
    })
    .await;
    match waited {
        Ok(event) => Ok(event),
        Err(error) => {
            let (event, deliveries) = (system.api.get(&path).await, deliveries(system, event).await);
            Err(error.context(format!("{event:?} {deliveries:?}")))
        }
    }
}

/// The event's attempts and what waits, as the API tells them.
pub(crate) async fn deliveries(system: &System, event: &str) -> Result<Value> {
    system.api.get(&format!("/api/v1/events/{event}/deliveries")).await
}

/// A field of each attempt, in their order.
pub(crate) fn column(deliveries: &Value, field: &str) -> Vec<Value> {
    deliveries["data"].as_array().into_iter().flatten().map(|delivery| delivery[field].clone()).collect()
}

/// Waits until all these events are `SUCCESS`.
pub(crate) async fn until_all_succeed(
    system: &System,
    events: &BTreeSet<String>,
    bound: Duration,
) -> Result<()> {
    let pool = system.database.pool().await?;
    let ids = uuids(events)?;
    wait::until_true(&format!("{} events to be SUCCESS", ids.len()), bound, || async {
        Ok(successes(&pool).await?.is_superset(&ids))
    })
    .await?;
    pool.close().await;
    Ok(())
}

/// All events that are `SUCCESS` now.
pub(crate) async fn successes(pool: &PgPool) -> Result<BTreeSet<Uuid>> {
    let ids = sqlx::query_scalar("select id from events where status = 'SUCCESS'").fetch_all(pool).await?;
    Ok(ids.into_iter().collect())
}

/// The pairs of which an attempt is recorded now, as events.
pub(crate) async fn recorded(system: &System) -> Result<BTreeSet<String>> {
    let pool = system.database.pool().await?;
    let ids: Vec<Uuid> = sqlx::query_scalar("select event_id from deliveries").fetch_all(&pool).await?;
    Ok(ids.iter().map(Uuid::to_string).collect())
}

/// A number that a query gives.
pub(crate) async fn number(system: &System, query: &'static str) -> Result<i64> {
    let pool = system.database.pool().await?;
    Ok(sqlx::query_scalar(query).fetch_one(&pool).await?)
}

pub(crate) fn uuids(events: &BTreeSet<String>) -> Result<BTreeSet<Uuid>> {
    events.iter().map(|id| Uuid::parse_str(id).with_context(|| id.clone())).collect()
}

/// What was received, by event.
pub(crate) fn by_event(received: Vec<Received>) -> BTreeMap<String, Vec<Received>> {
    let mut events: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    for request in received {
        let id = request.header("webhook-id").unwrap_or_default().to_owned();
        events.entry(id).or_default().push(request);
    }
    events
}

/// The value of a sample whose line starts so.
pub(crate) fn sample(metrics: &str, start: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}
