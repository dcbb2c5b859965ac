//! `pixtoll price`: what a request costs, and what else could serve it.

mod facts;
mod like;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::envelope::{failed, told};
use super::paint::Ink;
use super::quoted::short;
use super::table::{Screen, Side, Table, plain};
use super::{DONE, FAILED, Global, WRONG, complain, load};
use crate::app;
use crate::bill::Quote;
use crate::config::Problem;
use crate::image::capability::Unmet;
use crate::image::{ImageRequest, ModelId, Operation, Tier};
use crate::price::rank::{Offer, Ranking};
use crate::price::store::{self, Keeping};
use crate::price::{Book, ModelRow, spec};

#[derive(Debug, Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct PriceArgs {
    /// The request in words, `@FILE` for those in a file, `@-` for standard input
    #[arg(value_name = "SPEC")]
    spec: Vec<String>,
    /// Quote the request in this file, as an app sends it: a body, or a whole HTTP message
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,
    /// Where the app sends it: a URL or a path
    #[arg(long, value_name = "URL", requires = "like")]
    url: Option<String>,
    /// The wire format it is in
    #[arg(long, value_name = "NAME", requires = "like")]
    dialect: Option<String>,
    /// Prices as they were, or will be, on this day
    #[arg(long, value_name = "YYYY-MM-DD")]
    on: Option<String>,
    /// What it costs to keep the pictures in this store of the price book, too
    #[arg(long, value_name = "STORE")]
    keep: Option<String>,
    /// For so many days
    #[arg(long, value_name = "N", default_value_t = 30, requires = "keep")]
    days: u64,
    /// And to fetch each so often
    #[arg(long, value_name = "N", default_value_t = 1, requires = "keep")]
    fetches: u64,
    /// At so many bytes a picture [default: what is usual for its size and format]
    #[arg(long, value_name = "N", requires = "keep")]
    bytes: Option<u64>,
    /// Name the models that could not serve it, too, and why
    #[arg(long)]
    all: bool,
}

const AFTER: &str = "\
The words: a model (with or without its provider), a size (1024x1536), a shape (16:9), a resolution
(2K), a quality (low, medium, standard, high, hd, xhigh, max), a tier (fast, standard, flex, batch),
a format (png, webp …), a \"prompt\" in quotes, and KEY=VALUE for anything: n=4, steps=50, inputs=2,
mask=yes, seed=7, stream=yes, partial_images=2, operation=edit, style=vivid … With --like the words
change what stands in the file.

Example:
  pixtoll price \"dall-e-3 1024x1024 hd n=4\"
  pixtoll price gpt-image-2 1536x1024 high inputs=2 batch
  pixtoll price gpt-image-2 n=100 --keep s3/us-east-1 --days 90 --fetches 20
  pixtoll price --like request.json
  pixtoll price --like request.json \"n=8 low\" --json";

const COMMAND: &str = "price";

pub(super) async fn run(args: &PriceArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let book = match app::book(&settings) {
        Ok(book) => book,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let today = match day(args.on.as_deref()) {
        Ok(today) => today,
        Err(problem) => return failed(COMMAND, global, WRONG, &[problem]),
    };
    let (standings, untold) = app::accounts::looked_up(&settings).await;
    let book = book.for_whom(&standings, &today);
    let (request, beside) = match request(args, &settings, &book) {
        Ok(read) => read,
        Err((code, problem)) => return failed(COMMAND, global, code, &[problem]),
    };
    let mut priced = Priced::of(&book, &request, &today);
    let offers = priced.ranking.offers.iter().map(|offer| &offer.row.id);
    let unspoken = offers.filter(|id| !app::speaks_to(&settings, id));
    priced.unspoken = unspoken.collect();
    priced.beside = beside;
    priced.untold = untold;
    priced.keeping = match keeping(args, &book, &request) {
        Ok(keeping) => keeping,
        Err(problem) => return failed(COMMAND, global, WRONG, &[problem]),
    };
    let text = priced.text(args.all, Screen::stdout());
    told(COMMAND, global, DONE, priced.facts(), &text)
}

/// The day that was asked about, or today (UTC).
pub(super) fn day(asked: Option<&str>) -> Result<String, Problem> {
    let Some(asked) = asked else {
        return Ok(jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
    };
    asked
        .parse::<jiff::civil::Date>()
        .map(|day| day.to_string())
        .map_err(|_| {
            Problem::anywhere("usage", format!("`{asked}` is no day"))
                .remedy("write it like 2026-11-22")
        })
}

type Failed = (u8, Problem);

fn request(
    args: &PriceArgs,
    settings: &crate::config::Settings,
    book: &Book,
) -> Result<(ImageRequest, Option<String>), Failed> {
    let words = words(&args.spec)?;
    let (base, beside) = match &args.like {
        None => (None, None),
        Some(path) => {
            let told = like::Told {
                url: args.url.as_deref(),
                dialect: args.dialect.as_deref(),
                model: spec::read(book, &words, None).ok().map(|read| read.model),
            };
            let bytes = read(path)?;
            let read = like::read(&bytes, &told, settings, book);
            let (request, beside) = read.map_err(|problem| {
                let file = Some(path.display().to_string());
                (WRONG, Problem { file, ..problem })
            })?;
            (Some(request), beside)
        }
    };
    let request = spec::read(book, &words, base).map_err(|why| {
        let problem = Problem::anywhere("bad_spec", why.message).remedy(why.remedy);
        (WRONG, problem)
    })?;
    Ok((request, beside))
}

/// What it costs to keep what is quoted, where that was asked.
fn keeping(
    args: &PriceArgs,
    book: &Book,
    request: &ImageRequest,
) -> Result<Option<Keeping>, Problem> {
    let Some(name) = &args.keep else {
        return Ok(None);
    };
    let store = book.stores().iter().find(|store| store.store == *name);
    let store = store.ok_or_else(|| {
        let known: Vec<&str> = book.stores().iter().map(|s| s.store.as_str()).collect();
        let message = format!("the price book knows no store `{name}`");
        let remedy = format!(
            "use one of {}, or write its prices under `stores` in a price file of yours",
            known.join(", ")
        );
        Problem::anywhere("unknown_store", message).remedy(remedy)
    })?;
    let usual = || store::usual_bytes(book.expected_pixels(request), request.format);
    let bytes = args.bytes.unwrap_or_else(usual);
    let pictures = request.n.max(1).into();
    Ok(Some(store.keeping(
        pictures,
        bytes,
        args.days,
        args.fetches,
    )))
}

/// The words of the command line, with those of files in their place.
fn words(spec: &[String]) -> Result<String, Failed> {
    let mut words = Vec::new();
    for word in spec {
        match word.strip_prefix('@') {
            None => words.push(word.clone()),
            Some(path) => {
                let text = String::from_utf8_lossy(&read(Path::new(path))?).into_owned();
                words.push(text);
            }
        }
    }
    Ok(words.join(" "))
}

/// A file's bytes; `-` is standard input.
fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes).map(drop),
        _ => std::fs::read(path).map(|read| bytes = read),
    };
    match read {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let problem = Problem {
                file: Some(path.display().to_string()),
                ..Problem::anywhere("missing_file", format!("cannot be read: {error}"))
            };
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                WRONG
            } else {
                FAILED
            };
            Err((code, problem.remedy("name a file that can be read")))
        }
    }
}

/// A request, what it costs, and what others make of it.
struct Priced<'a> {
    request: &'a ImageRequest,
    /// The name that the book has for its model.
    model: ModelId,
    quote: Option<Quote>,
    /// The request at its own model; `None` where the book does not know that.
    own: Option<Result<Offer<'a>, String>>,
    row: Option<&'a ModelRow>,
    retired: bool,
    ranking: Ranking<'a>,
    /// Fields of its dialect's own that the price depends on.
    fields: Vec<(&'a String, &'a Value)>,
    /// The other model that is paid for with it, and that has no price here.
    beside: Option<String>,
    /// Those of the others that no call can be sent to.
    unspoken: BTreeSet<&'a ModelId>,
    /// What could not be looked up of how much was bought.
    untold: Vec<String>,
    keeping: Option<Keeping>,
}

impl<'a> Priced<'a> {
    fn of(book: &'a Book, request: &'a ImageRequest, today: &str) -> Priced<'a> {
        let row = book.model(&request.model);
        let id = row.map_or(&request.model, |row| &row.id);
        Priced {
            request,
            model: id.clone(),
            quote: book.quote_calls(request),
            own: row.map(|row| row.offer(request, today).map_err(|misfit| misfit.why)),
            row,
            retired: row.is_some_and(|row| row.capability.retired(today)),
            ranking: book.rank(request, today),
            fields: row.map_or_else(Vec::new, |row| priced_fields(row, request)),
            unspoken: BTreeSet::new(),
            beside: None,
            untold: Vec::new(),
            keeping: None,
        }
    }

    fn text(&self, all: bool, screen: Screen) -> String {
        let mut out = screen.line(&self.headline(), Ink::Bold);
        self.quote_text(screen, &mut out);
        if let Some(keeping) = &self.keeping {
            out.push_str(&screen.line(&kept(keeping), Ink::Plain));
        }
        for remark in self.remarks().iter().chain(&self.untold) {
            out.push_str(&screen.line(&format!("  ! {remark}"), Ink::Yellow));
        }
        if let Some(row) = self.row {
            let text = format!("  prices of {}: {}", row.as_of, row.source);
            out.push_str(&screen.line(&text, Ink::Dim));
            if let Some(note) = &row.note {
                out.push_str(&screen.line(&format!("  {note}"), Ink::Dim));
            }
        }
        out.push('\n');
        self.others_text(screen, &mut out);
        self.refusals_text(all, screen, &mut out);
        out
    }

    /// The request in words.
    fn headline(&self) -> String {
        let request = self.request;
        let mut words = vec![self.model.to_string(), request.size.to_string()];
        words.extend(request.quality.map(|quality| quality.to_string()));
        if request.operation != Operation::Generate {
            words.push(request.operation.to_string());
        }
        if request.tier != Tier::Standard {
            words.push(request.tier.to_string());
        }
        words.extend(request.format.map(|format| format.to_string()));
        words.extend(request.steps.map(|steps| format!("{steps} steps")));
        if !request.inputs.is_empty() {
            words.push(format!("{} inputs", request.inputs.len()));
        }
        words.extend(self.fields.iter().map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}={text}"),
            None => format!("{key}={value}"),
        }));
        words.push(format!("×{}", request.n));
        words.join("  ")
    }

    fn quote_text(&self, screen: Screen, out: &mut String) {
        let Some(quote) = &self.quote else {
            let text = "  unpriced: nobody publishes what this costs";
            out.push_str(&screen.line(text, Ink::Yellow));
            return;
        };
        let mut text = format!("  {}", quote.expected.pretty());
        if quote.low != quote.high {
            let (low, high) = (quote.low.pretty(), quote.high.pretty());
            let _ = write!(text, "  ({low} to {high})");
        }
        out.push_str(&screen.line(&text, Ink::Bold));
        let columns = [("", Side::Left), ("", Side::Right), ("", Side::Right)];
        let mut table = Table::new(&columns).indented(4);
        for line in &quote.lines {
            table.row([
                plain(line.what.to_string()),
                plain(line.count.to_string()),
                plain(line.amount.pretty()),
            ]);
        }
        out.push_str(&table.render(screen));
    }

    /// What is odd about asking this of its own model.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        match (&self.own, self.row) {
            (Some(Err(why)), _) => remarks.push(format!("this model cannot do it: {why}")),
            (Some(Ok(offer)), _) => {
                let differences = differences(offer);
                if !differences.is_empty() {
                    remarks.push(format!("this model: {differences}"));
                }
            }
            (None, _) => remarks.push(format!(
                "the price book does not know {}: `pixtoll prices list` shows what it knows",
                self.model
            )),
        }
        if let Some(row) = self.row {
            let able = &row.capability;
            let gone = able.retired_on.as_deref().unwrap_or_default();
            let instead = match &able.successor {
                Some(successor) => format!("; {successor} follows it"),
                None => String::new(),
            };
            if self.retired {
                remarks.push(format!("retired since {gone}{instead}"));
            } else if !gone.is_empty() {
                remarks.push(format!("retired from {gone} on{instead}"));
            }
            remarks.extend(volume(row));
        }
        if let Some(beside) = &self.beside {
            remarks.push(format!(
                "{beside} is paid for beside it, and its share has no price here: this is not all"
            ));
        }
        remarks
    }

    fn others_text(&self, screen: Screen, out: &mut String) {
        if self.ranking.offers.is_empty() {
            out.push_str("No other model could serve it\n");
            return;
        }
        out.push_str("What else could serve it, cheapest first\n");
        let mut table = Table::new(&[
            ("MODEL", Side::Left),
            ("COST", Side::Right),
            ("AT MOST", Side::Right),
            ("", Side::Left),
        ]);
        for offer in &self.ranking.offers {
            let quote = offer.quote.as_ref();
            let cheaper = quote.zip(self.quote.as_ref());
            let cheaper = cheaper.is_some_and(|(other, own)| other.expected < own.expected);
            let unspoken = self.unspoken.contains(&offer.row.id);
            let ink = match (offer.retired || unspoken, cheaper) {
                (true, _) => Ink::Dim,
                (false, true) => Ink::Green,
                _ => Ink::Plain,
            };
            table.row([
                (offer.row.id.to_string(), ink),
                (
                    quote.map_or("unpriced".to_owned(), |q| short(q.expected)),
                    ink,
                ),
                (quote.map_or(String::new(), |q| short(q.high)), ink),
                (notes(offer, unspoken), Ink::Dim),
            ]);
        }
        out.push_str(&table.render(screen));
    }

    fn refusals_text(&self, all: bool, screen: Screen, out: &mut String) {
        let refusals = &self.ranking.refusals;
        if refusals.is_empty() {
            return;
        }
        if !all {
            let text = format!("\n{} models could not; --all says why", refusals.len());
            out.push_str(&screen.line(&text, Ink::Dim));
            return;
        }
        out.push_str("\nWhat could not\n");
        let mut table = Table::new(&[("", Side::Left), ("", Side::Left)]);
        for refusal in refusals {
            let id = refusal.row.id.to_string();
            table.row([plain(id), (refusal.misfit.why.clone(), Ink::Dim)]);
        }
        out.push_str(&table.render(screen));
    }
}

fn kept(keeping: &Keeping) -> String {
    let Keeping {
        store,
        bytes,
        days,
        fetches,
        kept,
        fetched,
        total,
        ..
    } = keeping;
    format!(
        "  and {} to keep: {store}, {days} days {}, fetched {fetches} times {}, at {bytes} bytes a picture",
        total.pretty(),
        kept.pretty(),
        fetched.pretty()
    )
}

/// What a price by volume was reckoned with.
fn volume(row: &ModelRow) -> Option<String> {
    let provider = row.id.provider();
    match row.bought_before().filter(|_| row.counts_volume()) {
        Some(before) => Some(format!(
            "{before} pictures were bought from {provider} this month, and the price is that of the next"
        )),
        None if row.counts_volume() => Some(format!(
            "the price depends on how much was bought this month, which nobody counts: a range, until `providers.{provider}.volume: ledger` says so"
        )),
        None => None,
    }
}

/// Fields of a dialect's own that the app itself said: those that begin with `@` are the dialect's
/// notes of where it read the rest.
fn own_fields(request: &ImageRequest) -> impl Iterator<Item = (&String, &Value)> {
    request
        .extra
        .iter()
        .filter(|(key, _)| !key.starts_with('@'))
}

/// Those of them without which the request would cost something else. The others may be anything,
/// a webhook's secret among them, and are nobody's business here.
fn priced_fields<'a>(row: &ModelRow, request: &'a ImageRequest) -> Vec<(&'a String, &'a Value)> {
    let quote = row.quote(request);
    let matters = |key: &String| {
        let mut without = request.clone();
        without.extra.remove(key);
        row.quote(&without) != quote
    };
    own_fields(request)
        .filter(|(key, _)| matters(key))
        .collect()
}

/// What is said beside an offer.
fn notes(offer: &Offer, unspoken: bool) -> String {
    let mut notes = Vec::new();
    if unspoken {
        notes.push("priced only: this version cannot speak to it".to_owned());
    }
    if offer.retired {
        let day = offer.row.capability.retired_on.as_deref().unwrap_or("now");
        notes.push(format!("retired {day}"));
    }
    let differences = differences(offer);
    if !differences.is_empty() {
        notes.push(differences);
    }
    notes.join("; ")
}

/// `loses seed, style; size 1000x1000 becomes 1024x1024`.
fn differences(offer: &Offer) -> String {
    let mut parts = Vec::new();
    if !offer.lost.is_empty() {
        parts.push(format!("loses {}", offer.lost.join(", ")));
    }
    for Unmet { wish, got } in &offer.unmet {
        let got = got.split_once(' ').map_or(got.as_str(), |(_, value)| value);
        parts.push(format!("{wish} becomes {got}"));
    }
    parts.join("; ")
}
