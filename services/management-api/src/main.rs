//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match ravenpost_chassis::parse() {
        Ok(settings) => ravenpost_management_api::start(settings),
        Err(code) => code,
    }
}
