//! Tells channels of alerts that nobody has been told of, until each was told.

use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_store::System;
use ravenpost_store::system::DueAlert;
use tracing::{error, warn};

use crate::channels::{Email, of_alert};
use crate::metrics::NotifierMetrics;

/// How often alerts are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// How long an alert is left alone after somebody could not be told.
const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// Alerts that are told at once.
const BATCH: i64 = 50;

/// Tells people of alerts.
struct Teller {
    system: System,
    email: Email,
    metrics: NotifierMetrics,
}

/// Starts telling; ends with the process.
pub fn start(ctx: &Context, system: System, email: Email, metrics: NotifierMetrics) {
    let stopping = ctx.stopping.clone();
    let teller = Teller { system, email, metrics };
    ctx.spawn("notify", async move {
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = teller.tell_all().await {
                warn!(error = &error as &dyn std::error::Error, "alerts can't be read or marked");
            }
        }
        Ok(())
    });
}

impl Teller {
    async fn tell_all(&self) -> ravenpost_store::Result<()> {
        for alert in self.system.due_alerts(BATCH).await? {
            if self.tell(&alert).await? {
                self.system.mark_notified(alert.id).await?;
            } else {
                self.system.tell_later(alert.id, AFTER_FAILURE).await?;
            }
        }
        Ok(())
    }

    /// Tells every address that was not told yet, each once; `false`: somebody is to be tried again.
    async fn tell(&self, alert: &DueAlert) -> ravenpost_store::Result<bool> {
        let mut all = true;
        for address in &alert.addresses {
            let sent = self.email.send(of_alert(alert, address)).await;
            let result = if sent.is_ok() { "sent" } else { "failed" };
            self.metrics.notifications.with_label_values(&["email", result]).inc();
            if let Err(cause) = &sent {
                error!(alert_id = %alert.id, error = cause as &dyn std::error::Error, "an alert could not be mailed");
            }
            match sent {
                Err(cause) if !cause.is_permanent() => all = false,
                _ => self.system.mark_told(alert.id, address).await?,
            }
        }
        Ok(all)
    }
}
