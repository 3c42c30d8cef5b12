//! What records have left (deltas) and what ingress has accepted become minutes, hours and days, by one elected process.
//!
//! A step is one transaction: a delta is taken away when it is added, and the cursor moves with the events that are
//! counted, so that each counts once whatever dies when. docs/decisions/0034 tells why it is done so.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::EventId;
use ravenpost_core::statistics::{CLASSES, Figures, Grain, Histogram, Outcomes};
use sqlx::PgConnection;
use uuid::Uuid;

use super::System;
use crate::error::POSTGRES;
use crate::{Error, Result};

/// The key of the advisory lock by which whoever does a step is elected.
const STATISTICS: i64 = 0x7261_7665_6e20;
/// Most deltas, events and expired rows of one step.
const DELTAS: i64 = 20_000;
const EVENTS: i64 = 100_000;
const EXPIRED: i64 = 5_000;

/// How long each grain is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsKept {
    /// Minutes.
    pub minutes: TimeDelta,
    /// Hours.
    pub hours: TimeDelta,
    /// Days.
    pub days: TimeDelta,
}

impl StatisticsKept {
    /// How long buckets of `grain` are kept.
    pub fn of(&self, grain: Grain) -> TimeDelta {
        match grain {
            Grain::Minute => self.minutes,
            Grain::Hour => self.hours,
            Grain::Day => self.days,
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolled {
    /// Deltas that were added up.
    pub deltas: usize,
    /// Up to this event the accepted ones are counted.
    pub counted_through: EventId,
    /// There is more to do at once.
    pub more: bool,
}

/// A row of `delivery_stats`: whose, of which endpoint and destination (nil for all), which bucket.
type Key = (Uuid, Uuid, Uuid, &'static str, DateTime<Utc>);
type Sums = BTreeMap<Key, Figures>;

struct DeltaRow {
    organization_id: Uuid,
    endpoint_id: Uuid,
    destination_id: Uuid,
    minute: DateTime<Utc>,
    successes: i32,
    redirects: i32,
    client_errors: i32,
    server_errors: i32,
    timeouts: i32,
    unreachable: i32,
    durations: Vec<i32>,
}

impl DeltaRow {
    fn figures(&self) -> Figures {
        let mut latency = Histogram::default();
        for duration in &self.durations {
            latency.record(u32::try_from(*duration).unwrap_or(0));
        }
        let outcomes = Outcomes {
            successes: self.successes.into(),
            redirects: self.redirects.into(),
            client_errors: self.client_errors.into(),
            server_errors: self.server_errors.into(),
            timeouts: self.timeouts.into(),
            unreachable: self.unreachable.into(),
        };
        Figures { outcomes, latency, ..Figures::default() }
    }
}

impl System {
    /// Adds up one step of what was recorded and accepted. `None`: another process is at it.
    pub async fn roll_statistics(&self) -> Result<Option<Rolled>> {
        // Asked before: whatever is committed later has a higher id.
        let through = self.published_through().await?;
        match tokio::time::timeout(self.deadline, self.roll(through)).await {
            Ok(done) => done,
            Err(elapsed) => Err(Error::Unavailable { store: POSTGRES, cause: elapsed.into() }),
        }
    }

    async fn roll(&self, through: EventId) -> Result<Option<Rolled>> {
        let mut transaction = self.pool.begin().await?;
        let elected = sqlx::query_scalar!("select pg_try_advisory_xact_lock($1) as \"elected!\"", STATISTICS)
            .fetch_one(&mut *transaction)
            .await?;
        if !elected {
            return Ok(None);
        }
        let mut sums = Sums::new();
        let deltas = take_deltas(&mut transaction, &mut sums).await?;
        let (counted_through, more_events) = count_events(&mut transaction, through, &mut sums).await?;
        add(&mut transaction, &sums).await?;
        transaction.commit().await?;
        let more = more_events || i64::try_from(deltas).is_ok_and(|deltas| deltas >= DELTAS);
        Ok(Some(Rolled { deltas, counted_through, more }))
    }

    /// Removes one step of what is older than it is kept. Answers how many rows; fewer than a step when none is left.
    pub async fn forget_statistics(&self, kept: StatisticsKept, now: DateTime<Utc>) -> Result<u64> {
        let mut forgotten = 0;
        for grain in Grain::ALL {
            let done = crate::lease::bounded!(
                self,
                sqlx::query!(
                    "delete from delivery_stats where ctid = any (array(
                         select ctid from delivery_stats where grain = $1 and starts_at < $2 limit $3))",
                    grain.as_str(),
                    now.checked_sub_signed(kept.of(grain)).unwrap_or(DateTime::UNIX_EPOCH),
                    EXPIRED
                ),
                execute
            );
            forgotten += done.rows_affected();
        }
        Ok(forgotten)
    }
}

/// Takes deltas away and adds them to the sums; answers how many.
async fn take_deltas(connection: &mut PgConnection, sums: &mut Sums) -> Result<usize> {
    let deltas = sqlx::query_as!(
        DeltaRow,
        "delete from delivery_deltas where ctid = any (array(select ctid from delivery_deltas limit $1))
         returning organization_id, endpoint_id, destination_id, minute, successes, redirects, client_errors,
             server_errors, timeouts, unreachable, durations",
        DELTAS
    )
    .fetch_all(connection)
    .await?;
    for delta in &deltas {
        let figures = delta.figures();
        let (organization, endpoint) = (delta.organization_id, delta.endpoint_id);
        let of = [(endpoint, delta.destination_id), (endpoint, Uuid::nil()), (Uuid::nil(), Uuid::nil())];
        for (endpoint, destination) in of {
            enter(sums, (organization, endpoint, destination), delta.minute, &figures);
        }
    }
    Ok(deltas.len())
}

/// Adds to the bucket of each grain.
fn enter(sums: &mut Sums, of: (Uuid, Uuid, Uuid), minute: DateTime<Utc>, figures: &Figures) {
    for grain in Grain::ALL {
        let key = (of.0, of.1, of.2, grain.as_str(), grain.floor(minute));
        sums.entry(key).or_default().add(figures);
    }
}

/// Counts events after the last one that is counted, up to `through`, below which nothing is committed any more. Answers
/// which is the last one now, and whether there are more.
async fn count_events(
    connection: &mut PgConnection,
    through: EventId,
    sums: &mut Sums,
) -> Result<(EventId, bool)> {
    let after = sqlx::query_scalar!("select counted_through from statistics_progress for update")
        .fetch_one(&mut *connection)
        .await?;
    if through.0 <= after {
        return Ok((EventId(after), false));
    }
    let full = sqlx::query_scalar!(
        "select id from events where id > $1 and id <= $2 order by id offset $3 limit 1",
        after,
        through.0,
        EVENTS - 1
    )
    .fetch_optional(&mut *connection)
    .await?;
    let reached = full.unwrap_or(through.0);
    let rows = sqlx::query!(
        r#"select organization_id, endpoint_id, date_bin('1 minute', received_at, 'epoch') as "minute!",
             count(*) as "accepted!", sum(s3_length)::bigint as "bytes!"
         from events where id > $1 and id <= $2 group by 1, 2, 3"#,
        after,
        reached
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let figures = Figures { accepted: row.accepted, accepted_bytes: row.bytes, ..Figures::default() };
        for endpoint in [row.endpoint_id, Uuid::nil()] {
            enter(sums, (row.organization_id, endpoint, Uuid::nil()), row.minute, &figures);
        }
    }
    sqlx::query!("update statistics_progress set counted_through = $1", reached).execute(connection).await?;
    Ok((EventId(reached), full.is_some()))
}

/// Adds the sums to what is there.
async fn add(connection: &mut PgConnection, sums: &Sums) -> Result<()> {
    let column = |pick: fn(&Figures) -> i64| sums.values().map(pick).collect::<Vec<i64>>();
    let uuids = |pick: fn(&Key) -> Uuid| sums.keys().map(pick).collect::<Vec<Uuid>>();
    let latencies: Vec<i64> =
        sums.values().flat_map(|figures| figures.latency.counts().iter().copied()).collect();
    sqlx::query!(
        "insert into delivery_stats as s (organization_id, endpoint_id, destination_id, grain, starts_at, accepted,
             accepted_bytes, successes, redirects, client_errors, server_errors, timeouts, unreachable, latency)
         select u.organization_id, u.endpoint_id, u.destination_id, u.grain, u.starts_at, u.accepted, u.accepted_bytes,
             u.successes, u.redirects, u.client_errors, u.server_errors, u.timeouts, u.unreachable,
             ($14::bigint[])[(u.n - 1) * $15 + 1:u.n * $15]
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[],
             $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) with ordinality
             as u (organization_id, endpoint_id, destination_id, grain, starts_at, accepted, accepted_bytes, successes,
                 redirects, client_errors, server_errors, timeouts, unreachable, n)
         on conflict (organization_id, endpoint_id, destination_id, grain, starts_at) do update
         set accepted = s.accepted + excluded.accepted, accepted_bytes = s.accepted_bytes + excluded.accepted_bytes,
             successes = s.successes + excluded.successes, redirects = s.redirects + excluded.redirects,
             client_errors = s.client_errors + excluded.client_errors,
             server_errors = s.server_errors + excluded.server_errors, timeouts = s.timeouts + excluded.timeouts,
             unreachable = s.unreachable + excluded.unreachable,
             latency = array(select one.a + one.b from unnest(s.latency, excluded.latency) with ordinality as one (a, b, n)
                 order by one.n)",
        &uuids(|key| key.0),
        &uuids(|key| key.1),
        &uuids(|key| key.2),
        &sums.keys().map(|key| key.3).collect::<Vec<_>>() as &[&str],
        &sums.keys().map(|key| key.4).collect::<Vec<_>>(),
        &column(|figures| figures.accepted),
        &column(|figures| figures.accepted_bytes),
        &column(|figures| figures.outcomes.successes),
        &column(|figures| figures.outcomes.redirects),
        &column(|figures| figures.outcomes.client_errors),
        &column(|figures| figures.outcomes.server_errors),
        &column(|figures| figures.outcomes.timeouts),
        &column(|figures| figures.outcomes.unreachable),
        &latencies,
        i64::try_from(CLASSES).unwrap_or(i64::MAX)
    )
    .execute(connection)
    .await?;
    Ok(())
}
