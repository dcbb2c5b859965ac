//! `pixtoll batch status`: every batch as the ledger has it.

use serde::Serialize;

use super::StatusArgs;
use crate::app::workbench::Workbench;
use crate::cli::envelope::{failed, told};
use crate::cli::paint::Ink;
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, FAILED, Global, complain, load};
use crate::config::Problem;
use crate::ledger::{BatchStage, KeptBatch, LedgerError, LineCounts};
use crate::money::Usd;
use crate::pipeline::Pipeline;

const COMMAND: &str = "batch status";

#[derive(Serialize)]
struct Stands {
    id: String,
    at: String,
    model: String,
    app: String,
    /// `kept`, `ordering`, `running` or `ended`.
    stage: &'static str,
    /// The provider's name for it.
    job: Option<String>,
    lines: u64,
    done: u64,
    failed: u64,
    /// USD that is set aside for lines without an end; null where nobody knows the price.
    held: Option<Usd>,
    /// Whether a process follows it.
    followed: bool,
    why: Option<String>,
}

pub(super) async fn run(args: &StatusArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let bench = match Workbench::open(&settings, false).await {
        Ok(bench) => bench,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let code = match stands(&bench.pipeline, args.id.as_deref()).await {
        Ok(all) => told(COMMAND, global, DONE, &all, &text(&all)),
        Err(error) => {
            let problem = Problem::anywhere("ledger", error.to_string());
            failed(COMMAND, global, FAILED, &[problem])
        }
    };
    bench.close().await;
    code
}

async fn stands(pipeline: &Pipeline, begin: Option<&str>) -> Result<Vec<Stands>, LedgerError> {
    let mut all = Vec::new();
    for (batch, counts) in pipeline.ledger.kept_batches().await? {
        let id = batch.id.to_string();
        if begin.is_none_or(|begin| id.starts_with(&begin.to_ascii_uppercase())) {
            all.push(stand(pipeline, batch, counts).await?);
        }
    }
    Ok(all)
}

async fn stand(
    pipeline: &Pipeline,
    batch: KeptBatch,
    counts: LineCounts,
) -> Result<Stands, LedgerError> {
    let open = match batch.stage {
        BatchStage::Ended => Vec::new(),
        _ => pipeline.ledger.open_lines(batch.id).await?,
    };
    let held = open
        .iter()
        .filter_map(|(_, row)| row.as_ref())
        .try_fold(Usd::ZERO, |sum, row| Some(sum + row.hold.held?));
    let followed = pipeline.ledger.follow_batch(batch.id)?.is_none();
    Ok(Stands {
        id: batch.id.to_string(),
        at: format!("{:.0}", batch.at),
        model: batch.model.to_string(),
        app: batch.app,
        stage: batch.stage.as_str(),
        job: batch.job,
        lines: counts.lines,
        done: counts.done,
        failed: counts.failed,
        held,
        followed,
        why: batch.why,
    })
}

fn text(all: &[Stands]) -> String {
    if all.is_empty() {
        return "no batches\n".to_owned();
    }
    let screen = Screen::stdout();
    let mut table = Table::new(&[
        ("BATCH", Side::Left),
        ("SINCE", Side::Left),
        ("MODEL", Side::Left),
        ("STAGE", Side::Left),
        ("DONE", Side::Right),
        ("FAILED", Side::Right),
        ("OF", Side::Right),
        ("HELD", Side::Right),
        ("", Side::Left),
    ]);
    let mut left = false;
    for one in all {
        let open = one.stage != BatchStage::Ended.as_str();
        let note = match (open, one.followed) {
            (false, _) => one.why.clone().unwrap_or_default(),
            (true, true) => "followed".to_owned(),
            (true, false) => "nobody follows it".to_owned(),
        };
        left |= open && !one.followed;
        table.row([
            plain(&*one.id),
            plain(&*one.at),
            plain(&*one.model),
            plain(one.stage),
            plain(one.done.to_string()),
            plain(one.failed.to_string()),
            plain(one.lines.to_string()),
            plain(one.held.map_or("unpriced".to_owned(), Usd::pretty)),
            (note, Ink::Dim),
        ]);
    }
    let mut text = table.render(screen);
    if left {
        text.push_str(&screen.line(
            "`pixtoll batch resume` goes on with what nobody follows",
            Ink::Dim,
        ));
    }
    text
}
