//! A thread for each processor, and connections that stay on one of them.
//!
//! A call takes tens of microseconds of work in several small pieces. Shared among threads, each
//! piece would wake another thread to look for work, and find its memory in the wrong processor's
//! cache. Here everything of a connection runs on one thread; each new connection goes to the next
//! thread in turn. Counting who has fewest would not do better: a tunnel outlives the connection that
//! asked for it, and an idle connection weighs nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::task::Tasks;

/// Sooner than any wait that a call begins with.
const TICK: Duration = Duration::from_secs(1);

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// The number of the thread that this runs on, for what is kept for each of them apart: from 1,
/// and 0 for all threads that are none of [`Cores`].
pub fn here() -> usize {
    HERE.get()
}

/// Lets the other tasks that are ready on this thread come as far as this one.
///
/// The machine code that a call passes through is many times what a processor's first cache holds.
/// Calls that each run to their end fetch all of it, one after the other; calls that stop at the
/// same places fetch each piece once for all that are there. Where nobody else is ready it costs one
/// more turn of the task, and on a thread that is none of [`Cores`] nothing.
pub async fn abreast() {
    let mut stopped = here() == 0;
    poll_fn(|cx| {
        if std::mem::replace(&mut stopped, true) {
            return Poll::Ready(());
        }
        // Not Tokio's own way of yielding: that asks the system for news first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The threads. Clones are the same; they end with the last one.
#[derive(Clone, Debug)]
pub struct Cores {
    all: Arc<[Core]>,
    /// Whose turn it is.
    turn: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Core {
    runtime: Handle,
    /// Dropped to end the thread.
    _end: oneshot::Sender<()>,
}

impl Cores {
    /// Starts a thread for each processor that this process may use.
    ///
    /// # Errors
    /// The system's, when it starts no further thread.
    pub fn start() -> io::Result<Cores> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let all: io::Result<Vec<Core>> = (1..=count).map(Core::start).collect();
        Ok(Cores {
            all: all?.into(),
            turn: Arc::default(),
        })
    }

    /// Serves a connection on the next thread. `serve` is called there, so that what it opens
    /// belongs to that thread.
    pub fn serve<F>(&self, tasks: &Tasks, serve: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let core = &self.all[turn % self.all.len()];
        let _here = core.runtime.enter();
        tasks.spawn(async move { serve().await });
    }
}

impl Core {
    fn start(number: usize) -> io::Result<Core> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(format!("core-{number}"))
            .spawn(move || {
                HERE.set(number);
                runtime.block_on(run(ended));
                // Work that blocks (a picture being fitted) need not be waited for.
                runtime.shutdown_background();
            })?;
        Ok(Core {
            runtime: handle,
            _end: end,
        })
    }
}

/// Runs until `ended`. A timer is always pending: with none, the next one that a call sets would
/// take a system call to announce itself.
async fn run(mut ended: oneshot::Receiver<()>) {
    while tokio::time::timeout(TICK, &mut ended).await.is_err() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn connections_are_spread_and_stay_where_they_are() {
        let cores = Cores::start().unwrap();
        let tasks = Tasks::new();
        let count = cores.all.len();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (open, _) = tokio::sync::watch::channel(false);
        for _ in 0..count * 3 {
            let (tell, mut opened) = (tell.clone(), open.subscribe());
            cores.serve(&tasks, move || async move {
                let before = here();
                let _ = opened.wait_for(|open| *open).await;
                tell.send((before, here())).unwrap();
            });
        }
        open.send_replace(true);
        let mut served: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..count * 3 {
            let (before, after) = told.recv().await.unwrap();
            assert_eq!(before, after);
            *served.entry(after).or_default() += 1;
        }
        assert_eq!(served, (1..=count).map(|core| (core, 3)).collect());
        assert_eq!(here(), 0);
    }

    /// What three tasks of one thread do, in order, when each stops `at` its two steps.
    async fn steps<F>(at: fn() -> F) -> Vec<(u8, u8)>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cores = Cores::start().unwrap();
        let (tell, told) = oneshot::channel();
        let tasks = Tasks::new();
        let walkers = tasks.clone();
        cores.serve(&tasks, move || async move {
            let done = Arc::new(parking_lot::Mutex::new(Vec::new()));
            let walk = |name: u8| {
                let done = Arc::clone(&done);
                walkers.spawn(async move {
                    for step in 0..2 {
                        at().await;
                        done.lock().push((name, step));
                    }
                })
            };
            for walker in [0, 1, 2].map(walk) {
                walker.await.unwrap();
            }
            tell.send(std::mem::take(&mut *done.lock())).unwrap();
        });
        told.await.unwrap()
    }

    #[tokio::test]
    async fn tasks_that_stop_at_the_same_places_go_abreast() {
        let apart = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)];
        assert_eq!(steps(|| std::future::ready(())).await, apart);
        let together = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)];
        assert_eq!(steps(abreast).await, together);
    }

    #[tokio::test]
    async fn elsewhere_nobody_is_waited_for() {
        use futures_util::FutureExt as _;
        assert_eq!(abreast().now_or_never(), Some(()));
    }
}
