//! Threads for hooks that take longer than a call's own thread can be kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

const THREADS: usize = 4;
/// Hooks that may wait for a thread; further ones wait for a place in the queue.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads, started when the first slow hook comes, ended with the last plugin.
pub(super) struct VmThreads {
    queue: OnceLock<Option<mpsc::Sender<Job>>>,
}

impl VmThreads {
    pub(super) fn new() -> VmThreads {
        VmThreads {
            queue: OnceLock::new(),
        }
    }

    /// Runs `work` on one of the threads. `None` when it panicked or no thread could be started.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let queue = self.queue.get_or_init(start).as_ref()?;
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The thread outlives a panic; whoever waits sees that nobody answers.
            if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = tell.send(value);
            }
        });
        queue.send(job).await.ok()?;
        told.await.ok()
    }
}

/// Starts the threads; `None` when the system gives none.
fn start() -> Option<mpsc::Sender<Job>> {
    let (queue, jobs) = mpsc::channel::<Job>(QUEUE);
    let jobs = Arc::new(Mutex::new(jobs));
    let started = (0..THREADS)
        .filter(|number| {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("lua-{number}"))
                .spawn(move || serve(&jobs))
                .is_ok()
        })
        .count();
    (started > 0).then_some(queue)
}

fn serve(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = jobs.lock().blocking_recv();
        match job {
            Some(job) => job(),
            None => return,
        }
    }
}
