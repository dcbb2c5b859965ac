//! Batches that are followed: a line of progress on a terminal, and how they ended.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use ulid::Ulid;

use super::ResumeArgs;
use crate::app::workbench::Workbench;
use crate::cli::envelope::{envelope, print};
use crate::cli::{DONE, FAILED, Global, NO, complain, load};
use crate::config::Problem;
use crate::ledger::{BatchStage, Following, KeptBatch};
use crate::money::Usd;
use crate::pipeline::Pipeline;
use crate::pipeline::batch::{Closed, Halted, Pace, Progress};

const COMMAND: &str = "batch resume";

/// What became of batches.
#[derive(Debug, Default)]
pub(super) struct Told {
    closed: Closed,
    ended: u64,
    halted: Vec<Halted>,
    detached: Vec<Ulid>,
    elsewhere: Vec<Ulid>,
}

#[derive(Serialize)]
struct Facts<'a> {
    batches: u64,
    done: u64,
    failed: u64,
    charged: Usd,
    unpriced: u64,
    one_by_one: Usd,
    why: &'a [(String, u64)],
    running: Vec<String>,
}

impl Told {
    pub(super) fn halted(&mut self, halted: Halted) {
        self.halted.push(halted);
    }

    pub(super) fn detached(&mut self, ids: impl Iterator<Item = Ulid>) {
        self.detached.extend(ids);
    }

    /// Says what became of them, and returns the exit code.
    pub(super) fn code(&self, global: &Global, command: &str, detach: bool) -> u8 {
        let code = match (self.halted.is_empty(), self.closed.failed) {
            (false, _) => FAILED,
            (true, 0) => DONE,
            (true, _) => NO,
        };
        let problems: Vec<Problem> = self
            .halted
            .iter()
            .map(|halted| Problem::anywhere("batch", &halted.message).remedy(&halted.remedy))
            .collect();
        if global.json {
            let facts = Facts {
                batches: self.ended,
                done: self.closed.done,
                failed: self.closed.failed,
                charged: self.closed.charged,
                unpriced: self.closed.unpriced,
                one_by_one: self.closed.asked,
                why: &self.closed.why,
                running: self.detached.iter().map(Ulid::to_string).collect(),
            };
            print(&format!(
                "{}\n",
                envelope(command, code == DONE, facts, &problems)
            ));
            return code;
        }
        print(&self.text(detach));
        for problem in &problems {
            eprintln!("error: {problem}");
        }
        code
    }

    fn text(&self, detach: bool) -> String {
        let closed = &self.closed;
        let mut text = String::new();
        if self.ended > 0 {
            text = format!(
                "{} done · {} failed · charged {} (one by one {})\n",
                closed.done,
                closed.failed,
                closed.charged.pretty(),
                closed.asked.pretty()
            );
        }
        if closed.unpriced > 0 {
            text.push_str(&format!(
                "  of {} lines nobody knows the charge\n",
                closed.unpriced
            ));
        }
        for (why, count) in &closed.why {
            text.push_str(&format!("  {count} × {why}\n"));
        }
        if closed.done > 0 {
            text.push_str("calls that equal a line are answered from memory from now on\n");
        }
        for id in &self.elsewhere {
            text.push_str(&format!("{id} is followed by another process\n"));
        }
        if detach && !self.detached.is_empty() {
            text.push_str("`pixtoll batch resume` fetches the answers, `pixtoll batch status` says how far they are\n");
        }
        text
    }
}

/// Follows batches to their ends, one after the other: they run side by side at their providers.
pub(super) async fn all(
    pipeline: &Pipeline,
    batches: Vec<(KeptBatch, Following)>,
    pace: Pace,
    told: &mut Told,
) {
    for (mut batch, following) in batches {
        let mut bar = Bar::default();
        let followed = pipeline
            .follow_batch(&mut batch, pace, &mut |progress| bar.show(&progress))
            .await;
        bar.clear();
        match followed {
            Ok(closed) => {
                told.closed.add(closed);
                told.ended += 1;
            }
            Err(halted) => told.halted(halted),
        }
        drop(following);
    }
    pipeline.tidy_shelf().await;
}

/// One line that is written over, on a terminal alone.
#[derive(Default)]
struct Bar {
    shown: bool,
}

impl Bar {
    fn show(&mut self, progress: &Progress) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.shown = true;
        eprint!(
            "\r\x1b[2K{} {}: {} of {} lines through",
            progress.id, progress.model, progress.through, progress.lines
        );
        let _ = io::stderr().flush();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[2K");
            let _ = io::stderr().flush();
        }
    }
}

pub(super) async fn resume(args: &ResumeArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let bench = match Workbench::open(&settings, global.sim).await {
        Ok(bench) => bench,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let told = take_up(&bench.pipeline, args).await;
    let code = told.code(global, COMMAND, false);
    if !global.json && told.ended == 0 && told.halted.is_empty() && told.elsewhere.is_empty() {
        print("no batch is open\n");
    }
    bench.close().await;
    code
}

async fn take_up(pipeline: &Pipeline, args: &ResumeArgs) -> Told {
    let mut told = Told::default();
    let kept = match pipeline.ledger.kept_batches().await {
        Ok(kept) => kept,
        Err(error) => {
            told.halted(Halted {
                message: error.to_string(),
                remedy: "see that the ledger can be read".to_owned(),
                kept: true,
            });
            return told;
        }
    };
    let meant = |batch: &KeptBatch| {
        let id = batch.id.to_string();
        args.id
            .as_ref()
            .is_none_or(|begin| id.starts_with(&begin.to_ascii_uppercase()))
    };
    let mut begun = Vec::new();
    for (mut batch, _) in kept.into_iter().rev() {
        if batch.stage == BatchStage::Ended || !meant(&batch) {
            continue;
        }
        match pipeline.ledger.follow_batch(batch.id) {
            Ok(None) => told.elsewhere.push(batch.id),
            Ok(Some(following)) => match pipeline.hand_in(&mut batch).await {
                Ok(()) => begun.push((batch, following)),
                Err(halted) => told.halted(halted),
            },
            Err(error) => told.halted(Halted {
                message: error.to_string(),
                remedy: "see that the ledger's folder can be written".to_owned(),
                kept: true,
            }),
        }
    }
    all(pipeline, begun, args.pace.pace(), &mut told).await;
    told
}
