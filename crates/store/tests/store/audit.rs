//! The audit log: each change leaves a row with it, nobody but an administrator of the database can touch one, and then it
//! shows.

use std::collections::BTreeSet;

use ravenpost_core::access::Actor;
use ravenpost_core::audit::{Action, Author, Broken, Who};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::ids::{ApiKeyId, ChannelId};
use ravenpost_core::pacing::{DisabledReason, Health};
use ravenpost_store::system::Record;
use ravenpost_store::tenant::{
    AuditFilter, AuditPage, AuditRow, Deleted, DestinationChange, EndpointChange, Page,
};
use sqlx::{AssertSqlSafe, Executor};

use crate::alerts::{self, email_channel};
use crate::support::{Organization, World, random};

const ALL: AuditPage = AuditPage { below: None, limit: 250 };

async fn log(acme: &Organization) -> Vec<AuditRow> {
    acme.tenant.audit_log(&AuditFilter::default(), ALL).await.unwrap().0
}

async fn actions(acme: &Organization) -> Vec<Action> {
    log(acme).await.into_iter().rev().map(|row| row.action).collect()
}

async fn broken(world: &World, acme: &Organization) -> Option<Broken> {
    world.store.system().verify_audit(acme.id).await.unwrap().broken
}

async fn channels(world: &World, acme: &Organization, count: usize) {
    for number in 0..count {
        alerts::channel(world, acme, &format!("{number}@example.com")).await;
    }
}

#[tokio::test]
async fn a_change_and_what_is_said_of_it_are_one() {
    let world = World::new().await;
    let acme = world.organization().await;
    let made = [Action::OrganizationCreated, Action::EndpointCreated, Action::DestinationCreated];
    assert_eq!(actions(&acme).await, made);

    let author = Author {
        who: Who::Actor(Actor::ApiKey(ApiKeyId::new(world.now, random()))),
        address: Some([203, 0, 113, 7].into()),
        request: None,
    };
    let tenant = world.store.tenant(acme.id, author);
    let change = EndpointChange { name: Some("Invoices"), ..EndpointChange::default() };
    tenant.change_endpoint(acme.endpoint, &change, world.now).await.unwrap();
    let row = log(&acme).await.remove(0);
    assert_eq!((row.sequence, row.action, row.at), (4, Action::EndpointChanged, world.now));
    assert_eq!((row.actor_type.as_str(), row.actor_id), author.who.parts());
    assert_eq!(row.address.as_deref(), Some("203.0.113.7"));
    assert_eq!(row.resource_id, Some(acme.endpoint.0));
    let (before, after) = (row.before.unwrap(), row.after.unwrap());
    assert_eq!((&before["name"], &after["name"]), (&"Orders".into(), &"Invoices".into()));
    assert_eq!(before["secret_key"], after["secret_key"]);

    // What does not happen is not told: the address is taken.
    channels(&world, &acme, 1).await;
    assert!(email_channel(&acme.tenant, "0@example.com", world.now).await.unwrap().is_none());
    let id = ChannelId::new(world.now, random());
    assert_eq!(acme.tenant.delete_channel(id, None, world.now).await.unwrap(), Deleted::Missing);
    assert_eq!(log(&acme).await.len(), 5);
    assert_eq!(broken(&world, &acme).await, None);
}

#[tokio::test]
async fn the_log_is_filtered_and_read_in_pages() {
    let world = World::new().await;
    let acme = world.organization().await;
    channels(&world, &acme, 5).await;
    let of = |filter: AuditFilter| {
        let tenant = acme.tenant.clone();
        async move { tenant.audit_log(&filter, ALL).await.unwrap().0.len() }
    };
    let all = AuditFilter::default();
    assert_eq!(of(all).await, 8);
    assert_eq!(of(AuditFilter { action: Some(Action::ChannelCreated), ..all }).await, 5);
    assert_eq!(of(AuditFilter { resource_id: Some(acme.endpoint.0), ..all }).await, 1);
    assert_eq!(of(AuditFilter { actor_id: Some(acme.endpoint.0), ..all }).await, 0);
    let soon = world.now + chrono::TimeDelta::hours(1);
    assert_eq!(of(AuditFilter { from: Some(soon), ..all }).await, 0);
    assert_eq!(of(AuditFilter { until: Some(soon), ..all }).await, 8);

    let mut seen = Vec::new();
    let mut page = AuditPage { below: None, limit: 3 };
    loop {
        let (rows, next) = acme.tenant.audit_log(&all, page).await.unwrap();
        seen.extend(rows.iter().map(|row| row.sequence));
        let Some(next) = next else { break };
        page.below = Some(next);
    }
    assert_eq!(seen, [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn what_the_system_does_by_itself_is_told_too() {
    let world = World::new().await;
    let acme = world.organization().await;
    let gone = Health { disabled_reason: Some(DisabledReason::Gone), ..Health::default() };
    let states = vec![world.state(&acme, acme.first, gone)];
    world.record(Record { states, ..Record::default() }).await;
    let row = log(&acme).await.remove(0);
    assert_eq!((row.action, row.actor_type.as_str()), (Action::DestinationDisabled, "system"));
    assert_eq!(row.resource_id, Some(acme.first.0));
    assert_eq!(row.after.unwrap()["disabled_reason"], "gone");
    let active =
        DestinationChange { status: Some(DestinationStatus::Active), ..DestinationChange::default() };
    acme.tenant.change_destination(acme.endpoint, acme.first, &active, world.now).await.unwrap();
    let row = log(&acme).await.remove(0);
    assert_eq!(row.before.unwrap()["status"], "disabled");
    assert_eq!(broken(&world, &acme).await, None);
}

#[tokio::test]
async fn changes_at_once_make_one_chain() {
    let world = World::new().await;
    let acme = world.organization().await;
    let changes = (0..30).map(|number| {
        let (tenant, now) = (acme.tenant.clone(), world.now);
        tokio::spawn(async move {
            let address = format!("{number}@example.com");
            email_channel(&tenant, &address, now).await.unwrap().unwrap();
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let places: Vec<_> = log(&acme).await.iter().map(|row| row.sequence).collect();
    assert_eq!(places, (1..=33).rev().collect::<Vec<_>>());
    let verified = world.store.system().verify_audit(acme.id).await.unwrap();
    assert_eq!((verified.reached.sequence, verified.broken), (33, None));
}

/// Whatever an administrator does to rows or head is found, at its place.
#[tokio::test]
async fn what_is_changed_removed_swapped_or_cut_off_is_found() {
    let world = World::new().await;
    let acme = world.organization().await;
    channels(&world, &acme, 5).await;
    let other = world.organization().await;
    let of = format!("organization_id = '{}'", acme.id);
    for (tampering, found) in [
        (format!("update audit_log set address = '198.51.100.1' where {of} and sequence = 3"), Broken::Altered(3)),
        (format!("update audit_log set at = at + interval '1 microsecond' where {of} and sequence = 1"), Broken::Altered(1)),
        (format!("update audit_log set after = '{{}}' where {of} and sequence = 6"), Broken::Altered(6)),
        (format!("update audit_log set actor_type = 'user', actor_id = '{}' where {of} and sequence = 2", acme.endpoint), Broken::Altered(2)),
        (format!("delete from audit_log where {of} and sequence = 4"), Broken::Missing(4)),
        (format!("delete from audit_log where {of} and sequence = 1"), Broken::Missing(1)),
        (format!("delete from audit_log where {of} and sequence > 6"), Broken::Missing(7)),
        (format!("delete from audit_log where {of}"), Broken::Missing(1)),
        (format!("update audit_log set sequence = 100 where {of} and sequence = 5;
            update audit_log set sequence = 5 where {of} and sequence = 6;
            update audit_log set sequence = 6 where {of} and sequence = 100"), Broken::Altered(5)),
        (format!("update audit_heads set sequence = 7, hash = (select hash from audit_log where {of} and sequence = 7)
            where {of}"), Broken::Beyond(8)),
        (format!("delete from audit_heads where {of}"), Broken::Beyond(1)),
        (format!("update audit_heads set hash = sha256(hash) where {of}"), Broken::Head(8)),
        // A row of another chain, at its own place there.
        (format!("delete from audit_log where {of} and sequence = 2; update audit_log set organization_id = '{}'
            where organization_id = '{}' and sequence = 2", acme.id, other.id), Broken::Altered(2)),
    ] {
        world.pool.execute("create table kept as select * from audit_log").await.unwrap();
        world.pool.execute("create table kept_heads as select * from audit_heads").await.unwrap();
        world.pool.execute(AssertSqlSafe(tampering.clone())).await.unwrap();
        assert_eq!(broken(&world, &acme).await, Some(found), "{tampering}");
        world
            .pool
            .execute(
                "truncate audit_log; insert into audit_log select * from kept; drop table kept;
                 truncate audit_heads; insert into audit_heads select * from kept_heads; drop table kept_heads",
            )
            .await
            .unwrap();
        assert_eq!(broken(&world, &acme).await, None);
    }
    assert_eq!(world.store.system().audited().await.unwrap().len(), 2);
}

#[tokio::test]
async fn neither_door_can_change_what_was_told() {
    let world = World::new().await;
    let acme = world.organization().await;
    for role in ["ravenpost_tenant", "ravenpost_system", "ravenpost_maintenance"] {
        for statement in [
            "update audit_log set address = null",
            "delete from audit_log",
            "truncate audit_log",
            "delete from audit_heads",
            "truncate audit_heads",
        ] {
            let mut transaction = world.pool.begin().await.unwrap();
            transaction.execute(AssertSqlSafe(format!("set local role {role}"))).await.unwrap();
            let set = format!("set local ravenpost.organization_id = '{}'", acme.id);
            transaction.execute(AssertSqlSafe(set)).await.unwrap();
            let error = transaction.execute(statement).await.unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{role}: {statement}: {error}");
        }
    }
}

/// A column that is added later has to be told, or said here that it is not.
#[tokio::test]
async fn every_column_is_told_or_left_out_on_purpose() {
    let world = World::new().await;
    let acme = world.organization().await;
    let untold = ["organization_id", "id", "slot", "created_at", "updated_at", "version"];
    // When secrets were set, what a filter stumbled over, and since when how it fared counts: no settings.
    let of_table =
        [("endpoints", vec!["secret_key_set_at"]), ("destinations", vec!["filter_error", "resumed_at"])];
    let rows = log(&acme).await;
    for (table, more) in of_table {
        let columns: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns where table_name = $1 and table_schema = 'public'",
        )
        .bind(table)
        .fetch_all(&world.pool)
        .await
        .unwrap();
        let wanted: BTreeSet<_> = columns
            .into_iter()
            .filter(|column| !untold.contains(&column.as_str()) && !more.contains(&column.as_str()))
            .collect();
        let action = if table == "endpoints" { Action::EndpointCreated } else { Action::DestinationCreated };
        let row = rows.iter().find(|row| row.action == action).unwrap();
        let mut told: BTreeSet<String> =
            row.after.as_ref().unwrap().as_object().unwrap().keys().cloned().collect();
        told.remove("destination");
        assert_eq!(told, wanted, "{table}");
    }
}

#[tokio::test]
async fn no_secret_is_told() {
    let world = World::new().await;
    let (acme, _) = world.everything().await;
    let told: String = sqlx::query_scalar(
        "select string_agg(coalesce(before::text, '') || coalesce(after::text, ''), '') from audit_log",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(told.contains("sealed:") && told.contains("sha256:"));
    for secret in ["whsec_", "Bearer", "hush"] {
        assert!(!told.contains(secret), "{secret}");
    }
    let endpoint = acme.tenant.endpoint(acme.endpoint).await.unwrap().unwrap();
    assert!(!told.contains(&endpoint.token), "whoever has it can try to send");
    assert!(!acme.tenant.endpoints(Page { after: None, limit: 1 }).await.unwrap().rows.is_empty());
}
