//! Alerts: one open at most for each rule and subject, decided once, told to every channel, and over when it is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{
    ChannelConfig, Condition, ConditionName, Evidence, Rule, RuleKey, Scope, Severity,
};
use ravenpost_core::ids::{AlertId, AlertRuleId, ChannelId, NotificationId};
use ravenpost_store::Error;
use ravenpost_store::system::{
    Failed, Firing, Gathering, Keeping, Leftover, NotificationKind, Observed, Subject, Turn,
};
use ravenpost_store::tenant::{
    AlertFilter, AlertState, Channel, ChannelChange, Deleted, NewChannel, Page, Tenant,
};
use sqlx::Executor;

use crate::support::{Organization, World, random};

const FAILING: RuleKey = RuleKey::Default(ConditionName::ConsecutiveFailures);
const ALL: Page = Page { after: None, limit: 250 };
/// Everything at once, and nobody waits for anybody.
const AT_ONCE: Gathering = Gathering {
    quiet: Duration::ZERO,
    longest: Duration::ZERO,
    pace: Duration::ZERO,
    claim: Duration::from_secs(60),
};

const DAY: Duration = Duration::from_hours(24);

/// A rule of the organization.
pub(crate) fn rule(condition: Condition) -> Rule {
    Rule {
        key: RuleKey::Own(AlertRuleId(uuid::Uuid::from_bytes(random()))),
        name: "Mine".to_owned(),
        condition,
        scope: Scope::Organization {},
        severity: Severity::Critical,
        cool_down: Duration::from_secs(60),
        muted_until: None,
        quiet_hours: None,
        channels: None,
        enabled: true,
    }
}

/// How the first destination fares after so many failures.
pub(crate) fn observed(organization: &Organization, offset: i64, failures: u32) -> Observed {
    Observed {
        organization_id: organization.id,
        endpoint_id: organization.endpoint,
        destination_id: organization.first,
        partition: 0,
        offset,
        failures_in_a_row: failures,
        recovered: false,
        failing_since: None,
        last_success_at: None,
        last_attempt_at: None,
        last_error: (failures > 0).then(|| "refused".to_owned()),
    }
}

fn subject(organization: &Organization) -> Subject {
    Subject {
        organization_id: organization.id,
        endpoint_id: Some(organization.endpoint),
        destination_id: Some(organization.first),
    }
}

/// An alert of the first destination opens.
pub(crate) fn fires(world: &World, organization: &Organization, rule: RuleKey) -> Turn {
    let firing = Firing {
        alert_id: AlertId::new(world.now, random()),
        rule_name: "A destination keeps failing".to_owned(),
        condition: ConditionName::ConsecutiveFailures,
        severity: Severity::Warning,
        evidence: Evidence {
            since: Some(world.now),
            failures_in_a_row: Some(5),
            last_error: Some("refused".to_owned()),
            ..Evidence::default()
        },
        tell_at: world.now,
        channels: None,
        cool_down: Duration::from_secs(60),
    };
    Turn { subject: subject(organization), rule, fires: Some(Box::new(firing)) }
}

fn resolves(organization: &Organization) -> Turn {
    Turn { subject: subject(organization), rule: FAILING, fires: None }
}

/// A channel by e-mail; `None` when there is one to the address.
pub(crate) async fn email_channel(
    tenant: &Tenant,
    address: &str,
    now: DateTime<Utc>,
) -> Result<Option<Channel>, Error> {
    let (id, config) = (ChannelId::new(now, random()), ChannelConfig::Email { address: address.to_owned() });
    tenant.create_channel(&NewChannel { id, name: "Mine", config: &config, nonce: random(), now }).await
}

pub(crate) async fn channel(world: &World, organization: &Organization, address: &str) -> ChannelId {
    email_channel(&organization.tenant, address, world.now).await.unwrap().unwrap().id
}

/// What is to be told now, by channel; all of it is noted as sent.
async fn told(world: &World) -> Vec<(ChannelId, Vec<NotificationKind>)> {
    let mut told = Vec::new();
    while let Some(claim) = world.store.system().claim_notifications(AT_ONCE).await.unwrap() {
        let ids: Vec<NotificationId> = claim.notifications.iter().map(|one| one.id).collect();
        world.store.system().notifications_sent(&claim, &ids, None).await.unwrap();
        told.push((claim.channel_id, claim.notifications.iter().map(|one| one.kind).collect()));
    }
    told.sort_by_key(|(channel, _)| *channel);
    told
}

#[tokio::test]
async fn an_alert_opens_once_whatever_is_read_again() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    let mine = channel(&world, &organization, "a@example.com").await;
    let turn = || fires(&world, &organization, FAILING);
    let row = |offset| observed(&organization, offset, 5);
    assert_eq!(system.observe(&[row(7)], &[turn()]).await.unwrap(), [true]);
    // Open already, and read before.
    assert_eq!(system.observe(&[row(8)], &[turn(), turn()]).await.unwrap(), [false, false]);
    assert_eq!(system.observe(&[row(8)], &[resolves(&organization)]).await.unwrap(), [false]);
    assert_eq!(told(&world).await, [(mine, vec![NotificationKind::Fired])]);
    assert_eq!(told(&world).await, []);
    let known = system.observed(0).await.unwrap();
    assert_eq!(known, [row(8)]);
    assert_eq!(system.open_alerts(0).await.unwrap(), [(organization.first, FAILING)]);
}

#[tokio::test]
async fn it_resolves_is_told_and_cools_down() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    let mine = channel(&world, &organization, "a@example.com").await;
    let turns = [fires(&world, &organization, FAILING), resolves(&organization)];
    assert_eq!(system.observe(&[observed(&organization, 1, 0)], &turns).await.unwrap(), [true, true]);
    assert_eq!(told(&world).await, [(mine, vec![NotificationKind::Fired, NotificationKind::Resolved])]);
    let again = || fires(&world, &organization, FAILING);
    assert_eq!(system.turn(&[again()]).await.unwrap(), [false]);
    world.pool.execute("update alerts set resolved_at = resolved_at - interval '61 s'").await.unwrap();
    assert_eq!(system.turn(&[again()]).await.unwrap(), [true]);
}

#[tokio::test]
async fn one_that_nobody_can_be_told_of_waits_for_a_channel() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    assert_eq!(system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap(), [true]);
    assert_eq!(system.tell_due_alerts().await.unwrap(), 0);
    let mine = channel(&world, &organization, "a@example.com").await;
    assert_eq!(system.tell_due_alerts().await.unwrap(), 1);
    assert_eq!(system.tell_due_alerts().await.unwrap(), 0);
    assert_eq!(told(&world).await, [(mine, vec![NotificationKind::Fired])]);
}

#[tokio::test]
async fn a_person_acknowledges_mutes_and_resolves() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let id = tenant.alerts(AlertFilter::default(), ALL).await.unwrap().rows[0].id;
    let until = world.now + chrono::TimeDelta::hours(1);
    assert!(tenant.mute_alert(id, Some(until), world.now).await.unwrap());
    assert_eq!(told(&world).await, []);
    assert!(tenant.mute_alert(id, None, world.now).await.unwrap());
    assert_eq!(told(&world).await.len(), 1);
    assert!(tenant.acknowledge_alert(id, world.now).await.unwrap());
    assert!(!tenant.acknowledge_alert(id, world.now).await.unwrap());
    let in_state = |state| AlertFilter { state: Some(state), ..AlertFilter::default() };
    for (state, count) in [(AlertState::Firing, 0), (AlertState::Acknowledged, 1), (AlertState::Resolved, 0)]
    {
        assert_eq!(tenant.alerts(in_state(state), ALL).await.unwrap().rows.len(), count, "{state:?}");
    }
    let later = world.now + chrono::TimeDelta::microseconds(1);
    assert!(tenant.resolve_alert(id, later).await.unwrap());
    assert!(!tenant.resolve_alert(id, later).await.unwrap());
    let alert = tenant.alert(id).await.unwrap().unwrap();
    assert_eq!((alert.state(), alert.resolved_by.as_deref()), (AlertState::Resolved, Some("system")));
    // The same trouble does not open it again, although nothing has to cool down.
    let mut again = fires(&world, &organization, FAILING);
    again.fires.as_mut().unwrap().cool_down = Duration::ZERO;
    assert_eq!(system.turn(&[again.clone()]).await.unwrap(), [false]);
    again.fires.as_mut().unwrap().evidence.since = Some(world.now + chrono::TimeDelta::hours(1));
    assert_eq!(system.turn(&[again]).await.unwrap(), [true]);
}

#[tokio::test]
async fn a_broken_channel_is_disabled_and_another_one_hears_of_it() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    let broken = channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let failed =
        Failed { error: "no such service", permanent: true, again_in: Duration::ZERO, stale: DAY, most: 2 };
    for disabled in [false, true] {
        let claim = system.claim_notifications(AT_ONCE).await.unwrap().unwrap();
        let ids: Vec<NotificationId> = claim.notifications.iter().map(|one| one.id).collect();
        assert_eq!(system.notifications_failed(&claim, &ids, &failed).await.unwrap(), disabled);
    }
    let shown = organization.tenant.channel(broken).await.unwrap().unwrap();
    assert_eq!((shown.enabled, shown.disabled_reason.as_deref()), (false, Some("no such service")));
    // Nobody was told of the alert: the next channel is.
    let other = channel(&world, &organization, "b@example.com").await;
    assert_eq!(system.tell_due_alerts().await.unwrap(), 1);
    assert_eq!(told(&world).await, [(other, vec![NotificationKind::Fired])]);
    let change = ChannelChange { enabled: Some(true), ..ChannelChange::default() };
    organization.tenant.change_channel(broken, &change, world.now).await.unwrap();
    assert_eq!(told(&world).await, [(broken, vec![NotificationKind::Fired])]);
    let id = NotificationId::new(world.now, random());
    assert!(organization.tenant.test_channel(other, id, world.now).await.unwrap());
    for disabled in [false, true] {
        let claim = system.claim_notifications(AT_ONCE).await.unwrap().unwrap();
        assert_eq!(system.notifications_failed(&claim, &[id], &failed).await.unwrap(), disabled);
    }
    assert_eq!(told(&world).await, [(broken, vec![NotificationKind::ChannelDisabled])]);
}

#[tokio::test]
async fn a_claim_runs_out_and_is_taken_by_another() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let gathered = Gathering { quiet: Duration::from_secs(60), longest: Duration::from_secs(60), ..AT_ONCE };
    assert!(system.claim_notifications(gathered).await.unwrap().is_none(), "it waits for others");
    assert!(system.claim_notifications(AT_ONCE).await.unwrap().is_some());
    assert!(system.claim_notifications(AT_ONCE).await.unwrap().is_none(), "somebody has it");
    world.pool.execute("update notifications set claimed_until = now() - interval '1 s'").await.unwrap();
    let claim = system.claim_notifications(AT_ONCE).await.unwrap().unwrap();
    assert_eq!(claim.notifications[0].attempts, 2);
    let alert = claim.notifications[0].alert.as_ref().unwrap();
    assert_eq!(alert.destination.as_ref().map(|(id, _)| *id), Some(organization.first));
}

#[tokio::test]
async fn rules_read_back_and_end_what_they_replace() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let window = Duration::from_mins(20);
    let rate = rule(Condition::ErrorRate { percent: 2.5, window, minimum_attempts: 7 });
    let failing = Rule { enabled: false, ..rule(Condition::ConsecutiveFailures { failures: 9 }) };
    for rule in [&rate, &failing] {
        let RuleKey::Own(id) = rule.key else { panic!("a rule of its own") };
        tenant.create_alert_rule(id, rule, world.now).await.unwrap().unwrap();
        assert_eq!(tenant.alert_rule(id).await.unwrap().unwrap().rule, *rule);
    }
    assert_eq!(system.longest_alert_window().await.unwrap(), 1_200);
    let read = system.alert_rules(&[organization.id]).await.unwrap();
    assert_eq!(read.len(), 2);
    // The default that is switched off has no alert any more.
    let open = AlertFilter { open: true, ..AlertFilter::default() };
    assert!(tenant.alerts(open, ALL).await.unwrap().rows.is_empty());
    let RuleKey::Own(id) = rate.key else { panic!("a rule of its own") };
    let stale = tenant.delete_alert_rule(id, Some(2), world.now).await.unwrap();
    assert_eq!(stale, Deleted::Stale);
    for deleted in [Deleted::Deleted, Deleted::Missing] {
        assert_eq!(tenant.delete_alert_rule(id, Some(1), world.now).await.unwrap(), deleted);
    }
}

#[tokio::test]
async fn what_is_long_over_goes_and_what_is_not_stays() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    channel(&world, &organization, "a@example.com").await;
    let other = RuleKey::Default(ConditionName::DestinationDown);
    let turns =
        [fires(&world, &organization, FAILING), resolves(&organization), fires(&world, &organization, other)];
    system.turn(&turns).await.unwrap();
    assert_eq!(told(&world).await.len(), 1);
    let keeping = Keeping { of_deleted: chrono::TimeDelta::zero(), replay_jobs: chrono::TimeDelta::zero() };
    for (days, alerts, notifications) in [(89, 0, 0), (91, 1, 3)] {
        let now = world.now + chrono::TimeDelta::days(days);
        for (leftover, count) in [(Leftover::Alerts, alerts), (Leftover::Notifications, notifications)] {
            let removed = system.remove_leftovers(leftover, keeping, now).await.unwrap().unwrap();
            assert_eq!(removed.count, count, "{leftover:?} after {days} days");
        }
    }
    assert_eq!(organization.tenant.alerts(AlertFilter::default(), ALL).await.unwrap().rows.len(), 1);
}

/// Settles a claim: nothing of it was taken, this time.
async fn refuse(world: &World, again_in: Duration) {
    let system = world.store.system();
    let claim = system.claim_notifications(AT_ONCE).await.unwrap().unwrap();
    let ids: Vec<NotificationId> = claim.notifications.iter().map(|one| one.id).collect();
    let failed = Failed { error: "503", permanent: false, again_in, stale: DAY, most: 2 };
    assert!(!system.notifications_failed(&claim, &ids, &failed).await.unwrap());
}

#[tokio::test]
async fn nobody_hears_that_it_is_over_before_they_heard_that_it_is() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    let mine = channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    refuse(&world, Duration::from_secs(600)).await;
    system.turn(&[resolves(&organization)]).await.unwrap();
    assert!(system.claim_notifications(AT_ONCE).await.unwrap().is_none(), "it waits for what it ends");
    world.pool.execute("update notifications set next_at = now()").await.unwrap();
    assert_eq!(told(&world).await, [(mine, vec![NotificationKind::Fired, NotificationKind::Resolved])]);
}

#[tokio::test]
async fn of_what_was_muted_and_is_over_nobody_hears() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let id = tenant.alerts(AlertFilter::default(), ALL).await.unwrap().rows[0].id;
    let until = world.now + chrono::TimeDelta::hours(1);
    assert!(tenant.mute_alert(id, Some(until), world.now).await.unwrap());
    system.turn(&[resolves(&organization)]).await.unwrap();
    world.pool.execute("update notifications set next_at = now()").await.unwrap();
    assert_eq!(told(&world).await, []);
}

#[tokio::test]
async fn what_a_channel_leaves_untold_others_tell() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    let (first, second) = (
        channel(&world, &organization, "a@example.com").await,
        channel(&world, &organization, "b@example.com").await,
    );
    let mut named = fires(&world, &organization, FAILING);
    named.fires.as_mut().unwrap().channels = Some(vec![first]);
    system.turn(&[named]).await.unwrap();
    // Somebody switches off the only channel that was to be told.
    let off = ChannelChange { enabled: Some(false), ..ChannelChange::default() };
    tenant.change_channel(first, &off, world.now).await.unwrap();
    assert_eq!(system.tell_due_alerts().await.unwrap(), 1);
    refuse(&world, Duration::ZERO).await;
    // Or deletes the one that was to be told in its place.
    let third = channel(&world, &organization, "c@example.com").await;
    assert_eq!(tenant.delete_channel(second, None, world.now).await.unwrap(), Deleted::Deleted);
    assert_eq!(system.tell_due_alerts().await.unwrap(), 1);
    assert_eq!(told(&world).await, [(third, vec![NotificationKind::Fired])]);
    let on = ChannelChange { enabled: Some(true), ..ChannelChange::default() };
    tenant.change_channel(first, &on, world.now).await.unwrap();
    assert_eq!(told(&world).await, [(first, vec![NotificationKind::Fired])], "it is open still");
}

#[tokio::test]
async fn a_channel_that_takes_nothing_for_a_day_is_disabled() {
    let world = World::new().await;
    let organization = world.organization().await;
    let system = world.store.system();
    let silent = channel(&world, &organization, "a@example.com").await;
    system.turn(&[fires(&world, &organization, FAILING)]).await.unwrap();
    let other = channel(&world, &organization, "b@example.com").await;
    world.pool.execute("update notifications set created_at = now() - interval '25 hours'").await.unwrap();
    let claim = system.claim_notifications(AT_ONCE).await.unwrap().unwrap();
    assert_eq!(claim.channel_id, silent);
    let ids: Vec<NotificationId> = claim.notifications.iter().map(|one| one.id).collect();
    let failed =
        Failed { error: "no answer", permanent: false, again_in: Duration::ZERO, stale: DAY, most: 5 };
    assert!(system.notifications_failed(&claim, &ids, &failed).await.unwrap());
    assert_eq!(system.tell_due_alerts().await.unwrap(), 1);
    assert_eq!(
        told(&world).await,
        [(other, vec![NotificationKind::ChannelDisabled, NotificationKind::Fired])]
    );
}

#[tokio::test]
async fn a_rule_that_asks_something_else_ends_what_it_had_opened() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    let mine = rule(Condition::ConsecutiveFailures { failures: 9 });
    let RuleKey::Own(id) = mine.key else { panic!("a rule of its own") };
    tenant.create_alert_rule(id, &mine, world.now).await.unwrap().unwrap();
    system.turn(&[fires(&world, &organization, mine.key)]).await.unwrap();
    let open = AlertFilter { open: true, ..AlertFilter::default() };
    let renamed = |rule: Rule| Ok(Rule { name: "Ours".to_owned(), ..rule });
    tenant.change_alert_rule(id, None, renamed, world.now).await.unwrap();
    assert_eq!(tenant.alerts(open, ALL).await.unwrap().rows.len(), 1, "a name changes nothing");
    let scope = Scope::Destination { id: organization.second };
    tenant.change_alert_rule(id, None, |rule| Ok(Rule { scope, ..rule }), world.now).await.unwrap();
    assert!(tenant.alerts(open, ALL).await.unwrap().rows.is_empty());
    // Nor does it open of what was deleted meanwhile.
    world.pool.execute("update destinations set deleted_at = now()").await.unwrap();
    let mut again = fires(&world, &organization, mine.key);
    again.fires.as_mut().unwrap().cool_down = Duration::ZERO;
    assert_eq!(system.turn(&[again]).await.unwrap(), [false]);
}
