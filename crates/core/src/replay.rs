//! Bulk replay: which pairs of event and destination a job puts back, and where the job stands.

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};

use crate::event::EventStatus;
use crate::ids::{DestinationId, EndpointId};

/// Bounds of a job's rate, in deliveries a second to each destination.
pub const RATE_BOUNDS: (u32, u32) = (1, 10_000);
/// Dead letters of so many runs are replayed by themselves: an event that dies again and again is left to a person.
pub const AUTOMATIC_RUNS: i32 = 3;
/// So many failures in a row are an outage, and the success that follows is the recovery.
pub const OUTAGE_FAILURES: i32 = 3;
/// The longest event type or reason that is filtered by, in bytes.
const MAX_WORD: usize = 256;

/// Which pairs of event and destination are replayed: those that meet every condition. What waits already comes by
/// itself and is never among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayFilter {
    /// Of one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// To one destination; without it, to all current destinations of the endpoint or of all endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_id: Option<DestinationId>,
    /// How the event stands with the destination: `FAILED` was given up, `SUCCESS` was delivered, `DROPPED` was never
    /// meant for it (the destination did not exist yet, or did not want it). `["FAILED"]` unless given.
    #[schema(example = json!(["FAILED"]))]
    pub status: Vec<EventStatus>,
    /// Of that type, as the producer names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Given up for that reason, as the dead letter tells it; with `FAILED` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "timeout")]
    pub reason: Option<String>,
    /// Received at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_after: Option<DateTime<Utc>>,
    /// Received before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_before: Option<DateTime<Utc>>,
    /// Given up at or after; of what was not given up: received at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

impl Default for ReplayFilter {
    fn default() -> Self {
        Self {
            endpoint_id: None,
            destination_id: None,
            status: vec![EventStatus::Failed],
            event_type: None,
            reason: None,
            received_after: None,
            received_before: None,
            since: None,
        }
    }
}

/// Why a filter makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Nothing could match.
    #[error("at least one of FAILED, SUCCESS and DROPPED")]
    NoStatus,
    /// It will be delivered anyway.
    #[error("what is PENDING is delivered by itself")]
    Pending,
    /// No event has a type so long.
    #[error("1 to {MAX_WORD} bytes")]
    EventType,
    /// No dead letter has such a reason.
    #[error("1 to {MAX_WORD} bytes")]
    Reason,
    /// Only what was given up has a reason.
    #[error("only what is FAILED has a reason: status must be [\"FAILED\"]")]
    ReasonOfNothing,
    /// The times leave nothing between them.
    #[error("must be later than received_after")]
    NoTime,
    /// No calendar of ours has such a year. Which field says so.
    #[error("a time of the years 0000 to 9999")]
    FarOff(&'static str),
}

impl InvalidFilter {
    /// The field that is wrong.
    pub fn field(self) -> &'static str {
        match self {
            Self::NoStatus | Self::Pending => "status",
            Self::EventType => "event_type",
            Self::Reason | Self::ReasonOfNothing => "reason",
            Self::NoTime => "received_before",
            Self::FarOff(field) => field,
        }
    }
}

impl ReplayFilter {
    /// Checks what a deserialized filter may say and should not.
    pub fn check(&self) -> Result<(), InvalidFilter> {
        let is_word = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| (1..=MAX_WORD).contains(&text.len()) && !text.contains('\0'))
        };
        if self.status.is_empty() {
            return Err(InvalidFilter::NoStatus);
        }
        if self.wants(EventStatus::Pending) {
            return Err(InvalidFilter::Pending);
        }
        if !is_word(&self.event_type) {
            return Err(InvalidFilter::EventType);
        }
        if !is_word(&self.reason) {
            return Err(InvalidFilter::Reason);
        }
        if self.reason.is_some() && self.status.iter().any(|status| *status != EventStatus::Failed) {
            return Err(InvalidFilter::ReasonOfNothing);
        }
        let times = [
            ("received_after", self.received_after),
            ("received_before", self.received_before),
            ("since", self.since),
        ];
        let is_far_off = |time: DateTime<Utc>| !(0..=9_999).contains(&time.year());
        if let Some((field, _)) = times.into_iter().find(|(_, time)| time.is_some_and(is_far_off)) {
            return Err(InvalidFilter::FarOff(field));
        }
        match (self.received_after, self.received_before) {
            (Some(after), Some(before)) if after >= before => Err(InvalidFilter::NoTime),
            _ => Ok(()),
        }
    }

    /// Whether pairs of that status are replayed.
    pub fn wants(&self, status: EventStatus) -> bool {
        self.status.contains(&status)
    }
}

/// Who asked for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayKind {
    /// A person, by a filter.
    Replay,
    /// A person: all that failed since some time.
    Recover,
    /// Nobody: the destination has recovered.
    Automatic,
}

impl ReplayKind {
    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Recover => "recover",
            Self::Automatic => "automatic",
        }
    }

    /// The inverse of [`ReplayKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Replay, Self::Recover, Self::Automatic].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// Made, and not begun.
    Queued,
    /// It schedules, or some of what it has scheduled was not sent for the first time yet.
    Running,
    /// A person has stopped it for a while.
    Paused,
    /// A person has ended it; what was not sent is withdrawn.
    Cancelled,
    /// Everything that it has scheduled was sent once at least.
    Done,
    /// It could not go on with one of its destinations.
    Failed,
}

impl ReplayState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Paused, Self::Cancelled, Self::Done, Self::Failed];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The inverse of [`ReplayState::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a person may do to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Stop scheduling for a while.
    Pause,
    /// Go on.
    Resume,
    /// End it for good.
    Cancel,
}

impl Steer {
    /// The state that it leads to; `None` where it makes no sense.
    pub fn leads_from(self, state: ReplayState) -> Option<ReplayState> {
        match (self, state) {
            (Self::Pause, ReplayState::Queued | ReplayState::Running) => Some(ReplayState::Paused),
            (Self::Resume, ReplayState::Paused) => Some(ReplayState::Running),
            (Self::Cancel, ReplayState::Queued | ReplayState::Running | ReplayState::Paused) => {
                Some(ReplayState::Cancelled)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(text: serde_json::Value) -> ReplayFilter {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_filter_reads_back_and_means_what_failed_unless_told_otherwise() {
        let empty = filter(json!({}));
        assert_eq!((empty.status.as_slice(), empty.check()), ([EventStatus::Failed].as_slice(), Ok(())));
        let full = json!({ "status": ["SUCCESS", "DROPPED"], "event_type": "push",
            "received_after": "2026-01-01T00:00:00Z", "received_before": "2026-01-02T00:00:00Z" });
        assert_eq!(serde_json::to_value(filter(full.clone())).unwrap(), full);
        assert!(serde_json::from_value::<ReplayFilter>(json!({ "state": "FAILED" })).is_err());
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_by_its_field() {
        for (text, error) in [
            (json!({ "status": [] }), InvalidFilter::NoStatus),
            (json!({ "status": ["FAILED", "PENDING"] }), InvalidFilter::Pending),
            (json!({ "event_type": "" }), InvalidFilter::EventType),
            (json!({ "reason": "x".repeat(300) }), InvalidFilter::Reason),
            (json!({ "reason": "a\0b" }), InvalidFilter::Reason),
            (json!({ "status": ["FAILED", "DROPPED"], "reason": "timeout" }), InvalidFilter::ReasonOfNothing),
            (
                json!({ "received_after": "2026-01-01T00:00:00Z", "received_before": "2026-01-01T00:00:00Z" }),
                InvalidFilter::NoTime,
            ),
        ] {
            let wrong = filter(text.clone());
            assert_eq!(wrong.check(), Err(error), "{text}");
            assert!(text.get(error.field()).is_some(), "{text}");
        }
    }

    #[test]
    fn a_job_is_steered_only_where_it_makes_sense() {
        use ReplayState::{Cancelled, Done, Failed, Paused, Queued, Running};
        for (steer, allowed, to) in [
            (Steer::Pause, [Queued, Running].as_slice(), Paused),
            (Steer::Resume, &[Paused], Running),
            (Steer::Cancel, &[Queued, Running, Paused], Cancelled),
        ] {
            for state in [Queued, Running, Paused, Cancelled, Done, Failed] {
                assert_eq!(
                    steer.leads_from(state),
                    allowed.contains(&state).then_some(to),
                    "{steer:?} {state:?}"
                );
            }
        }
    }

    #[test]
    fn every_word_reads_back() {
        for state in ReplayState::ALL {
            assert_eq!(ReplayState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for kind in [ReplayKind::Replay, ReplayKind::Recover, ReplayKind::Automatic] {
            assert_eq!(ReplayKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
