//! One write for the events of calls that go abreast.
//!
//! A write takes two microseconds however short it is. Calls of one thread stop at the same places
//! ([`abreast`]): each leaves its event here and stops, and the first of them to go on writes what has
//! been left. No call goes on before its own event is written, so each is as safe as if it had been
//! written alone.

use std::sync::{Arc, OnceLock};

use super::{Journal, MAX_HOLD, Otherwise, State, append_whole};
use crate::cores::abreast;
use crate::ledger::entry::{Event, Key, Numbered};
use crate::ledger::error::LedgerError;
use crate::ledger::frame;

/// Events that wait for one write.
#[derive(Default)]
pub(super) struct Round {
    left: Vec<(Event, Otherwise)>,
    told: Arc<Told>,
}

/// That all events of a round are written, or what became of each; from the write on.
type Told = OnceLock<Result<(), Vec<Result<(), LedgerError>>>>;

/// A call's own event in a round.
struct Seat<'a> {
    journal: &'a Journal,
    told: Arc<Told>,
    place: usize,
    /// What is taken back where the call goes before it has heard.
    proposed: Option<Key>,
    heard: bool,
}

impl Journal {
    /// As [`Journal::propose`], with others.
    pub(in crate::ledger) async fn propose_abreast(&self, event: Event) -> Result<(), LedgerError> {
        self.append_abreast(event, Otherwise::Refuse).await
    }

    /// As [`Journal::state_fact`], with others.
    pub(in crate::ledger) async fn state_fact_abreast(
        &self,
        event: Event,
    ) -> Result<(), LedgerError> {
        self.append_abreast(event, Otherwise::Keep).await
    }

    async fn append_abreast(&self, event: Event, otherwise: Otherwise) -> Result<(), LedgerError> {
        let mut seat = self.leave(event, otherwise);
        abreast().await;
        seat.hear()
    }

    fn leave(&self, event: Event, otherwise: Otherwise) -> Seat<'_> {
        let proposed = (otherwise == Otherwise::Refuse).then(|| event.key());
        let round = &mut self.state.lock().round;
        round.left.push((event, otherwise));
        Seat {
            journal: self,
            told: Arc::clone(&round.told),
            place: round.left.len() - 1,
            proposed,
            heard: false,
        }
    }

    /// Writes what has been left, and tells everybody.
    pub(super) fn end_round(&self, state: &mut State) {
        let Round { left, told } = std::mem::take(&mut state.round);
        if left.is_empty() {
            return;
        }
        let outcome = match self.write_round(state, &left) {
            Ok(()) => {
                let first = state.seq + 1 - left.len() as u64;
                let events = left.into_iter().map(|(event, _)| event);
                let numbered = events.zip(first..);
                let numbered = numbered.map(|(event, seq)| Numbered { seq, event });
                state.uncarried.extend(numbered);
                Ok(())
            }
            Err(stays) => Err(left
                .into_iter()
                .map(|(event, otherwise)| self.append_alone(state, event, otherwise, stays))
                .collect()),
        };
        let _ = told.set(outcome);
    }

    /// Writes a whole round with one write.
    ///
    /// # Errors
    /// Each is to be written alone. `true` where some of them may stay on the disk all the same.
    fn write_round(&self, state: &mut State, left: &[(Event, Otherwise)]) -> Result<(), bool> {
        let crowded = state.uncarried.len() + left.len() > self.bounds.waiting;
        if state.closed || state.gap.is_some() || crowded {
            return Err(false);
        }
        state.buffer.clear();
        let mut seq = state.seq;
        for (event, otherwise) in left {
            let before = state.buffer.len();
            seq += 1;
            let encoded = frame::encode(&mut state.buffer, seq, event);
            let bytes = state.buffer.len() - before;
            if encoded.is_err() || *otherwise == Otherwise::Refuse && bytes > MAX_HOLD {
                return Err(false);
            }
        }
        if let Err(error) = append_whole(&*state.segment, &state.buffer) {
            let stays = state.segment.cut(state.length).is_err();
            if stays {
                // No number is ever that of two events.
                state.seq = seq;
                state.gap = Some(LedgerError::disk("write", &state.path, error));
            }
            return Err(stays);
        }
        state.seq = seq;
        state.length += state.buffer.len() as u64;
        Ok(())
    }

    /// Writes one event of a round that could not be written as one. A hold that is refused, and may
    /// be on the disk from the first try (`stays`), is taken back as well.
    fn append_alone(
        &self,
        state: &mut State,
        event: Event,
        otherwise: Otherwise,
        stays: bool,
    ) -> Result<(), LedgerError> {
        let key = event.key();
        let written = self.append_to(state, event, otherwise);
        if stays && written.is_err() && otherwise == Otherwise::Refuse {
            // Its own outcome is in `gap`, like that of any fact.
            let _ = self.append_to(state, Event::Released(key), Otherwise::Keep);
        }
        written
    }
}

impl Seat<'_> {
    /// What became of the event; writes the round where nobody has.
    fn hear(&mut self) -> Result<(), LedgerError> {
        self.heard = true;
        let heard = |told: &Told| match told.get()? {
            Ok(()) => Some(Ok(())),
            Err(each) => Some(each[self.place].clone()),
        };
        if let Some(outcome) = heard(&self.told) {
            return outcome;
        }
        self.journal.change(|state| {
            if self.told.get().is_none() {
                self.journal.end_round(state);
            }
        });
        heard(&self.told).unwrap_or(Err(LedgerError::Closed))
    }
}

impl Drop for Seat<'_> {
    /// A call that is cancelled while it stands leaves nothing half done: a fact is written all the
    /// same, a hold is taken back.
    fn drop(&mut self) {
        if self.heard {
            return;
        }
        if let (Ok(()), Some(key)) = (self.hear(), self.proposed) {
            // On an error it is kept in memory.
            let _ = self.journal.state_fact(Event::Released(key));
        }
    }
}
