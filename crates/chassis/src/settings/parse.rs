//! From arguments and environment to settings, or to one line that says what is missing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::ErrorKind;

use super::{Service, arguments, explain, reference};

const PREFIX: &str = "RAVENPOST_";
/// Names that Kubernetes sets for every service of the namespace, such as `RAVENPOST_INGRESS_PORT_8080_TCP`.
const SERVICE_LINKS: [&str; 4] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_PORT_"];

/// Why there are no settings to start with.
#[derive(Debug, PartialEq, Eq)]
pub enum Halt {
    /// The user asked for this text (help, version, reference): print it to stdout, exit with 0.
    Print(String),
    /// One line, beginning with the program's name: print it to stderr, exit with 2.
    Refuse(String),
}

/// Parses `args` (the first is the program) with `lookup` for environment variables.
///
/// Reads files that `…_FILE` variables name; touches nothing else.
pub fn parse_from<S: Service>(
    args: Vec<OsString>,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<S, Halt> {
    let command = command::<S>();
    if args.iter().any(|argument| argument == "--settings-reference") {
        return Err(Halt::Print(reference::markdown(&command)));
    }
    let refuse = |why: String| Halt::Refuse(format!("ravenpost-{}: {why}", S::NAME));
    let args =
        arguments::with_variables(&command, args, lookup).map_err(|error| refuse(error.to_string()))?;
    let parsed = without_environment(command.clone()).try_get_matches_from(args);
    match parsed.and_then(|matches| S::from_arg_matches(&matches)) {
        Ok(settings) => Ok(settings),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Err(Halt::Print(error.to_string()))
        }
        Err(error) => Err(refuse(explain::explain(&command, &error))),
    }
}

/// The variables that look like ours but are none of the service's, each with the nearest that is, if one is near.
pub(crate) fn unknown_variables<S: Service>(
    present: impl Iterator<Item = OsString>,
) -> Vec<(String, Option<String>)> {
    let mut known = BTreeSet::new();
    collect_variables(&command::<S>(), &mut known);
    let ours = present.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(PREFIX));
    ours.filter(|name| !known.contains(name.strip_suffix("_FILE").unwrap_or(name)))
        .filter(|name| !is_service_link(name))
        .map(|name| {
            let nearest = nearest(&known, &name);
            (name, nearest)
        })
        .collect()
}

fn command<S: Service>() -> Command {
    let name = format!("ravenpost-{}", S::NAME);
    S::command()
        .bin_name(name.clone())
        .display_name(name)
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
        .mut_arg("admin_addr", |argument| argument.required(false).default_value(S::ADMIN_ADDR))
}

/// The values were made flags already; read twice they would win over nothing but cost clear messages.
fn without_environment(command: Command) -> Command {
    // Help still names each variable, though not its value: that may be a secret.
    command
        .mut_args(|argument| {
            match argument.get_env().and_then(OsStr::to_str).map(|name| format!("[env: {name}]")) {
                Some(note) => {
                    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                    let argument = match argument.get_long_help().map(ToString::to_string) {
                        Some(long) => argument.long_help(format!("{long} {note}")),
                        None => argument,
                    };
                    argument.help(format!("{help} {note}")).env(None::<&'static str>)
                }
                None => argument,
            }
        })
        .mut_subcommands(without_environment)
}

fn collect_variables(command: &Command, known: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env).filter_map(OsStr::to_str);
    known.extend(variables.map(str::to_owned));
    for subcommand in command.get_subcommands() {
        collect_variables(subcommand, known);
    }
}

fn is_service_link(name: &str) -> bool {
    SERVICE_LINKS
        .iter()
        .any(|link| if link.ends_with('_') { name.contains(link) } else { name.ends_with(link) })
}

fn nearest(known: &BTreeSet<String>, name: &str) -> Option<String> {
    // More than three typing errors are no typing error.
    let near = known.iter().map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate));
    near.filter(|(distance, _)| *distance <= 3).min().map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests;
