//! The delivery worker: delivers webhooks.

use std::process::ExitCode;

fn main() -> ExitCode {
    ravenpost_chassis::serve(ravenpost_delivery_worker::run)
}
