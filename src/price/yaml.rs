//! Reads YAML into a tree that knows where everything stood.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser};

use super::node::{Entry, Mark, Node, Notes, What};

/// The deepest nesting and the greatest weight (a node, or sixteen bytes of text) of a file: far
/// beyond any price book, and small enough that a hostile one stays harmless.
const DEEPEST: usize = 24;
const HEAVIEST: usize = 500_000;

/// Reads YAML into a tree. `None` when there is none; what is wrong is noted.
pub(super) fn parse(text: &str, notes: &mut Notes) -> Option<Node> {
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
