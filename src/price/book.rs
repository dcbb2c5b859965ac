//! The price book: read from YAML, laid over one another, looked up by model.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use saphyr_parser::{Event, Marker, Parser};

use super::node::{Entry, Mark, Node, Notes, PriceProblem, What};
use super::row::{self, ModelRow, Read};
use super::whole;
use crate::image::ModelId;

/// The files that the book comes with, by name.
const EMBEDDED: &[(&str, &str)] = &[
    (
        "prices/openai.yaml",
        include_str!("../../prices/openai.yaml"),
    ),
    (
        "prices/stability.yaml",
        include_str!("../../prices/stability.yaml"),
    ),
];

/// The prices of all models, with the date and source of each.
///
/// Cheap to clone and to turn to another day: rows are shared.
#[derive(Clone, Debug)]
pub struct Book {
    /// Every row of every file, in order; later files win.
    rows: Arc<[Placed]>,
    /// The rows in force, one a model.
    current: Vec<Arc<ModelRow>>,
    /// Place in `current` of every model and alias.
    index: HashMap<ModelId, usize>,
    aliases: Arc<HashMap<ModelId, ModelId>>,
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
            Arc::new(Book::load(EMBEDDED).expect("a test reads the embedded files"))
        });
        &BOOK
    }

    /// The embedded book with files of the user's own laid over it.
    ///
    /// # Errors
    /// As [`Book::load`].
    pub fn with(files: &[(&str, &str)]) -> Result<Book, Vec<PriceProblem>> {
        Book::load(&[EMBEDDED, files].concat())
    }

    /// Reads files, given as name and text. A later file adds rows and replaces whole those of
    /// the same model (for the days on which its row holds); a row is never lost, and neither are
    /// its aliases.
    ///
    /// # Errors
    /// Every mistake of every file, with its place and what to do about it.
    pub fn load(files: &[(&str, &str)]) -> Result<Book, Vec<PriceProblem>> {
        let mut problems = Vec::new();
        let mut read = Vec::new();
        for (number, (name, text)) in files.iter().enumerate() {
            let mut notes = Notes::new(name);
            let rows = read_file(text, &mut notes);
            read.extend(rows.into_iter().map(|row| (number, row)));
            problems.append(&mut notes.found);
        }
        let aliases = whole::check(files, &read, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let rows = read.into_iter().map(|(file, read)| Placed {
            row: Arc::new(read.row),
            file,
        });
        let book = Book {
            rows: rows.collect(),
            current: Vec::new(),
            index: HashMap::new(),
            aliases: Arc::new(aliases),
            digest: digest(files).into(),
        };
        let newest = book
            .rows
            .iter()
            .map(|placed| placed.row.as_of.clone())
            .max();
        Ok(book.on(&newest.unwrap_or_default()))
    }

    /// The same book as it stands on `day` (`YYYY-MM-DD`). A model without a price for that day
    /// keeps its last one. Until it is told a day, a book stands on the newest it was read on.
    pub fn on(&self, day: &str) -> Book {
        let mut current: Vec<&Placed> = Vec::new();
        let mut index: HashMap<ModelId, usize> = HashMap::new();
        for placed in self.rows.iter() {
            match index.get(&placed.row.id) {
                None => {
                    index.insert(placed.row.id.clone(), current.len());
                    current.push(placed);
                }
                Some(&at) if placed.wins_over(current[at], day) => current[at] = placed,
                Some(_) => {}
            }
        }
        for (alias, id) in self.aliases.iter() {
            if let Some(&at) = index.get(id) {
                index.insert(alias.clone(), at);
            }
        }
        let current = current
            .into_iter()
            .map(|placed| Arc::clone(&placed.row))
            .collect();
        Book {
            current,
            index,
            ..self.clone()
        }
    }

    /// The row of a model or of an alias of one. `None` for a model the book does not know.
    pub fn model(&self, id: &ModelId) -> Option<&ModelRow> {
        self.index.get(id).map(|&at| &*self.current[at])
    }

    /// Every model's row in force, in the order of the files.
    pub fn models(&self) -> impl Iterator<Item = &ModelRow> {
        self.current.iter().map(|row| &**row)
    }

    /// Every row of a model, those of other days among them, in the order of the files.
    pub fn history(&self, id: &ModelId) -> impl Iterator<Item = &ModelRow> {
        let of_it = self.rows.iter().filter(move |placed| placed.row.id == *id);
        of_it.map(|placed| &*placed.row)
    }

    /// Every alias with the model it stands for, in no order.
    pub fn aliases(&self) -> impl Iterator<Item = (&ModelId, &ModelId)> {
        self.aliases.iter()
    }

    /// Eight hex digits that change with any byte of the files.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Placed {
    /// Whether this row, which stands later, is the one for `day`.
    fn wins_over(&self, earlier: &Placed, day: &str) -> bool {
        match (self.row.holds_on(day), earlier.row.holds_on(day)) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => {
                self.file > earlier.file || self.row.valid_from > earlier.row.valid_from
            }
        }
    }
}

fn digest(files: &[(&str, &str)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (_, text) in files {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex()[..8].to_owned()
}

/// The rows of one file; mistakes are noted.
fn read_file(text: &str, notes: &mut Notes) -> Vec<Read> {
    // `shared` holds parts that rows refer to; it is read where it is used.
    const KNOWN: &[&str] = &["version", "shared", "models"];
    let Some(node) = parse(text, notes) else {
        return Vec::new();
    };
    let Some(fields) = node.fields("a price file", KNOWN, notes) else {
        return Vec::new();
    };
    if let Some(version) = fields.get("version") {
        version.read(notes, "a version that is known: 1", |text| {
            (text == "1").then_some(())
        });
    }
    let models = fields
        .need("models", notes)
        .and_then(|node| node.list(notes));
    models
        .unwrap_or_default()
        .iter()
        .filter_map(|node| row::read(node, notes))
        .collect()
}

/// The deepest nesting and the greatest weight (a node, or sixteen bytes of text) of a file: far
/// beyond any price book, and small enough that a hostile one stays harmless.
const DEEPEST: usize = 24;
const HEAVIEST: usize = 500_000;

/// Reads YAML into a tree. `None` when there is none; what is wrong is noted.
fn parse(text: &str, notes: &mut Notes) -> Option<Node> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, mark(&span.start)),
            Err(error) => Err((mark(error.marker()), error.info().to_owned())),
        };
        if let Err((at, message)) = step {
            notes.add(at, message, "mend the YAML here");
            return None;
        }
    }
    if builder.root.is_none() {
        notes.add(
            Mark { line: 1, column: 1 },
            "the file is empty",
            "begin it with `models:`",
        );
    }
    builder.root
}

fn mark(marker: &Marker) -> Mark {
    Mark {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

type Wrong = (Mark, String);

/// Puts the tree together from the parser's events, without recursion.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Part>,
    /// Weight of all that was put so far, copies of anchored parts included.
    weight: usize,
}

/// A finished node, how much it weighs and how deep it goes.
#[derive(Clone)]
struct Part {
    node: Node,
    weight: usize,
    depth: usize,
}

/// A list or mapping whose end has not come yet.
struct Open {
    at: Mark,
    anchor: usize,
    /// `None` for a list.
    map: Option<Vec<Entry>>,
    list: Vec<Node>,
    key: Option<(String, Mark)>,
    /// Weight of the whole before this began.
    before: usize,
    depth: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Mark) -> Result<(), Wrong> {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                let weight = 1 + text.len() / 16;
                let node = Node {
                    at,
                    what: What::Text(text.into_owned()),
                };
                self.weigh(weight, at)?;
                self.put(
                    Part {
                        node,
                        weight,
                        depth: 0,
                    },
                    anchor,
                    at,
                )
            }
            Event::SequenceStart(anchor, _) => self.open(at, anchor, None),
            Event::MappingStart(anchor, _) => self.open(at, anchor, Some(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(part) => {
                    self.weigh(part.weight, at)?;
                    self.put(part, 0, at)
                }
                None => Err((
                    at,
                    "this refers to an anchor that is not finished yet".to_owned(),
                )),
            },
            Event::DocumentStart(_) if self.root.is_some() => Err((
                at,
                "a second document begins here, and a price file is one".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn weigh(&mut self, weight: usize, at: Mark) -> Result<(), Wrong> {
        self.weight += weight;
        if self.weight > HEAVIEST {
            Err((at, "the file is too large".to_owned()))
        } else {
            Ok(())
        }
    }

    fn open(&mut self, at: Mark, anchor: usize, map: Option<Vec<Entry>>) -> Result<(), Wrong> {
        let before = self.weight;
        self.weigh(1, at)?;
        self.open.push(Open {
            at,
            anchor,
            map,
            list: Vec::new(),
            key: None,
            before,
            depth: 0,
        });
        self.check_depth(0, at)
    }

    fn check_depth(&self, below: usize, at: Mark) -> Result<(), Wrong> {
        if self.open.len() + below > DEEPEST {
            return Err((at, "this is nested too deeply".to_owned()));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let what = open
            .map
            .map_or(What::List(open.list), |entries| What::Map(merged(entries)));
        let part = Part {
            node: Node { at: open.at, what },
            weight: self.weight - open.before,
            depth: open.depth + 1,
        };
        self.put(part, open.anchor, open.at)
    }

    /// Puts a finished part, which stands at `at`, where it belongs.
    fn put(&mut self, part: Part, anchor: usize, at: Mark) -> Result<(), Wrong> {
        self.check_depth(part.depth, at)?;
        if anchor > 0 {
            self.anchors.insert(anchor, part.clone());
        }
        let node = part.node;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.depth = open.depth.max(part.depth);
        let Some(entries) = &mut open.map else {
            open.list.push(node);
            return Ok(());
        };
        if let Some((key, key_at)) = open.key.take() {
            entries.push(Entry { key, key_at, node });
            return Ok(());
        }
        let Some(key) = node.as_text() else {
            return Err((at, "a key is a single word".to_owned()));
        };
        if let Some(first) = entries.iter().find(|entry| entry.key == key) {
            return Err((
                at,
                format!("`{key}` already stands in line {}", first.key_at.line),
            ));
        }
        open.key = Some((key.to_owned(), at));
        Ok(())
    }
}

/// `<<: *part` lends the entries of `part` that are not there themselves.
fn merged(mut entries: Vec<Entry>) -> Vec<Entry> {
    let Some(at) = entries
        .iter()
        .position(|entry| entry.key == "<<" && matches!(entry.node.what, What::Map(_)))
    else {
        return entries;
    };
    if let What::Map(lent) = entries.remove(at).node.what {
        let new = |entry: &Entry| entries.iter().all(|own| own.key != entry.key);
        let lent: Vec<Entry> = lent.into_iter().filter(new).collect();
        entries.extend(lent);
    }
    entries
}
