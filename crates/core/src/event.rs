//! One accepted webhook: what its request makes of it, its status and where its payload is.

mod content;

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, RejectedRequestId};

pub use content::{Content, digest};

/// Where an event stands over all its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventStatus {
    /// At least one destination still waits for it, or it is not routed yet.
    Pending,
    /// Every destination has accepted it.
    Success,
    /// Nothing waits any more, and at least one destination was given up.
    Failed,
    /// No destination wanted it.
    Dropped,
}

impl EventStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Success, Self::Failed, Self::Dropped];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Dropped => "DROPPED",
        }
    }

    /// The inverse of [`EventStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What `ce_type` says of an event whose producer named no type: CloudEvents wants one (CloudEvents 1.0, `type`).
pub const UNTYPED: &str = "ravenpost.event";

/// Where the payload of an event is in the payload store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PayloadLocation {
    /// The object's key.
    pub s3_key: String,
    /// Where the payload begins in a segment, in bytes; 0 in an object of its own.
    pub s3_offset: i64,
    /// The payload's length in bytes.
    pub s3_length: i64,
}

impl PayloadLocation {
    /// So many bytes of an object, from `offset` on.
    pub fn within(s3_key: String, offset: usize, length: usize) -> Self {
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Self { s3_key, s3_offset: number(offset), s3_length: number(length) }
    }

    /// Where a payload of so many bytes is that has an object of its own.
    pub fn of_event(event: EventId, length: usize) -> Self {
        Self::within(Self::object_key(event), 0, length)
    }

    /// How the keys of payloads that have objects of their own begin, and those of segments.
    pub const PREFIXES: [&str; 2] = ["payloads/", "payloads/segments/"];

    /// The key of a payload that has an object of its own.
    pub fn object_key(event: EventId) -> String {
        format!("payloads/{event}.json")
    }

    /// After which event an object with payloads is named; `None` when it is none.
    pub fn event_of_key(key: &str) -> Option<EventId> {
        let name = match key.strip_prefix("payloads/segments/") {
            Some(segment) => segment,
            None => key.strip_prefix("payloads/")?.strip_suffix(".json")?,
        };
        name.parse().ok()
    }

    /// The key of a segment, which holds the payloads of a whole batch; it is named after its first event.
    pub fn segment_key(first: EventId) -> String {
        format!("payloads/segments/{first}")
    }

    /// Where the body of a rejected request is, so many bytes of it.
    pub fn of_rejected(request: RejectedRequestId, length: i64) -> Self {
        Self { s3_key: format!("rejected/{request}"), s3_offset: 0, s3_length: length }
    }

    /// Whether other payloads stand in the same object.
    pub fn is_in_segment(&self) -> bool {
        self.s3_key.starts_with("payloads/segments/")
    }
}
