//! What is said about a misspelt name: the nearest right one, else all there are.

pub(super) use crate::near::nearest;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_near_one_all_are_named() {
        assert_eq!(
            no_such("call.xyzzy", "field", "xyzzy", ["app", "tags"]),
            "`call.xyzzy`: no such field; there is app, tags"
        );
    }
}
