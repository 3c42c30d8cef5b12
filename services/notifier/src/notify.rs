//! Tells channels what they are to be told: claimed from Postgres one channel at a time, grouped, sent, and settled. A slow
//! channel delays no other.

use std::sync::Arc;
use std::time::Duration;

use ravenpost_chassis::{Context, clock};
use ravenpost_core::alert::ChannelConfig;
use ravenpost_core::ids::NotificationId;
use ravenpost_store::System;
use ravenpost_store::system::{Claim, Failed, Gathering, Notification, NotificationKind};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use url::Url;

use crate::channels::{Channels, NotSent};
use crate::message::{self, Message};
use crate::metrics::NotifierMetrics;

/// How often is looked for what is to be told.
const EVERY: Duration = Duration::from_millis(500);
/// Channels that are told at the same time.
const AT_ONCE: usize = 16;
/// The least time between two times that a channel is told something.
const PACE: Duration = Duration::from_secs(2);
/// How much longer a storm may be gathered than a pause in it.
const LONGEST: u32 = 10;
/// How long a channel's messages may take all together before another sender takes them.
const CLAIM: Duration = Duration::from_secs(45);
/// No further message is begun after this; the longest that one takes is 25 seconds.
const ENOUGH: Duration = Duration::from_secs(15);
/// Permanent failures in a row after which a channel is disabled.
const MOST_FAILURES: i32 = 5;
/// Waits between two tries: doubled from the first up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// After so long a message is not tried again, and its channel is disabled.
const STALE: Duration = Duration::from_hours(24);

/// Tells people of alerts.
pub struct Teller {
    system: System,
    channels: Channels,
    console: Url,
    gathering: Gathering,
    metrics: NotifierMetrics,
}

impl Teller {
    /// Messages wait for others to join them until nothing new has come for as long as `gather`.
    pub fn new(
        system: System,
        channels: Channels,
        console: Url,
        gather: Duration,
        metrics: NotifierMetrics,
    ) -> Self {
        let gathering = Gathering { quiet: gather, longest: gather * LONGEST, pace: PACE, claim: CLAIM };
        Self { system, channels, console, gathering, metrics }
    }
}

/// Starts telling; ends with the process, when what is being sent was settled.
pub fn start(ctx: &Context, teller: Teller) {
    let stopping = ctx.stopping.clone();
    let teller = Arc::new(teller);
    ctx.spawn("notify", async move {
        let (senders, permits) = (TaskTracker::new(), Arc::new(Semaphore::new(AT_ONCE)));
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = teller.system.tell_due_alerts().await {
                warn!(error = &error as &dyn std::error::Error, "alerts that are due can't be read");
            }
            while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                let Some(claim) = teller.claim().await else { break };
                let teller = Arc::clone(&teller);
                senders.spawn(async move {
                    teller.tell(&claim).await;
                    drop(permit);
                });
            }
        }
        senders.close();
        senders.wait().await;
        Ok(())
    });
}

impl Teller {
    async fn claim(&self) -> Option<Claim> {
        self.system.claim_notifications(self.gathering).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "notifications can't be read");
            None
        })
    }

    /// Tells a channel everything of a claim. What fails keeps the rest from being tried: it is for the next time, too.
    async fn tell(&self, claim: &Claim) {
        let begun = Instant::now();
        let mut groups = message::group(&claim.notifications).into_iter();
        while let Some(group) = groups.next() {
            if begun.elapsed() > ENOUGH {
                // They are claimed again when this claim has run out.
                return;
            }
            if claim.channel.as_ref().is_ok_and(is_pager)
                && group.iter().any(|one| waits_for_its_incident(one))
            {
                // It was claimed together with what opens it, and doesn't know yet what that was told to be.
                let message = "it waits for what it ends to be told".to_owned();
                let cause = NotSent { message, permanent: false, retry_after: Some(FIRST_WAIT) };
                self.failed(claim, &group, &cause).await;
                continue;
            }
            if let Err(cause) = self.tell_group(claim, &group).await {
                // One failure, however many groups go without a try.
                let rest: Vec<&Notification> = group.into_iter().chain(groups.flatten()).collect();
                return self.failed(claim, &rest, &cause).await;
            }
        }
    }

    async fn tell_group(&self, claim: &Claim, group: &[&Notification]) -> Result<(), NotSent> {
        // What does not open is the operator's affair (a key that this process has not got), not the channel's.
        let unreadable =
            |message: &String| NotSent { message: message.clone(), permanent: false, retry_after: None };
        let channel = claim.channel.as_ref().map_err(unreadable)?;
        let message = message::compose(claim, group, &self.console);
        let sent = if self.is_wanted(claim, channel, &message).await {
            self.channels.send(channel, &message, clock::now()).await
        } else {
            Ok(())
        };
        self.count(channel.kind().as_str(), sent.is_ok());
        sent?;
        let ids: Vec<NotificationId> = group.iter().map(|one| one.id).collect();
        let settled = self.system.notifications_sent(claim, &ids, Some(message.incident)).await;
        if let Err(cause) = settled {
            // It is told again when the claim has run out: at least once.
            error!(error = &cause as &dyn std::error::Error, "what was sent can't be noted as sent");
        }
        Ok(())
    }

    /// A pager's incident is over when all of its alerts are.
    async fn is_wanted(&self, claim: &Claim, channel: &ChannelConfig, message: &Message) -> bool {
        if !is_pager(channel) || message.kind != NotificationKind::Resolved {
            return true;
        }
        self.system.open_in_incident(claim.channel_id, message.incident).await.map_or(true, |open| open == 0)
    }

    async fn failed(&self, claim: &Claim, group: &[&Notification], cause: &NotSent) {
        let ids: Vec<NotificationId> = group.iter().map(|one| one.id).collect();
        let attempts = group.iter().map(|one| one.attempts).max().unwrap_or(1);
        let failed = Failed {
            error: &cause.message,
            permanent: cause.permanent,
            again_in: cause.retry_after.unwrap_or_else(|| wait(attempts)),
            stale: STALE,
            most: MOST_FAILURES,
        };
        warn!(channel_id = %claim.channel_id, attempts, error = cause.message, "a channel did not take a message");
        match self.system.notifications_failed(claim, &ids, &failed).await {
            Ok(true) => {
                info!(channel_id = %claim.channel_id, "a channel is disabled: it takes no messages");
                self.metrics.channels_disabled.inc();
            }
            Ok(false) => {}
            Err(cause) => {
                error!(error = &cause as &dyn std::error::Error, "what was not sent can't be noted");
            }
        }
    }

    fn count(&self, channel: &str, sent: bool) {
        let result = if sent { "sent" } else { "failed" };
        self.metrics.notifications.with_label_values(&[channel, result]).inc();
    }
}

fn is_pager(channel: &ChannelConfig) -> bool {
    matches!(channel, ChannelConfig::Pagerduty { .. } | ChannelConfig::Opsgenie { .. })
}

fn waits_for_its_incident(notification: &Notification) -> bool {
    let ends = matches!(notification.kind, NotificationKind::Resolved | NotificationKind::Acknowledged);
    ends && notification.incident.is_none()
}

/// How long to wait after so many tries.
fn wait(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (FIRST_WAIT * 2_u32.saturating_pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!([1, 2, 3].map(wait), [2, 4, 8].map(Duration::from_secs));
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }
}
