//! How a destination fares, and what its filter stumbled over.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::EventId;
use ravenpost_core::pacing::{Breaker, DisabledReason};
use ravenpost_store::system::FilterError;
use ravenpost_store::tenant::{Destination, MOST_WAITING_COUNTED};
use serde::Serialize;
use utoipa::ToSchema;

/// An event that a filter's expression failed for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FilterError)]
pub(in crate::api) struct FilterErrorBody {
    /// Why.
    #[schema(example = "No such key: amount")]
    message: String,
    /// For which event.
    event_id: EventId,
    /// When.
    failed_at: DateTime<Utc>,
}

impl From<FilterError> for FilterErrorBody {
    fn from(error: FilterError) -> Self {
        Self { message: error.message, event_id: error.event_id, failed_at: error.failed_at }
    }
}

/// How a destination fares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DestinationState)]
pub(in crate::api) struct DestinationStateBody {
    /// Whether requests are let through: `open` after failures in a row, `half_open` while one tries again.
    breaker: Breaker,
    /// Since when the breaker is open.
    #[schema(required = true)]
    breaker_opened_at: Option<DateTime<Utc>>,
    /// From when on one request tries whether it works again.
    #[schema(required = true)]
    probe_at: Option<DateTime<Utc>>,
    /// Nothing is sent before, since it has answered 429 or 503.
    #[schema(required = true)]
    slow_until: Option<DateTime<Utc>>,
    /// Most requests at once while it starts slowly after a rest; null when it doesn't.
    #[schema(required = true)]
    slow_start: Option<u16>,
    /// Since when it has accepted nothing.
    #[schema(required = true)]
    failing_since: Option<DateTime<Utc>>,
    /// When it accepted last, within ten seconds.
    #[schema(required = true)]
    last_success_at: Option<DateTime<Utc>>,
    /// When an attempt failed last, within ten seconds.
    #[schema(required = true)]
    last_failure_at: Option<DateTime<Utc>>,
    /// When its owner was warned that it is going to be disabled.
    #[schema(required = true)]
    warned_at: Option<DateTime<Utc>>,
    /// Why it was disabled.
    #[schema(required = true)]
    disabled_reason: Option<DisabledReason>,
    /// When it was disabled.
    #[schema(required = true)]
    disabled_at: Option<DateTime<Utc>>,
    /// How many of its events wait, for whatever reason: 1000 may be more, see `waiting_more`.
    waiting: u32,
    /// More than that wait.
    waiting_more: bool,
}

impl DestinationStateBody {
    pub(in crate::api) fn of(destination: &Destination, now: DateTime<Utc>) -> Self {
        let health = &destination.health;
        Self {
            breaker: health.breaker(now),
            breaker_opened_at: health.opened_at,
            probe_at: health.probe_at,
            slow_until: health.slow_until.filter(|until| *until > now),
            slow_start: health.concurrency,
            failing_since: health.failing_since,
            last_success_at: health.last_success_at,
            last_failure_at: health.last_failure_at,
            warned_at: health.warned_at,
            disabled_reason: destination.disabled.map(|(reason, _)| reason),
            disabled_at: destination.disabled.map(|(_, at)| at),
            waiting: destination.waiting.min(MOST_WAITING_COUNTED),
            waiting_more: destination.waiting > MOST_WAITING_COUNTED,
        }
    }
}
