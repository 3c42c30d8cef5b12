//! `invite-owner`: somebody to own an organization that the operator has made.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use ravenpost_chassis::{clock, random};
use ravenpost_core::access::{InvitationToken, Role};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::InvitationId;
use ravenpost_store::Store;
use ravenpost_store::tenant::{Invited, NewInvitation};

use crate::Settings;
use crate::settings::InviteOwner;

/// How long the invitation can be accepted.
const LASTS: TimeDelta = TimeDelta::days(7);

/// Invites, and prints `{"invitation_id": …}`. The token is in the mail alone.
pub async fn run(settings: Settings, arguments: InviteOwner) -> anyhow::Result<()> {
    let keys = settings.master_key.context("RAVENPOST_MASTER_KEY is not set")?;
    crate::api::check_email(&arguments.email).map_err(|problem| anyhow::anyhow!(problem.detail))?;
    let store = Store::new(&settings.store, Some(keys.master_key))?;
    store.require_schema().await?;
    let (tenant, now) = (store.tenant(arguments.organization_id, Author::OPERATOR), clock::now());
    if tenant.organization().await?.is_none() {
        bail!("there is no organization {}", arguments.organization_id);
    }
    let new = NewInvitation {
        id: InvitationId::new(now, random::bytes()),
        email: &arguments.email,
        role: Role::Owner,
        token: &InvitationToken::new(random::bytes()),
        nonce: random::bytes(),
        invited_by: None,
        expires_at: now + LASTS,
    };
    let invitation = match tenant.invite(&new, now).await? {
        Invited::Invited(invitation) => invitation,
        Invited::Already => bail!("{} has an open invitation already", arguments.email),
        Invited::IsMember => bail!("{} is a member already", arguments.email),
        Invited::TooMany(_) => bail!("there were too many invitations to this organization within a day"),
    };
    let line = serde_json::json!({ "invitation_id": invitation.id, "expires_at": invitation.expires_at });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
