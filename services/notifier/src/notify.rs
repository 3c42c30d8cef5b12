//! Tells channels of alerts that nobody has been told of, until each was told.

use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_store::System;
use ravenpost_store::system::DueAlert;
use tracing::{error, warn};

use crate::channels::Email;
use crate::metrics::NotifierMetrics;

/// How often alerts are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// How long to leave off after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Alerts that are told at once.
const BATCH: i64 = 50;

/// Starts telling; ends with the process.
pub fn start(ctx: &Context, system: System, email: Email, metrics: NotifierMetrics) {
    let stopping = ctx.stopping.clone();
    ctx.spawn("notify", async move {
        let mut pause = EVERY;
        while stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = if tell_all(&system, &email, &metrics).await { EVERY } else { AFTER_FAILURE };
        }
        Ok(())
    });
}

/// `false`: something failed and is better left alone for a while.
async fn tell_all(system: &System, email: &Email, metrics: &NotifierMetrics) -> bool {
    let alerts = match system.due_alerts(BATCH).await {
        Ok(alerts) => alerts,
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, "alerts can't be read");
            return false;
        }
    };
    let mut all_told = true;
    for alert in alerts {
        all_told &= tell(system, email, metrics, &alert).await;
    }
    all_told
}

async fn tell(system: &System, email: &Email, metrics: &NotifierMetrics, alert: &DueAlert) -> bool {
    let sent = email.send(alert).await;
    let result = if sent.is_ok() { "sent" } else { "failed" };
    metrics.notifications.with_label_values(&["email", result]).inc();
    if let Err(cause) = sent {
        error!(alert_id = %alert.id, error = &cause as &dyn std::error::Error, "an alert could not be mailed; it is tried again");
        return false;
    }
    match system.mark_notified(alert.id).await {
        Ok(()) => true,
        Err(cause) => {
            error!(alert_id = %alert.id, error = &cause as &dyn std::error::Error, "an alert was mailed but not marked so");
            false
        }
    }
}
