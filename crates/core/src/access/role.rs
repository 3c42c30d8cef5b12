//! Roles of members, and what each brings.

use serde::{Deserialize, Serialize};

use super::Scope;

/// What a person is in an organization. Each role may do all that the ones after it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, and alone in charge of owners. An organization always has one.
    Owner,
    /// Everything but owners: members, API keys, the organization's name.
    Admin,
    /// Runs endpoints, destinations, replays and channels; has no say in who may.
    Developer,
    /// Sees everything and changes nothing.
    Viewer,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer];

    /// As it is stored and told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// The inverse of [`Role::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether the role brings a scope. This is the table of roles; `docs/api/access.md` shows it.
    pub const fn carries(self, scope: Scope) -> bool {
        match scope {
            Scope::OrganizationRead
            | Scope::MembersRead
            | Scope::ApiKeysRead
            | Scope::EndpointsRead
            | Scope::EventsRead
            | Scope::AlertsRead
            | Scope::AuditRead => true,
            Scope::EndpointsWrite | Scope::EventsReplay | Scope::AlertsWrite => {
                matches!(self, Self::Owner | Self::Admin | Self::Developer)
            }
            Scope::OrganizationWrite | Scope::MembersWrite | Scope::ApiKeysWrite => {
                matches!(self, Self::Owner | Self::Admin)
            }
        }
    }

    /// All scopes that the role brings.
    pub fn scopes(self) -> Vec<Scope> {
        Scope::ALL.iter().copied().filter(|scope| self.carries(*scope)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_the_lesser_ones_may() {
        for pair in Role::ALL.windows(2) {
            let [more, less] = [pair[0].scopes(), pair[1].scopes()];
            assert!(less.iter().all(|scope| more.contains(scope)), "{pair:?}");
        }
        assert_eq!(Role::Owner.scopes(), Scope::ALL);
        assert!(Role::Viewer.scopes().iter().all(|scope| scope.is_read()));
    }

    #[test]
    fn a_developer_has_no_say_in_who_may() {
        for scope in [Scope::OrganizationWrite, Scope::MembersWrite, Scope::ApiKeysWrite] {
            assert!(!Role::Developer.carries(scope) && Role::Admin.carries(scope), "{scope:?}");
        }
    }

    #[test]
    fn every_role_reads_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
