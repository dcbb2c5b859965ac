//! Host names as certificates carry them: only a plain DNS name ever reaches a signature.
//!
//! A name with a NUL, a `*` or a trailing dot in a certificate is read differently by different
//! clients, and a certificate must never mean more than was asked for.

use std::net::IpAddr;

use super::CaError;

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// `host` in the one spelling used here: lower case, without the dot at its end.
///
/// # Errors
/// [`CaError::Host`] when it is not a plain DNS name.
pub(super) fn normalise(host: &str) -> Result<String, CaError> {
    let name = host.strip_suffix('.').unwrap_or(host);
    match fault(name) {
        None => Ok(name.to_ascii_lowercase()),
        Some(why) => Err(CaError::Host {
            host: host.escape_default().to_string(),
            why,
        }),
    }
}

/// Whether `host` is an address, which no certificate of ours may name.
pub(super) fn is_address(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
}

fn fault(name: &str) -> Option<&'static str> {
    if is_address(name) {
        return Some("it is an IP address: reach it by a base URL through pixtoll instead");
    }
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Some("a host name has 1 to 253 characters");
    }
    if !name.is_ascii() {
        return Some("it is not ASCII: write its `xn--` form");
    }
    if name.contains('*') {
        return Some("wildcards are not signed: name each host");
    }
    if !name.split('.').all(is_label) {
        return Some(
            "each part between dots has 1 to 63 letters, digits, `-` or `_`, with no `-` at its ends",
        );
    }
    None
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_names_are_kept_in_one_spelling() {
        for (given, kept) in [
            ("api.openai.com", "api.openai.com"),
            ("API.OpenAI.com", "api.openai.com"),
            ("api.openai.com.", "api.openai.com"),
            ("localhost", "localhost"),
            ("my_host.lan", "my_host.lan"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(normalise(given).unwrap(), kept);
        }
    }

    #[test]
    fn what_is_no_plain_name_is_refused_with_a_reason() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = vec!["abcdefgh"; 32].join(".");
        for (host, why) in [
            ("", "1 to 253"),
            (".", "1 to 253"),
            ("a..b", "each part"),
            ("a.b..", "each part"),
            ("*.openai.com", "wildcards"),
            ("api.openai.com\0.evil.com", "each part"),
            ("bücher.example", "xn--"),
            ("-a.com", "each part"),
            ("a-.com", "each part"),
            ("a b.com", "each part"),
            ("10.0.0.7", "IP address"),
            ("::1", "IP address"),
            ("[2001:db8::1]", "IP address"),
            (long_label.as_str(), "each part"),
            (long_name.as_str(), "1 to 253"),
        ] {
            let said = normalise(host).unwrap_err().to_string();
            assert!(said.contains(why), "{host:?}: {said}");
            assert!(!said.contains('\0'), "{host:?}: {said:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_passes_is_its_own_normal_form(host in "\\PC{0,80}") {
            if let Ok(name) = normalise(&host) {
                prop_assert_eq!(normalise(&name).unwrap(), name.clone());
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
            }
        }
    }
}
