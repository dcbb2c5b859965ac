//! `pixtoll batch`: prompts through half-price batch APIs, and their pictures into the cache.

mod file;
mod follow;
mod status;
mod submit;

use clap::{Args, Subcommand};

use super::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Sends a file of prompts or requests, and follows it to its end
    #[command(after_long_help = FORMS)]
    Submit(SubmitArgs),
    /// Every batch: how far it is, what it holds and what it cost
    #[command(after_help = "Example:\n  pixtoll batch status")]
    Status(StatusArgs),
    /// Goes on with batches whose process ended
    #[command(after_help = "Example:\n  pixtoll batch resume\n  pixtoll batch resume 01KAZ4")]
    Resume(ResumeArgs),
}

const FORMS: &str = "\
FILE has a request a line, in JSON; `-` reads it from stdin. A line is one of

  \"a paper boat\"                                      a prompt, for the model of --model
  {\"id\": \"boat\", \"prompt\": \"a paper boat\", \"model\": \"openai/gpt-image-2\",
   \"size\": \"1024x1024\", \"quality\": \"low\"}            and n, seed, format, background, style, negative_prompt
  {\"custom_id\": \"boat\", \"method\": \"POST\", \"url\": \"/v1/images/generations\",
   \"body\": {\"model\": \"gpt-image-2\", \"prompt\": \"a paper boat\"}}   as OpenAI's own batch files have it

Rules apply to each line as they would to the call. Lines that are equal are bought once, and lines
whose answer is at hand are not bought. OpenAI and the Gemini API have batches; a line of another model
is a mistake, and of a file with a mistake nothing is sent.

The answers are kept in the state directory, for their owner alone. A proxy with the same state
directory, running or started later, answers equal calls from them for as long as --keep says, if they
come with the same API key (see `cache.scope`).

Example:
  pixtoll batch submit prompts.jsonl --model gpt-image-2 --dry-run
  pixtoll batch submit prompts.jsonl --max-cost 5 --out pictures/
  generate-prompts | pixtoll batch submit - --model google/gemini-2.5-flash-image --yes --detach";

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// JSON Lines; see below for the forms of a line
    file: String,
    /// The model of lines that name none
    #[arg(long)]
    model: Option<String>,
    /// The app's name in the decision log
    #[arg(long, default_value = "batch")]
    app: String,
    /// Tags for rules, comma-separated
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// How long the answers are kept for calls that equal a line
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = time)]
    keep: std::time::Duration,
    /// Says what it would cost, and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// Sends without asking
    #[arg(long)]
    yes: bool,
    /// Sends without asking if it costs no more, USD; else sends nothing
    #[arg(long, value_name = "USD")]
    max_cost: Option<crate::money::Usd>,
    /// Also writes the pictures into this folder, named by the lines' ids
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    out: Option<std::path::PathBuf>,
    /// Returns once the provider has it; `pixtoll batch resume` fetches the answers
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only batches whose id begins so
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Only batches whose id begins so
    id: Option<String>,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(Debug, Args)]
struct PaceArgs {
    /// How often the provider is asked [default: after 5s, then ever more rarely up to 1m]
    #[arg(long, value_name = "TIME", value_parser = time)]
    every: Option<std::time::Duration>,
}

impl PaceArgs {
    fn pace(&self) -> crate::pipeline::batch::Pace {
        match self.every {
            Some(every) => crate::pipeline::batch::Pace {
                first: every,
                most: every,
            },
            None => crate::pipeline::batch::Pace::default(),
        }
    }
}

/// `7d`, `90m`, `500ms`.
fn time(text: &str) -> Result<std::time::Duration, String> {
    let span: jiff::Span = text
        .parse()
        .map_err(|_| format!("`{text}` is no time: write it like 10s, 2h or 7d"))?;
    let day = jiff::SpanRelativeTo::days_are_24_hours();
    let exact = span.to_duration(day).map_err(|error| error.to_string())?;
    std::time::Duration::try_from(exact).map_err(|_| format!("`{text}` is less than nothing"))
}

pub(super) async fn run(command: BatchCommand, global: &Global) -> u8 {
    match command {
        BatchCommand::Submit(args) => submit::run(args, global).await,
        BatchCommand::Status(args) => status::run(&args, global).await,
        BatchCommand::Resume(args) => follow::resume(&args, global).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_write_them() {
        let seconds = |text: &str| time(text).map(|time| time.as_secs_f32());
        assert_eq!(seconds("7d"), Ok(604_800.0));
        assert_eq!(seconds("90m"), Ok(5_400.0));
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert!(time("soon").unwrap_err().contains("like 10s"));
        assert!(time("-3s").is_err());
    }
}
