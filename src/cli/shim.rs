//! Shims: small files of ours that runtimes load at their start, for clients that read no proxy
//! variables.
//!
//! They are asked for (`--shim`), since they change how a library behaves within the app: Python's
//! aiohttp and clients with a transport of their own, and Node before it could read the variables.
//! Python finds its file by `PYTHONPATH`, Node by `NODE_OPTIONS`; what the user has in these stays.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::app::private_dir;

/// Imported by Python at its start, by this name.
const PYTHON: &str = include_str!("shim/sitecustomize.py");
const NODE: &str = include_str!("shim/preload.cjs");

/// Where the shims lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shims {
    /// The folder for `PYTHONPATH`.
    pub python: PathBuf,
    /// The file for `--require`.
    pub node: PathBuf,
}

/// Writes the shims below `state_dir`, where only this user can, unless they are there already.
///
/// # Errors
/// When they cannot be written: with the path.
pub fn write(state_dir: &Path) -> io::Result<Shims> {
    let dir = state_dir.join("shim");
    let shims = Shims {
        python: dir.join("python"),
        node: dir.join("node").join("preload.cjs"),
    };
    put(&shims.python.join("sitecustomize.py"), PYTHON)?;
    put(&shims.node, NODE)?;
    Ok(shims)
}

/// Renamed into place: a runtime that starts meanwhile loads the old file or the new one.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| {
        let text = format!("the shim {} cannot be written: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(path);
    private_dir(dir)?;
    let fresh = dir.join(format!(".{}", std::process::id()));
    fs::write(&fresh, text).map_err(named)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(named)?;
    fs::rename(&fresh, path).map_err(named)
}

impl Shims {
    /// `PYTHONPATH` with ours in front: only the first sitecustomize is imported, and ours runs
    /// the next.
    pub(super) fn python_path(&self, before: Option<&str>) -> String {
        let ours = self.python.display();
        before.map_or_else(|| ours.to_string(), |rest| format!("{ours}:{rest}"))
    }

    /// `NODE_OPTIONS` with ours in front, quoted as Node reads it.
    pub(super) fn node_options(&self, before: Option<&str>) -> String {
        let path = self.node.display().to_string();
        let quoted = path.replace('\\', r"\\").replace('"', "\\\"");
        let ours = format!("--require \"{quoted}\"");
        before.map_or_else(|| ours.clone(), |rest| format!("{ours} {rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_are_written_once_and_for_this_user_alone() {
        let state = tempfile::TempDir::new().unwrap();
        let dir = state.path().join("a \"b\" c");
        let shims = write(&dir).unwrap();
        let file = shims.python.join("sitecustomize.py");
        let made = fs::metadata(&file).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        let folder = fs::metadata(&shims.python).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        fs::write(&file, "an older release's").unwrap();
        assert_eq!(write(&dir).unwrap(), shims);
        assert_eq!(fs::read_to_string(&file).unwrap(), PYTHON);
    }

    #[test]
    fn what_the_user_has_stays_behind_ours() {
        let shims = Shims {
            python: "/s/python".into(),
            node: "/s/a b/preload.cjs".into(),
        };
        assert_eq!(shims.python_path(None), "/s/python");
        assert_eq!(shims.python_path(Some("/mine")), "/s/python:/mine");
        assert_eq!(
            shims.node_options(Some("--no-warnings")),
            "--require \"/s/a b/preload.cjs\" --no-warnings"
        );
    }
}
