//! The page of all settings of a binary, generated from the definitions themselves.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::explain::{meaning, name};

/// A Markdown table of every setting that has a variable, in the order of definition; a table for each subcommand
/// that has settings of its own follows.
pub(super) fn markdown(command: &Command) -> String {
    let mut page = String::new();
    section(&mut page, command, command.get_bin_name().unwrap_or(command.get_name()));
    page
}

fn section(page: &mut String, command: &Command, path: &str) {
    let settings: Vec<&Arg> =
        command.get_arguments().filter(|argument| argument.get_env().is_some()).collect();
    if !settings.is_empty() {
        let separator = if page.is_empty() { "" } else { "\n" };
        let _ = writeln!(page, "{separator}### `{path}`\n");
        page.push_str("| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n");
        for setting in settings {
            page.push_str(&row(setting));
        }
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let path = format!("{path} {}", subcommand.get_name());
        section(page, subcommand, &path);
    }
}

fn row(setting: &Arg) -> String {
    let flag = setting.get_long().map(|long| format!("`--{long}`")).unwrap_or_default();
    let meaning = format!("{}{}", meaning(setting), choices(setting)).replace('|', "\\|");
    format!("| `{}` | {flag} | {} | {meaning} |\n", name(setting), default(setting))
}

fn default(setting: &Arg) -> String {
    let defaults: Vec<_> = setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !setting.get_action().takes_values() {
        return "`false`".to_owned();
    }
    match (defaults.is_empty(), setting.is_required_set()) {
        (false, _) => format!("`{}`", defaults.join(",")),
        (true, true) => "required".to_owned(),
        (true, false) => "none".to_owned(),
    }
}

fn choices(setting: &Arg) -> String {
    let values = setting.get_possible_values();
    // Every flag has true and false; only real choices are worth a word.
    if !setting.get_action().takes_values() || values.is_empty() {
        return String::new();
    }
    let names: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    format!(" One of {}.", names.join(", "))
}
