//! The picture in the size and format that its caller asked for, where another was bought.
//!
//! Only a rule that says `fit = "requested"` has sizes changed, and only what another model drew
//! has its format changed: an answer that nobody touched stays as it came.

use std::sync::Arc;

use super::Pipeline;
use super::call::Call;
use super::chain::Served;
use crate::cache::Entry;
use crate::dialect::picture;
use crate::fit::{Wanted, fit};
use crate::image::{Format, Image, ImageResponse, Picture};
use crate::record::AnsweredFrom;

impl Pipeline {
    /// The answer fitted to what was asked, where that changes anything. What cannot be fitted is
    /// handed over as it is, and the record says why.
    pub(super) async fn fitted(&self, call: &mut Call, served: &Served) -> Option<ImageResponse> {
        let entry = Arc::clone(&served.entry);
        let wanted: Vec<Option<Wanted>> = entry
            .response
            .images
            .iter()
            .map(|image| wanted(call, served, image))
            .collect();
        if wanted.iter().all(Option::is_none) {
            return None;
        }
        // Tens of milliseconds of plain work: not on a thread that carries connections.
        let work = move || fit_all(&entry, &wanted);
        let (response, problems) = tokio::task::spawn_blocking(work).await.ok()?;
        for problem in problems {
            call.decision.notes.push(format!("not fitted: {problem}"));
        }
        Some(response)
    }
}

/// What has to be done with a picture; `None` when it is as it was asked for.
fn wanted(call: &Call, served: &Served, image: &Image) -> Option<Wanted> {
    if matches!(image.picture, Picture::Url(_)) {
        return None;
    }
    let had = image.width.zip(image.height);
    let asked = call.asked.pixels();
    let size = asked.filter(|_| call.change.fit_requested && had.is_some() && asked != had);
    let moved = served.entry.model != call.asked.model || served.from == AnsweredFrom::Plugin;
    let format = call
        .asked
        .format
        .filter(|format| moved && image.format != Format::Unknown && *format != image.format);
    (size.is_some() || format.is_some()).then_some(Wanted {
        size,
        format,
        quality: call.asked.compression,
    })
}

fn fit_all(entry: &Entry, wanted: &[Option<Wanted>]) -> (ImageResponse, Vec<String>) {
    let mut response = entry.response.clone();
    let mut problems = Vec::new();
    for (image, wanted) in response.images.iter_mut().zip(wanted) {
        let Some(wanted) = wanted else { continue };
        let raw = picture::raw(&image.picture).map_err(|error| error.to_string());
        let made = raw.and_then(|raw| {
            fit(&raw.to_bytes(), image.format, wanted).map_err(|error| error.to_string())
        });
        match made {
            Ok((bytes, format)) => {
                image.picture = Picture::Raw(bytes.into());
                image.format = format;
                if let Some((width, height)) = wanted.size {
                    (image.width, image.height) = (Some(width), Some(height));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    (response, problems)
}
