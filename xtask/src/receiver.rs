//! The demo's destination: prints every webhook that arrives in one readable line.

use std::{future::pending, process::ExitCode};

use anyhow::Result;
use ravenpost_testkit::{
    receiver::{Received, Receiver},
    sign,
};

use crate::demo;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    port: u16,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let _receiver = start(arguments.port).await?;
    pending().await
}

/// Starts the receiver inside this process.
pub(crate) async fn start(port: u16) -> Result<Receiver> {
    Receiver::start_observed(port, |received| println!("{}", line(received))).await
}

fn line(received: &Received) -> String {
    let of_day = received.at.as_secs() % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!(
        "{hour:02}:{minute:02}:{second:02}.{:03}Z  {} {}  {}  {}  {} bytes  {}",
        received.at.subsec_millis(),
        received.method,
        received.path,
        received.header("webhook-id").unwrap_or("(no webhook-id)"),
        received.header("content-type").unwrap_or("(no content-type)"),
        received.body.len(),
        signature(received),
    )
}

/// What the destination itself finds out about the signature, by an implementation that isn't ours.
fn signature(received: &Received) -> String {
    // Read each time: the secret is seeded after this process has started.
    let Ok(demo) = demo::Demo::read() else {
        return "signature not checked: nothing is seeded yet".to_owned();
    };
    match sign::verify_standard_webhooks(&demo.signing_secret, &received.headers, &received.body) {
        Ok(()) => "signature ok".to_owned(),
        Err(error) => format!("SIGNATURE WRONG: {error}"),
    }
}
