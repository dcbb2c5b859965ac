//! A batch on its way in: kept, held, handed over, ordered. Each step is marked in the ledger, and one
//! that was interrupted is taken up at its mark.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

use super::line::{Facts, name_of};
use super::speak::{Heard, Speaker};
use super::{Draft, Halted};
use crate::cache;
use crate::dialect::batch::{Most, Order, Standing};
use crate::image::ImageRequest;
use crate::ledger::{BatchStage, Following, KeptBatch, KeptLine, Key};
use crate::pipeline::Pipeline;
use crate::pipeline::budgets::NotHeld;
use crate::pipeline::call::Call;
use crate::pipeline::plan::Plan;
use crate::record::{NoticeKind, NoticeLevel};

/// So often an order is tried whose fate is unknown, each time after a look for it.
const TRIES: u32 = 4;
/// So long a provider may take to list what it was just ordered.
const SETTLES: Duration = Duration::from_secs(2);

/// Lines that are sent otherwise than they were drafted: their keys before and after.
pub type Reworded = Vec<(cache::Key, cache::Key)>;

/// A batch that is kept and held, and not yet sent.
#[derive(Debug)]
pub struct Begun {
    pub batch: KeptBatch,
    pub following: Following,
    pub reworded: Reworded,
}

/// What is handed in.
pub(super) struct Handed {
    pub(super) lines: Vec<Bytes>,
    /// That of any line.
    pub(super) request: ImageRequest,
}

impl Pipeline {
    /// Sorts drafts into batches: those of one model, operation and provider go together, as many as
    /// its provider takes at once.
    pub fn sort_into_batches(&self, drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
        let mut groups: Vec<(Vec<Draft>, usize)> = Vec::new();
        for draft in drafts {
            let most = draft.plan.dialect.batches().map(|batches| batches.most());
            let Most { lines, bytes } = most.unwrap_or(Most { lines: 1, bytes: 0 });
            // A line is nearly as long as its body.
            let long = draft.call.arrived.body.len() + 512;
            let fits = |(group, sum): &(Vec<Draft>, usize)| {
                let first = &group[0].plan;
                first.request.model == draft.plan.request.model
                    && first.request.operation == draft.plan.request.operation
                    && first.dialect.name() == draft.plan.dialect.name()
                    && group.len() < lines
                    && sum + long <= bytes
            };
            match groups.iter_mut().find(|group| fits(group)) {
                Some((group, sum)) => {
                    group.push(draft);
                    *sum += long;
                }
                None => groups.push((vec![draft], long)),
            }
        }
        groups.into_iter().map(|(group, _)| group).collect()
    }

    /// Keeps a batch in the ledger and sets its money aside. Nothing is sent yet.
    ///
    /// # Errors
    /// When a budget or the ledger refuses; then nothing is kept and nothing held.
    pub async fn keep_batch(&self, drafts: Vec<Draft>, keep: Duration) -> Result<Begun, Halted> {
        let not_kept = |message: String, remedy: &str| Halted {
            message,
            remedy: remedy.to_owned(),
            kept: false,
        };
        let Some(first) = drafts.first() else {
            return Err(not_kept("there is nothing to send".to_owned(), ""));
        };
        let batch = KeptBatch {
            id: Ulid::generate(),
            provider: first.plan.provider.name.to_string(),
            dialect: first.plan.dialect.name().to_owned(),
            model: first.plan.request.model.clone(),
            app: first.call.decision.app.to_string(),
            stage: BatchStage::Kept,
            file: None,
            job: None,
            keep_s: keep.as_secs(),
            at: Timestamp::now(),
            ended_at: None,
            why: None,
        };
        let lines = drafts.iter().enumerate().map(|(at, draft)| {
            let facts = Facts::of(&draft.call, &draft.plan)?;
            Ok(KeptLine {
                line: u32::try_from(at + 1).unwrap_or(u32::MAX),
                name: draft.name.clone(),
                attempt: Key {
                    call: draft.call.decision.id.ulid(),
                    attempt: 1,
                },
                key: draft.key.canonical().to_vec(),
                facts: serde_json::to_string(&facts).map_err(|error| error.to_string())?,
                end: None,
            })
        });
        let lines: Vec<KeptLine> = lines
            .collect::<Result<_, String>>()
            .map_err(|why| not_kept(why, "correct the line"))?;
        let disk = "free disk space where the ledger lies, or name another place for it";
        let following = self.ledger.follow_batch(batch.id);
        let following = following.map_err(|error| not_kept(error.to_string(), disk))?;
        let Some(following) = following else {
            return Err(not_kept("another process has this batch".to_owned(), ""));
        };
        self.ledger
            .keep_batch(&batch, &lines)
            .await
            .map_err(|error| not_kept(error.to_string(), disk))?;
        let reworded = self.hold_lines(&batch).await?;
        Ok(Begun {
            batch,
            following,
            reworded,
        })
    }

    /// Holds every line of a batch that has no hold yet; all of them or none. Returns what rules made
    /// of lines that a budget had no room for.
    pub(super) async fn hold_lines(&self, batch: &KeptBatch) -> Result<Reworded, Halted> {
        let mut reworded = Reworded::new();
        let open = self.ledger.open_lines(batch.id).await;
        let open = open.map_err(|error| Halted::kept(error.to_string()))?;
        for (kept, row) in &open {
            if row.is_some() {
                continue;
            }
            let held = match self.call_of(batch, kept, batch.at) {
                Ok((call, plan, _)) => self.hold_line(batch, kept, call, plan).await,
                Err(why) => Err(why),
            };
            let held = held.map(|keys| reworded.extend(keys));
            if let Err(why) = held {
                self.withdraw(batch).await;
                return Err(Halted {
                    message: format!(
                        "line `{}` cannot be held, so nothing is sent: {why}",
                        kept.name
                    ),
                    remedy: "send fewer lines, or raise the budget".to_owned(),
                    kept: false,
                });
            }
        }
        Ok(reworded)
    }

    /// Holds one line. Where a budget has no room for it and leaves that to the rules, they may make
    /// it cheaper; it stays in its batch. Its keys before and after are returned then.
    ///
    /// # Errors
    /// Why it cannot be held.
    async fn hold_line(
        &self,
        batch: &KeptBatch,
        kept: &KeptLine,
        mut call: Box<Call>,
        plan: Plan,
    ) -> Result<Option<(cache::Key, cache::Key)>, String> {
        let over = match self.held(&mut call, &plan).await {
            Ok(ticket) => {
                self.ledger.entrust(ticket);
                return Ok(None);
            }
            Err(NotHeld::Ledger(error)) => return Err(error.to_string()),
            Err(NotHeld::Over(over)) => over,
        };
        if plan.provider.name != call.arrived.provider.name {
            return Err(over.rescued().refusal.message); // a rule moved it here for a reason
        }
        if !plan.untouched {
            // As the rules left it when it was drafted.
            let mut request = (*plan.request).clone();
            request.tier = call.asked.tier;
            call.request = Arc::new(request);
        }
        let cheaper = self.consult_on_budget(&mut call, &over).await;
        let cheaper = cheaper.map_err(|refused| refused.refusal.message)?;
        let cheaper = self.in_batch(cheaper).map_err(|why| why.message)?;
        let request = &cheaper.request;
        if request.model != batch.model || request.operation != plan.request.operation {
            return Err(format!(
                "the rules move it to {}, which is another batch: name that model in the file",
                request.model
            ));
        }
        let key = self.key_of(&call, &cheaper.request);
        let facts = Facts::of(&call, &cheaper)?;
        let line = KeptLine {
            key: key.canonical().to_vec(),
            facts: serde_json::to_string(&facts).map_err(|error| error.to_string())?,
            ..kept.clone()
        };
        let marked = self.ledger.reword_line(batch.id, &line).await;
        marked.map_err(|error| error.to_string())?;
        match self.held(&mut call, &cheaper).await {
            Ok(ticket) => {
                self.ledger.entrust(ticket);
                Ok(Some((cache::Key::of_canonical(kept.key.clone()), key)))
            }
            Err(NotHeld::Over(over)) => Err(over.rescued().refusal.message),
            Err(NotHeld::Ledger(error)) => Err(error.to_string()),
        }
    }

    /// Takes every hold of a batch back of which nothing was sent, and forgets it.
    pub(super) async fn withdraw(&self, batch: &KeptBatch) {
        let open = self.ledger.open_lines(batch.id).await.unwrap_or_default();
        for (kept, row) in open {
            if row.is_some()
                && let Err(error) = self.ledger.release_line(kept.attempt)
            {
                tracing::error!(%error, "a hold was not taken back in the journal");
            }
        }
        let forgotten = match self.ledger.flush().await {
            Ok(()) => self.ledger.forget_batch(batch.id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::error!(%error, "a batch that was given up stays in the ledger's list");
        }
    }

    /// Hands a batch in from wherever it stands, until its provider has it.
    ///
    /// # Errors
    /// [`Halted`]; whether it is kept is told.
    pub async fn hand_in(&self, batch: &mut KeptBatch) -> Result<(), Halted> {
        let speaker = Speaker::new(self, &batch.provider, &batch.dialect).map_err(Halted::kept)?;
        if batch.stage == BatchStage::Kept {
            self.hold_lines(batch).await?;
        }
        self.hand_in_by(batch, &speaker, None).await
    }

    /// The same through `speaker`, with lines that are worded already. Their holds stand.
    pub(super) async fn hand_in_by(
        &self,
        batch: &mut KeptBatch,
        speaker: &Speaker<'_>,
        handed: Option<Handed>,
    ) -> Result<(), Halted> {
        let handed = match (batch.stage, handed) {
            (BatchStage::Running | BatchStage::Ended, _) => return Ok(()),
            (_, Some(handed)) => handed,
            (_, None) => self.lines_of(batch, speaker).await?,
        };
        if batch.stage == BatchStage::Kept {
            self.hand_over_lines(batch, speaker, &handed.lines).await?;
            batch.stage = BatchStage::Ordering;
            self.mark(batch).await?;
            return self.order(batch, speaker, &handed).await;
        }
        // Whether its order arrived only its provider knows.
        match self.look_for(batch, speaker).await? {
            Some(standing) => self.ordered(batch, standing).await,
            None => self.order(batch, speaker, &handed).await,
        }
    }

    /// Every open line as it is worded, and the request of one of them.
    async fn lines_of(&self, batch: &KeptBatch, speaker: &Speaker<'_>) -> Result<Handed, Halted> {
        let open = self.ledger.open_lines(batch.id).await;
        let open = open.map_err(|error| Halted::kept(error.to_string()))?;
        let mut lines = Vec::with_capacity(open.len());
        let mut request = None;
        for (kept, _) in &open {
            let (call, plan, _) = self.call_of(batch, kept, batch.at).map_err(Halted::kept)?;
            let own = plan.untouched.then_some(&call.arrived.body);
            let line = speaker.batches.line(&name_of(kept), &plan.request, own);
            match line {
                Ok(line) => lines.push(line),
                Err(error) => {
                    self.withdraw(batch).await;
                    return Err(Halted {
                        message: format!("line `{}`: {error}", kept.name),
                        remedy: "take it out; nothing was sent".to_owned(),
                        kept: false,
                    });
                }
            }
            request.get_or_insert_with(|| (*plan.request).clone());
        }
        match request {
            Some(request) => Ok(Handed { lines, request }),
            None => Err(Halted::kept("it has no open lines")),
        }
    }

    /// Hands the lines over, where they do not go along with the order. That costs nothing, and what
    /// fails of it can be done again.
    async fn hand_over_lines(
        &self,
        batch: &mut KeptBatch,
        speaker: &Speaker<'_>,
        lines: &[Bytes],
    ) -> Result<(), Halted> {
        let label = batch.id.to_string();
        let mut last = String::new();
        for tries in 0..TRIES {
            let Some(message) = speaker.batches.upload(&label, lines) else {
                return Ok(());
            };
            speaker.pause(SETTLES * tries).await;
            match speaker.say(message).await {
                Heard::Answer(answer) => {
                    if let Some(file) = speaker.batches.uploaded(&answer) {
                        batch.file = Some(file);
                        return Ok(());
                    }
                    last = "the answer names no file".to_owned();
                }
                Heard::Declined(status, words) => {
                    return Err(self.declined(batch, &format!("{status}: {words}")).await);
                }
                Heard::Nothing(why) => last = why,
            }
        }
        Err(self.declined(batch, &last).await)
    }

    /// Orders the batch. An order whose fate is unknown is looked for before it is given again.
    async fn order(
        &self,
        batch: &mut KeptBatch,
        speaker: &Speaker<'_>,
        handed: &Handed,
    ) -> Result<(), Halted> {
        let label = batch.id.to_string();
        let mut last = String::new();
        for _ in 0..TRIES {
            let file = batch.file.clone();
            let order = Order {
                label: &label,
                request: &handed.request,
                file: file.as_deref(),
                lines: &handed.lines,
            };
            let message = match speaker.batches.order(&order) {
                Ok(message) => message,
                Err(error) => return Err(self.declined(batch, &error.to_string()).await),
            };
            match speaker.say(message).await {
                Heard::Answer(answer) => match speaker.batches.standing(&answer) {
                    Some(standing) => return self.ordered(batch, standing).await,
                    None => last = "the answer tells of no batch".to_owned(),
                },
                Heard::Declined(status, words) => {
                    return Err(self.declined(batch, &format!("{status}: {words}")).await);
                }
                Heard::Nothing(why) => last = why,
            }
            if let Some(standing) = self.look_for(batch, speaker).await? {
                return self.ordered(batch, standing).await;
            }
        }
        Err(Halted::kept(format!(
            "{} did not take the batch: {last}",
            batch.provider
        )))
    }

    /// The batch at its provider, if the order arrived there.
    async fn look_for(
        &self,
        batch: &KeptBatch,
        speaker: &Speaker<'_>,
    ) -> Result<Option<Standing>, Halted> {
        let label = batch.id.to_string();
        let mut last = None;
        for tries in 0..TRIES {
            speaker
                .pause(if tries == 0 { Duration::ZERO } else { SETTLES })
                .await;
            match speaker.say(speaker.batches.list()).await {
                Heard::Answer(answer) => {
                    if let Some(standing) = speaker.batches.find(&label, &answer) {
                        return Ok(Some(standing));
                    }
                    if last.replace(None).is_some() {
                        return Ok(None); // twice not there
                    }
                }
                Heard::Declined(_, why) | Heard::Nothing(why) => last = Some(Some(why)),
            }
        }
        match last.flatten() {
            Some(why) => Err(Halted::kept(format!(
                "whether {} has the batch cannot be told: {why}",
                batch.provider
            ))),
            None => Ok(None),
        }
    }

    async fn ordered(&self, batch: &mut KeptBatch, standing: Standing) -> Result<(), Halted> {
        batch.job = Some(standing.job);
        batch.stage = BatchStage::Running;
        self.mark(batch).await
    }

    pub(super) async fn mark(&self, batch: &KeptBatch) -> Result<(), Halted> {
        let marked = self.ledger.advance_batch(batch).await;
        marked.map_err(|error| Halted::kept(error.to_string()))
    }

    /// A batch that its provider did not take: nothing of it was bought, so nothing stays held.
    async fn declined(&self, batch: &KeptBatch, why: &str) -> Halted {
        self.withdraw(batch).await;
        let message = format!("{} did not take the batch: {why}", batch.provider);
        self.notice(NoticeKind::Alert, NoticeLevel::Warning, message.clone());
        Halted {
            message,
            remedy: "nothing was bought and nothing is held; mend what it says and submit again"
                .to_owned(),
            kept: false,
        }
    }
}
