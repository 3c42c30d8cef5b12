//! What the producers were told, held against what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    places::{Delivery, Found, Ledger, Places},
    producer::{Endpoint, Heard, Original, Sent},
    schedule::Subject,
};

/// How much later than its success was recorded an attempt may seem to begin: what is recorded waits for its commit, and
/// `webhook-timestamp` has whole seconds.
const COMMITTED: Duration = Duration::from_secs(2);

/// Each promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    Acknowledged,
    Payload,
    Message,
    Delivered,
    AtMostOnce,
    NotAgain,
    OwnId,
    Settled,
    Answer,
    Recovered,
    Foreign,
    Ledger,
    Unswept,
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Acknowledged => "an acknowledged event has its row in Postgres",
            Self::Payload => "a row has its payload in S3, byte for byte",
            Self::Message => "what is in Postgres is in Kafka, and nothing else is",
            Self::Delivered => "what is in Postgres arrives, byte for byte, at its own destination",
            Self::AtMostOnce => "no event arrives twice, since no worker was killed",
            Self::NotAgain => "what is known to be delivered is not sent again",
            Self::OwnId => "a producer's event is one event, under the id that its producer was told",
            Self::Settled => "every event becomes SUCCESS",
            Self::Answer => "a producer hears 202, 5xx or nothing",
            Self::Recovered => "every process recovers by itself",
            Self::Foreign => "nothing is there that nobody sent",
            Self::Ledger => "the ledger balances: every event there is was delivered, and has its payload",
            Self::Unswept => "no event waits nowhere, so that the sweeper has nothing to do",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) what: String,
    /// The producer's event that it is about, if any.
    pub(crate) original: Option<Original>,
    /// The events that it is about.
    pub(crate) events: BTreeSet<Uuid>,
}

/// All that is broken. `sent` is everything that any producer sent.
pub(crate) fn judge(
    subject: Subject,
    endpoints: &[Endpoint],
    sent: &[Sent],
    places: &Places,
) -> Vec<Violation> {
    let sent: BTreeMap<Original, &Sent> = sent.iter().map(|sent| (sent.original, sent)).collect();
    let mut court = Court { subject, endpoints, sent, places, violations: Vec::new() };
    court.answers();
    court.rows();
    court.messages();
    court.deliveries();
    court.producers();
    court.ledger();
    court.violations
}

struct Court<'case> {
    subject: Subject,
    endpoints: &'case [Endpoint],
    sent: BTreeMap<Original, &'case Sent>,
    places: &'case Places,
    violations: Vec<Violation>,
}

impl Court<'_> {
    fn accuse(&mut self, promise: Promise, original: Option<Original>, event: Option<Uuid>, what: String) {
        self.violations.push(Violation { promise, what, original, events: event.into_iter().collect() });
    }

    /// Whose event some bytes are; what is wrong with them is accused.
    fn identify(&mut self, promise: Promise, event: Uuid, place: &str, found: &Found) -> Option<Original> {
        match found {
            Ok(original) if self.sent.contains_key(original) => Some(*original),
            Ok(original) => {
                let what = format!("{event} is {} {place}, which nobody sent", original.0);
                self.accuse(Promise::Foreign, Some(*original), Some(event), what);
                None
            }
            Err(damage) => {
                self.accuse(promise, None, Some(event), format!("{event} {place}: {damage}"));
                None
            }
        }
    }

    fn answers(&mut self) {
        for sent in self.sent.values().copied().collect::<Vec<_>>() {
            for attempt in &sent.attempts {
                if let Heard::Nonsense(what) = &attempt.heard {
                    self.accuse(
                        Promise::Answer,
                        Some(sent.original),
                        None,
                        format!("a producer heard {what}"),
                    );
                }
            }
            if sent.despaired {
                let what = "it was sent until long after all was whole, and never accepted".to_owned();
                self.accuse(Promise::Recovered, Some(sent.original), None, what);
            }
        }
    }

    fn rows(&mut self) {
        for (id, row) in &self.places.rows {
            self.identify(Promise::Payload, *id, "in S3", &row.payload);
            let original = row.payload.as_ref().ok().copied();
            if row.status != "SUCCESS" {
                self.accuse(Promise::Settled, original, Some(*id), format!("{id} is {}", row.status));
            }
            if !self.places.messages.contains_key(id) {
                self.accuse(Promise::Message, original, Some(*id), format!("{id} is not in Kafka"));
            }
            if !self.places.deliveries.contains_key(id) {
                self.accuse(Promise::Delivered, original, Some(*id), format!("{id} has not arrived"));
            }
        }
    }

    fn messages(&mut self) {
        for (id, messages) in &self.places.messages {
            for body in messages.iter().filter_map(|message| message.body.as_ref()) {
                self.identify(Promise::Message, *id, "in Kafka", body);
            }
            if !self.places.rows.contains_key(id) {
                self.accuse(Promise::Message, None, Some(*id), format!("{id} is in Kafka and has no row"));
            }
        }
        for what in &self.places.nameless {
            self.accuse(Promise::Foreign, None, None, what.clone());
        }
    }

    fn deliveries(&mut self) {
        for (id, deliveries) in &self.places.deliveries {
            for delivery in deliveries {
                let Some(original) = self.identify(Promise::Delivered, *id, "as it arrived", &delivery.body)
                else {
                    continue;
                };
                let path = &self.endpoints[self.sent[&original].endpoint].destination;
                if delivery.path != *path {
                    let what = format!("{id} arrived at {} instead of {path}", delivery.path);
                    self.accuse(Promise::Delivered, Some(original), Some(*id), what);
                }
            }
            match self.subject {
                Subject::Ingress => self.at_most_once(*id, deliveries),
                Subject::Delivery => self.not_again(*id, deliveries),
            }
            if !self.places.rows.contains_key(id) {
                self.accuse(Promise::Delivered, None, Some(*id), format!("{id} arrived and has no row"));
            }
        }
    }

    fn at_most_once(&mut self, id: Uuid, deliveries: &[Delivery]) {
        if deliveries.len() > 1 {
            let times: Vec<f64> = deliveries.iter().map(|delivery| delivery.at.as_secs_f64()).collect();
            let original = deliveries[0].body.as_ref().ok().copied();
            let what = format!("{id} arrived {} times, at {times:.3?}", times.len());
            self.accuse(Promise::AtMostOnce, original, Some(id), what);
        }
    }

    /// A repeated one was in the air when something failed, so it had begun before its success was recorded.
    fn not_again(&mut self, id: Uuid, deliveries: &[Delivery]) {
        let recorded = self.places.recorded.get(&id).copied().unwrap_or_default();
        let Some(succeeded) = recorded.succeeded else {
            let original = deliveries.first().and_then(|first| first.body.as_ref().ok().copied());
            return self.accuse(
                Promise::Settled,
                original,
                Some(id),
                format!("no success of {id} is recorded"),
            );
        };
        for delivery in deliveries.iter().filter(|delivery| delivery.begun > succeeded + COMMITTED) {
            let late = delivery.begun.saturating_sub(succeeded).as_secs_f64();
            let original = delivery.body.as_ref().ok().copied();
            let what = format!("{id} was sent again {late:.0} s after its success was recorded");
            self.accuse(Promise::NotAgain, original, Some(id), what);
        }
    }

    /// What each producer may rely on.
    fn producers(&mut self) {
        let events = self.events_of_originals();
        for (original, sent) in self.sent.clone() {
            let told = sent.accepted();
            for id in &told {
                if !self.places.rows.contains_key(id) {
                    self.accuse(Promise::Acknowledged, Some(original), Some(*id), format!("{id} has no row"));
                }
            }
            let there = events.get(&original).cloned().unwrap_or_default();
            let all: BTreeSet<Uuid> = told.union(&there).copied().collect();
            if all.len() > 1 {
                let how = if sent.was_refused() { "refused at first" } else { "never refused" };
                let what = format!("{} ({how}) was told {told:?} and is {there:?}", original.0);
                self.violations.push(Violation {
                    promise: Promise::OwnId,
                    what,
                    original: Some(original),
                    events: all,
                });
            }
        }
    }

    /// What the product says of itself: each event has one destination, and arrives there.
    fn ledger(&mut self) {
        let Ledger { events, delivered, payloads_read, faults } = &self.places.ledger;
        let rows = self.places.rows.len() as u64;
        if (*events, *delivered, *payloads_read) != (rows, rows, rows) {
            let what = format!(
                "of {rows} events the ledger knows {events}: {delivered} delivered, {payloads_read} payloads"
            );
            self.accuse(Promise::Ledger, None, None, what);
        }
        for (id, fault) in faults {
            self.accuse(Promise::Ledger, None, Some(*id), format!("{id} is {fault} by the ledger"));
        }
        for line in &self.places.swept {
            self.accuse(Promise::Unswept, None, None, format!("a worker has said: {line}"));
        }
    }

    /// The events that each original became, wherever they are.
    fn events_of_originals(&self) -> BTreeMap<Original, BTreeSet<Uuid>> {
        let rows = self.places.rows.iter().map(|(id, row)| (*id, Some(&row.payload)));
        let messages = self.places.messages.iter();
        let messages = messages.flat_map(|(id, all)| all.iter().map(|message| (*id, message.body.as_ref())));
        let deliveries = self.places.deliveries.iter();
        let deliveries = deliveries.flat_map(|(id, all)| all.iter().map(|one| (*id, Some(&one.body))));
        let mut events: BTreeMap<Original, BTreeSet<Uuid>> = BTreeMap::new();
        for (id, found) in rows.chain(messages).chain(deliveries) {
            if let Some(Ok(original)) = found {
                events.entry(*original).or_default().insert(id);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests;
