//! Requests as GitHub sends them: bodies of JSON and their signatures are made once, only the delivery's id changes.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use rand::{RngExt as _, distr::Alphanumeric};
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::{Uuid, fmt::Hyphenated};

use crate::sign;

/// So many different bodies take turns: a store that compresses batches finds no repeated one in most of them.
const BODIES: usize = 256;
/// Stands where the delivery's id will.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Prepared requests to one hook or to many.
#[derive(Debug)]
pub struct Requests {
    prepared: Vec<Prepared>,
    hashes: BTreeSet<[u8; 32]>,
    /// Delivery ids are this number and those after it.
    first_id: u128,
    sent: AtomicU64,
}

#[derive(Debug)]
struct Prepared {
    bytes: Vec<u8>,
    /// Where the delivery's id stands.
    id_at: usize,
}

impl Requests {
    /// Requests to `hook_url` with bodies of `body_bytes`, signed with `secret` as GitHub does.
    pub fn github(hook_url: &str, secret: &str, body_bytes: usize) -> Result<Self> {
        Self::github_to((0..BODIES).map(|_| (hook_url, secret)), body_bytes)
    }

    /// The same to several hooks, each with its secret: one request to each in turn, again and again. All have to be
    /// of one address.
    pub fn github_to<'hook>(
        hooks: impl IntoIterator<Item = (&'hook str, &'hook str)>,
        body_bytes: usize,
    ) -> Result<Self> {
        let mut prepared = Vec::new();
        let mut hashes = BTreeSet::new();
        for (number, (hook_url, secret)) in hooks.into_iter().enumerate() {
            let url = Url::parse(hook_url).context("the hook's URL")?;
            let body = body(number, body_bytes)?;
            hashes.insert(Sha256::digest(&body).into());
            prepared.push(prepare(&url, secret, &body)?);
        }
        ensure!(!prepared.is_empty(), "requests to no hook");
        // Random, so that no two runs send the same id: it would be a producer's retry.
        let first_id = rand::random::<u128>() >> 1;
        Ok(Self { prepared, hashes, first_id, sent: AtomicU64::new(0) })
    }

    /// Writes the next request over what `request` held.
    pub(super) fn write(&self, request: &mut Vec<u8>) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let turn = number % u64::try_from(self.prepared.len()).unwrap_or(u64::MAX);
        let Prepared { bytes, id_at } = &self.prepared[usize::try_from(turn).unwrap_or(0)];
        request.clear();
        request.extend_from_slice(bytes);
        let id = self.first_id + u128::from(number);
        Uuid::from_u128(id).hyphenated().encode_lower(&mut request[*id_at..*id_at + Hyphenated::LENGTH]);
    }

    /// SHA-256 of every body that is sent.
    pub fn hashes(&self) -> &BTreeSet<[u8; 32]> {
        &self.hashes
    }
}

fn prepare(url: &Url, secret: &str, body: &[u8]) -> Result<Prepared> {
    let host = url.host_str().context("the hook's URL has no host")?;
    let port = url.port_or_known_default().context("the hook's URL has no port")?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: GitHub-Hookshot/bench\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {NO_ID}\r\n\
         X-Hub-Signature-256: {signature}\r\nContent-Length: {length}\r\n\r\n",
        path = url.path(),
        signature = sign::github(secret, body),
        length = body.len(),
    );
    let id_at = head.find(NO_ID).context("the head has a place for the id")?;
    Ok(Prepared { bytes: [head.as_bytes(), body].concat(), id_at })
}

/// JSON of exactly `bytes` bytes: words, and identifiers that don't compress.
fn body(number: usize, bytes: usize) -> Result<Vec<u8>> {
    let mut random = rand::rng();
    let mut text = format!(r#"{{"ref":"refs/heads/main","number":{number},"commits":["#);
    let closing = r#""]}"#;
    while text.len() + 2 * closing.len() < bytes {
        let id: String = (&mut random).sample_iter(Alphanumeric).take(40).map(char::from).collect();
        let commit = format!(
            r#"{{"id":"{id}","message":"Update the README so that it tells how the parser is built"}},"#
        );
        if text.len() + commit.len() + 2 * closing.len() > bytes {
            break;
        }
        text.push_str(&commit);
    }
    ensure!(
        text.len() + 1 + closing.len() <= bytes,
        "a body of {bytes} bytes is too small to be JSON of ours"
    );
    let filling = bytes - text.len() - 1 - closing.len();
    text.push('"');
    text.extend(std::iter::repeat_n('.', filling));
    text.push_str(closing);
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_wanted_size() {
        for bytes in [128, 1_024, 16_384] {
            let body = body(7, bytes).unwrap();
            assert_eq!(body.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        }
        assert!(body(7, 10).is_err());
    }

    #[test]
    fn hooks_take_turns() {
        let hooks = [("http://127.0.0.1:8080/h/one", "1"), ("http://127.0.0.1:8080/h/two", "2")];
        let requests = Requests::github_to(hooks, 256).unwrap();
        let mut request = Vec::new();
        for path in ["one", "two", "one"] {
            requests.write(&mut request);
            assert!(request.starts_with(format!("POST /h/{path} ").as_bytes()));
        }
        assert!(Requests::github_to([], 256).is_err());
    }

    #[test]
    fn every_request_has_an_id_of_its_own() {
        let requests = Requests::github_to([("http://127.0.0.1:8080/h/token", "secret")], 256).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        requests.write(&mut first);
        requests.write(&mut second);
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
        assert!(first.starts_with(b"POST /h/token HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
        assert!(!String::from_utf8(second).unwrap().contains(NO_ID));
    }
}
