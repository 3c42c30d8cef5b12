//! One field out of a JSON body, without building the rest of it.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text at an RFC 6901 pointer: a string as it is, a whole number or a truth value as it is written. `None` when the body is no
/// JSON up to there, has no such field, or has something else in it. Reads no further than the field; of a key that
/// is there twice, the first one counts.
pub fn text_at(body: &[u8], pointer: &str) -> Option<String> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    // Finding it ends the reading with an error, too: what counts is what was found.
    let _ = Seek { path: pointer.strip_prefix('/')?, found: &mut found }.deserialize(&mut reader);
    found
}

/// Goes down one step of `path` at each level.
struct Seek<'a> {
    path: &'a str,
    found: &'a mut Option<String>,
}

impl Seek<'_> {
    fn take<E: serde::de::Error>(self, text: impl FnOnce() -> String) -> Result<(), E> {
        *self.found = Some(text());
        Err(E::custom("found"))
    }
}

/// The last step has been taken: what is here is it.
struct Take<'a>(Seek<'a>);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Take<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (step, rest) = split(self.path);
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key != step {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            return match rest {
                Some(path) => map.next_value_seed(Seek { path, found: self.found }),
                None => map.next_value_seed(Take(self)),
            };
        }
        Err(A::Error::custom("no such field"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (step, rest) = split(self.path);
        let index: usize = step.parse().map_err(|_| A::Error::custom("no index"))?;
        for _ in 0..index {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("no such item"));
            }
        }
        let found = match rest {
            Some(path) => items.next_element_seed(Seek { path, found: self.found })?,
            None => items.next_element_seed(Take(self))?,
        };
        found.ok_or_else(|| A::Error::custom("no such item"))
    }
}

impl Visitor<'_> for Take<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.take(|| text.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.take(|| value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.take(|| value.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.take(|| value.to_string())
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(step, rest)| (step, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::text_at;
    use proptest::prelude::*;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let body = br#"{"a": {"b": [1, {"c": "text \u00e9"}]}, "n": -5, "t": true, "f": 1.5, "z": null, "e\"s": "x"}"#;
        let at = |pointer: &str| text_at(body, pointer);
        assert_eq!(at("/a/b/1/c").as_deref(), Some("text é"));
        assert_eq!(at("/a/b/0").as_deref(), Some("1"));
        assert_eq!(at("/n").as_deref(), Some("-5"));
        assert_eq!(at("/t").as_deref(), Some("true"));
        assert_eq!(at("/e\"s").as_deref(), Some("x"));
        for pointer in ["", "a", "/a", "/a/b", "/a/b/2", "/a/b/x", "/a/b/0/c", "/f", "/z", "/missing"] {
            assert_eq!(at(pointer), None, "{pointer}");
        }
    }

    #[test]
    fn reads_no_further_than_the_field() {
        assert_eq!(text_at(br#"{"id": "x", broken"#, "/id").as_deref(), Some("x"));
        assert_eq!(text_at(br#"{broken, "id": "x"}"#, "/id"), None);
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        let body = [br#"{"deep":"#.as_slice(), &deep, br#","id":"x"}"#].concat();
        assert_eq!(text_at(&body, "/id").as_deref(), Some("x"));
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parse(value in "[a-z\"\\\\\u{e9}]{0,8}", before in "[a-z]{0,4}", pointer in "/[a-z]{0,4}(/[a-z0-9]{0,3})?") {
            let tree = serde_json::json!({ "first": {"x": [1, 2]}, before: {"id": value, "0": [value, value]} });
            let body = tree.to_string();
            let expected = tree.pointer(&pointer).and_then(|found| found.as_str()).map(str::to_owned);
            let number = tree.pointer(&pointer).and_then(serde_json::Value::as_u64).map(|number| number.to_string());
            prop_assert_eq!(text_at(body.as_bytes(), &pointer), expected.or(number));
        }

        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), pointer in "(/[a-z0-9]{0,2}){0,3}") {
            text_at(&body, &pointer);
        }
    }
}
