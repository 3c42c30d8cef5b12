//! A row of `alert_rules`, as both doors read it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::alert::rule::QuietHours;
use ravenpost_core::alert::{Rule, RuleKey, Severity};
use uuid::Uuid;

use crate::decode::{Damaged, Row};

/// As it is stored.
pub(crate) struct RuleRow {
    pub(crate) organization_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) condition: serde_json::Value,
    pub(crate) scope: serde_json::Value,
    pub(crate) severity: String,
    pub(crate) cool_down_seconds: i32,
    pub(crate) muted_until: Option<DateTime<Utc>>,
    pub(crate) quiet_from: Option<i16>,
    pub(crate) quiet_to: Option<i16>,
    pub(crate) channel_ids: Option<Vec<Uuid>>,
    pub(crate) enabled: bool,
    pub(crate) version: i64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// What it means.
pub(crate) fn decode(found: RuleRow) -> Result<Rule, Damaged> {
    let row = Row { table: "alert_rules", id: found.id };
    let minute = |value: i16| u16::try_from(value).unwrap_or_default();
    let quiet_hours = found.quiet_from.zip(found.quiet_to);
    let cool_down = u64::try_from(found.cool_down_seconds).map_err(|_| "negative");
    Ok(Rule {
        key: RuleKey::Own(found.id.into()),
        name: found.name,
        condition: row.json("condition", found.condition)?,
        scope: row.json("scope", found.scope)?,
        severity: row.word("severity", &found.severity, Severity::parse)?,
        cool_down: Duration::from_secs(row.value("cool_down_seconds", cool_down)?),
        muted_until: found.muted_until,
        quiet_hours: quiet_hours.map(|(from, to)| QuietHours { from: minute(from), to: minute(to) }),
        channels: found.channel_ids.map(|ids| ids.into_iter().map(Into::into).collect()),
        enabled: found.enabled,
    })
}
