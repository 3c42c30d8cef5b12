//! What is known of an attempt while it lasts, so that it can be told however it ends.

use std::net::SocketAddr;

use ravenpost_core::delivery::Phases;

use crate::classify::Stage;

/// Filled in as the attempt goes on.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) phases: Phases,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) stage: Stage,
}
