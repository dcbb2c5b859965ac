//! YAML as a tree that remembers where everything stands and how it was written.
//!
//! Scalars stay text until their key says what they are: `0.10` of a price must not pass through
//! a float, and `no` of a name must not turn into a boolean.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::Value as Json;

use crate::config::problem::{Place, Problem};

/// Deeper than any configuration; a bound for hostile files.
const MAX_DEPTH: usize = 32;
/// More than any configuration, aliases counted as often as they are used.
const MAX_NODES: usize = 50_000;

/// A value and where it stands.
#[derive(Clone)]
pub(in crate::config) struct Node {
    pub(in crate::config) place: Place,
    pub(in crate::config) value: Value,
}

#[derive(Clone)]
pub(in crate::config) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// It was reported already; whatever it was meant to be, nobody need complain again.
    Broken,
}

/// A text with or without quotes.
#[derive(Clone)]
pub(in crate::config) struct Scalar {
    pub(in crate::config) text: String,
    /// As it stands in the file, where variables were expanded: messages quote this one, since
    /// what a variable holds may be a secret.
    pub(in crate::config) written: Option<String>,
    /// Without quotes, so that it may be a number, a truth value or nothing.
    pub(in crate::config) plain: bool,
}

/// One `key: value` of a map.
#[derive(Clone)]
pub(in crate::config) struct Entry {
    pub(in crate::config) key: String,
    pub(in crate::config) place: Place,
    pub(in crate::config) node: Node,
}

/// Where a text comes from, and so what its places look like.
#[derive(Clone)]
pub(in crate::config) enum Origin {
    File(Arc<str>),
    /// An option of the command line, under this name.
    Flag(Arc<str>),
}

impl Origin {
    fn place(&self, mark: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match self {
            // The parser counts lines from 1 and columns from 0.
            Origin::File(file) => Place {
                file: file.clone(),
                position: Some((number(mark.line()), number(mark.col() + 1))),
            },
            Origin::Flag(flag) => Place {
                file: flag.clone(),
                position: None,
            },
        }
    }
}

impl Scalar {
    /// For a message: never what a variable held.
    pub(in crate::config) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }

    fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// What kind of thing it is, for a message.
    pub(in crate::config) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null | Value::Broken => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// As JSON, by YAML's core schema: for values that only a plugin understands.
    pub(in crate::config) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null | Value::Broken => Json::Null,
            Value::Scalar(scalar) if scalar.plain => plain_json(&scalar.text),
            Value::Scalar(scalar) => Json::String(scalar.text.clone()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect(),
        }
    }
}

fn plain_json(text: &str) -> Json {
    match text {
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = unsigned.parse::<u64>() {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    let numeric = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && unsigned.bytes().any(|b| b.is_ascii_digit());
    match unsigned.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => number.into(),
        _ => Json::String(text.to_owned()),
    }
}

/// Reads one YAML document. Mistakes go to `problems`; an empty text is [`Value::Null`].
///
/// `None` when there is no tree to go on with.
pub(in crate::config) fn parse(
    text: &str,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Tree {
        origin,
        problems,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => tree.take(event, span).ok()?,
            Err(error) => {
                let place = origin.place(*error.marker());
                let message = format!("this is not valid YAML: {}", error.info());
                tree.problems.push(
                    Problem::at(&place, "syntax", message)
                        .remedy("check the indentation, the colons and the quotes around here"),
                );
                return None;
            }
        }
    }
    Some(tree.root.unwrap_or_else(|| Node {
        place: origin.place(Marker::new(0, 1, 0)),
        value: Value::Null,
    }))
}

/// A list or map whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value comes next.
    key: Option<(String, Place)>,
}

struct Tree<'a> {
    origin: &'a Origin,
    problems: &'a mut Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

/// It was reported; there is no tree.
struct GivenUp;

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), GivenUp> {
        let place = self.origin.place(span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.only_one_document(&place),
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = self.core_tag(tag.as_deref(), &place)?;
                let scalar = Scalar {
                    text: text.into_owned(),
                    written: None,
                    plain: style == ScalarStyle::Plain && !quoted,
                };
                let value = if scalar.is_null() {
                    Value::Null
                } else {
                    Value::Scalar(scalar)
                };
                self.close(Node { place, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Value::List(Vec::new()), place, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Value::Map(Vec::new()), place, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, &place),
        }
    }

    fn give_up(&mut self, place: &Place, message: &str, remedy: &str) -> Result<(), GivenUp> {
        self.problems
            .push(Problem::at(place, "syntax", message).remedy(remedy));
        Err(GivenUp)
    }

    fn only_one_document(&mut self, place: &Place) -> Result<(), GivenUp> {
        match self.root {
            None => Ok(()),
            Some(_) => self.give_up(
                place,
                "a second YAML document begins here",
                "keep one document a file: take the `---` line out",
            ),
        }
    }

    /// Whether a tag makes a text of it. Tags of other programs are refused: to ignore
    /// `!vault` would be to take its argument for the value.
    fn core_tag(&mut self, tag: Option<&Tag>, place: &Place) -> Result<bool, GivenUp> {
        let Some(tag) = tag else {
            return Ok(false);
        };
        if !tag.is_yaml_core_schema() {
            let message = format!("the tag `{tag}` means nothing here");
            self.give_up(
                place,
                &message,
                "take it out; ${NAME} reads the environment and ${file:PATH} a file",
            )?;
        }
        Ok(tag.suffix == "str")
    }

    fn begin(
        &mut self,
        value: Value,
        place: Place,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), GivenUp> {
        self.core_tag(tag, &place)?;
        if self.open.len() >= MAX_DEPTH {
            return self.give_up(&place, "this is nested too deeply", "flatten it");
        }
        self.open.push(Open {
            node: Node { place, value },
            anchor,
            key: None,
        });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: &Place) -> Result<(), GivenUp> {
        match self.anchors.get(&anchor).cloned() {
            Some((node, size)) => {
                self.nodes += size;
                let node = Node {
                    place: place.clone(),
                    ..node
                };
                self.close(node, 0)
            }
            None => self.give_up(
                place,
                "this alias stands inside what it names",
                "write the value out",
            ),
        }
    }

    /// Puts a finished node into what is open around it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), GivenUp> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let place = node.place;
            return self.give_up(&place, "this is too much for a configuration", "shorten it");
        }
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(key(node, self.problems)?),
                Some((key, place)) => add(entries, Entry { key, place, node }, self.problems),
            },
            Value::Null | Value::Scalar(_) | Value::Broken => {}
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}

fn key(node: Node, problems: &mut Vec<Problem>) -> Result<(String, Place), GivenUp> {
    match node.value {
        Value::Scalar(scalar) => Ok((scalar.text, node.place)),
        _ => {
            problems.push(
                Problem::at(&node.place, "syntax", "a key must be a single word")
                    .remedy("quote it if it is one, as in \"~\": …"),
            );
            Err(GivenUp)
        }
    }
}

fn add(entries: &mut Vec<Entry>, entry: Entry, problems: &mut Vec<Problem>) {
    let Some(first) = entries.iter().find(|other| other.key == entry.key) else {
        entries.push(entry);
        return;
    };
    let message = match first.place.line() {
        Some(line) => format!(
            "`{}` stands here a second time, after line {line}",
            entry.key
        ),
        None => format!("`{}` stands here twice", entry.key),
    };
    problems
        .push(Problem::at(&entry.place, "duplicate_key", message).remedy("keep one of the two"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(text: &str) -> (Option<Node>, Vec<String>) {
        let mut problems = Vec::new();
        let node = parse(text, &Origin::File("f".into()), &mut problems);
        let said = problems.iter().map(Problem::to_string).collect();
        (node, said)
    }

    #[test]
    fn values_keep_their_place_and_their_spelling() {
        let (node, said) = tree("a: 0.10\nb:\n  - no\n  - \"1\"\n");
        assert!(said.is_empty());
        let Some(Value::Map(entries)) = node.map(|node| node.value) else {
            panic!("a map was expected");
        };
        assert_eq!(entries[0].place.position, Some((1, 1)));
        assert_eq!(entries[0].node.place.position, Some((1, 4)));
        let Value::Scalar(price) = &entries[0].node.value else {
            panic!("a scalar was expected");
        };
        assert_eq!((price.text.as_str(), price.plain), ("0.10", true));
        assert_eq!(entries[1].node.to_json(), serde_json::json!(["no", "1"]));
    }

    #[test]
    fn what_is_broken_is_said_with_its_place() {
        for (text, said) in [
            (
                "a: 1\na: 2",
                "f:2:1: `a` stands here a second time, after line 1",
            ),
            ("a: [1", "f:"),
            ("a: b: c", "f:1:5: this is not valid YAML"),
            ("a: 1\n---\nb: 2", "f:2:1: a second YAML document"),
            ("a: !vault x", "f:1:11: the tag `!vault` means nothing"),
            ("? [a]\n: 1", "f:1:3: a key must be a single word"),
            ("a: &x [*x]", "f:1:8: this alias stands inside"),
        ] {
            let (_, problems) = tree(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(said), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_small_file_cannot_become_a_large_tree() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let inner = vec![format!("*a{}", i - 1); 9].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{inner}]\n"));
        }
        assert!(tree(&bomb).1[0].contains("too much"));
        assert!(tree(&"[".repeat(50)).1[0].contains("nested too deeply"));
    }

    #[test]
    fn plain_words_follow_the_core_schema() {
        for (text, json) in [
            ("true", serde_json::json!(true)),
            ("yes", serde_json::json!("yes")),
            ("12", serde_json::json!(12)),
            ("-12", serde_json::json!(-12)),
            ("0.5", serde_json::json!(0.5)),
            ("1.2.3", serde_json::json!("1.2.3")),
            (".inf", serde_json::json!(".inf")),
            ("1024x1024", serde_json::json!("1024x1024")),
        ] {
            assert_eq!(plain_json(text), json, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\PC\n\t]{0,60}", marks in "[-a:&*!|>%#?,{}\\[\\]'\" \n\t]{0,40}") {
            tree(&text);
            tree(&marks);
        }
    }
}
