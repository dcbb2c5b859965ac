//! Keeps a line within its bound, so that one write carries it and any reader can hold it.
//!
//! A line that is too long is shortened in this order until it fits: the prompt, messages,
//! billing codes, the words of rules; then every text and list in it, ever tighter. What was
//! shortened ends in `…`, what was left out is counted in `notes`. Money, ids and words of the
//! format are never touched, and the line is valid JSON at every stage.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;

use super::decision::{AttemptRecord, Decision};
use super::facts::{Named, head};
use super::notice::{Amend, Notice};
use super::rule::RuleRecord;
use super::text;
use crate::image::ModelId;

/// The longest line in bytes, its newline among them.
pub const MOST_BYTES: usize = 16 * 1024;

/// One line of the log, without its newline.
pub trait Line: Serialize + Clone {
    /// How many stages of shortening there are.
    const STAGES: u8;

    /// Takes away what that stage takes away, after all the stages before it.
    fn shorten(&mut self, stage: u8);
}

thread_local! {
    /// Where lines are written before they go where they are needed; memory of its own for each would be
    /// taken and given back, and grow several times on the way.
    static SHEET: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Memory that the sheet keeps: a call with one attempt and one rule takes about 2.5 KB.
const KEPT: usize = 4 * MOST_BYTES;

/// Shows `see` the line as text with its newline, at most [`MOST_BYTES`] long.
///
/// # Errors
/// Only where a value has no JSON, which no type of this module allows.
pub fn rendered<L: Line, T>(line: &L, see: impl FnOnce(&str) -> T) -> serde_json::Result<T> {
    let mut sheet = SHEET.take();
    let text = fit(&mut sheet, line);
    let seen = text.map(see);
    sheet.clear();
    sheet.shrink_to(KEPT);
    SHEET.set(sheet);
    seen
}

/// The line as text of its own.
///
/// # Errors
/// As [`rendered`].
pub fn render<L: Line>(line: &L) -> serde_json::Result<String> {
    rendered(line, str::to_owned)
}

fn fit<'a, L: Line>(sheet: &'a mut Vec<u8>, line: &L) -> serde_json::Result<&'a str> {
    write(sheet, line)?;
    if sheet.len() > MOST_BYTES {
        let mut shorter = line.clone();
        for stage in 0..L::STAGES {
            shorter.shorten(stage);
            write(sheet, &shorter)?;
            if sheet.len() <= MOST_BYTES {
                break;
            }
        }
    }
    std::str::from_utf8(sheet).map_err(serde::de::Error::custom)
}

fn write<L: Line>(sheet: &mut Vec<u8>, line: &L) -> serde_json::Result<()> {
    sheet.clear();
    text::write(sheet, line)?;
    sheet.push(b'\n');
    Ok(())
}

impl Line for Decision {
    const STAGES: u8 = 8;

    fn shorten(&mut self, stage: u8) {
        match stage {
            0 => {
                self.asked.prompt.cut(80);
                self.notes.push("shortened to fit: prompt".to_owned());
            }
            1 => {
                self.messages(200);
                self.also("messages");
            }
            2 => {
                for attempt in &mut self.attempts {
                    attempt.codes.cut(64);
                    keep(&mut attempt.codes.0, 16);
                }
                self.also("codes");
            }
            3 => {
                for rule in &mut self.rules {
                    rule.cut(80);
                }
                let left_out = keep(&mut self.rules, 32);
                self.also(&format!("rules ({left_out} left out)"));
            }
            4 => self.all(64, 16),
            5 => self.all(32, 8),
            6 => self.all(16, 4),
            _ => self.all(8, 2),
        }
    }
}

impl Decision {
    /// Adds to the note that the first stage began; it is the last one, since none is added between.
    fn also(&mut self, what: &str) {
        if let Some(note) = self.notes.last_mut() {
            note.push_str(", ");
            note.push_str(what);
        }
    }

    fn messages(&mut self, chars: usize) {
        for failure in self.attempts.iter_mut().filter_map(|a| a.failure.as_mut()) {
            failure.message.cut(chars);
            failure.code.cut(chars);
        }
        if let Some(error) = &mut self.error {
            error.message.cut(chars);
            error.remedy.cut(chars);
        }
        self.notes.cut(chars);
    }

    /// Cuts every text to `chars` characters and every list to `most` entries.
    fn all(&mut self, chars: usize, most: usize) {
        let mut left_out = keep(&mut self.tags, most)
            + keep(&mut self.rules, most)
            + keep(&mut self.lost, most)
            + keep(&mut self.unmet, most)
            + keep(&mut self.budgets, most)
            + keep(&mut self.asked.inputs, most);
        // The money of those left out is still in the sums.
        left_out += keep(&mut self.attempts, most);
        for attempt in &mut self.attempts {
            left_out += attempt.all(chars, most);
        }
        if let Some(answered) = &mut self.answered {
            left_out += keep(&mut answered.sizes, most);
            answered.sizes.cut(chars);
            answered.model.cut(chars);
        }
        self.messages(chars);
        self.head(chars);
        self.asked.prompt.cut(chars);
        for rule in &mut self.rules {
            rule.cut(chars);
            left_out += keep(&mut rule.set.0, most);
        }
        keep(&mut self.notes, 1);
        self.notes.clear();
        self.notes.push(format!(
            "shortened to fit: texts to {chars} characters, {left_out} list entries left out"
        ));
    }

    fn head(&mut self, chars: usize) {
        for text in [
            &mut self.instance,
            &mut self.app,
            &mut self.agent,
            &mut self.config,
            &mut self.book,
            &mut self.cache.key,
        ] {
            text.cut(chars.max(16));
        }
        self.credential.cut(16);
        self.user.cut(chars);
        self.tags.cut(chars);
        self.asked.model.cut(chars);
        self.asked.size.cut(chars);
        self.asked.style.cut(chars);
        self.decided.model.cut(chars);
        self.decided.size.cut(chars);
        for lost in &mut self.lost {
            lost.field.cut(chars);
            lost.target.cut(chars);
        }
        for unmet in &mut self.unmet {
            unmet.wish.cut(chars);
            unmet.got.cut(chars);
            unmet.target.cut(chars);
        }
        for budget in &mut self.budgets {
            budget.name.cut(chars);
            budget.bucket.cut(chars);
        }
    }
}

impl AttemptRecord {
    fn all(&mut self, chars: usize, most: usize) -> usize {
        self.model.cut(chars);
        if let Some(by) = &mut self.by {
            by.plugin.cut(chars);
            by.hook.cut(chars);
        }
        self.sizes.cut(chars);
        self.request_id.cut(chars.max(16));
        self.job.cut(chars.max(16));
        self.codes.cut(chars);
        keep(&mut self.sizes, most) + keep(&mut self.codes.0, most)
    }
}

impl Line for Amend {
    const STAGES: u8 = 1;

    /// The attempts' share is left out, the sums remain.
    fn shorten(&mut self, _stage: u8) {
        keep(&mut self.attempts, 64);
    }
}

impl Line for Notice {
    const STAGES: u8 = 3;

    fn shorten(&mut self, stage: u8) {
        let (chars, most) = [(1000, 32), (200, 16), (64, 8)][usize::from(stage.min(2))];
        self.text.cut(chars);
        self.instance.cut(chars);
        self.fields.cut(chars);
        keep(&mut self.fields.0, most);
    }
}

/// Keeps the first `most` entries; says how many are gone.
fn keep<T>(list: &mut Vec<T>, most: usize) -> usize {
    let gone = list.len().saturating_sub(most);
    list.truncate(most);
    gone
}

/// A text that can be cut to so many characters, `…` last.
trait Cut {
    fn cut(&mut self, chars: usize);
}

fn shorter(text: &str, chars: usize) -> Option<String> {
    let kept = head(text, chars);
    (kept.len() < text.len()).then(|| format!("{}…", head(kept, chars.saturating_sub(1))))
}

impl Cut for String {
    fn cut(&mut self, chars: usize) {
        if let Some(short) = shorter(self, chars) {
            *self = short;
        }
    }
}

impl Cut for Arc<str> {
    fn cut(&mut self, chars: usize) {
        if let Some(short) = shorter(self, chars) {
            *self = short.into();
        }
    }
}

impl Cut for Cow<'static, str> {
    fn cut(&mut self, chars: usize) {
        if let Some(short) = shorter(self, chars) {
            *self = short.into();
        }
    }
}

impl Cut for SmolStr {
    fn cut(&mut self, chars: usize) {
        if let Some(short) = shorter(self, chars) {
            *self = short.into();
        }
    }
}

impl Cut for ModelId {
    fn cut(&mut self, chars: usize) {
        if let (Some(provider), Some(model)) = (
            shorter(self.provider(), chars).or_else(|| Some(self.provider().to_owned())),
            shorter(self.model(), chars).or_else(|| Some(self.model().to_owned())),
        ) {
            *self = ModelId::new(&provider, &model);
        }
    }
}

impl Cut for Value {
    fn cut(&mut self, chars: usize) {
        if let Value::String(text) = self {
            text.cut(chars);
        }
    }
}

impl<T: Cut> Cut for Option<T> {
    fn cut(&mut self, chars: usize) {
        if let Some(text) = self {
            text.cut(chars);
        }
    }
}

impl<T: Cut> Cut for Vec<T> {
    fn cut(&mut self, chars: usize) {
        for text in self {
            text.cut(chars);
        }
    }
}

impl<T: Cut> Cut for Named<T> {
    fn cut(&mut self, chars: usize) {
        for (name, value) in &mut self.0 {
            name.cut(chars);
            value.cut(chars);
        }
        // Two names that were cut to the same one would make the object ambiguous.
        let mut seen = std::collections::BTreeSet::new();
        self.0.retain(|(name, _)| seen.insert(name.clone()));
    }
}

impl Cut for RuleRecord {
    fn cut(&mut self, chars: usize) {
        self.plugin.cut(chars);
        self.digest.cut(chars.max(16));
        self.hook.cut(chars);
        self.skipped.cut(chars);
        self.from.cut(chars);
        self.to.cut(chars);
        self.set.cut(chars);
        self.why.cut(chars);
        self.at.cut(chars);
        self.text.cut(chars);
    }
}
