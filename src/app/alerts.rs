//! Alerts on their way to the webhook of the configuration.
//!
//! Whoever raises an alert writes a notice to the log and goes on; what is posted is that notice,
//! by a task of its own from a bounded queue. The webhook's URL is a secret: it stands in no
//! message.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::record::fit::render;
use crate::record::{Log, Notice, NoticeKind, NoticeLevel};
use crate::secret::Secret;
use crate::task::Tasks;
use crate::upstream::Upstream;

/// Alerts that wait to be posted; further ones are in the log alone.
const QUEUE: usize = 256;
/// So often one is posted until it is taken.
const TRIES: u32 = 6;
/// The pause before it is posted again; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stop waits for what is queued.
const LAST: Duration = Duration::from_secs(5);

/// Posts the alerts of a log.
#[derive(Debug)]
pub(super) struct Courier {
    log: Log,
    tasks: Tasks,
}

impl Courier {
    /// Begins to post what is written to `log` from now on.
    pub(super) fn start(webhook: &Secret, log: &Log, upstream: &Arc<Upstream>) -> Courier {
        let (sender, alerts) = mpsc::channel(QUEUE);
        log.post_alerts(Some(sender));
        let tasks = Tasks::new();
        tasks.spawn(deliver(webhook.clone(), Arc::clone(upstream), alerts));
        Courier {
            log: log.clone(),
            tasks,
        }
    }

    /// Takes no more alerts, and waits a little for those that are queued.
    pub(super) async fn stop(self) {
        self.log.post_alerts(None);
        if self.tasks.drain(LAST).await > 0 {
            tracing::warn!("alerts could not be posted before the end; they are in the log");
        }
    }
}

/// Posts one alert that says it is a test, once; the status that came back.
///
/// # Errors
/// Why the webhook is not reached, without its path.
pub async fn test_alert(settings: &Settings) -> Result<u16, String> {
    let Some(webhook) = &settings.webhook else {
        return Err("none is configured".to_owned());
    };
    let upstream = super::upstream(settings).map_err(|error| error.to_string())?;
    let text = "a test of pixtoll's alerts: somebody ran `pixtoll alerts test`";
    let (kind, level) = (NoticeKind::Alert, NoticeLevel::Info);
    let alert = Notice::new(
        Timestamp::now(),
        Arc::from("alerts test"),
        kind,
        level,
        text,
    );
    let body = render(&alert).map_err(|error| error.to_string())?;
    let posted = upstream.post(webhook.expose(), "application/json", body);
    posted.await.map_err(|error| error.to_string())
}

async fn deliver(webhook: Secret, upstream: Arc<Upstream>, mut alerts: mpsc::Receiver<Notice>) {
    while let Some(alert) = alerts.recv().await {
        if let Err(why) = post(&webhook, &upstream, &alert).await {
            tracing::warn!(id = %alert.id, "an alert was not posted: {why}; it is in the log");
        }
    }
}

/// Posts one alert: its line of the log, whose `text` chat services show.
///
/// # Errors
/// Why it was not taken after all tries, without the webhook's path.
pub(super) async fn post(
    webhook: &Secret,
    upstream: &Upstream,
    alert: &Notice,
) -> Result<(), String> {
    let body = render(alert).map_err(|error| error.to_string())?;
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let posted = upstream.post(webhook.expose(), "application/json", body.clone());
        let why = match posted.await {
            Ok(status) if (200..300).contains(&status) => return Ok(()),
            Ok(status) if status != 429 && status < 500 => {
                return Err(format!("the webhook answered {status}"));
            }
            Ok(status) => format!("the webhook answered {status}"),
            Err(error) => error.to_string(),
        };
        if tries == TRIES {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
        (pause, tries) = (pause * 2, tries + 1);
    }
}
