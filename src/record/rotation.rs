//! The files of the log: the one that is written, and those that came before it.
//!
//! Several processes may write one log. Each write of whole lines holds the lock file shared, each
//! rotation holds it alone, so no line goes into a file that is being put away or deleted. Where
//! a file system has no locks, writes go on without.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

use super::lines::Lines;

/// When a log file is put away, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Put away before it would grow beyond so many bytes.
    pub size: u64,
    /// Put away when the day (UTC) is over.
    pub daily: bool,
    /// So many files are kept beside the one that is written; the oldest go first.
    pub keep: usize,
}

impl Default for Rotation {
    /// 64 MiB, daily, 30 files.
    fn default() -> Rotation {
        Rotation {
            size: 64 << 20,
            daily: true,
            keep: 30,
        }
    }
}

/// The files put away beside `path`, oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && let Some(place) = place(path, name)
        {
            found.push((place, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `decisions` and `.jsonl`.
fn halves(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let ending = match path.extension() {
        Some(ending) => format!(".{}", ending.to_string_lossy()),
        None => String::new(),
    };
    (text(path.file_stem()), ending)
}

/// Day and number of a file that was put away; `None` for any other name.
fn place(path: &Path, name: &str) -> Option<(Date, u32)> {
    let (stem, ending) = halves(path);
    let middle = name
        .strip_prefix(&stem)?
        .strip_prefix('-')?
        .strip_suffix(&ending)?;
    let (day, number) = middle.split_once('.')?;
    Some((day.parse().ok()?, number.parse().ok()?))
}

fn day_of(moment: SystemTime) -> Date {
    Timestamp::try_from(moment)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::UTC)
        .date()
}

/// The file that is written, and how to change to the next.
#[derive(Debug)]
pub(super) struct Sheet {
    path: PathBuf,
    file: File,
    /// `None` for a pipe or a device: it is written and never put away.
    lock: Option<File>,
    rotation: Rotation,
    /// A line was cut off by a full disk: the next one begins on a line of its own.
    torn: bool,
}

/// Most bytes of one write.
const CHUNK: u64 = 1 << 20;

impl Sheet {
    /// Opens the log for appending; makes it, and its directory, for its owner alone.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Sheet> {
        let file = open(path)?;
        let lock = if file.metadata()?.is_file() {
            Some(open(&lock_path(path))?)
        } else {
            None
        };
        let torn = lock.is_some() && ends_torn(&file)?;
        Ok(Sheet {
            path: path.to_owned(),
            file,
            lock,
            rotation,
            torn,
        })
    }

    /// Writes as many of `lines`, from the one at `from` on, as one write takes; says how many are
    /// on file now.
    pub(super) fn append(&mut self, lines: &Lines, from: usize) -> io::Result<usize> {
        let Some(lock) = self.lock.as_ref().map(File::try_clone).transpose()? else {
            return self.write(lines, from, u64::MAX);
        };
        loop {
            shared(&lock);
            let wrote = self.append_locked(lines, from);
            free(&lock);
            match wrote {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => self.rotate(&lock, first(lines, from))?,
                Err(error) => return Err(error),
            }
        }
    }

    /// `None` when the file has to be put away first.
    fn append_locked(&mut self, lines: &Lines, from: usize) -> io::Result<Option<usize>> {
        self.follow()?;
        match self.room(first(lines, from))? {
            Some(room) => self.write(lines, from, room).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the path again when its file was put away or deleted by somebody else.
    fn follow(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let same = match fs::metadata(&self.path) {
            Ok(theirs) => (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !same {
            self.file = open(&self.path)?;
            self.torn = ends_torn(&self.file)?;
        }
        Ok(())
    }

    /// How many bytes the file may still take; `None` when it has to be put away before a line of
    /// `first` bytes. An empty file takes a line of any length.
    fn room(&self, first: u64) -> io::Result<Option<u64>> {
        let facts = self.file.metadata()?;
        if facts.len() == 0 {
            return Ok(Some(self.rotation.size.max(first)));
        }
        let over = self.rotation.daily && day_of(facts.modified()?) < day_of(SystemTime::now());
        let room = self.rotation.size.saturating_sub(facts.len());
        Ok((!over && room >= first).then_some(room))
    }

    fn write(&mut self, lines: &Lines, from: usize, room: u64) -> io::Result<usize> {
        let (chunk, count) = lines.chunk(from, room.min(CHUNK));
        // Until the write has succeeded nobody knows where it stopped.
        if std::mem::replace(&mut self.torn, self.lock.is_some()) {
            self.file.write_all(format!("\n{chunk}").as_bytes())?;
        } else {
            self.file.write_all(chunk.as_bytes())?;
        }
        self.torn = false;
        Ok(count)
    }

    fn rotate(&mut self, lock: &File, first: u64) -> io::Result<()> {
        alone(lock);
        let rotated = self.rotate_locked(first);
        free(lock);
        rotated
    }

    fn rotate_locked(&mut self, first: u64) -> io::Result<()> {
        // Another process may have been first.
        self.follow()?;
        if self.room(first)?.is_some() {
            return Ok(());
        }
        fs::rename(&self.path, self.next_name()?)?;
        self.file = open(&self.path)?;
        self.torn = false;
        self.prune()
    }

    fn next_name(&self) -> io::Result<PathBuf> {
        let day = day_of(self.file.metadata()?.modified()?);
        let taken = rotated(&self.path)?
            .iter()
            .filter_map(|file| place(&self.path, file.file_name()?.to_str()?))
            .filter(|(other, _)| *other == day)
            .map(|(_, number)| number)
            .max()
            .unwrap_or(0);
        let (stem, ending) = halves(&self.path);
        let name = format!("{stem}-{day}.{}{ending}", taken.saturating_add(1));
        Ok(directory(&self.path).join(name))
    }

    fn prune(&self) -> io::Result<()> {
        let old = rotated(&self.path)?;
        for file in old
            .iter()
            .take(old.len().saturating_sub(self.rotation.keep))
        {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How many bytes the next line takes.
fn first(lines: &Lines, from: usize) -> u64 {
    lines.chunk(from, 0).0.len() as u64
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    let mut directories = fs::DirBuilder::new();
    directories.recursive(true).mode(0o700);
    directories.create(directory(path))?;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    // Reading tells whether the last line is whole; a pipe or a device may not allow it.
    options
        .clone()
        .read(true)
        .open(path)
        .or_else(|_| options.open(path))
}

/// Whether the last line has no end: its process was killed, or its disk full.
fn ends_torn(mut file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    let read = file
        .seek(SeekFrom::End(-1))
        .and_then(|_| file.read_exact(&mut last));
    // A file that may be written and not read: a line too many does no harm.
    Ok(read.is_err() || last != [b'\n'])
}

fn shared(lock: &File) {
    if let Err(error) = lock.lock_shared() {
        tracing::debug!(%error, "the log is written without a lock");
    }
}

fn alone(lock: &File) {
    if let Err(error) = lock.lock() {
        tracing::debug!(%error, "the log is rotated without a lock");
    }
}

fn free(lock: &File) {
    if let Err(error) = lock.unlock() {
        tracing::debug!(%error, "the log's lock was not held");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lines(of: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for file in rotated(of).unwrap().iter().chain([&of.to_owned()]) {
            let text = fs::read_to_string(file).unwrap();
            all.extend(text.lines().map(str::to_owned));
        }
        all
    }

    fn small(size: u64, keep: usize) -> Rotation {
        Rotation {
            size,
            daily: false,
            keep,
        }
    }

    fn fill(sheet: &mut Sheet, lines: &[String]) {
        let lines = Lines::from_iter(lines.iter().map(String::as_str));
        let mut written = 0;
        while written < lines.count() {
            written += sheet.append(&lines, written).unwrap();
        }
    }

    fn put(sheet: &mut Sheet, line: &str) {
        fill(sheet, &[line.to_owned()]);
    }

    fn numbered(who: &str, count: u32) -> Vec<String> {
        (0..count).map(|i| format!("{who} {i:05}\n")).collect()
    }

    #[test]
    fn the_log_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/decisions.jsonl");
        let mut sheet = Sheet::open(&path, small(1 << 20, 3)).unwrap();
        put(&mut sheet, "a\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.mode() & 0o777, 0o700);
    }

    #[test]
    fn a_full_file_is_put_away_and_no_line_is_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let mut sheet = Sheet::open(&path, small(100, 1000)).unwrap();
        let all = numbered("a", 200);
        fill(&mut sheet, &all);
        for file in rotated(&path).unwrap() {
            assert!(fs::metadata(file).unwrap().len() <= 100);
        }
        let expected: Vec<&str> = all.iter().map(|line| line.trim_end()).collect();
        assert_eq!(lines(&path), expected);
        let today = day_of(SystemTime::now());
        assert_eq!(
            rotated(&path).unwrap()[0].file_name().unwrap().to_str(),
            Some(format!("decisions-{today}.1.jsonl").as_str())
        );
    }

    #[test]
    fn the_oldest_files_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let mut sheet = Sheet::open(&path, small(16, 2)).unwrap();
        fill(&mut sheet, &numbered("a", 30));
        assert_eq!(rotated(&path).unwrap().len(), 2);
        let expected = [
            "a 00024", "a 00025", "a 00026", "a 00027", "a 00028", "a 00029",
        ];
        assert_eq!(lines(&path), expected);
    }

    #[test]
    fn yesterdays_file_is_put_away_under_yesterdays_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        fs::write(&path, "old\n").unwrap();
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        File::open(&path).unwrap().set_modified(yesterday).unwrap();
        let mut sheet = Sheet::open(&path, Rotation::default()).unwrap();
        put(&mut sheet, "new\n");
        let old = dir
            .path()
            .join(format!("decisions-{}.1.jsonl", day_of(yesterday)));
        assert_eq!(fs::read_to_string(old).unwrap(), "old\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        fs::write(&path, "{\"v\":1,\"ty").unwrap();
        let mut sheet = Sheet::open(&path, Rotation::default()).unwrap();
        put(&mut sheet, "whole\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"v\":1,\"ty\nwhole\n");
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let mut sheet = Sheet::open(&path, Rotation::default()).unwrap();
        put(&mut sheet, "one\n");
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        put(&mut sheet, "two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn writers_that_rotate_at_once_lose_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        std::thread::scope(|scope| {
            for who in ["a", "b", "c", "d"] {
                let path = &path;
                scope.spawn(move || {
                    let mut sheet = Sheet::open(path, small(300, 10_000)).unwrap();
                    for line in numbered(who, 300) {
                        fill(&mut sheet, &[line]);
                    }
                });
            }
        });
        let mut found = lines(&path);
        found.sort();
        let mut expected: Vec<String> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|who| numbered(who, 300))
            .map(|line| line.trim_end().to_owned())
            .collect();
        expected.sort();
        assert_eq!(found, expected);
    }
}
