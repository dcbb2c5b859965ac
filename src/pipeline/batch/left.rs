//! Single calls through a batch whose process died: followed by the next one.
//!
//! Nobody waits for the picture any more. It is bought all the same, so it is booked, and kept for
//! whoever asks again. What files of prompts have bought is left to `pixtoll batch resume`.

use std::time::Duration;

use futures_util::future::join_all;

use super::line::is_single;
use super::{Halted, Pace};
use crate::ledger::{BatchStage, KeptBatch};
use crate::pipeline::Pipeline;

/// The pause before a provider is asked again who could not be asked.
const AGAIN: Duration = Duration::from_secs(600);

impl Pipeline {
    /// Follows every single call through a batch that a dead process left, until each has its end.
    pub async fn follow_left_batches(&self) {
        let kept = match self.ledger.kept_batches().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "batches that are kept in the ledger could not be read");
                return;
            }
        };
        let open = kept
            .into_iter()
            .filter(|(batch, counts)| batch.stage != BatchStage::Ended && counts.lines == 1);
        join_all(open.map(|(batch, _)| self.see_batch_through(batch))).await;
    }

    async fn see_batch_through(&self, batch: KeptBatch) {
        let id = batch.id;
        let _following = match self.ledger.follow_batch(id) {
            Ok(Some(following)) => following,
            Ok(None) => return, // its process lives
            Err(error) => {
                tracing::error!(%error, batch = %id, "a batch that was left cannot be followed");
                return;
            }
        };
        while let Err(halted) = self.end_single(id).await {
            tracing::warn!(
                batch = %id,
                "a batch that was left does not get on and is taken up again later: {halted}"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// # Errors
    /// [`Halted`] where it is to be tried again later.
    async fn end_single(&self, id: ulid::Ulid) -> Result<(), Halted> {
        let failed = |error: crate::ledger::LedgerError| Halted::kept(error.to_string());
        // As it stands now that nobody else may touch it.
        let kept = self.ledger.kept_batches().await.map_err(failed)?;
        let Some((mut batch, _)) = kept.into_iter().find(|(batch, _)| batch.id == id) else {
            return Ok(());
        };
        let open = self.ledger.open_lines(id).await.map_err(failed)?;
        if !open.first().is_some_and(|(line, _)| is_single(line)) {
            return Ok(());
        }
        if batch.stage == BatchStage::Kept {
            self.withdraw(&batch).await; // nothing of it was bought, and nobody waits for it
            return Ok(());
        }
        let handed = self.hand_in(&mut batch).await;
        let ended = match handed {
            Ok(()) => self
                .follow_batch(&mut batch, Pace::default(), &mut |_| {})
                .await
                .map(drop),
            Err(halted) => Err(halted),
        };
        match ended {
            Err(halted) if halted.kept => Err(halted),
            Err(_) => Ok(()), // its provider did not take it, and it is withdrawn
            Ok(()) => self.ledger.forget_batch(id).await.map_err(failed),
        }
    }
}
