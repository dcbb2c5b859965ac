//! Finds connections of the command that pass the proxy by.
//!
//! A client that ignores proxies sends us nothing, so nothing of ours can tell. Linux can: the
//! command's processes, their sockets, and where these lead. A table of sockets is read first, and
//! processes are only looked through when it holds a connection that was not there before, so that
//! an idle look costs two small files.
//!
//! A connection that came and went between two looks is not found. What the kernel keeps of it for
//! a minute afterwards (`TIME_WAIT`) names no process: it may as well have been ours, or another
//! program's, and nobody is accused of it. So looks are as close together as they are cheap.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// Between two looks there is at least the shorter pause and at most the longer one. A TLS
/// connection on which anything was asked lives for three round trips at the least.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Within these bounds a pause is so many times as long as the look before it: a hundredth of a
/// processor goes into looking.
const REST: u32 = 100;
const HTTPS: u16 = 443;
/// Bounds on one look, for machines with very much of everything.
const MOST_TABLE_BYTES: u64 = 4 << 20;
const MOST_PROCESSES: usize = 1024;
const MOST_FILES: usize = 4096;
/// So many bypasses are told of.
const MOST_SEEN: usize = 64;

/// What counts as passing by.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Where our proxy listens: connections to it are as they should be.
    pub proxy: SocketAddr,
    /// Providers' addresses that are known, with their ports. Others count at port 443.
    pub providers: HashSet<SocketAddr>,
    /// Told of each bypass as it is first seen, for those who do not want to wait for the end.
    /// At most 64 are sent.
    pub told: Option<UnboundedSender<Bypass>>,
}

impl Watch {
    fn counts(&self, remote: SocketAddr) -> bool {
        let to_us = remote.port() == self.proxy.port()
            && (remote.ip() == self.proxy.ip() || remote.ip().is_loopback());
        !to_us && (remote.port() == HTTPS || self.providers.contains(&remote))
    }
}

/// A connection that does not go through the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bypass {
    pub pid: u32,
    /// The process's name, as the kernel keeps it (15 bytes).
    pub command: String,
    pub remote: SocketAddr,
    /// Whether `remote` is a provider's known address, and not only some host's port 443.
    pub provider: bool,
}

/// The connections of `pid` and the processes below it that pass the proxy by, right now. Empty
/// where there is no `/proc`.
pub fn bypasses(pid: u32, watch: &Watch) -> HashSet<Bypass> {
    let mut seen = Seen::default();
    seen.look(pid, watch);
    seen.found.into_iter().collect()
}

/// Looks at a command's connections again and again.
pub(super) struct Watcher {
    pid: Option<u32>,
    watch: Option<Watch>,
    next: Instant,
    seen: Seen,
}

impl Watcher {
    pub(super) fn new(pid: Option<u32>, watch: Option<Watch>) -> Watcher {
        Watcher {
            pid,
            watch,
            next: Instant::now(),
            seen: Seen::default(),
        }
    }

    /// Looks once, when it is time. Never ends when there is nothing to watch.
    pub(super) async fn watch(&mut self) {
        let (Some(pid), Some(watch)) = (self.pid, &self.watch) else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(self.next).await;
        let begun = Instant::now();
        self.seen.look(pid, watch);
        self.next = Instant::now() + pause(begun.elapsed());
    }

    pub(super) fn into_seen(self) -> Vec<Bypass> {
        self.seen.found
    }
}

/// How long to wait after a look that took so long.
fn pause(look: Duration) -> Duration {
    let (shortest, longest) = PAUSES;
    look.saturating_mul(REST).clamp(shortest, longest)
}

#[derive(Default)]
struct Seen {
    found: Vec<Bypass>,
    /// Sockets whose owner was looked for, in the table of the last look.
    judged: HashSet<u64>,
}

impl Seen {
    fn look(&mut self, root: u32, watch: &Watch) {
        if self.found.len() >= MOST_SEEN {
            return;
        }
        let present = connections(root, watch);
        self.judged.retain(|inode| present.contains_key(inode));
        let fresh: HashMap<u64, SocketAddr> = present
            .into_iter()
            .filter(|(inode, _)| self.judged.insert(*inode))
            .collect();
        if fresh.is_empty() {
            return;
        }
        for process in tree(root) {
            for inode in sockets(process.pid) {
                if let Some(remote) = fresh.get(&inode) {
                    self.keep(&process, *remote, watch);
                }
            }
        }
    }

    fn keep(&mut self, process: &Stat, remote: SocketAddr, watch: &Watch) {
        let bypass = Bypass {
            pid: process.pid,
            command: process.command.clone(),
            remote,
            provider: watch.providers.contains(&remote),
        };
        if self.found.len() < MOST_SEEN && !self.found.contains(&bypass) {
            if let Some(told) = &watch.told {
                let _ = told.send(bypass.clone()); // nobody listens any more: it is kept all the same
            }
            self.found.push(bypass);
        }
    }
}

/// The sockets with a counting connection that the network of `pid` has, by inode.
fn connections(pid: u32, watch: &Watch) -> HashMap<u64, SocketAddr> {
    let mut all = HashMap::new();
    for table in ["tcp", "tcp6"] {
        // Of the process, not ours: it may have a network of its own.
        let text = read_bounded(&format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let rows = text.lines().skip(1).filter_map(connection);
        all.extend(rows.filter(|(_, remote)| watch.counts(*remote)));
    }
    all
}

fn read_bounded(path: &str) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(MOST_TABLE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A row of `/proc/net/tcp` that belongs to a live connection: inode and remote address.
/// Columns: `sl local remote state tx:rx timer retransmit uid timeout inode`.
fn connection(row: &str) -> Option<(u64, SocketAddr)> {
    const ESTABLISHED: &str = "01";
    const CONNECTING: &str = "02";
    const CLOSED_BY_THE_OTHER: &str = "08";
    let columns: Vec<&str> = row.split_ascii_whitespace().take(10).collect();
    let [_, _, remote, state, .., inode] = columns[..] else {
        return None;
    };
    if ![ESTABLISHED, CONNECTING, CLOSED_BY_THE_OTHER].contains(&state) || columns.len() != 10 {
        return None;
    }
    Some((inode.parse().ok()?, remote_address(remote)?))
}

/// An address as the kernel prints it: words of 32 bits in the machine's own order, in hex.
fn remote_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok()?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(Ipv4Addr::from(four)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// `root` and the processes below it.
fn tree(root: u32) -> Vec<Stat> {
    let mut by_parent: HashMap<u32, Vec<Stat>> = HashMap::new();
    for name in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = name.file_name();
        let pid = name.to_str().filter(|name| name.parse::<u32>().is_ok());
        if let Some(stat) = pid.and_then(Stat::of) {
            by_parent.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut found: Vec<Stat> = Stat::of(&root.to_string()).into_iter().collect();
    let mut next = 0;
    while next < found.len() && found.len() < MOST_PROCESSES {
        let below = by_parent.remove(&found[next].pid);
        found.extend(below.into_iter().flatten());
        next += 1;
    }
    found.truncate(MOST_PROCESSES);
    found
}

/// The inodes of a process's sockets. Processes of other users say nothing.
fn sockets(pid: u32) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"));
    files
        .into_iter()
        .flatten()
        .flatten()
        .take(MOST_FILES)
        .filter_map(|file| {
            let target = fs::read_link(file.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']')?.parse().ok()
        })
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) parent: u32,
    pub(super) group: u32,
    /// The group that has the terminal's keyboard; -1 without a terminal.
    pub(super) foreground_group: i64,
}

impl Stat {
    pub(super) fn of(pid: &str) -> Option<Stat> {
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Stat::read(&String::from_utf8_lossy(&bytes))
    }

    /// `pid (command) state parent group session terminal foreground-group …`; the command may
    /// hold spaces and brackets itself.
    fn read(text: &str) -> Option<Stat> {
        let (pid, rest) = text.split_once(" (")?;
        let (command, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Stat {
            pid: pid.parse().ok()?,
            command: command.to_owned(),
            parent,
            group,
            foreground_group: fields.nth(2)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_columns() {
        let stat = Stat::read("42 (a) b (c) S 7 41 40 34816 41 4194304 1").unwrap();
        assert_eq!((stat.pid, stat.command.as_str()), (42, "a) b (c"));
        assert_eq!(
            (stat.parent, stat.group, stat.foreground_group),
            (7, 41, 41)
        );
        assert_eq!(Stat::read("42 (gone"), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_the_socket_table_are_read() {
        let row = |remote: &str, state: &str| {
            format!(
                "   3: 0100007F:1F90 {remote} {state} 00000000:00000000 00:00000000 00000000  1000        0 98765 1 0 20 4"
            )
        };
        for (remote, state, expected) in [
            ("04030201:01BB", "01", Some("1.2.3.4:443")),
            ("04030201:01BB", "02", Some("1.2.3.4:443")),
            ("04030201:01BB", "0A", None), // listening
            ("04030201:01BB", "06", None), // over, belongs to nobody
            (
                "B80D0120000000000000000001000000:01BB",
                "01",
                Some("[2001:db8::1]:443"),
            ),
            (
                "0000000000000000FFFF000004030201:01BB",
                "01",
                Some("1.2.3.4:443"),
            ),
            ("rubbish", "01", None),
        ] {
            let read = connection(&row(remote, state));
            let expected = expected.map(|address| (98765, address.parse().unwrap()));
            assert_eq!(read, expected, "{remote} {state}");
        }
        assert_eq!(connection(""), None);
        assert_eq!(connection("1: 2 04030201:01BB 01"), None);
    }

    #[test]
    fn looks_are_as_close_together_as_they_are_cheap() {
        for (look, rest) in [(0, 10), (50, 10), (300, 30), (2_000, 200), (40_000, 250)] {
            let waited = pause(Duration::from_micros(look));
            assert_eq!(
                waited,
                Duration::from_millis(rest),
                "after {look} microseconds"
            );
        }
        assert_eq!(pause(Duration::MAX), PAUSES.1);
    }

    #[test]
    fn the_proxy_itself_never_counts() {
        let watch = Watch {
            proxy: "127.0.0.1:443".parse().unwrap(),
            providers: HashSet::from(["10.0.0.7:7860".parse().unwrap()]),
            told: None,
        };
        for (remote, counts) in [
            ("127.0.0.1:443", false),
            ("[::1]:443", false),
            ("1.2.3.4:443", true),
            ("1.2.3.4:80", false),
            ("10.0.0.7:7860", true),
            ("10.0.0.7:80", false),
        ] {
            assert_eq!(watch.counts(remote.parse().unwrap()), counts, "{remote}");
        }
    }
}
