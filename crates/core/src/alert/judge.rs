//! Whether something is trouble, and what shows it. No judgement reads a clock: `now` is when it is asked.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::rule::{Rule, RuleKey};
use super::{Condition, ConditionName, Watch};
use crate::ids::{DestinationId, EndpointId};
use crate::pacing::{DestinationEvent, DisabledReason};

/// So many failures in a row make "attempted in vain" of a destination that is seldom attempted.
const ATTEMPTED: u32 = 3;

/// What shows the trouble; what has no bearing on it is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = AlertEvidence)]
pub struct Evidence {
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_in_a_row: Option<u32>,
    /// Attempts in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How many of these failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Events given up in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<u32>,
    /// The 95th percentile of how long attempts took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u32>,
    /// Deliveries that are due and wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Requests that failed verification in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u32>,
    /// The last success, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<DateTime<Utc>>,
    /// What the last failure said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why a destination was disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disabled_reason: Option<DisabledReason>,
    /// When a destination is going to be disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at_earliest: Option<DateTime<Utc>>,
}

/// What came of judging.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It is trouble.
    Trouble(Box<Evidence>),
    /// It is none, and if it was, it is over.
    Well,
    /// There is too little to tell: what was decided before stands.
    Undecided,
}

impl Judgement {
    fn trouble_if(trouble: bool, evidence: impl FnOnce() -> Evidence) -> Self {
        if trouble { Self::Trouble(Box::new(evidence())) } else { Self::Well }
    }
}

/// The rules of an organization that outcomes of this destination decide, in their order, and what they come to.
pub fn judge_destination<'a>(
    rules: &'a [Rule],
    endpoint: EndpointId,
    destination: DestinationId,
    watch: &Watch,
    now: DateTime<Utc>,
) -> impl Iterator<Item = (&'a Rule, Judgement)> {
    let counts = move |rule: &&Rule| {
        rule.condition.name().is_of_outcomes() && rule.scope.covers(endpoint, Some(destination))
    };
    let is_outage = |rule: &Rule| matches!(rule.condition, Condition::ConsecutiveFailures { failures } if watch.failures_in_a_row >= failures);
    let outage = rules.iter().filter(counts).any(is_outage);
    rules.iter().filter(counts).map(move |rule| {
        // What has expired was not sent, and so is no part of it.
        let expired = watch.last_expired.is_some() && rule.condition.name() == ConditionName::DeadLetters;
        let told_already = outage
            && matches!(rule.key, RuleKey::Default(_))
            && rule.condition.name().is_part_of_outage()
            && !expired;
        let judgement = if told_already { Judgement::Undecided } else { judge(&rule.condition, watch, now) };
        (rule, judgement)
    })
}

/// Judges a destination by how it has fared. Conditions that outcomes don't decide stay undecided.
pub fn judge(condition: &Condition, watch: &Watch, now: DateTime<Utc>) -> Judgement {
    match condition {
        Condition::ConsecutiveFailures { failures } => {
            if watch.failures_in_a_row == 0 {
                Judgement::Well
            } else if watch.failures_in_a_row >= *failures {
                Judgement::Trouble(Box::new(streak(watch)))
            } else {
                Judgement::Undecided
            }
        }
        Condition::DestinationDown { after } => down(watch, *after, now),
        Condition::ErrorRate { percent, window, minimum_attempts } => {
            error_rate(watch, *percent, *window, *minimum_attempts, now)
        }
        Condition::DeadLetters { count, window } => dead_letters(watch, *count, *window, now),
        Condition::Latency { p95, window, minimum_attempts } => {
            latency(watch, *p95, *window, *minimum_attempts, now)
        }
        Condition::DisableWarning {} => disabling(watch, DestinationEvent::Warned),
        Condition::DestinationDisabled {} => disabling(watch, DestinationEvent::Disabled),
        Condition::Backlog { .. }
        | Condition::EndpointSilent { .. }
        | Condition::SignatureFailures { .. } => Judgement::Undecided,
    }
}

fn streak(watch: &Watch) -> Evidence {
    Evidence {
        since: watch.failing_since,
        failures_in_a_row: Some(watch.failures_in_a_row),
        last_success_at: watch.last_success_at,
        last_error: watch.last_error.as_deref().map(str::to_owned),
        ..Evidence::default()
    }
}

fn down(watch: &Watch, after: Duration, now: DateTime<Utc>) -> Judgement {
    let (Some(since), Some(last)) = (watch.failing_since, watch.last_attempt_at) else {
        return Judgement::Well;
    };
    let after = TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
    let attempted = watch.failures_in_a_row >= ATTEMPTED || last - since >= after;
    if attempted && now - since >= after {
        return Judgement::Trouble(Box::new(streak(watch)));
    }
    Judgement::Undecided
}

fn error_rate(watch: &Watch, percent: f64, window: Duration, minimum: u32, now: DateTime<Utc>) -> Judgement {
    let tally = watch.in_window(window, now);
    if tally.failures == 0 {
        return Judgement::Well;
    }
    if tally.attempts < minimum {
        return Judgement::Undecided;
    }
    let failed = f64::from(tally.failures) * 100.0 > percent * f64::from(tally.attempts);
    Judgement::trouble_if(failed, || Evidence {
        since: start(window, now),
        attempts: Some(tally.attempts),
        failures: Some(tally.failures),
        last_error: watch.last_error.as_deref().map(str::to_owned),
        ..Evidence::default()
    })
}

/// Found with a letter, and not by looking at the same ones again.
fn dead_letters(watch: &Watch, count: u32, window: Duration, now: DateTime<Utc>) -> Judgement {
    let dead = watch.in_window(window, now).dead;
    if dead == 0 {
        return Judgement::Well;
    }
    if dead < count || !watch.last_was_dead {
        return Judgement::Undecided;
    }
    Judgement::Trouble(Box::new(Evidence {
        since: start(window, now),
        dead_letters: Some(dead),
        last_error: watch.last_expired.as_deref().or(watch.last_error.as_deref()).map(str::to_owned),
        ..Evidence::default()
    }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "65,536 ms at most")]
fn latency(watch: &Watch, p95: Duration, window: Duration, minimum: u32, now: DateTime<Utc>) -> Judgement {
    let attempts = watch.in_window(window, now).attempts;
    let Some(took) = watch.p95(window, now) else { return Judgement::Well };
    if attempts < minimum {
        return Judgement::Undecided;
    }
    Judgement::trouble_if(took > p95.as_secs_f64() * 1_000.0, || Evidence {
        since: start(window, now),
        attempts: Some(attempts),
        p95_ms: Some(took.round() as u32),
        ..Evidence::default()
    })
}

fn disabling(watch: &Watch, event: DestinationEvent) -> Judgement {
    let Some(report) = watch.disabling.as_deref() else {
        // Enabled again, it is well with its first success.
        return if watch.failures_in_a_row == 0 { Judgement::Well } else { Judgement::Undecided };
    };
    Judgement::trouble_if(report.destination_event == event, || Evidence {
        since: report.failing_since.or(Some(report.happened_at)),
        disabled_reason: report.disabled_reason,
        disabled_at_earliest: report.disabled_at_earliest,
        last_error: watch.last_error.as_deref().map(str::to_owned),
        ..Evidence::default()
    })
}

fn start(window: Duration, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_sub_signed(TimeDelta::from_std(window).ok()?)
}

/// What waits for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Deliveries that are due.
    pub waiting: u32,
    /// When the oldest of them was due.
    pub oldest_due_at: Option<DateTime<Utc>>,
}

/// Judges by what waits for a destination.
pub fn judge_backlog(condition: &Condition, waits: Waits, now: DateTime<Utc>) -> Judgement {
    let Condition::Backlog { waiting, oldest } = condition else { return Judgement::Undecided };
    let many = waiting.is_some_and(|most| waits.waiting > most);
    let long = oldest
        .zip(waits.oldest_due_at)
        .is_some_and(|(most, due)| now - due >= TimeDelta::from_std(most).unwrap_or(TimeDelta::MAX));
    Judgement::trouble_if(many || long, || Evidence {
        since: waits.oldest_due_at,
        waiting: Some(waits.waiting),
        ..Evidence::default()
    })
}

/// What an endpoint has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// In how many hours of the last 24 before the silence it received something.
    pub busy_hours: u32,
    /// The start of the last minute or hour in which it did.
    pub last_at: Option<DateTime<Utc>>,
}

/// So many hours of a day make an endpoint that usually receives.
pub const USUALLY: u32 = 12;

/// Judges whether an endpoint that usually receives has gone silent.
pub fn judge_silence(condition: &Condition, received: Received, now: DateTime<Utc>) -> Judgement {
    let Condition::EndpointSilent { after } = condition else { return Judgement::Undecided };
    let Some(last) = received.last_at else { return Judgement::Undecided };
    if now - last < TimeDelta::from_std(*after).unwrap_or(TimeDelta::MAX) {
        return Judgement::Well;
    }
    if received.busy_hours < USUALLY {
        return Judgement::Undecided;
    }
    Judgement::Trouble(Box::new(Evidence {
        since: Some(last),
        last_success_at: Some(last),
        ..Evidence::default()
    }))
}

/// Judges by how many requests failed verification, of each minute that had any, in the condition's window; its first
/// minute counts as a whole.
pub fn judge_rejected(
    condition: &Condition,
    rejected: &[(DateTime<Utc>, u32)],
    now: DateTime<Utc>,
) -> Judgement {
    let Condition::SignatureFailures { count, window } = condition else { return Judgement::Undecided };
    let since = start(*window, now);
    let within = |minute: DateTime<Utc>| since.is_none_or(|since| minute + TimeDelta::minutes(1) > since);
    let counts = rejected.iter().filter(|(minute, _)| within(*minute)).map(|(_, count)| *count);
    let rejected = counts.fold(0, u32::saturating_add);
    Judgement::trouble_if(rejected >= *count, || Evidence {
        since,
        rejected: Some(rejected),
        ..Evidence::default()
    })
}

/// What is wrong, in one sentence without the name of whom it befell.
pub fn headline(condition: ConditionName, evidence: &Evidence) -> String {
    let number = |value: Option<u32>| value.unwrap_or_default();
    match condition {
        ConditionName::ConsecutiveFailures => {
            format!("keeps failing ({} attempts in a row)", number(evidence.failures_in_a_row))
        }
        ConditionName::ErrorRate => {
            let (failures, attempts) = (number(evidence.failures), number(evidence.attempts).max(1));
            let percent = f64::from(failures) * 100.0 / f64::from(attempts);
            format!("fails too often ({percent:.1} % of {attempts} attempts)")
        }
        ConditionName::DestinationDown => {
            format!("is down ({} attempts in vain)", number(evidence.failures_in_a_row))
        }
        ConditionName::DeadLetters => {
            format!("has events given up ({} lately)", number(evidence.dead_letters))
        }
        ConditionName::DisableWarning => "is about to be disabled".to_owned(),
        ConditionName::DestinationDisabled => "was disabled".to_owned(),
        ConditionName::Latency => format!("answers slowly (p95 of {} ms)", number(evidence.p95_ms)),
        ConditionName::Backlog => match number(evidence.waiting) {
            // They are not counted much further than rules ask for.
            many if many > 10_000 => format!("has deliveries waiting (at least {many})"),
            few => format!("has deliveries waiting ({few})"),
        },
        ConditionName::EndpointSilent => "has gone silent".to_owned(),
        ConditionName::SignatureFailures => {
            format!("is sent requests that fail verification ({} lately)", number(evidence.rejected))
        }
    }
}

#[cfg(test)]
mod tests;
