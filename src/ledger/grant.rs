//! Holds within budgets: judged and written in one transaction of the database, so that whoever
//! shares it, in this process or in another, stays within one limit.
//!
//! Those who ask at the same time share a transaction. The order of a round is: what has ended is
//! written, then each hold is judged by what stands after those before it. A hold that is granted
//! is on the disk when this returns; it has its row already and needs no record in the journal.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use ulid::Ulid;

use super::batch::{Batch, Write};
use super::claims::{self, BucketId, Touched};
use super::database::{self, Database, Writer};
use super::entry::{Claim, Hold};
use super::error::LedgerError;
use super::journal::Journal;
use super::{Ledger, Ticket};
use crate::budget::Standing;
use crate::money::Usd;

/// The mark of a bucket that has turned a hold away.
pub const TURNED_AWAY: u8 = 101;

/// A claim, and the limit that it is to keep to.
#[derive(Clone, Debug)]
pub struct Bound {
    pub claim: Claim,
    pub limit: Usd,
    /// Nothing is held when it does not fit.
    pub binds: bool,
}

/// What a bucket said to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Before this hold.
    pub standing: Standing,
    pub fits: bool,
    /// A mark, in percent of the limit, that this hold is the first to reach in its period, or
    /// [`TURNED_AWAY`].
    pub reached: Option<u8>,
}

/// What came of asking, with what each bound said.
#[derive(Debug)]
pub enum Grant {
    Held(Ticket, Vec<Judged>),
    /// A bound that binds has no room: nothing is held.
    Over(Vec<Judged>),
}

/// Somebody who waits for a hold.
pub(super) struct Ask {
    pub(super) hold: Arc<Hold>,
    pub(super) bounds: Vec<Bound>,
    pub(super) reply: oneshot::Sender<Result<Grant, LedgerError>>,
}

/// What a transaction decided of an ask.
pub(super) struct Verdict {
    held: bool,
    judged: Vec<Judged>,
}

impl Ask {
    /// Tells whoever waits. One who has gone has sent nothing: the hold is taken back.
    pub(super) fn answer(self, verdict: Verdict, journal: &Arc<Journal>) {
        let Verdict { held, judged } = verdict;
        let grant = match held {
            true => {
                let firm = self.bounds.iter().any(|bound| bound.binds);
                let ticket = Ticket::granted(self.hold, Arc::clone(journal), firm);
                Grant::Held(ticket, judged)
            }
            false => Grant::Over(judged),
        };
        if let Err(Ok(Grant::Held(ticket, _))) = self.reply.send(Ok(grant)) {
            let _ = ticket.take_back();
        }
    }

    pub(super) fn fail(self, error: LedgerError) {
        let _ = self.reply.send(Err(error));
    }
}

impl Ledger {
    /// Holds money where every bound that binds has room for it, and says what each bound stands
    /// at. When this returns a hold, it survives the loss of power.
    ///
    /// # Errors
    /// When the database does not take it, or the ledger is closed. Nothing is held then.
    pub async fn hold_within(
        &self,
        mut hold: Hold,
        bounds: Vec<Bound>,
    ) -> Result<Grant, LedgerError> {
        hold.claims = bounds.iter().map(|bound| bound.claim.clone()).collect();
        let hold = Arc::new(hold);
        self.shared().journal.takes(&hold)?;
        let (reply, answer) = oneshot::channel();
        self.shared().ask(Ask {
            hold,
            bounds,
            reply,
        });
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }
}

impl Database {
    /// Writes one batch and judges those who ask: all of it or nothing.
    pub(super) async fn write_and_judge(
        &self,
        writer: &mut Writer,
        owner: Ulid,
        batch: &Batch,
        asks: &[Ask],
    ) -> Result<(Vec<Verdict>, Touched), LedgerError> {
        let failed = |error| self.error("a hold within a budget", error);
        let mut connection = writer.take(self).await.map_err(failed)?;
        let done = round(&mut connection, owner, batch, asks);
        let done = done.await.map_err(failed)?;
        writer.put(connection);
        Ok(done)
    }
}

async fn round(
    connection: &mut SqliteConnection,
    owner: Ulid,
    batch: &Batch,
    asks: &[Ask],
) -> Result<(Vec<Verdict>, Touched), sqlx::Error> {
    use sqlx::Connection as _;
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut touched = Touched::new();
    database::apply(&mut change, owner, batch, &mut touched).await?;
    let mut verdicts = Vec::with_capacity(asks.len());
    for ask in asks {
        verdicts.push(judge(&mut change, owner, ask, &mut touched).await?);
    }
    claims::tell(&mut change, &touched).await?;
    change.commit().await?;
    Ok((verdicts, touched))
}

async fn judge(
    connection: &mut SqliteConnection,
    owner: Ulid,
    ask: &Ask,
    touched: &mut Touched,
) -> Result<Verdict, sqlx::Error> {
    let mut judged = Vec::with_capacity(ask.bounds.len());
    for bound in &ask.bounds {
        let bucket = claims::look(connection, BucketId::of(&bound.claim), touched).await?;
        judged.push(Judged {
            standing: bucket.standing,
            fits: bucket.standing.fits(bound.claim.amount, bound.limit),
            reached: None,
        });
    }
    let held = ask
        .bounds
        .iter()
        .zip(&judged)
        .all(|(bound, judged)| judged.fits || !bound.binds);
    for (bound, judged) in ask.bounds.iter().zip(&mut judged) {
        let Some(bucket) = touched.get_mut(&BucketId::of(&bound.claim)) else {
            continue;
        };
        if held {
            bucket.standing.held += bound.claim.amount;
        }
        let mark = match held || judged.fits {
            true => bucket.standing.mark(bound.limit),
            false => TURNED_AWAY,
        };
        if mark > bucket.told {
            (bucket.told, bucket.tell) = (mark, true);
            judged.reached = Some(mark);
        }
    }
    if held {
        write(connection, owner, &ask.hold).await?;
    }
    Ok(Verdict { held, judged })
}

async fn write(
    connection: &mut SqliteConnection,
    owner: Ulid,
    hold: &Arc<Hold>,
) -> Result<(), sqlx::Error> {
    let row = Batch {
        rows: vec![Write {
            hold: Arc::clone(hold),
            settled: None,
        }],
        ..Batch::default()
    };
    database::insert(connection, owner, &row).await?;
    let call = hold.call.to_string();
    for claim in hold.claims.iter() {
        claims::claim(connection, &call, hold.attempt, claim).await?;
    }
    Ok(())
}
