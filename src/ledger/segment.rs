//! The journal's files: made for us alone, locked while their process lives.
//!
//! The lock is what tells a living process from a dead one: the kernel takes it back when the
//! process ends, however it ends. [`Medium`] stands between the journal and the disk, so that a
//! disk which is full or failing can be put in its place.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ulid::Ulid;

use super::error::LedgerError;
use super::frame::SegmentHead;

/// One file of a journal, open for appending.
pub(super) trait Segment: Send + Sync {
    /// Writes at the end. Returns how many bytes went in; fewer than given is no success.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Forgets everything from byte `length` on.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Returns when what was appended is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// Where segments are made.
pub(super) trait Medium: Send + Sync {
    /// Makes an empty segment, locked.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Segment>>;
    /// Returns when the directory knows its new files for good.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a segment away.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real disk.
pub(super) struct Disk;

impl Medium for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Segment>> {
        let file = private().append(true).create_new(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Arc::new(file)),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("somebody else has locked it")),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Segment for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        loop {
            match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Where a ledger's files are. The database's own name comes first in each, so that two ledgers
/// in one directory keep apart.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) database: PathBuf,
    pub(super) dir: PathBuf,
    name: String,
}

impl Places {
    /// Makes the directory (mode 0700) and the database's file (mode 0600) where they are missing.
    pub(super) fn prepare(path: &Path) -> Result<Places, LedgerError> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            private_dirs(dir).map_err(|error| LedgerError::disk("make", dir, error))?;
        }
        // Only when it is missing: closing a file that SQLite has open in this process would
        // take SQLite's own locks away.
        match private().append(true).create_new(true).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(LedgerError::disk("make", path, error));
            }
            _ => {}
        }
        let whole = fs::canonicalize(path);
        let database = whole.map_err(|error| LedgerError::disk("find", path, error))?;
        let dir = database.parent().unwrap_or(Path::new("/")).to_owned();
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        Ok(Places {
            database,
            dir,
            name,
        })
    }

    pub(super) fn segment(&self, head: SegmentHead) -> PathBuf {
        let (owner, number) = (head.owner, head.number);
        self.dir
            .join(format!("{}.journal-{owner}-{number}.wal", self.name))
    }

    /// Whose turn it is to open the ledger.
    pub(super) fn turn(&self) -> PathBuf {
        self.dir.join(format!("{}.lock", self.name))
    }

    /// All segments there are, in order of owner and number.
    pub(super) fn segments(&self) -> Result<Vec<(SegmentHead, PathBuf)>, LedgerError> {
        let unreadable = |error| LedgerError::disk("read", &self.dir, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if let Some(head) = self.read_name(&entry.file_name().to_string_lossy()) {
                found.push((head, entry.path()));
            }
        }
        found.sort_by_key(|(head, _)| (head.owner, head.number));
        Ok(found)
    }

    fn read_name(&self, name: &str) -> Option<SegmentHead> {
        let rest = name.strip_prefix(&self.name)?.strip_prefix(".journal-")?;
        let (owner, number) = rest.strip_suffix(".wal")?.rsplit_once('-')?;
        Some(SegmentHead {
            owner: Ulid::from_string(owner).ok()?,
            number: number.parse().ok()?,
        })
    }

    /// Refuses files of ours that others may read or write, or that are not ours.
    pub(super) fn check_modes(&self) -> Result<(), LedgerError> {
        let beside = ["", "-wal", "-shm", ".lock"];
        for suffix in beside {
            check_mode(&self.dir.join(format!("{}{suffix}", self.name)))?;
        }
        for (_, path) in self.segments()? {
            check_mode(&path)?;
        }
        Ok(())
    }
}

/// Opens a file that must be there for appending and reading, without following a link.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    private().read(true).append(true).open(path)
}

/// Opens a file, made where it is missing, to be locked.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    private().append(true).create(true).open(path)
}

/// Whether `file` is the one that lies at `path` now, and was not taken away.
///
/// # Errors
/// Those of asking the system.
#[cfg(unix)]
pub(super) fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere a file that is open cannot be taken away.
#[cfg(not(unix))]
pub(super) fn lies_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits();
    options
        .mode(0o600)
        .custom_flags(i32::try_from(no_follow).unwrap_or(0));
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

#[cfg(unix)]
fn private_dirs(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn private_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::MetadataExt;
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LedgerError::disk("look at", path, error)),
    };
    if facts.mode() & 0o077 != 0 {
        return Err(LedgerError::TooOpen {
            path: path.to_owned(),
            mode: facts.mode() & 0o7777,
        });
    }
    if facts.uid() != rustix::process::geteuid().as_raw() {
        return Err(LedgerError::NotOurs(path.to_owned()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), LedgerError> {
    Ok(())
}
