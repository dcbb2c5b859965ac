//! A key or token that must not be seen.

use std::fmt;

use subtle::ConstantTimeEq;

/// Text that no log, error or page may show. It prints as `***`, and its comparison takes the
/// same time whether or not it is near.
#[derive(Clone)]
pub struct Secret(std::sync::Arc<str>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into())
    }

    /// The text itself, for the one header it belongs in.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this secret.
    pub fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}
