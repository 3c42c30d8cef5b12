//! What is signed, read once for a request, and the HMACs of it, made once for each secret.
//!
//! A provider can have a rule for each of many headers, and an endpoint many secrets: what a request costs then is the number of
//! secrets, not of both together, however many headers it brings.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::Rejection;
use super::request::Request;
use super::rule::{Algorithm, KeyForm};
use super::template::Part;
use crate::secret::Secret;

/// A signed string, in pieces.
#[derive(PartialEq, Eq)]
pub(super) struct Signed<'q>(Vec<Cow<'q, [u8]>>);

impl<'q> Signed<'q> {
    /// The string that `parts` describe.
    pub(super) fn read(
        parts: &[Part<'q>],
        request: &Request<'q>,
        timestamp: &Cow<'q, str>,
    ) -> Result<Self, Rejection> {
        parts.iter().map(|part| part.read(request, timestamp)).collect::<Result<_, _>>().map(Self)
    }

    /// It in one piece.
    pub(super) fn joined(&self) -> Cow<'_, [u8]> {
        match self.0.as_slice() {
            [one] => Cow::Borrowed(one),
            pieces => Cow::Owned(pieces.concat()),
        }
    }
}

/// The HMACs made for one request so far.
#[derive(Default)]
pub(super) struct Macs<'q>(Vec<Made<'q>>);

/// The HMACs of one signed string, by the secrets' places in their list.
pub(super) struct Made<'q> {
    algorithm: Algorithm,
    key: KeyForm,
    signed: Signed<'q>,
    by: Vec<Option<Output>>,
}

/// What a secret makes of a signed string.
#[derive(Clone, Copy)]
enum Output {
    /// Nothing: it has not the form of a key.
    NoKey,
    /// An HMAC of so many bytes.
    Mac([u8; LONGEST], usize),
}

/// SHA-512's, in bytes.
const LONGEST: usize = 64;

impl<'q> Macs<'q> {
    /// Those of a string; the same ones whoever asks, as long as algorithm, key and string are the same.
    pub(super) fn of(&mut self, algorithm: Algorithm, key: KeyForm, signed: Signed<'q>) -> &mut Made<'q> {
        let same = |made: &Made<'_>| made.algorithm == algorithm && made.key == key && made.signed == signed;
        let index = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(Made { algorithm, key, signed, by: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|made| made.by.iter().flatten().count()).sum()
    }
}

impl Made<'_> {
    /// The HMAC by the secret at that place in the list; `None` when it is no key.
    pub(super) fn by(&mut self, index: usize, secret: &Secret) -> Option<&[u8]> {
        if self.by.len() <= index {
            self.by.resize(index + 1, None);
        }
        let (algorithm, form, pieces) = (self.algorithm, self.key, &self.signed.0);
        let made = self.by[index].get_or_insert_with(|| match form.key(secret) {
            None => Output::NoKey,
            Some(key) => match algorithm {
                Algorithm::Sha256 => mac::<Hmac<Sha256>>(&key, pieces),
                Algorithm::Sha384 => mac::<Hmac<Sha384>>(&key, pieces),
                Algorithm::Sha512 => mac::<Hmac<Sha512>>(&key, pieces),
                Algorithm::Sha1 => mac::<Hmac<Sha1>>(&key, pieces),
            },
        });
        match made {
            Output::NoKey => None,
            Output::Mac(bytes, length) => bytes.get(..*length),
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], pieces: &[Cow<'_, [u8]>]) -> Output {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for piece in pieces {
        mac.update(piece);
    }
    let output = mac.finalize().into_bytes();
    let mut bytes = [0; LONGEST];
    bytes[..output.len()].copy_from_slice(&output);
    Output::Mac(bytes, output.len())
}
