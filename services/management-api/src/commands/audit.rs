//! `audit verify`: whether the audit log is whole, and where it is not.
//!
//! The heads that it prints are worth keeping elsewhere: whoever can rewrite the whole database can rewrite a chain with its
//! head, and only a head that he can't reach tells.

use std::io::Write as _;

use ravenpost_core::audit::Broken;
use ravenpost_core::ids::OrganizationId;
use ravenpost_store::Store;
use ravenpost_store::system::Verified;
use serde_json::json;

use crate::Settings;
use crate::settings::{Audit, AuditCommand, AuditVerify};

/// Does what is asked for.
pub async fn run(settings: Settings, arguments: Audit) -> anyhow::Result<()> {
    match arguments.command {
        AuditCommand::Verify(arguments) => verify(&settings, &arguments).await,
    }
}

/// Prints each organization's chain. An error when one is broken, or can't be read.
async fn verify(settings: &Settings, arguments: &AuditVerify) -> anyhow::Result<()> {
    let store = Store::new(&settings.store, None)?;
    store.require_schema().await?;
    let system = store.system();
    let organizations = system.audited().await?;
    let wanted: Vec<_> = match arguments.organization {
        None => organizations,
        Some(one) => organizations.into_iter().filter(|organization| *organization == one).collect(),
    };
    anyhow::ensure!(arguments.organization.is_none() || !wanted.is_empty(), "there is no such organization");
    let mut broken = 0;
    for organization in wanted {
        let verified = system.verify_audit(organization).await?;
        broken += usize::from(verified.broken.is_some());
        print(organization, &verified, arguments.json)?;
    }
    anyhow::ensure!(broken == 0, "the audit log is not whole: {broken} broken");
    Ok(())
}

fn print(organization: OrganizationId, verified: &Verified, as_json: bool) -> anyhow::Result<()> {
    let (rows, head) = (verified.reached.sequence, hex::encode(verified.reached.hash));
    let broken = verified.broken.map(|broken| broken.to_string());
    let line = if as_json {
        let bad = verified.broken.map(Broken::sequence);
        json!({ "organization_id": organization, "rows": rows, "head": head, "broken": broken, "first_bad": bad })
            .to_string()
    } else {
        match broken {
            None => format!("{organization}  {rows:>9} rows  head {head}"),
            Some(broken) => format!("{organization}  {rows:>9} rows  head {head}  BROKEN: {broken}"),
        }
    };
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
