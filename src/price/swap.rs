//! Whether a new book may take an old one's place without anybody asking.
//!
//! A price file that was cut off half way, or in which somebody took cents for dollars, is valid
//! all the same. Such a book is refused unless it is forced.

use std::collections::BTreeMap;
use std::fmt;

use super::book::Book;
use super::row::ModelRow;
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;

/// A book that loses more than one in so many of its rows has shrunk.
const MOST_LOST: usize = 10;
/// A price that is so many times its former self, or so small a part of it, has jumped.
const JUMP: u64 = 100;

/// Why a book should not simply be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// So many models are no longer there.
    Shrunk { before: usize, lost: usize },
    /// A picture of this model costs a hundred times more or less than it did.
    Jumped {
        model: ModelId,
        /// Which picture: `1024x1024 high`. Empty for one with all left to the model.
        what: String,
        before: Usd,
        after: Usd,
    },
    /// Nobody knows a price any more that the old book had.
    Forgotten { model: ModelId, before: Usd },
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Shrunk { before, lost } => {
                write!(f, "{lost} of {before} models are no longer there")
            }
            Objection::Jumped {
                model,
                what,
                before,
                after,
            } => {
                let sign = if what.is_empty() { "" } else { " " };
                write!(
                    f,
                    "{model}{sign}{what} cost {} a picture and would now cost {}",
                    before.pretty(),
                    after.pretty()
                )
            }
            Objection::Forgotten { model, before } => {
                write!(
                    f,
                    "{model} cost {} a picture and would have no price",
                    before.pretty()
                )
            }
        }
    }
}

/// What speaks against putting `new` in the place of `old`, both as they stand today; nothing
/// when it may simply be done.
pub fn objections(old: &Book, new: &Book) -> Vec<Objection> {
    let mut found = Vec::new();
    let before = old.models().count();
    let lost = old
        .models()
        .filter(|row| new.model(&row.id).is_none())
        .count();
    if lost * MOST_LOST > before {
        found.push(Objection::Shrunk { before, lost });
    }
    for row in old.models() {
        let Some(after) = new.model(&row.id) else {
            continue;
        };
        // One picture, with everything else left to the model.
        let request = ImageRequest::new(row.id.clone(), "");
        let Some(before) = row.quote(&request).map(|quote| quote.expected) else {
            continue;
        };
        let model = row.id.clone();
        match after.quote(&request).map(|quote| quote.expected) {
            None => found.push(Objection::Forgotten { model, before }),
            Some(after) if jumped(before, after) => found.push(Objection::Jumped {
                model,
                what: String::new(),
                before,
                after,
            }),
            Some(_) => found.extend(jump_elsewhere(row, after)),
        }
    }
    found
}

/// The first size, quality or tier whose price jumped, where the usual picture's did not: the slip
/// may be in any figure of a row.
fn jump_elsewhere(was: &ModelRow, is: &ModelRow) -> Option<Objection> {
    if was.price == is.price {
        return None;
    }
    let expected = |row: &ModelRow| {
        let probes = row.probes().into_iter();
        probes.filter_map(|probe| Some((probe.words(), probe.quote.as_ref()?.expected)))
    };
    let now: BTreeMap<String, Usd> = expected(is).collect();
    expected(was).find_map(|(what, before)| {
        let after = *now.get(&what)?;
        jumped(before, after).then(|| Objection::Jumped {
            model: was.id.clone(),
            what,
            before,
            after,
        })
    })
}

fn jumped(before: Usd, after: Usd) -> bool {
    let (less, more) = (before.min(after), before.max(after));
    more > Usd::ZERO && less.times(JUMP) <= more
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "models:\n";

    fn row(name: &str, price: &str) -> String {
        format!(
            "- model: studio/{name}
  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, formats: [png]}}
  price: {price}
  source: our own meter
  as_of: 2026-11-01
"
        )
    }

    fn book(rows: impl IntoIterator<Item = (usize, &'static str)>) -> Book {
        let rows: String = rows
            .into_iter()
            .map(|(number, price)| row(&format!("m{number}"), price))
            .collect();
        Book::load(&[("mine.yaml", &format!("{HEAD}{rows}"))]).unwrap()
    }

    fn twenty(price: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
        (0..20).map(move |number| (number, price))
    }

    #[test]
    fn a_book_that_lost_more_than_a_tenth_is_objected_to() {
        let old = book(twenty("{per_image: 0.04}"));
        let missing = |lost| book(twenty("{per_image: 0.04}").skip(lost));
        assert_eq!(objections(&old, &old), []);
        assert_eq!(objections(&old, &missing(2)), []);
        assert_eq!(
            objections(&old, &missing(3)),
            [Objection::Shrunk {
                before: 20,
                lost: 3
            }]
        );
        assert_eq!(objections(&missing(3), &old), []);
    }

    #[test]
    fn new_models_do_not_hide_those_that_are_lost() {
        let old = book(twenty("{per_image: 0.04}"));
        let others = (3..40).map(|number| (number, "{per_image: 0.04}"));
        assert_eq!(
            objections(&old, &book(others)),
            [Objection::Shrunk {
                before: 20,
                lost: 3
            }]
        );
    }

    #[test]
    fn a_hundredfold_price_is_objected_to_either_way() {
        let old = book([(0, "{per_image: 0.04}")]);
        let jump = |price| objections(&old, &book([(0, price)])).len();
        assert_eq!(jump("{per_image: 3.99}"), 0);
        assert_eq!(jump("{per_image: 4}"), 1);
        assert_eq!(jump("{per_image: 0.0004}"), 1);
        assert_eq!(jump("{per_image: 0.00041}"), 0);
        assert_eq!(jump("{per_image: 0}"), 1);
        let said = objections(&old, &book([(0, "{per_image: 4}")]));
        assert_eq!(
            said[0].to_string(),
            "studio/m0 cost $0.04 a picture and would now cost $4.00"
        );
    }

    #[test]
    fn a_jump_of_any_figure_of_a_row_is_objected_to() {
        let of = |high: &str, batch: &str| {
            let text = format!(
                "{HEAD}- model: studio/m
  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, qualities: [low, high], formats: [png], tiers: [batch]}}
  auto: {{quality: low}}
  price: {{per_image: {{low: 0.01, high: {high}}}, tiers: {{batch: {batch}}}}}
  source: our own meter
  as_of: 2026-11-01
"
            );
            Book::load(&[("mine.yaml", &text)]).unwrap()
        };
        let old = of("0.2", "-50%");
        assert_eq!(objections(&old, &of("0.4", "-40%")), []);
        let said = |new: &Book| -> Vec<String> {
            let found = objections(&old, new);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            said(&of("20", "-50%")),
            ["studio/m 1024x1024 high cost $0.20 a picture and would now cost $20.00"]
        );
        assert_eq!(
            said(&of("0.2", "50")),
            ["studio/m 1024x1024 low batch cost $0.005 a picture and would now cost $0.50"]
        );
    }

    #[test]
    fn a_price_that_is_forgotten_is_objected_to() {
        let old = book([(0, "{per_image: 0.04}")]);
        let said = objections(&old, &book([(0, "unknown")]));
        assert!(
            matches!(said[..], [Objection::Forgotten { .. }]),
            "{said:?}"
        );
        assert_eq!(objections(&book([(0, "unknown")]), &old), []);
    }
}
