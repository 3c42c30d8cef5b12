//! Who may do what: actors, roles and scopes, what each operation demands; the credentials of our own that prove it.

mod operation;
mod person;
mod role;
mod scope;
mod token;

use base64::Engine as _;
use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{ApiKeyId, UserId};

pub use operation::{Demand, OPERATIONS, Operation, demand_of};
pub use person::{display_name, first_organization};
pub use role::Role;
pub use scope::Scope;
pub use token::{ApiKey, InvitationToken};

/// Who does something: told by the audit log, and what a request's rights are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "snake_case")]
pub enum Actor {
    /// A program, by the key that it presented.
    ApiKey(ApiKeyId),
    /// A person who has logged in.
    User(UserId),
}

/// An opaque cursor over a list: the id after which the next page begins.
pub fn encode_cursor(id: uuid::Uuid) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// The inverse of [`encode_cursor`]; `None` when it is none of ours.
pub fn decode_cursor(text: &str) -> Option<uuid::Uuid> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    uuid::Uuid::from_slice(&bytes).ok()
}

/// As [`encode_cursor`], for a list that is ordered by two ids.
pub fn encode_pair_cursor(first: uuid::Uuid, second: uuid::Uuid) -> String {
    let bytes = [*first.as_bytes(), *second.as_bytes()].concat();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The inverse of [`encode_pair_cursor`]; `None` when it is none of ours.
pub fn decode_pair_cursor(text: &str) -> Option<(uuid::Uuid, uuid::Uuid)> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    let (first, second) = bytes.split_at_checked(16)?;
    Some((uuid::Uuid::from_slice(first).ok()?, uuid::Uuid::from_slice(second).ok()?))
}

/// As [`encode_pair_cursor`], for a list that is ordered by a time before. Times are kept to the microsecond.
pub fn encode_timed_cursor(time: DateTime<Utc>, first: uuid::Uuid, second: uuid::Uuid) -> String {
    let time = time.timestamp_micros().to_be_bytes();
    let bytes = [time.as_slice(), first.as_bytes(), second.as_bytes()].concat();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The inverse of [`encode_timed_cursor`]; `None` when it is none of ours.
pub fn decode_timed_cursor(text: &str) -> Option<(DateTime<Utc>, uuid::Uuid, uuid::Uuid)> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    let (time, ids) = bytes.split_first_chunk()?;
    let (first, second) = ids.split_at_checked(16)?;
    let time = DateTime::from_timestamp_micros(i64::from_be_bytes(*time))?;
    // Postgres knows no time beyond these years.
    let known = (-4_000..200_000).contains(&time.year());
    let ids = (uuid::Uuid::from_slice(first).ok()?, uuid::Uuid::from_slice(second).ok()?);
    known.then_some((time, ids.0, ids.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_opaque_and_read_back() {
        let id = uuid::Uuid::from_u128(42);
        assert_eq!(decode_cursor(&encode_cursor(id)), Some(id));
        assert_eq!(decode_cursor("not a cursor"), None);
        let other = uuid::Uuid::from_u128(7);
        assert_eq!(decode_pair_cursor(&encode_pair_cursor(id, other)), Some((id, other)));
        assert_eq!(decode_pair_cursor(&encode_cursor(id)), None);
        let time = DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap();
        assert_eq!(decode_timed_cursor(&encode_timed_cursor(time, id, other)), Some((time, id, other)));
        assert_eq!(decode_timed_cursor(&encode_pair_cursor(id, other)), None);
        let never = encode_timed_cursor(DateTime::<Utc>::MAX_UTC, id, other);
        assert_eq!(decode_timed_cursor(&never), None);
    }
}
