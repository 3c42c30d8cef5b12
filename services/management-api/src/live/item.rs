//! What is told: an accepted event or an attempt, with its place in the stream.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use ravenpost_core::delivery::Outcome;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_store::tenant::{LiveAttempt, LiveEvent};
use uuid::Uuid;

/// One thing that has happened.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event was accepted.
    Accepted(LiveEvent),
    /// An attempt was recorded.
    Attempt(LiveAttempt),
    /// More has happened than the source tells: nobody could read as much.
    Skipped,
}

/// What a listener wants to hear.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveFilter {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// Attempts for one destination.
    pub destination: Option<DestinationId>,
    /// Accepted events only (`true`), or attempts only (`false`).
    pub accepted: Option<bool>,
    /// Attempts that came out so.
    pub outcome: Option<Outcome>,
}

/// A place in the stream: when something was seen to happen, to the millisecond, and its id. The same however often it is
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When.
    pub moment: DateTime<Utc>,
    /// What.
    pub id: Uuid,
}

impl Item {
    /// Its place; `None` when it is none of its own.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Accepted(event) => Some(Place { moment: event.id.drawn_at(), id: event.id.0 }),
            Self::Attempt(attempt) => Some(Place { moment: attempt.recorded_at, id: attempt.id.0 }),
            Self::Skipped => None,
        }
    }
}

impl LiveFilter {
    /// Whether a listener wants to hear of it.
    pub fn wants(&self, item: &Item) -> bool {
        let of = |endpoint: EndpointId| self.endpoint.is_none_or(|wanted| wanted == endpoint);
        match item {
            Item::Accepted(event) => {
                let attempts_only = self.destination.is_some() || self.outcome.is_some();
                of(event.endpoint_id) && self.accepted.unwrap_or(!attempts_only) && !attempts_only
            }
            Item::Attempt(attempt) => {
                of(attempt.endpoint_id)
                    && !self.accepted.unwrap_or(false)
                    && self.destination.is_none_or(|wanted| wanted == attempt.destination_id)
                    && self.outcome.is_none_or(|wanted| wanted == attempt.outcome)
            }
            Item::Skipped => true,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.moment.timestamp_millis(), self.id)
    }
}

/// A text that is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this stream")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (moment, id) = text.split_once('.').ok_or(NoPlace)?;
        let moment = moment.parse().ok().filter(|moment| (0..(1 << 47)).contains(moment));
        let moment = moment.and_then(DateTime::from_timestamp_millis).ok_or(NoPlace)?;
        Ok(Self { moment, id: id.parse().map_err(|_| NoPlace)? })
    }
}

#[cfg(test)]
mod tests {
    use ravenpost_core::ids::EventId;

    use super::*;

    fn accepted() -> Item {
        let now = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        Item::Accepted(LiveEvent {
            id: EventId::new(now, [7; 10]),
            endpoint_id: EndpointId::new(now, [1; 10]),
            received_at: now,
            event_type: None,
            payload_bytes: 1,
        })
    }

    #[test]
    fn a_place_reads_back() {
        let place = accepted().place().unwrap();
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!(place.moment.timestamp_millis(), 1_700_000_000_123);
        for text in ["", ".", "1.x", "-1.018bcfe5-687b-7707-8707-070707070707", "99999999999999999999.x", "x"]
        {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }

    #[test]
    fn who_wants_attempts_hears_of_no_events() {
        let event = accepted();
        let wants = |filter: LiveFilter| filter.wants(&event);
        assert!(wants(LiveFilter::default()));
        assert!(wants(LiveFilter { accepted: Some(true), ..LiveFilter::default() }));
        assert!(!wants(LiveFilter { accepted: Some(false), ..LiveFilter::default() }));
        assert!(!wants(LiveFilter { outcome: Some(Outcome::Timeout), ..LiveFilter::default() }));
        let other = DestinationId(Uuid::nil());
        assert!(!wants(LiveFilter { destination: Some(other), ..LiveFilter::default() }));
        assert!(!wants(LiveFilter { endpoint: Some(EndpointId(Uuid::nil())), ..LiveFilter::default() }));
        assert!(LiveFilter { accepted: Some(false), ..LiveFilter::default() }.wants(&Item::Skipped));
    }
}
