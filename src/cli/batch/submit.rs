//! `pixtoll batch submit`: every line read and priced, then all of it sent or nothing.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use serde::Serialize;

use super::SubmitArgs;
use super::file::{self, Line};
use super::follow::{self, Told};
use crate::app::workbench::Workbench;
use crate::cache::Key;
use crate::cli::envelope::{failed, print, told};
use crate::cli::paint::Ink;
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, FAILED, Global, WRONG, complain, load};
use crate::config::Problem;
use crate::dialect::picture;
use crate::image::{ModelId, Picture};
use crate::money::Usd;
use crate::pipeline::batch::Draft;
use crate::pipeline::{Caller, CallerFrom, Pipeline};

const COMMAND: &str = "batch submit";

/// What a file comes to before anything is sent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Quoted {
    lines: usize,
    /// Lines that equal another: they get its picture.
    repeats: usize,
    /// Lines whose answer is at hand.
    known: usize,
    buys: usize,
    /// USD one by one, in a batch, and in a batch at the most: so much is held.
    one_by_one: Usd,
    quote: Usd,
    quote_high: Usd,
    models: Vec<OfModel>,
}

#[derive(Debug, Serialize)]
struct OfModel {
    model: ModelId,
    lines: usize,
    one_by_one: Usd,
    quote: Usd,
}

pub(super) async fn run(args: SubmitArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let text = match contents(&args.file) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem::anywhere("file", format!("{}: {error}", args.file))
                .remedy("name a readable file of JSON Lines, or `-` for stdin");
            return failed(COMMAND, global, WRONG, &[problem]);
        }
    };
    let bench = match Workbench::open(&settings, global.sim).await {
        Ok(bench) => bench,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let code = submit(&bench.pipeline, &args, &text, global).await;
    bench.close().await;
    code
}

fn contents(file: &str) -> io::Result<String> {
    if file == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

async fn submit(pipeline: &Pipeline, args: &SubmitArgs, text: &str, global: &Global) -> u8 {
    let (lines, mut problems) = file::read(pipeline, &args.file, text, args.model.as_deref());
    let all = lines.len() + problems.len();
    let drafts = drafted(pipeline, args, lines, &mut problems).await;
    problems.sort_by_key(|problem| problem.line);
    if all == 0 {
        let problem = Problem::anywhere("file", format!("{}: has no lines", args.file));
        problems.push(problem.remedy("write a prompt a line, in quotes"));
    }
    if !problems.is_empty() {
        let code = failed(COMMAND, global, WRONG, &problems);
        if !global.json {
            eprintln!(
                "{} of {all} lines cannot be sent; nothing was sent",
                problems.len()
            );
        }
        return code;
    }
    let mut wanted: Vec<(String, Key)> = drafts
        .iter()
        .map(|draft| (draft.name().to_owned(), draft.key().clone()))
        .collect();
    let (quoted, buys) = sorted_out(drafts);
    if args.dry_run {
        return told(COMMAND, global, DONE, &quoted, &quoted.text(&args.file));
    }
    if buys.is_empty() {
        let code = told(COMMAND, global, DONE, &quoted, &quoted.text(&args.file));
        return written(pipeline, args, &wanted, code).await;
    }
    if !global.json {
        print(&quoted.text(&args.file));
    }
    if let Err(problem) = allowed(args, &quoted, global) {
        return failed(COMMAND, global, WRONG, &[problem]);
    }
    let told = send(pipeline, args, buys, &mut wanted).await;
    let code = told.code(global, COMMAND, args.detach);
    written(pipeline, args, &wanted, code).await
}

/// Every line as it would be sent.
async fn drafted(
    pipeline: &Pipeline,
    args: &SubmitArgs,
    lines: Vec<Line>,
    problems: &mut Vec<Problem>,
) -> Vec<Draft> {
    let caller = Caller {
        app: Some(args.app.as_str().into()),
        from: CallerFrom::Run,
        tags: args.tags.iter().map(|tag| tag.as_str().into()).collect(),
    };
    let mut drafts = Vec::with_capacity(lines.len());
    for line in lines {
        match pipeline.draft(line.wish, &caller).await {
            Ok(draft) => drafts.push(draft),
            Err(why) => {
                let problem = file::problem(&args.file, line.number, why.message, why.remedy);
                problems.push(problem);
            }
        }
    }
    drafts
}

/// What is to be bought: equal lines once, and none whose answer is at hand.
fn sorted_out(drafts: Vec<Draft>) -> (Quoted, Vec<Draft>) {
    let mut quoted = Quoted {
        lines: drafts.len(),
        ..Quoted::default()
    };
    let mut seen: HashMap<Key, ()> = HashMap::new();
    let mut buys = Vec::new();
    for draft in drafts {
        if seen.insert(draft.key().clone(), ()).is_some() {
            quoted.repeats += 1;
        } else if draft.known() {
            quoted.known += 1;
        } else {
            quoted.add(&draft);
            buys.push(draft);
        }
    }
    (quoted, buys)
}

impl Quoted {
    fn add(&mut self, draft: &Draft) {
        let asked = draft
            .asked_quote()
            .map_or(Usd::ZERO, |quote| quote.expected);
        let (quote, high) = draft
            .quote()
            .map_or((Usd::ZERO, Usd::ZERO), |quote| (quote.expected, quote.high));
        self.buys += 1;
        self.one_by_one += asked;
        self.quote += quote;
        self.quote_high += high;
        let of = self.models.iter_mut().find(|of| of.model == *draft.model());
        match of {
            Some(of) => {
                of.lines += 1;
                of.one_by_one += asked;
                of.quote += quote;
            }
            None => self.models.push(OfModel {
                model: draft.model().clone(),
                lines: 1,
                one_by_one: asked,
                quote,
            }),
        }
    }

    fn text(&self, file: &str) -> String {
        let screen = Screen::stdout();
        let mut head = format!("{file}: {} lines", self.lines);
        if self.repeats > 0 {
            head.push_str(&format!(" · {} equal another", self.repeats));
        }
        if self.known > 0 {
            head.push_str(&format!(" · {} answered already", self.known));
        }
        head.push_str(&format!(" · {} to buy", self.buys));
        let mut text = screen.line(&head, Ink::Bold);
        if self.buys == 0 {
            return text;
        }
        let mut table = Table::new(&[
            ("MODEL", Side::Left),
            ("LINES", Side::Right),
            ("ONE BY ONE", Side::Right),
            ("IN A BATCH", Side::Right),
        ])
        .indented(2);
        for of in &self.models {
            table.row([
                plain(of.model.as_str()),
                plain(of.lines.to_string()),
                plain(of.one_by_one.pretty()),
                plain(of.quote.pretty()),
            ]);
        }
        if self.models.len() > 1 {
            table.row([
                plain("together"),
                plain(self.buys.to_string()),
                plain(self.one_by_one.pretty()),
                plain(self.quote.pretty()),
            ]);
        }
        text.push_str(&table.render(screen));
        let high = self.quote_high.pretty();
        text.push_str(&screen.line(
            &format!("  at most {high}, which is held until the lines are settled"),
            Ink::Dim,
        ));
        text
    }
}

/// Whether it may be sent: by what was said, or by asking.
fn allowed(args: &SubmitArgs, quoted: &Quoted, global: &Global) -> Result<(), Problem> {
    if let Some(most) = args.max_cost {
        if quoted.quote_high <= most {
            return Ok(());
        }
        let message = format!(
            "it may cost {}, and --max-cost is {}; nothing was sent",
            quoted.quote_high.pretty(),
            most.pretty()
        );
        return Err(
            Problem::anywhere("max_cost", message).remedy("allow more, or send fewer lines")
        );
    }
    if args.yes {
        return Ok(());
    }
    let may_ask =
        !global.json && args.file != "-" && io::stdin().is_terminal() && io::stderr().is_terminal();
    if may_ask {
        eprint!(
            "Buy {} for about {}? [y/N] ",
            quoted.buys,
            quoted.quote.pretty()
        );
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        return Err(Problem::anywhere("declined", "nothing was sent"));
    }
    Err(Problem::anywhere(
        "unconfirmed",
        "nothing was sent: nobody said that it may cost money",
    )
    .remedy("say --yes, or --max-cost USD; --dry-run says what it would cost"))
}

/// Hands every batch in before the first is followed: they run side by side.
async fn send(
    pipeline: &Pipeline,
    args: &SubmitArgs,
    buys: Vec<Draft>,
    wanted: &mut [(String, Key)],
) -> Told {
    let mut told = Told::default();
    let mut begun = Vec::new();
    for group in pipeline.sort_into_batches(buys) {
        match pipeline.keep_batch(group, args.keep).await {
            Err(halted) => told.halted(halted),
            Ok(mut begun_now) => match pipeline.hand_in(&mut begun_now.batch).await {
                Err(halted) => told.halted(halted),
                Ok(()) => {
                    let (batch, reworded) = (begun_now.batch, begun_now.reworded);
                    if !reworded.is_empty() {
                        let count = reworded.len();
                        eprintln!(
                            "{count} lines did not fit a budget, and rules made them cheaper"
                        );
                    }
                    for (_, key) in wanted.iter_mut() {
                        if let Some((_, now)) = reworded.iter().find(|(before, _)| before == key) {
                            *key = now.clone();
                        }
                    }
                    eprintln!(
                        "{} of {} is with {} as {}",
                        batch.id,
                        batch.model,
                        batch.provider,
                        batch.job.as_deref().unwrap_or("a batch")
                    );
                    begun.push((batch, begun_now.following));
                }
            },
        }
    }
    if args.detach {
        told.detached(begun.iter().map(|(batch, _)| batch.id));
        return told;
    }
    follow::all(pipeline, begun, args.pace.pace(), &mut told).await;
    told
}

/// Writes the pictures into the folder that was asked for.
async fn written(pipeline: &Pipeline, args: &SubmitArgs, wanted: &[(String, Key)], code: u8) -> u8 {
    let Some(out) = &args.out else {
        return code;
    };
    let mut written = 0;
    for (name, key) in wanted {
        match write(pipeline, out, name, key).await {
            Ok(count) => written += count,
            Err(error) => {
                eprintln!("error: {}: {error}", out.display());
                return FAILED;
            }
        }
    }
    eprintln!("{written} pictures in {}", out.display());
    code
}

async fn write(pipeline: &Pipeline, out: &Path, name: &str, key: &Key) -> io::Result<usize> {
    pipeline.fetch_from_shelf(key).await;
    let Some(entry) = pipeline.store.get(key) else {
        return Ok(0);
    };
    std::fs::create_dir_all(out)?;
    let images = &entry.response.images;
    for (at, image) in images.iter().enumerate() {
        let file = match &image.picture {
            Picture::Raw(rope) => rope.to_bytes(),
            Picture::Base64(rope) => match picture::decode(rope) {
                Some(rope) => rope.to_bytes(),
                None => continue,
            },
            Picture::Url(_) => continue,
        };
        let number = if images.len() > 1 {
            format!("-{}", at + 1)
        } else {
            String::new()
        };
        let ending = image.format.as_str();
        std::fs::write(out.join(format!("{}{number}.{ending}", tame(name))), file)?;
    }
    Ok(images.len())
}

/// A line's name as the name of a file.
fn tame(name: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '_'
        }
    };
    let tame: String = name.chars().take(120).map(plain).collect();
    match tame.trim_start_matches('.') {
        "" => "picture".to_owned(),
        tame => tame.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::tame;

    #[test]
    fn a_name_stays_within_its_folder() {
        assert_eq!(tame("sku 1/../../x"), "sku_1_.._.._x");
        assert_eq!(tame("../x"), "_x");
        assert_eq!(tame(".."), "picture");
        assert_eq!(tame("brücke-2"), "brücke-2");
    }
}
