//! Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `7d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d")]
pub struct ParseError(String);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number with a unit (`ms`, `s`, `m`, `h`, `d`).
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let error = || ParseError(text.to_owned());
    let number: u64 = number.parse().map_err(|_| error())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    number.checked_mul(*factor).map(Duration::from_millis).ok_or_else(error)
}

/// Writes a duration in its largest whole unit; the inverse of [`parse`] down to milliseconds.
pub fn format(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| milliseconds >= *factor && milliseconds.is_multiple_of(*factor))
        .unwrap_or(&UNITS[0]);
    format!("{}{unit}", milliseconds / factor)
}

/// For `#[serde(with = "duration::text")]`.
pub mod text {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// As [`super::format`].
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*duration))
    }

    /// As [`super::parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with = "duration::list")]`.
pub mod list {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// As [`super::format`], each.
    pub fn serialize<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(durations.iter().map(|duration| super::format(*duration)))
    }

    /// As [`super::parse`], each.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::parse(text).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0ms", "500ms", "30s", "90s", "5m", "1h", "7d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn refuses_what_is_ambiguous_or_absurd() {
        for text in
            ["", "5", "s", "1.5s", "-1s", "5 m", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
