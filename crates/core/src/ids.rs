//! Ids are types: a UUIDv7 (RFC 9562) with a name, so that an event's id can't be passed where an endpoint's is meant.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// An id that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Draws an id that sorts by `now`.
            pub fn new(now: DateTime<Utc>, random: [u8; 10]) -> Self {
                Self(uuid_v7(now, random))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// The tenant.
    OrganizationId
);
id!(
    /// An inbound address.
    EndpointId
);
id!(
    /// One target URL of an endpoint.
    DestinationId
);
id!(
    /// One accepted webhook. Also the `webhook-id` that receivers deduplicate by.
    EventId
);
id!(
    /// One attempt to hand one event to one destination.
    DeliveryId
);
id!(
    /// One of several secrets of an endpoint or a destination: its row, not itself.
    SecretId
);
id!(
    /// A key pair that an organization's deliveries are signed with; the `kid` of its public half.
    SigningKeyId
);
id!(
    /// An API key's row, not the key.
    ApiKeyId
);
id!(
    /// A person, who may be a member of several organizations.
    UserId
);
id!(
    /// An invitation to become a member.
    InvitationId
);
id!(
    /// Where alerts are sent.
    ChannelId
);
id!(
    /// Something that is going wrong.
    AlertId
);
id!(
    /// What an organization wants to be told of.
    AlertRuleId
);
id!(
    /// One thing to be told to one channel.
    NotificationId
);
id!(
    /// An inbound request that failed verification.
    RejectedRequestId
);
id!(
    /// A bulk replay.
    ReplayJobId
);
id!(
    /// One run of an ingress process: it owns the lanes it commits through.
    InstanceId
);

fn uuid_v7(now: DateTime<Utc>, random: [u8; 10]) -> Uuid {
    let milliseconds = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

impl EventId {
    /// Below every id that is drawn from `moment` on, and above all that were drawn a millisecond earlier.
    pub fn floor(moment: DateTime<Utc>) -> Self {
        let milliseconds = u128::try_from(moment.timestamp_millis()).unwrap_or(0);
        // The first 48 bits of a UUIDv7 are milliseconds (RFC 9562, 5.7).
        Self(Uuid::from_u128(milliseconds << 80))
    }

    /// The millisecond that its first 48 bits name; of [`EventId::floor`], too.
    pub fn drawn_at(self) -> DateTime<Utc> {
        let milliseconds = i64::try_from(self.0.as_u128() >> 80).unwrap_or(0);
        DateTime::from_timestamp_millis(milliseconds).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The id just below this one.
    #[must_use]
    pub fn predecessor(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_sub(1)))
    }

    /// The id just above this one.
    #[must_use]
    pub fn successor(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_add(1)))
    }

    /// When the id was drawn, to the millisecond; `None` when it is not a UUIDv7.
    pub fn timestamp(self) -> Option<DateTime<Utc>> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    }
}

/// Ids of one process in the order in which they are drawn, also within a millisecond and when the clock steps back.
#[derive(Debug, Default)]
pub struct EventIds {
    last: Option<Uuid>,
}

impl EventIds {
    /// Ids that are greater than the one of the run of ingress that draws them.
    pub fn of(instance: InstanceId) -> Self {
        Self { last: Some(instance.0) }
    }

    /// The next id: drawn from `now` and `random`, or the last one plus one where that would not be greater.
    pub fn next(&mut self, now: DateTime<Utc>, random: [u8; 10]) -> EventId {
        let drawn = uuid_v7(now, random);
        let id = match self.last {
            Some(last) if drawn <= last => Uuid::from_u128(last.as_u128() + 1),
            _ => drawn,
        };
        self.last = Some(id);
        EventId(id)
    }
}

/// A stable 16-bit hash of an endpoint: who owns its rows and, modulo the number of partitions, its Kafka partition.
///
/// Slots are stored rather than partition numbers, so that partitions can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The first two bytes of SHA-256 over the id's sixteen bytes.
    pub fn of(endpoint: EndpointId) -> Self {
        let digest = Sha256::digest(endpoint.0.as_bytes());
        Self(u16::from_be_bytes([digest[0], digest[1]]))
    }

    /// The Kafka partition among `partitions` (at least one).
    pub fn partition(self, partitions: i32) -> i32 {
        i32::from(self.0) % partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_when_the_clock_steps_back() {
        let mut ids = EventIds::default();
        let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let first = ids.next(now, [255; 10]);
        let second = ids.next(now, [0; 10]);
        let third = ids.next(now - chrono::TimeDelta::seconds(5), [7; 10]);
        assert!(first < second && second < third);
        assert_eq!(first.timestamp(), Some(now));
        assert_eq!((first.drawn_at(), EventId::floor(now).drawn_at()), (now, now));
    }

    #[test]
    fn a_slot_never_changes() {
        let endpoint: EndpointId = "018f5d1e-7c1b-7a3e-9c55-0242ac120002".parse().unwrap();
        assert_eq!(Slot::of(endpoint), Slot(SLOT_OF_THE_EXAMPLE));
        assert_eq!(Slot(65_535).partition(12), 65_535 % 12);
    }

    // sha256 over the sixteen bytes, computed once by hand: `xxd -r -p | sha256sum`.
    const SLOT_OF_THE_EXAMPLE: u16 = 0xd3fb;
}
