//! One connection that speaks as much HTTP/1.1 as a load generator needs.

use std::{io, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

/// The largest answer that is understood.
const LARGEST_ANSWER: usize = 64 * 1024;
const MOST_HEADERS: usize = 32;

/// A connection that is kept open between requests.
pub(super) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    answer: Vec<u8>,
}

/// What a request was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The event that a `202` names.
    pub(super) event_id: Option<Uuid>,
    /// Whether the connection takes another request.
    pub(super) keeps_alive: bool,
}

/// The body of a `202`.
#[derive(Deserialize)]
struct Accepted {
    id: Uuid,
}

/// What the head of an answer says.
struct Head {
    length: usize,
    status: u16,
    body_length: usize,
    keeps_alive: bool,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream, answer: Vec::with_capacity(4_096) })
    }

    /// A new connection to the same address.
    pub(super) async fn again(self) -> Result<Self> {
        Self::open(self.address).await
    }

    /// Sends a request and reads its answer. After an error the connection is of no further use.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if head.is_none() {
                head = parse_head(&self.answer)?;
            }
            if let Some(head) = &head
                && self.answer.len() >= head.length + head.body_length
            {
                return complete(head, &self.answer);
            }
            ensure!(self.answer.len() < LARGEST_ANSWER, "an answer of more than {LARGEST_ANSWER} bytes");
        }
    }
}

fn complete(head: &Head, answer: &[u8]) -> Result<Answer> {
    let body = &answer[head.length..];
    ensure!(body.len() == head.body_length, "more was answered than was asked for");
    let event_id = if head.status == 202 {
        Some(serde_json::from_slice::<Accepted>(body).context("a 202 without an id")?.id)
    } else {
        None
    };
    Ok(Answer { status: head.status, event_id, keeps_alive: head.keeps_alive })
}

/// The head once all of it is here.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = answer.parse(bytes)? else { return Ok(None) };
    let status = answer.code.context("an answer without a status")?;
    let find = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value))
    };
    let Some(body_length) = find("content-length") else { bail!("an answer without Content-Length") };
    let body_length = body_length.parse().context("Content-Length is not a number")?;
    let keeps_alive = find("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    Ok(Some(Head { length, status, body_length, keeps_alive }))
}
