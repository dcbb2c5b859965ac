//! Pictures in a plugin's own folder, for `call:answer`.
//!
//! A hook reads no files: it names one, and the pipeline has it read, off the threads that carry
//! connections. What was read stays in memory for as long as the file stays as it was.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::dialect::picture;
use crate::image::{Format, Image, Picture};
use crate::wire::Rope;

/// The largest picture.
const LARGEST: u64 = 16 << 20;
/// Pictures that are kept in memory, for each plugin.
const KEPT: usize = 16;

/// The pictures that a plugin may answer with.
#[derive(Debug)]
pub(super) struct Pictures {
    /// The plugin's folder; a shipped plugin has none.
    folder: Option<PathBuf>,
    kept: Mutex<HashMap<String, (Stamp, Image)>>,
}

type Stamp = (Option<SystemTime>, u64);

impl Pictures {
    pub(super) fn new(folder: Option<PathBuf>) -> Arc<Pictures> {
        Arc::new(Pictures {
            folder,
            kept: Mutex::default(),
        })
    }

    /// The picture of that name. Blocks while it is read.
    ///
    /// # Errors
    /// Why there is none, in words for people.
    pub(super) fn read(&self, name: &str) -> Result<Image, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("the picture \"{name}\": {why}");
        let folder = self.folder.as_ref();
        let folder = folder.ok_or_else(|| wrong(&"a shipped plugin has no folder"))?;
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."), // an empty path is the working directory
            false => folder,
        };
        let root = folder.canonicalize().map_err(|error| wrong(&error))?;
        let path = root.join(name).canonicalize();
        let path = path.map_err(|error| wrong(&error))?;
        if !path.starts_with(&root) {
            return Err(wrong(&"it is a link to outside the plugin's folder"));
        }
        let facts = fs::metadata(&path).map_err(|error| wrong(&error))?;
        if !facts.is_file() {
            return Err(wrong(&"it is no file"));
        }
        if facts.len() > LARGEST {
            return Err(wrong(&format!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let stamp = (facts.modified().ok(), facts.len());
        if let Some((_, image)) = self.kept.lock().get(name).filter(|kept| kept.0 == stamp) {
            return Ok(image.clone());
        }
        let bytes = fs::read(&path).map_err(|error| wrong(&error))?;
        let image = picture::image(Picture::Raw(Rope::from(bytes)), Format::Unknown);
        let image = image.filter(|image| image.format != Format::Unknown);
        let image = image.ok_or_else(|| wrong(&"it is no picture of a format that is known"))?;
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(name.to_owned(), (stamp, image.clone()));
        Ok(image)
    }
}

/// Whether a name stays in the folder that it counts from.
pub(super) fn stays_inside(name: &str) -> bool {
    let path = Path::new(name);
    let mut parts = path.components();
    !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG's first bytes, as far as its size is read from them.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x20\x08\x06\0\0\0";

    #[test]
    fn a_picture_is_read_from_its_folder_and_from_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("rules");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("box.png"), PNG).unwrap();
        fs::write(folder.join("box.txt"), "no picture").unwrap();
        fs::write(dir.path().join("secret.png"), PNG).unwrap();
        let pictures = Pictures::new(Some(folder.clone()));
        let image = pictures.read("box.png").unwrap();
        assert_eq!(
            (image.format, image.width, image.height),
            (Format::Png, Some(64), Some(32))
        );
        let mut wider = PNG.to_vec();
        wider[19] = 0x80;
        wider.push(0);
        fs::write(folder.join("box.png"), wider).unwrap();
        assert_eq!(pictures.read("box.png").unwrap().width, Some(128));
        let why = |name: &str| pictures.read(name).unwrap_err();
        assert!(why("box.txt").contains("no picture of a format"));
        assert!(why("none.png").contains("\"none.png\""));
        assert!(why(".").contains("no file"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret.png"), folder.join("link.png"))
                .unwrap();
            assert!(why("link.png").contains("outside the plugin's folder"));
        }
        assert!(
            Pictures::new(None)
                .read("box.png")
                .unwrap_err()
                .contains("shipped")
        );
        for (name, inside) in [
            ("box.png", true),
            ("a/b.png", true),
            ("", false),
            ("../secret.png", false),
            ("a/../../b", false),
            ("/etc/passwd", false),
            ("./box.png", false),
        ] {
            assert_eq!(stays_inside(name), inside, "{name}");
        }
    }
}
