//! A batch that its provider works on: asked about until it ends, and its lines ended one by one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::line::{Lines, Logged, Open, name_of};
use super::speak::{Heard, Speaker};
use super::{Closed, Halted, Pace, Progress, is_old};
use crate::dialect::batch::{BatchState, LineEnd, Standing};
use crate::image::{Billed, Failure, FailureKind, Sent};
use crate::ledger::{BatchStage, KeptBatch, LineCounts, LineOutcome};
use crate::pipeline::Pipeline;
use crate::wire::Message;

/// So many lines end together: one flush of ledger and log for all of them.
const TOGETHER: usize = 32;
/// And so many bytes.
const BYTES_TOGETHER: usize = 64 << 20;
/// Questions in a row that may bring nothing.
const DEAF: u32 = 20;
/// So often a file of answers is fetched that breaks off.
const TRIES: u32 = 5;

impl Pipeline {
    /// Follows a batch to its end. `watch` hears how it stands.
    ///
    /// # Errors
    /// [`Halted`] where it can be neither asked about nor ended now; it is kept.
    pub async fn follow_batch(
        &self,
        batch: &mut KeptBatch,
        pace: Pace,
        watch: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Closed, Halted> {
        let speaker = Speaker::new(self, &batch.provider, &batch.dialect).map_err(Halted::kept)?;
        let open = self.ledger.open_lines(batch.id).await;
        let open = open.map_err(|error| Halted::kept(error.to_string()))?;
        let all = open.len();
        let mut lines: Lines = open
            .into_iter()
            .filter_map(|line| Some((name_of(&line.0), Open::of(line)?)))
            .collect();
        if lines.len() < all {
            return Err(Halted::kept("some of its lines have no hold in the ledger"));
        }
        let mut closed = Closed::default();
        let standing = self
            .ask_until_ended(batch, &speaker, pace, all as u64, watch)
            .await?;
        let Standing {
            state,
            why,
            files,
            ends,
            ..
        } = standing;
        let mut ending = Ending {
            batch,
            logged: self.logged(&lines).await,
            lines: &mut lines,
            closed: &mut closed,
            bytes: 0,
            together: Vec::new(),
        };
        for end in ends {
            self.take_end(&mut ending, end).await?;
        }
        for file in files {
            self.fetch(&mut ending, &speaker, file).await?;
        }
        self.end_together(&mut ending).await?;
        self.end_silent(&mut ending, state, why.as_deref()).await?;
        batch.stage = BatchStage::Ended;
        batch.ended_at = Some(Timestamp::now());
        batch.why = why;
        self.mark(batch).await?;
        Ok(closed)
    }

    pub(super) async fn ask_until_ended(
        &self,
        batch: &KeptBatch,
        speaker: &Speaker<'_>,
        pace: Pace,
        lines: u64,
        watch: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Standing, Halted> {
        let job = batch.job.clone().unwrap_or_default();
        let mut pause = pace.first;
        let mut deaf = 0;
        loop {
            let question = speaker.batches.ask(&job).ok_or_else(|| {
                Halted::kept(format!("`{job}` is no batch of {}", batch.provider))
            })?;
            let why = match speaker.say(question).await {
                Heard::Answer(answer) => match speaker.batches.standing(&answer) {
                    Some(standing) => {
                        deaf = 0;
                        watch(Progress {
                            id: batch.id,
                            model: batch.model.clone(),
                            stage: BatchStage::Running,
                            lines,
                            through: standing.done,
                            settled: LineCounts::default(),
                        });
                        if standing.state.ended() {
                            return Ok(standing);
                        }
                        None
                    }
                    None => Some("its answer tells of no batch".to_owned()),
                },
                Heard::Declined(status, _) if status.as_u16() == 404 && is_old(batch) => {
                    return Ok(forgotten(job));
                }
                Heard::Declined(status, words) => {
                    let why = format!(
                        "{} does not tell of the batch: {status}: {words}",
                        batch.provider
                    );
                    return Err(Halted::kept(why));
                }
                Heard::Nothing(why) => Some(why),
            };
            if let Some(why) = why {
                deaf += 1;
                if deaf == DEAF {
                    return Err(Halted::kept(format!(
                        "{} cannot be asked: {why}",
                        batch.provider
                    )));
                }
                tracing::info!(why, "a question about a batch brought nothing");
            }
            speaker.pause(pause).await;
            pause = (pause * 3 / 2).min(pace.most.max(pace.first));
        }
    }

    /// Fetches a file of answers; what breaks off is fetched again, and lines that have their end
    /// are left alone.
    async fn fetch(
        &self,
        ending: &mut Ending<'_>,
        speaker: &Speaker<'_>,
        file: Message,
    ) -> Result<(), Halted> {
        let idle = self.upstream.patience().idle;
        let mut last = String::new();
        for tries in 0..TRIES {
            speaker.pause(Duration::from_secs(2) * tries).await;
            let mut lines = match speaker.lines(file.clone()).await {
                Ok(lines) => lines,
                Err(why) => {
                    last = why;
                    continue;
                }
            };
            loop {
                match lines.next(idle).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(line)) => {
                        if let Some(end) = speaker.batches.read_line(&line) {
                            self.take_end(ending, end).await?;
                        } else if !line.trim_ascii().is_empty() {
                            tracing::warn!("a line of a batch's answers cannot be read");
                        }
                    }
                    Err(why) => {
                        last = why;
                        break;
                    }
                }
            }
        }
        self.end_together(ending).await?;
        Err(Halted::kept(format!(
            "the answers of {} could not be fetched: {last}",
            ending.batch.provider
        )))
    }

    /// One line of a file of answers.
    ///
    /// # Errors
    /// Why the file could not be fetched.
    pub(super) async fn find_line(
        &self,
        speaker: &Speaker<'_>,
        file: Message,
        name: &str,
    ) -> Result<Option<LineEnd>, String> {
        let idle = self.upstream.patience().idle;
        let mut last = String::new();
        for tries in 0..TRIES {
            speaker.pause(Duration::from_secs(2) * tries).await;
            match speaker.lines(file.clone()).await {
                Err(why) => last = why,
                Ok(mut lines) => loop {
                    match lines.next(idle).await {
                        Ok(None) => return Ok(None),
                        Ok(Some(line)) => {
                            let end = speaker.batches.read_line(&line);
                            if let Some(end) = end.filter(|end| end.name == name) {
                                return Ok(Some(end));
                            }
                        }
                        Err(why) => {
                            last = why;
                            break;
                        }
                    }
                },
            }
        }
        Err(last)
    }

    async fn take_end(&self, ending: &mut Ending<'_>, end: LineEnd) -> Result<(), Halted> {
        let Some(open) = ending.lines.get(&end.name) else {
            return Ok(()); // it has its end already, or was never ours
        };
        let bytes = end.end.as_ref().map_or(0, |reply| reply.body.len());
        let logged = ending.logged.get(&end.name).copied();
        let (name, line) = (end.name.clone(), open.kept.line);
        let outcome = self
            .end_line(ending.batch, open, end, ending.closed, logged)
            .await
            .map_err(Halted::kept)?;
        ending.lines.remove(&name);
        ending.together.push((line, outcome));
        ending.bytes += bytes;
        if ending.together.len() >= TOGETHER || ending.bytes >= BYTES_TOGETHER {
            self.end_together(ending).await?;
        }
        Ok(())
    }

    /// Says in the ledger that lines are over, once everything of them is written.
    async fn end_together(&self, ending: &mut Ending<'_>) -> Result<(), Halted> {
        if ending.together.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.log.flush().await {
            tracing::error!(%error, "the decision log does not take the lines of a batch");
        }
        let ended = self
            .ledger
            .end_lines(ending.batch.id, &ending.together)
            .await;
        ended.map_err(|error| Halted::kept(error.to_string()))?;
        ending.together.clear();
        ending.bytes = 0;
        Ok(())
    }

    /// Ends the lines of which nothing was told.
    async fn end_silent(
        &self,
        ending: &mut Ending<'_>,
        state: BatchState,
        why: Option<&str>,
    ) -> Result<(), Halted> {
        let names: Vec<String> = ending.lines.keys().cloned().collect();
        for name in names {
            let end = Err(Box::new(silent(state, why)));
            self.take_end(ending, LineEnd { name, end }).await?;
        }
        self.end_together(ending).await
    }

    /// Lines whose decisions stand in the log already.
    async fn logged(&self, lines: &Lines) -> HashMap<String, Logged> {
        let names: HashSet<String> = lines.keys().cloned().collect();
        // What this process has just written of a job that was left is still on its way there.
        if let Err(error) = self.log.flush().await {
            tracing::warn!(%error, "a line of a batch may be told of twice");
        }
        let path = self.log.path().to_owned();
        let look = move || logged(&path, &names);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// Lines on their way out.
struct Ending<'a> {
    batch: &'a KeptBatch,
    lines: &'a mut Lines,
    closed: &'a mut Closed,
    logged: HashMap<String, Logged>,
    /// Ended, and not yet said in the ledger.
    together: Vec<(u32, LineOutcome)>,
    bytes: usize,
}

/// Why a line has no answer of which its batch says nothing.
pub(super) fn silent(state: BatchState, why: Option<&str>) -> Failure {
    let free = |kind, message: String| Failure {
        sent: Sent::Refused,
        status: None,
        ..Failure::answered(kind, 0, Billed::No, message)
    };
    match state {
        BatchState::Stopped => free(
            FailureKind::Timeout,
            "the batch ended before the line's turn".to_owned(),
        ),
        BatchState::Refused => {
            let why = why.unwrap_or("it does not say why");
            free(
                FailureKind::Invalid,
                format!("the batch was not run: {why}"),
            )
        }
        _ => Failure::lost(
            FailureKind::NoImage,
            "the batch ended without a word of this line",
        ),
    }
}

/// A batch that its provider does not know any more: nobody can tell what its lines cost.
fn forgotten(job: String) -> Standing {
    Standing {
        job,
        state: BatchState::Done,
        done: 0,
        failed: 0,
        why: Some("its provider does not know it any more".to_owned()),
        files: Vec::new(),
        ends: Vec::new(),
    }
}

/// Those of `ids` that a call line of the log or of its older files has.
fn logged(path: &std::path::Path, ids: &HashSet<String>) -> HashMap<String, Logged> {
    use std::io::BufRead as _;
    let mut found = HashMap::new();
    let older = crate::record::rotated(path).unwrap_or_default();
    for path in older.iter().map(std::path::PathBuf::as_path).chain([path]) {
        let Ok(file) = std::fs::File::open(path) else {
            continue;
        };
        for line in std::io::BufReader::new(file).lines().map_while(Result::ok) {
            let id = line
                .split_once("\"id\":\"")
                .and_then(|(_, rest)| rest.get(..26));
            if let Some(id) =
                id.filter(|id| ids.contains(*id) && line.contains("\"type\":\"call\""))
            {
                let logged = match line.contains("\"attempts\":[]") {
                    true => Logged::WithoutAttempts,
                    false => Logged::Whole,
                };
                found.insert(id.to_owned(), logged);
            }
        }
    }
    found
}
