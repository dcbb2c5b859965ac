//! Simulated providers that keep a bill: no key, no network, no cost, and failures on demand.
//!
//! One listener serves them all, over plain HTTP or TLS, HTTP/1.1 or HTTP/2. The provider is told
//! by the path's first segment (`/openai/v1/…`), by the `Host` header, or by the route itself.
//! Answers come from message templates with the simulators' own token arithmetic and prices, so
//! that what they bill is a truth apart from the code that is held against it.

mod answer;
mod batch;
mod behaviour;
mod bfl;
mod bills;
mod control;
mod fal;
mod google;
mod ideogram;
mod openai;
mod picture;
mod queued;
mod replicate;
mod serve;
mod sketch;
mod stability;
mod stability_v1;
mod template;
#[cfg(test)]
mod tests;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use answer::Encoding;
pub use behaviour::{BadBehaviour, Behaviour, Fault, WORDS};
pub use bills::{Bill, Seen};

use crate::money::Usd;
use crate::task::Tasks;
use bills::Books;

/// How the simulated providers behave apart from scripts and directives.
#[derive(Clone, Debug, Default)]
pub struct SimOptions {
    /// Serve the models that their provider has retired, too.
    pub retired_ok: bool,
    /// Fill every picture up to about so many bytes.
    pub pad_to: Option<usize>,
    /// Compress every whole answer with this, whatever the client takes.
    pub force_encoding: Option<Encoding>,
    /// What an attempt gets for which neither header, prompt nor script says anything.
    pub default: Behaviour,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    options: SimOptions,
    addr: SocketAddr,
    tls: bool,
    books: Mutex<Books>,
    jobs: Mutex<queued::Jobs>,
    batches: Mutex<batch::Batches>,
    /// Counts arrivals, so that they can be waited for.
    arrived: watch::Sender<u64>,
    /// Counts releases: who waits, waits for the next.
    releases: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// Makes request ids differ between two simulators.
    birth: i128,
    /// Makes unseeded pictures and request ids differ within one.
    counter: std::sync::atomic::AtomicU64,
}

impl Shared {
    fn next(&self) -> u64 {
        self.counter
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// A request id of 32 hex digits, never the same twice.
    fn request_id(&self) -> String {
        let text = format!("{} {} {}", self.birth, self.addr, self.next());
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }

    fn reset(&self) {
        *self.books.lock() = Books::default();
        *self.jobs.lock() = queued::Jobs::default();
        *self.batches.lock() = batch::Batches::default();
        self.arrived.send_replace(0);
    }

    async fn wait_for_requests(&self, count: u64) {
        let mut arrived = self.arrived.subscribe();
        // The sender lives as long as `self`, so this only ends when the count is reached.
        let _ = arrived.wait_for(|so_far| *so_far >= count).await;
    }

    fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }
}

/// The simulated providers, listening. Dropping it stops them: answers under way may still end,
/// whoever stalls or holds is let go.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Sim {
    /// Listens for plain HTTP/1.1 and HTTP/2 with prior knowledge. Port 0 picks a free one.
    ///
    /// # Errors
    /// Those of binding the address.
    pub async fn start(listen: SocketAddr, options: SimOptions) -> io::Result<Sim> {
        Sim::listen(listen, options, None).await
    }

    /// The same over TLS; HTTP/2 when `tls` offers `h2` by ALPN and the client takes it.
    ///
    /// # Errors
    /// Those of binding the address.
    pub async fn start_tls(
        listen: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        options: SimOptions,
    ) -> io::Result<Sim> {
        Sim::listen(listen, options, Some(tls)).await
    }

    async fn listen(
        listen: SocketAddr,
        options: SimOptions,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<Sim> {
        let listener = TcpListener::bind(listen).await?;
        let shared = Arc::new(Shared {
            options,
            addr: listener.local_addr()?,
            tls: tls.is_some(),
            books: Mutex::default(),
            jobs: Mutex::default(),
            batches: Mutex::default(),
            arrived: watch::Sender::new(0),
            releases: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            birth: jiff::Timestamp::now().as_nanosecond(),
            counter: std::sync::atomic::AtomicU64::new(0),
        });
        let tasks = Tasks::new();
        let accepting = serve::accept(listener, tls, Arc::clone(&shared), tasks.clone());
        tasks.spawn(accepting);
        Ok(Sim { shared, tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    pub fn url(&self) -> String {
        base_url(&self.shared)
    }

    /// Every charge so far, in the order in which the attempts arrived. Attempts that cost nothing
    /// are not among them.
    pub fn bills(&self) -> Vec<Bill> {
        self.shared.books.lock().bills.clone()
    }

    /// What all bills come to.
    pub fn billed(&self) -> Usd {
        Usd::from_nano(self.shared.books.lock().total())
    }

    /// The newest ten thousand requests that arrived whole, oldest first; control requests
    /// (`/_sim/…`) are not counted.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.books.lock().requests.iter().cloned().collect()
    }

    /// Appends to the script of a provider (`openai`, `stability`, `fal` …): one entry for each further
    /// valid attempt that neither its header nor its prompt directs.
    pub fn script<B: Into<Behaviour>>(
        &self,
        provider: &str,
        behaviours: impl IntoIterator<Item = B>,
    ) {
        let mut books = self.shared.books.lock();
        for behaviour in behaviours {
            books.script(provider, behaviour.into());
        }
    }

    /// What the next attempts get, whichever provider they are at, in order.
    pub fn script_any<B: Into<Behaviour>>(&self, behaviours: impl IntoIterator<Item = B>) {
        self.script(bills::ANY, behaviours);
    }

    /// Lets every attempt go that is held now. Those that arrive later are held anew.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Waits until so many requests have arrived since the start or the last reset.
    pub async fn wait_for_requests(&self, count: u64) {
        self.shared.wait_for_requests(count).await;
    }

    /// Forgets bills, requests and scripts. Attempts under way are not touched.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Stops and waits, at most `patience`, for the answers under way. Returns how many connections
    /// were still open then.
    pub async fn stop(self, patience: Duration) -> usize {
        self.shared.stopping.send_replace(true);
        self.tasks.drain(patience).await
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
    }
}

fn base_url(shared: &Shared) -> String {
    let scheme = if shared.tls { "https" } else { "http" };
    format!("{scheme}://{}", shared.addr)
}
