//! What is known of an attempt while it lasts, so that it can be told however it ends.

use std::net::SocketAddr;

use ravenpost_core::delivery::{Phases, Response};

use crate::classify::Stage;

/// Filled in as the attempt goes on.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) phases: Phases,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) stage: Stage,
    /// A response whose body is being read.
    pub(crate) begun: Option<Response>,
}

impl Seen {
    /// What a response said that was no success, although its body did not end well: a destination that is gone is so however
    /// it says that. A success has to be whole.
    pub(crate) fn refusal(&mut self) -> Option<Response> {
        self.begun.take().filter(|response| !(200..300).contains(&response.status))
    }
}
