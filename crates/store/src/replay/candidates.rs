//! The events that a job looks at, page by page, and which of them are to be replayed.

use chrono::{DateTime, Utc};
use ravenpost_core::event::EventStatus;
use ravenpost_core::replay::ReplayFilter;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;
use crate::tenant::{ids_before, ids_from};

/// Most events of one page of a count.
const PAGE: i64 = 5_000;
/// A count goes no further than this many pairs, or events looked at.
const MOST_MATCHED: u64 = 100_000;
const MOST_SCANNED: u64 = 500_000;

/// What a job seeks for one destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) organization: Uuid,
    pub(crate) endpoint: Uuid,
    pub(crate) destination: Uuid,
    pub(crate) filter: &'a ReplayFilter,
    /// The last event that was accepted before the job was made.
    pub(crate) through: Uuid,
    /// No dead letter of this moment or later.
    pub(crate) died_before: Option<DateTime<Utc>>,
    /// No dead letter of this run or a later one.
    pub(crate) runs_below: Option<i32>,
}

/// An event that was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: Uuid,
    /// It is to be replayed.
    pub(crate) matched: bool,
}

/// How much a filter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Pairs of event and destination.
    pub count: u64,
    /// `false`: there are at least so many; the count has ended early.
    pub exact: bool,
}

impl Sought<'_> {
    /// Where the ids begin: of events that were not given up, and of dead letters. Ids at or below are out of question.
    fn starts(&self) -> (Uuid, Uuid) {
        let floor = |at: Option<DateTime<Utc>>| at.map_or(Uuid::nil(), ids_from);
        let received = self.filter.received_after;
        (floor(received.max(self.filter.since)), floor(received))
    }

    /// The last id that may match.
    fn end(&self) -> Uuid {
        self.filter.received_before.map_or(Uuid::max(), ids_before).min(self.through)
    }

    fn statuses(&self) -> Vec<String> {
        self.filter.status.iter().map(|status| status.as_str().to_owned()).collect()
    }

    /// The next `limit` events after `reached`, oldest first; fewer when there are no more. Dead letters are read from
    /// their own narrow table, and events only where something other than dead letters is sought.
    ///
    /// Each event is looked up by itself (`limit 1`): joined, a plan for any parameters would read all of a partition.
    pub(crate) async fn page(
        &self,
        connection: &mut PgConnection,
        reached: Uuid,
        limit: i64,
    ) -> Result<Vec<Candidate>> {
        let dead = self.filter.wants(EventStatus::Failed);
        let living = self.filter.status.iter().any(|status| *status != EventStatus::Failed);
        let (events_start, dead_start) = self.starts();
        let candidates = sqlx::query_as!(
            Candidate,
            r#"select u.id as "id!", coalesce(e.pending is not null and e.expunged_at is null and $2 <> all (e.pending)
                 and ($12::text is null or e.event_type = $12)
                 and ($13::timestamptz is null or e.received_at >= $13)
                 and ($14::timestamptz is null or e.received_at < $14)
                 and case
                     when $2 = any (e.delivered) then
                         'SUCCESS' = any ($11) and ($15::timestamptz is null or e.received_at >= $15)
                     when $2 = any (e.dead) then
                         'FAILED' = any ($11) and ($15::timestamptz is null or l.created_at >= $15)
                         and ($16::text is null or l.reason = $16)
                         and ($17::timestamptz is null or l.created_at < $17) and ($18::int is null or l.run < $18)
                     else 'DROPPED' = any ($11) and ($15::timestamptz is null or e.received_at >= $15)
                 end, false) as "matched!"
             from (
                 (select event_id as id from dead_letters where $9 and organization_id = $1 and destination_id = $2
                     and event_id > $4 and event_id <= $6 order by event_id limit $7)
                 union
                 (select id from events where $10 and organization_id = $1 and endpoint_id = $3
                     and id > $5 and id <= $6 order by id limit $7)
                 order by id limit $7
             ) u
             left join lateral (select pending, delivered, dead, event_type, received_at, expunged_at from events
                 where organization_id = $1 and id = u.id and id > $8 and id <= $6 limit 1) e on true
             left join lateral (select created_at, reason, run from dead_letters
                 where organization_id = $1 and event_id = u.id and destination_id = $2 limit 1) l on true
             order by u.id"#,
            self.organization,
            self.destination,
            self.endpoint,
            reached.max(dead_start),
            reached.max(events_start),
            self.end(),
            limit,
            reached,
            dead,
            living,
            &self.statuses(),
            self.filter.event_type.as_deref(),
            self.filter.received_after,
            self.filter.received_before,
            self.filter.since,
            self.filter.reason.as_deref(),
            self.died_before,
            self.runs_below
        )
        .fetch_all(connection)
        .await?;
        Ok(candidates)
    }

    /// Locks those of `events` that still are as they were found, in their order, so that nothing moves them until the
    /// transaction ends.
    pub(crate) async fn lock(&self, connection: &mut PgConnection, events: &[Uuid]) -> Result<Vec<Uuid>> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(Vec::new()) };
        let locked = sqlx::query_scalar!(
            "select id from events where organization_id = $1 and id = any ($3) and id between $4 and $5
                 and pending is not null and expunged_at is null and $2 <> all (pending)
                 and case when $2 = any (delivered) then 'SUCCESS' = any ($6)
                     when $2 = any (dead) then 'FAILED' = any ($6)
                     else 'DROPPED' = any ($6) end
             order by id for update",
            self.organization,
            self.destination,
            events,
            first,
            last,
            &self.statuses()
        )
        .fetch_all(connection)
        .await?;
        Ok(locked)
    }
}

/// Counts what several destinations are sought for, up to a bound.
pub(crate) async fn count(connection: &mut PgConnection, sought: &[Sought<'_>]) -> Result<Matched> {
    let (mut matched, mut scanned) = (0, 0);
    for sought in sought {
        let mut reached = Uuid::nil();
        loop {
            let page = sought.page(&mut *connection, reached, PAGE).await?;
            matched += page.iter().filter(|candidate| candidate.matched).map(|_| 1_u64).sum::<u64>();
            scanned += u64::try_from(page.len()).unwrap_or(u64::MAX);
            // After the last page of a destination, too: there may be a thousand more of them.
            if matched >= MOST_MATCHED || scanned >= MOST_SCANNED {
                return Ok(Matched { count: matched.min(MOST_MATCHED), exact: false });
            }
            let Some(last) = page.last().filter(|_| i64::try_from(page.len()) == Ok(PAGE)) else { break };
            reached = last.id;
        }
    }
    Ok(Matched { count: matched, exact: true })
}
