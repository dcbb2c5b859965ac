//! Pictures that lie at addresses, brought to callers that want them in hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Pipeline;
use super::attempt::shape_of;
use super::call::Call;
use super::chain::Served;
use super::door::Door;
use super::rescue::Rescued;
use crate::cache::Entry;
use crate::dialect::picture;
use crate::image::{Delivery, Image, ImageResponse, Picture};
use crate::room::Room;

/// The largest picture that is fetched.
const LARGEST: usize = 64 << 20;

impl Pipeline {
    /// Fetches what this caller cannot be given as an address; what is fetched is kept in place of
    /// the address. Where that fails, the address stays, and the record says why.
    pub(super) async fn bring(
        &self,
        call: &mut Call,
        door: &Door,
        outcome: Result<Served, Rescued>,
    ) -> Result<Served, Rescued> {
        let mut served = outcome?;
        let entry = &served.entry;
        let in_hand = call.asked.delivery != Delivery::Url || call.asked.stream;
        let away = entry.response.images.iter().any(is_away);
        if !in_hand || !away || door.is_open() || entry.as_it_came(shape_of(call)).is_some() {
            return Ok(served);
        }
        match self.fetched(entry).await {
            Ok((response, rooms)) => served.entry = self.replace(entry, response, rooms),
            Err(why) => call
                .decision
                .notes
                .push(format!("the picture was not fetched: {why}")),
        }
        Ok(served)
    }

    async fn fetched(&self, entry: &Entry) -> Result<(ImageResponse, Vec<Arc<Room>>), String> {
        // A provider that is configured to be in this net keeps its pictures there.
        let provider = self.providers.named(entry.model.provider());
        let anywhere = provider.is_some_and(|provider| provider.upstream.is_some());
        let mut response = entry.response.clone();
        let mut rooms = entry.rooms.clone();
        for image in &mut response.images {
            let Picture::Url(url) = &image.picture else {
                continue;
            };
            let room = Arc::new(self.memory.room());
            let fetched = self.upstream.fetch(url, LARGEST, anywhere, &room).await;
            let fetched = fetched.map_err(|error| error.to_string())?;
            let found = picture::image(Picture::Raw(fetched.body), fetched.format)
                .ok_or("there is nothing at its address")?;
            *image = Image {
                seed: image.seed,
                revised_prompt: image.revised_prompt.take(),
                ..found
            };
            rooms.push(room);
        }
        Ok((response, rooms))
    }

    fn replace(
        &self,
        entry: &Arc<Entry>,
        response: ImageResponse,
        rooms: Vec<Arc<Room>>,
    ) -> Arc<Entry> {
        let may_be_kept = rooms.iter().all(|room| room.may_be_kept());
        let fetched = Arc::new(Entry {
            key: entry.key.clone(),
            response,
            original: entry.original.clone(),
            model: entry.model.clone(),
            cost: entry.cost,
            bought_by: entry.bought_by.clone(),
            bought_at: entry.bought_at,
            ttl: entry.ttl,
            unreceived: AtomicBool::new(entry.unreceived.load(Ordering::Acquire)),
            rooms,
        });
        let kept = self.store.get(&entry.key);
        if may_be_kept && kept.is_some_and(|kept| Arc::ptr_eq(&kept, entry)) {
            self.store.put(Arc::clone(&fetched));
        }
        fetched
    }
}

fn is_away(image: &Image) -> bool {
    matches!(image.picture, Picture::Url(_))
}
