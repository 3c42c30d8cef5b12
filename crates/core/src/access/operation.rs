//! What each operation of the API demands: the one table by which it authorises, and by which documents tell of it.

use super::{Role, Scope};

/// What somebody must show to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// A scope in the organization that the request is about: of a person by their role, of a program by its key.
    Scope(Scope),
    /// Only to be known: a person or a program, whatever they may.
    Known,
    /// To be a person, whatever they may: it is about themselves.
    Person,
}

/// One operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its `operationId` in the OpenAPI document.
    pub id: &'static str,
    /// What it demands.
    pub demand: Demand,
}

impl Demand {
    /// Whether a role meets it.
    pub fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::Scope(scope) => role.carries(scope),
            Self::Known | Self::Person => true,
        }
    }
}

const fn row(id: &'static str, demand: Demand) -> Operation {
    Operation { id, demand }
}

const fn scope(id: &'static str, scope: Scope) -> Operation {
    row(id, Demand::Scope(scope))
}

/// Every operation, by resource. One that has no row here is refused.
pub const OPERATIONS: &[Operation] = &[
    row("get_me", Demand::Known),
    row("list_organizations", Demand::Known),
    row("create_organization", Demand::Person),
    scope("get_organization", Scope::OrganizationRead),
    scope("change_organization", Scope::OrganizationWrite),
    row("leave_organization", Demand::Person),
    scope("list_members", Scope::MembersRead),
    scope("change_member", Scope::MembersWrite),
    scope("remove_member", Scope::MembersWrite),
    scope("list_invitations", Scope::MembersRead),
    scope("create_invitation", Scope::MembersWrite),
    scope("revoke_invitation", Scope::MembersWrite),
    row("accept_invitation", Demand::Person),
    scope("list_api_keys", Scope::ApiKeysRead),
    scope("create_api_key", Scope::ApiKeysWrite),
    scope("revoke_api_key", Scope::ApiKeysWrite),
    scope("list_endpoints", Scope::EndpointsRead),
    scope("create_endpoint", Scope::EndpointsWrite),
    scope("get_endpoint", Scope::EndpointsRead),
    scope("change_endpoint", Scope::EndpointsWrite),
    scope("delete_endpoint", Scope::EndpointsWrite),
    scope("pause_endpoint", Scope::EndpointsWrite),
    scope("activate_endpoint", Scope::EndpointsWrite),
    scope("rotate_endpoint_token", Scope::EndpointsWrite),
    scope("send_test_event", Scope::EndpointsWrite),
    scope("get_endpoint_health", Scope::EventsRead),
    scope("list_secrets", Scope::EndpointsRead),
    scope("add_secret", Scope::EndpointsWrite),
    scope("remove_secret", Scope::EndpointsWrite),
    scope("list_providers", Scope::EndpointsRead),
    scope("list_destinations", Scope::EndpointsRead),
    scope("create_destination", Scope::EndpointsWrite),
    scope("get_destination", Scope::EndpointsRead),
    scope("change_destination", Scope::EndpointsWrite),
    scope("delete_destination", Scope::EndpointsWrite),
    scope("pause_destination", Scope::EndpointsWrite),
    scope("resume_destination", Scope::EndpointsWrite),
    scope("enable_destination", Scope::EndpointsWrite),
    scope("try_filter", Scope::EventsRead),
    scope("rotate_destination_secret", Scope::EndpointsWrite),
    scope("list_signing_keys", Scope::EndpointsRead),
    scope("rotate_signing_key", Scope::EndpointsWrite),
    scope("list_events", Scope::EventsRead),
    scope("get_event", Scope::EventsRead),
    scope("get_event_payload", Scope::EventsRead),
    scope("expunge_event_payload", Scope::EventsReplay),
    scope("stream_events", Scope::EventsRead),
    scope("list_deliveries", Scope::EventsRead),
    scope("replay_event", Scope::EventsReplay),
    scope("list_scheduled_deliveries", Scope::EventsRead),
    scope("run_scheduled_delivery", Scope::EventsReplay),
    scope("cancel_scheduled_delivery", Scope::EventsReplay),
    scope("get_analytics", Scope::EventsRead),
    scope("list_endpoint_analytics", Scope::EventsRead),
    scope("list_dead_letters", Scope::EventsRead),
    scope("list_replays", Scope::EventsRead),
    scope("create_replay", Scope::EventsReplay),
    scope("get_replay", Scope::EventsRead),
    scope("pause_replay", Scope::EventsReplay),
    scope("resume_replay", Scope::EventsReplay),
    scope("cancel_replay", Scope::EventsReplay),
    scope("recover_destination", Scope::EventsReplay),
    scope("recover_endpoint", Scope::EventsReplay),
    scope("list_rejected_requests", Scope::EventsRead),
    scope("get_rejected_request", Scope::EventsRead),
    scope("delete_rejected_request", Scope::EventsReplay),
    scope("get_rejected_request_payload", Scope::EventsRead),
    scope("verify_rejected_request", Scope::EventsRead),
    scope("accept_rejected_request", Scope::EventsReplay),
    scope("accept_rejected_requests", Scope::EventsReplay),
    scope("count_rejected_requests", Scope::EventsRead),
    scope("list_channels", Scope::AlertsRead),
    scope("create_channel", Scope::AlertsWrite),
    scope("get_channel", Scope::AlertsRead),
    scope("change_channel", Scope::AlertsWrite),
    scope("delete_channel", Scope::AlertsWrite),
    scope("test_channel", Scope::AlertsWrite),
    scope("list_channel_notifications", Scope::AlertsRead),
    scope("list_alert_rules", Scope::AlertsRead),
    scope("create_alert_rule", Scope::AlertsWrite),
    scope("get_alert_rule", Scope::AlertsRead),
    scope("change_alert_rule", Scope::AlertsWrite),
    scope("delete_alert_rule", Scope::AlertsWrite),
    scope("list_alerts", Scope::AlertsRead),
    scope("get_alert", Scope::AlertsRead),
    scope("acknowledge_alert", Scope::AlertsWrite),
    scope("resolve_alert", Scope::AlertsWrite),
    scope("mute_alert", Scope::AlertsWrite),
    scope("list_audit_log", Scope::AuditRead),
];

/// What the operation of that id demands; `None` when it has no row, and then nobody may.
pub fn demand_of(id: &str) -> Option<Demand> {
    OPERATIONS.iter().find(|operation| operation.id == id).map(|operation| operation.demand)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_one_row_and_every_scope_an_operation() {
        let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), OPERATIONS.len());
        for scope in Scope::ALL {
            assert!(
                OPERATIONS.iter().any(|operation| operation.demand == Demand::Scope(*scope)),
                "{scope:?}"
            );
        }
    }

    #[test]
    fn what_has_no_row_has_no_demand_to_meet() {
        assert_eq!(demand_of("list_events"), Some(Demand::Scope(Scope::EventsRead)));
        assert_eq!(demand_of("list_everything"), None);
    }

    #[test]
    fn a_viewer_meets_what_shows_and_what_is_about_themselves() {
        for operation in OPERATIONS {
            let shows = matches!(operation.demand, Demand::Scope(scope) if scope.is_read());
            let own = matches!(operation.demand, Demand::Known | Demand::Person);
            assert_eq!(operation.demand.is_met_by(Role::Viewer), shows || own, "{}", operation.id);
            assert!(operation.demand.is_met_by(Role::Owner));
        }
    }
}
