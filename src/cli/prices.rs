//! `pixtoll prices`: what the price book knows, how old it is, how well it did, and what another
//! would change.

mod age;
mod diff;
mod drift;
mod fetch;
mod lint;
mod list;
mod past;
mod show;
mod update;

use clap::Subcommand;

use super::envelope::failed;
use super::{Global, WRONG, complain, load, price};
use crate::app;
use crate::config::{Problem, Settings};
use crate::price::Book;

#[derive(Debug, Subcommand)]
pub(crate) enum PricesCommand {
    /// Every model with its price, and how old that is
    #[command(
        after_help = "Example:\n  pixtoll prices list\n  pixtoll prices list stability --available"
    )]
    List(list::ListArgs),
    /// All that the book knows of a model
    #[command(after_help = "Example:\n  pixtoll prices show gpt-image-2")]
    Show(show::ShowArgs),
    /// What differs between two price books, and what that does to the calls of the last month
    #[command(
        after_help = "A and B are price files, `shipped` (the book of this release) or `current` (with your own files
laid over it). Two files are compared as they stand; beside a book, or where a file cannot stand
alone, they are laid over the shipped one.

Example:
  pixtoll prices diff shipped current
  pixtoll prices diff old-prices.yaml new-prices.yaml"
    )]
    Diff(diff::DiffArgs),
    /// Fetches a price file, shows what it changes, and lays it over the shipped book
    #[command(
        after_help = "The file is validated whole and written to the state directory as prices.yaml: above the shipped
book, below the files of the configuration. Without a terminal nothing is written unless --yes is
given; changes that were not written end with exit code 3.

Example:
  pixtoll prices update https://example.com/pixtoll-prices.yaml
  pixtoll prices update new-prices.yaml --yes"
    )]
    Update(update::UpdateArgs),
    /// Every mistake in price files, with its place and cure; exit code 3 if there is one
    #[command(after_help = "Example:\n  pixtoll prices lint my-prices.yaml")]
    Lint(lint::LintArgs),
    /// Prices that nobody has looked at for long; exit code 3 if there are some
    #[command(after_help = "Example:\n  pixtoll prices age --days 14")]
    Age(age::AgeArgs),
    /// What attempts were charged beside what they were quoted; exit code 3 if that differs
    #[command(
        after_help = "Example:\n  pixtoll prices drift\n  pixtoll prices drift --since 7d --tolerance 2"
    )]
    Drift(drift::DriftArgs),
}

pub(super) async fn run(command: PricesCommand, global: &Global) -> u8 {
    match &command {
        PricesCommand::List(args) => list::run(args, global),
        PricesCommand::Show(args) => show::run(args, global),
        PricesCommand::Diff(args) => diff::run(args, global),
        PricesCommand::Update(args) => update::run(args, global).await,
        PricesCommand::Lint(args) => lint::run(args, global),
        PricesCommand::Age(args) => age::run(args, global),
        PricesCommand::Drift(args) => drift::run(args, global),
    }
}

/// The book as it is configured and stands today, for whoever the configuration is.
struct Desk {
    settings: Settings,
    book: Book,
    /// `YYYY-MM-DD`, UTC.
    today: String,
}

impl Desk {
    /// # Errors
    /// The exit code, once what is wrong has been said.
    fn open(global: &Global, command: &str) -> Result<Desk, u8> {
        let settings = load(global).map_err(|error| complain(&error, global, command))?;
        let book = app::book(&settings).map_err(|error| complain(&error, global, command))?;
        let standings = app::accounts::uncounted(&settings);
        let today = price::day(None)
            .map_err(|problem| failed(command, global, WRONG, std::slice::from_ref(&problem)))?;
        Ok(Desk {
            book: book.for_whom(&standings, &today),
            settings,
            today,
        })
    }

    /// Another book for the same account on the same day.
    fn as_here(&self, book: &Book) -> Book {
        book.for_whom(self.book.standings(), &self.today)
    }
}

/// A word of usage that cannot be right.
fn misused(message: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem::anywhere("usage", message).remedy(remedy)
}
