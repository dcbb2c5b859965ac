//! Price files that change while pixtoll runs: looked at whole, then put in force at once.
//!
//! A book that cannot stand, or that can hardly be meant, is not taken: the last good one stays,
//! and the decision log says so. Calls under way keep the book they were quoted by.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::prepared::{price_files, price_problem, unknown_models};
use super::{StartError, accounts};
use crate::config::Settings;
use crate::current::Current;
use crate::listen::Closing;
use crate::pipeline::Pipeline;
use crate::plugin::Plugins;
use crate::price::Book;
use crate::price::diff::{Diff, file_objections};
use crate::price::swap::objections;
use crate::record::{NoticeKind, NoticeLevel};

/// How often the files are looked at. A file counts once it has stood still from one look to the
/// next, so that none is read while it is being written.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// How often the month's pictures are counted anew, where a price depends on them.
const RECOUNT: Duration = Duration::from_secs(60);

/// The day it is, UTC.
pub fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// The file that says which prices were taken by force, next to those that `prices update` wrote.
pub fn forced_mark(updated: &Path) -> PathBuf {
    updated.with_extension("forced")
}

/// What [`forced_mark`] holds for a price file of this text.
pub fn mark_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// What a file looks like from outside; `None` where there is none.
pub(super) type Stamp = Option<(SystemTime, u64)>;

/// When each price file was written, and how long it is: what is compared at every look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Stamp>);

impl Stamps {
    pub(super) fn of(settings: &Settings) -> Stamps {
        let updated = settings.updated_prices();
        let files = std::iter::once(&updated).chain(&settings.prices);
        Stamps(files.map(|path| stamp(path)).collect())
    }
}

/// When a file was written, and how long it is.
pub(super) fn stamp(path: &Path) -> Stamp {
    let facts = fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// Where the book and the rules in force are kept.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) settings: Arc<Current<Settings>>,
    /// Where the proxy listens.
    pub(super) address: SocketAddr,
    /// Where the simulated providers are, where there are any.
    pub(super) sim: Option<SocketAddr>,
    /// For hooks.
    pub(super) book: Arc<Current<Book>>,
    /// For calls.
    pub(super) pipeline: Arc<Current<Pipeline>>,
}

impl InForce {
    fn put(&self, book: Book) {
        let book = Arc::new(book);
        self.book.put(Arc::clone(&book));
        self.pipeline.change(|pipeline| Pipeline {
            book,
            ..pipeline.clone()
        });
    }

    pub(super) fn put_plugins(&self, plugins: Arc<Plugins>) {
        self.pipeline.change(|pipeline| Pipeline {
            plugins,
            ..pipeline.clone()
        });
    }
}

/// Looks after the price files until pixtoll stops.
pub(super) struct Watch {
    in_force: InForce,
    /// The files as they were read last, whether or not they were taken.
    read: Stamps,
    /// The files at the last look.
    seen: Stamps,
    /// The texts of the book in force, by name.
    texts: Vec<(String, String)>,
    day: String,
    /// When the month's pictures were counted last.
    counted: Instant,
}

impl Watch {
    /// `read` are the stamps from before the book in force was read.
    pub(super) fn new(read: Stamps, in_force: InForce) -> Watch {
        Watch {
            texts: price_files(&in_force.settings.get()).unwrap_or_default(),
            in_force,
            seen: read.clone(),
            read,
            day: today(),
            counted: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, mut closing: Closing) {
        loop {
            tokio::select! {
                () = closing.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            self.turn();
            self.recount().await;
            let now = Stamps::of(&self.in_force.settings.get());
            let still = now == self.seen;
            self.seen = now;
            if still && self.seen != self.read {
                self.read = self.seen.clone();
                self.reload().await;
            }
        }
    }

    /// Turns the book to the day it is: prices may begin and end at midnight.
    fn turn(&mut self) {
        let today = today();
        if today != self.day {
            self.in_force.put(self.in_force.book.get().on(&today));
            self.day = today;
        }
    }

    /// Counts what was bought in the month anew: other processes buy too, and months end.
    async fn recount(&mut self) {
        if self.counted.elapsed() >= RECOUNT {
            self.counted = Instant::now();
            let settings = self.in_force.settings.get();
            accounts::count(&settings, &self.in_force.pipeline.get()).await;
        }
    }

    async fn reload(&mut self) {
        let settings = self.in_force.settings.get();
        let old = self.in_force.book.get();
        let (texts, day) = (self.texts.clone(), self.day.clone());
        // A large file takes a while to read, and calls must not wait for it.
        let read = tokio::task::spawn_blocking(move || read(&settings, &old, &texts, &day));
        let (level, text) = match read.await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(fresh))) => {
                self.texts = fresh.texts;
                self.in_force.put(fresh.book);
                (NoticeLevel::Info, fresh.says)
            }
            Ok(Err(why)) => (NoticeLevel::Error, kept(&why)),
            Err(error) => (NoticeLevel::Error, kept(&error.to_string())),
        };
        if level == NoticeLevel::Error {
            tracing::error!("{text}");
        }
        let pipeline = self.in_force.pipeline.get();
        pipeline.notice(NoticeKind::Reload, level, text);
    }
}

fn kept(why: &str) -> String {
    format!("the changed prices are not taken, the last good ones stay in force: {why}")
}

/// A book that may take another's place.
struct Fresh {
    book: Book,
    texts: Vec<(String, String)>,
    says: String,
}

/// Reads the book anew; `None` where it says what the old one does.
///
/// # Errors
/// Everything that is wrong with it, or speaks against it, in words.
fn read(
    settings: &Settings,
    old: &Book,
    texts: &[(String, String)],
    day: &str,
) -> Result<Option<Fresh>, String> {
    let fresh = price_files(settings).map_err(|error| error.to_string())?;
    let files: Vec<(&str, &str)> = fresh
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let book = Book::with(&files)
        .map_err(|found| StartError(found.into_iter().map(price_problem).collect()).to_string())?;
    let book = book.for_whom(old.standings(), day);
    if book.digest() == old.digest() {
        return Ok(None);
    }
    let mut unknown = unknown_models(settings, &book);
    unknown.extend(accounts::unknown(settings, &book));
    if !unknown.is_empty() {
        return Err(StartError(unknown).to_string());
    }
    let mut against = objections(old, &book);
    for (name, text) in &fresh {
        let before = texts.iter().find(|(old, _)| old == name);
        against.extend(before.map_or_else(Vec::new, |(_, before)| file_objections(before, text)));
    }
    if !against.is_empty() && !is_forced(settings, &fresh, texts) {
        let against: Vec<String> = against.iter().map(ToString::to_string).collect();
        return Err(format!(
            "{}; if that is right, start pixtoll anew, or use `pixtoll prices update FILE --force`",
            against.join("; ")
        ));
    }
    let says = says(old, &book);
    Ok(Some(Fresh {
        book,
        texts: fresh,
        says,
    }))
}

/// Whether all that changed is the file of `prices update`, and somebody insisted on that.
fn is_forced(settings: &Settings, fresh: &[(String, String)], texts: &[(String, String)]) -> bool {
    let updated = settings.updated_prices();
    let mark = fs::read_to_string(forced_mark(&updated)).unwrap_or_default();
    let name = updated.display().to_string();
    let changed = fresh.iter().filter(|file| !texts.contains(file));
    let mut changed = changed.peekable();
    changed.peek().is_some()
        && changed.all(|(file, text)| *file == name && mark_of(text) == mark.trim())
}

fn says(old: &Book, new: &Book) -> String {
    let Diff {
        added,
        removed,
        changed,
        providers,
        stores,
    } = Diff::between(old, new);
    let mut says = format!(
        "new prices are in force: book {} in place of {}, {} models added, {} removed, {} changed",
        new.digest(),
        old.digest(),
        added.len(),
        removed.len(),
        changed.len()
    );
    for (what, entries) in [("providers", providers), ("stores", stores)] {
        if !entries.is_empty() {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            says.push_str(&format!("; other {what}: {}", names.join(", ")));
        }
    }
    says
}
