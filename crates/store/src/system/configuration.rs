//! News of changed endpoints, for those who remember them (`LISTEN` and `NOTIFY`).

use std::time::Duration;

use super::System;
use super::listener::{Heard, Listener};
use crate::Result;

/// The channel of the triggers in `migrations/0004_limits.sql`.
const CHANNEL: &str = "ravenpost_configuration";
/// After so much silence the connection is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(5);

/// What is no longer as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The endpoint with this token was made, changed or deleted.
    Endpoint(String),
    /// Anything may have changed: news could have been missed, or concern many endpoints.
    Everything,
}

/// Changes as they are committed, over a connection of its own beside the pool's.
pub struct Changes {
    listener: Listener,
}

impl System {
    /// The changes from now on. Connects with the first [`Changes::next`].
    pub fn configuration_changes(&self) -> Changes {
        Changes { listener: Listener::new(self.clone(), CHANNEL, QUIET) }
    }
}

impl Changes {
    /// Waits for the next change. The first answer after each connection is [`Change::Everything`]: what was committed
    /// before it went unheard. After an error it is worth trying again in a moment. Not to be cancelled halfway.
    pub async fn next(&mut self) -> Result<Change> {
        loop {
            match self.listener.next().await? {
                Heard::Connected => return Ok(Change::Everything),
                Heard::Payload(payload) => return Ok(read(&payload)),
                Heard::Silence => {}
            }
        }
    }
}

fn read(payload: &str) -> Change {
    match payload.strip_prefix("endpoint:") {
        Some(token) => Change::Endpoint(token.to_owned()),
        None => Change::Everything,
    }
}
