//! `reconcile`: whether the ledger balances, and what is wrong where it does not.
//!
//! The books are read page by page, each a snapshot, in memory that does not grow with them. What is printed, and the exit
//! code, is for people and for machines that look after a system at work.

mod audit;
mod payloads;
mod report;

use ravenpost_chassis::clock;
use ravenpost_store::{Payloads, Store};

use crate::Settings;
use crate::settings::Reconcile;
use audit::Auditor;

/// Prints the ledger. An error when it does not balance, or can't be read.
pub async fn run(settings: Settings, arguments: Reconcile) -> anyhow::Result<()> {
    let store = Store::new(&settings.store, None)?;
    store.require_schema().await?;
    let payloads = Payloads::new(&settings.payloads).await?;
    let audit = Auditor::new(store.system(), payloads, &arguments, clock::now()).run().await?;
    if arguments.json {
        report::print_json(&audit)?;
    } else {
        report::print(&audit)?;
    }
    let findings = audit.findings.count();
    anyhow::ensure!(findings == 0, "the ledger does not balance: {findings} findings");
    Ok(())
}
