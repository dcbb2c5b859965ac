//! Reads the lines of a log as they come, across its rotations.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::record::rotated;

/// The longest line that is read; one that is longer is no line of ours.
const LONGEST: u64 = 1 << 20;

/// A place in a log: what stands before it has been read.
pub(super) struct Follower {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    file: BufReader<File>,
    inode: (u64, u64),
    /// How far it was read.
    at: u64,
    /// A line whose end has not been written yet.
    begun: Vec<u8>,
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        let file = File::open(path)?;
        let facts = file.metadata()?;
        Ok(Open {
            file: BufReader::new(file),
            inode: (facts.dev(), facts.ino()),
            at: 0,
            begun: Vec::new(),
        })
    }

    /// Every whole line from here to the end.
    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.file.get_ref().metadata()?.len() < self.at {
            // Somebody emptied it.
            self.at = self.file.seek(SeekFrom::Start(0))?;
            self.begun.clear();
        }
        loop {
            let room = LONGEST.saturating_sub(self.begun.len() as u64).max(1);
            let count = (&mut self.file)
                .take(room)
                .read_until(b'\n', &mut self.begun)?;
            self.at += count as u64;
            if count == 0 {
                return Ok(());
            }
            if self.begun.ends_with(b"\n") || self.begun.len() as u64 >= LONGEST {
                each(trimmed(&self.begun));
                self.begun.clear();
            }
        }
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

impl Follower {
    /// Opens the log at its beginning; with it the files put away before it, oldest first. A log
    /// that does not exist yet is waited for.
    pub(super) fn start(path: &Path) -> io::Result<(Vec<PathBuf>, Follower)> {
        // Opened before the others are listed: a rotation in between is seen by its inode.
        let open = match Open::new(path) {
            Ok(open) => Some(open),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut older = match rotated(path) {
            Ok(older) => older,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if let Some(open) = &open {
            older.retain(|file| inode(file) != Some(open.inode));
        }
        let path = path.to_owned();
        Ok((older, Follower { path, open }))
    }

    /// Whether there is a file at all.
    pub(super) fn exists(&self) -> bool {
        self.open.is_some()
    }

    /// Hands over every line that has come since.
    pub(super) fn poll(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.drain(each)?;
        }
        let now = match fs::metadata(&self.path) {
            Ok(facts) => (facts.dev(), facts.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.open.as_ref().is_some_and(|open| open.inode == now) {
            return Ok(());
        }
        self.catch_up(each)
    }

    /// The file was put away: what was still written to it, what was put away since, then the
    /// file that is written now.
    fn catch_up(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if let Some(mut old) = self.open.take() {
            old.drain(each)?;
            let mut later = rotated(&self.path)?.into_iter();
            if later.any(|file| inode(&file) == Some(old.inode)) {
                for file in later {
                    Open::new(&file)?.drain(each)?;
                }
            }
        }
        let mut open = Open::new(&self.path)?;
        open.drain(each)?;
        self.open = Some(open);
        Ok(())
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

/// Every line of a file that was put away. One that is deleted meanwhile has none.
pub(super) fn read_old(path: &Path, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    match Open::new(path) {
        Ok(mut open) => open.drain(each),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn poll(follower: &mut Follower) -> Vec<String> {
        let mut lines = Vec::new();
        follower
            .poll(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned()))
            .unwrap();
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_line_is_shown_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        append(&path, "one\ntw");
        let (older, mut follower) = Follower::start(&path).unwrap();
        assert!(older.is_empty());
        assert_eq!(poll(&mut follower), ["one"]);
        append(&path, "o\nthree\n");
        assert_eq!(poll(&mut follower), ["two", "three"]);
        assert_eq!(poll(&mut follower), Vec::<String>::new());
    }

    #[test]
    fn no_line_is_missed_when_the_log_is_put_away_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let old = |n: u32| dir.path().join(format!("decisions-2026-11-22.{n}.jsonl"));
        append(&old(9), "before\n");
        append(&path, "one\n");
        let (older, mut follower) = Follower::start(&path).unwrap();
        assert_eq!(older, [old(9)]);
        assert_eq!(poll(&mut follower), ["one"]);
        append(&path, "two\n");
        fs::rename(&path, old(10)).unwrap();
        append(&path, "three\n");
        fs::rename(&path, old(11)).unwrap();
        append(&path, "four\n");
        assert_eq!(poll(&mut follower), ["two", "three", "four"]);
    }

    #[test]
    fn a_log_that_comes_later_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let (_, mut follower) = Follower::start(&path).unwrap();
        assert!(!follower.exists());
        assert_eq!(poll(&mut follower), Vec::<String>::new());
        append(&path, "one\n");
        assert_eq!(poll(&mut follower), ["one"]);
    }

    #[test]
    fn a_log_that_was_emptied_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        append(&path, "a long first line\n");
        let (_, mut follower) = Follower::start(&path).unwrap();
        assert_eq!(poll(&mut follower), ["a long first line"]);
        File::create(&path).unwrap();
        append(&path, "new\n");
        assert_eq!(poll(&mut follower), ["new"]);
    }
}
