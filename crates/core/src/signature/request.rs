//! What a verifier sees of a request, and where in it a text can stand.

use std::borrow::Cow;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method};

use super::{Rejection, json};

/// A request as its producer made it. Whoever verifies a stored one gives what was stored.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Where it was sent, as the producer knows it.
    pub url: Url<'a>,
    /// All of its headers.
    pub headers: &'a HeaderMap,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// From where it came, behind any trusted proxies; `None` when nobody knows any more.
    pub peer: Option<IpAddr>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// What [`to_fetch`](super::to_fetch) asked for, where it asked.
    pub fetched: Option<&'a [u8]>,
}

/// A public URL in two pieces, so that nobody has to put it together for schemes that don't sign it.
#[derive(Debug, Clone, Copy)]
pub struct Url<'a> {
    /// Scheme and host, and a path before ours if there is one, without a slash at the end.
    pub base: &'a str,
    /// The rest, from `/h/…` on, query included.
    pub path_and_query: &'a str,
}

impl<'a> Url<'a> {
    /// The query without its question mark; empty when there is none.
    pub fn query(&self) -> &'a str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }
}

impl std::fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.base, self.path_and_query)
    }
}

/// Where in a request a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The whole value of a header.
    Header(&'a str),
    /// The part of a header's list that begins with `prefix`, without it: the `t=` of Stripe's `t=1,v1=2`.
    Item {
        /// The header.
        header: &'a str,
        /// What can stand between the parts.
        separators: &'a [char],
        /// What the part begins with.
        prefix: &'a str,
    },
    /// A field of a JSON body (RFC 6901 pointer).
    Json(&'a str),
    /// A parameter of the query, decoded.
    Query(&'a str),
}

impl<'a> Place<'a> {
    /// The text; a rejection that names what is missing when there is none.
    pub fn read<'r>(&self, request: &Request<'r>) -> Result<Cow<'r, str>, Rejection> {
        match *self {
            Self::Header(name) => header(request.headers, name).map(Cow::Borrowed),
            Self::Item { header: name, separators, prefix } => {
                let mut items = header(request.headers, name)?.split(separators).map(str::trim);
                let found = items.find_map(|item| item.strip_prefix(prefix));
                found
                    .map(Cow::Borrowed)
                    .ok_or_else(|| Rejection::MalformedHeader(lower(name), "a part of it is missing"))
            }
            Self::Json(pointer) => json::text_at(request.body, pointer)
                .map(Cow::Owned)
                .ok_or_else(|| Rejection::MissingField(pointer.to_owned())),
            Self::Query(name) => url::form_urlencoded::parse(request.url.query().as_bytes())
                .find_map(|(key, value)| (key == name).then_some(value))
                .ok_or_else(|| Rejection::MissingField(format!("?{name}"))),
        }
    }

    /// As [`Place::read`]; of a header that is there more than once, every value in a line of its own.
    pub(super) fn read_all<'r>(&self, request: &Request<'r>) -> Result<Cow<'r, str>, Rejection> {
        let Self::Header(name) = *self else { return self.read(request) };
        let mut values = request.headers.get_all(name).iter().skip(1).peekable();
        if values.peek().is_none() {
            return self.read(request);
        }
        let mut lines = header(request.headers, name)?.to_owned();
        for value in values {
            lines.push('\n');
            lines.push_str(value.to_str().map_err(|_| self.malformed("not visible ASCII"))?);
        }
        Ok(Cow::Owned(lines))
    }

    /// The text, if it is there; for what is told about a request and does not decide about it.
    pub fn find(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        match *self {
            Self::Header(name) => header(headers, name).ok().map(str::to_owned),
            Self::Json(pointer) => json::text_at(body, pointer),
            Self::Item { .. } | Self::Query(_) => None,
        }
    }

    /// The rejection of a text that is there but does not read.
    pub fn malformed(&self, what: &'static str) -> Rejection {
        match *self {
            Self::Header(name) | Self::Item { header: name, .. } => {
                Rejection::MalformedHeader(lower(name), what)
            }
            Self::Json(name) | Self::Query(name) => Rejection::MalformedField(name.to_owned(), what),
        }
    }

    /// The header that it stands in, if it does.
    pub fn header(&self) -> Option<&'a str> {
        match *self {
            Self::Header(name) | Self::Item { header: name, .. } => Some(name),
            Self::Json(_) | Self::Query(_) => None,
        }
    }
}

/// A header's value as text.
pub(super) fn header<'r>(headers: &'r HeaderMap, name: &str) -> Result<&'r str, Rejection> {
    let value = headers.get(name).ok_or_else(|| Rejection::MissingHeader(lower(name)))?;
    value.to_str().map_err(|_| Rejection::MalformedHeader(lower(name), "not visible ASCII"))
}

pub(super) fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}
