//! Keys and tokens that must not be seen, and where they are looked for.

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

/// Headers that hooks and the log may see: those that hold no secret.
pub fn may_be_seen(name: &str) -> bool {
    const SECRET: [&str; 6] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "api-key",
        "x-api-key",
    ];
    !SECRET.contains(&name)
        && ![
            "key",
            "token",
            "secret",
            "credential",
            "password",
            "signature",
        ]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_may_hold_a_secret_are_not_shown() {
        for name in [
            "authorization",
            "api-key",
            "x-goog-api-key",
            "x-amz-security-token",
            "cookie",
            "openai-token",
        ] {
            assert!(!may_be_seen(name), "{name}");
        }
        for name in ["user-agent", "x-stainless-lang", "content-type"] {
            assert!(may_be_seen(name), "{name}");
        }
    }
}
