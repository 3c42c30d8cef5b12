//! Mails invitations. What Postgres has is what is to be sent: whichever notifier comes first takes one for a while, sends
//! it and says so; one that dies in between leaves it to the others. A mail may leave twice, and none is forgotten.

use std::time::Duration;

use chrono::SecondsFormat;
use ravenpost_chassis::Context;
use ravenpost_store::System;
use ravenpost_store::system::DueInvitation;
use tracing::{error, warn};
use url::Url;

use crate::channels::{Email, Mail};
use crate::metrics::NotifierMetrics;

/// How often invitations are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// Invitations that are taken at once: few enough to be sent before others take them too.
const BATCH: i64 = 5;
/// How often the tokens of expired ones are forgotten, in turns of the loop: once a minute.
const FORGET_EVERY: u32 = 120;

struct Inviter {
    system: System,
    email: Email,
    console_url: Url,
    metrics: NotifierMetrics,
}

/// Starts mailing; ends with the process.
pub fn start(ctx: &Context, system: System, email: Email, console_url: Url, metrics: NotifierMetrics) {
    let stopping = ctx.stopping.clone();
    let inviter = Inviter { system, email, console_url, metrics };
    ctx.spawn("invitations", async move {
        let mut turn: u32 = 0;
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = inviter.mail_all(turn.is_multiple_of(FORGET_EVERY)).await {
                warn!(error = &error as &dyn std::error::Error, "invitations can't be read or marked");
            }
            turn = turn.wrapping_add(1);
        }
        Ok(())
    });
}

impl Inviter {
    async fn mail_all(&self, forget: bool) -> ravenpost_store::Result<()> {
        if forget {
            self.system.forget_expired_invitations().await?;
        }
        for invitation in self.system.take_invitations(BATCH).await? {
            self.mail(&invitation).await?;
        }
        Ok(())
    }

    async fn mail(&self, invitation: &DueInvitation) -> ravenpost_store::Result<()> {
        let token = match &invitation.token {
            Ok(token) => token.reveal(),
            Err(damaged) => {
                error!(invitation_id = %invitation.id, error = %damaged, "an invitation can't be mailed");
                return self.unsent(invitation, "its token can't be read", true).await;
            }
        };
        match self.email.send(compose(invitation, &link(&self.console_url, token))).await {
            Ok(()) => {
                self.metrics.invitations.with_label_values(&["sent"]).inc();
                self.system.mark_invitation_sent(invitation.id).await
            }
            Err(cause) => {
                warn!(
                    invitation_id = %invitation.id,
                    error = &cause as &dyn std::error::Error,
                    "an invitation could not be mailed"
                );
                self.unsent(invitation, &cause.told(), cause.is_permanent()).await
            }
        }
    }

    async fn unsent(
        &self,
        invitation: &DueInvitation,
        why: &str,
        given_up: bool,
    ) -> ravenpost_store::Result<()> {
        let result = if given_up { "given_up" } else { "failed" };
        self.metrics.invitations.with_label_values(&[result]).inc();
        self.system.mark_invitation_unsent(invitation.id, why, given_up).await
    }
}

/// Where the invitation is accepted. The token stands behind `#`, so that no server on the way writes it to its log.
fn link(console_url: &Url, token: &str) -> String {
    format!("{}/accept-invitation#token={token}", console_url.as_str().trim_end_matches('/'))
}

/// The subject is ours alone: what a stranger has named their organization stands in the text.
fn compose<'a>(invitation: &'a DueInvitation, link: &str) -> Mail<'a> {
    let DueInvitation { organization_name, role, inviter, expires_at, email, .. } = invitation;
    let by = match inviter {
        Some(inviter) => format!("{inviter} has invited you"),
        None => "You are invited".to_owned(),
    };
    let expires = expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let body = format!(
        "{by} to join the organization \"{organization_name}\" on Ravenpost as {}.\n\n\
         Accept it here, with this e-mail address ({email}):\n\n\
         {link}\n\n\
         The link is for you alone and can be used until {expires}. If you did not expect this, do nothing.\n",
        role.as_str()
    );
    let subject = "You are invited to an organization on Ravenpost".to_owned();
    Mail { id: invitation.id.0, address: email, subject, text: body, html: None }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use ravenpost_core::access::Role;
    use ravenpost_core::ids::InvitationId;
    use ravenpost_core::secret::Secret;

    use super::*;

    #[test]
    fn the_mail_says_who_to_what_as_what_and_how() {
        let invitation = DueInvitation {
            id: InvitationId(uuid::Uuid::nil()),
            organization_name: "Acme".to_owned(),
            email: "ada@example.com".to_owned(),
            role: Role::Developer,
            token: Ok(Secret::new("rvi_x")),
            inviter: Some("Charles".to_owned()),
            expires_at: DateTime::UNIX_EPOCH,
        };
        let url = "https://console.example.com/".parse().unwrap();
        let mail = compose(&invitation, &link(&url, "rvi_x"));
        assert_eq!(mail.address, "ada@example.com");
        assert!(!mail.subject.contains("Acme"));
        for part in [
            "Charles has invited you",
            "\"Acme\"",
            "as developer",
            "https://console.example.com/accept-invitation#token=rvi_x\n",
            "until 1970-01-01T00:00:00Z",
        ] {
            assert!(mail.text.contains(part), "{part}: {}", mail.text);
        }
    }
}
