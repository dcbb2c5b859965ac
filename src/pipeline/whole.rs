//! Bodies that are read whole, in room that was taken for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::Pipeline;
use crate::room::Room;

/// A body of unknown length takes its room in steps of so many bytes.
const STEP: usize = 64 << 10;

impl Pipeline {
    /// Waits until there is room for `bytes` of what is paid for.
    pub(super) async fn make_room(&self, room: &Room, bytes: usize) {
        if !room.try_grow(bytes) {
            self.store.sweep();
            room.grow(
                bytes
                    .next_multiple_of(STEP)
                    .min(self.memory.largest_answer()),
            )
            .await;
        }
    }

    /// Reads a body of at most `most` bytes, for which the other side has `patience`: waiting for
    /// room is not counted.
    ///
    /// # Errors
    /// In words: it broke off, it is too large, it did not come in time.
    pub(super) async fn read_whole<B>(
        &self,
        mut body: B,
        most: usize,
        patience: Duration,
    ) -> Result<(Bytes, Arc<Room>), String>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let room = Arc::new(self.memory.room());
        let most = most.min(self.memory.largest_answer());
        let too_large = || format!("the answer is larger than {} MiB", most >> 20);
        let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if told > most {
            return Err(too_large());
        }
        self.make_room(&room, told).await;
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut left = patience;
        loop {
            let asked = Instant::now();
            let frame = match tokio::time::timeout(left, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    frame.map_err(|error| format!("the answer broke off: {error}"))?
                }
                Err(_) => return Err("the answer stopped coming".to_owned()),
            };
            left = left.saturating_sub(asked.elapsed());
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = first.len() + rest.len() + data.len();
            if length > most {
                return Err(too_large());
            }
            self.make_room(&room, length).await;
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.reserve(told.max(first.len() + data.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        let whole = if rest.is_empty() {
            first
        } else {
            rest.freeze()
        };
        room.settle(whole.len());
        Ok((whole, room))
    }
}
