//! Analytics: what was accepted and attempted, in buckets of time.

use axum::Json as Answer;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Problem, Query};
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_core::statistics::{Figures, Grain, Histogram, InvalidSpan, Span};
use ravenpost_store::tenant::{Counted, EndpointFigures};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{List, list as listed, page};
use super::{Api, Failure};
use crate::auth::{Caller, EventsRead};

/// What is looked at unless `from` says more.
const LATELY: TimeDelta = TimeDelta::hours(24);
/// Most buckets that are added up for each endpoint of a page.
const MOST_BUCKETS_EACH: usize = 100;

/// Of what, when, in which buckets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesQuery {
    /// Of one endpoint and all its destinations.
    endpoint_id: Option<EndpointId>,
    /// Of one destination: attempts only.
    destination_id: Option<DestinationId>,
    /// From the bucket that this time lies in (RFC 3339); 24 hours before `to` unless given.
    from: Option<DateTime<Utc>>,
    /// Up to this time (RFC 3339); now unless given.
    to: Option<DateTime<Utc>>,
    /// How long a bucket is; `auto`, which fits the span and what is kept, unless given. At most 1,500 buckets.
    #[param(inline)]
    bucket: Option<Bucket>,
}

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bucket {
    /// As it fits.
    Auto,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours, from midnight UTC.
    Day,
}

/// When.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EndpointsQuery {
    /// From the bucket that this time lies in (RFC 3339): minutes for a span of up to an hour, hours for one of up to 48,
    /// days otherwise, or what is still kept of that time; at most 100 of them. 24 hours before `to` unless given.
    from: Option<DateTime<Utc>>,
    /// Up to this time (RFC 3339); now unless given.
    to: Option<DateTime<Utc>>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// What something came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Figures)]
pub(super) struct FiguresBody {
    /// Events that were accepted; always 0 for a destination.
    accepted: i64,
    /// The bytes of their payloads.
    accepted_bytes: i64,
    /// Attempts to deliver.
    attempts: i64,
    /// Those that were accepted by their destination.
    successes: i64,
    /// Those that were not.
    failures: i64,
    /// The share of attempts that succeeded, 0 to 1; null without attempts.
    #[schema(required = true, example = 0.998)]
    success_rate: Option<f64>,
    /// How those failed that failed.
    failed: FailuresBody,
    /// How long attempts took, from the start to the end of the response; null without attempts.
    #[schema(required = true)]
    latency_ms: Option<LatencyBody>,
}

/// Failed attempts by class.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Failures)]
pub(super) struct FailuresBody {
    /// A 3xx, which is never followed.
    redirect: i64,
    /// A 4xx.
    client_error: i64,
    /// A 5xx.
    server_error: i64,
    /// No answer in time.
    timeout: i64,
    /// Not reached: name, connection, TLS, token, an address that is refused.
    unreachable: i64,
}

/// Percentiles in milliseconds, within a fifth of what they really are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Latency)]
pub(super) struct LatencyBody {
    /// Half of the attempts took no longer.
    p50: f64,
    /// 95 of 100 took no longer.
    p95: f64,
    /// 99 of 100 took no longer.
    p99: f64,
}

/// One bucket of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FiguresOfBucket)]
pub(super) struct BucketBody {
    /// When it begins.
    start: DateTime<Utc>,
    #[serde(flatten)]
    figures: FiguresBody,
}

/// Figures in buckets of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Series)]
pub(super) struct SeriesBody {
    /// How long each bucket is.
    bucket: Grain,
    /// The start of the first bucket.
    from: DateTime<Utc>,
    /// The end of the last bucket.
    to: DateTime<Utc>,
    /// Accepted events are counted up to here, which is usually half a minute ago; attempts are counted at once.
    accepted_through: DateTime<Utc>,
    /// All buckets together.
    total: FiguresBody,
    /// Every bucket, in its order, with zeros where nothing happened.
    data: Vec<BucketBody>,
}

/// An endpoint and what it came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointFigures)]
pub(super) struct EndpointFiguresBody {
    /// Which one.
    endpoint_id: EndpointId,
    /// What its owner calls it.
    name: String,
    #[serde(flatten)]
    figures: FiguresBody,
}

impl From<&Figures> for FiguresBody {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 52 bits")]
    fn from(figures: &Figures) -> Self {
        let outcomes = &figures.outcomes;
        let attempts = outcomes.attempts();
        Self {
            accepted: figures.accepted,
            accepted_bytes: figures.accepted_bytes,
            attempts,
            successes: outcomes.successes,
            failures: outcomes.failures(),
            success_rate: (attempts > 0).then(|| outcomes.successes as f64 / attempts as f64),
            failed: FailuresBody {
                redirect: outcomes.redirects,
                client_error: outcomes.client_errors,
                server_error: outcomes.server_errors,
                timeout: outcomes.timeouts,
                unreachable: outcomes.unreachable,
            },
            latency_ms: LatencyBody::of(&figures.latency),
        }
    }
}

impl LatencyBody {
    fn of(latency: &Histogram) -> Option<Self> {
        let percentile = |part| latency.percentile(part).map(|time| (time * 10.0).round() / 10.0);
        Some(Self { p50: percentile(0.5)?, p95: percentile(0.95)?, p99: percentile(0.99)? })
    }
}

impl SeriesQuery {
    fn counted(&self) -> Counted {
        match (self.destination_id, self.endpoint_id) {
            (Some(destination), _) => Counted::Destination(destination),
            (None, Some(endpoint)) => Counted::Endpoint(endpoint),
            (None, None) => Counted::Organization,
        }
    }

    fn span(&self, api: &Api, now: DateTime<Utc>) -> Result<Span, Problem> {
        let (from, to) = between(self.from, self.to, now);
        let grain = match self.bucket.unwrap_or(Bucket::Auto) {
            Bucket::Minute => Grain::Minute,
            Bucket::Hour => Grain::Hour,
            Bucket::Day => Grain::Day,
            Bucket::Auto => api.statistics.kept(Grain::fitting(to - from), from, now),
        };
        Span::covering(from, to, Some(grain)).map_err(|invalid| refused(&invalid))
    }
}

/// From when to when is asked, where that is left out in part.
fn between(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let to = to.unwrap_or(now);
    (from.unwrap_or_else(|| to.checked_sub_signed(LATELY).unwrap_or(DateTime::UNIX_EPOCH)), to)
}

fn refused(invalid: &InvalidSpan) -> Problem {
    let parameter = if matches!(invalid, InvalidSpan::TooMany(_)) { "bucket" } else { "from" };
    Problem::invalid_parameter(parameter, invalid.to_string())
}

/// Get figures over time.
///
/// Events that were accepted, attempts, their success and how long they took: of the organization, an endpoint or a
/// destination. What it costs depends on the number of buckets, not on how much happened. Minutes are kept for a few
/// days, hours for some months, days for years, as the operator has set it; of older ones there is nothing.
#[utoipa::path(get, path = "/analytics", tag = "analytics", operation_id = "get_analytics", params(SeriesQuery),
    security(("api_key" = ["events:read"])), responses((status = 200, body = SeriesBody)))]
pub(super) async fn series(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Query(query): Query<SeriesQuery>,
) -> Result<Answer<SeriesBody>, Failure> {
    let span = query.span(&api, clock::now())?;
    let series = caller.tenant.series(query.counted(), span).await?;
    let total = FiguresBody::from(&series.total());
    let bucket =
        |(start, figures): &(DateTime<Utc>, Figures)| BucketBody { start: *start, figures: figures.into() };
    Ok(Answer(SeriesBody {
        bucket: span.grain,
        from: span.from,
        to: span.to,
        accepted_through: series.accepted_through,
        total,
        data: series.buckets.iter().map(bucket).collect(),
    }))
}

/// List endpoints with their figures.
#[utoipa::path(get, path = "/analytics/endpoints", tag = "analytics", operation_id = "list_endpoint_analytics",
    params(EndpointsQuery), security(("api_key" = ["events:read"])),
    responses((status = 200, body = List<EndpointFiguresBody>)))]
pub(super) async fn endpoints(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Query(query): Query<EndpointsQuery>,
) -> Result<Answer<List<EndpointFiguresBody>>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let now = clock::now();
    let (from, to) = between(query.from, query.to, now);
    let grain = api.statistics.kept(Grain::coarse(to - from), from, now);
    let span = Span::covering(from, to, Some(grain)).map_err(|invalid| refused(&invalid))?;
    if span.starts().count() > MOST_BUCKETS_EACH {
        let detail =
            format!("at most {MOST_BUCKETS_EACH} buckets of what is kept before `to`: choose a shorter span");
        return Err(Problem::invalid_parameter("from", detail).into());
    }
    let endpoints = caller.tenant.endpoint_figures(grain, from, to, page).await?;
    let show = |endpoint: EndpointFigures| EndpointFiguresBody {
        endpoint_id: endpoint.endpoint_id,
        name: endpoint.name,
        figures: FiguresBody::from(&endpoint.figures),
    };
    Ok(Answer(listed(endpoints, show)))
}
