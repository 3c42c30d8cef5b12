//! What is known of an attempt while it lasts, so that it can be told however it ends.

use std::net::SocketAddr;

use ravenpost_core::delivery::{Failure, FailureKind, Phases, Response};

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
    /// Whether it has failed so since the name server, or the name's own, did not say what the name is.
    pub(crate) fn is_unresolved(&self, failure: &Failure) -> bool {
        self.stage == Stage::Name
            && self.phases.dns.is_none()
            && matches!(failure.kind, FailureKind::Dns | FailureKind::Timeout)
    }

    /// What a response said that was no success, although its body did not end well: a destination that is gone is so however
    /// it says that. A success has to be whole.
    pub(crate) fn refusal(&mut self) -> Option<Response> {
        self.begun.take().filter(|response| !(200..300).contains(&response.status))
    }
}
