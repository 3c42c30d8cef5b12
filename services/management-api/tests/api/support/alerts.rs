//! Alerts as the notifier opens them.

use std::time::Duration;

use ravenpost_core::alert::{ConditionName, Evidence, RuleKey, Severity};
use ravenpost_core::ids::AlertId;
use ravenpost_store::system::{Firing, Subject, Turn};

use super::{Customer, Endpoint, Service};

impl Service {
    /// An alert that is open: a destination has failed twice in a row.
    pub(crate) async fn alert(&self, customer: &Customer, endpoint: &Endpoint) -> AlertId {
        let subject = Subject {
            organization_id: customer.organization,
            endpoint_id: Some(endpoint.id),
            destination_id: Some(endpoint.destination),
        };
        let alert_id = AlertId::new(self.now, ravenpost_chassis::random::bytes());
        let firing = Firing {
            alert_id,
            rule_name: "A destination keeps failing".to_owned(),
            condition: ConditionName::ConsecutiveFailures,
            severity: Severity::Warning,
            evidence: Evidence {
                failures_in_a_row: Some(2),
                last_error: Some("connection refused".to_owned()),
                ..Evidence::default()
            },
            tell_at: self.now,
            channels: None,
            cool_down: Duration::ZERO,
        };
        let rule = RuleKey::Default(ConditionName::ConsecutiveFailures);
        let opens = Turn { subject, rule, fires: Some(Box::new(firing)) };
        assert_eq!(self.store.system().turn(&[opens]).await.unwrap(), [true]);
        alert_id
    }
}
