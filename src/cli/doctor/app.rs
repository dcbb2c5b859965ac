//! A whole command, watched for whether its calls come to the proxy.
//!
//! Its keys are replaced and it is fenced off, so that what passes the proxy by reaches nobody.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::Stdio;

use tokio::process::Command;

use super::bench::Bench;
use super::{Finding, Verdict};
use crate::app::StartError;
use crate::cli::fence;
use crate::config::{Problem, key_variables};

/// Opens nothing, wherever it is sent.
const NO_KEY: &str = "sk-pixtoll-doctor";

pub(super) async fn watch(
    bench: &Bench,
    command: &[OsString],
    shim: bool,
) -> Result<Finding, StartError> {
    let wrong = |error: String, remedy: &str| {
        StartError(vec![Problem::anywhere("doctor", error).remedy(remedy)])
    };
    if let Err(why) = fence::possible() {
        let remedy = "name interpreters instead (`pixtoll doctor python3 node`), or look at the receipt of `pixtoll run --sim -- COMMAND`";
        return Err(wrong(
            format!("a command cannot be kept from real providers here: {why}"),
            remedy,
        ));
    }
    let mut variables = bench.variables(shim);
    for name in key_variables(|name| variables.contains_key(name)) {
        variables.insert(name.to_owned(), NO_KEY.to_owned());
    }
    let ourselves = std::env::current_exe().map_err(|error| wrong(error.to_string(), ""))?;
    // What it says goes where it is in nobody's way.
    let aside = std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| wrong(error.to_string(), ""))?;
    let ended = Command::new(ourselves)
        .args(["fence", "--"])
        .args(command)
        .env_clear()
        .envs(&variables)
        .stdout(Stdio::from(aside))
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| wrong(error.to_string(), ""))?;
    let came = bench.came();
    let refused = bench.refused().await;
    let verdict = match (refused.is_empty(), came.is_empty(), ended.code()) {
        (false, ..) => Verdict::Refused,
        (true, false, _) => Verdict::Ok,
        (true, true, Some(code @ 126..=127)) => {
            Verdict::Failed(format!("it could not be started (exit code {code})"))
        }
        (true, true, _) => Verdict::Bypassed,
    };
    let cure = match &verdict {
        Verdict::Ok | Verdict::Failed(_) => None,
        Verdict::Refused => Some("it trusts a store of its own: add the certificate that `pixtoll ca path` names, or use a base URL".to_owned()),
        Verdict::Bypassed if shim => Some("give it a base URL of `pixtoll serve`, if it makes image calls at all".to_owned()),
        Verdict::Bypassed => Some("nothing came to the proxy: if it makes image calls, try `pixtoll doctor --shim -- …`, else give it a base URL".to_owned()),
    };
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    Ok(Finding {
        command: words.join(" "),
        client: match came.len() {
            0 => String::new(),
            1 => "1 request".to_owned(),
            many => format!("{many} requests"),
        },
        version: String::new(),
        verdict,
        cure,
    })
}
