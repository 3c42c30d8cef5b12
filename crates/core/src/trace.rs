//! The W3C Trace Context `traceparent` header, which ties a producer's request to each delivery of its event.

use std::fmt;

/// A parsed `traceparent` of version 00 (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The whole trace; never all zero.
    pub trace_id: [u8; 16],
    /// The span that caused this one; never all zero.
    pub parent_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

impl Traceparent {
    /// The trace that a request belongs to.
    pub fn of(headers: &http::HeaderMap) -> Option<Self> {
        headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Self::parse)
    }

    /// Starts a trace, sampled, from random bytes.
    pub fn new(random: [u8; 24]) -> Self {
        let (mut trace_id, mut parent_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&random[..16]);
        parent_id.copy_from_slice(&random[16..]);
        // All-zero ids are invalid; the chance is nil and a set bit costs nothing.
        trace_id[0] |= 1;
        parent_id[0] |= 1;
        Self { trace_id, parent_id, flags: 1 }
    }

    /// The same trace, one span further.
    #[must_use]
    pub fn child(&self, random: [u8; 8]) -> Self {
        let mut parent_id = random;
        parent_id[0] |= 1;
        Self { parent_id, ..*self }
    }

    /// Reads a header; `None` when it is absent in substance: malformed, of the forbidden version `ff`, or all zero.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = lower_hex::<1>(parts.next()?)?[0];
        let (trace_id, parent_id) = (lower_hex::<16>(parts.next()?)?, lower_hex::<8>(parts.next()?)?);
        let flags = lower_hex::<1>(parts.next()?)?[0];
        let trailing = parts.next().is_some();
        let valid = version != 0xff
            && !(version == 0 && trailing)
            && trace_id.iter().any(|byte| *byte != 0)
            && parent_id.iter().any(|byte| *byte != 0);
        valid.then_some(Self { trace_id, parent_id, flags })
    }
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace_id), hex::encode(self.parent_id), self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn round_trips_the_specifications_example() {
        let parsed = Traceparent::parse(EXAMPLE).unwrap();
        assert_eq!(parsed.to_string(), EXAMPLE);
        let child = parsed.child([9; 8]);
        assert_eq!(child.trace_id, parsed.trace_id);
        assert_ne!(child.parent_id, parsed.parent_id);
    }

    #[test]
    fn refuses_what_the_specification_forbids() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        ] {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
    }
}
