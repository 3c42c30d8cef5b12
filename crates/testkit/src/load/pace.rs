//! Whose turn it is, and since when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{
    Mutex,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::Pace;

/// How long after the end of an open loop requests that were due are still sent.
const OVERTIME: Duration = Duration::from_secs(5);

/// Hands out turns to the connections.
#[derive(Clone)]
pub(super) enum Turns {
    /// Now, until the end.
    Closed { end: Instant },
    /// Now, while there are any left.
    Count { left: Arc<AtomicU64> },
    /// What is due, oldest first.
    Open { due: Arc<Mutex<UnboundedReceiver<Instant>>>, unsent: Arc<AtomicU64>, last: Instant },
}

impl Turns {
    pub(super) fn start(pace: Pace, started: Instant, duration: Duration) -> Self {
        let end = started + duration;
        match pace {
            Pace::Closed => Self::Closed { end },
            Pace::Count(count) => Self::Count { left: Arc::new(AtomicU64::new(count)) },
            Pace::Open { per_second } => {
                let (clock, due) = unbounded_channel();
                // A thread, since the runtime's timers are a millisecond coarse. It ends by itself.
                thread::spawn(move || keep_time(per_second, started, end, &clock));
                let due = Arc::new(Mutex::new(due));
                Self::Open { due, unsent: Arc::default(), last: end + OVERTIME }
            }
        }
    }

    /// The time from which the next request's latency counts; `None` when there is no further one.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { end } => Some(Instant::now()).filter(|now| now < end),
            Self::Count { left } => {
                let take = |left: u64| left.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Instant::now())
            }
            Self::Open { due, unsent, last } => loop {
                let at = due.lock().await.recv().await?;
                if Instant::now() <= *last {
                    return Some(at);
                }
                unsent.fetch_add(1, Ordering::Relaxed);
            },
        }
    }

    /// How many requests were due and not sent.
    pub(super) fn unsent(&self) -> u64 {
        match self {
            Self::Closed { .. } | Self::Count { .. } => 0,
            Self::Open { unsent, .. } => unsent.load(Ordering::Relaxed),
        }
    }
}

fn keep_time(per_second: u32, started: Instant, end: Instant, clock: &UnboundedSender<Instant>) {
    let mut number = 0_u32;
    loop {
        // From the start each time, so that errors don't add up.
        let due = started + Duration::from_secs_f64(f64::from(number) / f64::from(per_second.max(1)));
        if due >= end {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if clock.send(due).is_err() {
            return;
        }
        number += 1;
    }
}
