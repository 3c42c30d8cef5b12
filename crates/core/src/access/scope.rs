//! Scopes: what a caller may do, a word each.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Declares the list once: variant, word, and what it allows, which is also its documentation.
macro_rules! scopes {
    ($($variant:ident, $word:literal, $allows:literal;)+) => {
        /// A right that an API key carries, or a role brings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $(#[doc = $allows] #[serde(rename = $word)] $variant,)+
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As it is stored and told.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What it allows, for documents.
            pub const fn allows(self) -> &'static str {
                match self { $(Self::$variant => $allows,)+ }
            }
        }
    };
}

scopes! {
    OrganizationRead, "organization:read", "See the organization.";
    OrganizationWrite, "organization:write", "Rename the organization.";
    MembersRead, "members:read", "See members and invitations.";
    MembersWrite, "members:write", "Invite and remove members, and change their roles.";
    ApiKeysRead, "api-keys:read", "See which API keys there are, and when they were used; never the keys.";
    ApiKeysWrite, "api-keys:write", "Create API keys that carry no more than the caller's own scopes, and revoke keys.";
    EndpointsRead, "endpoints:read", "See endpoints and destinations.";
    EndpointsWrite, "endpoints:write", "Create, change and delete endpoints and destinations.";
    EventsRead, "events:read", "See events, payloads, deliveries and rejected requests.";
    EventsReplay, "events:replay", "Replay events, one or many; accept and delete rejected requests.";
    AlertsRead, "alerts:read", "See channels and alerts.";
    AlertsWrite, "alerts:write", "Create and delete channels.";
    AuditRead, "audit:read", "See who changed what.";
}

impl Scope {
    /// The inverse of [`Scope::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text)
    }

    /// Whether it only shows.
    pub fn is_read(self) -> bool {
        self.as_str().ends_with(":read")
    }
}

// By hand: the derive does not see the words that a macro gives.
impl PartialSchema for Scope {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|scope| scope.as_str());
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A right that an API key carries, or a role brings."))
            .enum_values(Some(words))
            .build();
        RefOr::T(Schema::Object(schema))
    }
}

impl ToSchema for Scope {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_reads_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!(Scope::parse("events"), None);
    }
}
