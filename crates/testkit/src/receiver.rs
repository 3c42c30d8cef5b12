//! A destination: records every request exactly as it came and answers by script.

mod drip;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Notify, broadcast},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{clock, wait};
use drip::Drip;

/// A request as it was received, answered or not.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// With the query, as sent.
    pub path: String,
    /// In the order of the request, names in lower case.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Since the Unix epoch, when the last byte of the body was there.
    pub at: Duration,
    /// Since the Unix epoch, when its answer was given; empty while it is awaited, and for ever when the client went away
    /// before.
    pub answered: Arc<OnceLock<Duration>>,
}

impl Received {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    ending: Ending,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Respond,
    Hang,
    Close,
    Drip(Duration),
}

/// What an answer's body is made of.
type Body = Either<Full<Bytes>, Drip>;

impl Answer {
    /// An empty answer with this status. Panics on a number that is none: the script is wrong.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a test names a valid status");
        Self {
            ending: Ending::Respond,
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
        }
    }

    /// `200`.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// No answer ever, on a connection that stays open.
    pub fn hang() -> Self {
        Self { ending: Ending::Hang, ..Self::ok() }
    }

    /// The connection is closed without an answer.
    pub fn close() -> Self {
        Self { ending: Ending::Close, ..Self::ok() }
    }

    /// `200`, and then a byte at a time, without end.
    pub fn drip(every: Duration) -> Self {
        Self { ending: Ending::Drip(every), ..Self::ok() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a test names a valid header value");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Waits before it answers (or closes).
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// Is told of every request, and may answer it instead of the script.
type Observer = Box<dyn Fn(&Received) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
struct State {
    received: Mutex<Vec<Received>>,
    scripts: Mutex<HashMap<String, VecDeque<Answer>>>,
    observer: Option<Observer>,
    tls: Option<TlsAcceptor>,
    forgets: bool,
}

/// A poisoned lock is a failed test's; its data is still what was received.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An HTTP server on the loopback address; ends, with all its connections, when it is dropped.
pub struct Receiver {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
    /// Dropping it ends every connection.
    _connections: broadcast::Sender<()>,
}

impl Receiver {
    /// Listens on any free port.
    pub async fn start() -> Result<Self> {
        Self::start_on(0).await
    }

    /// Listens on the given port.
    pub async fn start_on(port: u16) -> Result<Self> {
        Self::serve(port, State::default()).await
    }

    /// Listens on the given port and tells `observer` of every request: for a receiver that prints.
    pub async fn start_observed(
        port: u16,
        observer: impl Fn(&Received) + Send + Sync + 'static,
    ) -> Result<Self> {
        let observer = move |received: &Received| {
            observer(received);
            None
        };
        Self::serve(port, State { observer: Some(Box::new(observer)), ..State::default() }).await
    }

    /// Listens on any free port and speaks TLS, as [`crate::authority::Authority::server`] sets it up.
    pub async fn start_tls(config: Arc<ServerConfig>) -> Result<Self> {
        Self::serve(0, State { tls: Some(TlsAcceptor::from(config)), ..State::default() }).await
    }

    /// Listens on any free port, keeps nothing and tells `observer` of every request: for more requests than fit into
    /// memory. What `observer` answers goes before the script of the path.
    pub async fn start_forgetful(
        observer: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
    ) -> Result<Self> {
        let state = State { observer: Some(Box::new(observer)), forgets: true, ..State::default() };
        Self::serve(0, state).await
    }

    async fn serve(port: u16, state: State) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("a receiver on port {port}"))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(state);
        let (connections, _) = broadcast::channel(1);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), connections.downgrade()));
        Ok(Self { port, state, accepting, _connections: connections })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    /// Scripts a path (without query): the answers are given in turn and the last one is repeated. Without a script
    /// the answer is 200.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state.scripts).insert(path.to_owned(), answers.into_iter().collect());
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// What was received on one path.
    pub fn received_on(&self, path: &str) -> Vec<Received> {
        lock(&self.state.received).iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        lock(&self.state.received).clear();
    }

    /// Everything received, as soon as there are `count` requests or more.
    pub async fn wait_for(&self, count: usize, bound: Duration) -> Result<Vec<Received>> {
        self.wait_until(&format!("{count} requests"), bound, |received| received.len() >= count).await
    }

    /// Everything received, as soon as `condition` holds of it.
    pub async fn wait_until(
        &self,
        what: &str,
        bound: Duration,
        condition: impl Fn(&[Received]) -> bool,
    ) -> Result<Vec<Received>> {
        let look = || {
            let received = lock(&self.state.received);
            condition(&received).then(|| received.clone())
        };
        let waited = wait::until(&format!("{what} at the receiver"), bound, || {
            let found = look();
            async move { Ok(found) }
        })
        .await;
        waited.with_context(|| format!("{} requests have come", lock(&self.state.received).len()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, connections: broadcast::WeakSender<()>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Some(open) = connections.upgrade() else { return };
        let (state, ended) = (Arc::clone(&state), open.subscribe());
        tokio::spawn(async move {
            match state.tls.clone() {
                None => serve_connection(stream, state, ended).await,
                // A handshake that fails is what some tests are about.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, state, ended).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    state: Arc<State>,
    mut ended: broadcast::Receiver<()>,
) {
    let close = Arc::new(Notify::new());
    let closing = Arc::clone(&close);
    let service = service_fn(move |request| {
        let (state, close) = (Arc::clone(&state), Arc::clone(&close));
        async move { Ok::<_, Infallible>(handle(request, &state, &close).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that goes away is the client's affair.
        _ = serving => {}
        () = closing.notified() => {}
        // Only ever "closed": nothing is sent.
        _ = ended.recv() => {}
    }
}

async fn handle(request: Request<Incoming>, state: &State, close: &Notify) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // The body broke off, so nothing was received.
        close.notify_one();
        return std::future::pending().await;
    };
    let path = head.uri.path().to_owned();
    let received = Received {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body: body.to_bytes(),
        at: clock::now(),
        answered: Arc::default(),
    };
    let answered = Arc::clone(&received.answered);
    let observed = state.observer.as_ref().and_then(|observer| observer(&received));
    let answer = observed.unwrap_or_else(|| next_answer(state, &path));
    if !state.forgets {
        lock(&state.received).push(received);
    }
    let response = respond(answer, close).await;
    // Only ever set here.
    let _ = answered.set(clock::now());
    response
}

fn next_answer(state: &State, path: &str) -> Answer {
    let mut scripts = lock(&state.scripts);
    match scripts.get_mut(path) {
        Some(script) if script.len() > 1 => script.pop_front().unwrap_or_else(Answer::ok),
        Some(script) => script.front().cloned().unwrap_or_else(Answer::ok),
        None => Answer::ok(),
    }
}

async fn respond(answer: Answer, close: &Notify) -> Response<Body> {
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let body = match answer.ending {
        Ending::Respond => Either::Left(Full::new(answer.body)),
        Ending::Drip(every) => Either::Right(Drip::new(every)),
        Ending::Hang => return std::future::pending().await,
        Ending::Close => {
            close.notify_one();
            return std::future::pending().await;
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response.headers_mut().append(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_script_is_followed_and_its_last_answer_repeated() {
        let receiver = Receiver::start().await.unwrap();
        receiver.script("/hook", [Answer::status(500), Answer::status(503).header("retry-after", "7")]);
        let client = crate::http_client().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let answer = client.post(receiver.url("/hook")).body("x").send().await.unwrap();
            statuses.push(answer.status().as_u16());
        }
        assert_eq!(statuses, [500, 503, 503]);
        let requests = receiver.wait_for(3, BOUND).await.unwrap();
        assert_eq!(requests[0].body.as_ref(), b"x");
        assert_eq!(requests[0].path, "/hook");
    }

    #[tokio::test]
    async fn closing_and_hanging_are_no_answers_but_received() {
        let receiver = Receiver::start().await.unwrap();
        receiver.script("/close", [Answer::close()]);
        receiver.script("/hang", [Answer::hang()]);
        let client = crate::http_client().unwrap();
        assert!(client.get(receiver.url("/close")).send().await.is_err());
        let hanging = client.get(receiver.url("/hang")).timeout(Duration::from_millis(200)).send().await;
        assert!(hanging.unwrap_err().is_timeout());
        assert_eq!(receiver.received_on("/close").len(), 1);
        assert_eq!(receiver.received_on("/hang").len(), 1);
    }

    #[tokio::test]
    async fn a_forgetful_one_drips_and_lets_its_observer_answer() {
        let receiver =
            Receiver::start_forgetful(|received| received.header("x-first").map(|_| Answer::status(500)))
                .await
                .unwrap();
        receiver.script("/drip", [Answer::drip(Duration::from_millis(1))]);
        let client = crate::http_client().unwrap();
        let first = client.get(receiver.url("/drip")).header("x-first", "1").send().await.unwrap();
        assert_eq!(first.status(), 500);
        let mut dripping = client.get(receiver.url("/drip")).send().await.unwrap();
        assert_eq!(dripping.status(), 200);
        for _ in 0..3 {
            assert!(
                dripping.chunk().await.unwrap().is_some_and(|chunk| chunk.iter().all(|byte| *byte == b'.'))
            );
        }
        assert!(receiver.received().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_receiver_refuses() {
        let receiver = Receiver::start().await.unwrap();
        let (url, port) = (receiver.url("/"), receiver.port());
        let client = crate::http_client().unwrap();
        client.get(&url).send().await.unwrap();
        drop(receiver);
        wait::until_true("the port to be free", BOUND, || async {
            Ok(client.get(&url).send().await.is_err())
        })
        .await
        .unwrap();
        Receiver::start_on(port).await.unwrap();
    }
}
