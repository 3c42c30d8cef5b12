//! People, memberships and invitations: made once however many race, an owner always left, tokens forgotten in time, and
//! every change told to whoever listens.

use std::time::Duration;

use chrono::TimeDelta;
use ravenpost_core::access::{ApiKey, InvitationToken, Role, Scope};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::{ApiKeyId, InvitationId, OrganizationId, UserId};
use ravenpost_store::system::{
    AccessChange, AccessChanges, ApiKeyUse, InvitationAccepted, Login, NewOrganization,
};
use ravenpost_store::tenant::{
    Invited, Mailing, MemberChanged, MemberRemoved, NewApiKey, NewInvitation, Page,
};
use tokio::time::timeout;

use crate::support::{Organization, World, random};

const ALL: Page = Page { after: None, limit: 250 };
/// Longer than a change takes, and than a connection takes to be made.
const BOUND: Duration = Duration::from_secs(30);

/// Somebody who has logged in.
async fn person(world: &World, subject: &str) -> UserId {
    let login =
        Login { issuer: "https://login.example.com", subject, email: Some("a@example.com"), name: None };
    let first = NewOrganization { id: OrganizationId::new(world.now, random()), name: "First" };
    world
        .store
        .system()
        .sign_in(&login, UserId::new(world.now, random()), &first, None, world.now)
        .await
        .unwrap()
}

async fn join(world: &World, organization: &Organization, user: UserId, role: Role) {
    let statement = "insert into memberships values ($1, $2, $3, now(), now())";
    let insert = sqlx::query(statement).bind(organization.id.0).bind(user.0).bind(role.as_str());
    insert.execute(&world.pool).await.unwrap();
}

async fn invite(
    world: &World,
    organization: &Organization,
    email: &str,
    by: Option<UserId>,
) -> InvitationToken {
    let token = InvitationToken::new(random());
    let new = NewInvitation {
        id: InvitationId::new(world.now, random()),
        email,
        role: Role::Admin,
        token: &token,
        nonce: random(),
        invited_by: by,
        expires_at: world.now + TimeDelta::days(7),
    };
    assert!(matches!(organization.tenant.invite(&new, world.now).await.unwrap(), Invited::Invited(_)));
    token
}

/// For a row in each table. The person has no first organization of their own, so that what is counted is the world's.
pub(crate) async fn an_owner_who_has_invited(world: &World, organization: &Organization) {
    let user = UserId::new(world.now, random());
    let statement = "insert into users (id, issuer, subject, created_at, updated_at) values ($1, 'i', $1::text, now(), now())";
    sqlx::query(statement).bind(user.0).execute(&world.pool).await.unwrap();
    join(world, organization, user, Role::Owner).await;
    invite(world, organization, "grace@example.com", Some(user)).await;
}

#[tokio::test]
async fn whoever_logs_in_at_once_is_one_person_with_one_organization() {
    let world = World::new().await;
    let mut racing = Vec::new();
    for _ in 0..8 {
        let (system, now) = (world.store.system(), world.now);
        racing.push(tokio::spawn(async move {
            let login = Login { issuer: "i", subject: "s", email: None, name: Some("Ada") };
            let first = NewOrganization { id: OrganizationId::new(now, random()), name: "First" };
            system.sign_in(&login, UserId::new(now, random()), &first, None, now).await.unwrap()
        }));
    }
    let mut ids = Vec::new();
    for one in racing {
        ids.push(one.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let memberships = world.store.system().memberships(ids[0]).await.unwrap();
    assert_eq!(memberships.iter().map(|found| found.role).collect::<Vec<_>>(), [Role::Owner]);
    // The same subject of another issuer is another person.
    let other = Login { issuer: "j", subject: "s", email: None, name: None };
    let first = NewOrganization { id: OrganizationId::new(world.now, random()), name: "First" };
    let system = world.store.system();
    let other =
        system.sign_in(&other, UserId::new(world.now, random()), &first, None, world.now).await.unwrap();
    assert_ne!(other, ids[0]);
}

#[tokio::test]
async fn of_two_owners_who_go_at_once_one_stays() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (one, two) = (person(&world, "one").await, person(&world, "two").await);
    for demoted in [false, true].repeat(8) {
        for user in [one, two] {
            let statement = "insert into memberships values ($1, $2, 'owner', now(), now())
                on conflict (organization_id, user_id) do update set role = 'owner'";
            sqlx::query(statement).bind(organization.id.0).bind(user.0).execute(&world.pool).await.unwrap();
        }
        let leave = |user| {
            let (tenant, now) = (organization.tenant.clone(), world.now);
            tokio::spawn(async move {
                if demoted {
                    let changed = tenant.change_role(user, Role::Viewer, true, now).await.unwrap();
                    matches!(changed, MemberChanged::Changed(_))
                } else {
                    tenant.remove_member(user, true, now).await.unwrap() == MemberRemoved::Removed
                }
            })
        };
        let (first, second) = (leave(one), leave(two));
        assert!(first.await.unwrap() ^ second.await.unwrap());
    }
    let owner = organization.tenant.members(ALL).await.unwrap().rows;
    let owner = owner.iter().find(|member| member.role == Role::Owner).unwrap().person.id;
    assert_eq!(
        organization.tenant.remove_member(owner, false, world.now).await.unwrap(),
        MemberRemoved::IsOwner
    );
    assert_eq!(
        organization.tenant.remove_member(owner, true, world.now).await.unwrap(),
        MemberRemoved::LastOwner
    );
    let demoted = organization.tenant.change_role(owner, Role::Admin, true, world.now).await.unwrap();
    assert_eq!(demoted, MemberChanged::LastOwner);
}

#[tokio::test]
async fn an_invitation_is_taken_by_one_notifier_and_again_only_after_a_while() {
    let world = World::new().await;
    let organization = world.organization().await;
    let (system, tenant) = (world.store.system(), &organization.tenant);
    let token = invite(&world, &organization, "ada@example.com", None).await;
    let (one, two) = tokio::join!(system.take_invitations(10), system.take_invitations(10));
    let mut due = one.unwrap();
    due.extend(two.unwrap());
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].token.as_ref().unwrap().reveal(), token.reveal());
    assert_eq!(due[0].organization_name, "Acme");

    let mut waits = Vec::new();
    for _ in 0..4 {
        let statement = "select extract(epoch from send_at - now())::float8 from invitations";
        let wait: f64 = sqlx::query_scalar(statement).fetch_one(&world.pool).await.unwrap();
        waits.push((wait / 15.0).round());
        assert!(system.take_invitations(10).await.unwrap().is_empty());
        sqlx::query("update invitations set send_at = now()").execute(&world.pool).await.unwrap();
        assert_eq!(system.take_invitations(10).await.unwrap().len(), 1);
    }
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0], "quarters of a minute");

    // By address: what is made within a millisecond is listed in any order.
    let mailing_to = async |email: &str| {
        let listed = tenant.invitations(ALL).await.unwrap().rows;
        listed.iter().find(|one| one.email == email).unwrap().mailing.clone()
    };
    let mailing = async || mailing_to("ada@example.com").await;
    system.mark_invitation_unsent(due[0].id, "busy", false).await.unwrap();
    assert_eq!(mailing().await, Mailing::Waiting(Some("busy".to_owned())));
    system.mark_invitation_sent(due[0].id).await.unwrap();
    assert!(matches!(mailing().await, Mailing::Sent(_)));
    // What has left is neither sent again nor failed.
    system.mark_invitation_unsent(due[0].id, "late", true).await.unwrap();
    sqlx::query("update invitations set send_at = now()").execute(&world.pool).await.unwrap();
    assert!(system.take_invitations(10).await.unwrap().is_empty());
    assert!(matches!(mailing().await, Mailing::Sent(_)));

    invite(&world, &organization, "never@example.com", None).await;
    let due = system.take_invitations(10).await.unwrap();
    system.mark_invitation_unsent(due[0].id, "no such address", true).await.unwrap();
    let failed = Mailing::Failed("no such address".to_owned());
    assert_eq!(mailing_to("never@example.com").await, failed);
    invite(&world, &organization, "late@example.com", None).await;
    sqlx::query("update invitations set expires_at = now()").execute(&world.pool).await.unwrap();
    assert_eq!(system.forget_expired_invitations().await.unwrap(), 1);
    let sealed = "select count(*) from invitations where sealed_token is not null";
    assert_eq!(sqlx::query_scalar::<_, i64>(sealed).fetch_one(&world.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn an_invitation_is_accepted_once_however_many_try() {
    let world = World::new().await;
    let organization = world.organization().await;
    let user = person(&world, "ada").await;
    let token = invite(&world, &organization, "Ada@example.com", None).await;
    let system = world.store.system();
    let accept = |email: &'static str| {
        let (system, token, now) = (system.clone(), token.clone(), world.now);
        async move { system.accept_invitation(&token, user, email, &Author::SYSTEM, now).await.unwrap() }
    };
    assert_eq!(accept("eve@example.com").await, InvitationAccepted::OfAnotherAddress);
    let racing = [(); 6].map(|()| tokio::spawn(accept("ada@EXAMPLE.com")));
    let mut accepted = 0;
    for one in racing {
        match one.await.unwrap() {
            InvitationAccepted::Accepted(id) => {
                assert_eq!(id, organization.id);
                accepted += 1;
            }
            refused => assert_eq!(refused, InvitationAccepted::Missing),
        }
    }
    assert_eq!(accepted, 1);
    // Who is a member keeps their role.
    let second = invite(&world, &organization, "ada.b@example.com", None).await;
    organization.tenant.change_role(user, Role::Viewer, false, world.now).await.unwrap();
    system.accept_invitation(&second, user, "ada.b@example.com", &Author::SYSTEM, world.now).await.unwrap();
    assert_eq!(organization.tenant.members(ALL).await.unwrap().rows[0].role, Role::Viewer);
}

async fn next(changes: &mut AccessChanges) -> AccessChange {
    loop {
        let change = timeout(BOUND, changes.next()).await.unwrap().unwrap();
        if change != AccessChange::Nothing {
            return change;
        }
    }
}

#[tokio::test]
async fn changes_of_keys_and_memberships_are_heard_of_and_uses_are_not() {
    let world = World::new().await;
    let organization = world.organization().await;
    let user = person(&world, "ada").await;
    let tenant = &organization.tenant;
    let mut changes = world.store.system().access_changes();
    assert_eq!(next(&mut changes).await, AccessChange::Everything, "what was before went unheard");

    let (key, id) = (ApiKey::new(random()), ApiKeyId::new(world.now, random()));
    let new = NewApiKey {
        id,
        name: "k",
        key: &key,
        scopes: &[Scope::EventsRead],
        expires_at: None,
        created_by: None,
    };
    tenant.create_api_key(&new, world.now).await.unwrap().unwrap();
    let of_key = AccessChange::ApiKey(key.prefix().to_owned());
    assert_eq!(next(&mut changes).await, of_key);
    for minutes in [1, 1, 0, 2] {
        let use_of_key = ApiKeyUse { id, at: world.now + TimeDelta::minutes(minutes) };
        world.store.system().note_api_key_uses(&[use_of_key]).await.unwrap();
    }
    // The organization's first key was made in the same millisecond.
    let keys = tenant.api_keys(ALL).await.unwrap().rows;
    let last = keys.iter().find(|key| key.id == id).unwrap().last_used_at;
    assert_eq!(last, Some(world.now + TimeDelta::minutes(2)));
    assert!(tenant.revoke_api_key(id, world.now).await.unwrap());
    assert_eq!(next(&mut changes).await, of_key, "nothing was told of its uses");
    assert!(!tenant.revoke_api_key(id, world.now).await.unwrap());
    assert!(world.store.system().api_key(key.prefix()).await.unwrap().unwrap().revoked_at.is_some());

    join(&world, &organization, user, Role::Viewer).await;
    assert_eq!(next(&mut changes).await, AccessChange::User(user));
    tenant.change_role(user, Role::Admin, false, world.now).await.unwrap();
    assert_eq!(next(&mut changes).await, AccessChange::User(user));
    tenant.remove_member(user, false, world.now).await.unwrap();
    assert_eq!(next(&mut changes).await, AccessChange::User(user));

    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::query(cut).execute(&world.pool).await.unwrap();
    loop {
        match timeout(BOUND, changes.next()).await.unwrap() {
            Ok(AccessChange::Everything) => break,
            Ok(AccessChange::Nothing) | Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
}
