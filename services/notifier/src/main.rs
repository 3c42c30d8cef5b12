//! The notifier: tells people what is going wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    ravenpost_chassis::serve(ravenpost_notifier::run)
}
