//! Answers that a rule gives itself: a picture from its plugin's folder, and no attempt at all.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::Pipeline;
use super::call::Call;
use super::chain::Served;
use crate::bill::{Codes, Usage};
use crate::cache::Entry;
use crate::dialect::picture;
use crate::image::response::Resolved;
use crate::image::{Image, ImageResponse};
use crate::money::Usd;
use crate::plugin::Plugin;
use crate::record::{AnsweredFrom, RuleRecord};

/// Bytes of pictures that one answer may have.
const MOST: usize = 64 << 20;

impl Pipeline {
    /// Has the call answered with a picture of the plugin's, as many times as pictures were asked
    /// for; the record says why not where there is none.
    pub(super) async fn give(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        file: &str,
        record: &mut RuleRecord,
    ) {
        match plugin.picture(file).await {
            Ok(image) if too_many(call, &image) => {
                record.skipped = Some("that many pictures of its size are too much".to_owned());
            }
            Ok(image) => {
                record.applied = !plugin.observe();
                if record.applied {
                    call.given = Some(self.served_with(call, image));
                    call.served = Some((Arc::clone(&call.asked), call.asked_quote.clone()));
                }
            }
            Err(why) => record.skipped = Some(why),
        }
    }

    fn served_with(&self, call: &Call, image: Image) -> Served {
        let model = call.asked.model.clone();
        let response = ImageResponse {
            model: model.clone(),
            created: u64::try_from(call.decision.at.as_second()).ok(),
            images: vec![image; call.request.n.max(1) as usize],
            withheld: 0,
            resolved: Resolved::default(),
            usage: Usage::default(),
            codes: Codes::default(),
        };
        Served {
            entry: Arc::new(Entry {
                key: self.key_of(call, &call.asked),
                response,
                original: None,
                model,
                cost: Some(Usd::ZERO),
                bought_by: Arc::clone(&call.id),
                bought_at: Instant::now(),
                ttl: Duration::ZERO,
                unreceived: AtomicBool::new(false),
                rooms: Vec::new(),
            }),
            from: AnsweredFrom::Plugin,
            head: None,
        }
    }
}

fn too_many(call: &Call, image: &Image) -> bool {
    let size = picture::raw(&image.picture).map_or(0, |raw| raw.len());
    size.saturating_mul(call.request.n as usize) > MOST
}
