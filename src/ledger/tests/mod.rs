//! The ledger under use, faults and crashes.

mod budgets;
mod crash;
mod faults;
mod frames;
mod rounds;
mod use_;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::bill::ChargeFrom;
use crate::image::{Billed, ModelId, Tier};
use crate::money::Usd;

/// A ledger's place in a directory that goes when the test ends.
struct Place {
    _dir: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state").join("ledger.db");
    Place { _dir: dir, path }
}

impl Place {
    async fn open(&self) -> Ledger {
        Ledger::open(&self.path, Sync::Crash).await.unwrap()
    }

    /// Names of the journals there are.
    fn journals(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path.parent().unwrap()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".journal-"))
            .collect()
    }
}

fn hold(attempt: u32, nano: i64) -> Hold {
    Hold {
        call: new_owner(),
        attempt,
        at: Timestamp::from_microsecond(1_790_000_000_000_000).unwrap(),
        app: "catalog".into(),
        model: ModelId::new("stability", "sd3.5-medium"),
        tier: Tier::Standard,
        credential: Some("k:12ab".into()),
        user: None,
        tags: Some("icons,night".into()),
        held: Some(Usd::from_nano(nano)),
        quote: Some(Usd::from_nano(nano - 1)),
        claims: Arc::default(),
    }
}

fn charged(nano: i64) -> Settlement {
    Settlement {
        at: Timestamp::from_microsecond(1_790_000_001_000_000).unwrap(),
        outcome: Outcome::Ok,
        billed: Billed::Yes,
        charge: Some(Usd::from_nano(nano)),
        from: ChargeFrom::Reported,
        images: 1,
        request_id: Some("req-1".to_owned()),
    }
}

/// The process is gone: its tasks and locks with it, its journal stays.
///
/// Returns when the locks are free, which is when both tasks have ended.
async fn die(ledger: Ledger) {
    let mut progress = ledger.shared().progress.subscribe();
    drop(ledger);
    let _ = progress.wait_for(|progress| progress.ended).await;
    while progress.has_changed().is_ok() {
        tokio::task::yield_now().await;
    }
}

fn all(unknown: i64, spent: i64, attempts: u64) -> Totals {
    Totals {
        spent: Usd::from_nano(spent),
        unknown: Usd::from_nano(unknown),
        calls: attempts,
        attempts,
        ..Totals::default()
    }
}

fn shared(text: &str) -> Arc<str> {
    text.into()
}
