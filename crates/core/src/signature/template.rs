//! The string that is signed: a sequence of parts, as providers' rows give it or as a customer's template writes it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Rejection;
use super::request::{Place, Request, Url, header};

/// A piece of the signed string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// This text.
    Literal(&'a str),
    /// The body, byte for byte.
    Body,
    /// The SHA-256 of the body in lower-case hexadecimal.
    BodySha256,
    /// The timestamp as the request writes it.
    Timestamp,
    /// The method in upper case.
    Method,
    /// The public URL, query included.
    Url,
    /// The public URL with the port that its scheme implies written out.
    UrlWithPort,
    /// The public URL with the escapes of punctuation undone (HubSpot, "Validating requests").
    UrlUnescaped,
    /// The path of the URL as ingress sees it, and its query.
    PathAndQuery,
    /// A header's value.
    Header(&'a str),
    /// A text field of a JSON body (RFC 6901 pointer).
    Json(&'a str),
    /// The only field of a form, decoded: another one would not be signed.
    OnlyField(&'a str),
    /// The parameters of a form, each once, sorted, each name followed by its value, nothing between them. No other
    /// body is signed so, except an empty one.
    SortedForm,
}

impl<'p> Part<'p> {
    /// The part's bytes; what stands in the request or the rule is not copied.
    pub(super) fn read<'q>(
        &self,
        request: &Request<'q>,
        timestamp: &Cow<'q, str>,
    ) -> Result<Cow<'q, [u8]>, Rejection>
    where
        'p: 'q,
    {
        Ok(match *self {
            Self::Literal(text) => Cow::Borrowed(text.as_bytes()),
            Self::Body => Cow::Borrowed(request.body),
            Self::BodySha256 => Cow::Owned(hex::encode(Sha256::digest(request.body)).into_bytes()),
            Self::Timestamp => bytes(timestamp.clone()),
            Self::Method => Cow::Borrowed(request.method.as_str().as_bytes()),
            Self::Url => Cow::Owned(request.url.to_string().into_bytes()),
            Self::UrlWithPort => Cow::Owned(with_port(request.url).into_bytes()),
            Self::UrlUnescaped => Cow::Owned(unescaped(&request.url.to_string()).into_bytes()),
            Self::PathAndQuery => Cow::Borrowed(request.url.path_and_query.as_bytes()),
            Self::Header(name) => Cow::Borrowed(header(request.headers, name)?.as_bytes()),
            Self::Json(pointer) => bytes(Place::Json(pointer).read(request)?),
            Self::OnlyField(name) => bytes(only_field(request.body, name)?),
            Self::SortedForm => Cow::Owned(sorted_form(request)?.into_bytes()),
        })
    }
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn with_port(url: Url<'_>) -> String {
    let (scheme, rest) = url.base.split_once("://").unwrap_or(("", url.base));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let port = match scheme {
        _ if has_port => "",
        "https" => ":443",
        _ => ":80",
    };
    [scheme, "://", authority, port, path, url.path_and_query].concat()
}

fn unescaped(url: &str) -> String {
    const PUNCTUATION: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let mut text = url.to_owned();
    for (escape, character) in PUNCTUATION {
        text = text.replace(escape, character).replace(&escape.to_ascii_lowercase(), character);
    }
    text
}

/// Whether the body is a form by its content type.
pub(super) fn is_form(request: &Request<'_>) -> bool {
    let content_type = header(request.headers, "content-type").unwrap_or_default();
    let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn only_field<'b>(body: &'b [u8], name: &str) -> Result<Cow<'b, str>, Rejection> {
    let mut fields = url::form_urlencoded::parse(body);
    match (fields.next(), fields.next()) {
        (Some((key, value)), None) if key == name => Ok(value),
        (Some(_), Some(_)) => {
            Err(Rejection::MalformedField(name.to_owned(), "not the only field of the form"))
        }
        _ => Err(Rejection::MissingField(name.to_owned())),
    }
}

/// Most fields of a form that is sorted: many times what providers send.
const MAX_FIELDS: usize = 1_000;

/// The text of [`Part::SortedForm`].
pub(super) fn sorted_form(request: &Request<'_>) -> Result<String, Rejection> {
    if !request.body.is_empty() && !is_form(request) {
        return Err(Rejection::WrongSignature);
    }
    let mut fields: Vec<_> = url::form_urlencoded::parse(request.body).take(MAX_FIELDS + 1).collect();
    if fields.len() > MAX_FIELDS {
        return Err(Rejection::MalformedField("body".to_owned(), "more than 1,000 fields"));
    }
    fields.sort();
    fields.dedup();
    let mut text = String::with_capacity(request.body.len());
    for (name, value) in fields {
        text.extend([name, value]);
    }
    Ok(text)
}

/// Most parts of a template.
const MAX_PARTS: usize = 16;
/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 500;

/// The signed string as a customer writes it, such as `{timestamp}.{body}`.
///
/// In braces: `body`, `body_sha256`, `timestamp`, `method`, `url`, `path`, `header:Name`, `json:/pointer`. `{{` and `}}`
/// are braces themselves; all else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "{timestamp}.{body}")]
pub struct Template(String);

/// The parts of a template, on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    parts: [Part<'a>; MAX_PARTS],
    length: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn as_slice(&self) -> &[Part<'a>] {
        &self.parts[..self.length]
    }

    fn push(&mut self, part: Part<'a>) -> Result<(), InvalidTemplate> {
        *self.parts.get_mut(self.length).ok_or(InvalidTemplate::TooManyParts)? = part;
        self.length += 1;
        Ok(())
    }
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It is longer than a signed string's description needs.
    #[error("signed: at most {MAX_TEMPLATE} characters of visible ASCII")]
    Text,
    /// It has more parts than a signed string has.
    #[error("signed: at most {MAX_PARTS} parts")]
    TooManyParts,
    /// A brace without its other half.
    #[error("signed: a brace is not closed; write {{{{ or }}}} for a brace itself")]
    Brace,
    /// Something unknown in braces.
    #[error(
        "signed: `{{{0}}}` is not known; there are {{body}}, {{body_sha256}}, {{timestamp}}, {{method}}, {{url}}, {{path}}, {{header:Name}} and {{json:/pointer}}"
    )]
    UnknownPart(String),
    /// Without the body anybody who saw one request could send another body with its signature.
    #[error("signed: the body has to be among the signed parts: {{body}} or {{body_sha256}}")]
    NoBody,
}

impl Template {
    /// The parts. Reading a template allocates nothing, so it is read whenever it is used.
    pub(super) fn parts(&self) -> Result<Parts<'_>, InvalidTemplate> {
        let mut parts = Parts { parts: [Part::Body; MAX_PARTS], length: 0 };
        let mut rest = self.0.as_str();
        while !rest.is_empty() {
            rest = if let Some(after) = rest.strip_prefix("{{") {
                parts.push(Part::Literal("{"))?;
                after
            } else if let Some(after) = rest.strip_prefix("}}") {
                parts.push(Part::Literal("}"))?;
                after
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(InvalidTemplate::Brace)?;
                parts.push(part(name)?)?;
                after
            } else if rest.starts_with('}') {
                return Err(InvalidTemplate::Brace);
            } else {
                let (literal, after) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
                parts.push(Part::Literal(literal))?;
                after
            };
        }
        Ok(parts)
    }

    /// Whether a timestamp is among the parts.
    pub(super) fn has_timestamp(&self) -> bool {
        self.parts().is_ok_and(|parts| parts.as_slice().contains(&Part::Timestamp))
    }
}

fn part(name: &str) -> Result<Part<'_>, InvalidTemplate> {
    let unknown = || InvalidTemplate::UnknownPart(name.chars().take(40).collect());
    Ok(match name {
        "body" => Part::Body,
        "body_sha256" => Part::BodySha256,
        "timestamp" => Part::Timestamp,
        "method" => Part::Method,
        "url" => Part::Url,
        "path" => Part::PathAndQuery,
        _ => match name.split_once(':') {
            Some(("header", name)) if http::HeaderName::from_bytes(name.as_bytes()).is_ok() => {
                Part::Header(name)
            }
            Some(("json", pointer)) if pointer.starts_with('/') => Part::Json(pointer),
            _ => return Err(unknown()),
        },
    })
}

impl TryFrom<String> for Template {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, InvalidTemplate> {
        if text.len() > MAX_TEMPLATE || !text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            return Err(InvalidTemplate::Text);
        }
        let template = Self(text);
        let parts = template.parts()?;
        if !parts.as_slice().iter().any(|part| matches!(part, Part::Body | Part::BodySha256)) {
            return Err(InvalidTemplate::NoBody);
        }
        Ok(template)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str) -> Result<Template, InvalidTemplate> {
        Template::try_from(text.to_owned())
    }

    #[test]
    fn reads_its_parts() {
        let read =
            template("v0:{timestamp}:{header:X-Id}{{{method} {url} {path}}}\n{json:/a/b}{body}").unwrap();
        let expected = [
            Part::Literal("v0:"),
            Part::Timestamp,
            Part::Literal(":"),
            Part::Header("X-Id"),
            Part::Literal("{"),
            Part::Method,
            Part::Literal(" "),
            Part::Url,
            Part::Literal(" "),
            Part::PathAndQuery,
            Part::Literal("}"),
            Part::Literal("\n"),
            Part::Json("/a/b"),
            Part::Body,
        ];
        assert_eq!(read.parts().unwrap().as_slice(), expected);
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        assert_eq!(template("{timestamp}"), Err(InvalidTemplate::NoBody));
        assert_eq!(template("{body"), Err(InvalidTemplate::Brace));
        assert_eq!(template("}{body}"), Err(InvalidTemplate::Brace));
        assert_eq!(template("{boody}"), Err(InvalidTemplate::UnknownPart("boody".to_owned())));
        assert_eq!(
            template("{header:a b}{body}"),
            Err(InvalidTemplate::UnknownPart("header:a b".to_owned()))
        );
        assert_eq!(template(&"{body}".repeat(17)), Err(InvalidTemplate::TooManyParts));
        assert_eq!(template("é{body}"), Err(InvalidTemplate::Text));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~]{0,80}") {
            if let Ok(read) = template(&text) {
                prop_assert!(read.parts().is_ok());
            }
        }
    }
}
