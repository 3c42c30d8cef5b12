//! The fuzz target's body on stable: every vector, and thousands of them damaged in a way that a seed decides.

#![expect(clippy::unwrap_used, reason = "a vector that does not read fails its test")]

#[path = "../fuzz/fuzz_targets/body.rs"]
mod body;
#[path = "../fuzz/fuzz_targets/filter_body.rs"]
mod filter_body;

use std::path::Path;

use ravenpost_core::provider::Provider;
use serde_json::Value;

/// How often each vector is damaged.
const ROUNDS: usize = 30;

/// Vectors as the fuzz target reads requests. They are signed with secrets that its endpoints don't have.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let slug = file["provider"].as_str().unwrap();
        let choice = Provider::ALL.iter().position(|provider| provider.slug() == slug);
        let choice = u8::try_from(choice.unwrap_or(Provider::ALL.len())).unwrap();
        for vector in file["vectors"].as_array().unwrap() {
            seeds.push(seed(choice, vector));
        }
    }
    // What is no provider reads headers that no vector has.
    let first_other = u8::try_from(Provider::ALL.len()).unwrap();
    for choice in (first_other..).take(body::OTHERS) {
        for signature in ["v1=AAAA,v1=BBBB", "v1=AAAA", &"0a".repeat(64), ""] {
            let headers = format!(
                "x=1\nX-Signature: {signature}\nX-Timestamp: 1700000000000\nDate: now\nAuthorization: Basic dXNlcjp4\n\n"
            );
            seeds.push([&[choice], headers.as_bytes(), br#"{"id": "x"}"#].concat());
        }
    }
    seeds.sort();
    seeds
}

fn seed(choice: u8, vector: &Value) -> Vec<u8> {
    let query = vector["url"].as_str().unwrap().split_once('?').map_or("", |(_, query)| query);
    let mut bytes = vec![choice];
    bytes.extend_from_slice(format!("{query}\n").as_bytes());
    for header in vector["headers"].as_array().unwrap() {
        let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
        bytes.extend_from_slice(format!("{name}: {value}\n").as_bytes());
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(vector["body"].as_str().unwrap_or_default().as_bytes());
    bytes
}

/// A small generator (xorshift), so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Changes, removes, doubles or inserts a few bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.byte(),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => bytes.insert(at, self.byte()),
                3 => bytes.truncate(at),
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
    }
}

#[test]
fn nothing_makes_verification_panic_or_believe() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let seeds = seeds();
    assert!(seeds.len() > 700, "only {} seeds", seeds.len());
    for seed in &seeds {
        body::run(seed);
        for _ in 0..ROUNDS {
            let mut damaged = seed.clone();
            random.damage(&mut damaged);
            body::run(&damaged);
        }
    }
}

/// Expressions and bodies that make sense, to be damaged.
const FILTERS: [(&str, &str); 8] = [
    ("type == 'invoice.paid' && headers['x-region'] in ['eu', 'us']", ""),
    (
        "body.amount >= 1000.5 || !(body.paid && has(body.customer.name))",
        r#"{"amount": 7, "customer": {"name": "Z"}}"#,
    ),
    (
        "body.lines.exists(x, x.sku.startsWith('b') && x.price > 20)",
        r#"{"lines": [{"sku": "b", "price": 30}]}"#,
    ),
    (
        "size(body.a.filter(x, x.b != null)) == 2 ? true : type.matches('^a+(b|c)*$')",
        r#"{"a": [{"b": 1}, {}]}"#,
    ),
    ("body.a.all(x, body.b.exists_one(y, x[0] == y[1]))", r#"{"a": [[1], [2]], "b": [[1, 2], [3, 1]]}"#),
    ("string(body[0]) + 'x' == \"1x\" && -body[1] % 3 == 2u || double(1) / 0.0 > 1e308", "[1, 2]"),
    ("9223372036854775807 + body == -9223372036854775808 - 1", "1"),
    ("b'\\xff' == body || [body, [1u, null]] == endpoint.id || 'ö' < type", "\u{fc}"),
];

#[test]
fn nothing_makes_a_filter_panic() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (expression, body) in FILTERS {
        let seed = [expression.as_bytes(), &[0], body.as_bytes()].concat();
        filter_body::run(&seed);
        for _ in 0..100 * ROUNDS {
            let mut damaged = seed.clone();
            random.damage(&mut damaged);
            filter_body::run(&damaged);
        }
    }
}
