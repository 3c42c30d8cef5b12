//! What was accepted and attempted, in buckets of time: what is added up, and what was recorded since.
//!
//! A bucket of an organization, an endpoint or a destination is one row, so that an answer costs what it has of buckets.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use ravenpost_core::statistics::{Figures, Grain, Histogram, Outcomes, Span};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Listed, Page, Tenant};
use crate::Result;
use crate::decode::Row;

/// Of what figures are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Everything of the organization.
    Organization,
    /// An endpoint and all its destinations.
    Endpoint(EndpointId),
    /// One destination; nothing is accepted by it, so that it has attempts only.
    Destination(DestinationId),
}

/// Figures in buckets of time.
#[derive(Debug, Clone)]
pub struct Series {
    /// Every bucket of the span, in its order, with zeros where nothing happened.
    pub buckets: Vec<(DateTime<Utc>, Figures)>,
    /// Accepted events are counted up to here; attempts up to now.
    pub accepted_through: DateTime<Utc>,
}

impl Series {
    /// All buckets together.
    pub fn total(&self) -> Figures {
        let mut total = Figures::default();
        self.buckets.iter().for_each(|(_, figures)| total.add(figures));
        total
    }
}

/// An endpoint and what it came to.
#[derive(Debug, Clone)]
pub struct EndpointFigures {
    /// Which one.
    pub endpoint_id: EndpointId,
    /// What its owner calls it.
    pub name: String,
    /// What it came to.
    pub figures: Figures,
}

/// A row of either table.
struct FiguresRow {
    endpoint_id: Uuid,
    starts_at: DateTime<Utc>,
    accepted: i64,
    accepted_bytes: i64,
    successes: i64,
    redirects: i64,
    client_errors: i64,
    server_errors: i64,
    timeouts: i64,
    unreachable: i64,
    latency: Vec<i64>,
}

impl FiguresRow {
    fn outcomes(&self) -> Outcomes {
        Outcomes {
            successes: self.successes,
            redirects: self.redirects,
            client_errors: self.client_errors,
            server_errors: self.server_errors,
            timeouts: self.timeouts,
            unreachable: self.unreachable,
        }
    }

    fn added_up(self) -> Result<Figures> {
        let row = Row { table: "delivery_stats", id: self.endpoint_id };
        let latency = Histogram::from_counts(&self.latency).ok_or("not one count for each class");
        Ok(Figures {
            accepted: self.accepted,
            accepted_bytes: self.accepted_bytes,
            outcomes: self.outcomes(),
            latency: row.value("latency", latency)?,
        })
    }

    /// Of a delta: `latency` has the durations themselves.
    fn recent(self) -> Figures {
        let mut latency = Histogram::default();
        for duration in &self.latency {
            latency.record(u32::try_from(*duration).unwrap_or(0));
        }
        Figures { outcomes: self.outcomes(), latency, ..Figures::default() }
    }
}

impl Tenant {
    /// Figures by bucket. What is not there has none.
    pub async fn series(&self, counted: Counted, span: Span) -> Result<Series> {
        let mut transaction = self.begin_reading().await?;
        let mut buckets: BTreeMap<DateTime<Utc>, Figures> =
            span.starts().map(|start| (start, Figures::default())).collect();
        if let Some(of) = self.rows_of(&mut transaction, counted).await? {
            for (start, figures) in self.figures(&mut transaction, of, span).await? {
                if let Some(bucket) = span.bucket(start).and_then(|start| buckets.get_mut(&start)) {
                    bucket.add(&figures);
                }
            }
        }
        let accepted_through = counted_through(&mut transaction).await?;
        Ok(Series { buckets: buckets.into_iter().collect(), accepted_through })
    }

    /// The endpoint and the destination by which rows are found; nil for all.
    async fn rows_of(&self, connection: &mut PgConnection, counted: Counted) -> Result<Option<(Uuid, Uuid)>> {
        let destination = match counted {
            Counted::Organization => return Ok(Some((Uuid::nil(), Uuid::nil()))),
            Counted::Endpoint(endpoint) => return Ok(Some((endpoint.0, Uuid::nil()))),
            Counted::Destination(destination) => destination.0,
        };
        let endpoint = sqlx::query_scalar!(
            "select endpoint_id from destinations where organization_id = $1 and id = $2",
            self.organization.0,
            destination
        )
        .fetch_optional(connection)
        .await?;
        Ok(endpoint.map(|endpoint| (endpoint, destination)))
    }

    async fn figures(
        &self,
        connection: &mut PgConnection,
        (endpoint, destination): (Uuid, Uuid),
        span: Span,
    ) -> Result<Vec<(DateTime<Utc>, Figures)>> {
        let rows = sqlx::query_as!(
            FiguresRow,
            "select endpoint_id, starts_at, accepted, accepted_bytes, successes, redirects, client_errors, server_errors,
                 timeouts, unreachable, latency
             from delivery_stats where organization_id = $1 and endpoint_id = $2 and destination_id = $3 and grain = $4
                 and starts_at >= $5 and starts_at < $6",
            self.organization.0,
            endpoint,
            destination,
            span.grain.as_str(),
            span.from,
            span.to
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut figures =
            rows.into_iter().map(|row| Ok((row.starts_at, row.added_up()?))).collect::<Result<Vec<_>>>()?;
        let known = |id: Uuid| (!id.is_nil()).then_some(id);
        let recent = self.recent(connection, known(endpoint), known(destination), span.from, span.to).await?;
        figures.extend(recent.into_iter().map(|row| (row.starts_at, row.recent())));
        Ok(figures)
    }

    /// What was recorded and is not added up yet: of a few seconds.
    async fn recent(
        &self,
        connection: &mut PgConnection,
        endpoint: Option<Uuid>,
        destination: Option<Uuid>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<FiguresRow>> {
        let rows = sqlx::query_as!(
            FiguresRow,
            r#"select endpoint_id, minute as starts_at, 0::bigint as "accepted!", 0::bigint as "accepted_bytes!",
                 successes::bigint as "successes!", redirects::bigint as "redirects!",
                 client_errors::bigint as "client_errors!", server_errors::bigint as "server_errors!",
                 timeouts::bigint as "timeouts!", unreachable::bigint as "unreachable!",
                 durations::bigint[] as "latency!"
             from delivery_deltas where organization_id = $1 and ($2::uuid is null or endpoint_id = $2)
                 and ($3::uuid is null or destination_id = $3) and minute >= $4 and minute < $5"#,
            self.organization.0,
            endpoint,
            destination,
            from,
            to
        )
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    /// The endpoints that are not deleted, newest first, each with what it came to in this span, from the start of the
    /// bucket of `grain` that it begins in.
    pub async fn endpoint_figures(
        &self,
        grain: Grain,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        page: Page,
    ) -> Result<Listed<EndpointFigures>> {
        let from = grain.floor(from);
        let mut transaction = self.begin_reading().await?;
        let endpoints = sqlx::query!(
            "select id, name from endpoints where organization_id = $1 and id < $2 and deleted_at is null
             order by id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let mut sums = self.sums(&mut transaction, &ids, grain, (from, to)).await?;
        for row in self.recent(&mut transaction, None, None, from, to).await? {
            sums.entry(row.endpoint_id).or_default().add(&row.recent());
        }
        let rows = endpoints
            .into_iter()
            .map(|endpoint| EndpointFigures {
                endpoint_id: endpoint.id.into(),
                name: endpoint.name,
                figures: sums.remove(&endpoint.id).unwrap_or_default(),
            })
            .collect();
        Ok(page.cut(rows, |row: &EndpointFigures| row.endpoint_id.0))
    }

    async fn sums(
        &self,
        connection: &mut PgConnection,
        endpoints: &[Uuid],
        grain: Grain,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<BTreeMap<Uuid, Figures>> {
        let rows = sqlx::query_as!(
            FiguresRow,
            "select s.endpoint_id, s.starts_at, s.accepted, s.accepted_bytes, s.successes, s.redirects, s.client_errors,
                 s.server_errors, s.timeouts, s.unreachable, s.latency
             from unnest($2::uuid[]) as asked (id) cross join lateral (
                 select * from delivery_stats where organization_id = $1 and endpoint_id = asked.id
                     and destination_id = '00000000-0000-0000-0000-000000000000' and grain = $3
                     and starts_at >= $4 and starts_at < $5) as s",
            self.organization.0,
            endpoints,
            grain.as_str(),
            from,
            to
        )
        .fetch_all(connection)
        .await?;
        let mut sums = BTreeMap::<Uuid, Figures>::new();
        for row in rows {
            let endpoint = row.endpoint_id;
            sums.entry(endpoint).or_default().add(&row.added_up()?);
        }
        Ok(sums)
    }
}

async fn counted_through(connection: &mut PgConnection) -> Result<DateTime<Utc>> {
    let through =
        sqlx::query_scalar!("select counted_through from statistics_progress").fetch_one(connection).await?;
    Ok(EventId(through).drawn_at())
}
