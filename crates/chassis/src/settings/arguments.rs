//! Turns variables and files into flags, so that one parser sees one list and the process's environment is only read.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, ArgAction, Command};

/// What is wrong with a variable before its value is even looked at. Each message is one line and names it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0} and {0}_FILE are both set: keep one of them")]
    Both(String),
    #[error("{variable}_FILE: can't read {path}: {source}")]
    File { variable: String, path: String, source: std::io::Error },
    #[error("{0}_FILE: {1} is empty")]
    EmptyFile(String, String),
    #[error("{0}: write true or false")]
    Flag(String),
}

/// Reads an environment variable: `None` when it is not set.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The given arguments (the first is the program) with what variables and files say put in front of them, for the
/// command and the subcommands that the arguments choose. What is given by hand comes later and so wins.
pub(super) fn with_variables(
    command: &Command,
    given: Vec<OsString>,
    lookup: Lookup<'_>,
) -> Result<Vec<OsString>, Error> {
    let mut given = given.into_iter();
    let mut all: Vec<OsString> = given.next().into_iter().collect();
    let mut level = command;
    all.extend(of_level(level, lookup)?);
    for argument in given {
        let chosen = argument.to_str().and_then(|name| level.find_subcommand(name));
        all.push(argument);
        if let Some(subcommand) = chosen {
            level = subcommand;
            all.extend(of_level(level, lookup)?);
        }
    }
    Ok(all)
}

fn of_level(command: &Command, lookup: Lookup<'_>) -> Result<Vec<OsString>, Error> {
    let mut flags = Vec::new();
    for argument in command.get_arguments() {
        let (Some(variable), Some(long)) = (argument.get_env().and_then(OsStr::to_str), argument.get_long())
        else {
            continue;
        };
        if let Some(value) = value(variable, lookup)? {
            flags.extend(as_flag(argument, variable, long, &value)?);
        }
    }
    Ok(flags)
}

fn value(variable: &str, lookup: Lookup<'_>) -> Result<Option<OsString>, Error> {
    let present = |name: &str| lookup(name).filter(|value| !value.is_empty());
    match (present(variable), present(&format!("{variable}_FILE"))) {
        (Some(_), Some(_)) => Err(Error::Both(variable.to_owned())),
        (None, Some(path)) => content(variable, Path::new(&path)).map(Some),
        (value, None) => Ok(value),
    }
}

fn content(variable: &str, path: &Path) -> Result<OsString, Error> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        variable: variable.to_owned(),
        path: shown.clone(),
        source,
    })?;
    match text.trim() {
        "" => Err(Error::EmptyFile(variable.to_owned(), shown)),
        value => Ok(value.into()),
    }
}

fn as_flag(argument: &Arg, variable: &str, long: &str, value: &OsStr) -> Result<Option<OsString>, Error> {
    let mut flag = OsString::from(format!("--{long}"));
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return match value.to_str() {
            Some("true" | "1") => Ok(Some(flag)),
            Some("false" | "0") => Ok(None),
            _ => Err(Error::Flag(variable.to_owned())),
        };
    }
    flag.push("=");
    flag.push(value);
    Ok(Some(flag))
}
