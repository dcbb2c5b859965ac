//! `pixtoll sim`: the simulated providers alone, for apps and tests in any language.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;

use crate::sim::{Behaviour, Encoding, Sim, SimOptions, WORDS};

/// Serve simulated providers that keep a bill: no key, no network, no cost.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = words())]
pub(crate) struct SimArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Serve retired models (dall-e-3, gpt-image-1 …) too
    #[arg(long)]
    pub retired: bool,
    /// Fill every picture up to about so many bytes
    #[arg(long, value_name = "BYTES")]
    pub pad_to: Option<usize>,
    /// Compress every answer (gzip, br or zstd), whatever the client takes
    #[arg(long, value_name = "ENCODING", value_parser = encoding)]
    pub force_encoding: Option<Encoding>,
    /// What an attempt gets for which nothing else is said, in the words below
    #[arg(long, value_name = "WORDS", default_value = "ok")]
    pub behave: Behaviour,
}

fn encoding(word: &str) -> Result<Encoding, String> {
    Encoding::parse(word).ok_or_else(|| format!("`{word}` is none of gzip, br, zstd"))
}

/// The failures on demand, for `--help`.
fn words() -> String {
    let width = WORDS.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    let list: String = WORDS
        .iter()
        .map(|(word, meaning)| format!("  {word:width$}  {meaning}\n"))
        .collect();
    format!(
        "Failures on demand. Say what shall happen in a header (x-sim: rate_limited retry_after=2), in \
the prompt ([[sim: overloaded]], [[sim openai: server]], [[sim openai/gpt-image-2: quota]]), or in a script \
(POST /_sim/script), in this order of precedence. The words:\n\n{list}\n\
With any of them: billed=yes|no, extra_tokens=N, delay_ms=N, times=N (only the first N attempts).\n\n\
Example:\n  pixtoll sim --listen 127.0.0.1:8490\n  \
OPENAI_API_KEY=any OPENAI_BASE_URL=http://127.0.0.1:8490/openai/v1 python app.py\n  \
curl http://127.0.0.1:8490/_sim/bills"
    )
}

/// Serves until it is interrupted.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn run(args: SimArgs) -> anyhow::Result<()> {
    let options = SimOptions {
        retired_ok: args.retired,
        pad_to: args.pad_to,
        force_encoding: args.force_encoding,
        default: args.behave,
    };
    let sim = Sim::start(args.listen, options).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another address with --listen, or port 0 for a free one",
            args.listen
        )
    })?;
    say(&usage(&sim.url()));
    interrupted().await.context("cannot wait for signals")?;
    let (bills, total) = (sim.bills().len(), sim.billed());
    say(&format!("{bills} charges, {} in all", total.pretty()));
    sim.stop(std::time::Duration::from_secs(2)).await;
    Ok(())
}

fn usage(url: &str) -> String {
    format!(
        "simulated providers on {url}\n  \
OpenAI     OPENAI_BASE_URL={url}/openai/v1 OPENAI_API_KEY=any\n  \
Stability  {url}/stability/v2beta/stable-image/generate/sd3\n  \
Google     {url}/google/v1beta/models/gemini-nano-banana-2.1:generateContent\n  \
bills      {url}/_sim/bills\n  \
all else   {url}/_sim"
    )
}

#[expect(clippy::print_stdout, reason = "a command's answer to its user")]
fn say(text: &str) {
    println!("{text}");
}

async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches as _, Parser};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        sim: SimArgs,
    }

    #[test]
    fn arguments_are_read_and_mistakes_named() {
        let read = Command::try_parse_from([
            "sim",
            "--behave",
            "slow delay_ms=5",
            "--force-encoding",
            "br",
        ]);
        let sim = read.ok().unwrap().sim;
        assert_eq!(sim.behave.delay.as_millis(), 5);
        assert_eq!(sim.force_encoding, Some(Encoding::Brotli));
        assert!(sim.listen.ip().is_loopback());
        let wrong = Command::try_parse_from(["sim", "--behave", "explode"])
            .err()
            .unwrap();
        assert!(wrong.to_string().contains("`explode` is no behaviour"));
    }

    #[test]
    fn the_help_tells_every_word() {
        let command = SimArgs::augment_args(clap::Command::new("sim"));
        assert!(SimArgs::from_arg_matches(&command.clone().get_matches_from(["sim"])).is_ok());
        let help = command.clone().render_long_help().to_string();
        for (word, _) in WORDS {
            assert!(help.contains(word), "{word}");
        }
    }
}
