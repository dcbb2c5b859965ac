//! The CA's directory: who may read it, one writer at a time, and files that are whole or absent.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::CaError;

/// Bits that let anybody but the owner at a file.
const OTHERS: u32 = 0o077;
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;

fn failed<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> CaError + 'a {
    move |source| CaError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// The directory with its lock held; dropped, the next process may go on.
#[derive(Debug)]
pub(super) struct Locked {
    dir: PathBuf,
    _lock: File,
}

impl Locked {
    /// Makes `dir` (0700) where it is missing, and waits for its lock.
    ///
    /// # Errors
    /// [`CaError::Loose`] or [`CaError::Owner`] when others can get at it, [`CaError::Io`] when
    /// the disk says no.
    pub(super) fn open(dir: &Path) -> Result<Locked, CaError> {
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_DIR)
            .create(dir)
            .map_err(failed(dir, "make the directory"))?;
        guard_directory(dir)?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_FILE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed(&path, "open the lock"))?;
        lock.lock().map_err(failed(&path, "take the lock"))?;
        Ok(Locked {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The names of all files in the directory.
    pub(super) fn names(&self) -> Result<Vec<String>, CaError> {
        let list = || -> io::Result<Vec<String>> {
            std::fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        list().map_err(failed(&self.dir, "list the directory"))
    }

    /// Reads a secret, having made sure that it is a file of ours that nobody else can read.
    pub(super) fn read_secret(&self, name: &str) -> Result<String, CaError> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .map_err(failed(&path, "read the key"))?;
        // Looked at through the open file, so that it cannot be changed for another in between.
        let about = file.metadata().map_err(failed(&path, "read the key"))?;
        if !about.is_file() || about.nlink() != 1 {
            return Err(CaError::broken(
                &path,
                "it is not a file of its own (a link?)",
            ));
        }
        guard(&path, &about, PRIVATE_FILE)?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(failed(&path, "read the key"))?;
        Ok(text)
    }

    /// Reads a file that is no secret.
    pub(super) fn read_public(&self, name: &str) -> Result<String, CaError> {
        let path = self.path(name);
        std::fs::read_to_string(&path).map_err(failed(&path, "read the certificate"))
    }

    /// Writes a secret into a new file. Its mode is set as it is created: there is no moment at
    /// which others could open it, and what somebody planted at its place is not written to.
    pub(super) fn write_secret(&self, name: &str, text: &str) -> Result<(), CaError> {
        let path = self.path(name);
        self.remove(name)?;
        write_new(&path, text, PRIVATE_FILE).map_err(failed(&path, "write the key"))
    }

    /// Writes a file that is no secret, whole or not at all.
    pub(super) fn write_public(&self, name: &str, text: &str) -> Result<(), CaError> {
        let path = self.path(name);
        let draft = format!(".{name}.new");
        self.remove(&draft)?;
        let draft = self.path(&draft);
        write_new(&draft, text, PUBLIC_FILE)
            .and_then(|()| std::fs::set_permissions(&draft, Permissions::from_mode(PUBLIC_FILE)))
            .and_then(|()| std::fs::rename(&draft, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(failed(&path, "write the certificate"))
    }

    /// Removes a file; one that is not there is no error.
    pub(super) fn remove(&self, name: &str) -> Result<(), CaError> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&path, "remove the old file")(error))
            }
            _ => Ok(()),
        }
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Takes an empty directory of our own into use; refuses one that others have had access to.
fn guard_directory(dir: &Path) -> Result<(), CaError> {
    let about = std::fs::metadata(dir).map_err(failed(dir, "look at the directory"))?;
    if !about.is_dir() {
        return Err(CaError::broken(dir, "it is not a directory"));
    }
    let empty = || std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    let ours = about.uid() == rustix::process::geteuid().as_raw();
    if ours && about.mode() & OTHERS != 0 && empty() {
        return std::fs::set_permissions(dir, Permissions::from_mode(PRIVATE_DIR))
            .map_err(failed(dir, "close the directory to others"));
    }
    guard(dir, &about, PRIVATE_DIR)
}

fn guard(path: &Path, about: &std::fs::Metadata, wanted: u32) -> Result<(), CaError> {
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(CaError::Owner {
            path: path.to_owned(),
        });
    }
    if about.mode() & OTHERS != 0 {
        return Err(CaError::Loose {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
            wanted,
        });
    }
    Ok(())
}

/// Whether anybody but its owner can get at `path`, for files that we did not make.
pub(super) fn is_loose(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.mode() & OTHERS != 0)
}
