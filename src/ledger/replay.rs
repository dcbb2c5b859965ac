//! Opening a ledger that others used before: what dead processes left is taken over.
//!
//! One opener at a time has its turn, so that nobody takes a journal that is just being made for
//! a dead one. The order is: carry, commit, remove. A crash anywhere in it leaves a journal that
//! is carried again, and carrying twice changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ulid::Ulid;

use super::batch::Batch;
use super::database::{Database, ROWS};
use super::entry::{Event, Row};
use super::error::LedgerError;
use super::frame::{self, End};
use super::segment::{self, Places};

/// How long an opener waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What was found when the ledger was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Dead processes whose journals were taken over.
    pub processes: usize,
    /// Events read from their journals.
    pub events: usize,
    /// Journals whose last record was cut short. Nobody had been told of it.
    pub torn: usize,
    /// Journals that could not be read to their end.
    pub damaged: Vec<Damage>,
    /// Attempts that had no end and are now booked as unknown.
    pub unknown: Vec<Row>,
}

/// A journal that is not what was written. What stood before the damage has been carried; the
/// file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the file is kept now.
    pub file: PathBuf,
    /// The first byte that makes no sense.
    pub at: u64,
    /// How many bytes from there on were not read.
    pub bytes: u64,
}

/// Waits for the turn to open the ledger. The turn ends when the file is closed.
pub(super) async fn take_turn(places: &Places) -> Result<File, LedgerError> {
    let path = places.turn();
    let failed = |error| LedgerError::disk("lock", &path, error);
    let file = segment::open_lock(&path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() > PATIENCE => {
                return Err(LedgerError::Busy {
                    path: places.database.clone(),
                    seconds: PATIENCE.as_secs(),
                });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Takes over what dead processes left. Needs the turn.
pub(super) async fn recover(
    places: &Places,
    database: &Database,
    now: Timestamp,
) -> Result<Recovery, LedgerError> {
    let mut recovery = Recovery::default();
    let mut owners: BTreeMap<Ulid, Vec<PathBuf>> = BTreeMap::new();
    for (head, path) in places.segments()? {
        owners.entry(head.owner).or_default().push(path);
    }
    for (owner, paths) in &owners {
        let Some(left) = Left::take(paths)? else {
            continue; // It lives.
        };
        let unknown = database.inherit(*owner, &left.batches(), now).await?;
        recovery.processes += 1;
        recovery.events += left.events.len();
        recovery.torn += left.torn;
        recovery.unknown.extend(unknown);
        recovery.damaged.extend(left.clear()?);
    }
    orphans(places, database, now, &mut recovery).await?;
    Ok(recovery)
}

/// Holds whose journal is gone altogether have no one to settle them.
async fn orphans(
    places: &Places,
    database: &Database,
    now: Timestamp,
    recovery: &mut Recovery,
) -> Result<(), LedgerError> {
    for owner in database.open_owners().await? {
        let lives = places
            .segments()?
            .iter()
            .any(|(head, _)| head.owner == owner);
        if !lives {
            let unknown = database.inherit(owner, &[], now).await?;
            recovery.unknown.extend(unknown);
        }
    }
    Ok(())
}

/// The journal of one dead process, locked for as long as this lives.
struct Left {
    files: Vec<(PathBuf, File)>,
    /// By number: a record that was written twice counts once.
    events: BTreeMap<u64, Event>,
    torn: usize,
    damaged: Vec<Damage>,
}

impl Left {
    /// `None` when the process lives: one of its files is locked, or was just taken away.
    fn take(paths: &[PathBuf]) -> Result<Option<Left>, LedgerError> {
        let mut left = Left {
            files: Vec::new(),
            events: BTreeMap::new(),
            torn: 0,
            damaged: Vec::new(),
        };
        for path in paths {
            let failed = |error| LedgerError::disk("read", path, error);
            let file = match segment::open_existing(path) {
                Ok(file) => file,
                // Its process lives and has just begun another, or has closed its ledger.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            match file.try_lock() {
                Ok(()) => left.files.push((path.clone(), file)),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        left.read()?;
        Ok(Some(left))
    }

    fn read(&mut self) -> Result<(), LedgerError> {
        for (path, file) in &self.files {
            let mut bytes = Vec::new();
            let mut file = file;
            file.read_to_end(&mut bytes)
                .map_err(|error| LedgerError::disk("read", path, error))?;
            let (_, records, end) = frame::decode_segment(&bytes);
            for record in records {
                self.events.entry(record.seq).or_insert(record.event);
            }
            match end {
                End::Whole => {}
                End::Torn { .. } => self.torn += 1,
                End::Damaged { at } => self.damaged.push(Damage {
                    file: path.clone(),
                    at: at as u64,
                    bytes: (bytes.len() - at) as u64,
                }),
            }
        }
        Ok(())
    }

    fn batches(&self) -> Vec<Batch> {
        let events: Vec<&Event> = self.events.values().collect();
        events
            .chunks(ROWS)
            .map(|some| Batch::of(some.iter().copied()))
            .collect()
    }

    /// Takes the files away, except those that hold what could not be read.
    fn clear(mut self) -> Result<Vec<Damage>, LedgerError> {
        for (path, _) in &self.files {
            match self.damaged.iter_mut().find(|damage| damage.file == *path) {
                Some(damage) => damage.file = keep_aside(path)?,
                None => {
                    fs::remove_file(path)
                        .map_err(|error| LedgerError::disk("remove", path, error))?;
                }
            }
        }
        for damage in &self.damaged {
            tracing::error!(
                file = %damage.file.display(), at = damage.at, bytes = damage.bytes,
                "a journal of the ledger is damaged: what stood before the damage is booked, the rest could not be read; hold the provider's invoice against the ledger"
            );
        }
        Ok(self.damaged)
    }
}

/// Gives a damaged journal a name under which nobody replays it.
fn keep_aside(path: &Path) -> Result<PathBuf, LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let aside = PathBuf::from(name);
    fs::rename(path, &aside).map_err(|error| LedgerError::disk("set aside", path, error))?;
    Ok(aside)
}
