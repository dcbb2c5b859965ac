//! What a hook may ask of the price book, as a rule writer means it: who can make this, what does
//! it cost, who makes it for least, and what followed a model that is gone.

use jiff::Timestamp;

use crate::bill::Quote;
use crate::image::capability::Keep;
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;

/// The price book behind `pixtoll.quote` and its neighbours.
pub trait Prices: Send + Sync {
    /// The price of a request; `None` where the book does not know the model.
    fn quote(&self, request: &ImageRequest) -> Option<Quote>;
    /// Whether a model can serve a request at that moment.
    ///
    /// # Errors
    /// Why it cannot, in words for people.
    fn supports(
        &self,
        model: &ModelId,
        request: &ImageRequest,
        at: Timestamp,
    ) -> Result<(), String>;
    /// The model that serves a request for least. What nobody can price is never the cheapest.
    fn cheapest(&self, request: &ImageRequest, search: &Search<'_>) -> Option<(ModelId, Quote)>;
    /// What the book knows of the end of a model; `None` where it names no successor.
    fn successor(&self, model: &ModelId, at: Timestamp) -> Option<Successor>;
    /// Whether the book has the model at all.
    fn knows(&self, model: &ModelId) -> bool;
}

/// Among which models the cheapest is looked for, and what it must keep to.
pub struct Search<'a> {
    /// `None`: all that the book has.
    pub among: Option<&'a [ModelId]>,
    pub keep: &'a Keep,
    /// Never more than this, by the quote's high end.
    pub max_cost: Option<Usd>,
    /// The moment at which the model must still be offered.
    pub at: Timestamp,
    /// Whether calls can be sent to a model now: there is a key for its provider, its breaker is
    /// not open, and it is quick enough.
    pub usable: &'a dyn Fn(&ModelId) -> bool,
}

/// What a provider offers in place of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    pub model: ModelId,
    /// Whether the model that it follows is gone already.
    pub gone: bool,
}
