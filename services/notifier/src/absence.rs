//! What has no outcome: deliveries that wait, endpoints that have gone silent, requests that are refused. One notifier at a
//! time asks Postgres, with a bound on each question.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::alert::judge::{judge_backlog, judge_rejected, judge_silence};
use ravenpost_core::alert::{ConditionName, Judgement, RuleKey};
use ravenpost_core::ids::OrganizationId;
use ravenpost_store::system::{Absence, Fact, Subject, Turn};
use ravenpost_store::{Result, System};
use tracing::warn;

use crate::metrics::NotifierMetrics;
use crate::observe::{count, ward::firing};
use crate::rules::{OfOrganization, Rules};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(30);

struct Asker {
    system: System,
    rules: Arc<Rules>,
    metrics: NotifierMetrics,
}

/// Starts asking; ends with the process.
pub fn start(ctx: &Context, system: System, rules: Arc<Rules>, metrics: NotifierMetrics) {
    let stopping = ctx.stopping.clone();
    let asker = Asker { system, rules, metrics };
    ctx.spawn("absence", async move {
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = asker.ask().await {
                warn!(error = &error as &dyn std::error::Error, "what has no outcome can't be asked for now");
            }
        }
        Ok(())
    });
}

impl Asker {
    async fn ask(&self) -> Result<()> {
        let Some(absence) = self.system.absence().await? else { return Ok(()) };
        let organizations: HashSet<OrganizationId> =
            absence.facts.iter().map(|(subject, _)| subject.organization_id).collect();
        let rules = self.rules.of(&organizations).await?;
        let turns = turns(&absence, &rules, clock::now());
        if !turns.is_empty() {
            let came = self.system.turn(&turns).await?;
            count(&self.metrics, &turns, &came);
        }
        self.system.resolve_alerts_of_deleted().await?;
        Ok(())
    }
}

/// What follows from the facts: alerts that are not open and should be, and those that are open and should not.
fn turns(
    absence: &Absence,
    rules: &HashMap<OrganizationId, OfOrganization>,
    now: DateTime<Utc>,
) -> Vec<Turn> {
    let open: HashSet<(Subject, RuleKey)> =
        absence.open.iter().map(|(subject, rule, _)| (*subject, *rule)).collect();
    let mut turns = Vec::new();
    let mut settled = HashSet::new();
    for (subject, fact) in &absence.facts {
        for rule in rules.get(&subject.organization_id).into_iter().flat_map(|rules| rules.iter()) {
            let covers = subject
                .endpoint_id
                .is_some_and(|endpoint| rule.scope.covers(endpoint, subject.destination_id));
            if !covers || fact.condition() != rule.condition.name() {
                continue;
            }
            let judgement = match fact {
                Fact::Waits(waits) => judge_backlog(&rule.condition, *waits, now),
                Fact::Received(received) => judge_silence(&rule.condition, *received, now),
                Fact::Rejected(rejected) => judge_rejected(&rule.condition, rejected, now),
            };
            let key = (*subject, rule.key);
            let fires = match judgement {
                Judgement::Trouble(evidence) if !open.contains(&key) => {
                    Some(Box::new(firing(rule, *evidence, now)))
                }
                Judgement::Well if open.contains(&key) => None,
                _ => {
                    settled.insert(key);
                    continue;
                }
            };
            settled.insert(key);
            turns.push(Turn { subject: *subject, rule: rule.key, fires });
        }
    }
    // What waits no more, and is refused no more, is in no fact; and nor is what has been silent for very long.
    let tells = |condition| condition != ConditionName::EndpointSilent && !absence.cut.contains(&condition);
    let over = absence
        .open
        .iter()
        .filter(|(subject, rule, condition)| tells(*condition) && !settled.contains(&(*subject, *rule)));
    turns.extend(over.map(|(subject, rule, _)| Turn { subject: *subject, rule: *rule, fires: None }));
    turns
}
