//! When something is trouble, and within which bounds that may be asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::duration;

/// The longest window: what has to be read again after a restart.
pub const LONGEST_WINDOW: Duration = Duration::from_hours(1);
/// The shortest one: outcomes are tallied by the minute.
const SHORTEST_WINDOW: Duration = Duration::from_mins(1);
/// The longest time without something.
const LONGEST_ABSENCE: Duration = Duration::from_hours(24 * 7);
/// The most of anything that is counted.
const MOST: u32 = 1_000_000;

/// When something is trouble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = AlertCondition)]
pub enum Condition {
    /// A destination has failed so many times in a row. Ends with its next success.
    ConsecutiveFailures {
        /// How many, 1 to 10,000.
        failures: u32,
    },
    /// Too large a part of a destination's attempts failed.
    ErrorRate {
        /// More than so many of a hundred, 0.1 to 100.
        #[serde(default = "five")]
        percent: f64,
        /// Of the attempts of so long, `1m` to `1h`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "15m")]
        window: Duration,
        /// When there were at least so many.
        minimum_attempts: u32,
    },
    /// A destination is attempted and has accepted nothing for so long.
    DestinationDown {
        /// How long, `1m` to `7d`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "30m")]
        after: Duration,
    },
    /// So many events were given up for a destination.
    DeadLetters {
        /// How many.
        count: u32,
        /// Within so long, `1m` to `1h`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "15m")]
        window: Duration,
    },
    /// A destination is about to be disabled, because it only fails.
    DisableWarning {},
    /// A destination was disabled.
    DestinationDisabled {},
    /// A destination takes long to answer.
    Latency {
        /// The 95th percentile is over this, `1ms` to `60s`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "5s")]
        p95: Duration,
        /// Of the attempts of so long, `1m` to `1h`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "15m")]
        window: Duration,
        /// When there were at least so many.
        minimum_attempts: u32,
    },
    /// Deliveries to a destination wait: too many of them, or for too long. One of the two has to be given.
    Backlog {
        /// More than so many are due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<u32>,
        /// The oldest has been due for so long, `1m` to `7d`.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "optional")]
        #[schema(value_type = Option<String>, example = "1h")]
        oldest: Option<Duration>,
    },
    /// An endpoint that has received events in most hours of the last day receives none.
    EndpointSilent {
        /// For so long, `1h` to `7d`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "3h")]
        after: Duration,
    },
    /// So many requests to an endpoint failed verification.
    SignatureFailures {
        /// How many.
        count: u32,
        /// Within so long, `1m` to `1h`.
        #[serde(with = "duration::text")]
        #[schema(value_type = String, example = "1h")]
        window: Duration,
    },
}

fn five() -> f64 {
    5.0
}

mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::duration;

    #[expect(clippy::ref_option, reason = "serde hands the field over so")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => duration::text::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| duration::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// A condition in one word: its `type`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlertConditionName)]
pub enum ConditionName {
    /// See [`Condition::ConsecutiveFailures`].
    ConsecutiveFailures,
    /// See [`Condition::ErrorRate`].
    ErrorRate,
    /// See [`Condition::DestinationDown`].
    DestinationDown,
    /// See [`Condition::DeadLetters`].
    DeadLetters,
    /// See [`Condition::DisableWarning`].
    DisableWarning,
    /// See [`Condition::DestinationDisabled`].
    DestinationDisabled,
    /// See [`Condition::Latency`].
    Latency,
    /// See [`Condition::Backlog`].
    Backlog,
    /// See [`Condition::EndpointSilent`].
    EndpointSilent,
    /// See [`Condition::SignatureFailures`].
    SignatureFailures,
}

impl ConditionName {
    /// Every condition.
    pub const ALL: [Self; 10] = [
        Self::ConsecutiveFailures,
        Self::ErrorRate,
        Self::DestinationDown,
        Self::DeadLetters,
        Self::DisableWarning,
        Self::DestinationDisabled,
        Self::Latency,
        Self::Backlog,
        Self::EndpointSilent,
        Self::SignatureFailures,
    ];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::ErrorRate => "error_rate",
            Self::DestinationDown => "destination_down",
            Self::DeadLetters => "dead_letters",
            Self::DisableWarning => "disable_warning",
            Self::DestinationDisabled => "destination_disabled",
            Self::Latency => "latency",
            Self::Backlog => "backlog",
            Self::EndpointSilent => "endpoint_silent",
            Self::SignatureFailures => "signature_failures",
        }
    }

    /// The inverse of [`ConditionName::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// Whether it is judged of an endpoint as a whole; all others are of one destination.
    pub fn is_of_endpoint(self) -> bool {
        matches!(self, Self::EndpointSilent | Self::SignatureFailures)
    }

    /// Whether outcomes decide it. The others are asked of the database from time to time.
    pub fn is_of_outcomes(self) -> bool {
        !self.is_of_endpoint() && self != Self::Backlog
    }

    /// Whether it says nothing new of a destination that keeps failing: by default one outage is one alert.
    pub fn is_part_of_outage(self) -> bool {
        matches!(self, Self::ErrorRate | Self::DeadLetters | Self::Latency)
    }
}

impl Condition {
    /// Its name.
    pub fn name(&self) -> ConditionName {
        match self {
            Self::ConsecutiveFailures { .. } => ConditionName::ConsecutiveFailures,
            Self::ErrorRate { .. } => ConditionName::ErrorRate,
            Self::DestinationDown { .. } => ConditionName::DestinationDown,
            Self::DeadLetters { .. } => ConditionName::DeadLetters,
            Self::DisableWarning {} => ConditionName::DisableWarning,
            Self::DestinationDisabled {} => ConditionName::DestinationDisabled,
            Self::Latency { .. } => ConditionName::Latency,
            Self::Backlog { .. } => ConditionName::Backlog,
            Self::EndpointSilent { .. } => ConditionName::EndpointSilent,
            Self::SignatureFailures { .. } => ConditionName::SignatureFailures,
        }
    }

    /// How far back outcomes count; zero where none do.
    pub fn window(&self) -> Duration {
        match self {
            Self::ErrorRate { window, .. }
            | Self::DeadLetters { window, .. }
            | Self::Latency { window, .. }
            | Self::SignatureFailures { window, .. } => *window,
            _ => Duration::ZERO,
        }
    }

    /// Refuses what is out of bounds, by the name of the field.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::ConsecutiveFailures { failures } => number("failures", *failures, 10_000),
            Self::ErrorRate { percent, window, minimum_attempts } => {
                if !(0.1..=100.0).contains(percent) {
                    return Err(Invalid::new("percent", "from 0.1 to 100"));
                }
                time("window", *window, SHORTEST_WINDOW, LONGEST_WINDOW)?;
                number("minimum_attempts", *minimum_attempts, MOST)
            }
            Self::DestinationDown { after } => time("after", *after, SHORTEST_WINDOW, LONGEST_ABSENCE),
            Self::DeadLetters { count, window } | Self::SignatureFailures { count, window } => {
                number("count", *count, MOST)?;
                time("window", *window, SHORTEST_WINDOW, LONGEST_WINDOW)
            }
            Self::DisableWarning {} | Self::DestinationDisabled {} => Ok(()),
            Self::Latency { p95, window, minimum_attempts } => {
                time("p95", *p95, Duration::from_millis(1), Duration::from_mins(1))?;
                time("window", *window, SHORTEST_WINDOW, LONGEST_WINDOW)?;
                number("minimum_attempts", *minimum_attempts, MOST)
            }
            Self::Backlog { waiting: None, oldest: None } => {
                Err(Invalid::new("waiting", "give `waiting`, `oldest` or both"))
            }
            Self::Backlog { waiting, oldest } => {
                waiting.map_or(Ok(()), |waiting| number("waiting", waiting, MOST))?;
                oldest.map_or(Ok(()), |oldest| time("oldest", oldest, SHORTEST_WINDOW, LONGEST_ABSENCE))
            }
            Self::EndpointSilent { after } => time("after", *after, Duration::from_hours(1), LONGEST_ABSENCE),
        }
    }
}

fn number(field: &'static str, value: u32, most: u32) -> Result<(), Invalid> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(Invalid::new(field, format!("from 1 to {most}"))) }
}

fn time(field: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let message = format!("from {} to {}", duration::format(least), duration::format(most));
    Err(Invalid::new(field, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Condition, String> {
        let condition: Condition = serde_json::from_value(value).map_err(|error| error.to_string())?;
        condition.check().map_err(|error| error.to_string()).map(|()| condition)
    }

    #[test]
    fn every_condition_reads_what_it_writes() {
        for written in [
            json!({ "type": "consecutive_failures", "failures": 5 }),
            json!({ "type": "error_rate", "percent": 2.5, "window": "15m", "minimum_attempts": 20 }),
            json!({ "type": "destination_down", "after": "30m" }),
            json!({ "type": "dead_letters", "count": 1, "window": "1h" }),
            json!({ "type": "disable_warning" }),
            json!({ "type": "destination_disabled" }),
            json!({ "type": "latency", "p95": "5s", "window": "5m", "minimum_attempts": 10 }),
            json!({ "type": "backlog", "waiting": 100, "oldest": "1h" }),
            json!({ "type": "endpoint_silent", "after": "3h" }),
            json!({ "type": "signature_failures", "count": 50, "window": "1h" }),
        ] {
            let condition = read(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(&condition).unwrap(), written);
            assert_eq!(written["type"], condition.name().as_str());
            assert_eq!(ConditionName::parse(condition.name().as_str()), Some(condition.name()));
        }
    }

    #[test]
    fn an_error_rate_is_of_five_percent_unless_it_is_said() {
        let rate = read(json!({ "type": "error_rate", "window": "15m", "minimum_attempts": 20 })).unwrap();
        assert!(matches!(rate, Condition::ErrorRate { percent: 5.0, .. }));
    }

    #[test]
    fn what_is_out_of_bounds_names_its_field() {
        for (written, why) in [
            (json!({ "type": "consecutive_failures", "failures": 0 }), "failures: from 1 to 10000"),
            (
                json!({ "type": "error_rate", "percent": 0, "window": "15m", "minimum_attempts": 1 }),
                "percent: from 0.1 to 100",
            ),
            (
                json!({ "type": "error_rate", "percent": 5, "window": "2h", "minimum_attempts": 1 }),
                "window: from 1m to 1h",
            ),
            (json!({ "type": "destination_down", "after": "8d" }), "after: from 1m to 7d"),
            (json!({ "type": "dead_letters", "count": 0, "window": "1h" }), "count: from 1 to 1000000"),
            (
                json!({ "type": "latency", "p95": "2m", "window": "5m", "minimum_attempts": 1 }),
                "p95: from 1ms to 1m",
            ),
            (json!({ "type": "backlog" }), "waiting: give `waiting`, `oldest` or both"),
            (json!({ "type": "backlog", "oldest": "1s" }), "oldest: from 1m to 7d"),
            (json!({ "type": "endpoint_silent", "after": "1m" }), "after: from 1h to 7d"),
        ] {
            assert_eq!(read(written).unwrap_err(), why);
        }
        assert!(read(json!({ "type": "dead_letters", "count": 1, "window": "1h", "extra": 1 })).is_err());
        assert!(read(json!({ "type": "nothing" })).is_err());
    }
}
