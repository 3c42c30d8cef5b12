//! Says in one line what is wrong with the settings: the variable first, because that is what operators set.

use std::error::Error as _;
use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// One line for an error of the parser.
pub(super) fn explain(command: &Command, error: &clap::Error) -> String {
    let arguments = named_arguments(command, error);
    match (error.kind(), arguments.split_first()) {
        (ErrorKind::MissingRequiredArgument, Some((first, others))) => missing(first, others),
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some((argument, _))) => {
            malformed(argument, error)
        }
        _ => first_line(&error.to_string()),
    }
}

/// The variable of a setting, or its flag when it has none.
pub(super) fn name(argument: &Arg) -> String {
    let variable = argument.get_env().and_then(|variable| variable.to_str());
    variable.map_or_else(|| format!("--{}", argument.get_long().unwrap_or_default()), str::to_owned)
}

/// What a setting means, on one line.
pub(super) fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let text = help.map(ToString::to_string).unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The parser takes the last full stop off a short help.
    if text.ends_with(['.', '?', '!']) || text.is_empty() { text } else { format!("{text}.") }
}

fn missing(first: &Arg, others: &[&Arg]) -> String {
    let mut line = format!("{} is not set: {}", name(first), meaning(first));
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|other| name(other)).collect();
        let _ = write!(line, " (also not set: {})", names.join(", "));
    }
    line
}

fn malformed(argument: &Arg, error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    let why = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("choose one of {}", valid.join(", ")),
        (None, _) => "it is malformed".to_owned(),
    };
    let what = if argument.is_hide_env_values_set() {
        // A parser may repeat the value, and what it says may reach a log.
        let why = if why.contains(value) { "it is malformed" } else { &why };
        format!("the value is not valid: {why}")
    } else if why.starts_with(&format!("`{value}`")) {
        why
    } else {
        format!("`{value}` is not valid: {why}")
    };
    first_line(&format!("{}: {}. {}", name(argument), what.trim_end_matches('.'), meaning(argument)))
}

fn named_arguments<'a>(command: &'a Command, error: &clap::Error) -> Vec<&'a Arg> {
    let shown: Vec<&str> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(one)) => vec![one],
        Some(ContextValue::Strings(many)) => many.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    shown.into_iter().filter_map(|shown| find(command, shown)).collect()
}

/// The parser shows an argument as `--name <VALUE>`.
fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let long = shown.split_whitespace().next()?.strip_prefix("--")?;
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(long));
    own.or_else(|| command.get_subcommands().find_map(|subcommand| find(subcommand, shown)))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
