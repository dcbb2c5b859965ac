//! What `pixtoll price --json` tells.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Priced;
use crate::cli::quoted::QuoteFacts;
use crate::image::capability::Unmet;
use crate::image::{Format, ImageRequest, ModelId, Operation, Quality, Tier};
use crate::price::rank::Offer;
use crate::price::store::Keeping;

impl Priced<'_> {
    pub(super) fn facts(&self) -> Facts<'_> {
        let own = self.own.as_ref();
        let offer = own.and_then(|own| own.as_ref().ok());
        Facts {
            model: &self.model,
            request: RequestFacts::of(self.request, &self.fields),
            quote: self.quote.as_ref().map(QuoteFacts::from),
            known: self.row.is_some(),
            retired: self.retired,
            retired_on: self
                .row
                .and_then(|row| row.capability.retired_on.as_deref()),
            successor: self.row.and_then(|row| row.capability.successor.as_deref()),
            as_of: self.row.map(|row| row.as_of.as_str()),
            source: self.row.map(|row| row.source.as_str()),
            note: self.row.and_then(|row| row.note.as_deref()),
            paid_beside: self.beside.as_deref(),
            bought_before: self.row.and_then(|row| row.bought_before()),
            remarks: self
                .remarks()
                .into_iter()
                .chain(self.untold.clone())
                .collect(),
            keeping: self.keeping.as_ref(),
            misfit: own.and_then(|own| own.as_ref().err()).map(String::as_str),
            lost: offer.map(|offer| offer.lost.as_slice()).unwrap_or_default(),
            unmet: offer.map(|offer| unmet(offer)).unwrap_or_default(),
            others: self
                .ranking
                .offers
                .iter()
                .map(|offer| OfferFacts::of(offer, self.unspoken.contains(&offer.row.id)))
                .collect(),
            refused: self
                .ranking
                .refusals
                .iter()
                .map(|refusal| RefusalFacts {
                    model: &refusal.row.id,
                    field: refusal.misfit.field,
                    why: &refusal.misfit.why,
                })
                .collect(),
        }
    }
}

/// The data of `--json`.
#[derive(Serialize)]
pub(super) struct Facts<'a> {
    model: &'a ModelId,
    request: RequestFacts<'a>,
    quote: Option<QuoteFacts>,
    known: bool,
    retired: bool,
    retired_on: Option<&'a str>,
    successor: Option<&'a str>,
    as_of: Option<&'a str>,
    source: Option<&'a str>,
    note: Option<&'a str>,
    /// The other model that is paid for with it, and whose share is in no quote.
    paid_beside: Option<&'a str>,
    /// Pictures bought from its provider this month, where somebody counts.
    bought_before: Option<u64>,
    /// The same and more, in words for people.
    remarks: Vec<String>,
    /// What it costs to keep the pictures, where that was asked; in no quote.
    keeping: Option<&'a Keeping>,
    /// Why the model itself cannot do it.
    misfit: Option<&'a str>,
    lost: &'a [&'static str],
    unmet: Vec<UnmetFacts<'a>>,
    others: Vec<OfferFacts<'a>>,
    refused: Vec<RefusalFacts<'a>>,
}

/// The fields that a price depends on.
#[derive(Serialize)]
struct RequestFacts<'a> {
    operation: Operation,
    size: String,
    quality: Option<Quality>,
    n: u32,
    steps: Option<u32>,
    tier: Tier,
    format: Option<Format>,
    inputs: usize,
    prompt_bytes: usize,
    extra: BTreeMap<&'a String, &'a Value>,
}

impl<'a> RequestFacts<'a> {
    fn of(request: &'a ImageRequest, fields: &[(&'a String, &'a Value)]) -> RequestFacts<'a> {
        RequestFacts {
            operation: request.operation,
            size: request.size.to_string(),
            quality: request.quality,
            n: request.n,
            steps: request.steps,
            tier: request.tier,
            format: request.format,
            inputs: request.inputs.len(),
            prompt_bytes: request.prompt.len(),
            extra: fields.iter().copied().collect(),
        }
    }
}

#[derive(Serialize)]
struct UnmetFacts<'a> {
    wish: &'a str,
    got: &'a str,
}

fn unmet<'a>(offer: &'a Offer<'_>) -> Vec<UnmetFacts<'a>> {
    let facts = |Unmet { wish, got }: &'a Unmet| UnmetFacts { wish, got };
    offer.unmet.iter().map(facts).collect()
}

#[derive(Serialize)]
struct OfferFacts<'a> {
    model: &'a ModelId,
    quote: Option<QuoteFacts>,
    /// Whether this version can send a call there.
    reachable: bool,
    retired: bool,
    retired_on: Option<&'a str>,
    lost: &'a [&'static str],
    unmet: Vec<UnmetFacts<'a>>,
}

impl<'a> OfferFacts<'a> {
    fn of(offer: &'a Offer<'_>, unspoken: bool) -> OfferFacts<'a> {
        OfferFacts {
            model: &offer.row.id,
            reachable: !unspoken,
            quote: offer.quote.as_ref().map(QuoteFacts::from),
            retired: offer.retired,
            retired_on: offer.row.capability.retired_on.as_deref(),
            lost: &offer.lost,
            unmet: unmet(offer),
        }
    }
}

#[derive(Serialize)]
struct RefusalFacts<'a> {
    model: &'a ModelId,
    field: &'static str,
    why: &'a str,
}
