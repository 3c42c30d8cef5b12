//! Waiting for a condition, with a bound. No test sleeps for a time and hopes.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks `condition` until it gives a value, at most for `bound`. An error from the condition counts as "not
/// yet" and is told when the time is over, since a store that is starting refuses connections at first.
pub async fn until<T, F, Fut>(what: &str, bound: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + bound;
    let mut last_error = None;
    loop {
        match tokio::time::timeout_at(deadline, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last_error = None,
            Ok(Err(error)) => last_error = Some(error),
            Err(_elapsed) => {}
        }
        if Instant::now() >= deadline {
            return match last_error {
                Some(error) => Err(error.context(format!("waited {bound:?} for {what}"))),
                None => bail!("waited {bound:?} for {what}"),
            };
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// [`until`] for a condition that is only true or false.
pub async fn until_true<F, Fut>(what: &str, bound: Duration, mut condition: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    until(what, bound, || {
        let answer = condition();
        async move { Ok(answer.await?.then_some(())) }
    })
    .await
}
