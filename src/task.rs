//! Work that outlives the connection that started it, and a shutdown that waits for it.
//!
//! A call that has been sent is paid for whether or not its caller stays; the task that finishes
//! it must not be lost when the process is asked to stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Starts tasks and knows how many still run. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: AtomicUsize,
    idle: Notify,
}

/// Counts down when the task ends, however it ends.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Tasks {
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Runs `work` to its end, whether or not anybody waits for it.
    pub fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.begin(|| work)
    }

    /// As [`Tasks::spawn`], of work that is begun where it stays: a call's future is some kilobytes,
    /// and copied there all its room would be copied with the little that stands in it.
    pub fn begin<F>(&self, begin: impl FnOnce() -> F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.running.fetch_add(1, Ordering::AcqRel);
        let running = Running(Arc::clone(&self.inner));
        let work = Box::into_pin(Box::write(Box::new_uninit(), begin()));
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the place that counts them"
        )]
        tokio::task::spawn(async move {
            let _running = running;
            work.await
        })
    }

    /// As [`Tasks::spawn`], and from wherever something is let go: at the very end of the process
    /// there is nothing left to run in, and `work` ends there.
    pub fn go_on<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.spawn(work);
        }
    }

    /// How many tasks still run.
    pub fn running(&self) -> usize {
        self.inner.running.load(Ordering::Acquire)
    }

    /// Waits until no task runs, at most `patience`. Returns how many still run.
    pub async fn drain(&self, patience: Duration) -> usize {
        let idle = async {
            loop {
                let notified = self.inner.idle.notified();
                if self.running() == 0 {
                    return;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(patience, idle).await;
        self.running()
    }
}
