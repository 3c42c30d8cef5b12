//! The rules that count for each organization: its own over the defaults, believed for a few seconds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ravenpost_core::alert::Rule;
use ravenpost_core::alert::rule::{defaults, effective};
use ravenpost_core::ids::OrganizationId;
use ravenpost_store::{Result, System};
use tracing::error;

/// How long rules are believed: a change counts after that.
const BELIEVED: Duration = Duration::from_secs(5);
/// How long those of an organization are kept of which nothing comes any more.
const KEPT: Duration = Duration::from_mins(1);

/// The rules of one organization, shared.
pub type OfOrganization = Arc<[Rule]>;

/// The rules of all.
pub struct Rules {
    system: System,
    defaults: Vec<Rule>,
    known: Mutex<HashMap<OrganizationId, (Instant, OfOrganization)>>,
}

impl Rules {
    /// With the operator's number of failures in a row.
    pub fn new(system: System, failures: u32) -> Self {
        Self { system, defaults: defaults(failures), known: Mutex::default() }
    }

    /// The rules of these organizations, asked for at once where they are not known.
    pub async fn of(
        &self,
        organizations: &HashSet<OrganizationId>,
    ) -> Result<HashMap<OrganizationId, OfOrganization>> {
        let mut rules = self.believed(organizations);
        let unknown: Vec<OrganizationId> =
            organizations.iter().filter(|id| !rules.contains_key(id)).copied().collect();
        if unknown.is_empty() {
            return Ok(rules);
        }
        let mut own: HashMap<OrganizationId, Vec<Rule>> = HashMap::new();
        for (organization, rule) in self.system.alert_rules(&unknown).await? {
            match rule {
                Ok(rule) => own.entry(organization).or_default().push(rule),
                Err(damaged) => {
                    error!(%organization, error = %damaged, "a rule of alerts can't be read and does not count");
                }
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (asked, _)| asked.elapsed() < KEPT);
        for id in unknown {
            let of_id: OfOrganization = effective(&self.defaults, own.remove(&id).unwrap_or_default()).into();
            known.insert(id, (Instant::now(), Arc::clone(&of_id)));
            rules.insert(id, of_id);
        }
        Ok(rules)
    }

    fn believed(&self, organizations: &HashSet<OrganizationId>) -> HashMap<OrganizationId, OfOrganization> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = organizations.iter().filter_map(|id| {
            let (asked, rules) = known.get(id)?;
            (asked.elapsed() < BELIEVED).then(|| (*id, Arc::clone(rules)))
        });
        fresh.collect()
    }

    /// How far back outcomes count for anybody.
    pub async fn longest_window(&self) -> Result<Duration> {
        let own = Duration::from_secs(self.system.longest_alert_window().await?.into());
        let of_defaults = self.defaults.iter().map(|rule| rule.condition.window()).max();
        Ok(own.max(of_defaults.unwrap_or_default()))
    }
}
