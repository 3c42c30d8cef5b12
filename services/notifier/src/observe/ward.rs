//! The destinations of one partition: how each fares, and what alerts follow. Messages and time come in, turns of alerts go
//! out; no store is known here.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_bus::Lately;
use ravenpost_bus::message::Report;
use ravenpost_chassis::random;
use ravenpost_core::alert::judge::judge_destination;
use ravenpost_core::alert::{Evidence, Judgement, Rule, RuleKey, Seen, Watch};
use ravenpost_core::delivery::{DeliveryKey, DeliveryReport, Outcome};
use ravenpost_core::ids::{AlertId, DestinationId, EndpointId, OrganizationId};
use ravenpost_core::replay::OUTAGE_FAILURES;
use ravenpost_store::system::{Firing, Observed, Subject, Turn};

use crate::rules::OfOrganization;

/// How soon an alert that did not open (it is cooling down, or open already) is tried again.
const AGAIN: TimeDelta = TimeDelta::seconds(30);
/// The longest that an attempt can take, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Attempts that are known when they are told again: more than an owner has told and not recorded, which it tells again
/// (PROTOCOLS W9).
const MOST_TOLD: usize = 5_000;
/// The end of the year 9998, in seconds: times are written with four digits of a year.
const LATEST: i64 = 253_370_764_799;

/// What is believed of a rule's alert; nothing is known of one that is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is not open.
    Well,
    /// It is open, as far as was heard.
    Fired,
    /// What was decided could not be written.
    Unknown,
    /// It would not open, and is not tried again before then.
    Refused(DateTime<Utc>),
}

struct Watched {
    organization_id: OrganizationId,
    endpoint_id: EndpointId,
    watch: Watch,
    /// What was observed up to here is not observed again.
    offset: i64,
    recovered: bool,
    standings: Vec<(RuleKey, Standing)>,
}

/// What a batch has come to.
#[derive(Debug, Default)]
pub struct Step {
    /// How the destinations of the batch fare.
    pub observed: Vec<Observed>,
    /// What alerts open and resolve, in this order.
    pub turns: Vec<Turn>,
}

/// See the head of this file.
pub struct Ward {
    partition: i32,
    /// The attempts of which was heard lately, and what came of them: one that was made again since its worker died before it was
    /// recorded may have come to something else.
    told: Lately<(DeliveryKey, Outcome)>,
    watched: HashMap<DestinationId, Watched>,
}

impl Ward {
    /// Of a partition whose destinations fared so, and have these alerts open.
    pub fn new(partition: i32, observed: Vec<Observed>, open: Vec<(DestinationId, RuleKey)>) -> Self {
        let mut watched: HashMap<DestinationId, Watched> =
            observed.into_iter().map(|one| (one.destination_id, Watched::from(one))).collect();
        for (destination, rule) in open {
            if let Some(watched) = watched.get_mut(&destination) {
                watched.stand(rule, Standing::Fired);
            }
        }
        Self { partition, told: Lately::new(MOST_TOLD), watched }
    }

    /// How many destinations are watched.
    pub fn destinations(&self) -> usize {
        self.watched.len()
    }

    /// Takes messages in their order. What was observed before is counted in its window and decides nothing; an attempt that is
    /// told again counts once.
    pub fn take(&mut self, batch: &[(i64, Report)], rules: &HashMap<OrganizationId, OfOrganization>) -> Step {
        let mut step = Step::default();
        let mut touched = Vec::new();
        for (offset, report) in batch {
            let is_news = match report {
                Report::Attempt(report) => self.told.remember((report.key, report.outcome)),
                Report::Destination(_) => true,
            };
            let (id, watched) = self.watched_of(report);
            if !is_news {
                if *offset > watched.offset {
                    watched.offset = *offset;
                    touched.push(id);
                }
                continue;
            }
            let seen = match report {
                Report::Attempt(report) => Some(seen(report)),
                Report::Destination(_) => None,
            };
            if let Some(seen) = &seen {
                watched.watch.tally(seen);
            }
            if *offset <= watched.offset {
                continue;
            }
            watched.offset = *offset;
            let now = watched.follow(report, seen.as_ref());
            if let Some(rules) = rules.get(&watched.organization_id) {
                watched.judge(id, rules, now, &mut step.turns);
            }
            touched.push(id);
        }
        touched.sort_unstable();
        touched.dedup();
        step.observed = touched.into_iter().filter_map(|id| self.observed(id)).collect();
        step
    }

    /// Judges what time alone changes, and forgets of whom nothing has been heard for long.
    pub fn tick(&mut self, rules: &HashMap<OrganizationId, OfOrganization>, now: DateTime<Utc>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (id, watched) in &mut self.watched {
            watched.watch.forget_before(now);
            if watched.may_change()
                && let Some(rules) = rules.get(&watched.organization_id)
            {
                watched.judge(*id, rules, now, &mut turns);
            }
        }
        self.watched.retain(|_, watched| !watched.watch.is_idle() || watched.may_change());
        turns
    }

    /// The organizations of destinations that time may change.
    pub fn organizations(&self) -> impl Iterator<Item = OrganizationId> {
        self.watched.values().filter(|watched| watched.may_change()).map(|watched| watched.organization_id)
    }

    /// Hears which turns came about.
    pub fn settle(&mut self, turns: &[Turn], came: &[bool], now: DateTime<Utc>) {
        for (turn, came) in turns.iter().zip(came) {
            let Some(id) = turn.subject.destination_id else { continue };
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            if turn.fires.is_some() && !came && watched.standing(turn.rule) == Some(Standing::Fired) {
                watched.stand(turn.rule, Standing::Refused(now + AGAIN));
            }
        }
    }

    /// Turns that could not be written: nothing is believed of their alerts, and they are found again.
    pub fn unsay(&mut self, turns: &[Turn]) {
        for turn in turns {
            let Some(id) = turn.subject.destination_id else { continue };
            if let Some(watched) = self.watched.get_mut(&id) {
                // Open or not: either way the next judgement is written.
                watched.stand(turn.rule, Standing::Unknown);
            }
        }
    }

    fn watched_of(&mut self, report: &Report) -> (DestinationId, &mut Watched) {
        let (id, organization_id, endpoint_id) = match report {
            Report::Attempt(report) => {
                (report.key.destination_id, report.organization_id, report.endpoint_id)
            }
            Report::Destination(report) => {
                (report.destination_id, report.organization_id, report.endpoint_id)
            }
        };
        let watched = self.watched.entry(id).or_insert_with(|| Watched {
            organization_id,
            endpoint_id,
            watch: Watch::default(),
            offset: -1,
            recovered: false,
            standings: Vec::new(),
        });
        (id, watched)
    }

    fn observed(&mut self, id: DestinationId) -> Option<Observed> {
        let watched = self.watched.get_mut(&id)?;
        let watch = &watched.watch;
        Some(Observed {
            organization_id: watched.organization_id,
            endpoint_id: watched.endpoint_id,
            destination_id: id,
            partition: self.partition,
            offset: watched.offset,
            failures_in_a_row: watch.failures_in_a_row,
            recovered: std::mem::take(&mut watched.recovered),
            failing_since: watch.failing_since,
            last_success_at: watch.last_success_at,
            last_attempt_at: watch.last_attempt_at,
            last_error: watch.last_error.as_deref().map(str::to_owned),
        })
    }
}

impl From<Observed> for Watched {
    fn from(observed: Observed) -> Self {
        let watch = Watch::resumed(
            observed.failures_in_a_row,
            observed.failing_since,
            observed.last_success_at,
            observed.last_attempt_at,
            observed.last_error.as_deref(),
        );
        Self {
            organization_id: observed.organization_id,
            endpoint_id: observed.endpoint_id,
            watch,
            offset: observed.offset,
            recovered: false,
            standings: Vec::new(),
        }
    }
}

impl Watched {
    /// Follows a message that was not observed before; answers when what it tells happened.
    fn follow(&mut self, report: &Report, seen: Option<&Seen>) -> DateTime<Utc> {
        match (report, seen) {
            (_, Some(seen)) => {
                let outage =
                    i32::try_from(self.watch.failures_in_a_row).unwrap_or(i32::MAX) >= OUTAGE_FAILURES;
                self.recovered |= seen.success && outage;
                self.watch.follow(seen);
                seen.at
            }
            (Report::Destination(report), None) => {
                self.watch.disabling = Some(Box::new(report.clone()));
                report.happened_at
            }
            (Report::Attempt(report), None) => report.attempted_at,
        }
    }

    fn judge(&mut self, id: DestinationId, rules: &[Rule], now: DateTime<Utc>, turns: &mut Vec<Turn>) {
        let subject = Subject {
            organization_id: self.organization_id,
            endpoint_id: Some(self.endpoint_id),
            destination_id: Some(id),
        };
        let judged: Vec<_> = judge_destination(rules, self.endpoint_id, id, &self.watch, now).collect();
        for (rule, judgement) in judged {
            let standing = self.standing(rule.key);
            let fires = match judgement {
                Judgement::Undecided => continue,
                Judgement::Well if standing == Some(Standing::Well) => continue,
                Judgement::Well => None,
                Judgement::Trouble(_) if standing == Some(Standing::Fired) => continue,
                Judgement::Trouble(_) if matches!(standing, Some(Standing::Refused(until)) if now < until) => {
                    continue;
                }
                Judgement::Trouble(evidence) => Some(Box::new(firing(rule, *evidence, now))),
            };
            self.stand(rule.key, if fires.is_some() { Standing::Fired } else { Standing::Well });
            turns.push(Turn { subject, rule: rule.key, fires });
        }
        self.standings.retain(|(key, _)| rules.iter().any(|rule| rule.key == *key));
    }

    fn may_change(&self) -> bool {
        self.watch.failures_in_a_row > 0
            || self.standings.iter().any(|(_, standing)| *standing != Standing::Well)
    }

    fn standing(&self, rule: RuleKey) -> Option<Standing> {
        self.standings.iter().find(|(key, _)| *key == rule).map(|(_, standing)| *standing)
    }

    fn stand(&mut self, rule: RuleKey, standing: Standing) {
        match self.standings.iter_mut().find(|(key, _)| *key == rule) {
            Some((_, held)) => *held = standing,
            None => self.standings.push((rule, standing)),
        }
    }
}

fn seen(report: &DeliveryReport) -> Seen {
    // No attempt takes a day, and the database has no years beyond its own: what says so must stall nobody.
    let took = i64::try_from(report.duration_ms).unwrap_or(DAY_MS).min(DAY_MS);
    let latest = DateTime::from_timestamp(LATEST, 0).unwrap_or(DateTime::UNIX_EPOCH);
    Seen {
        at: report.attempted_at.clamp(DateTime::UNIX_EPOCH, latest) + TimeDelta::milliseconds(took),
        success: report.outcome.is_success(),
        took_ms: u32::try_from(report.duration_ms).unwrap_or(u32::MAX),
        dead: report.dead,
        expired: !report.outcome.is_of_an_attempt(),
        error: report.error_message.clone(),
    }
}

/// An alert that this rule opens at `now`.
pub fn firing(rule: &Rule, evidence: Evidence, now: DateTime<Utc>) -> Firing {
    Firing {
        alert_id: AlertId::new(now, random::bytes()),
        rule_name: rule.name.clone(),
        condition: rule.condition.name(),
        severity: rule.severity,
        evidence,
        tell_at: rule.tell_at(now),
        channels: rule.channels.clone(),
        cool_down: rule.cool_down,
    }
}

#[cfg(test)]
mod tests;
