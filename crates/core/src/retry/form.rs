//! How a retry policy is written, in the API and in the store.
//!
//! `{"schedule": ["1m", "1h"]}` names each wait; `{"type": "exponential", "first": "30s", "attempts": 10}` lets them
//! grow. `overrides` says what goes before it for a class of failures: `"none"`, or a policy of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{DEFAULT_FACTOR, DEFAULT_LONGEST, FailureClass, Override, RetryPolicy, Waits};
use crate::duration;

/// The word that overrides with no retry.
const NONE: &str = "none";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RetryPolicyType)]
pub(super) enum Kind {
    Schedule,
    Exponential,
}

/// When a failed delivery is tried again: by a `schedule`, or exponentially. At most 30 attempts and 7 days in all.
#[derive(Clone, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    /// `schedule` unless given.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    /// The wait before each retry, such as `["1m", "5m", "15m", "1h", "6h"]`: as many retries as entries (at most
    /// 29). Units: `ms`, `s`, `m`, `h`, `d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 29, example = json!(["1m", "5m", "15m", "1h", "6h"]))]
    schedule: Option<Waiting>,
    /// Exponential: the first wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    first: Option<Wait>,
    /// Exponential: by how much each wait is longer than the one before, 1 to 100; 2 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    /// Exponential: the longest wait; `24h` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "6h")]
    max: Option<Wait>,
    /// Exponential: how many attempts there are, the first included, 1 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 30)]
    attempts: Option<u32>,
    /// The share of a wait by which it is spread, 0 to 1: `0.1` makes `10m` something between `9m` and `11m`.
    #[serde(default = "default_jitter")]
    jitter: f64,
    /// What goes before it for a class of failures: `none`, or a policy of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(no_recursion, example = json!({"client_error": "none", "timeout": {"schedule": ["10m"]}}))]
    overrides: BTreeMap<FailureClass, Override>,
}

pub(super) fn default_jitter() -> f64 {
    0.1
}

#[derive(Clone, Serialize, serde::Deserialize)]
struct Waiting(#[serde(with = "duration::list")] Vec<Duration>);

#[derive(Clone, Copy, Serialize, serde::Deserialize)]
struct Wait(#[serde(with = "duration::text")] Duration);

impl TryFrom<Form> for RetryPolicy {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        let waits = match form.kind.unwrap_or(Kind::Schedule) {
            Kind::Schedule => {
                let exponential = form.first.is_some() || form.max.is_some();
                if exponential || form.factor.is_some() || form.attempts.is_some() {
                    return Err("first, factor, max and attempts are for `type`: `exponential`");
                }
                Waits::Schedule(form.schedule.ok_or("missing field `schedule`")?.0)
            }
            Kind::Exponential => {
                if form.schedule.is_some() {
                    return Err("schedule is for `type`: `schedule`");
                }
                Waits::Exponential {
                    first: form.first.ok_or("missing field `first`")?.0,
                    factor: form.factor.unwrap_or(DEFAULT_FACTOR),
                    longest: form.max.map_or(DEFAULT_LONGEST, |wait| wait.0),
                    attempts: form.attempts.ok_or("missing field `attempts`")?,
                }
            }
        };
        Ok(Self { waits, jitter: form.jitter, overrides: form.overrides })
    }
}

impl From<RetryPolicy> for Form {
    fn from(policy: RetryPolicy) -> Self {
        let RetryPolicy { waits, jitter, overrides } = policy;
        let empty = Self {
            kind: None,
            schedule: None,
            first: None,
            factor: None,
            max: None,
            attempts: None,
            jitter,
            overrides,
        };
        match waits {
            // Without its type, as releases before the other one read it.
            Waits::Schedule(waits) => Self { schedule: Some(Waiting(waits)), ..empty },
            Waits::Exponential { first, factor, longest, attempts } => Self {
                kind: Some(Kind::Exponential),
                first: Some(Wait(first)),
                factor: Some(factor),
                max: Some(Wait(longest)),
                attempts: Some(attempts),
                ..empty
            },
        }
    }
}

impl Serialize for Override {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => serializer.serialize_str(NONE),
            Self::Policy(policy) => policy.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Override {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OverrideVisitor)
    }
}

struct OverrideVisitor;

impl<'de> Visitor<'de> for OverrideVisitor {
    type Value = Override;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`none` or a policy")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Override, E> {
        if text == NONE {
            return Ok(Override::Never);
        }
        Err(E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Override, A::Error> {
        let policy = RetryPolicy::deserialize(MapAccessDeserializer::new(map))?;
        if !policy.overrides.is_empty() {
            return Err(de::Error::custom("an override has no overrides of its own"));
        }
        Ok(Override::Policy(Box::new(policy)))
    }
}

/// What a policy says to one class of failures.
#[derive(ToSchema)]
#[schema(as = RetryOverride)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OverrideForm {
    Never(NeverForm),
    /// A policy of its own, without overrides.
    #[schema(no_recursion)]
    Policy(RetryPolicy),
}

/// Never tried again.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NoRetry)]
#[expect(dead_code, reason = "only its schema is used")]
enum NeverForm {
    None,
}

impl PartialSchema for Override {
    fn schema() -> RefOr<Schema> {
        OverrideForm::schema()
    }
}

impl ToSchema for Override {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("RetryOverride")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        OverrideForm::schemas(schemas);
    }
}

impl PartialSchema for RetryPolicy {
    fn schema() -> RefOr<Schema> {
        Form::schema()
    }
}

impl ToSchema for RetryPolicy {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("RetryPolicy")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Form::schemas(schemas);
        // The two refer to each other, so neither collects the other by itself.
        schemas.push((Override::name().into_owned(), Override::schema()));
        Override::schemas(schemas);
    }
}
