//! An answer as it arrives: as it came for the caller, decoded for the reader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::Pipeline;
use super::attempt::shape_of;
use super::call::Call;
use super::dense::Dense;
use super::door::Door;
use super::plan::Plan;
use crate::cache::{Live, Pilot, Shape};
use crate::dialect::{Next, Progress, Reader};
use crate::image::{Failure, FailureKind};
use crate::room::Room;
use crate::upstream::decode::Decoder;
use crate::upstream::{Inbound, strip_hop_by_hop};
use crate::wire::{ReplyHead, Rope};

/// An answer read to its end.
pub(super) struct Read {
    pub(super) next: Next,
    pub(super) head: ReplyHead,
    pub(super) body: Rope,
    /// The caller's view of it, if it has begun to see it.
    pub(super) live: Option<Arc<Live>>,
    /// The last piece, held back until the charge is in the journal.
    pub(super) last: Bytes,
    /// What the body takes of the memory.
    pub(super) room: Arc<Room>,
    pub(super) ttfb: Duration,
}

impl Pipeline {
    /// Reads an answer as it arrives, and shows it to the caller from the moment that nothing in
    /// it can make it a failure any more.
    ///
    /// # Errors
    /// The failure that a broken answer is, with what the caller had begun to see.
    pub(super) async fn read_answer(
        &self,
        call: &mut Call,
        plan: &Plan,
        response: Response<Inbound>,
        pilot: Option<&Pilot>,
        door: &mut Door,
        began: Instant,
    ) -> Result<Read, (Failure, Option<Arc<Live>>, Duration)> {
        let (parts, mut inbound) = response.into_parts();
        let mut headers = parts.headers;
        strip_hop_by_hop(&mut headers);
        let encoding = headers
            .get(CONTENT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let decoder = Decoder::of(encoding).map_err(|error| {
            (
                Failure::lost(FailureKind::Server, error.to_string()),
                None,
                began.elapsed(),
            )
        })?;
        let length = inbound.size_hint().exact();
        let mut view = View::new(
            call,
            plan,
            ReplyHead {
                status: parts.status,
                headers,
            },
            decoder,
            length,
            Arc::new(self.memory.room()),
        );
        let most = self.memory.largest_answer();
        match usize::try_from(length.unwrap_or(0)) {
            Ok(told) if told <= most => self.make_room(&view.room, told).await,
            _ => return Err(view.broken(&too_large(most), None, began)),
        }
        let mut ttfb = None;
        let idle = self.upstream.patience().idle;
        loop {
            let frame = match tokio::time::timeout(idle, inbound.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(view.broken(
                        &format!("the answer broke off: {error}"),
                        ttfb,
                        began,
                    ));
                }
                Err(_) => return Err(view.broken("the answer stopped coming", ttfb, began)),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            ttfb.get_or_insert_with(|| began.elapsed());
            if let Err(why) = view.take(&data, most) {
                return Err(view.broken(&why, ttfb, began));
            }
            self.make_room(&view.room, view.held()).await;
            // What is whole already need not be shown in two parts.
            let whole = view.decoder.is_none() && inbound.is_end_stream();
            if view.may_show() && !whole && !call.holds && !door.is_open() {
                let live = view.begin(length);
                self.open_live(call, Some(plan), &live, door);
                if let Some(pilot) = pilot.filter(|_| view.decoder.is_none()) {
                    pilot.show(live);
                }
            }
        }
        if let Some(decoder) = &mut view.decoder
            && let Err(error) = decoder.finish()
        {
            return Err(view.broken(&error.to_string(), ttfb, began));
        }
        Ok(view.finish(ttfb.unwrap_or_else(|| began.elapsed())))
    }
}

/// One answer on its way through: as it came for the caller, decoded for the reader.
struct View {
    /// As the caller is shown it.
    head: ReplyHead,
    decoder: Option<Decoder>,
    /// Whether the caller takes the encoding it came in; else it is shown decoded.
    encoded_ok: bool,
    reader: Box<dyn Reader>,
    progress: Progress,
    shape: Shape,
    /// Whether this caller can be given the answer as it is.
    fits: bool,
    dense: Dense,
    /// Decoded.
    body: Rope,
    /// As it came, while nobody sees it yet.
    before: Vec<Bytes>,
    live: Option<Arc<Live>>,
    last: Bytes,
    room: Arc<Room>,
    /// Bytes that are held besides the body: what came encoded and is shown so.
    encoded: usize,
}

fn too_large(most: usize) -> String {
    format!("the answer is larger than {} MiB", most >> 20)
}

impl View {
    fn new(
        call: &Call,
        plan: &Plan,
        head: ReplyHead,
        decoder: Option<Decoder>,
        length: Option<u64>,
        room: Arc<Room>,
    ) -> View {
        let shape = Shape {
            dialect: plan.dialect.name(),
            delivery: plan.request.delivery,
            stream: plan.request.stream,
            job: false,
        };
        let accepts = call
            .arrived
            .head
            .header(ACCEPT_ENCODING)
            .unwrap_or_default();
        let encoding = head.header(CONTENT_ENCODING).unwrap_or_default();
        let encoded_ok = decoder.is_some() && accepts.contains(encoding);
        let reader = if decoder.is_some() {
            let mut plain = head.clone();
            plain.headers.remove(CONTENT_ENCODING);
            plan.dialect.reader(&plan.request, &plain)
        } else {
            plan.dialect.reader(&plan.request, &head)
        };
        View {
            reader,
            encoded_ok,
            progress: Progress::Wait,
            fits: shape == shape_of(call) && head.status.is_success() && !call.change.fit_requested,
            shape,
            head,
            decoder,
            dense: Dense::new(length),
            body: Rope::new(),
            before: Vec::new(),
            live: None,
            last: Bytes::new(),
            room,
            encoded: 0,
        }
    }

    /// Takes the next piece; what came before it may now be shown.
    fn take(&mut self, data: &Bytes, most: usize) -> Result<(), String> {
        let decoded = match &mut self.decoder {
            None => None,
            Some(decoder) => Some(decoder.feed(data).map_err(|error| error.to_string())?),
        };
        let plain = decoded.as_ref().unwrap_or(data);
        if self.held() + plain.len() > most {
            return Err(too_large(most));
        }
        if plain.is_empty() {
            // Nothing of it is unfolded yet, so nothing has begun.
        } else if self.progress == Progress::Wait {
            self.progress = self.reader.feed(plain);
        } else {
            self.reader.feed(plain);
        }
        match decoded {
            None => {
                for piece in self.dense.take(data) {
                    self.body.push(piece.clone());
                    self.show(piece);
                }
            }
            Some(plain) => {
                self.body.push(plain.clone());
                if self.encoded_ok {
                    self.encoded += data.len();
                    self.show(data.clone());
                } else {
                    self.show(plain);
                }
            }
        }
        Ok(())
    }

    /// What it takes of the memory, in bytes.
    fn held(&self) -> usize {
        self.body.len() + self.encoded
    }

    /// Holds the newest piece back and lets go of the one before it.
    fn show(&mut self, piece: Bytes) {
        let previous = std::mem::replace(&mut self.last, piece);
        match &self.live {
            Some(live) => live.push(previous),
            None => self.before.push(previous),
        }
    }

    fn may_show(&self) -> bool {
        self.live.is_none() && self.fits && self.progress == Progress::Pass
    }

    /// From here on the caller sees the answer as it comes.
    fn begin(&mut self, length: Option<u64>) -> Arc<Live> {
        let mut head = self.head.clone();
        let mut length = length;
        if self.decoder.is_some() && !self.encoded_ok {
            head.headers.remove(CONTENT_ENCODING);
            head.headers.remove(CONTENT_LENGTH);
            length = None;
        }
        let live = Live::new(head, self.shape, length);
        live.lies_in(Arc::clone(&self.room));
        self.before.drain(..).for_each(|piece| live.push(piece));
        self.live = Some(Arc::clone(&live));
        live
    }

    fn finish(self, ttfb: Duration) -> Read {
        let mut head = self.head;
        head.headers.remove(CONTENT_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
        // Of a small answer the block is larger than what came, unless its length was told.
        let body = if self.body.len() < 16 << 10 && self.body.pieces().len() > 1 {
            Rope::from(Bytes::copy_from_slice(&self.body.to_bytes()))
        } else {
            self.body
        };
        self.room.settle(body.len() + self.encoded);
        Read {
            next: self.reader.finish(&body),
            room: self.room,
            head,
            body,
            live: self.live,
            last: self.last,
            ttfb,
        }
    }

    fn broken(
        &self,
        why: &str,
        ttfb: Option<Duration>,
        began: Instant,
    ) -> (Failure, Option<Arc<Live>>, Duration) {
        let failure = Failure {
            status: None,
            ..Failure::lost(FailureKind::Network, why)
        };
        (
            failure,
            self.live.clone(),
            ttfb.unwrap_or_else(|| began.elapsed()),
        )
    }
}
