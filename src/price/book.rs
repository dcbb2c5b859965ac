//! The price book: read from YAML, laid over one another, looked up by model.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use super::account::{Standing, Standings};
use super::node::{Fields, Node, Notes, PriceProblem};
use super::provider::{self, ProviderRow, ReadProvider};
use super::row::{self, ModelRow, Read};
use super::shipped;
use super::store::{self, ReadStore, Store};
use super::whole;
use super::yaml;
use crate::image::ModelId;

/// The prices of all models, with the date and source of each.
///
/// Cheap to clone and to turn to another day: everything is shared.
#[derive(Clone, Debug)]
pub struct Book {
    /// Every row of every model, in the order of the files.
    history: Arc<[Vec<Placed>]>,
    /// The rows in force, one a model.
    current: Arc<[Arc<ModelRow>]>,
    /// Place in both of every model and alias.
    index: Arc<foldhash::HashMap<ModelId, usize>>,
    aliases: Arc<HashMap<ModelId, ModelId>>,
    providers: Arc<foldhash::HashMap<String, ProviderRow>>,
    stores: Arc<[Store]>,
    /// Whom the prices are for.
    standings: Arc<Standings>,
    /// Days on which a price begins or ends, in order.
    changes: Arc<[String]>,
    digest: Arc<str>,
}

/// A row and the file it came from, counted from 0.
#[derive(Clone, Debug)]
struct Placed {
    row: Arc<ModelRow>,
    file: usize,
}

impl Book {
    /// The book that comes with the program.
    pub fn embedded() -> &'static Arc<Book> {
        static BOOK: LazyLock<Arc<Book>> = LazyLock::new(|| {
            Arc::new(Book::load(shipped::FILES).expect("a test reads the embedded files"))
        });
        &BOOK
    }

    /// The embedded book with files of the user's own laid over it.
    ///
    /// # Errors
    /// As [`Book::load`].
    pub fn with(files: &[(&str, &str)]) -> Result<Book, Vec<PriceProblem>> {
        Book::load(&[shipped::FILES, files].concat())
    }

    /// Reads files, given as name and text. A later file adds rows and replaces whole those of
    /// the same model (for the days on which its row holds); a row is never lost, and neither are
    /// its aliases.
    ///
    /// # Errors
    /// Every mistake of every file, with its place and what to do about it.
    pub fn load(files: &[(&str, &str)]) -> Result<Book, Vec<PriceProblem>> {
        let mut problems = Vec::new();
        let mut all = Contents::default();
        for (number, (name, text)) in files.iter().enumerate() {
            let mut notes = Notes::new(name);
            all.read_file(number, text, &mut notes);
            problems.append(&mut notes.found);
        }
        let aliases = whole::check(files, &all.models, &mut problems);
        whole::check_once(files, all.provider_names(), &mut problems);
        whole::check_once(files, all.store_names(), &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Book::of(all, aliases, digest(files).into()))
    }

    fn of(all: Contents, aliases: HashMap<ModelId, ModelId>, digest: Arc<str>) -> Book {
        let providers: foldhash::HashMap<String, ProviderRow> = all
            .providers
            .into_iter()
            .map(|(_, read)| (read.row.provider.clone(), read.row))
            .collect();
        let mut stores: Vec<Store> = Vec::new();
        for (_, read) in all.stores {
            stores.retain(|store| store.store != read.row.store);
            stores.push(read.row);
        }
        let mut history: Vec<Vec<Placed>> = Vec::new();
        let mut index: foldhash::HashMap<ModelId, usize> = foldhash::HashMap::default();
        for (file, read) in all.models {
            let mut row = read.row;
            if let Some(provider) = providers.get(row.id.provider()) {
                row.inherit(provider);
            }
            let slot = *index.entry(row.id.clone()).or_insert(history.len());
            if slot == history.len() {
                history.push(Vec::new());
            }
            let row = Arc::new(row);
            history[slot].push(Placed { row, file });
        }
        for (alias, id) in &aliases {
            if let Some(&slot) = index.get(id) {
                index.insert(alias.clone(), slot);
            }
        }
        let rows = || history.iter().flatten().map(|placed| &placed.row);
        let turns = |row: &Arc<ModelRow>| [row.valid_from.clone(), row.valid_to.clone()];
        let changes: BTreeSet<String> = rows().flat_map(turns).flatten().collect();
        let newest = rows().map(|row| row.as_of.clone()).max();
        let book = Book {
            history: history.into(),
            current: Arc::new([]),
            index: Arc::new(index),
            aliases: Arc::new(aliases),
            providers: Arc::new(providers),
            stores: stores.into(),
            standings: Arc::default(),
            changes: changes.into_iter().collect(),
            digest,
        };
        book.on(&newest.unwrap_or_default())
    }

    /// The same book as it stands on `day` (`YYYY-MM-DD`). A model without a price for that day
    /// keeps its last one, or has its first one already. Until it is told a day, a book stands on
    /// the newest it was read on.
    pub fn on(&self, day: &str) -> Book {
        let rows = || self.history.iter().filter_map(|rows| in_force(rows, day));
        let same = rows()
            .map(Arc::as_ptr)
            .eq(self.current.iter().map(Arc::as_ptr));
        let current = if same {
            Arc::clone(&self.current)
        } else {
            rows().cloned().collect()
        };
        Book {
            current,
            ..self.clone()
        }
    }

    /// The same book as it stands on `day` for whoever stands so with the providers: every quote
    /// and charge is theirs.
    pub fn for_whom(&self, standings: &Arc<Standings>, day: &str) -> Book {
        let placed = |placed: &Placed| Placed {
            row: match standings.get(placed.row.id.provider()) {
                Some(standing) => Arc::new(ModelRow {
                    standing: standing.clone(),
                    ..(*placed.row).clone()
                }),
                None => Arc::clone(&placed.row),
            },
            file: placed.file,
        };
        let history = self.history.iter();
        let book = Book {
            history: history
                .map(|rows| rows.iter().map(placed).collect())
                .collect(),
            standings: Arc::clone(standings),
            ..self.clone()
        };
        book.on(day)
    }

    /// Whom the prices are for.
    pub fn standings(&self) -> &Arc<Standings> {
        &self.standings
    }

    /// Counts pictures that were bought on, where their provider's prices depend on it.
    pub fn bought(&self, model: &ModelId, pictures: u64) {
        let standing: Option<&Standing> = self.standings.get(model.provider());
        if let Some(used) = standing.and_then(|standing| standing.used.as_ref()) {
            used.add(pictures);
        }
    }

    /// The regions that any price of a provider knows, in order.
    pub fn regions<'b>(&'b self, provider: &str) -> BTreeSet<&'b str> {
        let of = self.rows_of(provider);
        let named = of.flat_map(|row| &row.price.modifiers.regions);
        named.map(|(name, _)| name.as_str()).collect()
    }

    /// The licences that any price of a provider knows, in order.
    pub fn licences<'b>(&'b self, provider: &str) -> BTreeSet<&'b str> {
        let of = self.rows_of(provider);
        let named = of.flat_map(|row| &row.price.modifiers.licences);
        named.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether any price of a provider depends on how much was bought before.
    pub fn counts_volume(&self, provider: &str) -> bool {
        self.rows_of(provider).any(ModelRow::counts_volume)
    }

    fn rows_of<'b, 'p>(
        &'b self,
        provider: &'p str,
    ) -> impl Iterator<Item = &'b ModelRow> + use<'b, 'p> {
        let rows = self.history.iter().flatten().map(|placed| &*placed.row);
        rows.filter(move |row| row.id.provider() == provider)
    }

    /// The first day after `day` on which the book may stand differently; `None` when it never
    /// will.
    pub fn next_change(&self, day: &str) -> Option<&str> {
        let after = self.changes.iter().find(|change| change.as_str() > day);
        after.map(String::as_str)
    }

    /// The book of the day on which something was bought, where it stood differently then: what was
    /// bought yesterday and comes today costs what it cost yesterday. `None` where this one will do.
    pub fn of_day(&self, bought: &str, today: &str) -> Option<Book> {
        let changed = self.next_change(bought).is_some_and(|day| day <= today);
        changed.then(|| self.on(bought))
    }

    /// The row of a model or of an alias of one. `None` for a model the book does not know.
    pub fn model(&self, id: &ModelId) -> Option<&ModelRow> {
        self.index.get(id).map(|&at| &*self.current[at])
    }

    /// Every model's row in force, in the order of the files.
    pub fn models(&self) -> impl Iterator<Item = &ModelRow> {
        self.current.iter().map(|row| &**row)
    }

    /// Every row there is for a model or an alias of one, whenever it holds, in the order of the
    /// files.
    pub fn history(&self, id: &ModelId) -> impl Iterator<Item = &ModelRow> {
        let rows = self.index.get(id).map(|&at| &self.history[at]);
        rows.into_iter().flatten().map(|placed| &*placed.row)
    }

    /// Every alias with the model it stands for, in no order.
    pub fn aliases(&self) -> impl Iterator<Item = (&ModelId, &ModelId)> {
        self.aliases.iter()
    }

    /// What the book says of a provider as a whole.
    pub fn provider(&self, name: &str) -> Option<&ProviderRow> {
        self.providers.get(name)
    }

    /// Every provider that the book says something of as a whole, in no order.
    pub fn providers(&self) -> impl Iterator<Item = &ProviderRow> {
        self.providers.values()
    }

    /// Where pictures can be kept, and what it costs.
    pub fn stores(&self) -> &[Store] {
        &self.stores
    }

    /// Eight hex digits that change with any byte of the files.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }
}

/// Of the rows of one model the one for `day`: of those that hold that of the last file, else the
/// one that ended last, else the one that begins first.
fn in_force<'b>(rows: &'b [Placed], day: &str) -> Option<&'b Arc<ModelRow>> {
    let holding = rows.iter().filter(|placed| placed.row.holds_on(day));
    let over = |placed: &&Placed| placed.row.valid_to.as_deref().is_some_and(|to| to <= day);
    let found = holding
        .max_by_key(|placed| placed.file)
        .or_else(|| {
            let ended = rows.iter().filter(over);
            ended.max_by_key(|placed| (&placed.row.valid_to, placed.file))
        })
        .or_else(|| rows.iter().min_by_key(|placed| &placed.row.valid_from));
    found.map(|placed| &placed.row)
}

fn digest(files: &[(&str, &str)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (_, text) in files {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex()[..8].to_owned()
}

/// Everything that stands in the files, each thing with the number of its file.
#[derive(Default)]
struct Contents {
    models: Vec<(usize, Read)>,
    providers: Vec<(usize, ReadProvider)>,
    stores: Vec<(usize, ReadStore)>,
}

impl Contents {
    /// Reads one file; mistakes are noted.
    fn read_file(&mut self, file: usize, text: &str, notes: &mut Notes) {
        // `shared` holds parts that rows refer to; it is read where it is used.
        const KNOWN: &[&str] = &[
            "version",
            "currency",
            "shared",
            "providers",
            "models",
            "stores",
        ];
        let Some(node) = yaml::parse(text, notes) else {
            return;
        };
        let Some(fields) = node.fields("a price file", KNOWN, notes) else {
            return;
        };
        if let Some(version) = fields.get("version") {
            version.read(notes, "a version that is known: 1", |text| {
                (text == "1").then_some(())
            });
        }
        row::check_currency(&fields, notes);
        if fields.get("providers").or(fields.get("stores")).is_none() {
            let _noted = fields.need("models", notes);
        }
        for read in each(&fields, "models", row::read, notes) {
            self.models.push((file, read));
        }
        for read in each(&fields, "providers", provider::read, notes) {
            self.providers.push((file, read));
        }
        for read in each(&fields, "stores", store::read, notes) {
            self.stores.push((file, read));
        }
    }

    fn provider_names(&self) -> impl Iterator<Item = whole::Named<'_>> {
        let all = self.providers.iter();
        all.map(|(file, read)| (*file, read.at, read.row.provider.as_str()))
    }

    fn store_names(&self) -> impl Iterator<Item = whole::Named<'_>> {
        let all = self.stores.iter();
        all.map(|(file, read)| (*file, read.at, read.row.store.as_str()))
    }
}

/// What can be read of a list of things.
fn each<T>(
    fields: &Fields,
    key: &str,
    read: impl Fn(&Node, &mut Notes) -> Option<T>,
    notes: &mut Notes,
) -> Vec<T> {
    let list = fields.get(key).and_then(|node| node.list(notes));
    let items = list.unwrap_or_default().iter();
    items.filter_map(|node| read(node, notes)).collect()
}
