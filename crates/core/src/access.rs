//! Who may do what: actors, roles and scopes, what each operation demands; the credentials of our own that prove it.

mod operation;
mod person;
mod role;
mod scope;
mod token;

use base64::Engine as _;
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
    }
}
