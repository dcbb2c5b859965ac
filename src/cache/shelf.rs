//! Purchases that were made ahead, on disk until they are asked for.
//!
//! A batch is bought by one command and asked for by another process, hours later: the store in
//! memory is of no use to it. Its answers lie here instead, a file each, named by the hash of the
//! key, as the provider gave them; whoever misses in memory looks here, so a proxy that runs finds
//! an answer the moment it is laid down and one that starts later finds it too. A look that finds
//! nothing is one failed `open`.
//!
//! The files hold prompts and pictures, so they are for their owner alone. They go when their time is
//! over, and the oldest go when there are more bytes than allowed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Entry, KeptHead, Key, Original, Shape};
use crate::dialect::{self, Next};
use crate::image::{ImageRequest, ImageResponse, ModelId, Operation, Tier};
use crate::money::Usd;
use crate::wire::{Reply, ReplyHead, RequestHead};

/// The layout of a file.
const VERSION: u8 = 1;
/// A head is longer than this in no file of ours.
const LONGEST_HEAD: usize = 1 << 20;

/// Answers on disk. Clones are the same shelf.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: Arc<Path>,
    /// Bytes that all answers may take.
    most: u64,
    bare: Arc<Bare>,
}

/// That there was no directory when somebody last looked, and when that was. Most people never buy
/// ahead, and each of their calls would ask the disk for nothing.
#[derive(Debug)]
struct Bare {
    since: Instant,
    /// Milliseconds after `since`, plus one; 0: there is one.
    seen: AtomicU64,
}

/// So long the directory is taken for missing. A command that has laid an answer down takes longer to end.
const BARE: u64 = 10;

/// A request in its provider's words: what tells how its answer is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worded {
    pub provider: String,
    pub dialect: String,
    pub operation: Operation,
    /// Path and query.
    pub target: String,
    /// JSON.
    pub body: String,
}

impl Worded {
    /// The request as its dialect reads it; `None` when it does not any more.
    pub fn read(&self) -> Option<ImageRequest> {
        let dialect = dialect::by_name(&self.dialect)?;
        let head = self.head()?;
        let body = Bytes::from(self.body.clone());
        dialect
            .read_request(&self.provider, self.operation, &head, &body)
            .ok()
    }

    /// The head that such a request comes with; it names no host and no credential.
    pub fn head(&self) -> Option<RequestHead> {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Some(RequestHead {
            method: Method::POST,
            host: String::new(),
            target: self.target.parse().ok()?,
            headers,
        })
    }
}

/// A purchase as it is laid down.
#[derive(Clone, Debug)]
pub struct Laid {
    pub key: Key,
    pub sent: Worded,
    pub model: ModelId,
    pub reply: Reply,
    pub cost: Option<Usd>,
    /// Id of the decision that bought it.
    pub bought_by: String,
    pub bought_at: Timestamp,
    /// So long it may be sold again.
    pub keep: Duration,
}

/// The first line of a file; the answer's body follows it.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u8,
    /// The canonical text, in base64.
    key: String,
    sent: Worded,
    model: ModelId,
    status: u16,
    headers: Vec<(String, String)>,
    /// Nano-dollars.
    cost: Option<i64>,
    bought_by: String,
    /// Milliseconds since 1970.
    bought_at: i64,
    expires_at: i64,
}

/// What was cleared away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Their time was over.
    pub expired: u64,
    /// Their time was not, and there was no room.
    pub crowded: u64,
}

impl Bare {
    fn now(&self) -> u64 {
        let passed = self.since.elapsed().as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX - BARE - 1)
    }

    fn lately(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        seen > 0 && self.now() < seen + BARE
    }

    fn note(&self) {
        self.seen.store(self.now() + 1, Ordering::Relaxed);
    }
}

impl Shelf {
    /// A shelf in the directory `dir`, of at most `most` bytes.
    pub fn new(dir: PathBuf, most: u64) -> Shelf {
        Shelf {
            dir: dir.into(),
            most,
            bare: Arc::new(Bare {
                since: Instant::now(),
                seen: AtomicU64::new(0),
            }),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{:032x}", key.hash()))
    }

    /// Lays an answer down, in place of an older one. It is there whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn lay(&self, laid: &Laid) -> io::Result<()> {
        private_dir(&self.dir)?;
        self.bare.seen.store(0, Ordering::Relaxed);
        let headers = laid.reply.head.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        let keep = i64::try_from(laid.keep.as_millis()).unwrap_or(i64::MAX);
        let head = Head {
            v: VERSION,
            key: BASE64_STANDARD.encode(laid.key.canonical()),
            sent: laid.sent.clone(),
            model: laid.model.clone(),
            status: laid.reply.head.status.as_u16(),
            headers: headers.collect(),
            cost: laid.cost.map(Usd::nano),
            bought_by: laid.bought_by.clone(),
            bought_at: laid.bought_at.as_millisecond(),
            expires_at: laid.bought_at.as_millisecond().saturating_add(keep),
        };
        let path = self.path(&laid.key);
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = private_file(&fresh)?;
        let written = serde_json::to_writer(&mut file, &head)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| {
                let mut pieces = laid.reply.body.pieces().iter();
                pieces.try_for_each(|piece| file.write_all(piece))
            })
            .and_then(|()| file.sync_data())
            .and_then(|()| fs::rename(&fresh, &path));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }

    /// Whether there may be an answer for this key.
    pub fn may_have(&self, key: &Key) -> bool {
        if self.bare.lately() {
            return false;
        }
        if self.path(key).exists() {
            return true;
        }
        if !self.dir.exists() {
            self.bare.note();
        }
        false
    }

    /// The answer for exactly this key, if it is there and still good. Reads a file: not for a
    /// thread that carries connections.
    pub fn get(&self, key: &Key, now: Timestamp) -> Option<Entry> {
        let path = self.path(key);
        let (head, body) = read(&path)?;
        if head.expires_at <= now.as_millisecond() {
            let _ = fs::remove_file(&path);
            return None;
        }
        entry(head, body, now).filter(|entry| entry.key == *key)
    }

    /// Whether the answer for exactly this key is there and still good.
    pub fn has(&self, key: &Key, now: Timestamp) -> bool {
        self.get(key, now).is_some()
    }

    /// Takes an answer away, because a newer one was bought.
    pub fn forget(&self, key: &Key) {
        let _ = fs::remove_file(self.path(key));
    }

    /// Clears away what is too old and, of the oldest, what is too much.
    pub fn tidy(&self, now: Timestamp) -> Tidied {
        let mut tidied = Tidied::default();
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for path in files(&self.dir) {
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let changed = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            match read_head(&path) {
                Some((head, _)) if head.expires_at > now.as_millisecond() => {
                    kept.push((changed, meta.len(), path));
                }
                // One that is just being written is not of a dead process.
                None if changed.elapsed().is_ok_and(|age| age < HALF_WRITTEN) => {}
                _ => tidied.expired += u64::from(fs::remove_file(&path).is_ok()),
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in kept {
            if bytes <= self.most {
                break;
            }
            tidied.crowded += u64::from(fs::remove_file(&path).is_ok());
            bytes -= size;
        }
        tidied
    }

    /// Answers, and the bytes they take.
    pub fn size(&self) -> (u64, u64) {
        let sizes = files(&self.dir).filter_map(|path| Some(fs::metadata(path).ok()?.len()));
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }
}

/// So long a file may be under way.
const HALF_WRITTEN: Duration = Duration::from_secs(600);

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn read(path: &Path) -> Option<(Head, Bytes)> {
    let (head, mut rest) = read_head(path)?;
    rest.file.read_to_end(&mut rest.begun).ok()?;
    Some((head, rest.begun.into()))
}

/// What follows a head: the part that was read with it, and the rest.
struct Rest {
    begun: Vec<u8>,
    file: File,
}

fn read_head(path: &Path) -> Option<(Head, Rest)> {
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::with_capacity(8192);
    let end = loop {
        let before = bytes.len();
        let more = io::Read::by_ref(&mut file)
            .take(8192)
            .read_to_end(&mut bytes)
            .ok()?;
        if let Some(at) = memchr::memchr(b'\n', &bytes[before..]) {
            break before + at;
        }
        if more == 0 || bytes.len() > LONGEST_HEAD {
            return None;
        }
    };
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    let begun = bytes.split_off(end + 1);
    (head.v == VERSION).then_some((head, Rest { begun, file }))
}

/// The purchase that a file tells of, read as its dialect reads such an answer.
fn entry(head: Head, body: Bytes, now: Timestamp) -> Option<Entry> {
    let dialect = dialect::by_name(&head.sent.dialect)?;
    let mut request = head.sent.read()?;
    request.tier = Tier::Batch;
    let mut kept = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        kept.push((name, HeaderValue::from_str(value).ok()?));
    }
    let headers = kept.iter().cloned().collect();
    let reply = Reply {
        head: ReplyHead {
            status: http::StatusCode::from_u16(head.status).ok()?,
            headers,
        },
        body: body.into(),
    };
    let mut reader = dialect.reader(&request, &reply.head);
    for piece in reply.body.pieces() {
        reader.feed(piece);
    }
    let Next::Done(response) = reader.finish(&reply.body) else {
        return None;
    };
    let response: ImageResponse = *response;
    let left = head.expires_at.saturating_sub(now.as_millisecond());
    let age = now.as_millisecond().saturating_sub(head.bought_at);
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    Some(Entry {
        key: Key::of_canonical(BASE64_STANDARD.decode(&head.key).ok()?),
        response,
        original: Some(Original {
            shape: Shape {
                dialect: dialect.name(),
                delivery: request.delivery,
                stream: false,
                job: false,
            },
            head: KeptHead {
                status: reply.head.status,
                headers: kept.into(),
            },
            body: reply.body,
        }),
        model: head.model,
        cost: head.cost.map(Usd::from_nano),
        bought_by: head.bought_by.into(),
        bought_at: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
        ttl: age + Duration::from_millis(u64::try_from(left).unwrap_or(0)),
        rooms: Vec::new(),
        unreceived: AtomicBool::new(false),
    })
}

fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Around, Partition};

    const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4IScHAAK2AQUKW6YGAAAAAElFTkSuQmCC";

    fn laid(prompt: &str, keep: u64) -> Laid {
        let sent = Worded {
            provider: "openai".to_owned(),
            dialect: "openai".to_owned(),
            operation: Operation::Generate,
            target: "/v1/images/generations".to_owned(),
            body: format!(r#"{{"model": "gpt-image-2", "prompt": "{prompt}"}}"#),
        };
        let request = sent.read().unwrap();
        let around = Around {
            partition: &Partition::Credential([3; 16]),
            query: None,
            variant: 0,
            inert: &[],
        };
        Laid {
            key: Key::of(&request, &around),
            model: request.model.clone(),
            sent,
            reply: Reply {
                head: ReplyHead::new(http::StatusCode::OK, "application/json"),
                body: format!(r#"{{"created": 1, "data": [{{"b64_json": "{PNG}"}}]}}"#).into(),
            },
            cost: Some(Usd::from_nano(5)),
            bought_by: "01JDX".to_owned(),
            bought_at: at(0),
            keep: Duration::from_secs(keep),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn shelf(most: u64) -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::TempDir::new().unwrap();
        let shelf = Shelf::new(dir.path().join("answers"), most);
        (dir, shelf)
    }

    #[test]
    fn what_was_laid_down_is_found_as_it_came_until_its_time_is_over() {
        let (_dir, shelf) = shelf(1 << 20);
        let boat = laid("a boat", 60);
        assert!(!shelf.may_have(&boat.key));
        assert!(shelf.bare.lately());
        shelf.lay(&boat).unwrap();
        assert!(
            shelf.may_have(&boat.key),
            "found the moment it is laid down"
        );
        let entry = shelf.get(&boat.key, at(20)).unwrap();
        assert_eq!(entry.original.unwrap().body, boat.reply.body);
        assert_eq!(entry.response.images.len(), 1);
        assert_eq!((entry.cost, &*entry.bought_by), (boat.cost, "01JDX"));
        assert_eq!(entry.ttl, Duration::from_secs(60), "since it was bought");
        assert!(!shelf.has(&laid("a cat", 60).key, at(20)));
        assert!(!shelf.has(&boat.key, at(60)));
        assert!(
            !shelf.may_have(&boat.key),
            "it went when it was found too old"
        );
    }

    #[test]
    #[cfg(unix)]
    fn nobody_else_may_look() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, shelf) = shelf(1 << 20);
        let boat = laid("a boat", 60);
        shelf.lay(&boat).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("answers")), 0o700);
        assert_eq!(mode(&shelf.path(&boat.key)), 0o600);
    }

    #[test]
    fn tidying_takes_the_old_and_what_is_too_much() {
        let (_dir, shelf) = shelf(2000);
        let all: Vec<Laid> = (0..5)
            .map(|n| laid(&format!("boat {n}"), 60 * (n + 1)))
            .collect();
        for laid in &all {
            shelf.lay(laid).unwrap();
            // Files of one moment have no oldest.
            let file = File::options()
                .append(true)
                .open(shelf.path(&laid.key))
                .unwrap();
            let second = laid.keep.as_secs();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
                .unwrap();
        }
        let (count, bytes) = shelf.size();
        assert_eq!(count, 5);
        let room = 2000 / (bytes / 5);
        let tidied = shelf.tidy(at(60));
        assert_eq!(
            tidied,
            Tidied {
                expired: 1,
                crowded: 4 - room
            }
        );
        assert!(shelf.has(&all[4].key, at(60)), "the newest stays");
        assert!(shelf.size().1 <= 2000);
    }

    #[test]
    fn a_damaged_file_is_no_answer() {
        let (_dir, shelf) = shelf(1 << 20);
        let boat = laid("a boat", 60);
        shelf.lay(&boat).unwrap();
        for text in ["", "{}", "{\"v\": 1}\n", "\n\n"] {
            fs::write(shelf.path(&boat.key), text).unwrap();
            assert!(shelf.get(&boat.key, at(0)).is_none(), "{text:?}");
        }
    }
}
