//! `matches`: the regular expressions of one expression, each match within bounds.
//!
//! A match takes as long as its text times the states of its pattern that are alive at once, which a stranger can make
//! all of them, and nothing stops it half-way. So the text is short, counts as steps, and the time is looked at on both
//! sides of it.

use std::collections::HashMap;

use cel::common::types::CelString;
use cel::common::value::CowVal;
use cel::{Context, DeclarationError, ExecutionError, FunctionContext};
use regex::Regex;

use super::check::MATCHES;
use super::guard::{LOOK, STEP};

/// The longest text that a regular expression is looked for in, in bytes.
const MAX_TEXT: usize = 16 * 1_024;
/// How many bytes of it count as a step.
const BYTES_A_STEP: usize = 64;

/// Adds `matches` with these patterns, by what is written.
pub(super) fn add(
    context: &mut Context<'_, '_>,
    patterns: HashMap<String, Regex>,
) -> Result<(), DeclarationError> {
    let matches = move |call: &FunctionContext<'_, '_>| -> Result<bool, ExecutionError> {
        let subject = call.this.as_ref().and_then(text);
        let pattern = call.args.first().and_then(text).and_then(|written| patterns.get(written));
        let (Some(subject), Some(pattern)) = (subject, pattern) else {
            return Err(call.error("it is for texts"));
        };
        if subject.len() > MAX_TEXT {
            return Err(call.error(format!("it is for texts of up to {MAX_TEXT} bytes")));
        }
        call.ptx.get_variable(LOOK);
        for _ in 0..subject.len() / BYTES_A_STEP {
            call.ptx.get_variable(STEP);
        }
        let is_match = pattern.is_match(subject);
        call.ptx.get_variable(LOOK);
        Ok(is_match)
    };
    context.add_function(MATCHES, matches)
}

fn text<'a>(value: &'a CowVal<'_, '_>) -> Option<&'a str> {
    value.downcast_ref::<CelString<'_>>().map(CelString::inner)
}
