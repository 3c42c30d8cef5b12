//! Rules: what an organization wants to be told of, and what it is told of when it wants nothing in particular.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Condition, ConditionName, Invalid};
use crate::duration;
use crate::ids::{AlertRuleId, ChannelId, DestinationId, EndpointId};

/// How long the same trouble is not opened again after it was resolved, unless a rule says otherwise.
pub const COOL_DOWN: Duration = Duration::from_mins(5);
/// Failures in a row that are trouble, unless the operator says otherwise.
pub const DEFAULT_FAILURES: u32 = 5;
/// The longest cool-down.
const LONGEST_COOL_DOWN: Duration = Duration::from_hours(24);
/// Most channels that a rule may name.
const MOST_CHANNELS: usize = 50;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlertSeverity)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The inverse of [`Severity::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = AlertScope)]
pub enum Scope {
    /// Each destination, or endpoint, of the organization.
    Organization {},
    /// One endpoint, and each of its destinations.
    Endpoint {
        /// Which one.
        id: EndpointId,
    },
    /// One destination.
    Destination {
        /// Which one.
        id: DestinationId,
    },
}

impl Scope {
    /// Whether a destination, or with `None` an endpoint as a whole, is meant.
    pub fn covers(&self, endpoint: EndpointId, destination: Option<DestinationId>) -> bool {
        match self {
            Self::Organization {} => true,
            Self::Endpoint { id } => *id == endpoint,
            Self::Destination { id } => destination == Some(*id),
        }
    }
}

/// Which rule an alert is by; what is stored with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKey {
    /// What everybody gets who sets nothing.
    Default(ConditionName),
    /// A rule of the organization.
    Own(AlertRuleId),
}

impl std::fmt::Display for RuleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default(name) => f.write_str(name.as_str()),
            Self::Own(id) => id.fmt(f),
        }
    }
}

impl RuleKey {
    /// The inverse of `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        let own = || text.parse().ok().map(Self::Own);
        ConditionName::parse(text).map(Self::Default).or_else(own)
    }
}

/// A time of day in UTC during which nobody is told, in minutes since midnight; it may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// From this minute of the day in UTC, 0 to 1439.
    pub from: u16,
    /// To this minute, exclusively.
    pub to: u16,
}

impl QuietHours {
    /// When it is quiet at `now`, the end of that.
    pub fn until(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let day = i64::from(24 * 60);
        let minute = now.timestamp().div_euclid(60).rem_euclid(day);
        let length = (i64::from(self.to) - i64::from(self.from)).rem_euclid(day);
        let passed = (minute - i64::from(self.from)).rem_euclid(day);
        let start_of_minute = now - TimeDelta::milliseconds(now.timestamp_millis().rem_euclid(60_000));
        (passed < length).then(|| start_of_minute + TimeDelta::minutes(length - passed))
    }
}

/// What somebody wants to be told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Which one it is.
    pub key: RuleKey,
    /// What people call it.
    pub name: String,
    /// When it is trouble.
    pub condition: Condition,
    /// Of what.
    pub scope: Scope,
    /// How bad that is.
    pub severity: Severity,
    /// How long the same trouble is not opened again after it was resolved.
    pub cool_down: Duration,
    /// Nobody is told before then.
    pub muted_until: Option<DateTime<Utc>>,
    /// Nobody is told in these hours.
    pub quiet_hours: Option<QuietHours>,
    /// Who is told; all channels when it is absent.
    pub channels: Option<Vec<ChannelId>>,
    /// Whether it counts at all. One that does not switches off the default of its condition.
    pub enabled: bool,
}

impl Rule {
    /// When people may be told of what is found at `now`.
    pub fn tell_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let at = self.muted_until.map_or(now, |until| until.max(now));
        self.quiet_hours.and_then(|hours| hours.until(at)).unwrap_or(at)
    }

    /// Refuses what is out of bounds, by the name of the field.
    pub fn check(&self) -> Result<(), Invalid> {
        self.condition.check()?;
        if self.cool_down > LONGEST_COOL_DOWN {
            let most = duration::format(LONGEST_COOL_DOWN);
            return Err(Invalid::new("cool_down", format!("from 0s to {most}")));
        }
        if let Some(QuietHours { from, to }) = self.quiet_hours
            && (from >= 1_440 || to >= 1_440 || from == to)
        {
            return Err(Invalid::new("quiet_hours", "two different minutes of the day, from 0 to 1439"));
        }
        if self
            .channels
            .as_ref()
            .is_some_and(|channels| channels.is_empty() || channels.len() > MOST_CHANNELS)
        {
            return Err(Invalid::new(
                "channels",
                format!("1 to {MOST_CHANNELS} channels; all without this field"),
            ));
        }
        if self.condition.name().is_of_endpoint() && matches!(self.scope, Scope::Destination { .. }) {
            return Err(Invalid::new("scope", "this condition is of an endpoint, not of a destination"));
        }
        Ok(())
    }
}

/// What everybody is told of who sets nothing; `failures` is the operator's number of failures in a row.
pub fn defaults(failures: u32) -> Vec<Rule> {
    let minutes = Duration::from_mins;
    let hours = Duration::from_hours;
    [
        ("A destination keeps failing", Severity::Warning, Condition::ConsecutiveFailures { failures }),
        (
            "Many attempts fail",
            Severity::Warning,
            Condition::ErrorRate { percent: 5.0, window: minutes(15), minimum_attempts: 50 },
        ),
        ("A destination is down", Severity::Critical, Condition::DestinationDown { after: minutes(30) }),
        ("Events are given up", Severity::Warning, Condition::DeadLetters { count: 1, window: minutes(15) }),
        ("A destination is about to be disabled", Severity::Critical, Condition::DisableWarning {}),
        ("A destination was disabled", Severity::Critical, Condition::DestinationDisabled {}),
        (
            "A destination is slow",
            Severity::Info,
            Condition::Latency { p95: Duration::from_secs(10), window: minutes(15), minimum_attempts: 50 },
        ),
        (
            "Deliveries wait for long",
            Severity::Warning,
            Condition::Backlog { waiting: None, oldest: Some(hours(1)) },
        ),
        ("An endpoint is silent", Severity::Warning, Condition::EndpointSilent { after: hours(6) }),
        (
            "Requests fail verification",
            Severity::Warning,
            Condition::SignatureFailures { count: 100, window: hours(1) },
        ),
    ]
    .into_iter()
    .map(|(name, severity, condition)| Rule {
        key: RuleKey::Default(condition.name()),
        name: name.to_owned(),
        condition,
        scope: Scope::Organization {},
        severity,
        cool_down: COOL_DOWN,
        muted_until: None,
        quiet_hours: None,
        channels: None,
        enabled: true,
    })
    .collect()
}

/// The rules that count for an organization: its own that are enabled, and the defaults of the conditions of which it has
/// no rule for the whole organization.
pub fn effective(defaults: &[Rule], own: Vec<Rule>) -> Vec<Rule> {
    let replaced = |default: &&Rule| {
        let name = default.condition.name();
        !own.iter().any(|rule| rule.condition.name() == name && rule.scope == Scope::Organization {})
    };
    let mut rules: Vec<Rule> = defaults.iter().filter(replaced).cloned().collect();
    rules.extend(own.into_iter().filter(|rule| rule.enabled));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn own(condition: Condition, scope: Scope, enabled: bool) -> Rule {
        let key = RuleKey::Own(AlertRuleId(uuid::Uuid::from_u128(7)));
        Rule { key, condition, scope, enabled, ..defaults(5).remove(0) }
    }

    #[test]
    fn the_defaults_are_one_of_each_condition_and_within_bounds() {
        let defaults = defaults(5);
        let names: Vec<_> = defaults.iter().map(|rule| rule.condition.name()).collect();
        assert_eq!(names, ConditionName::ALL);
        for rule in &defaults {
            rule.check().unwrap();
            assert_eq!(RuleKey::parse(&rule.key.to_string()), Some(rule.key));
        }
    }

    #[test]
    fn a_rule_replaces_or_switches_off_the_default_of_its_condition() {
        let defaults = defaults(5);
        let mine = own(Condition::ConsecutiveFailures { failures: 9 }, Scope::Organization {}, true);
        let of = |rules: &[Rule]| {
            let failing =
                rules.iter().filter(|rule| rule.condition.name() == ConditionName::ConsecutiveFailures);
            failing.map(|rule| rule.key).collect::<Vec<_>>()
        };
        assert_eq!(of(&effective(&defaults, vec![mine.clone()])), [mine.key]);
        assert_eq!(of(&effective(&defaults, vec![Rule { enabled: false, ..mine.clone() }])), []);
        // A rule of one endpoint stands beside the default.
        let scope = Scope::Endpoint { id: EndpointId(uuid::Uuid::nil()) };
        assert_eq!(of(&effective(&defaults, vec![Rule { scope, ..mine }])).len(), 2);
        assert_eq!(effective(&defaults, Vec::new()), defaults);
    }

    #[test]
    fn nobody_is_told_while_it_is_muted_or_quiet() {
        let mut rule = own(Condition::DisableWarning {}, Scope::Organization {}, true);
        let now = at("2026-03-01T22:30:10Z");
        assert_eq!(rule.tell_at(now), now);
        rule.quiet_hours = Some(QuietHours { from: 22 * 60, to: 6 * 60 });
        assert_eq!(rule.tell_at(now), at("2026-03-02T06:00:00Z"));
        assert_eq!(rule.tell_at(at("2026-03-02T05:59:59Z")), at("2026-03-02T06:00:00Z"));
        assert_eq!(rule.tell_at(at("2026-03-02T06:00:00Z")), at("2026-03-02T06:00:00Z"));
        rule.muted_until = Some(at("2026-03-01T21:00:00Z"));
        assert_eq!(rule.tell_at(at("2026-03-01T20:00:00Z")), at("2026-03-01T21:00:00Z"));
        rule.muted_until = Some(at("2026-03-03T23:00:00Z"));
        assert_eq!(rule.tell_at(now), at("2026-03-04T06:00:00Z"));
    }

    #[test]
    fn what_is_out_of_bounds_names_its_field() {
        let rule = own(Condition::DisableWarning {}, Scope::Organization {}, true);
        let field = |rule: Rule| rule.check().unwrap_err().field;
        assert_eq!(field(Rule { cool_down: Duration::from_hours(25), ..rule.clone() }), "cool_down");
        let quiet_hours = Some(QuietHours { from: 5, to: 5 });
        assert_eq!(field(Rule { quiet_hours, ..rule.clone() }), "quiet_hours");
        assert_eq!(field(Rule { channels: Some(Vec::new()), ..rule.clone() }), "channels");
        let scope = Scope::Destination { id: DestinationId(uuid::Uuid::nil()) };
        let condition = Condition::EndpointSilent { after: Duration::from_hours(2) };
        assert_eq!(field(Rule { condition, scope, ..rule }), "scope");
    }
}
