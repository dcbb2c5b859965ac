//! One purchase that several callers wait for.
//!
//! The first to ask leads; equal calls join while it runs. The leader is a task of its own: no
//! caller's going away ends the purchase, and a leader that dies lets the next waiter lead. An
//! answer is shown while it arrives through [`Live`], which every caller reads at its own pace.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Entry, Key};
use crate::image::{Delivery, Failure};
use crate::room::Room;
use crate::wire::{ReplyHead, Rope};

/// The form an answer has: whom it can be given to as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub dialect: &'static str,
    pub delivery: Delivery,
    pub stream: bool,
    /// It tells of a job, and brings no picture.
    pub job: bool,
}

/// An answer on its way: what is here so far, readable by many.
#[derive(Debug)]
pub struct Live {
    pub head: ReplyHead,
    pub shape: Shape,
    /// The answer's length where its head told it.
    pub length: Option<u64>,
    state: Mutex<State>,
    /// The furthest that any caller has read, in bytes.
    read: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pieces: Vec<Bytes>,
    /// What the pieces take of the memory, for as long as anybody may read them.
    room: Option<Arc<Room>>,
    ended: Option<End>,
    waiting: Vec<Waker>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// The provider's connection broke: the caller's must break too, not look finished.
    Cut,
}

impl Live {
    pub fn new(head: ReplyHead, shape: Shape, length: Option<u64>) -> Arc<Live> {
        Arc::new(Live {
            head,
            shape,
            length,
            state: Mutex::default(),
            read: AtomicU64::new(0),
        })
    }

    /// Says which room the pieces lie in.
    pub fn lies_in(&self, room: Arc<Room>) {
        self.state.lock().room = Some(room);
    }

    /// Shows the next piece to everybody who reads.
    pub fn push(&self, piece: Bytes) {
        if !piece.is_empty() {
            self.change(|state| state.pieces.push(piece));
        }
    }

    /// Nothing more will come.
    pub fn end(&self, end: End) {
        self.change(|state| state.ended = Some(end));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.state.lock();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// All that has come so far.
    pub fn so_far(&self) -> Rope {
        let mut rope = Rope::new();
        self.state
            .lock()
            .pieces
            .iter()
            .for_each(|piece| rope.push(piece.clone()));
        rope
    }

    /// The piece at `place`, or the end, or neither yet.
    fn poll(&self, place: usize, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        let mut state = self.state.lock();
        match (state.pieces.get(place), state.ended) {
            (Some(piece), _) => Poll::Ready(Ok(piece.clone())),
            (None, Some(end)) => Poll::Ready(Err(end)),
            (None, None) => {
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn note_read(&self, bytes: u64) {
        self.read.fetch_max(bytes, Ordering::Relaxed);
    }
}

/// One caller's reading of a live answer.
#[derive(Debug)]
pub struct Reading {
    live: Arc<Live>,
    place: usize,
    bytes: u64,
}

impl Reading {
    pub fn of(live: Arc<Live>) -> Reading {
        Reading {
            live,
            place: 0,
            bytes: 0,
        }
    }

    /// The next piece; `Err` at the end.
    pub fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        let polled = self.live.poll(self.place, cx);
        if let Poll::Ready(Ok(piece)) = &polled {
            self.place += 1;
            self.bytes += piece.len() as u64;
            self.live.note_read(self.bytes);
        }
        polled
    }
}

/// What a purchase came to. A failure is shared like an answer: whoever waited for the same
/// picture would have met the same.
#[derive(Clone, Debug)]
pub enum Bought {
    Answer(Arc<Entry>),
    Failed(Arc<Failed>),
    /// The leader was refused for a reason of its own (its budget) or died: the next leads.
    GivenUp,
}

/// A failure that was shared, with who met it.
#[derive(Debug)]
pub struct Failed {
    pub failure: Failure,
    /// The provider's own answer, where there was one.
    pub reply: Option<crate::wire::Reply>,
    pub by: Arc<str>,
}

/// How far a purchase is.
#[derive(Clone, Debug)]
pub enum Progress {
    Waiting,
    /// A picture has begun; callers that can take the answer as it comes may have it.
    Live(Arc<Live>),
    Done(Bought),
}

/// A purchase under way, as those see it who wait for it.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Id of the decision that leads.
    pub leader: Arc<str>,
    progress: watch::Receiver<Progress>,
}

impl Flight {
    /// What the purchase came to.
    pub async fn bought(&mut self) -> Bought {
        match self
            .progress
            .wait_for(|progress| matches!(progress, Progress::Done(_)))
            .await
            .as_deref()
        {
            Ok(Progress::Done(bought)) => bought.clone(),
            _ => Bought::GivenUp,
        }
    }

    /// The answer as it comes, or what the purchase came to, whichever is first.
    pub async fn live_or_bought(&mut self) -> Progress {
        match self
            .progress
            .wait_for(|progress| !matches!(progress, Progress::Waiting))
            .await
            .as_deref()
        {
            Ok(progress) => progress.clone(),
            Err(_) => Progress::Done(Bought::GivenUp),
        }
    }
}

/// All purchases under way.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    running: Arc<DashMap<Key, Flight, RandomState>>,
}

/// Whether a call leads a purchase or joins one.
#[derive(Debug)]
pub enum Joined {
    Leads(Pilot),
    Follows(Flight),
}

impl Flights {
    pub fn new() -> Flights {
        Flights::default()
    }

    /// Joins the purchase of `key`, or begins one as `leader`.
    pub fn join(&self, key: &Key, leader: &Arc<str>) -> Joined {
        match self.running.entry(key.clone()) {
            // A flight whose pilot has gone is over, even if its entry is still here.
            Slot::Occupied(slot) if slot.get().progress.has_changed().is_ok() => {
                Joined::Follows(slot.get().clone())
            }
            slot => {
                let (sender, progress) = watch::channel(Progress::Waiting);
                slot.insert(Flight {
                    leader: Arc::clone(leader),
                    progress,
                });
                Joined::Leads(Pilot {
                    key: key.clone(),
                    leader: Arc::clone(leader),
                    sender,
                    flights: self.clone(),
                })
            }
        }
    }

    /// How many purchases are under way.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

/// The leader's side of a purchase. Dropped without a landing, it lets the next waiter lead.
#[derive(Debug)]
pub struct Pilot {
    key: Key,
    leader: Arc<str>,
    sender: watch::Sender<Progress>,
    flights: Flights,
}

impl Pilot {
    /// Lets those who can read the answer as it comes begin.
    pub fn show(&self, live: Arc<Live>) {
        self.sender.send_replace(Progress::Live(live));
    }

    /// Ends the flight. New calls no longer join it: an answer is in the store by now.
    pub fn land(self, bought: Bought) {
        self.flights
            .running
            .remove_if(&self.key, |_, flight| flight.leader == self.leader);
        self.sender.send_replace(Progress::Done(bought));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.flights
            .running
            .remove_if(&self.key, |_, flight| flight.leader == self.leader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::{Around, Partition};
    use crate::image::{FailureKind, ImageRequest, ModelId};

    fn key(prompt: &str) -> Key {
        let request = ImageRequest::new(ModelId::new("openai", "m"), prompt);
        Key::of(
            &request,
            &Around {
                partition: &Partition::Everyone,
                query: None,
                variant: 0,
                inert: &[],
            },
        )
    }

    fn failed() -> Bought {
        let failure = Failure::not_sent(FailureKind::Network, "no");
        Bought::Failed(Arc::new(Failed {
            failure,
            reply: None,
            by: "one".into(),
        }))
    }

    #[tokio::test]
    async fn equal_calls_share_one_purchase() {
        let flights = Flights::new();
        let Joined::Leads(pilot) = flights.join(&key("cat"), &"one".into()) else {
            panic!("the first leads")
        };
        let mut followers: Vec<Flight> = (0..20)
            .map(|n| match flights.join(&key("cat"), &n.to_string().into()) {
                Joined::Follows(flight) => flight,
                Joined::Leads(_) => panic!("a second leader"),
            })
            .collect();
        assert!(matches!(
            flights.join(&key("dog"), &"other".into()),
            Joined::Leads(_)
        ));
        pilot.land(failed());
        for flight in &mut followers {
            assert!(
                matches!(flight.bought().await, Bought::Failed(failed) if &*failed.by == "one")
            );
        }
        assert!(matches!(
            flights.join(&key("cat"), &"later".into()),
            Joined::Leads(_)
        ));
    }

    #[tokio::test]
    async fn a_leader_that_dies_lets_the_next_one_lead() {
        let flights = Flights::new();
        let Joined::Leads(pilot) = flights.join(&key("cat"), &"one".into()) else {
            panic!()
        };
        let Joined::Follows(mut flight) = flights.join(&key("cat"), &"two".into()) else {
            panic!()
        };
        drop(pilot);
        assert!(matches!(flight.bought().await, Bought::GivenUp));
        assert!(matches!(
            flights.join(&key("cat"), &"two".into()),
            Joined::Leads(_)
        ));
        assert!(flights.len() <= 1);
    }

    #[tokio::test]
    async fn readers_see_the_same_answer_each_at_its_own_pace() {
        let shape = Shape {
            job: false,
            dialect: "openai",
            delivery: Delivery::Base64,
            stream: false,
        };
        let live = Live::new(
            ReplyHead::new(http::StatusCode::OK, "image/png"),
            shape,
            None,
        );
        live.push("one ".into());
        let early = crate::task::Tasks::new().spawn(read(Arc::clone(&live)));
        live.push("two ".into());
        tokio::task::yield_now().await;
        live.push("three".into());
        live.end(End::Whole);
        assert_eq!(
            early.await.unwrap(),
            ("one two three".to_owned(), End::Whole)
        );
        assert_eq!(read(live).await, ("one two three".to_owned(), End::Whole));
    }

    async fn read(live: Arc<Live>) -> (String, End) {
        let mut reading = Reading::of(live);
        let mut text = String::new();
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut reading).poll_next(cx)).await {
                Ok(piece) => text.push_str(std::str::from_utf8(&piece).unwrap()),
                Err(end) => return (text, end),
            }
        }
    }
}
