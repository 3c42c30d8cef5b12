//! Invariant 5: a member of one organization can neither read, change, nor guess anything of another. These tests
//! attack the policies of the schema below the queries, as somebody would who has found an injection.

use ravenpost_core::access::Role;
use ravenpost_core::ids::{ChannelId, DestinationId, EndpointId, EventId, InstanceId, NotificationId};
use ravenpost_store::tenant::{
    AlertFilter, ChannelChange, ChannelChanged, Deleted, DestinationChange, DestinationChanged,
    EndpointChange, EndpointChanged, EventFilter, InvitationRevoked, MemberChanged, MemberRemoved, Page,
    RejectedFilter, ReplayError, RuleChanged, SecretRemoved,
};
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{AssertSqlSafe, Executor, Transaction};

use crate::support::{Organization, World, random};

const ALL: Page = Page { after: None, limit: 250 };

/// Every table with an owner.
const TABLES: [&str; 32] = [
    "organizations",
    "memberships",
    "invitations",
    "api_keys",
    "endpoints",
    "endpoint_secrets",
    "destinations",
    "destination_state",
    "destination_secrets",
    "signing_keys",
    "events",
    "event_headers",
    "deliveries",
    "scheduled_deliveries",
    "dead_letters",
    "channels",
    "destination_health",
    "alerts",
    "rejected_requests",
    "rejected_counts",
    "replay_jobs",
    "replay_job_destinations",
    "audit_heads",
    "audit_log",
    "idempotency_keys",
    "delivery_deltas",
    "delivery_stats",
    "live_watches",
    "live_attempts",
    "expunged_payloads",
    "alert_rules",
    "notifications",
];

/// The tenant's role with whatever is set, or nothing, as its organization.
async fn as_tenant(world: &World, organization: Option<&str>) -> Transaction<'static, Postgres> {
    let mut transaction = world.pool.begin().await.unwrap();
    transaction.execute("set local role ravenpost_tenant").await.unwrap();
    if let Some(organization) = organization {
        let set = format!("set local ravenpost.organization_id = '{organization}'");
        transaction.execute(AssertSqlSafe(set)).await.unwrap();
    }
    transaction
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let select = AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(select).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn without_an_organization_or_with_another_one_nothing_is_visible() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    let stranger = uuid::Uuid::from_bytes(random()).to_string();
    for table in TABLES {
        let mut own = as_tenant(&world, Some(&owner.id.to_string())).await;
        assert!(count(&mut own, table).await > 0, "{table} has no row to hide");
        drop(own);
        for organization in [None, Some(""), Some(stranger.as_str())] {
            let mut other = as_tenant(&world, organization).await;
            assert_eq!(count(&mut other, table).await, 0, "{table} as {organization:?}");
        }
    }
}

#[tokio::test]
async fn every_table_with_an_owner_forces_row_security() {
    let world = World::new().await;
    let owned: Vec<(String, bool)> = sqlx::query_as(
        "select c.relname::text, c.relrowsecurity and c.relforcerowsecurity
         from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
         where c.relkind in ('r', 'p') and not c.relispartition and (c.relname = 'organizations' or exists (
             select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id'))",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    for (table, forced) in &owned {
        assert!(TABLES.contains(&table.as_str()), "{table} is not attacked by these tests");
        assert!(forced, "{table} does not force row security");
    }
    assert_eq!(owned.len(), TABLES.len());
}

/// Whatever the role may read, by the catalog: a table that is added without policies fails here, with an owner or without.
#[tokio::test]
async fn the_role_owns_nothing_and_sees_nothing_without_an_organization() {
    let world = World::new().await;
    world.everything().await;
    let owned: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_class c join pg_roles r on r.oid = c.relowner where r.rolname like 'ravenpost_%')
             + (select count(*) from pg_proc p join pg_roles r on r.oid = p.proowner where r.rolname like 'ravenpost_%')
             + (select count(*) from pg_roles where rolname like 'ravenpost_%'
                 and (rolsuper or rolbypassrls or rolcanlogin or rolcreaterole or rolcreatedb))",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(owned, 0, "roles of ours own something, or may more than their grants");
    let readable: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
             and has_any_column_privilege('ravenpost_tenant', c.oid, 'select')",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(readable.len() > TABLES.len(), "{readable:?}");
    for table in &readable {
        for organization in [None, Some("")] {
            let mut nobody = as_tenant(&world, organization).await;
            assert_eq!(count(&mut nobody, table).await, 0, "{table} as {organization:?}");
        }
    }
}

/// People belong to no organization: one sees its members, and who has made its keys and invitations.
#[tokio::test]
async fn an_organization_sees_its_own_people_alone() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    world.everything().await;
    let all: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&world.pool).await.unwrap();
    let mut own = as_tenant(&world, Some(&owner.id.to_string())).await;
    assert_eq!((count(&mut own, "users").await, all), (1, 2));
    for column in ["issuer", "subject"] {
        let mut own = as_tenant(&world, Some(&owner.id.to_string())).await;
        let statement = AssertSqlSafe(format!("select {column} from users"));
        let error = own.execute(statement).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{column}: {error}");
    }
}

#[tokio::test]
async fn partitions_and_the_machinery_are_out_of_reach() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    let partitions: Vec<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where c.relkind = 'r'",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(!partitions.is_empty());
    let machinery = ["partitions", "ingress_instances", "ingress_lanes", "_sqlx_migrations", "payload_locks"]
        .map(str::to_owned);
    for table in partitions.iter().chain(&machinery) {
        for statement in [format!("select * from {table}"), format!("delete from {table}")] {
            let mut own = as_tenant(&world, Some(&owner.id.to_string())).await;
            let error = own.execute(AssertSqlSafe(statement.clone())).await.unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{statement}: {error}");
        }
    }
}

#[tokio::test]
async fn nothing_of_another_organization_can_be_written() {
    let world = World::new().await;
    let (owner, event) = world.everything().await;
    let (attacker, _) = world.everything().await;
    let before = snapshot(&world, &owner).await;
    for statement in [
        format!("update endpoints set name = 'x' where id = '{}'", owner.endpoint),
        format!("update endpoint_secrets set expires_at = now() where endpoint_id = '{}'", owner.endpoint),
        format!("delete from endpoint_secrets where endpoint_id = '{}'", owner.endpoint),
        format!("update destinations set url = 'http://evil' where id = '{}'", owner.first),
        format!("update destination_secrets set expires_at = now() where destination_id = '{}'", owner.first),
        format!("delete from destination_secrets where destination_id = '{}'", owner.first),
        format!("update signing_keys set expires_at = now() where organization_id = '{}'", owner.id),
        format!("delete from signing_keys where organization_id = '{}'", owner.id),
        format!("update events set status = 'DROPPED' where id = '{event}'"),
        format!("update scheduled_deliveries set due_at = now() where event_id = '{event}'"),
        format!("delete from scheduled_deliveries where event_id = '{event}'"),
        format!("delete from dead_letters where event_id = '{event}'"),
        format!("update replay_jobs set rate = 1 where organization_id = '{}'", owner.id),
        format!("update replay_job_destinations set phase = 'ended' where organization_id = '{}'", owner.id),
        format!("delete from channels where organization_id = '{}'", owner.id),
        format!("update channels set state = 'disabled' where organization_id = '{}'", owner.id),
        format!("update alerts set resolved_at = now() where organization_id = '{}'", owner.id),
        format!("delete from alert_rules where organization_id = '{}'", owner.id),
        format!("update notifications set state = 'failed' where organization_id = '{}'", owner.id),
        format!("update organizations set name = 'x' where id = '{}'", owner.id),
        format!("update memberships set role = 'viewer' where organization_id = '{}'", owner.id),
        format!("delete from memberships where organization_id = '{}'", owner.id),
        format!("update invitations set revoked_at = now() where organization_id = '{}'", owner.id),
        format!("update api_keys set revoked_at = now() where organization_id = '{}'", owner.id),
        format!("update rejected_requests set deleted_at = now() where organization_id = '{}'", owner.id),
    ] {
        let mut transaction = as_tenant(&world, Some(&attacker.id.to_string())).await;
        let touched = transaction.execute(AssertSqlSafe(statement.clone())).await.unwrap().rows_affected();
        transaction.commit().await.unwrap();
        assert_eq!(touched, 0, "{statement}");
    }
    for statement in [
        format!("insert into channels (organization_id, id, type, address) values ('{}', '{event}', 'email', 'x')",
            owner.id),
        format!("update endpoints set organization_id = '{}' where id = '{}'", owner.id, attacker.endpoint),
        format!("insert into api_keys (organization_id, id, name, prefix, hash, scopes)
            values ('{}', '{event}', 'x', 'x', '', '{{}}')", owner.id),
        format!("insert into invitations (organization_id, id, email, role, token_hash, created_at, expires_at, send_at)
            values ('{}', '{event}', 'x', 'owner', '', now(), now(), now())", owner.id),
        // Nobody makes themselves a member, or takes an invitation or a key further than it goes.
        format!("insert into memberships select '{}', user_id, 'owner', now(), now() from memberships", owner.id),
        "insert into memberships select * from memberships".to_owned(),
        "update invitations set accepted_at = now()".to_owned(),
        "update api_keys set scopes = '{}'".to_owned(),
        "update users set email = 'x'".to_owned(),
        format!("update channels set organization_id = '{}'", owner.id),
        format!("update signing_keys set organization_id = '{}'", owner.id),
        format!("insert into destination_secrets (organization_id, id, destination_id, secret, retired_at, expires_at)
            values ('{}', '{event}', '{}', '', now(), now())", attacker.id, owner.first),
        format!("insert into scheduled_deliveries (event_id, destination_id, organization_id, endpoint_id, due_at, run,
            attempt_number, reason) values ('{event}', '{event}', '{}', '{event}', now(), 1, 1, 'replay')", owner.id),
        format!("insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason)
            values ('{event}', '{event}', '{}', '{event}', 1, 'x')", owner.id),
        format!("update replay_jobs set organization_id = '{}'", owner.id),
        "delete from replay_jobs".to_owned(),
        // Not even of one's own: what a row says of its payload or its head is for services to write.
        "update rejected_requests set head = ''".to_owned(),
        "update rejected_counts set kept = 0".to_owned(),
        "insert into events select * from events".to_owned(),
        "update delivery_stats set accepted = 0".to_owned(),
        "delete from delivery_deltas".to_owned(),
        "update expunged_payloads set erased_at = now()".to_owned(),
        format!("insert into expunged_payloads select organization_id, id, s3_key, s3_offset, s3_length, now()
            from events where id = '{event}' union all select '{}', '{event}', 'x', 0, 1, now()", owner.id),
        format!("insert into live_watches values ('{}', now(), now())", owner.id),
        "insert into event_headers select * from event_headers".to_owned(),
        format!("insert into ingress_instances (id) values ('{event}')"),
    ] {
        let mut transaction = as_tenant(&world, Some(&attacker.id.to_string())).await;
        assert!(transaction.execute(AssertSqlSafe(statement.clone())).await.is_err(), "{statement}");
    }
    assert_eq!(snapshot(&world, &owner).await, before);
}

/// Everything of an organization as text.
async fn snapshot(world: &World, organization: &Organization) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES {
        let mut own = as_tenant(world, Some(&organization.id.to_string())).await;
        let select = AssertSqlSafe(format!("select t::text from {table} t order by 1"));
        rows.extend(sqlx::query_scalar::<_, String>(select).fetch_all(&mut *own).await.unwrap());
    }
    rows
}

#[tokio::test]
async fn every_operation_of_the_door_stays_within_its_organization() {
    let world = World::new().await;
    let (owner, event) = world.everything().await;
    let before = snapshot(&world, &owner).await;
    let stranger = world.organization().await.tenant;
    let (endpoint, destination, now) = (owner.endpoint, owner.first, world.now);

    assert!(stranger.endpoint(endpoint).await.unwrap().is_none());
    assert!(stranger.endpoints(ALL).await.unwrap().rows.iter().all(|found| found.id != endpoint));
    let change = EndpointChange { name: Some("x"), ..EndpointChange::default() };
    let changed = stranger.change_endpoint(endpoint, &change, now).await.unwrap();
    assert!(matches!(changed, EndpointChanged::Missing));
    assert!(stranger.secrets(endpoint, now).await.unwrap().is_empty());
    let secret = owner.tenant.secrets(endpoint, now).await.unwrap()[0].id;
    assert_eq!(stranger.remove_secret(endpoint, secret, now).await.unwrap(), SecretRemoved::Missing);
    assert_eq!(stranger.delete_endpoint(endpoint, None, now).await.unwrap(), Deleted::Missing);

    assert!(stranger.destination(endpoint, destination).await.unwrap().is_none());
    assert!(stranger.destinations(endpoint, ALL).await.unwrap().rows.is_empty());
    let change = DestinationChange { name: Some("x"), ..DestinationChange::default() };
    let changed = stranger.change_destination(endpoint, destination, &change, now).await.unwrap();
    assert!(matches!(changed, DestinationChanged::Missing));
    crate::sending::a_stranger_rotates_nothing(&world, &stranger, &owner).await;
    assert!(stranger.signing_keys(now).await.unwrap().is_empty());
    assert_eq!(
        stranger.delete_destination(endpoint, destination, None, now).await.unwrap(),
        Deleted::Missing
    );

    assert!(stranger.event(event).await.unwrap().is_none());
    assert!(stranger.event_headers(event).await.unwrap().is_empty());
    assert!(stranger.attempts(event).await.unwrap().is_none());
    let of_endpoint = EventFilter { endpoint: Some(endpoint), ..EventFilter::default() };
    assert!(stranger.events(&of_endpoint, ALL).await.unwrap().rows.is_empty());
    assert!(stranger.events(&EventFilter::default(), ALL).await.unwrap().rows.is_empty());
    assert!(matches!(stranger.replay(event, None, now).await, Err(ReplayError::NoEvent)));

    let member = owner.tenant.members(ALL).await.unwrap().rows[0].person.id;
    assert!(stranger.members(ALL).await.unwrap().rows.is_empty());
    assert!(!stranger.is_member(member).await.unwrap());
    assert_eq!(stranger.change_role(member, Role::Viewer, true, now).await.unwrap(), MemberChanged::Missing);
    assert_eq!(stranger.remove_member(member, true, now).await.unwrap(), MemberRemoved::Missing);
    let invitation = owner.tenant.invitations(ALL).await.unwrap().rows[0].id;
    assert!(stranger.invitations(ALL).await.unwrap().rows.is_empty());
    let revoked = stranger.revoke_invitation(invitation, true, now).await.unwrap();
    assert_eq!(revoked, InvitationRevoked::Missing);
    let key = owner.tenant.api_keys(ALL).await.unwrap().rows[0].id;
    assert!(stranger.api_keys(ALL).await.unwrap().rows.iter().all(|found| found.id != key));
    assert!(!stranger.revoke_api_key(key, now).await.unwrap());

    assert!(stranger.channels(ALL).await.unwrap().rows.is_empty());
    let channel = owner.tenant.channels(ALL).await.unwrap().rows[0].id;
    assert_eq!(stranger.delete_channel(channel, None, now).await.unwrap(), Deleted::Missing);
    assert!(stranger.channel(channel).await.unwrap().is_none());
    let change = ChannelChange { enabled: Some(false), ..ChannelChange::default() };
    assert!(matches!(stranger.change_channel(channel, &change, now).await.unwrap(), ChannelChanged::Missing));
    assert!(stranger.channel_notifications(channel).await.unwrap().is_empty());
    assert!(!stranger.test_channel(channel, NotificationId::new(now, random()), now).await.unwrap());
    assert!(stranger.alerts(AlertFilter::default(), ALL).await.unwrap().rows.is_empty());
    let alert = owner.tenant.alerts(AlertFilter::default(), ALL).await.unwrap().rows[0].id;
    assert!(stranger.alert(alert).await.unwrap().is_none());
    assert!(stranger.alert_notifications(alert).await.unwrap().is_empty());
    assert!(!stranger.acknowledge_alert(alert, now).await.unwrap());
    assert!(!stranger.mute_alert(alert, None, now).await.unwrap());
    assert!(!stranger.resolve_alert(alert, now).await.unwrap());
    assert!(stranger.alert_rules().await.unwrap().is_empty());
    let rule = owner.tenant.alert_rules().await.unwrap()[0].id;
    assert!(matches!(stranger.change_alert_rule(rule, None, Ok, now).await.unwrap(), RuleChanged::Missing));
    assert_eq!(stranger.delete_alert_rule(rule, None, now).await.unwrap(), Deleted::Missing);

    let filter = RejectedFilter::default();
    let rejected = owner.tenant.rejected_requests(&filter, ALL).await.unwrap().rows[0].id;
    for filter in [filter, RejectedFilter { endpoint: Some(endpoint), reason: None }] {
        assert!(stranger.rejected_requests(&filter, ALL).await.unwrap().rows.is_empty());
    }
    assert!(stranger.rejected_request(rejected).await.unwrap().is_none());
    assert!(stranger.unaccepted_requests(endpoint, None, 10).await.unwrap().is_empty());
    assert!(stranger.rejected_counts(endpoint).await.unwrap().is_empty());
    assert!(!stranger.delete_rejected_request(rejected, now).await.unwrap());
    let acceptance = crate::rejected::acceptance(&world, &owner, rejected);
    let instance = InstanceId::new(now, random());
    assert!(stranger.accept_rejected(&[acceptance], instance, now).await.unwrap().is_empty());

    assert_eq!(snapshot(&world, &owner).await, before);
}

#[tokio::test]
async fn what_never_was_is_absent_and_no_error() {
    let world = World::new().await;
    let tenant = world.organization().await.tenant;
    assert!(tenant.endpoint(EndpointId::new(world.now, random())).await.unwrap().is_none());
    assert!(tenant.event(EventId::new(world.now, random())).await.unwrap().is_none());
    // No partition holds ids of that time.
    assert!(tenant.event(EventId(uuid::Uuid::nil())).await.unwrap().is_none());
    let endpoint = tenant.endpoints(ALL).await.unwrap().rows[0].id;
    assert!(tenant.destination(endpoint, DestinationId::new(world.now, random())).await.unwrap().is_none());
    let id = ChannelId::new(world.now, random());
    assert_eq!(tenant.delete_channel(id, None, world.now).await.unwrap(), Deleted::Missing);
}
