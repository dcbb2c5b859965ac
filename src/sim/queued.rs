//! Orders that are worked on as jobs: taken on at once, asked about, and finished later.
//!
//! Nothing runs in the background. A job knows when it is ready, and a question finds it running
//! or done; what it shall answer then is settled when it is taken on, like its bill.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use http::Response;
use tokio::sync::watch;

use super::Shared;
use super::answer::{Answer, Body};
use super::base_url;
use super::behaviour::{Behaviour, Fault};
use super::serve::Arrived;

/// What a provider says of one job, in the order in which it can be asked.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    /// In answer to the submit.
    pub(super) submitted: Answer,
    /// How it stands: while it runs, and when it is done.
    pub(super) status: (Answer, Answer),
    /// The picture: while it runs, and when it is done.
    pub(super) result: (Answer, Answer),
    /// So long the submit itself waits for the picture.
    pub(super) waits: Duration,
}

#[derive(Debug)]
struct Job {
    pages: Pages,
    ready: Ready,
    /// What it says instead of all that, once it was cancelled.
    cancelled: Option<Answer>,
}

/// When a job is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    at: Instant,
    /// Only after a release that came later than this one.
    released_after: Option<u64>,
    never: bool,
}

impl Ready {
    pub(super) fn of(behaviour: &Behaviour, releases: u64) -> Ready {
        Ready {
            at: Instant::now() + behaviour.delay,
            released_after: behaviour.hold.then_some(releases),
            never: behaviour.fault == Fault::Stall,
        }
    }

    pub(super) fn now(&self, shared: &Shared) -> bool {
        let released = self
            .released_after
            .is_none_or(|before| *shared.releases.borrow() > before);
        !self.never && released && Instant::now() >= self.at
    }
}

/// All jobs, by their id; a reset forgets them.
#[derive(Debug, Default)]
pub(super) struct Jobs(HashMap<String, Job>);

/// What is asked of a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Status,
    Result,
}

/// Whether an attempt gets as far as being taken on.
pub(super) fn takes_on(fault: &Fault) -> bool {
    fault.drawn() || matches!(fault, Fault::Safety { .. } | Fault::NoImage)
}

/// Takes an order on as the job `id`, and answers its submit.
///
/// # Errors
/// When the connection is to break, or the simulators stop meanwhile.
pub(super) async fn take_on(
    pages: Pages,
    behaviour: &Behaviour,
    id: &str,
    releases: &watch::Receiver<u64>,
    shared: &Shared,
) -> io::Result<Response<Body>> {
    let ready = Ready::of(behaviour, *releases.borrow());
    let (waits, submitted) = (pages.waits, pages.submitted.clone());
    let job = Job {
        pages,
        ready,
        cancelled: None,
    };
    shared.jobs.lock().0.insert(id.to_owned(), job);
    if behaviour.fault == Fault::Drop {
        return Err(io::Error::other("dropped on demand"));
    }
    let patience = Instant::now() + waits;
    while Instant::now() < patience && !ready.now(shared) {
        if *shared.stopping.borrow() {
            return Err(io::Error::other("the simulated providers stop"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = match answer(id, Ask::Result, shared) {
        Some(done) if !waits.is_zero() && ready.now(shared) => done,
        _ => submitted,
    };
    let fault = match behaviour.fault {
        Fault::Cut { .. } | Fault::Drip { .. } => behaviour.fault.clone(),
        _ => Fault::None,
    };
    Ok(answer.send(&fault))
}

/// What a job answers now; `None` when there is none of that name.
pub(super) fn answer(id: &str, ask: Ask, shared: &Shared) -> Option<Answer> {
    let jobs = shared.jobs.lock();
    let job = jobs.0.get(id)?;
    if let Some(cancelled) = &job.cancelled {
        return Some(cancelled.clone());
    }
    let (running, done) = match ask {
        Ask::Status => &job.pages.status,
        Ask::Result => &job.pages.result,
    };
    Some(if job.ready.now(shared) { done } else { running }.clone())
}

/// Whether a job still runs; `None` when there is none of that name.
pub(super) fn runs(id: &str, shared: &Shared) -> Option<bool> {
    let jobs = shared.jobs.lock();
    let job = jobs.0.get(id)?;
    Some(job.cancelled.is_none() && !job.ready.now(shared))
}

/// Ends a job that runs: from now on it says `instead`.
pub(super) fn cancel(id: &str, instead: Answer, shared: &Shared) {
    if let Some(job) = shared.jobs.lock().0.get_mut(id) {
        job.cancelled = Some(instead);
    }
}

/// Where this client reaches the provider's API: the host that it addressed, where somebody stands
/// between who says so, else the simulators' own address.
pub(super) fn base(arrived: &Arrived, shared: &Shared) -> String {
    match arrived.header("x-forwarded-host") {
        Some(host) => format!("https://{host}"),
        None => base_url(shared),
    }
}

/// Thirty-two hex digits in five groups.
pub(super) fn uuid(hex: &str) -> String {
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}
