//! A pixtoll without a proxy: its stations alone, for commands that make calls of their own.
//!
//! It shares the state directory with whatever proxy runs there: ledger, log, answers bought ahead.

use std::sync::Arc;
use std::time::Duration;

use super::parts::simulate;
use super::prepared::prepare;
use super::state::private_dir;
use super::{StartError, stations, wrong};
use crate::config::Settings;
use crate::pipeline::Pipeline;
use crate::sim::Sim;
use crate::task::Tasks;

/// Stations that nobody calls from outside.
#[derive(Debug)]
pub struct Workbench {
    pub pipeline: Arc<Pipeline>,
    sim: Option<Sim>,
}

impl Workbench {
    /// # Errors
    /// [`StartError`] with all that stands in the way.
    pub async fn open(settings: &Settings, sim: bool) -> Result<Workbench, StartError> {
        let (book, plugins) = prepare(settings)?;
        private_dir(&settings.state_dir).map_err(|error| wrong("state", error))?;
        let sim = match sim {
            true => Some(simulate().await?),
            false => None,
        };
        let nowhere = ([127, 0, 0, 1], 0).into();
        let tasks = Tasks::new();
        let made = stations(settings, sim.as_ref(), &book, plugins, nowhere, &tasks);
        Ok(Workbench {
            pipeline: Arc::new(made.await?),
            sim,
        })
    }

    /// Closes the books. Holds of batches stay: whoever follows them settles them.
    pub async fn close(self) {
        if let Err(error) = self.pipeline.ledger.close().await {
            tracing::error!(%error, "the ledger was not closed in order; nothing is lost");
        }
        if let Err(error) = self.pipeline.log.flush().await {
            tracing::error!(%error, "the decision log is not complete");
        }
        if let Some(sim) = self.sim {
            sim.stop(Duration::from_secs(1)).await;
        }
    }
}
