//! `pixtoll doctor`: which clients would come through the proxy, which would refuse its
//! certificate, which would pass it by, and what cures them.
//!
//! A proxy cannot log what never came to it, so the clients are asked: each sends one question of
//! our own, in the environment that `run` sets, to a host that only our proxy knows.

mod app;
mod bench;
mod clients;
mod probe;

use std::ffi::OsString;

use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;

use super::envelope::{print, told};
use super::paint::Ink;
use super::scratch::Scratch;
use super::table::Screen;
use super::{DONE, FAILED, Global, NO, complain, load};
use crate::app::StartError;
use crate::config::Problem;
use bench::Bench;
use clients::{RUNTIMES, Runtime};
use probe::Question;

/// So many clients are asked at a time.
const AT_ONCE: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Asks with the shims of `run --shim`
    #[arg(long)]
    shim: bool,
    /// Interpreters to ask instead of those on PATH; or a command with its arguments, which is run with simulated
    /// providers, without its keys, and without a way to port 443 but the proxy
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// How a client does behind the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Refused,
    Bypassed,
    /// It could not be asked, and why.
    Failed(String),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Refused => "refused",
            Verdict::Bypassed => "bypassed",
            Verdict::Failed(_) => "failed",
        }
    }

    const fn code(&self) -> u8 {
        match self {
            Verdict::Ok => DONE,
            Verdict::Refused | Verdict::Bypassed => NO,
            Verdict::Failed(_) => FAILED,
        }
    }
}

/// What was found out about one client.
#[derive(Clone, Debug)]
struct Finding {
    command: String,
    client: String,
    /// As the client tells it, where it does.
    version: String,
    verdict: Verdict,
    cure: Option<String>,
}

pub(super) async fn run(args: DoctorArgs, global: &Global) -> u8 {
    match examine(&args, global).await {
        Ok(findings) => report(&findings, global),
        Err(error) => complain(&error, global, "doctor"),
    }
}

async fn examine(args: &DoctorArgs, global: &Global) -> Result<Vec<Finding>, StartError> {
    let wrong = |error: String| StartError(vec![Problem::anywhere("doctor", error)]);
    let settings = load(global)?;
    let scratch = Scratch::new("doctor").map_err(|error| wrong(error.to_string()))?;
    let interpreters = match args.command.is_empty() {
        true => on_path(),
        false => args
            .command
            .iter()
            .map(|command| Some((command.clone(), Runtime::of(command)?)))
            .collect(),
    };
    let Some(interpreters) = interpreters else {
        let bench = Bench::start(&settings, scratch.path(), 0).await?;
        let finding = app::watch(&bench, &args.command, args.shim).await;
        bench.stop().await;
        return finding.map(|finding| vec![finding]);
    };
    let questions = questions(interpreters);
    if questions.is_empty() {
        return Err(wrong(
            "no interpreter was found on PATH: name one".to_owned(),
        ));
    }
    probe::write_programs(&questions, scratch.path()).map_err(|error| wrong(error.to_string()))?;
    let bench = Bench::start(&settings, scratch.path(), 2 * questions.len()).await?;
    let asked = futures_util::stream::iter(&questions)
        .map(|question| question.ask(&bench, scratch.path(), args.shim))
        .buffered(AT_ONCE);
    let findings: Vec<Option<Finding>> = asked.collect().await;
    bench.stop().await;
    Ok(findings.into_iter().flatten().collect())
}

type Interpreter = (OsString, &'static Runtime);

fn on_path() -> Option<Vec<Interpreter>> {
    let found = RUNTIMES
        .iter()
        .filter_map(|runtime| Some((runtime.on_path()?.into(), runtime)));
    Some(found.collect())
}

fn questions(interpreters: Vec<Interpreter>) -> Vec<Question> {
    let all = interpreters.into_iter().flat_map(|(command, runtime)| {
        runtime
            .clients
            .iter()
            .map(move |client| (command.clone(), runtime, client))
    });
    all.enumerate()
        .map(|(at, (command, runtime, client))| Question {
            command,
            runtime,
            client,
            numbers: [2 * at, 2 * at + 1],
        })
        .collect()
}

/// The same for programs.
#[derive(Serialize)]
struct Row<'a> {
    command: &'a str,
    client: &'a str,
    version: Option<&'a str>,
    verdict: &'static str,
    why: Option<&'a str>,
    cure: Option<&'a str>,
}

fn report(findings: &[Finding], global: &Global) -> u8 {
    let code = findings
        .iter()
        .map(|finding| finding.verdict.code())
        .max()
        .unwrap_or(DONE);
    let rows: Vec<Row<'_>> = findings.iter().map(Row::of).collect();
    if global.json {
        return told(
            "doctor",
            global,
            code,
            serde_json::json!({"clients": rows}),
            "",
        );
    }
    print(&text(findings));
    code
}

impl Row<'_> {
    fn of(finding: &Finding) -> Row<'_> {
        Row {
            command: &finding.command,
            client: &finding.client,
            version: Some(finding.version.as_str()).filter(|version| !version.is_empty()),
            verdict: finding.verdict.word(),
            why: match &finding.verdict {
                Verdict::Failed(why) => Some(why),
                _ => None,
            },
            cure: finding.cure.as_deref(),
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let screen = Screen::stdout();
    let widest = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let (commands, clients) = (
        widest(|finding| finding.command.chars().count()),
        widest(|finding| finding.client.chars().count()),
    );
    let mut text = String::new();
    for finding in findings {
        let (verdict, ink) = match &finding.verdict {
            Verdict::Ok => ("OK".to_owned(), Ink::Green),
            Verdict::Refused => ("certificate refused".to_owned(), Ink::Red),
            Verdict::Bypassed => (
                "BYPASSED: it did not come to the proxy".to_owned(),
                Ink::Red,
            ),
            Verdict::Failed(why) => (format!("could not be asked: {why}"), Ink::Yellow),
        };
        let version = match finding.version.as_str() {
            "" => String::new(),
            version => format!(" ({version})"),
        };
        let (command, client) = (&finding.command, &finding.client);
        let line = format!("{command:commands$}  {client:clients$}  {verdict}{version}");
        text += &screen.line(&line, ink);
        if let Some(cure) = &finding.cure {
            text += &screen.line(&format!("  cure: {cure}"), Ink::Plain);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict) -> Finding {
        Finding {
            command: "python3".to_owned(),
            client: "aiohttp".to_owned(),
            version: "3.14.5".to_owned(),
            verdict,
            cure: None,
        }
    }

    #[test]
    fn the_answer_is_no_where_anybody_passes_by_or_refuses() {
        let of = |verdicts: &[Verdict]| {
            let findings: Vec<Finding> = verdicts.iter().cloned().map(finding).collect();
            findings.iter().map(|finding| finding.verdict.code()).max()
        };
        let failed = || Verdict::Failed("no".to_owned());
        assert_eq!(of(&[Verdict::Ok, Verdict::Ok]), Some(DONE));
        assert_eq!(of(&[Verdict::Ok, failed()]), Some(FAILED));
        assert_eq!(of(&[Verdict::Bypassed, failed()]), Some(NO));
        assert_eq!(of(&[Verdict::Ok, Verdict::Refused]), Some(NO));
        let line = text(&[finding(failed())]);
        assert!(line.contains("could not be asked: no (3.14.5)"), "{line}");
    }
}
