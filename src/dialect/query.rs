//! The parameters of a query string, as they are spelt.

/// The value of a parameter; `None` when it is not there.
pub fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// The query without some parameters; `None` when nothing is left.
pub fn without(query: &str, names: &[&str]) -> Option<String> {
    let named = |field: &&str| {
        let name = field.split('=').next().unwrap_or_default();
        !field.is_empty() && !names.contains(&name)
    };
    let left: Vec<&str> = query.split('&').filter(named).collect();
    (!left.is_empty()).then(|| left.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_taken_out_by_their_whole_names() {
        let query = "alt=sse&key=AIza-7&monkey=1";
        assert_eq!(value(query, "key"), Some("AIza-7"));
        assert_eq!(value(query, "ke"), None);
        assert_eq!(
            without(query, &["key"]).as_deref(),
            Some("alt=sse&monkey=1")
        );
        assert_eq!(without("key=1", &["key"]), None);
        assert_eq!(without("", &[]), None);
        assert_eq!(without("flag", &["key"]).as_deref(), Some("flag"));
    }
}
