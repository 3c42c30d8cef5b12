//! What a client is told for whom there is no connection left: an answer at once rather than silence in a queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::problem::{self, Problem};

/// Most clients that are being told so at once. Who comes beyond even these is cut off.
pub(super) const AT_ONCE: usize = 256;
/// How long a client has to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// When to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers 503 whatever is asked, without reading the request.
pub(super) fn refuse(stream: TcpStream, refusals: &Arc<Semaphore>, tasks: &mut JoinSet<()>) {
    let Ok(slot) = Arc::clone(refusals).try_acquire_owned() else { return };
    tasks.spawn(async move {
        // The client's doing when it does not arrive.
        let _ = tokio::time::timeout(PATIENCE, tell(stream)).await;
        drop(slot);
    });
}

async fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(answer().as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with something unread would reset the connection, and the answer with it.
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

fn answer() -> String {
    let problem = Problem::unavailable("too many connections", RETRY_AFTER);
    let body = problem.to_json();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\nretry-after: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        problem::CONTENT_TYPE,
        RETRY_AFTER.as_secs(),
        body.len(),
    )
}
