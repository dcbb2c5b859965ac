//! A text that must not be shown.

use std::fmt;

use subtle::ConstantTimeEq;

/// An API key, a token, or a URL that carries one.
///
/// It prints as `***` and has no serialisation, so that a log line, an error or a debug dump of
/// whatever holds it gives nothing away. [`Secret::reveal`] is the one way in, easily searched for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into_boxed_str())
    }

    /// The text itself: for a header, a connection, a comparison; never for a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this secret, in a time that does not tell how much of it is right.
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("sk-live");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "sk-live");
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("sk-live");
        assert!(secret.matches("sk-live"));
        assert!(!secret.matches("sk-liv") && !secret.matches("sk-live ") && !secret.matches(""));
    }
}
