//! What is known of whoever pays, beyond the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// How one stands with a provider: what holds for every purchase there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub region: Option<String>,
    pub licence: Option<String>,
    /// `None` where nobody counts.
    pub used: Option<Used>,
}

/// By the provider's name.
pub type Standings = BTreeMap<String, Standing>;

impl Standing {
    /// The same as a price asks for it, at this moment.
    pub(super) fn account(&self) -> Account<'_> {
        Account {
            used: self.used.as_ref().map(Used::count),
            region: self.region.as_deref(),
            licence: self.licence.as_deref(),
            repeat: None,
        }
    }
}

/// Pictures bought in a provider's current period. Clones are the same count: whoever buys counts
/// on, and every price in force knows.
#[derive(Clone, Debug, Default)]
pub struct Used(Arc<AtomicU64>);

impl Used {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins anew at `count`.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// So many more.
    pub fn add(&self, pictures: u64) {
        self.0.fetch_add(pictures, Ordering::Relaxed);
    }
}

/// Two counts are equal when they are one.
impl PartialEq for Used {
    fn eq(&self, other: &Used) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Used {}
