//! What only all price files together can tell: models that stand twice, aliases that clash,
//! successors that nobody knows.

use std::collections::{HashMap, HashSet};

use super::node::{Mark, Notes, PriceProblem};
use super::row::Read;
use crate::image::ModelId;

/// A row and the number of its file, counted from 0.
type InFile = (usize, Read);

/// Checks the rows of all files. Returns what each alias stands for.
pub(super) fn check(
    files: &[(&str, &str)],
    read: &[InFile],
    problems: &mut Vec<PriceProblem>,
) -> HashMap<ModelId, ModelId> {
    let mut whole = Whole {
        files,
        problems,
        models: HashMap::new(),
        aliases: HashMap::new(),
    };
    for row in read {
        whole.add_model(row);
    }
    for (file, row) in read {
        whole.add_aliases(*file, row);
    }
    for (file, row) in read {
        whole.check_successor(*file, row);
    }
    // A later file may make a model of what an earlier one had as an alias: then it is one.
    let Whole {
        models,
        mut aliases,
        ..
    } = whole;
    aliases.retain(|alias, _| !models.contains_key(alias));
    aliases
        .into_iter()
        .map(|(alias, (id, _))| (alias, id))
        .collect()
}

/// The number of a file, a place in it, and what is named there.
pub(super) type Named<'a> = (usize, Mark, &'a str);

/// Notes what is named twice in one file.
pub(super) fn check_once<'a>(
    files: &[(&str, &str)],
    named: impl Iterator<Item = Named<'a>>,
    problems: &mut Vec<PriceProblem>,
) {
    let mut seen: HashMap<(usize, &str), Mark> = HashMap::new();
    for (file, at, name) in named {
        if let Some(first) = seen.insert((file, name), at) {
            let mut notes = Notes::new(files[file].0);
            let message = format!("{name} already stands in line {}", first.line);
            notes.add(at, message, "keep one of them");
            problems.append(&mut notes.found);
        }
    }
}

struct Whole<'a> {
    files: &'a [(&'a str, &'a str)],
    problems: &'a mut Vec<PriceProblem>,
    models: HashMap<&'a ModelId, Vec<&'a InFile>>,
    /// What each alias stands for, and the file that says so.
    aliases: HashMap<ModelId, (ModelId, usize)>,
}

impl<'a> Whole<'a> {
    fn note(&mut self, file: usize, at: Mark, message: String, remedy: &str) {
        let mut notes = Notes::new(self.files[file].0);
        notes.add(at, message, remedy);
        self.problems.append(&mut notes.found);
    }

    fn add_model(&mut self, row: &'a InFile) {
        let (file, read) = row;
        let same = self.models.entry(&read.row.id).or_default();
        let clash = same
            .iter()
            .find(|(other_file, other)| other_file == file && other.row.overlaps(&read.row))
            .map(|(_, other)| other.at.line);
        same.push(row);
        if let Some(line) = clash {
            let id = &read.row.id;
            self.note(
                *file,
                read.at,
                format!("{id} already has a price for these days in line {line}"),
                "keep one of them, or give them valid_from and valid_to that do not overlap",
            );
        }
    }

    fn add_aliases(&mut self, file: usize, read: &Read) {
        let mut own: HashSet<&ModelId> = HashSet::new();
        for (alias, at) in &read.aliases {
            if !own.insert(alias) {
                self.note(
                    file,
                    *at,
                    format!("`{alias}` stands here twice"),
                    "name it once",
                );
            } else if let Some((message, remedy)) = self.clash(file, alias, &read.row.id) {
                self.note(file, *at, message, remedy);
            } else {
                self.aliases
                    .insert(alias.clone(), (read.row.id.clone(), file));
            }
        }
    }

    /// Why `alias` cannot stand for `id` in this file, and what to do. A model of a later file
    /// is no obstacle, nor is an alias of an earlier one.
    fn clash(&self, file: usize, alias: &ModelId, id: &ModelId) -> Option<(String, &'static str)> {
        let rows = self.models.get(alias).map_or(&[][..], Vec::as_slice);
        if let Some((_, model)) = rows.iter().find(|(other, _)| *other <= file) {
            let line = model.at.line;
            return Some((
                format!("`{alias}` is a model of its own (line {line}) and cannot be an alias"),
                "take the alias away, or replace that model's row instead",
            ));
        }
        let (known, _) = self
            .aliases
            .get(alias)
            .filter(|(known, other)| *other == file && known != id)?;
        Some((
            format!("`{alias}` already stands for {known}"),
            "name it under one model only",
        ))
    }

    fn check_successor(&mut self, file: usize, read: &Read) {
        let Some(successor) = read.row.capability.successor.as_deref() else {
            return;
        };
        let known = ModelId::parse(successor)
            .is_some_and(|id| self.models.contains_key(&id) || self.aliases.contains_key(&id));
        if !known {
            let message = format!("the successor {successor} is in no price file");
            let remedy = "add a row for it, or name a model that has one";
            self.note(file, read.successor_at, message, remedy);
        }
    }
}
