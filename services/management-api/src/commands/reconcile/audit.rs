//! Walks through the books and gathers what they say.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::random;
use ravenpost_core::ids::{EventId, OrganizationId};
use ravenpost_core::ledger::{Account, Fault, Finding, assess};
use ravenpost_store::system::{LedgerPage, StoredPayload};
use ravenpost_store::{Payloads, Result, System};
use uuid::Uuid;

use super::payloads;
use crate::settings::{Reconcile, WhichPayloads};

/// Events that are read at once.
const PAGE: i64 = 1_000;
/// Findings that are told one by one; of the rest only the number.
const MOST_LISTED: usize = 1_000;

/// What the books say.
pub(super) struct Audit {
    /// Accepted at this moment or later; `None` is everything.
    pub(super) since: Option<DateTime<Utc>>,
    /// Accepted before this moment.
    pub(super) until: DateTime<Utc>,
    /// By organization.
    pub(super) accounts: BTreeMap<OrganizationId, Account>,
    /// What organizations are called.
    pub(super) names: BTreeMap<OrganizationId, String>,
    /// Payloads that were read.
    pub(super) payloads_read: u64,
    /// Pairs and events that were lost and are scheduled now.
    pub(super) swept: u64,
    /// What is wrong.
    pub(super) findings: Findings,
}

impl Audit {
    /// All organizations together.
    pub(super) fn total(&self) -> Account {
        let mut total = Account::default();
        for account in self.accounts.values() {
            total.add(account);
        }
        total
    }
}

/// What is wrong: the first of it one by one, all of it counted.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) listed: Vec<Finding>,
    pub(super) counts: BTreeMap<Fault, u64>,
}

impl Findings {
    pub(super) fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            *self.counts.entry(finding.fault).or_default() += 1;
            if self.listed.len() < MOST_LISTED {
                self.listed.push(finding);
            }
        }
    }
}

/// One walk.
pub(super) struct Auditor<'a> {
    system: System,
    payloads: Payloads,
    arguments: &'a Reconcile,
    audit: Audit,
    sample: Sample,
}

impl<'a> Auditor<'a> {
    pub(super) fn new(
        system: System,
        payloads: Payloads,
        arguments: &'a Reconcile,
        now: DateTime<Utc>,
    ) -> Self {
        let audit = Audit {
            since: arguments.since.map(|since| since.moment(now)),
            until: now,
            accounts: BTreeMap::new(),
            names: BTreeMap::new(),
            payloads_read: 0,
            swept: 0,
            findings: Findings::default(),
        };
        let size = usize::try_from(arguments.sample).unwrap_or(usize::MAX);
        Self { system, payloads, arguments, audit, sample: Sample { size, seen: 0, drawn: Vec::new() } }
    }

    pub(super) async fn run(mut self) -> Result<Audit> {
        let through = EventId::floor(self.audit.until);
        let mut after =
            self.audit.since.map_or(EventId(Uuid::nil()), |since| EventId::floor(since).predecessor());
        while after < through {
            let page = self.page(after, through).await?;
            after = page.reached;
            self.enter(&page);
            self.look_at_payloads(page.payloads).await?;
        }
        let drawn = std::mem::take(&mut self.sample.drawn);
        self.check(drawn).await?;
        self.audit.findings.listed.sort_unstable();
        let organizations: Vec<OrganizationId> = self.audit.accounts.keys().copied().collect();
        self.audit.names = self.system.organization_names(&organizations).await?.into_iter().collect();
        Ok(self.audit)
    }

    /// The next page. With `--repair` what is lost in it is scheduled first, and it is read again.
    async fn page(&mut self, after: EventId, through: EventId) -> Result<LedgerPage> {
        let settled = before(self.audit.until, self.arguments.grace);
        let page = self.system.ledger_page(after, through, settled, PAGE).await?;
        let lost = lost(&page);
        if !self.arguments.repair || lost.is_empty() {
            return Ok(page);
        }
        let swept = self.system.sweep_events(&lost).await?;
        self.audit.swept += u64::try_from(swept.count()).unwrap_or(u64::MAX);
        self.system.ledger_page(after, page.reached, settled, PAGE).await
    }

    fn enter(&mut self, page: &LedgerPage) {
        let audit = &mut self.audit;
        for entry in &page.entries {
            let account = audit.accounts.entry(entry.organization_id).or_default();
            audit.findings.extend(assess(entry, account));
        }
        for stray in &page.strays {
            audit.accounts.entry(stray.organization_id).or_default().miss();
        }
        audit.findings.extend(page.strays.iter().copied());
    }

    async fn look_at_payloads(&mut self, stored: Vec<StoredPayload>) -> Result<()> {
        match self.arguments.payloads {
            WhichPayloads::None => Ok(()),
            WhichPayloads::Sample => {
                self.sample.draw(stored, random::fraction);
                Ok(())
            }
            WhichPayloads::All => self.check(stored).await,
        }
    }

    async fn check(&mut self, stored: Vec<StoredPayload>) -> Result<()> {
        self.audit.payloads_read += u64::try_from(stored.len()).unwrap_or(u64::MAX);
        for finding in payloads::check(&self.payloads, stored).await? {
            // It may have been expunged since its row was read, and overwritten: expunged is said first.
            if finding.fault != Fault::PayloadAltered || !self.system.is_expunged(finding.event_id).await? {
                self.audit.findings.extend([finding]);
            }
        }
        Ok(())
    }
}

/// The events of which something is lost.
fn lost(page: &LedgerPage) -> Vec<EventId> {
    let mut scratch = Account::default();
    let is_lost = |finding: &Finding| finding.fault == Fault::Lost;
    let events = page.entries.iter().filter(|entry| assess(entry, &mut scratch).iter().any(is_lost));
    events.map(|entry| entry.id).collect()
}

fn before(moment: DateTime<Utc>, length: Duration) -> DateTime<Utc> {
    let length = TimeDelta::from_std(length).ok();
    length.and_then(|length| moment.checked_sub_signed(length)).unwrap_or(DateTime::UNIX_EPOCH)
}

/// So many of all, each as likely as the others (reservoir sampling).
struct Sample {
    size: usize,
    seen: usize,
    drawn: Vec<StoredPayload>,
}

impl Sample {
    fn draw(&mut self, stored: Vec<StoredPayload>, fraction: impl Fn() -> f64) {
        for payload in stored {
            self.seen += 1;
            if self.drawn.len() < self.size {
                self.drawn.push(payload);
            } else if let Some(place) = self.drawn.get_mut(below(self.seen, fraction())) {
                *place = payload;
            }
        }
    }
}

/// A number below `count`, by a fraction of one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fraction of a count is a smaller count; nobody has so many events that a double can't tell them apart"
)]
fn below(count: usize, fraction: f64) -> usize {
    (count as f64 * fraction) as usize
}

#[cfg(test)]
mod tests {
    use ravenpost_core::event::PayloadLocation;

    use super::*;

    fn stored(number: u128) -> StoredPayload {
        let event_id = EventId(Uuid::from_u128(number));
        StoredPayload {
            event_id,
            organization_id: OrganizationId(Uuid::nil()),
            location: PayloadLocation::of_event(event_id, 1),
            sha256: Vec::new(),
        }
    }

    #[test]
    fn a_sample_has_its_size_and_can_be_of_anything() {
        let mut sample = Sample { size: 10, seen: 0, drawn: Vec::new() };
        sample.draw((0..5).map(stored).collect(), || 0.0);
        assert_eq!(sample.drawn.len(), 5, "fewer than asked for are all drawn");
        // The last of them is drawn for the place in the middle, all others for a place beyond the sample.
        sample.draw((5..99).map(stored).collect(), || 0.999);
        sample.draw(vec![stored(99)], || 0.05);
        assert_eq!(sample.drawn.len(), 10);
        assert_eq!(sample.drawn[5], stored(99));
        assert_eq!(sample.drawn[0], stored(0));
    }

    #[test]
    fn findings_beyond_the_list_are_counted() {
        let mut findings = Findings::default();
        let finding = Finding {
            fault: Fault::Lost,
            organization_id: OrganizationId(Uuid::nil()),
            event_id: EventId(Uuid::nil()),
            destination_id: None,
        };
        findings.extend(std::iter::repeat_n(finding, MOST_LISTED + 5));
        assert_eq!(findings.listed.len(), MOST_LISTED);
        assert_eq!(findings.count(), 1_005);
    }
}
