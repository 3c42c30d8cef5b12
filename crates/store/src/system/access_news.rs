//! News of changed API keys and memberships, for those who remember them (`LISTEN` and `NOTIFY`).

use std::time::Duration;

use ravenpost_core::ids::UserId;

use super::System;
use super::listener::{Heard, Listener};
use crate::Result;

/// The channel of the triggers in `migrations/0013_identity.sql`.
const CHANNEL: &str = "ravenpost_access";
/// After so much silence the connection is asked whether it is still there: what is revoked has to be so within a second
/// also when the connection has died without a word.
const QUIET: Duration = Duration::from_millis(200);

/// What is no longer as it was, or that nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// The API key with this prefix was made, changed or revoked.
    ApiKey(String),
    /// The person's memberships have changed.
    User(UserId),
    /// Anything may have changed: news could have been missed.
    Everything,
    /// Nothing has, until just now: the connection was asked and has answered.
    Nothing,
}

/// Changes as they are committed, over a connection of its own beside the pool's.
pub struct AccessChanges {
    listener: Listener,
}

impl System {
    /// The changes from now on. Connects with the first [`AccessChanges::next`].
    pub fn access_changes(&self) -> AccessChanges {
        AccessChanges { listener: Listener::new(self.clone(), CHANNEL, QUIET) }
    }
}

impl AccessChanges {
    /// Waits for the next change, or for proof that there was none: while the connection lives, the next answer comes
    /// within a fraction of a second. The first one after each connection is [`AccessChange::Everything`]. After an error
    /// it is worth trying again in a moment. Not to be cancelled halfway.
    pub async fn next(&mut self) -> Result<AccessChange> {
        Ok(match self.listener.next().await? {
            Heard::Connected => AccessChange::Everything,
            Heard::Silence => AccessChange::Nothing,
            Heard::Payload(payload) => read(&payload),
        })
    }
}

fn read(payload: &str) -> AccessChange {
    let user = || payload.strip_prefix("user:")?.parse().ok();
    match payload.strip_prefix("key:") {
        Some(prefix) => AccessChange::ApiKey(prefix.to_owned()),
        None => user().map_or(AccessChange::Everything, AccessChange::User),
    }
}
