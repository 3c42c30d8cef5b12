//! What is run: every body with every load, in every way of committing.

use std::{collections::BTreeMap, path::PathBuf};

use ravenpost_testkit::load::Pace;
use serde::Serialize;

use super::Arguments;

/// So many events are committed at once, each alone, by the baseline: more only wait for each other.
const ALONE_AT_ONCE: &str = "64";

impl Variant {
    /// Neither the product as it is nor the baseline.
    pub(crate) fn is_compared(&self) -> bool {
        self.name != GROUPED && self.name != ALONE
    }
}

/// Variables of a process's environment by name.
pub(crate) type Environment = BTreeMap<String, String>;

/// A way to run ingress.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Settings of ingress that are not the defaults, and what else is in its environment.
    pub(crate) environment: Environment,
    /// Another build.
    pub(crate) binaries: Option<PathBuf>,
}

pub(crate) const GROUPED: &str = "grouped";
pub(crate) const ALONE: &str = "each alone";

/// Grouped is the first, then the baseline, then what is compared.
pub(crate) fn variants(arguments: &Arguments) -> Vec<Variant> {
    let variant = |name: &str, more: &Environment, binaries: Option<&PathBuf>| Variant {
        name: name.to_owned(),
        environment: arguments.set.clone().into_iter().chain(more.clone()).collect(),
        binaries: binaries.cloned(),
    };
    let same = Environment::new();
    let mut variants = vec![variant(GROUPED, &same, None)];
    if !arguments.without_baseline {
        variants.push(variant(ALONE, &each_alone(), None));
    }
    let environments = arguments.compare.iter().map(|environment| (environment, None));
    let builds = arguments.compare_binaries.iter().map(|folder| (&same, Some(folder)));
    for (number, (environment, binaries)) in environments.chain(builds).enumerate() {
        variants.push(variant(&format!("compared {}", number + 1), environment, binaries));
    }
    variants
}

/// One object, one row and one message for each event, as concurrently as the stores bear.
fn each_alone() -> Environment {
    [
        ("RAVENPOST_COMMIT_BATCH", "1"),
        ("RAVENPOST_COMMIT_LANES", ALONE_AT_ONCE),
        // A lane that waits for a connection would not be at work; ingress itself wants a few.
        ("RAVENPOST_DATABASE_CONNECTIONS", "80"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Requests a second and the connections that they go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpenLoop {
    per_second: u32,
    pub(crate) connections: usize,
}

impl OpenLoop {
    pub(crate) fn pace(self) -> Pace {
        Pace::Open { per_second: self.per_second }
    }

    pub(crate) fn name(self) -> String {
        format!("{} on {}", self.rate(), self.connections)
    }

    pub(crate) fn rate(self) -> String {
        format!("{}/s", self.per_second)
    }
}

/// Reads `RATExCONNECTIONS`.
pub(crate) fn open_loop(text: &str) -> Result<OpenLoop, String> {
    let parse = || {
        let (per_second, connections) = text.split_once('x')?;
        let (per_second, connections) = (per_second.parse().ok()?, connections.parse().ok()?);
        (per_second > 0 && connections > 0).then_some(OpenLoop { per_second, connections })
    };
    parse().ok_or_else(|| "write requests a second x connections, such as 50x1".to_owned())
}

/// Reads `NAME=VALUE;NAME=VALUE`.
pub(crate) fn environment(text: &str) -> Result<Environment, String> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("write variables as NAME=value;NAME=value; `{pair}` is none")),
    });
    pairs.collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    Closed { connections: usize },
    Open(OpenLoop),
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) body_bytes: usize,
    pub(crate) traffic: Traffic,
    /// Which of [`variants`].
    pub(crate) variant: usize,
}

/// The baseline runs at the most connections alone: with few it could not be anything but slow.
pub(crate) fn all(arguments: &Arguments) -> Vec<Case> {
    let variants = variants(arguments);
    let most = arguments.connections.iter().copied().max();
    let closed =
        arguments.connections.iter().map(|connections| Traffic::Closed { connections: *connections });
    let traffics: Vec<Traffic> = closed.chain(arguments.open.iter().copied().map(Traffic::Open)).collect();
    let mut cases = Vec::new();
    for body_bytes in arguments.bodies.iter().copied() {
        for traffic in traffics.iter().copied() {
            for (variant, Variant { name, .. }) in variants.iter().enumerate() {
                let at_most = matches!(traffic, Traffic::Closed { connections } if Some(connections) == most);
                if name != ALONE || at_most {
                    cases.push(Case { body_bytes, traffic, variant });
                }
            }
        }
    }
    cases
}

impl Case {
    pub(crate) fn connections(self) -> usize {
        match self.traffic {
            Traffic::Closed { connections } | Traffic::Open(OpenLoop { connections, .. }) => connections,
        }
    }

    pub(crate) fn pace(self) -> Pace {
        match self.traffic {
            Traffic::Closed { .. } => Pace::Closed,
            Traffic::Open(open) => open.pace(),
        }
    }

    /// One request after the other.
    pub(crate) fn is_lone(self) -> bool {
        self.traffic == Traffic::Closed { connections: 1 }
    }

    pub(crate) fn load_name(self) -> String {
        match self.traffic {
            Traffic::Closed { connections } => format!("{connections} connections"),
            Traffic::Open(open) => open.name(),
        }
    }

    pub(crate) fn name(self, variant: &Variant) -> String {
        format!("{} B, {}, {}", self.body_bytes, self.load_name(), variant.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_loops_and_environments_read() {
        assert_eq!(open_loop("50x1"), Ok(OpenLoop { per_second: 50, connections: 1 }));
        for wrong in ["50", "x", "0x1", "1x0", "-1x1"] {
            assert!(open_loop(wrong).is_err(), "{wrong}");
        }
        let expected = [("A", "b=c"), ("D", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment("A=b=c;D="), Ok(expected.into()));
        assert!(environment("A").is_err());
    }
}
