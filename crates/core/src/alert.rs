//! What people are told of: a rule says when something is trouble, a watch knows how a destination has fared, and
//! judging one by the other is pure: time is an argument.
//!
//! ```text
//! outcome ──▶ Watch ──▶ judge(Condition, Watch, now) ──▶ Trouble(Evidence) | Well | Undecided
//!                            Rule: scope, severity, cool-down, quiet ──▶ alert (firing → acknowledged → resolved)
//! ```

pub mod channel;
pub mod condition;
pub mod judge;
pub mod rule;
pub mod watch;

pub use channel::{ChannelConfig, ChannelType};
pub use condition::{Condition, ConditionName};
pub use judge::{Evidence, Judgement, judge};
pub use rule::{Rule, RuleKey, Scope, Severity};
pub use watch::{Seen, Watch};

/// A value of a rule or channel that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Which field.
    pub field: &'static str,
    /// What it has to be.
    pub message: String,
}

impl Invalid {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}
