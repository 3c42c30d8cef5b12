//! The ingress service: receives webhooks.

use std::process::ExitCode;

fn main() -> ExitCode {
    ravenpost_chassis::serve(ravenpost_ingress::run)
}
