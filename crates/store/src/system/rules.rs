//! The rules of alerts, for whoever judges by them.

use ravenpost_core::alert::Rule;
use ravenpost_core::ids::OrganizationId;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::alert_rule::{RuleRow, decode};
use crate::decode::Damaged;
use crate::lease::bounded;

impl System {
    /// The rules that organizations have made, with those that are switched off.
    /// Each reads by itself: one that does not (a release ahead may have written it) keeps no other from being judged by.
    pub async fn alert_rules(
        &self,
        organizations: &[OrganizationId],
    ) -> Result<Vec<(OrganizationId, std::result::Result<Rule, Damaged>)>> {
        let ids: Vec<Uuid> = organizations.iter().map(|id| id.0).collect();
        let rows = bounded!(
            self,
            sqlx::query_as!(
                RuleRow,
                "select organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                     quiet_from, quiet_to, channel_ids, enabled, version, created_at, updated_at
                 from alert_rules where organization_id = any($1) order by id",
                &ids
            ),
            fetch_all
        );
        Ok(rows.into_iter().map(|row| (row.organization_id.into(), decode(row))).collect())
    }

    /// The longest window that any organization's rule asks for, in seconds.
    pub async fn longest_alert_window(&self) -> Result<u32> {
        let longest = bounded!(
            self,
            sqlx::query_scalar!("select max(window_seconds) from alert_rules where enabled"),
            fetch_one
        );
        Ok(longest.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or_default())
    }
}
