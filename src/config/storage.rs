//! What is kept, where, and for how long: the cache, the ledger, the decision log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw::{Field, Raw, RawCache, RawRotate};
use super::read::{Reader, readable};
use crate::action::CacheScope;
use crate::image::words;
use crate::secret::Secret;

/// The cache's bounds and habits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes in memory; 0: keep nothing.
    pub memory: u64,
    pub ttl: Duration,
    /// For a request without a seed, which may want another picture sooner.
    pub unseeded_ttl: Duration,
    /// So many different pictures of one unseeded request before the first repeats; at least 1.
    pub variants: u32,
    /// User agents, `*` standing for anything, that ask for n pictures by n equal calls at once.
    pub fan_out: Vec<String>,
    pub scope: CacheScope,
    /// Bytes on disk; `None`: no disk tier.
    pub disk: Option<u64>,
    /// URL of a Redis or Valkey that several instances share.
    pub shared: Option<Secret>,
}

impl Default for CacheSettings {
    fn default() -> CacheSettings {
        CacheSettings {
            memory: 512 << 20,
            ttl: Duration::from_secs(3600),
            unseeded_ttl: Duration::from_secs(600),
            variants: 1,
            // A word of its own: Google's `google-genai-sdk/…` ends alike and asks for what it says.
            fan_out: ["ai-sdk/*", "* ai-sdk/*"].map(str::to_owned).to_vec(),
            scope: CacheScope::Credential,
            disk: None,
            shared: None,
        }
    }
}

/// The ledger's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ledger {
    Sqlite(PathBuf),
    /// The URL, which may hold a password.
    Postgres(Secret),
}

words! {
    /// What the journal survives before a call goes on.
    LedgerSync {
        /// The death of the process.
        Crash = "crash",
        /// The loss of power: a call waits for the disk.
        Power = "power",
    }
}

words! {
    /// What happens to calls while the ledger cannot be written.
    LedgerDown {
        /// Refused where a budget guards them, else passed.
        Auto = "auto",
        /// Passed, kept in memory, and said.
        Open = "open",
        /// Refused.
        Closed = "closed",
    }
}

words! {
    /// What the decision log keeps of a prompt.
    LogPrompts {
        /// The first 80 characters.
        Head = "head",
        Hash = "hash",
        Text = "text",
        Off = "off",
    }
}

readable!(CacheScope, LedgerSync, LedgerDown, LogPrompts);

/// When the decision log begins a new file; a new day always begins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotate {
    /// Bytes; 0: by day alone.
    pub size: u64,
    /// So many finished files are kept; at least 1.
    pub keep: u32,
}

impl Default for LogRotate {
    fn default() -> LogRotate {
        LogRotate {
            size: 64 << 20,
            keep: 30,
        }
    }
}

/// Reads `cache`.
pub(super) fn cache(field: &Field<'_>, reader: &mut Reader<'_>) -> CacheSettings {
    let raw = RawCache::read(field, &mut reader.problems);
    let mut cache = CacheSettings::default();
    let put = |slot: &mut Duration, field: &Option<Field<'_>>, reader: &mut Reader<'_>| {
        if let Some(field) = field {
            *slot = reader.duration(field, "10m").unwrap_or(*slot);
        }
    };
    put(&mut cache.ttl, &raw.ttl, reader);
    // A cache that forgets sooner forgets the unseeded no later.
    cache.unseeded_ttl = cache.unseeded_ttl.min(cache.ttl);
    put(&mut cache.unseeded_ttl, &raw.unseeded_ttl, reader);
    if let Some(field) = &raw.memory {
        cache.memory = reader.bytes(field, "512MiB").unwrap_or(cache.memory);
    }
    if let Some(field) = &raw.disk {
        cache.disk = reader.bytes(field, "1GiB").filter(|bytes| *bytes > 0);
    }
    if let Some(field) = &raw.variants {
        cache.variants = reader.count(field, 100).unwrap_or(cache.variants);
    }
    if let Some(field) = &raw.fan_out {
        let items = reader.items(field, "[\"ai-sdk/*\"]");
        cache.fan_out = items
            .iter()
            .filter_map(|item| reader.text(item, "[\"ai-sdk/*\"]"))
            .collect();
    }
    if let Some(field) = &raw.scope {
        cache.scope = reader.word(field).unwrap_or(cache.scope);
    }
    if let Some(field) = &raw.shared {
        cache.shared = reader.hidden(field, "redis://127.0.0.1:6379", |text| {
            match text.starts_with("redis://") || text.starts_with("rediss://") {
                true => Ok(Secret::new(text)),
                false => Err("begins with neither redis:// nor rediss://".to_owned()),
            }
        });
    }
    cache
}

/// Of requests and answers under way: some hundred large ones at once.
pub(super) const IN_FLIGHT: u64 = 512 << 20;

/// Reads `in_flight`.
pub(super) fn in_flight(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<u64> {
    let bytes = reader.bytes(field, "512MiB")?;
    if bytes < crate::room::LEAST {
        let why = "there would be no room for one picture".to_owned();
        reader.bad(field, why, "16MiB is the least".to_owned());
        return None;
    }
    Some(bytes)
}

/// Reads `ledger`; by default it lies in the state directory.
pub(super) fn ledger(field: Option<&Field<'_>>, state: &Path, reader: &mut Reader<'_>) -> Ledger {
    let default = Ledger::Sqlite(state.join("ledger.db"));
    let Some(field) = field else {
        return default;
    };
    let around = reader.around;
    let place = field.place();
    let read = reader.hidden(field, "sqlite:~/pixtoll/ledger.db", |text| {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Ledger::Postgres(Secret::new(text)));
        }
        let path = text
            .strip_prefix("sqlite:")
            .ok_or("begins with neither sqlite: nor postgres://")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => Err("names no file".to_owned()),
            path => around.path(path, place).map(Ledger::Sqlite),
        }
    });
    read.unwrap_or(default)
}

/// Reads `log`; by default it lies in the state directory. `None`: none is kept.
pub(super) fn log(
    field: Option<&Field<'_>>,
    state: &Path,
    reader: &mut Reader<'_>,
) -> Option<PathBuf> {
    let default = Some(state.join("decisions.jsonl"));
    let Some(field) = field else {
        return default;
    };
    let around = reader.around;
    let place = field.place();
    let read = reader.parsed(field, "~/pixtoll/decisions.jsonl", |text| match text {
        "" => Err("is empty".to_owned()),
        "off" => Ok(None),
        text => around.path(text, place).map(Some),
    });
    read.unwrap_or(default)
}

/// Reads `log_rotate`.
pub(super) fn log_rotate(field: &Field<'_>, reader: &mut Reader<'_>) -> LogRotate {
    let raw = RawRotate::read(field, &mut reader.problems);
    let mut rotate = LogRotate::default();
    if let Some(field) = &raw.size {
        rotate.size = reader.bytes(field, "64MiB").unwrap_or(rotate.size);
    }
    if let Some(field) = &raw.keep {
        rotate.keep = reader.count(field, 100_000).unwrap_or(rotate.keep);
    }
    rotate
}

/// Where pixtoll keeps what must outlive it.
pub(super) fn state_dir(raw: &Raw<'_>, reader: &mut Reader<'_>) -> Option<PathBuf> {
    if let Some(field) = &raw.state_dir {
        return reader.path(field, "~/.local/state/pixtoll");
    }
    super::find::state_dir(reader.around.env)
}
