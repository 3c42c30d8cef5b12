//! What a destination wants of what its endpoint accepts: types, and one expression over the event.
//!
//! The language is that of [CEL](https://cel.dev), read and evaluated by the crate `cel`, and less of it: nothing that
//! builds large values or that loops over more than the event has ([`check`] says what). What is left is bounded by
//! construction where it can be, and by counted steps and time where it can't ([`guard`]). docs/filters.md is the
//! customer's view of it.
//!
//! An expression that fails at run time wants the event: a filter may let too much through, it never loses anything.

mod body;
mod check;
mod evaluate;
mod glob;
mod guard;
mod message;
mod pattern;
mod place;

use serde::{Deserialize, Serialize};

pub use evaluate::{Facts, Failed};
pub use glob::Glob;

use check::Program;

/// Most patterns of event types.
pub const MAX_EVENT_TYPES: usize = 50;
/// The longest expression in bytes.
pub const MAX_EXPRESSION: usize = 2_048;
/// The largest body that an expression can look at, in bytes.
pub const MAX_BODY: usize = 256 * 1_024;
/// Bodies up to this size are looked at on the spot, if the expression is light.
pub const LIGHT_BODY: usize = 16 * 1_024;
/// The stack in bytes that a thread needs to ask what is not light.
pub const STACK: usize = 8 * 1_024 * 1_024;

/// Which events a destination gets. It gets those that fit both; what is absent fits everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Patterns, one of which the event's type has to match: `*` stands for any characters, or for none. Empty or
    /// absent: every type. An event without a type matches only `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 50, example = json!(["invoice.*", "customer.created"]))]
    pub event_types: Vec<Glob>,
    /// A CEL expression over `type`, `headers`, `body` and `endpoint` that is true for the events that are wanted. One
    /// that fails for an event wants it, and the failure is shown as the destination's `filter_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048, example = "body.amount >= 1000 && headers['x-region'] in ['eu', 'us']")]
    pub expression: Option<String>,
}

/// The field that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Its path within the filter, such as `event_types[2]`.
    pub field: String,
    /// What is wrong with it, and where.
    pub message: String,
}

impl Filter {
    /// Lets everything through.
    pub fn is_empty(&self) -> bool {
        self.event_types.is_empty() && self.expression.is_none()
    }

    /// Checks all bounds and the expression.
    pub fn check(&self) -> Result<(), Invalid> {
        Compiled::new(self).map(|_| ())
    }

    /// Whether an event of this type may be wanted; `""` is one without a type.
    pub fn wants_type(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|glob| glob.matches(event_type))
    }
}

/// A filter that is ready to be asked, from any thread.
#[derive(Debug)]
pub struct Compiled {
    filter: Filter,
    program: Option<Program>,
}

impl Compiled {
    /// Checks and compiles a filter.
    pub fn new(filter: &Filter) -> Result<Self, Invalid> {
        if filter.event_types.len() > MAX_EVENT_TYPES {
            let message = format!("at most {MAX_EVENT_TYPES} patterns");
            return Err(Invalid { field: "event_types".to_owned(), message });
        }
        for (index, glob) in filter.event_types.iter().enumerate() {
            glob.check().map_err(|message| Invalid { field: format!("event_types[{index}]"), message })?;
        }
        let program = filter.expression.as_deref().map(check::compile).transpose();
        let program = program.map_err(|message| Invalid { field: "expression".to_owned(), message })?;
        Ok(Self { filter: filter.clone(), program })
    }

    /// What it was made of.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether the expression looks at the body.
    pub fn reads_body(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.reads_body)
    }

    /// Whether it is answered in a fraction of a millisecond for a body of this size: it has no loop and no regular
    /// expression, and few operations that read more than a constant.
    pub fn is_light(&self, body_bytes: usize) -> bool {
        let small = body_bytes <= LIGHT_BODY || !self.reads_body();
        self.program.as_ref().is_none_or(|program| program.is_light && small)
    }

    /// Whether the expression wants the event; its type is not asked for here. `out_of_time` is asked now and then and
    /// ends the evaluation. An `Err` means that the event is wanted, and that somebody should hear of it.
    pub fn ask(&self, facts: &Facts<'_>, out_of_time: &(dyn Fn() -> bool + Sync)) -> Result<bool, Failed> {
        let Some(program) = &self.program else { return Ok(true) };
        let expression = self.filter.expression.as_deref().unwrap_or_default();
        evaluate::ask(program, expression, facts, out_of_time)
    }
}

#[cfg(test)]
mod tests;
