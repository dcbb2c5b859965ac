//! One client, asked once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::bench::{Bench, host};
use super::clients::{Client, Runtime};
use super::{Finding, Verdict};
use crate::cli::environment::Variables;

/// So long a client may take; Go compiles first.
const PATIENCE: Duration = Duration::from_secs(60);
/// What probes exit with where their client is not installed.
const ABSENT: i32 = 42;
/// After a client has gone, so long until we have heard that it did not like our certificate.
const ECHO: Duration = Duration::from_millis(400);
const TRIED: &str = "start the app with `pixtoll run --shim -- …` (tried: it comes through then)";
/// Where a client looks for another address first.
const REPLICATE: &str = "REPLICATE_BASE_URL";

/// A client of an interpreter, to be asked.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) command: OsString,
    pub(super) runtime: &'static Runtime,
    pub(super) client: &'static Client,
    /// Numbers of the hosts for asking without shims and with them.
    pub(super) numbers: [usize; 2],
}

impl Question {
    /// Asks, and where the client goes past the proxy asks again with the shims; `None` where the
    /// client is not installed.
    pub(super) async fn ask(&self, bench: &Bench, dir: &Path, shim: bool) -> Option<Finding> {
        let [first, second] = self.numbers;
        let (verdict, version) = self.once(bench, dir, first, shim).await?;
        let cured = verdict == Verdict::Bypassed && self.runtime.shim && !shim && {
            let again = self.once(bench, dir, second, true).await;
            again.is_some_and(|(verdict, _)| verdict == Verdict::Ok)
        };
        let cure = match &verdict {
            Verdict::Ok | Verdict::Failed(_) => None,
            Verdict::Refused => Some(self.client.refusal.to_owned()),
            Verdict::Bypassed if cured => Some(TRIED.to_owned()),
            Verdict::Bypassed => Some(self.client.bypass.to_owned()),
        };
        Some(Finding {
            command: self.command.to_string_lossy().into_owned(),
            client: self.client.name.to_owned(),
            version,
            verdict,
            cure,
        })
    }

    async fn once(
        &self,
        bench: &Bench,
        dir: &Path,
        number: usize,
        shim: bool,
    ) -> Option<(Verdict, String)> {
        let mut variables = bench.variables(shim);
        let host = host(number);
        if set_by_user(&variables) {
            variables.insert(REPLICATE.to_owned(), format!("https://{host}"));
        }
        let url = format!("https://{host}/v1/models/{host}");
        let ended = match self.run(dir, &url, &variables).await {
            Ok(ended) => ended,
            Err(why) => return Some((Verdict::Failed(why), String::new())),
        };
        if ended.status.code() == Some(ABSENT) {
            return None;
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        let asking = said.lines().find_map(|line| line.strip_prefix("asking"));
        let version = asking.unwrap_or_default().trim().to_owned();
        let verdict = match judged(bench, &host).await {
            Some(verdict) => verdict,
            None if self.client.tells && asking.is_none() => Verdict::Failed(last_words(&ended)),
            None => Verdict::Bypassed,
        };
        Some((verdict, version))
    }

    async fn run(&self, dir: &Path, url: &str, variables: &Variables) -> Result<Output, String> {
        let program = self.client.program.map(|(name, _)| dir.join(name));
        let program = program.unwrap_or_default();
        let arguments = self.client.arguments.iter().map(|word| match *word {
            "{program}" => program.as_os_str(),
            "{url}" => OsStr::new(url),
            word => OsStr::new(word),
        });
        let child = Command::new(&self.command)
            .args(arguments)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(PATIENCE, child).await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(error)) => Err(format!("could not be started: {error}")),
            Err(_) => Err(format!("did not end within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Writes what the clients run into `dir`.
///
/// # Errors
/// Those of the disk.
pub(super) fn write_programs(questions: &[Question], dir: &Path) -> io::Result<()> {
    let programs = questions
        .iter()
        .filter_map(|question| question.client.program);
    let programs: BTreeMap<&str, &str> = programs.collect();
    programs
        .into_iter()
        .try_for_each(|(name, text)| std::fs::write(dir.join(name), text))
}

/// Whether the user has a base URL of Replicate's, which the environment leaves alone.
fn set_by_user(planned: &Variables) -> bool {
    let users = std::env::var(REPLICATE).ok();
    users.is_some() && planned.get(REPLICATE) == users.as_ref()
}

/// What is known of the question that went to `host`; `None`: nothing came of it.
async fn judged(bench: &Bench, host: &str) -> Option<Verdict> {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(20);
    loop {
        if bench.came().iter().any(|seen| seen.target.contains(host)) {
            return Some(Verdict::Ok);
        }
        if bench.refused().await.iter().any(|refused| refused == host) {
            return Some(Verdict::Refused);
        }
        if waited >= ECHO {
            return None;
        }
        tokio::time::sleep(step).await;
        waited += step;
    }
}

/// The last line that a program said before it ended.
fn last_words(ended: &Output) -> String {
    let said = String::from_utf8_lossy(&ended.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it ended without a word").trim();
    line.chars().take(160).collect()
}
