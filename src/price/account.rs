//! What is known of whoever pays, beyond the request.

/// Facts of an account that some prices depend on. Nothing is known by default, and a quote then
/// spans what it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account<'a> {
    /// Pictures bought in the provider's current period.
    pub used: Option<u64>,
    /// The region that serves the call, where it is not the provider's usual one.
    pub region: Option<&'a str>,
    /// The licence that is wanted, where it is not the one that comes with the picture.
    pub licence: Option<&'a str>,
    /// Whether the provider itself has answered this very request before.
    pub repeat: Option<bool>,
}
