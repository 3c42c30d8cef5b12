//! Patterns of event types.

use serde::{Deserialize, Serialize};

/// The longest pattern in bytes.
const MAX_GLOB: usize = 200;

/// A pattern in which `*` stands for any characters, dots and slashes included, or for none. Everything else, capitals
/// too, stands for itself: producers use their types so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// A pattern, unchecked.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Checks its length and characters; says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_GLOB).contains(&self.0.len()) {
            return Err(format!("1 to {MAX_GLOB} bytes"));
        }
        match self.0.char_indices().find(|(_, c)| c.is_control()) {
            Some((index, _)) => Err(format!("column {}: a control character", index + 1)),
            None => Ok(()),
        }
    }

    /// Whether the whole of `text` fits. Never goes back by more than one `*`, so it takes at most as many steps as
    /// pattern and text have bytes, multiplied.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Behind the last `*`, and the end of what it stands for so far.
        let mut star: Option<(usize, usize)> = None;
        while read < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, read));
                }
                Some(byte) if *byte == text[read] => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((behind, end)) = star else { return false };
                    star = Some((behind, end + 1));
                    (at, read) = (behind, end + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, fits, does_not) in [
            ("*", vec!["", "push", "a.b/c"], vec![]),
            ("push", vec!["push"], vec!["", "Push", "pushed", "pus"]),
            ("user.*", vec!["user.created", "user.", "user.profile.updated"], vec!["user", "users.created"]),
            ("*.created", vec!["user.created", ".created", "a.b.created"], vec!["created", "user.created2"]),
            ("a*b*c", vec!["abc", "a-b-c", "abbbcc", "abcbc"], vec!["ab", "acb", "abcd"]),
            ("**", vec!["", "x"], vec![]),
            ("orders/*", vec!["orders/create"], vec!["order/create"]),
            ("é*", vec!["écrit"], vec!["e"]),
        ] {
            let glob = Glob::new(pattern);
            for text in fits {
                assert!(glob.matches(text), "{pattern} {text}");
            }
            for text in does_not {
                assert!(!glob.matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn bounds() {
        for bad in ["", "a\nb", &"x".repeat(MAX_GLOB + 1)] {
            assert!(Glob::new(bad).check().is_err(), "{bad:?}");
        }
        assert_eq!(Glob::new("a\tb").check().unwrap_err(), "column 2: a control character");
        assert!(Glob::new("x".repeat(MAX_GLOB)).check().is_ok());
    }

    #[test]
    fn many_stars_are_no_trap() {
        let glob = Glob::new("*a".repeat(MAX_GLOB / 2));
        assert!(!glob.matches(&"a".repeat(90)));
        assert!(!glob.matches(&format!("{}b", "a".repeat(100_000))));
    }

    /// The definition, which may take for ever: a `*` is tried with every length.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            Some((byte, rest)) => text.first() == Some(byte) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let expected = by_definition(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::new(pattern).matches(&text), expected);
        }
    }
}
