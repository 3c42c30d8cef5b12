//! Figures beside what was wanted of them (DESIGN section 9).

use serde::Serialize;

/// A figure and whether it is as it was wanted.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    what: String,
    wanted: String,
    found: f64,
    met: bool,
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        self.met
    }
}

pub(crate) fn at_least(what: impl Into<String>, least: f64, found: f64) -> Target {
    Target { what: what.into(), wanted: format!(">= {least}"), found, met: found >= least }
}

pub(crate) fn at_most(what: impl Into<String>, most: f64, found: f64) -> Target {
    Target { what: what.into(), wanted: format!("<= {most}"), found, met: found <= most }
}

pub(crate) fn print(targets: &[Target]) {
    for Target { what, wanted, found, met } in targets {
        let verdict = if *met { "met" } else { "NOT MET" };
        println!("  {what:<68} {wanted:>10}   {found:>10.2}   {verdict}");
    }
}
