//! What a proxy keeps in its state directory besides the ledger: a key of its own, and word of where it
//! listens.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The key of credential digests: made once, kept beside the ledger, the same for every process
/// on this state directory.
pub(super) fn credential_key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join("credential.key");
    if let Ok(bytes) = fs::read(&path)
        && let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice())
    {
        return Ok(key);
    }
    let mut key = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut key)
        .map_err(|_| io::Error::other("the system gave no random bytes"))?;
    let fresh = dir.join(format!("credential.key.{}", std::process::id()));
    write_private(&fresh, &key)?;
    // A link fails where the name is taken: of two processes that start at once one wins.
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh)?;
    match linked {
        Ok(()) => Ok(key),
        Err(_) => fs::read(&path)?
            .try_into()
            .map_err(|_| io::Error::other(format!("{} is damaged: remove it", path.display()))),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
}

/// A file that tells other commands where a proxy of this state directory listens. It is locked
/// as long as the proxy lives, so a stale one is known by its lock.
#[derive(Debug)]
pub struct Presence {
    _file: fs::File,
    path: PathBuf,
}

impl Presence {
    fn path(dir: &Path) -> PathBuf {
        dir.join("proxy.address")
    }

    /// `None` where another proxy is already announced.
    pub(super) fn announce(dir: &Path, address: SocketAddr) -> Option<Presence> {
        use std::io::Write as _;
        let path = Presence::path(dir);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .ok()?;
        file.try_lock().ok()?;
        file.set_len(0).ok()?;
        writeln!(file, "{address}").ok()?;
        Some(Presence { _file: file, path })
    }

    /// Where a running proxy of this state directory listens.
    pub fn find(dir: &Path) -> Option<SocketAddr> {
        let path = Presence::path(dir);
        let file = fs::File::open(&path).ok()?;
        match file.try_lock_shared() {
            Ok(()) => None, // nobody holds it: whoever wrote it is gone
            Err(_) => fs::read_to_string(&path).ok()?.trim().parse().ok(),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
