//! The nearest right name for a misspelt one.

/// Of `names` the one that `word` was probably meant to be; `None` when none is near.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .into_iter()
        .map(|name| (distance(word, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = (word.chars().count().max(name.chars().count()) / 3).max(1);
    (distance <= allowed).then_some(name)
}

/// The sentence about a name that is not there: `` `call.requst`: no such field; did you mean
/// `request`? ``
pub(super) fn no_such<'a>(
    path: &str,
    what: &str,
    word: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(word, names.clone()) {
        Some(name) => format!("`{path}`: no such {what}; did you mean `{name}`?"),
        None => {
            let all: Vec<&str> = names.into_iter().collect();
            format!("`{path}`: no such {what}; there is {}", all.join(", "))
        }
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let names = ["request", "quote", "asked", "max_side"];
        for (word, meant) in [
            ("requst", Some("request")),
            ("qoute", Some("quote")),
            ("maxside", Some("max_side")),
            ("banana", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }

    #[test]
    fn without_a_near_one_all_are_named() {
        assert_eq!(
            no_such("call.xyzzy", "field", "xyzzy", ["app", "tags"]),
            "`call.xyzzy`: no such field; there is app, tags"
        );
    }
}
