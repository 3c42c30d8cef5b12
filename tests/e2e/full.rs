//! What the commit queue has no room for is refused at once, while all that it holds still waits for its store; then what
//! it held is stored, and nothing of what was refused.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    api::Answer,
    fault::{Mode, Silent},
    system::System,
    wait,
};
use serde_json::json;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use crate::{
    outage::behind_postgres,
    support::{
        BOUND, Endpoint, endpoint, ensure_problem, header, number, on, post, run, sample, send, tell, text,
        until_all_succeed, until_status,
    },
};

/// Events that may wait for the only lane.
const QUEUE: usize = 10;
/// So many come at once, so often.
const WAVE: usize = 200;
const WAVES: usize = 20;
/// Just below what would have a queue of its own.
const BODY: usize = 60_000;
const MIB: u64 = 1 << 20;
/// What a request may cost while it is being answered: its body, and its connection's buffers and task.
const PER_REQUEST: u64 = 60_000 + 32 * 1_024;
/// What the allocator keeps for its threads.
const KEPT: u64 = 32 * MIB;

/// How often a lane has taken a batch.
async fn batches(system: &System) -> Result<f64> {
    let metrics = system.ingress[0].metrics().await?;
    sample(&metrics, "ravenpost_ingress_batch_events_count").context("no batches")
}

/// Sends so many at once; answers are told as they come.
fn flood(endpoint: &Endpoint, count: usize, answers: &UnboundedSender<Result<Answer>>) {
    for _ in 0..count {
        let (url, answers) = (endpoint.hook_url.clone(), answers.clone());
        tokio::spawn(async move { answers.send(post(&url, &[], vec![b'x'; BODY]).await) });
    }
}

async fn next(answered: &mut UnboundedReceiver<Result<Answer>>) -> Result<Answer> {
    let next = tokio::time::timeout(BOUND, answered.recv()).await;
    next.context("nobody is answered any more")?.context("the answers have ended")?
}

/// Refused for the queue and nothing else, with a time to come again.
fn ensure_no_room(answer: &Answer) -> Result<()> {
    let problem = ensure_problem(answer, 503, "unavailable")?;
    ensure!(problem["detail"] == "more is being received than can be stored", "{problem}");
    let seconds: u32 = header(&answer.headers, "retry-after").context("no Retry-After")?.parse()?;
    ensure!((1..=60).contains(&seconds), "to come again in {seconds} s");
    Ok(())
}

#[test]
fn what_the_queue_has_no_room_for_is_refused_while_the_rest_still_waits() {
    run(async {
        let (proxy, stores) = behind_postgres().await?;
        let direct = ravenpost_testkit::shared().await?.clone();
        let builder = System::builder()
            .stores(direct)
            .services_see(stores)
            .setting("RAVENPOST_COMMIT_LANES", "1")
            .setting("RAVENPOST_COMMIT_QUEUE", QUEUE.to_string())
            // Who waits for Postgres waits until it speaks again: no timeout answers in its place.
            .setting("RAVENPOST_DATABASE_STATEMENT_TIMEOUT", "5m")
            .setting("RAVENPOST_DATABASE_WAIT", "5m");
        on(builder, async |system| {
            let endpoint = endpoint(system, "/full", json!({})).await?;
            let before = send(&endpoint, vec![b'x'; BODY]).await?;
            until_status(system, &before, "SUCCESS").await?;
            let memory = system.ingress[0].daemon().memory()?.now;
            let taken = batches(system).await?;
            let (answers, mut answered) = mpsc::unbounded_channel();

            proxy.set(Mode::HalfOpen(Silent::Both));
            flood(&endpoint, 1, &answers);
            wait::until_true("the lane to be at work", BOUND, || async {
                Ok(batches(system).await? > taken)
            })
            .await?;
            // From here on there is room for as many as may wait, and all others are answered before any of those.
            for wave in 0..WAVES {
                flood(&endpoint, WAVE, &answers);
                for _ in 0..if wave == 0 { WAVE - QUEUE } else { WAVE } {
                    ensure_no_room(&next(&mut answered).await?)?;
                }
                ensure!(
                    matches!(answered.try_recv(), Err(TryRecvError::Empty)),
                    "one that waits was answered"
                );
            }
            assert!(batches(system).await? <= taken + 1.0, "nothing was committed meanwhile");
            ensure_memory_flat(system, memory)?;

            proxy.set(Mode::Pass);
            let mut accepted = BTreeSet::from([before]);
            for _ in 0..=QUEUE {
                accepted.insert(text(&next(&mut answered).await?.expect(202)?, "/id")?);
            }
            assert_eq!(accepted.len(), QUEUE + 2);
            until_all_succeed(system, &accepted, BOUND).await?;
            let rows = number(system, "select count(*) from events").await?;
            assert_eq!(usize::try_from(rows)?, accepted.len(), "nothing of what was refused is there");
            let after = send(&endpoint, "after").await?;
            until_status(system, &after, "SUCCESS").await?;
            Ok(())
        })
        .await
    });
}

/// The peak is what one wave takes and the queue holds, whatever was offered.
fn ensure_memory_flat(system: &mut System, before: u64) -> Result<()> {
    let peak = system.ingress[0].daemon().memory()?.peak;
    let requests = u64::try_from(WAVE + QUEUE + 1)?;
    let offered = u64::try_from(WAVES * WAVE * BODY)?;
    let bound = before + requests * PER_REQUEST + KEPT;
    tell(&format!("{} MiB were offered; from {} to {} MiB at most", offered / MIB, before / MIB, peak / MIB));
    ensure!(bound < before + offered / 2, "this would show nothing");
    ensure!(peak < bound, "{} MiB, at most {}", peak / MIB, bound / MIB);
    Ok(())
}
