//! Bodies that may be left out, fields in which null means something, and merge patches.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header;
use ravenpost_chassis::problem::{Json, Kind, Problem, from_json};
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A JSON body, or the default when there is no body at all.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH).map(header::HeaderValue::as_bytes);
        let empty = match length {
            Some(length) => length == b"0",
            None => {
                !headers.contains_key(header::TRANSFER_ENCODING)
                    && !headers.contains_key(header::CONTENT_TYPE)
            }
        };
        if empty {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(value)| Self(value))
    }
}

/// Tells a field that is null (`Some(None)`) from one that is absent; for `#[serde(default, deserialize_with)]`.
#[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
pub(super) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Takes a field that can't be removed, so that null is refused; for `#[serde(default, deserialize_with)]`.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let value = Option::deserialize(deserializer)?;
    value.map(Some).ok_or_else(|| D::Error::custom("null would remove it, and it has to be there"))
}

/// How often a change is made of what is there while others change that, too.
pub(super) const TRIES: usize = 5;

/// Others have changed it each time that a merge patch was to be made of it.
pub(super) fn contended(what: &str) -> Problem {
    let detail = format!("others are changing the {what} just now: try again");
    Problem::new(Kind::Conflict, detail).retry_after(Duration::from_secs(1))
}

/// The body of a PATCH: a merge patch (RFC 7396), which says a change `T` as soon as it is known of what.
pub(super) struct Patch<T> {
    given: Map<String, Value>,
    change: PhantomData<fn() -> T>,
}

impl<T, S: Send + Sync> FromRequest<S> for Patch<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(Distinct(given)) = Json::from_request(request, state).await?;
        Ok(Self { given, change: PhantomData })
    }
}

impl<T: DeserializeOwned> Patch<T> {
    /// The change of what is shown as `present`, and whether it holds for that alone: objects in it are merged with those
    /// that stand there, and so are whole.
    pub(super) fn of(&self, present: &impl Serialize) -> Result<(T, bool), Problem> {
        let present = serde_json::to_value(present).map_err(|error| Problem::internal(&error))?;
        let (change, merged) = self.merged(&present, Nulls::Remove);
        // A name that nobody knows is refused also where it would only be removed.
        let (said, _) = self.merged(&present, Nulls::Keep);
        match read::<T>(&said) {
            Err(problem) if problem.errors.iter().any(|error| error.message.starts_with("unknown field")) => {
                Err(problem)
            }
            _ => Ok((read(&change)?, merged)),
        }
    }

    fn merged(&self, present: &Value, nulls: Nulls) -> (Map<String, Value>, bool) {
        let (mut change, mut merged) = (self.given.clone(), false);
        for (field, value) in &mut change {
            if let (Some(present), Value::Object(patch)) = (present.get(field), &*value) {
                *value = merge(present, patch, nulls);
                merged = true;
            }
        }
        (change, merged)
    }
}

fn read<T: DeserializeOwned>(change: &Map<String, Value>) -> Result<T, Problem> {
    from_json(&serde_json::to_vec(change).map_err(|error| Problem::internal(&error))?)
}

/// What becomes of a null within an object.
#[derive(Debug, Clone, Copy)]
enum Nulls {
    /// It removes.
    Remove,
    /// It stays, for its name to be looked at.
    Keep,
}

/// An object each of whose fields is there once (RFC 8259, section 4). `serde_json` takes the last one of several.
struct Distinct(Map<String, Value>);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Distinct;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
                let mut fields = Map::new();
                while let Some((field, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&field) {
                        return Err(A::Error::custom(format!("duplicate field `{field}`")));
                    }
                    fields.insert(field, value);
                }
                Ok(Distinct(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// RFC 7396, section 2. What is of another `type` is replaced: the fields of two kinds together make neither.
fn merge(present: &Value, patch: &Map<String, Value>, nulls: Nulls) -> Value {
    let mut merged = match present {
        Value::Object(present) if is_of_one_type(present, patch) => present.clone(),
        _ => Map::new(),
    };
    for (field, value) in patch {
        let value = match value {
            Value::Null if matches!(nulls, Nulls::Remove) => {
                merged.remove(field);
                continue;
            }
            Value::Object(patch) => merge(merged.get(field).unwrap_or(&Value::Null), patch, nulls),
            value => value.clone(),
        };
        merged.insert(field.clone(), value);
    }
    Value::Object(merged)
}

fn is_of_one_type(present: &Map<String, Value>, patch: &Map<String, Value>) -> bool {
    // What has no type is what an object of it is called that says none: a schedule.
    let present = present.get("type").and_then(Value::as_str).unwrap_or("schedule");
    patch.get("type").is_none_or(|kind| kind.is_null() || kind == present)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(present: &Value, patch: &Value) -> Value {
        merge(present, patch.as_object().unwrap(), Nulls::Remove)
    }

    /// The examples of RFC 7396, appendix A, in which both or the patch are objects.
    #[test]
    fn it_merges_as_the_rfc_does() {
        for (present, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(&present, &patch), result, "{present} {patch}");
        }
    }

    #[test]
    fn what_is_of_another_type_is_replaced() {
        let basic = json!({"type": "basic", "username": "ada"});
        assert_eq!(
            merged(&basic, &json!({"type": "bearer", "token": "t"})),
            json!({"type": "bearer", "token": "t"})
        );
        assert_eq!(
            merged(&basic, &json!({"type": "basic", "password": "p"})),
            json!({"type": "basic", "username": "ada", "password": "p"})
        );
        let schedule = json!({"schedule": ["1m"], "jitter": 0.5});
        assert_eq!(
            merged(&schedule, &json!({"type": "schedule", "schedule": ["2m"]})),
            json!({"type": "schedule", "schedule": ["2m"], "jitter": 0.5})
        );
        let exponential = json!({"type": "exponential", "first": "1s", "attempts": 3});
        assert_eq!(merged(&schedule, &exponential), exponential);
    }

    #[test]
    fn only_objects_in_what_is_shown_are_merged() {
        let given = json!({"headers": {"x-old": null}, "limits": {"rate": null}, "name": null});
        let patch = Patch::<Value> { given: given.as_object().unwrap().clone(), change: PhantomData };
        let present =
            json!({"header_names": ["x-old"], "limits": {"rate": {}, "concurrency": 2}, "name": "a"});
        assert_eq!(
            patch.of(&present).unwrap(),
            (json!({"headers": {"x-old": null}, "limits": {"concurrency": 2}, "name": null}), true)
        );
        let given = json!({"headers": {"x-old": null}});
        let patch = Patch::<Value> { given: given.as_object().unwrap().clone(), change: PhantomData };
        assert_eq!(patch.of(&present).unwrap(), (given, false));
    }

    #[test]
    fn a_field_is_there_once() {
        assert!(from_json::<Distinct>(br#"{"a": 1, "b": 1}"#).is_ok());
        let twice = from_json::<Distinct>(br#"{"a": 1, "a": 1}"#).err().unwrap();
        assert_eq!((twice.errors[0].field.as_str(), twice.kind), ("a", Kind::InvalidField));
    }
}
