//! `pixtoll tail`: the decision log for people, one line a call.

mod filter;
mod follow;
mod line;

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

pub use filter::{Condition, NoCondition};
pub use line::{Style, line};

use crate::record::schema;
use follow::{Follower, read_old};

/// How often the log is looked at while it is followed.
const LOOK: Duration = Duration::from_millis(200);
/// How many lines are shown when nothing says which.
const USUAL: usize = 20;
/// How wide a line is where nobody knows the terminal's width.
const USUAL_WIDTH: usize = 120;

/// Shows the decision log.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Signs: ● from memory   → changed on the way   ↻ sent more than once   ✓ sent as asked   ✗ no picture\n\nExamples:\n  pixtoll tail -f\n  pixtoll tail --since 1h --where app=catalog --where 'cost>0.05'\n  pixtoll tail --where attempts.failure.kind=safety --why\n  pixtoll tail --json --since 1d | jq .saved"
)]
pub struct TailArgs {
    /// Keep going: show lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Show the lines as they stand in the log
    #[arg(long)]
    pub json: bool,
    /// Only lines that meet this: a field by its path, one of = != ~ (contains) > < >= <=, a value
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub conditions: Vec<Condition>,
    /// Only lines since then: 10m, 2d, or a time like 2026-11-22T18:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Show at most so many of the lines that there are [default: 20; all with --since or --where]
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub lines: Option<usize>,
    /// Show beneath each call what the rules did, what failed and what to do
    #[arg(long)]
    pub why: bool,
    /// Print the log's JSON Schema
    #[arg(long)]
    pub schema: bool,
    /// The log to read, `-` for standard input [default: the configuration's `log`]
    pub file: Option<PathBuf>,
}

/// Runs the command. `log_path` is the log of the configuration.
pub async fn run(args: TailArgs, log_path: PathBuf) -> ExitCode {
    let since = match args
        .since
        .as_deref()
        .map(|text| filter::since(text, Timestamp::now()))
    {
        Some(Ok(since)) => Some(since),
        Some(Err(error)) => {
            say(&format!("--since: {error}"));
            return ExitCode::from(2);
        }
        None => None,
    };
    for condition in &args.conditions {
        if !schema::knows(condition.path()) {
            say(&format!(
                "--where: no line of this version has a field `{}`; `pixtoll tail --schema` lists them",
                condition.path()
            ));
        }
    }
    let mut shown = Shown {
        out: io::BufWriter::new(io::stdout()),
        style: (!args.json).then(|| terminal_style(args.why)),
        sieve: Sieve {
            conditions: args.conditions.clone(),
            since,
            broken: 0,
        },
    };
    let done = if args.schema {
        shown.out.write_all(schema::SCHEMA.as_bytes())
    } else {
        read(&args, &log_path, &mut shown).await
    };
    if shown.sieve.broken > 0 {
        say(&format!("{} broken lines were skipped", shown.sieve.broken));
    }
    match done.and_then(|()| shown.out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // `pixtoll tail | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Tells something on the side; the lines themselves are on standard output.
fn say(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "pixtoll tail: {text}");
}

async fn read<W: Write>(args: &TailArgs, log_path: &Path, shown: &mut Shown<W>) -> io::Result<()> {
    let path = args.file.as_deref().unwrap_or(log_path);
    let all = args.since.is_some() || !args.conditions.is_empty();
    let most = args.lines.or((!all).then_some(USUAL));
    if path == Path::new("-") {
        return stdin(most, shown);
    }
    let (older, mut follower) = Follower::start(path).map_err(|error| at(path, &error))?;
    if !follower.exists() && older.is_empty() {
        if !args.follow {
            return Err(io::Error::other(format!(
                "there is no decision log at {} yet: `pixtoll serve` or `pixtoll run` writes one",
                path.display()
            )));
        }
        say(&format!("waiting for {}", path.display()));
    }
    match most {
        Some(most) => shown.last(&older, &mut follower, most)?,
        None => shown.everything(&older, &mut follower)?,
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        shown.news(&mut follower)?;
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn stdin<W: Write>(most: Option<usize>, shown: &mut Shown<W>) -> io::Result<()> {
    let mut last = Last::new(most);
    for line in io::stdin().lock().split(b'\n') {
        last.push(&mut shown.sieve, &line?);
    }
    last.lines
        .iter()
        .try_for_each(|(text, line)| shown.print(text, line))
}

/// Colour, width and zone of this terminal.
pub fn terminal_style(why: bool) -> Style {
    let terminal = io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    Style {
        color: terminal && !no_color && !dumb,
        width: width(),
        zone: TimeZone::system(),
        why,
    }
}

/// Columns of the terminal, else what `COLUMNS` says, else 120.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok();
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .or_else(|| asked?.parse().ok())
        .filter(|columns| *columns > 0)
        .unwrap_or(USUAL_WIDTH)
}

/// Hands over every line of the log at `path`, oldest first, without those of files that ended
/// before `since`. A log that is not there has none.
pub(super) fn every_line(
    path: &Path,
    since: Timestamp,
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let (older, mut now) = Follower::start(path).map_err(|error| at(path, &error))?;
    for file in older.iter().filter(|file| !ended_before(file, since)) {
        read_old(file, each).map_err(|error| at(file, &error))?;
    }
    now.poll(each).map_err(|error| at(path, &error))
}

/// The moment that `--since` means: so long ago, or a time.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    filter::since(text, Timestamp::now()).map_err(|error| error.to_string())
}

/// The moment of a line; `None` when it tells none.
pub(super) fn moment_of(line: &Value) -> Option<Timestamp> {
    filter::moment(line)
}

/// Lets through the lines that were asked for.
struct Sieve {
    conditions: Vec<Condition>,
    since: Option<Timestamp>,
    /// Lines that could not be read.
    broken: u64,
}

impl Sieve {
    fn pass(&mut self, text: &[u8]) -> Option<(String, Value)> {
        if text.trim_ascii().is_empty() {
            return None;
        }
        let parsed = std::str::from_utf8(text)
            .ok()
            .and_then(|text| Some((text, serde_json::from_str::<Value>(text).ok()?)));
        let Some((text, line)) = parsed.filter(|(_, line)| line["type"].is_string()) else {
            self.broken += 1;
            return None;
        };
        let young = self
            .since
            .is_none_or(|since| filter::moment(&line).is_some_and(|at| at >= since));
        let wanted = young
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(&line));
        wanted.then(|| (text.to_owned(), line))
    }
}

/// The last so many lines that passed; all without a bound.
struct Last {
    lines: VecDeque<(String, Value)>,
    most: usize,
}

impl Last {
    fn new(most: Option<usize>) -> Last {
        Last {
            lines: VecDeque::new(),
            most: most.unwrap_or(usize::MAX),
        }
    }

    fn push(&mut self, sieve: &mut Sieve, text: &[u8]) {
        if let Some(line) = sieve.pass(text) {
            self.lines.push_back(line);
            if self.lines.len() > self.most {
                self.lines.pop_front();
            }
        }
    }
}

/// Where the lines go, and which and how.
struct Shown<W> {
    out: W,
    /// `None`: as they stand in the log.
    style: Option<Style>,
    sieve: Sieve,
}

impl<W: Write> Shown<W> {
    fn print(&mut self, text: &str, value: &Value) -> io::Result<()> {
        let Some(style) = &self.style else {
            return writeln!(self.out, "{text}");
        };
        match value["type"].as_str() {
            Some("call" | "amend" | "notice") => writeln!(self.out, "{}", line(value, style)),
            // A type of a later release: readers skip what they do not know.
            _ => Ok(()),
        }
    }

    /// The last `most` lines: newest file first, until there are enough.
    fn last(&mut self, older: &[PathBuf], now: &mut Follower, most: usize) -> io::Result<()> {
        let mut found = Last::new(Some(most));
        now.poll(&mut |text| found.push(&mut self.sieve, text))?;
        let mut parts = vec![found.lines];
        let mut missing = most - parts[0].len();
        for file in older.iter().rev() {
            if missing == 0 {
                break;
            }
            let mut found = Last::new(Some(missing));
            read_old(file, &mut |text| found.push(&mut self.sieve, text))?;
            missing -= found.lines.len();
            parts.push(found.lines);
        }
        for (text, line) in parts.iter().rev().flatten() {
            self.print(text, line)?;
        }
        self.out.flush()
    }

    fn everything(&mut self, older: &[PathBuf], now: &mut Follower) -> io::Result<()> {
        for file in older {
            // Its last line is older than what is asked for.
            if self
                .sieve
                .since
                .is_some_and(|since| ended_before(file, since))
            {
                continue;
            }
            self.through(|each| read_old(file, each))?;
        }
        self.news(now)
    }

    fn news(&mut self, now: &mut Follower) -> io::Result<()> {
        self.through(|each| now.poll(each))?;
        self.out.flush()
    }

    /// Shows what passes of the lines that `read` hands over.
    fn through(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(&[u8])) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut shown = Ok(());
        read(&mut |text| {
            if shown.is_ok()
                && let Some((text, line)) = self.sieve.pass(text)
            {
                shown = self.print(&text, &line);
            }
        })?;
        shown
    }
}

fn ended_before(file: &Path, since: Timestamp) -> bool {
    std::fs::metadata(file)
        .and_then(|facts| facts.modified())
        .is_ok_and(|ended| Timestamp::try_from(ended).is_ok_and(|ended| ended < since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        tail: TailArgs,
    }

    fn args(words: &[&str]) -> TailArgs {
        let words = ["pixtoll-tail"].iter().chain(words);
        Cli::try_parse_from(words).unwrap().tail
    }

    fn entry(i: u32, at: &str) -> String {
        format!("{{\"type\":\"notice\",\"at\":\"{at}\",\"kind\":\"alert\",\"text\":\"n{i}\"}}\n")
    }

    /// Two old files and the one that is written, two lines each.
    fn a_log() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let at = |hour: u32| format!("2026-11-22T{hour:02}:00:00.000Z");
        for (place, name) in [
            "decisions-2026-11-22.1.jsonl",
            "decisions-2026-11-22.2.jsonl",
            "decisions.jsonl",
        ]
        .iter()
        .enumerate()
        {
            let first = u32::try_from(place).unwrap() * 2;
            let text = entry(first, &at(first)) + &entry(first + 1, &at(first + 1));
            fs::write(dir.path().join(name), text).unwrap();
        }
        (dir, path)
    }

    async fn show(words: &[&str], path: &Path) -> (Vec<String>, u64) {
        let args = args(words);
        let mut shown = Shown {
            out: Vec::new(),
            style: None,
            sieve: Sieve {
                conditions: args.conditions.clone(),
                since: args
                    .since
                    .as_deref()
                    .map(|text| filter::since(text, Timestamp::now()).unwrap()),
                broken: 0,
            },
        };
        read(&args, path, &mut shown).await.unwrap();
        let lines = String::from_utf8(shown.out).unwrap();
        let texts = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].to_string())
            .map(|text| text.trim_matches('"').to_owned())
            .collect();
        (texts, shown.sieve.broken)
    }

    #[tokio::test]
    async fn lines_come_in_order_from_every_file() {
        let (_dir, path) = a_log();
        let (texts, _) = show(&[], &path).await;
        assert_eq!(texts, ["n0", "n1", "n2", "n3", "n4", "n5"]);
        let (texts, _) = show(&["-n", "3"], &path).await;
        assert_eq!(texts, ["n3", "n4", "n5"]);
        let (texts, _) = show(&["-n", "0"], &path).await;
        assert!(texts.is_empty());
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_shown() {
        let (_dir, path) = a_log();
        let (texts, _) = show(&["--since", "2026-11-22T03:00:00Z"], &path).await;
        assert_eq!(texts, ["n3", "n4", "n5"]);
        let (texts, _) = show(&["--where", "text=n1"], &path).await;
        assert_eq!(texts, ["n1"]);
        let (texts, _) = show(&["--where", "text>n1", "-n", "1"], &path).await;
        assert_eq!(texts, ["n5"]);
    }

    #[tokio::test]
    async fn broken_lines_are_skipped_and_counted() {
        let (_dir, path) = a_log();
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"v\":1,\"ty\n\n\xff\xfe\n[1]\n");
        text.extend_from_slice(entry(6, "2026-11-22T06:00:00.000Z").as_bytes());
        fs::write(&path, text).unwrap();
        let (texts, broken) = show(&["-n", "2"], &path).await;
        assert_eq!(texts, ["n5", "n6"]);
        assert_eq!(broken, 3);
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_says_who_writes_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut shown = Shown {
            out: Vec::new(),
            style: None,
            sieve: Sieve {
                conditions: Vec::new(),
                since: None,
                broken: 0,
            },
        };
        let error = read(&args(&[]), &dir.path().join("none.jsonl"), &mut shown)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("`pixtoll serve`"), "{error}");
    }

    #[test]
    fn arguments_read_as_they_are_written() {
        let all = args(&[
            "-f",
            "--where",
            "app=catalog",
            "--where",
            "cost>1",
            "-n",
            "5",
            "a.jsonl",
        ]);
        assert!(all.follow && !all.json && !all.schema);
        assert_eq!(all.conditions.len(), 2);
        assert_eq!(all.file, Some(PathBuf::from("a.jsonl")));
        assert!(Cli::try_parse_from(["x", "--where", "app"]).is_err());
    }
}
