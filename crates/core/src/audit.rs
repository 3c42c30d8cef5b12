//! Who changed what: the words of the audit log, and the hash that chains its rows.
//!
//! Each organization has a chain of its own. A row's hash covers its content and the hash of the row before it, so that a
//! row that is changed, removed or moved breaks the chain at its place, and one that is cut off the end is missed by the
//! head, which is kept apart. The function `append_audit` of the schema writes by the same rule.

mod chain;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::access::Actor;
use crate::ids::OrganizationId;

pub use chain::{Broken, Chain, Head};

/// Declares the list once: variant, name, and what happened, which is also its documentation.
macro_rules! actions {
    ($($variant:ident, $name:tt, $description:literal;)+) => {
        /// What was done, `resource.done`. A closed list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[schema(as = AuditAction)]
        pub enum Action {
            $(#[doc = $description] #[serde(rename = $name)] $variant,)+
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As it is stored and told.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happened, for documents.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }
    };
}

actions! {
    OrganizationCreated, "organization.created", "An organization was made.";
    OrganizationChanged, "organization.changed", "An organization was renamed or changed otherwise.";
    ApiKeyCreated, "api_key.created", "An API key was made.";
    ApiKeyRevoked, "api_key.revoked", "An API key was revoked.";
    MemberAdded, "member.added", "A person became a member.";
    MemberChanged, "member.changed", "A member's role was changed.";
    MemberRemoved, "member.removed", "A member was removed, or left.";
    InvitationCreated, "invitation.created", "A person was invited.";
    InvitationAccepted, "invitation.accepted", "An invitation was accepted.";
    InvitationRevoked, "invitation.revoked", "An invitation was taken back.";
    EndpointCreated, "endpoint.created", "An endpoint was made, with its first destination.";
    EndpointChanged, "endpoint.changed", "An endpoint was changed, paused or activated.";
    EndpointDeleted, "endpoint.deleted", "An endpoint was deleted, with its destinations.";
    EndpointTokenRotated, "endpoint.token_rotated", "An endpoint got another address.";
    EndpointSecretAdded, "endpoint.secret_added", "An endpoint got another secret.";
    EndpointSecretRemoved, "endpoint.secret_removed", "A secret of an endpoint was removed.";
    DestinationCreated, "destination.created", "A destination was made.";
    DestinationChanged, "destination.changed", "A destination was changed, paused, resumed or enabled.";
    DestinationDeleted, "destination.deleted", "A destination was deleted.";
    DestinationDisabled, "destination.disabled", "A destination was disabled, for it said so or failed for too long.";
    DestinationSecretRotated, "destination.secret_rotated", "A destination's signing secret was replaced.";
    SigningKeyCreated, "signing_key.created", "The organization got a key pair to sign with, the first or another one.";
    EventReplayed, "event.replayed", "An event was put back.";
    EventExpunged, "event.expunged", "An event's payload was expunged.";
    EventTested, "event.tested", "A test event was sent.";
    ScheduledDeliveryHastened, "scheduled_delivery.hastened", "What waited was made due at once.";
    ScheduledDeliveryCancelled, "scheduled_delivery.cancelled", "What waited was cancelled.";
    ReplayCreated, "replay.created", "A bulk replay was made.";
    ReplayPaused, "replay.paused", "A bulk replay was paused.";
    ReplayResumed, "replay.resumed", "A bulk replay was resumed.";
    ReplayCancelled, "replay.cancelled", "A bulk replay was cancelled.";
    RejectedRequestAccepted, "rejected_request.accepted", "Rejected requests became events.";
    RejectedRequestDeleted, "rejected_request.deleted", "A rejected request was deleted.";
    ChannelCreated, "channel.created", "A channel was made.";
    ChannelChanged, "channel.changed", "A channel was changed.";
    ChannelDeleted, "channel.deleted", "A channel was deleted.";
    ChannelTested, "channel.tested", "A test was sent to a channel.";
    AlertRuleCreated, "alert_rule.created", "An alert rule was made.";
    AlertRuleChanged, "alert_rule.changed", "An alert rule was changed.";
    AlertRuleDeleted, "alert_rule.deleted", "An alert rule was deleted.";
    AlertAcknowledged, "alert.acknowledged", "Somebody sees to an alert.";
    AlertResolved, "alert.resolved", "A person or a program said that an alert is over.";
    AlertMuted, "alert.muted", "An alert was muted, or is no longer.";
}

impl Action {
    /// The inverse of [`Action::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text)
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// A caller of the API.
    Actor(Actor),
    /// The operator, by a command of a program.
    Operator,
    /// Ravenpost itself.
    System,
}

impl Who {
    /// The kind and, of a caller, the id: as they are stored and told.
    pub fn parts(self) -> (&'static str, Option<Uuid>) {
        match self {
            Self::Actor(Actor::ApiKey(key)) => ("api_key", Some(key.0)),
            Self::Actor(Actor::User(user)) => ("user", Some(user.0)),
            Self::Operator => ("operator", None),
            Self::System => ("system", None),
        }
    }
}

/// Who makes changes, and where they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub who: Who,
    /// The address that the request came from, as far as it is known.
    pub address: Option<IpAddr>,
    /// The request that holds an `Idempotency-Key`, if one does: its changes are made once.
    pub request: Option<Uuid>,
}

impl Author {
    /// Nobody but ourselves.
    pub const SYSTEM: Self = Self { who: Who::System, address: None, request: None };
    /// Whoever runs a command.
    pub const OPERATOR: Self = Self { who: Who::Operator, address: None, request: None };
}

/// The hash before the first row.
pub const START: [u8; 32] = [0; 32];

/// A row's content, as it is hashed: every field is text, as Postgres writes it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Whose chain it is in.
    pub organization: OrganizationId,
    /// Its place in the chain, from 1 on.
    pub sequence: i64,
    /// When; to the microsecond.
    pub at: DateTime<Utc>,
    /// [`Who::parts`], the kind.
    pub actor_type: &'a str,
    /// [`Who::parts`], the id.
    pub actor_id: Option<Uuid>,
    /// From where.
    pub address: Option<&'a str>,
    /// [`Action::as_str`].
    pub action: &'a str,
    /// To what.
    pub resource_id: Option<Uuid>,
    /// What it was, the JSON as it was written.
    pub before: Option<&'a str>,
    /// What it is.
    pub after: Option<&'a str>,
}

impl Content<'_> {
    /// The row's hash: SHA-256 of the hash before it and all fields, each with its length.
    pub fn hash(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(previous);
        let text = |id: Option<Uuid>| id.map(|id| id.to_string());
        field(&mut digest, Some(&self.organization.to_string()));
        field(&mut digest, Some(&self.sequence.to_string()));
        field(&mut digest, Some(&self.at.timestamp_micros().to_string()));
        field(&mut digest, Some(self.actor_type));
        field(&mut digest, text(self.actor_id).as_deref());
        field(&mut digest, self.address);
        field(&mut digest, Some(self.action));
        field(&mut digest, text(self.resource_id).as_deref());
        field(&mut digest, self.before);
        field(&mut digest, self.after);
        digest.finalize().into()
    }
}

/// A field: its length in four bytes, then itself; -1 for none.
fn field(digest: &mut Sha256, field: Option<&str>) {
    let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap_or(i32::MAX));
    digest.update(length.to_be_bytes());
    digest.update(field.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content<'static> {
        Content {
            organization: Uuid::from_u128(1).into(),
            sequence: 1,
            at: DateTime::UNIX_EPOCH,
            actor_type: "system",
            actor_id: None,
            address: None,
            action: "endpoint.created",
            resource_id: Some(Uuid::from_u128(2)),
            before: None,
            after: Some("{}"),
        }
    }

    #[test]
    fn every_field_counts() {
        let plain = content().hash(&START);
        let others = [
            Content { organization: Uuid::from_u128(9).into(), ..content() },
            Content { sequence: 2, ..content() },
            Content { at: DateTime::UNIX_EPOCH + chrono::TimeDelta::microseconds(1), ..content() },
            Content { actor_type: "operator", ..content() },
            Content { actor_id: Some(Uuid::from_u128(3)), ..content() },
            Content { address: Some("203.0.113.7"), ..content() },
            Content { action: "endpoint.deleted", ..content() },
            Content { resource_id: None, ..content() },
            Content { before: Some("{}"), after: None, ..content() },
            Content { after: Some(""), ..content() },
            Content { after: None, ..content() },
        ];
        for other in others {
            assert_ne!(other.hash(&START), plain, "{other:?}");
        }
        assert_ne!(content().hash(&plain), plain);
    }

    #[test]
    fn what_is_a_row_is_said_for_good() {
        // Rows that were written once have to verify with every later release.
        let hash = hex::encode(content().hash(&START));
        assert_eq!(hash, "640f75c51bea8aba15f40b6238695a21c3fac38094276ab74a639f1e8ff3e689");
    }

    #[test]
    fn every_action_reads_back_and_says_of_what() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(*action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
            assert_eq!(action.as_str().split('.').count(), 2);
            assert!(action.description().ends_with('.'));
        }
    }
}
