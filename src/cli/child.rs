//! The command that `run` puts behind the proxy: started with its environment, sent the signals
//! that we get, waited for, and watched for connections that pass the proxy by.

mod bypass;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};

use super::environment::Change;

pub use bypass::{Bypass, Watch, bypasses};

/// How the command ended, or why it never began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It is there, and cannot be run.
    NotExecutable(String),
    NotFound(String),
    /// We could not start it or wait for it.
    Failed(String),
}

impl ChildEnd {
    /// The exit code that says so, as shells have it: its own, 128 + signal, 126, 127; 125 when
    /// the fault is ours.
    pub fn code(&self) -> i32 {
        match self {
            ChildEnd::Exited(code) => *code,
            ChildEnd::Killed(signal) => 128 + signal,
            ChildEnd::NotExecutable(_) => 126,
            ChildEnd::NotFound(_) => 127,
            ChildEnd::Failed(_) => 125,
        }
    }

    /// What to tell people, where the command could not tell them itself.
    pub fn message(&self) -> Option<&str> {
        match self {
            ChildEnd::Exited(_) | ChildEnd::Killed(_) => None,
            ChildEnd::NotExecutable(why) | ChildEnd::NotFound(why) | ChildEnd::Failed(why) => {
                Some(why)
            }
        }
    }

    fn of(status: ExitStatus) -> ChildEnd {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => ChildEnd::Exited(code),
            (None, Some(signal)) => ChildEnd::Killed(signal),
            (None, None) => ChildEnd::Failed(format!("the command ended unclearly: {status}")),
        }
    }

    fn not_started(name: &OsStr, error: &io::Error) -> ChildEnd {
        let name = name.display();
        match error.kind() {
            io::ErrorKind::NotFound => ChildEnd::NotFound(format!(
                "there is no command `{name}`, or the interpreter that its first line names: check its name and PATH"
            )),
            io::ErrorKind::InvalidInput | io::ErrorKind::OutOfMemory => {
                ChildEnd::Failed(format!("`{name}` could not be started: {error}"))
            }
            _ => ChildEnd::NotExecutable(format!("`{name}` cannot be run: {error}")),
        }
    }
}

/// The end of a command, and what went past the proxy while it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub end: ChildEnd,
    /// Each process and address once, in the order they were seen.
    pub bypasses: Vec<Bypass>,
}

/// Runs `command` (its name, then its arguments) in our environment with `changes` made to it, on
/// our own input and outputs, and waits for its end. With `watch`, its connections are looked at
/// again and again, at most a hundred times a second.
///
/// SIGTERM, SIGHUP, SIGINT and SIGQUIT are sent on and do not end us before the command. What a
/// terminal sends has reached the command already, being in our group, and is not sent twice.
/// Whoever calls must not stop the proxy on these signals either.
pub async fn run(command: &[OsString], changes: &[Change], watch: Option<Watch>) -> Ran {
    let ended = |end| Ran {
        end,
        bypasses: Vec::new(),
    };
    let Some((name, arguments)) = command.split_first() else {
        let why = "no command was given: write it after `--`".to_owned();
        return ended(ChildEnd::Failed(why));
    };
    // Caught before the start: a signal in between must not leave the command behind alone.
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            return ended(ChildEnd::Failed(format!(
                "signals cannot be caught: {error}"
            )));
        }
    };
    let mut prepared = Command::new(name);
    prepared.args(arguments);
    for change in changes {
        match &change.value {
            Some(value) => prepared.env(&change.name, value),
            None => prepared.env_remove(&change.name),
        };
    }
    let mut child = match prepared.spawn() {
        Ok(child) => child,
        Err(error) => return ended(ChildEnd::not_started(name, &error)),
    };
    let pid = child.id();
    let mut watcher = bypass::Watcher::new(pid, watch);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next() => pass_on(signal, pid),
            () = watcher.watch() => {}
        }
    };
    let end = match status {
        Ok(status) => ChildEnd::of(status),
        Err(error) => ChildEnd::Failed(format!("the command could not be waited for: {error}")),
    };
    Ran {
        end,
        bypasses: watcher.into_seen(),
    }
}

/// Sends `signal` to the command. It has not been waited for yet, so its number is still its own.
fn pass_on(signal: Signal, pid: Option<u32>) {
    let from_keyboard = matches!(signal, Signal::INT | Signal::QUIT | Signal::HUP);
    if from_keyboard && in_foreground() {
        return;
    }
    let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // It fails only for a command that has just ended, which is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// Whether a terminal sends us, and with us the command, what is typed on it.
fn in_foreground() -> bool {
    use std::io::IsTerminal;
    let Some(stat) = bypass::Stat::of("self") else {
        return io::stdin().is_terminal();
    };
    stat.foreground_group == i64::from(stat.group)
}

/// The signals that end a command, as they arrive.
struct Signals {
    terminate: Option<Arrivals>,
    hang_up: Option<Arrivals>,
    interrupt: Option<Arrivals>,
    quit: Option<Arrivals>,
}

impl Signals {
    /// Catches them, but for those that we were started to ignore (`nohup`): the command is to
    /// ignore these too, and it would not once they had been caught.
    fn catch() -> io::Result<Signals> {
        let ignored = ignored();
        let catch = |kind: SignalKind| {
            let bit = 1 << (kind.as_raw_value() - 1);
            (ignored & bit == 0).then(|| signal(kind)).transpose()
        };
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
            interrupt: catch(SignalKind::interrupt())?,
            quit: catch(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            () = arrival(&mut self.terminate) => Signal::TERM,
            () = arrival(&mut self.hang_up) => Signal::HUP,
            () = arrival(&mut self.interrupt) => Signal::INT,
            () = arrival(&mut self.quit) => Signal::QUIT,
        }
    }
}

async fn arrival(arrivals: &mut Option<Arrivals>) {
    if let Some(arrivals) = arrivals
        && arrivals.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// The set of signals that this process ignores, one bit each; none where it cannot be known.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    field
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}
