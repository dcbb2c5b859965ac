//! Brings lines to the file without making a call wait.
//!
//! What is to be written goes into a bounded queue; one thread words what has gathered and writes
//! it, whole lines, as few writes as possible. Wording a hundred decisions in a row takes about half of
//! what it takes to word each in the middle of a call, whose code it would drive out of the caches.
//! When the disk is full the thread tries again every second, and lines that no longer fit into the
//! queue are counted and told of in a notice once it can write again: nothing is lost in silence.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, watch};

use super::decision::Decision;
use super::facts::Id;
use super::fit::{Line, MOST_BYTES, render, rendered};
use super::lines::Lines;
use super::notice::{Amend, Notice, NoticeKind, NoticeLevel};
use super::rotation::{Rotation, Sheet};
use super::weight::Weight as _;

/// Most bytes that wait to be written: some eight thousand usual decisions.
const MOST_WAITING: usize = 24 << 20;
/// So many bytes are worded before they are written.
const SLICE: usize = 1 << 20;
/// Places that an emptied list keeps for the next batch.
const KEPT: usize = 1 << 12;
/// How long the writer gathers lines before it writes them.
const GATHER: Duration = Duration::from_millis(20);
/// How long it waits before it tries a failed write again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many lines a subscriber may lag behind before it misses some.
const LAG: usize = 1024;

/// Why the log cannot be written.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    #[error(
        "the decision log {path} cannot be opened: {why}; set `log` to a file that can be written"
    )]
    Open { path: PathBuf, why: String },
    #[error(
        "the decision log {path} cannot be written: {why}; make room or set `log` to another file"
    )]
    Write { path: PathBuf, why: Arc<str> },
}

/// How the log is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Lines on file since the start.
    pub written: u64,
    /// Lines that did not fit into the queue since the start.
    pub lost: u64,
    /// Why the last write failed, as long as none has succeeded since.
    pub trouble: Option<Arc<str>>,
}

/// The decision log. Clones write to the same file; the last one to go writes what is left.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
    _writer: Option<Arc<Writing>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    instance: Arc<str>,
    queue: Mutex<Queue>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    readers: broadcast::Sender<Arc<str>>,
    /// Whoever posts alerts.
    alerts: Mutex<Option<mpsc::Sender<Notice>>>,
    most_waiting: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// What they take.
    bytes: usize,
    /// Lines taken in since the start.
    taken: u64,
    /// Lines turned away since the last batch.
    lost: u64,
    /// The writer sleeps until it is woken.
    asleep: bool,
    /// Somebody waits for the file: no gathering.
    hurry: bool,
    closed: bool,
    /// No writer: lines go to subscribers alone.
    unwritten: bool,
}

/// A line to be.
#[derive(Debug)]
enum Waiting {
    Call(Box<Decision>),
    Line(Box<str>),
}

/// What a decision takes while it waits, in bytes.
fn takes(decision: &Decision) -> usize {
    size_of::<Decision>() + decision.weight()
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// How many of the taken lines are on file, or never will be.
    done: u64,
    /// Those that have no wording.
    unworded: u64,
    /// Rises with each failed write.
    failures: u64,
    lost: u64,
    trouble: Option<Arc<str>>,
}

/// Ends the writer's thread, and waits for it.
#[derive(Debug)]
struct Writing {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the decision log's writer ended early");
        }
    }
}

impl Log {
    /// Opens the log for appending, readable by its owner alone; makes its directory if need be.
    ///
    /// # Errors
    /// [`LogError::Open`] when the file cannot be opened or the writer's thread not be started.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Log, LogError> {
        Log::open_with(path, rotation, MOST_WAITING)
    }

    fn open_with(path: &Path, rotation: Rotation, most_waiting: usize) -> Result<Log, LogError> {
        let failed = |error: io::Error| LogError::Open {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let sheet = Sheet::open(path, rotation).map_err(failed)?;
        let shared = Arc::new(Shared::new(path, most_waiting));
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            sheet,
            lost: 0,
            unworded: 0,
            taken: VecDeque::new(),
            batch: Lines::default(),
        };
        let thread = std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Log {
            _writer: Some(Arc::new(Writing {
                shared: Arc::clone(&shared),
                thread: Mutex::new(Some(thread)),
            })),
            shared,
        })
    }

    /// A log without a file: its lines reach subscribers and nobody else.
    pub fn without_file() -> Log {
        let shared = Shared::new(Path::new(""), 0);
        shared.queue.lock().unwritten = true;
        Log {
            shared: Arc::new(shared),
            _writer: None,
        }
    }

    /// This process's name in its lines.
    pub fn instance(&self) -> &Arc<str> {
        &self.shared.instance
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes the record of a call. Never waits. One that would take more memory than the longest line
    /// is worded at once, which shortens it.
    pub fn write(&self, decision: Box<Decision>) {
        let bytes = takes(&decision);
        if bytes > MOST_BYTES || self.shared.readers.receiver_count() > 0 {
            return self.put(&*decision);
        }
        self.shared.queue_up(Waiting::Call(decision), bytes);
    }

    /// The line of a call that may outlive this process, for whoever ends it then; `None` where it
    /// cannot be written as JSON.
    pub fn prepared(decision: &Decision) -> Option<String> {
        render(decision).ok()
    }

    /// Writes a line that an earlier process prepared, as having ended at `at`. Never waits.
    pub fn write_prepared(&self, line: &str, at: jiff::Timestamp) {
        self.shared.put(&ended_at(line, at));
    }

    /// Writes a correction. Never waits.
    pub fn amend(&self, amend: &Amend) {
        self.put(amend);
    }

    /// Writes a notice. Never waits. An alert also goes to whoever posts alerts, if there is room.
    pub fn notice(&self, notice: &Notice) {
        self.put(notice);
        if notice.kind == NoticeKind::Alert && !notice.fields.has("observed") {
            self.shared.post(notice);
        }
    }

    /// From now on alerts also go to `sender`; to nobody where it is none.
    pub fn post_alerts(&self, sender: Option<mpsc::Sender<Notice>>) {
        *self.shared.alerts.lock() = sender;
    }

    fn put<L: Line>(&self, line: &L) {
        if let Err(error) = rendered(line, |text| self.shared.put(text)) {
            self.shared.queue.lock().lost += 1;
            unworded(&error);
        }
    }

    /// Waits until every line written so far is on file.
    ///
    /// # Errors
    /// [`LogError::Write`] when a write failed meanwhile. The lines are kept and tried again.
    pub async fn flush(&self) -> Result<(), LogError> {
        let mut progress = self.shared.progress.subscribe();
        let failures = progress.borrow_and_update().failures;
        let goal = self.shared.hurry();
        let reached = progress
            .wait_for(|now| now.done >= goal || now.failures > failures)
            .await
            .map(|now| (now.done >= goal, now.trouble.clone()));
        match reached {
            Ok((true, _)) => Ok(()),
            Ok((false, trouble)) => Err(self.shared.failed(trouble)),
            Err(_) => Err(self.shared.failed(None)),
        }
    }

    /// Every line from now on, each with its newline. A subscriber that lags behind by more than
    /// a thousand lines misses some, and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.shared.readers.subscribe()
    }

    /// How the log is doing, for health checks and metrics.
    pub fn state(&self) -> LogState {
        let progress = self.shared.progress.borrow().clone();
        LogState {
            written: progress.done - progress.unworded,
            lost: progress.lost + self.shared.queue.lock().lost,
            trouble: progress.trouble,
        }
    }
}

/// A prepared line with another end. Times stand in it as they were written, so the key is found
/// by its text; nothing before it holds an app's words.
fn ended_at(line: &str, at: jiff::Timestamp) -> String {
    const KEY: &str = "\"ended_at\":\"";
    let Some((before, rest)) = line.split_once(KEY) else {
        return line.to_owned();
    };
    match rest.split_once('"') {
        Some((_, after)) => format!("{before}{KEY}{at:.3}\"{after}"),
        None => line.to_owned(),
    }
}

fn unworded(error: &serde_json::Error) {
    tracing::error!(%error, "a line of the decision log could not be written as JSON");
}

impl Shared {
    fn new(path: &Path, most_waiting: usize) -> Shared {
        Shared {
            path: path.to_owned(),
            instance: Id::new().to_string().into(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            readers: broadcast::Sender::new(LAG),
            alerts: Mutex::default(),
            most_waiting,
        }
    }

    fn post(&self, alert: &Notice) {
        let alerts = self.alerts.lock();
        let Some(sender) = alerts.as_ref() else {
            return;
        };
        if sender.try_send(alert.clone()).is_err() {
            tracing::warn!(id = %alert.id, "too many alerts wait to be posted; this one is in the log");
        }
    }

    fn put(&self, line: &str) {
        if self.readers.receiver_count() > 0 {
            // Nobody listening any more is no failure.
            let _ = self.readers.send(line.into());
        }
        self.queue_up(Waiting::Line(line.into()), line.len());
    }

    fn queue_up(&self, waiting: Waiting, bytes: usize) {
        let mut queue = self.queue.lock();
        if queue.unwritten {
            return;
        }
        let bytes = queue.bytes + bytes;
        if bytes > self.most_waiting {
            queue.lost += 1;
            return;
        }
        queue.taken += 1;
        queue.bytes = bytes;
        queue.waiting.push_back(waiting);
        if queue.asleep {
            queue.asleep = false;
            self.wake.notify_one();
        }
    }

    /// Has the writer write at once; the number of the last line it has to write.
    fn hurry(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.hurry = true;
        self.wake.notify_one();
        queue.taken
    }

    fn failed(&self, trouble: Option<Arc<str>>) -> LogError {
        LogError::Write {
            path: self.path.clone(),
            why: trouble.unwrap_or_else(|| "its writer has ended".into()),
        }
    }
}

/// The one thread that touches the file.
struct Writer {
    shared: Arc<Shared>,
    sheet: Sheet,
    /// Lines turned away and not yet told of.
    lost: u64,
    /// What was taken from the queue and is not worded yet; its memory and the queue's are exchanged.
    taken: VecDeque<Waiting>,
    /// The lines in hand.
    batch: Lines,
    /// What could not be worded among them.
    unworded: u64,
}

impl Writer {
    fn run(&mut self) {
        while self.gather() {
            let mut whole = true;
            while whole && !self.taken.is_empty() {
                self.word();
                whole = self.write();
                self.batch.clear();
            }
            self.taken.clear();
            self.taken.shrink_to(KEPT);
            if whole && self.lost > 0 {
                self.tell_lost();
            }
        }
    }

    /// Takes what has been queued, once there is something; false at the end.
    fn gather(&mut self) -> bool {
        let shared = &self.shared;
        let mut queue = shared.queue.lock();
        while queue.waiting.is_empty() && queue.lost == 0 && !queue.closed {
            queue.asleep = true;
            queue.hurry = false;
            shared.wake.wait(&mut queue);
        }
        queue.asleep = false;
        if queue.waiting.is_empty() && queue.lost == 0 {
            return false;
        }
        if !queue.hurry && !queue.closed {
            shared.wake.wait_for(&mut queue, GATHER);
        }
        queue.hurry = false;
        let lost = std::mem::take(&mut queue.lost);
        self.lost += lost;
        if lost > 0 {
            shared.progress.send_modify(|now| now.lost += lost);
        }
        std::mem::swap(&mut queue.waiting, &mut self.taken);
        queue.bytes = 0;
        true
    }

    /// Words of what was taken as much as is written at once.
    fn word(&mut self) {
        while self.batch.bytes() < SLICE {
            let Some(waiting) = self.taken.pop_front() else {
                break;
            };
            let decision = match waiting {
                Waiting::Call(decision) => decision,
                Waiting::Line(line) => {
                    self.batch.push(&line);
                    continue;
                }
            };
            let word = || rendered(&*decision, |line| self.batch.push(line));
            // A defect in the wording of one call must not take the lines of all others along.
            let worded = catch_unwind(AssertUnwindSafe(word));
            let worded = worded.unwrap_or_else(|_| Err(serde::ser::Error::custom("a panic")));
            if let Err(error) = worded {
                self.unworded += 1;
                unworded(&error);
            }
        }
    }

    /// Writes the lines, however often that takes; `false` when the log was closed before it
    /// could be done.
    fn write(&mut self) -> bool {
        let mut written = 0;
        while written < self.batch.count() {
            match self.sheet.append(&self.batch, written) {
                Ok(count) => {
                    written += count;
                    self.succeeded(count as u64);
                }
                Err(error) => {
                    self.failed(&error);
                    if !self.pause() {
                        tracing::error!(
                            path = %self.shared.path.display(),
                            lines = self.batch.count() - written + self.taken.len(),
                            "lines of the decision log could not be written before the end"
                        );
                        return false;
                    }
                }
            }
        }
        self.give_up_unworded();
        true
    }

    /// Counts what has no wording as lost: once the lines before it are on file, for whoever waits for them
    /// waits for it too.
    fn give_up_unworded(&mut self) {
        let unworded = std::mem::take(&mut self.unworded);
        if unworded > 0 {
            self.lost += unworded;
            self.shared.progress.send_modify(|now| {
                now.done += unworded;
                now.unworded += unworded;
                now.lost += unworded;
            });
        }
    }

    fn succeeded(&self, count: u64) {
        self.shared.progress.send_modify(|now| {
            now.done += count;
            if now.trouble.take().is_some() {
                tracing::info!(path = %self.shared.path.display(), "the decision log is written again");
            }
        });
    }

    fn failed(&self, error: &io::Error) {
        self.shared.progress.send_modify(|now| {
            now.failures += 1;
            if now.trouble.is_none() {
                tracing::error!(
                    path = %self.shared.path.display(), %error,
                    "the decision log cannot be written; its lines wait in memory, calls go on"
                );
            }
            now.trouble = Some(error.to_string().into());
        });
    }

    /// Waits before the next try; `false` when the log was closed.
    fn pause(&self) -> bool {
        let mut queue = self.shared.queue.lock();
        if !queue.hurry && !queue.closed {
            self.shared.wake.wait_for(&mut queue, AGAIN);
        }
        queue.hurry = false;
        !queue.closed
    }

    /// Says in the log itself how many lines are missing from it.
    fn tell_lost(&mut self) {
        let lost = self.lost;
        let notice = Notice::new(
            Timestamp::now(),
            Arc::clone(&self.shared.instance),
            NoticeKind::Log,
            NoticeLevel::Error,
            format!(
                "{lost} lines are missing before this one: the log could not be written fast \
                 enough; what the calls cost is in the ledger"
            ),
        )
        .with("lines", lost.to_string());
        let Ok(lines) = rendered(&notice, |text| Lines::from_iter([text])) else {
            return;
        };
        if self.sheet.append(&lines, 0).is_ok() {
            self.lost = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::tests::decision;
    use super::*;
    use serde_json::Value;
    use std::fs;

    fn read(path: &Path) -> Vec<Value> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn notice(log: &Log, text: &str) -> Notice {
        Notice::new(
            Timestamp::now(),
            Arc::clone(log.instance()),
            NoticeKind::Start,
            NoticeLevel::Info,
            text,
        )
    }

    #[tokio::test]
    async fn what_was_flushed_is_on_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let log = Log::open(&path, Rotation::default()).unwrap();
        log.notice(&notice(&log, "first"));
        let call = decision();
        log.write(Box::new(call.clone()));
        log.flush().await.unwrap();
        let lines = read(&path);
        assert_eq!(lines[0]["text"], "first");
        assert_eq!(lines[1]["id"], call.id.to_string());
        assert_eq!(log.state().written, 2);
        log.flush().await.unwrap();
    }

    #[tokio::test]
    async fn two_logs_on_one_file_lose_nothing_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let rotation = Rotation {
            size: 40_000,
            daily: true,
            keep: 1000,
        };
        let logs = [
            Log::open(&path, rotation).unwrap(),
            Log::open(&path, rotation).unwrap(),
        ];
        for i in 0..400 {
            logs[i % 2].notice(&notice(&logs[i % 2], &i.to_string()));
            if i % 40 == 39 {
                logs[0].flush().await.unwrap();
            }
        }
        for log in &logs {
            log.flush().await.unwrap();
        }
        let files = super::super::rotation::rotated(&path).unwrap();
        assert!(!files.is_empty(), "it was never rotated");
        let mut found: Vec<u32> = files
            .iter()
            .chain([&path])
            .flat_map(|file| read(file))
            .map(|line| line["text"].as_str().unwrap().parse().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, (0..400).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_nothing_hangs() {
        let log = Log::open(Path::new("/dev/full"), Rotation::default()).unwrap();
        log.write(Box::new(decision()));
        let error = log.flush().await.unwrap_err().to_string();
        assert!(error.contains("/dev/full cannot be written"), "{error}");
        assert!(log.state().trouble.is_some());
        drop(log);
    }

    #[tokio::test]
    async fn lines_wait_until_the_disk_is_back_and_the_rest_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let path = state.join("decisions.jsonl");
        let each = takes(&decision());
        let log = Log::open_with(&path, Rotation::default(), 2 * each + each / 2).unwrap();
        fs::rename(&state, dir.path().join("away")).unwrap();
        fs::write(&state, "a file where the directory was").unwrap();
        log.write(Box::new(decision()));
        log.flush().await.unwrap_err();
        // The first line is in the writer's hands, two more fit, the others are lost.
        for _ in 0..5 {
            log.write(Box::new(decision()));
        }
        assert_eq!(log.state().lost, 3);
        fs::remove_file(&state).unwrap();
        log.flush().await.unwrap();
        drop(log);
        let lines = read(&path);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3]["kind"], "log");
        assert_eq!(lines[3]["fields"]["lines"], "3");
    }

    #[test]
    fn a_decision_that_is_long_waits_as_the_line_that_it_becomes() {
        let shared = Shared::new(Path::new(""), MOST_WAITING);
        let log = Log {
            shared: Arc::new(shared),
            _writer: None,
        };
        let mut long = decision();
        long.asked.prompt = Some("a cat, and another, ".repeat(50_000));
        log.write(Box::new(long));
        log.write(Box::new(decision()));
        let queue = log.shared.queue.lock();
        assert!(matches!(&queue.waiting[0], Waiting::Line(line) if line.len() <= MOST_BYTES));
        assert!(matches!(&queue.waiting[1], Waiting::Call(_)));
        assert!(queue.bytes < 2 * MOST_BYTES, "{}", queue.bytes);
    }

    #[tokio::test]
    async fn the_last_clone_writes_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let log = Log::open(&path, Rotation::default()).unwrap();
        let clone = log.clone();
        drop(log);
        clone.write(Box::new(decision()));
        drop(clone);
        assert_eq!(read(&path).len(), 1);
    }

    #[tokio::test]
    async fn subscribers_see_each_line() {
        let log = Log::without_file();
        let mut lines = log.subscribe();
        log.write(Box::new(decision()));
        log.flush().await.unwrap();
        let line = lines.recv().await.unwrap();
        assert!(line.ends_with('\n'));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap()["type"],
            "call"
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = Log::open(
            Path::new("/proc/nothing/decisions.jsonl"),
            Rotation::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("/proc/nothing/decisions.jsonl"), "{error}");
    }
}
