//! The API over a database of its own, callers with keys or who log in, and events as ingress and worker leave them.

mod alerts;
mod issuer;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use ravenpost_chassis::random::bytes as random;
use ravenpost_chassis::{Context, metrics};
use ravenpost_core::access::ApiKey;
use ravenpost_core::deduplication::DeduplicationKey;
use ravenpost_core::delivery::{DeliveryKey, Outcome, PhaseTimes};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{
    ApiKeyId, DeliveryId, DestinationId, EndpointId, EventId, InstanceId, OrganizationId, RejectedRequestId,
    Slot,
};
use ravenpost_core::rejected::Head;
use ravenpost_egress::{Certificates, Client, OperatorClient};
use ravenpost_management_api::api::{Api, Beside, router};
use ravenpost_management_api::auth::{Auth, ORGANIZATION_HEADER, OidcSettings};
use ravenpost_management_api::live::{Live, LiveLimits};
use ravenpost_management_api::maintenance::statistics::Kept;
use ravenpost_management_api::metrics::Metrics;
use ravenpost_management_api::settings::ConventionSettings;
use ravenpost_store::system::{
    Attempt, Bootstrapped, Deduplication, NewEvent, NewRejected, Record, RejectedCount, Routed,
    StatisticsKept,
};
use ravenpost_store::{Payloads, Settings, Store, payloads};
use ravenpost_testkit::database::Database;
use ravenpost_testkit::s3;
use ravenpost_testkit::stack::Addresses;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use crate::document;
pub(crate) use issuer::{AUDIENCE, Issuer, Key, message};

pub(crate) const MASTER_KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const PARTITION: i32 = 0;
/// A port of this machine where nobody listens.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

/// The service, in this process.
pub(crate) struct Service {
    router: Router,
    pub(crate) store: Store,
    pub(crate) payloads: Payloads,
    pub(crate) database: Database,
    pub(crate) now: DateTime<Utc>,
    prefix: String,
    epoch: i64,
}

/// Somebody with an API key, or an access token in its place.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) router: Router,
    pub(crate) organization: OrganizationId,
    pub(crate) key: Option<String>,
    /// The organization that they name in each request, as it is written.
    names: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// An endpoint with one destination, in the caller's organization.
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) destination: DestinationId,
}

impl Service {
    pub(crate) async fn new() -> Self {
        let database = Database::fresh(stores().await).await.unwrap();
        let store = store(database.url());
        let prefix = format!("{}/", Uuid::from_bytes(random()));
        let payloads = payloads(&prefix).await;
        let epoch = store.system().take_partition(PARTITION).await.unwrap();
        let router = serve(store.clone(), payloads.clone());
        Self {
            router,
            store,
            payloads,
            database,
            now: ravenpost_chassis::clock::now().trunc_subsecs(6),
            prefix,
            epoch,
        }
    }

    /// As [`Service::new`], where people of an issuer can log in, and changes are heard of.
    pub(crate) async fn with_logins() -> (Self, Issuer) {
        let (service, issuer) = (Self::new().await, Issuer::start().await);
        let router = service.replica(&issuer);
        (Self { router, ..service }, issuer)
    }

    /// One more replica of the service, where these people can log in.
    pub(crate) fn replica(&self, issuer: &Issuer) -> Router {
        let metrics = Metrics::declare(&metrics::Metrics::default(), self.store.clone());
        let auth = Auth::new(self.store.clone(), &oidc(Some(&issuer.url)), metrics.clone()).unwrap();
        auth.start(&Context::detached());
        let conventions = ConventionSettings::default();
        route(self.store.clone(), self.payloads.clone(), auth, metrics, &conventions)
    }

    /// Somebody of the issuer's, who logs in with their first request, in their first organization.
    pub(crate) async fn person(&self, issuer: &Issuer, subject: &str) -> Customer {
        let token = issuer.token(subject);
        let nobody = OrganizationId(Uuid::nil());
        let person =
            Customer { router: self.router.clone(), organization: nobody, key: Some(token), names: None };
        let me = person.get("/me").await;
        assert_eq!(me.status, 200, "{}", me.shown());
        let organization = me.json()["organizations"][0]["id"].as_str().unwrap().parse().unwrap();
        Customer { organization, ..person }
    }

    /// Makes a person a member of somebody's organization, in which they act from now on.
    pub(crate) async fn join(&self, person: &Customer, of: &Customer, role: &str) -> Customer {
        let id = person.id().await;
        let statement = format!(
            "insert into memberships (organization_id, user_id, role, created_at, updated_at)
             values ('{}', '{id}', '{role}', now(), now())
             on conflict (organization_id, user_id) do update set role = excluded.role",
            of.organization
        );
        self.database.execute(&statement).await.unwrap();
        Customer { organization: of.organization, ..person.naming(Some(&of.organization.to_string())) }
    }

    /// The keys of all objects, without the prefix.
    pub(crate) async fn object_keys(&self) -> Vec<String> {
        let keys = s3::keys(&stores().await.s3, &self.prefix).await.unwrap();
        keys.iter().map(|key| key[self.prefix.len()..].to_owned()).collect()
    }

    /// A new organization's caller, with every scope.
    pub(crate) async fn customer(&self) -> Customer {
        let organization = OrganizationId::new(self.now, random());
        let key = ApiKey::new(random());
        let api_key_id = ApiKeyId::new(self.now, random());
        let new = Bootstrapped { organization_id: organization, name: "Acme", api_key_id, api_key: &key };
        self.store.system().bootstrap(&new).await.unwrap();
        Customer {
            router: self.router.clone(),
            organization,
            key: Some(key.reveal().to_owned()),
            names: None,
        }
    }

    /// An event as ingress accepts it, with its payload stored, not routed.
    pub(crate) async fn event(
        &self,
        customer: &Customer,
        endpoint: &Endpoint,
        body: &'static [u8],
    ) -> EventId {
        let id = EventId::new(self.now, random());
        let s3_key = PayloadLocation::object_key(id);
        self.payloads.put(&s3_key, body.into()).await.unwrap();
        let instance = InstanceId::new(self.now, random());
        self.store.system().register_instance(instance, 1).await.unwrap();
        let event = self.new_event(customer, endpoint, id, body.len());
        self.store.system().accept(instance, 0, &[event]).await.unwrap();
        id
    }

    /// So many events as ingress accepts them in a batch, without payloads.
    pub(crate) async fn events(&self, customer: &Customer, endpoint: &Endpoint, count: usize) {
        let instance = InstanceId::new(self.now, random());
        self.store.system().register_instance(instance, 1).await.unwrap();
        let new = |_| self.new_event(customer, endpoint, EventId::new(self.now, random()), 0);
        let events: Vec<NewEvent> = (0..count).map(new).collect();
        self.store.system().accept(instance, 0, &events).await.unwrap();
    }

    fn new_event(&self, customer: &Customer, endpoint: &Endpoint, id: EventId, length: usize) -> NewEvent {
        NewEvent {
            id,
            organization_id: customer.organization,
            endpoint_id: endpoint.id,
            slot: Slot::of(endpoint.id),
            received_at: self.now,
            payload: PayloadLocation::of_event(id, length),
            body_sha256: [0xab; 32],
            headers: b"content-type: text/html\r\nx-github-event: push\r\n".as_slice().into(),
            event_type: Some("push".to_owned()),
            content_type: Some("text/html".to_owned()),
            traceparent: None,
            deduplication: None,
        }
    }

    /// Events whose payloads lie side by side in a segment, each delivered to the endpoint's destination.
    pub(crate) async fn in_segment(
        &self,
        customer: &Customer,
        endpoint: &Endpoint,
        bodies: &[&[u8]],
    ) -> Vec<EventId> {
        let instance = InstanceId::new(self.now, random());
        self.store.system().register_instance(instance, 1).await.unwrap();
        let first = EventId::new(self.now, random());
        let key = PayloadLocation::segment_key(first);
        self.payloads.put(&key, bodies.concat().into()).await.unwrap();
        let (mut events, mut offset) = (Vec::new(), 0);
        for body in bodies {
            let id = EventId::new(self.now, random());
            let payload = PayloadLocation::within(key.clone(), offset, body.len());
            events.push(NewEvent { payload, ..self.new_event(customer, endpoint, id, body.len()) });
            offset += body.len();
        }
        self.store.system().accept(instance, 0, &events).await.unwrap();
        let destinations = vec![endpoint.destination];
        let routed = |event: &NewEvent| Routed { event_id: event.id, destinations: destinations.clone() };
        let record = Record { routed: events.iter().map(routed).collect(), ..Record::default() };
        assert!(self.store.system().record(PARTITION, self.epoch, &record).await.unwrap());
        events.into_iter().map(|event| event.id).collect()
    }

    /// An event that its producer calls so.
    pub(crate) async fn event_of_producer(
        &self,
        customer: &Customer,
        endpoint: &Endpoint,
        id: &str,
    ) -> EventId {
        let instance = InstanceId::new(self.now, random());
        self.store.system().register_instance(instance, 1).await.unwrap();
        let event_id = EventId::new(self.now, random());
        let expires_at = self.now + TimeDelta::hours(1);
        let [key, _] = DeduplicationKey::of_id(id);
        let deduplication = Some(Deduplication { key, expires_at });
        let event = NewEvent { deduplication, ..self.new_event(customer, endpoint, event_id, 0) };
        self.store.system().accept(instance, 0, &[event]).await.unwrap();
        event_id
    }

    /// Such an event, and its first attempt: delivered, given up, or to be retried in an hour.
    pub(crate) async fn attempted(
        &self,
        customer: &Customer,
        endpoint: &Endpoint,
        delivered: Option<bool>,
    ) -> EventId {
        let event_id = self.event(customer, endpoint, b"{}").await;
        let destination_id = endpoint.destination;
        let key = DeliveryKey { event_id, destination_id, run: 0, attempt_number: 1 };
        let success = delivered == Some(true);
        let attempt = Attempt {
            id: DeliveryId::new(self.now, random()),
            key,
            organization_id: customer.organization,
            endpoint_id: endpoint.id,
            version: 0,
            outcome: if success { Outcome::Success } else { Outcome::ServerError },
            response_code: Some(if success { 200 } else { 500 }),
            response_body_snippet: Some("thanks".to_owned()),
            error_message: (!success).then(|| "the destination answered 500".to_owned()),
            filter_error: None,
            next_retry_at: delivered.is_none().then(|| self.now + chrono::TimeDelta::hours(1)),
            attempted_at: self.now,
            duration_ms: 5,
            phases: PhaseTimes { queue_us: Some(1_500), first_byte_us: Some(4_000), ..PhaseTimes::default() },
            connected_address: Some("203.0.113.7:443".to_owned()),
        };
        let routed = Routed { event_id, destinations: vec![destination_id] };
        let record = Record { routed: vec![routed], attempts: vec![attempt], ..Record::default() };
        assert!(self.store.system().record(PARTITION, self.epoch, &record).await.unwrap());
        event_id
    }
}

/// What is rejected: these headers and this body, so long ago.
#[derive(Clone, Copy)]
pub(crate) struct Unbelieved<'a> {
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'static [u8],
    pub(crate) ago: TimeDelta,
}

impl Service {
    /// A rejected request as ingress keeps it, its body included.
    pub(crate) async fn rejected(
        &self,
        customer: &Customer,
        endpoint: EndpointId,
        unbelieved: Unbelieved<'_>,
    ) -> RejectedRequestId {
        let received_at = self.now - unbelieved.ago;
        let header = |(name, value): &(String, String)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let id = RejectedRequestId::new(received_at, random());
        let body_length = i64::try_from(unbelieved.body.len()).unwrap();
        let new = NewRejected {
            id,
            organization_id: customer.organization,
            endpoint_id: endpoint,
            received_at,
            reason: "wrong_signature",
            detail: "the signature does not match".to_owned(),
            method: "POST".to_owned(),
            peer: Some([203, 0, 113, 7].into()),
            head: Head {
                query: Some("source=a&token=hush".to_owned()),
                headers: unbelieved.headers.iter().map(header).collect(),
                credential_header: None,
            },
            nonce: random(),
            body_length,
            body_sha256: [0xab; 32],
        };
        let organization_id = customer.organization;
        let count =
            RejectedCount { organization_id, endpoint_id: endpoint, at: self.now, kept: 1, not_kept: 9 };
        self.store.system().keep_rejected(&[new], &[count]).await.unwrap();
        let key = PayloadLocation::of_rejected(id, body_length).s3_key;
        self.payloads.put(&key, unbelieved.body.into()).await.unwrap();
        id
    }
}

/// Where the shared stores are.
pub(crate) async fn stores() -> &'static Addresses {
    // Boxed: starting a whole stack is a large future, and few tests are the ones who do.
    Box::pin(ravenpost_testkit::shared()).await.unwrap()
}

/// A store on that database.
pub(crate) fn store(url: &str) -> Store {
    let settings = Settings {
        database_url: url.to_owned(),
        database_tls: Some("disable".parse().unwrap()),
        database_ca_file: None,
        database_connections: 4,
        database_wait: Duration::from_secs(5),
        database_statement_timeout: Duration::from_secs(20),
    };
    Store::new(&settings, Some(MASTER_KEY.parse().unwrap())).unwrap()
}

/// The shared payload store, under a prefix.
async fn payloads(prefix: &str) -> Payloads {
    let s3 = &stores().await.s3;
    Payloads::new(&payloads::Settings {
        s3_endpoint: s3.endpoint.clone(),
        s3_bucket: s3.bucket.clone(),
        s3_region: s3.region.clone(),
        s3_access_key_id: Some(s3.access_key_id.clone()),
        s3_secret_access_key: Some(s3.secret_access_key.clone()),
        s3_key_prefix: prefix.to_owned(),
        s3_kms_key_id: None,
        s3_ca_file: None,
    })
    .await
    .unwrap()
}

/// A payload store that is away.
pub(crate) async fn payloads_away() -> Payloads {
    Payloads::new(&payloads::Settings {
        s3_endpoint: format!("http://{NOBODY}"),
        s3_bucket: "x".to_owned(),
        s3_region: "us-east-1".to_owned(),
        s3_access_key_id: Some("x".to_owned()),
        s3_secret_access_key: Some("x".to_owned()),
        s3_key_prefix: String::new(),
        s3_kms_key_id: None,
        s3_ca_file: None,
    })
    .await
    .unwrap()
}

/// The service's router over these stores.
pub(crate) fn serve(store: Store, payloads: Payloads) -> Router {
    serve_with(store, payloads, &ConventionSettings::default())
}

/// The same with other conventions.
pub(crate) fn serve_with(store: Store, payloads: Payloads, conventions: &ConventionSettings) -> Router {
    let metrics = Metrics::declare(&metrics::Metrics::default(), store.clone());
    let auth = Auth::new(store.clone(), &oidc(None), metrics.clone()).unwrap();
    route(store, payloads, auth, metrics, conventions)
}

fn oidc(issuer: Option<&str>) -> OidcSettings {
    OidcSettings {
        oidc_issuer: issuer.map(str::to_owned),
        oidc_audience: AUDIENCE.to_owned(),
        oidc_skew: Duration::from_secs(30),
    }
}

fn route(
    store: Store,
    payloads: Payloads,
    auth: Auth,
    metrics: Metrics,
    conventions: &ConventionSettings,
) -> Router {
    let (hooks, window) = ("https://hooks.example.com/".parse().unwrap(), Duration::from_hours(1));
    let egress = ravenpost_egress::Settings {
        egress_connect_timeout: Duration::from_secs(1),
        egress_max_response_bytes: 1_024,
        ..ravenpost_egress::Settings::default()
    };
    let certificates = Certificates::new(Client::new(&egress).unwrap());
    let beside = Beside {
        auth,
        operator: OperatorClient::new().unwrap(),
        live: Live::new(LiveLimits::default(), CancellationToken::new()),
        statistics: Kept(StatisticsKept {
            minutes: TimeDelta::days(3),
            hours: TimeDelta::days(90),
            days: TimeDelta::days(1_000),
        }),
    };
    router(Api::new(store, payloads, &hooks, window, certificates, beside).with(conventions), metrics)
}

impl Customer {
    /// The same caller through another router.
    pub(crate) fn through(&self, router: Router) -> Self {
        Self { router, ..self.clone() }
    }

    /// Somebody with another key, or none.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// The same caller, who names an organization in each request.
    pub(crate) fn naming(&self, organization: Option<&str>) -> Self {
        Self { names: organization.map(str::to_owned), ..self.clone() }
    }

    /// The caller's own id.
    pub(crate) async fn id(&self) -> String {
        self.get("/me").await.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string())).await
    }

    /// Sends a request below `/api/v1`, with a body that is said to be JSON, or none.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.send_to(method, &format!("/api/v1{path}"), body).await
    }

    /// As [`Customer::send`], to any path. A body that is taken has to be one by the document, and no longer so, by
    /// document and service, with a field more.
    pub(crate) async fn send_to(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let answer = self.ask(method.clone(), path, body.clone()).await;
        let Some(body) = body.filter(|_| answer.status.is_success()) else { return answer };
        let body = serde_json::from_str(&body).unwrap();
        for unknown in document::accepts(&method, path, &body) {
            let refused = self.ask(method.clone(), path, Some(unknown.to_string())).await;
            assert_eq!(refused.status, 422, "{method} {path} {unknown}");
        }
        answer
    }

    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.ask_with(method, path, &[], body).await
    }

    /// Sends a request to any path, with more headers.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(organization) = &self.names {
            request = request.header(ORGANIZATION_HEADER, organization);
        }
        let body = match body {
            Some(body) => {
                if !headers.iter().any(|(name, _)| *name == "content-type") {
                    request = request.header("content-type", "application/json");
                }
                Body::from(body)
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        // A stream never ends.
        let is_stream = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let bytes = if is_stream { Vec::new() } else { to_bytes(body, 1 << 24).await.unwrap().into() };
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// A new endpoint that anybody may send to.
    pub(crate) async fn endpoint(&self) -> Endpoint {
        let new = json!({
            "name": "Orders",
            "target_url": "https://api.example.com/orders",
            "verification": { "type": "none" },
        });
        let answer = self.post("/endpoints", new).await;
        assert_eq!(answer.status, 201);
        let body = answer.json();
        let id = |value: &Value| value.as_str().unwrap().parse().unwrap();
        Endpoint {
            id: EndpointId(id(&body["id"])),
            destination: DestinationId(id(&body["destinations"][0]["id"])),
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and body, with what differs from run to run replaced by its kind.
    pub(crate) fn shown(&self) -> String {
        if self.bytes.is_empty() {
            return self.status.as_u16().to_string();
        }
        let mut body = self.json();
        assert!(self.status.is_success() || self.header("content-type") == "application/problem+json");
        redact("", &mut body);
        format!("{} {body:#}", self.status.as_u16())
    }
}

fn redact(key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| redact(key, value)),
        Value::Array(values) => values.iter_mut().for_each(|value| redact(key, value)),
        Value::String(text) => *text = redacted(key, text),
        _ => {}
    }
}

fn redacted(key: &str, text: &str) -> String {
    if Uuid::parse_str(text).is_ok() {
        return "[id]".to_owned();
    }
    if DateTime::parse_from_rfc3339(text).is_ok() {
        assert!(text.ends_with('Z'), "{text}");
        return "[time]".to_owned();
    }
    match (key, text.rsplit_once("/h/"), text.strip_prefix("whsec_")) {
        ("hook_url", Some((base, token)), _) if token.len() == 43 => format!("{base}/h/[token]"),
        (_, _, Some(encoded)) if encoded.len() == 44 => "whsec_[secret]".to_owned(),
        ("secret", _, _) if text.len() == 64 => "[secret]".to_owned(),
        ("next", _, _) => "[cursor]".to_owned(),
        _ => text.to_owned(),
    }
}
