//! The right word for a misspelt one, wherever people write words.

/// The one of `words` that `written` was probably meant to be.
///
/// Close means one edit for every three letters, and one for shorter words; a swap of two
/// neighbours is one edit, since that is how fingers slip.
pub fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| (edits(written, word), word))
        .filter(|(distance, word)| *distance <= limit && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// No word that anybody has to write is longer; what is, is a text, and not worth the work.
const LONGEST: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two words, any case.
fn edits(from: &str, to: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        let lower = word.chars().flat_map(char::to_lowercase);
        lower.take(LONGEST).collect()
    };
    let (from, to) = (letters(from), letters(to));
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = from[i - 1] == to[j - 1];
            let mut least = (above[j - 1] + usize::from(!same))
                .min(above[j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let words = ["ttl", "unseeded_ttl", "memory", "providers", "budgets"];
        for (written, meant) in [
            ("tll", Some("ttl")),
            ("memmory", Some("memory")),
            ("provider", Some("providers")),
            ("Budget", Some("budgets")),
            ("unseeded-ttl", Some("unseeded_ttl")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, words), meant, "{written}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_is_a_distance(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(edits(&a, &b), edits(&b, &a));
            prop_assert_eq!(edits(&a, &b) == 0, a == b);
            prop_assert!(edits(&a, &b) <= a.len().max(b.len()));
        }
    }
}
