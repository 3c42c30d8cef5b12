//! A database for one test, and a small world in it.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use ravenpost_core::access::ApiKey;
use ravenpost_core::alert::{Condition, ConditionName, RuleKey};
use ravenpost_core::audit::Author;
use ravenpost_core::delivery::{DeliveryKey, Outcome, PhaseTimes};
use ravenpost_core::destination::Signing;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::event::{EventStatus, PayloadLocation};
use ravenpost_core::ids::{
    ApiKeyId, DeliveryId, DestinationId, EndpointId, EventId, InstanceId, OrganizationId, RejectedRequestId,
    ReplayJobId, SecretId, Slot,
};
use ravenpost_core::pacing::{Health, Limits};
use ravenpost_core::rejected::Head;
use ravenpost_core::replay::{ReplayFilter, ReplayKind};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::{
    Attempt, Bootstrapped, DestinationState, DisableAfter, Filtered, NewEvent, NewRejected, Record,
    RejectedCount, Routed,
};
use ravenpost_store::tenant::{
    KeyClaim, NewDestination, NewEndpoint, NewReplayJob, NewSecret, SecretAdded, ToSeal,
};
use ravenpost_store::{Settings, Store, Tenant};
use ravenpost_testkit::database::Database;
use sqlx::PgPool;
use uuid::Uuid;

use crate::alerts;

/// The partition under which tests record.
pub(crate) const PARTITION: i32 = 0;
const KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A migrated database of its own, seen as the service sees it and as a superuser does.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) pool: PgPool,
    pub(crate) epoch: i64,
    pub(crate) now: DateTime<Utc>,
    database: Database,
}

/// An organization with an endpoint, two destinations and one event of which all tables have rows.
pub(crate) struct Organization {
    pub(crate) id: OrganizationId,
    pub(crate) tenant: Tenant,
    pub(crate) endpoint: EndpointId,
    pub(crate) first: DestinationId,
    pub(crate) second: DestinationId,
}

impl World {
    pub(crate) async fn new() -> Self {
        // Boxed: starting a whole stack is a large future, and few tests are the ones who do.
        let stores = Box::pin(ravenpost_testkit::shared()).await.unwrap();
        let database = Database::fresh(stores).await.unwrap();
        Self::of(database, str::to_owned).await
    }

    /// A database that somebody owns and has migrated who is no superuser, and services log in to as somebody else, who is
    /// a member of our roles and nothing more (migrations/README.md).
    pub(crate) async fn without_superusers() -> Self {
        let stores = Box::pin(ravenpost_testkit::shared()).await.unwrap();
        let roles = ["ravenpost_tenant", "ravenpost_system", "ravenpost_maintenance"].join(", ");
        // The template's migration has made the roles.
        drop(Database::fresh(stores).await.unwrap());
        let database = Database::empty(stores).await.unwrap();
        let (owner, service) = (format!("{}_owner", database.name()), format!("{}_service", database.name()));
        let prepare = format!(
            "create role {owner} login createrole; create role {service} login;
             grant {roles} to {owner} with admin option; grant {roles} to {service};
             alter database {} owner to {owner}; alter schema public owner to {owner}",
            database.name()
        );
        database.execute(&prepare).await.unwrap();
        ravenpost_testkit::database::migrate(&as_role(database.url(), &owner)).await.unwrap();
        Self::of(database, |url| as_role(url, &service)).await
    }

    async fn of(database: Database, login: impl Fn(&str) -> String) -> Self {
        let mut settings = settings(&database);
        settings.database_url = login(&settings.database_url);
        let store = Store::new(&settings, Some(KEY.parse().unwrap())).unwrap();
        let epoch = store.system().take_partition(PARTITION).await.unwrap();
        let pool = database.pool().await.unwrap();
        let now = DateTime::UNIX_EPOCH + ravenpost_testkit::clock::now();
        Self { store, pool, epoch, now: now.trunc_subsecs(6), database }
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(&self.database)
    }

    pub(crate) async fn organization(&self) -> Organization {
        let id = OrganizationId::new(self.now, random());
        let key = ApiKey::new(random());
        let new = Bootstrapped {
            organization_id: id,
            name: "Acme",
            api_key_id: ApiKeyId::new(self.now, random()),
            api_key: &key,
        };
        self.store.system().bootstrap(&new).await.unwrap();
        let tenant = self.store.tenant(id, Author::SYSTEM);
        let (endpoint, first) = self.endpoint(&tenant).await;
        let second = self.destination(&tenant, endpoint).await;
        Organization { id, tenant, endpoint, first, second }
    }

    async fn endpoint(&self, tenant: &Tenant) -> (EndpointId, DestinationId) {
        let token = Uuid::from_bytes(random()).to_string();
        let (policy, secret) = (RetryPolicy::default(), Secret::standard_webhooks(random()));
        let url = "https://example.com/hook".parse().unwrap();
        let destination = new_destination(self.now, &policy, &secret, &url);
        let endpoint = NewEndpoint {
            id: EndpointId::new(self.now, random()),
            name: "Orders",
            token: &token,
            verification: &Verification::StandardWebhooks {},
            secret: Some(ToSeal { secret: &secret, nonce: random() }),
            max_body_bytes: None,
            rate_limit: None,
            content_types: None,
            answer: None,
            destination,
        };
        let (endpoint, destination) = tenant.create_endpoint(&endpoint, self.now).await.unwrap();
        (endpoint.id, destination.id)
    }

    /// The endpoint's second secret; the first one is then an older one.
    async fn another_secret(&self, organization: &Organization) {
        let secret = Secret::standard_webhooks(random());
        let new = NewSecret {
            id: SecretId::new(self.now, random()),
            secret: ToSeal { secret: &secret, nonce: random() },
            verification: &Verification::StandardWebhooks {},
            others_expire_at: None,
        };
        let added = organization.tenant.add_secret(organization.endpoint, &new, self.now).await.unwrap();
        assert_eq!(added, SecretAdded::Added);
    }

    pub(crate) async fn destination(&self, tenant: &Tenant, endpoint: EndpointId) -> DestinationId {
        let (policy, secret) = (RetryPolicy::default(), Secret::standard_webhooks(random()));
        let url = "https://example.com/second".parse().unwrap();
        let new = new_destination(self.now, &policy, &secret, &url);
        tenant.create_destination(endpoint, &new, self.now).await.unwrap().unwrap().id
    }

    /// What ingress could accept now.
    pub(crate) fn new_event(&self, organization: &Organization) -> NewEvent {
        let id = EventId::new(self.now, random());
        NewEvent {
            id,
            organization_id: organization.id,
            endpoint_id: organization.endpoint,
            slot: Slot::of(organization.endpoint),
            received_at: self.now,
            payload: PayloadLocation::of_event(id, 100),
            body_sha256: random(),
            headers: b"content-type: application/json\r\n".as_slice().into(),
            event_type: Some("push".to_owned()),
            content_type: Some("application/json".to_owned()),
            traceparent: None,
            deduplication: None,
        }
    }

    /// An event as ingress accepts it, not routed.
    pub(crate) async fn event(&self, organization: &Organization) -> EventId {
        let instance = InstanceId::new(self.now, random());
        self.store.system().register_instance(instance, 1).await.unwrap();
        let event = self.new_event(organization);
        self.store.system().accept(instance, 0, std::slice::from_ref(&event)).await.unwrap();
        event.id
    }

    /// An event that its only destination has not wanted.
    pub(crate) async fn unwanted(&self, organization: &Organization, destination: DestinationId) -> EventId {
        let event = self.event(organization).await;
        let routed = vec![Routed { event_id: event, destinations: vec![destination] }];
        let filtered = vec![Filtered { event_id: event, destination_id: destination, run: 0, version: 0 }];
        self.record(Record { routed, filtered, ..Record::default() }).await;
        event
    }

    /// An event for `destinations`, each with the outcome of its first attempt: `Some(true)` delivered, `Some(false)`
    /// given up, `None` waiting for a retry in an hour.
    pub(crate) async fn routed(
        &self,
        organization: &Organization,
        outcomes: &[(DestinationId, Option<bool>)],
    ) -> EventId {
        let event = self.event(organization).await;
        let destinations = outcomes.iter().map(|(destination, _)| *destination).collect();
        let attempts = outcomes
            .iter()
            .map(|(destination, outcome)| {
                let key =
                    DeliveryKey { event_id: event, destination_id: *destination, run: 0, attempt_number: 1 };
                self.attempt(organization, key, 0, *outcome)
            })
            .collect();
        self.record(Record {
            routed: vec![Routed { event_id: event, destinations }],
            attempts,
            ..Record::default()
        })
        .await;
        event
    }

    /// An attempt that took the schedule's row at `version`.
    pub(crate) fn attempt(
        &self,
        organization: &Organization,
        key: DeliveryKey,
        version: i32,
        delivered: Option<bool>,
    ) -> Attempt {
        Attempt {
            id: DeliveryId::new(self.now, random()),
            key,
            organization_id: organization.id,
            endpoint_id: organization.endpoint,
            version,
            outcome: if delivered == Some(true) { Outcome::Success } else { Outcome::ServerError },
            response_code: Some(200),
            response_body_snippet: None,
            error_message: None,
            filter_error: None,
            next_retry_at: delivered.is_none().then(|| self.now + chrono::TimeDelta::hours(1)),
            attempted_at: self.now,
            duration_ms: 5,
            phases: PhaseTimes::default(),
            connected_address: None,
        }
    }

    /// How a destination fares, as it is recorded.
    pub(crate) fn state(
        &self,
        organization: &Organization,
        destination_id: DestinationId,
        health: Health,
    ) -> DestinationState {
        DestinationState { destination_id, organization_id: organization.id, health, updated_at: self.now }
    }

    pub(crate) async fn record(&self, record: Record) {
        assert!(self.store.system().record(PARTITION, self.epoch, &record).await.unwrap());
    }

    /// A row in every table that a tenant may read.
    pub(crate) async fn everything(&self) -> (Organization, EventId) {
        let organization = self.organization().await;
        self.another_secret(&organization).await;
        crate::people::an_owner_who_has_invited(self, &organization).await;
        crate::sending::another_signing_secret(self, &organization).await;
        crate::sending::first_key(self, &organization).await;
        organization.tenant.watch(self.now).await.unwrap();
        let event = self
            .routed(&organization, &[(organization.first, Some(false)), (organization.second, None)])
            .await;
        alerts::channel(self, &organization, "ops@example.com").await;
        let rule = alerts::rule(Condition::ConsecutiveFailures { failures: 9 });
        let RuleKey::Own(id) = rule.key else { panic!("a rule of its own") };
        organization.tenant.create_alert_rule(id, &rule, self.now).await.unwrap().unwrap();
        let fires = alerts::fires(self, &organization, RuleKey::Default(ConditionName::ConsecutiveFailures));
        let observed = alerts::observed(&organization, 0, 1);
        assert_eq!(self.store.system().observe(&[observed], &[fires]).await.unwrap(), [true]);
        self.rejected(&organization, 1).await;
        let filter = ReplayFilter { status: vec![EventStatus::Success], ..ReplayFilter::default() };
        let id = ReplayJobId::new(self.now, random());
        let job = NewReplayJob { id, kind: ReplayKind::Replay, filter: &filter, rate: None };
        organization.tenant.create_replay_job(&job, self.now).await.unwrap();
        let claim = KeyClaim {
            actor_id: Uuid::from_bytes(random()),
            key: "a key",
            fingerprint: random(),
            request_id: Uuid::from_bytes(random()),
            lock: Duration::from_secs(60),
            keep: Duration::from_hours(24),
        };
        organization.tenant.claim_key(&claim, self.now).await.unwrap();
        let state = self.state(&organization, organization.first, Health::default());
        self.record(Record { states: vec![state], ..Record::default() }).await;
        self.counted_and_expunged(&organization).await;
        (organization, event)
    }

    /// A row of statistics, and of a payload that was expunged and overwritten.
    async fn counted_and_expunged(&self, organization: &Organization) {
        for insert in [
            "insert into delivery_stats select $1, $1, $1, 'hour', now(), 0, 0, 0, 0, 0, 0, 0, 0, '{}'",
            "insert into expunged_payloads select $1, $1, 'x', 0, 1, now(), now()",
        ] {
            sqlx::query(insert).bind(organization.id.0).execute(&self.pool).await.unwrap();
        }
    }

    /// So many rejected requests of 100 bytes, a millisecond apart, as ingress keeps them; the oldest first.
    pub(crate) async fn rejected(&self, organization: &Organization, count: i64) -> Vec<RejectedRequestId> {
        let requests: Vec<_> = (0..count)
            .map(|n| Self::new_rejected(organization, self.now + TimeDelta::milliseconds(n)))
            .collect();
        let counts = [RejectedCount {
            organization_id: organization.id,
            endpoint_id: organization.endpoint,
            at: self.now,
            kept: count,
            not_kept: 0,
        }];
        self.store.system().keep_rejected(&requests, &counts).await.unwrap();
        requests.iter().map(|request| request.id).collect()
    }

    pub(crate) fn new_rejected(organization: &Organization, at: DateTime<Utc>) -> NewRejected {
        let headers = [(http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer hush"))];
        NewRejected {
            id: RejectedRequestId::new(at, random()),
            organization_id: organization.id,
            endpoint_id: organization.endpoint,
            received_at: at,
            reason: "wrong_signature",
            detail: "the signature does not match".to_owned(),
            method: "POST".to_owned(),
            peer: Some([203, 0, 113, 7].into()),
            head: Head {
                query: Some("a=1".to_owned()),
                headers: headers.into_iter().collect(),
                credential_header: None,
            },
            nonce: random(),
            body_length: 100,
            body_sha256: [7; 32],
        }
    }
}

fn as_role(url: &str, role: &str) -> String {
    let mut url: url::Url = url.parse().unwrap();
    url.set_username(role).unwrap();
    url.into()
}

fn settings(database: &Database) -> Settings {
    Settings {
        database_url: database.url().to_owned(),
        database_tls: Some("disable".parse().unwrap()),
        database_ca_file: None,
        database_connections: 4,
        database_wait: std::time::Duration::from_secs(20),
        database_statement_timeout: std::time::Duration::from_secs(20),
    }
}

fn new_destination<'a>(
    now: DateTime<Utc>,
    retry_policy: &'a RetryPolicy,
    secret: &'a Secret,
    url: &'a url::Url,
) -> NewDestination<'a> {
    NewDestination {
        id: DestinationId::new(now, random()),
        name: "Orders",
        url,
        signing_secret: ToSeal { secret, nonce: random() },
        signing: Signing::Hmac,
        headers: None,
        authentication: None,
        tls: None,
        retry_policy,
        timeout: std::time::Duration::from_secs(30),
        replay_on_recovery: false,
        filter: None,
        limits: Limits::default(),
        disable_after: DisableAfter::Operator,
        first_byte_timeout: None,
    }
}

/// Random enough for tests: the hasher's keys are drawn by the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use std::hash::{BuildHasher, RandomState};
    let state = RandomState::new();
    std::array::from_fn(|index| state.hash_one(index).to_le_bytes()[0])
}
