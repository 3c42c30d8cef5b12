//! A body as an expression sees it: the JSON that it is, or its text.

use std::borrow::Cow;
use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_BODY;

/// Most values in a body: of an object, an array and whatever is in them.
const MAX_VALUES: usize = 50_000;
/// Deepest nesting of a body: comparing and copying recurse as deep.
const MAX_DEPTH: usize = 64;

/// A value that borrows its texts from the body where they hold no escapes.
pub(super) type Value<'a> = Box<dyn Val + 'a>;

/// The body's value: JSON whatever its media type says, else text, else (no UTF-8) null. Says why it can't be looked
/// at when it is too large.
pub(super) fn value(body: &[u8]) -> Result<Value<'_>, String> {
    if body.len() > MAX_BODY {
        return Err(format!("the body is larger than {MAX_BODY} bytes"));
    }
    let Ok(text) = std::str::from_utf8(body) else { return Ok(Box::new(CelNull)) };
    let mut budget = Budget { values: MAX_VALUES, exceeded: None };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Reader { budget: &mut budget, depth: 0 }.deserialize(&mut reader);
    match (read, budget.exceeded) {
        (_, Some(bound)) => Err(bound),
        (Ok(value), None) if reader.end().is_ok() => Ok(value),
        (_, None) => Ok(Box::new(CelString::from(text))),
    }
}

struct Budget {
    values: usize,
    exceeded: Option<String>,
}

struct Reader<'b> {
    budget: &'b mut Budget,
    depth: usize,
}

impl Reader<'_> {
    /// What is inside of this.
    fn inner(&mut self) -> Reader<'_> {
        Reader { budget: self.budget, depth: self.depth + 1 }
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        if self.depth > MAX_DEPTH {
            self.budget.exceeded = Some(format!("the body is nested more than {MAX_DEPTH} deep"));
            return Err(E::custom("too deep"));
        }
        let Some(left) = self.budget.values.checked_sub(1) else {
            self.budget.exceeded = Some(format!("the body has more than {MAX_VALUES} values"));
            return Err(E::custom("too many"));
        };
        self.budget.values = left;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Ok(Box::new(CelUInt::from(value))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self.inner())? {
            list.push(element);
        }
        Ok(Box::new(CelList::from(list)))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = HashMap::new();
        while let Some(Key(name)) = entries.next_key()? {
            let key = CelMapKey::String(CelString::from(name));
            map.insert(key, entries.next_value_seed(self.inner())?);
        }
        Ok(Box::new(CelMap::from(map)))
    }
}

/// A name, borrowed where it can be; serde makes of a bare `Cow` always one that owns.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
