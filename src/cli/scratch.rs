//! A directory for as long as a command runs: nothing in it touches the user's own state.

use std::io;
use std::path::{Path, PathBuf};

use crate::app::private_dir;

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// When it cannot be made: with its path.
    pub(super) fn new(what: &str) -> io::Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("pixtoll-{what}-{}", std::process::id()));
        private_dir(&dir)?;
        Ok(Scratch(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
