//! What a model can express, as data, and a request cut to that measure.
//!
//! A request that moves to another model keeps everything the model has a word for. The rest is
//! listed as lost; prompt, input images, mask and n are never lost: a model that cannot take them
//! is no target. One that makes fewer pictures a call than are wanted is asked several times.

use super::request::{Delivery, Format, ImageRequest, InputRole, Operation, Quality, Safety, Tier};
use super::size::{Aspect, Size};

/// The most calls that one is split into, for a model that makes fewer pictures than are wanted.
const MOST_CALLS: u32 = 16;

/// Which sizes a model makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Exactly these, in pixels.
    Pixels(Vec<(u32, u32)>),
    /// These shapes, each with the pixels it comes in.
    Aspects(Vec<(Aspect, (u32, u32))>),
    /// Any size within bounds.
    Free(FreeSizes),
}

/// Bounds of a model that takes any width and height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSizes {
    /// Both sides are multiples of this.
    pub multiple: u32,
    pub min_pixels: u64,
    pub max_pixels: u64,
    pub max_side: u32,
    /// The longer side is at most so many times the shorter.
    pub max_ratio: u32,
}

impl FreeSizes {
    /// The allowed size nearest to the one asked.
    fn nearest(&self, width: u32, height: u32) -> (u32, u32) {
        let step = self.multiple.max(1);
        let (mut wide, mut high) = (width.max(1), height.max(1));
        if wide / high >= self.max_ratio {
            wide = high * self.max_ratio;
        } else if high / wide >= self.max_ratio {
            high = wide * self.max_ratio;
        }
        let aspect = Aspect::of(wide, high);
        let pixels = u64::from(wide) * u64::from(high);
        let budget = pixels.clamp(self.min_pixels, self.max_pixels);
        if budget != pixels {
            (wide, high) = aspect.pixels_for(budget, 1);
        }
        let longest = wide.max(high);
        if longest > self.max_side {
            let scale = |side: u32| {
                u32::try_from(u64::from(side) * u64::from(self.max_side) / u64::from(longest))
                    .unwrap_or(side)
            };
            (wide, high) = (scale(wide), scale(high));
        }
        let floor = |side: u32| (side / step * step).max(step);
        let (mut w, mut h) = (floor(wide), floor(high));
        // Rounding down may have fallen below the least size: then the next step up is nearest.
        if u64::from(w) * u64::from(h) < self.min_pixels {
            w = (w + step).min(self.max_side / step * step);
            h = (h + step).min(self.max_side / step * step);
        }
        (w, h)
    }

    fn allows(&self, width: u32, height: u32) -> bool {
        let pixels = u64::from(width) * u64::from(height);
        width.is_multiple_of(self.multiple)
            && height.is_multiple_of(self.multiple)
            && (self.min_pixels..=self.max_pixels).contains(&pixels)
            && width.max(height) <= self.max_side
            && width.max(height) <= width.min(height).saturating_mul(self.max_ratio)
    }
}

/// What one model can be asked for. Absent abilities are empty or `false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    pub operations: Vec<Operation>,
    pub sizes: Sizes,
    /// What `auto`, or nothing at all, usually turns out to be.
    pub usual: (u32, u32),
    /// Empty: the model has no such choice.
    pub qualities: Vec<Quality>,
    pub formats: Vec<Format>,
    pub max_n: u32,
    pub seed: bool,
    pub negative_prompt: bool,
    pub steps: Option<(u32, u32)>,
    pub guidance: bool,
    pub strength: bool,
    pub styles: Vec<String>,
    pub backgrounds: Vec<String>,
    pub compression: bool,
    /// How many input images it takes; 0 for none.
    pub max_inputs: u32,
    pub mask: bool,
    pub stream: bool,
    pub safety: Vec<Safety>,
    pub tiers: Vec<Tier>,
    pub deliveries: Vec<Delivery>,
    /// First day without the model, `YYYY-MM-DD`. A retired model keeps its price.
    pub retired_on: Option<String>,
    /// Full `provider/model` of what its provider offers instead.
    pub successor: Option<String>,
    /// Resolutions that it draws any shape in, by name: `1K`, `4K`. Empty: it has but one.
    pub resolutions: Vec<&'static str>,
}

/// A request cut to a model's measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    pub request: ImageRequest,
    /// Fields the model has no word for.
    pub lost: Vec<&'static str>,
    /// Wishes met only nearly: field, wish, what it gets.
    pub unmet: Vec<Unmet>,
}

/// A wish that a model meets only nearly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub wish: String,
    pub got: String,
}

/// Why a model is no target for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field that cannot be given up.
    pub field: &'static str,
    pub why: String,
}

impl Capability {
    /// Whether the model is gone on `today` (`YYYY-MM-DD`).
    pub fn retired(&self, today: &str) -> bool {
        self.retired_on.as_deref().is_some_and(|day| day <= today)
    }

    /// Whether the model is gone at that moment, by the day in UTC.
    pub fn retired_at(&self, at: jiff::Timestamp) -> bool {
        let on = self.retired_on.as_deref();
        // Read, and not the moment written: every call of such a model asks.
        let on = on.and_then(|day| day.parse::<jiff::civil::Date>().ok());
        on.is_some_and(|day| day <= jiff::tz::Offset::UTC.to_datetime(at).date())
    }

    /// Pixels that a size comes out as, `usual` where nobody can know.
    pub fn expected_pixels(&self, size: &Size) -> (u32, u32) {
        match size {
            Size::Auto => self.usual,
            Size::Pixels { width, height } => self.nearest_pixels(*width, *height),
            Size::Aspect { aspect, .. } => match &self.sizes {
                Sizes::Aspects(shapes) => {
                    nearest_shape(*aspect, shapes).map_or(self.usual, |(_, pixels)| pixels)
                }
                _ => {
                    let budget = u64::from(self.usual.0) * u64::from(self.usual.1);
                    let (width, height) = aspect.pixels_for(budget, 16);
                    self.nearest_pixels(width, height)
                }
            },
        }
    }

    fn nearest_pixels(&self, width: u32, height: u32) -> (u32, u32) {
        match &self.sizes {
            Sizes::Free(free) if free.allows(width, height) => (width, height),
            Sizes::Free(free) => free.nearest(width, height),
            Sizes::Pixels(list) if list.contains(&(width, height)) => (width, height),
            Sizes::Pixels(list) => nearest_pixels(width, height, list).unwrap_or(self.usual),
            Sizes::Aspects(shapes) => nearest_shape(Aspect::of(width, height), shapes)
                .map_or(self.usual, |(_, pixels)| pixels),
        }
    }

    /// The calls that `n` pictures take, as few as can be: how many each is asked for.
    pub fn calls_for(&self, n: u32) -> impl Iterator<Item = u32> + use<> {
        let most = self.max_n.max(1);
        (0..n.max(1).div_ceil(most)).map(move |call| most.min(n.max(1) - call * most))
    }

    /// Cuts `request` to what this model can express. `keep` names fields that must not be lost.
    ///
    /// # Errors
    /// A [`Misfit`] when the operation, an input, the mask, n or a kept field is out of reach.
    pub fn fit(&self, request: &ImageRequest, keep: &Keep) -> Result<Fitted, Misfit> {
        self.refuse_what_cannot_be_lost(request)?;
        let mut fitted = Fitted {
            request: request.clone(),
            lost: Vec::new(),
            unmet: Vec::new(),
        };
        self.drop_what_has_no_word(&mut fitted);
        self.fit_size(&mut fitted);
        self.fit_quality(&mut fitted);
        match fitted.lost.iter().find(|field| keep.covers(field)) {
            Some(field) => Err(Misfit {
                field,
                why: format!("`{field}` must be kept and the model has no word for it"),
            }),
            None => Ok(fitted),
        }
    }

    fn refuse_what_cannot_be_lost(&self, request: &ImageRequest) -> Result<(), Misfit> {
        let misfit = |field, why: String| Err(Misfit { field, why });
        if !self.operations.contains(&request.operation) {
            return misfit(
                "operation",
                format!("the model does not {}", request.operation),
            );
        }
        if request.n.div_ceil(self.max_n.max(1)) > MOST_CALLS {
            return misfit(
                "n",
                format!(
                    "{} pictures wanted, {} a call and {MOST_CALLS} calls are the most",
                    request.n, self.max_n
                ),
            );
        }
        let images = request.inputs_of(InputRole::Image).count();
        if images > self.max_inputs as usize {
            return misfit(
                "inputs",
                format!(
                    "{images} input images given, {} is the most",
                    self.max_inputs
                ),
            );
        }
        if !self.mask
            && request
                .inputs
                .iter()
                .any(|input| input.role != InputRole::Image)
        {
            return misfit("mask", "the model takes no mask or markup".to_owned());
        }
        Ok(())
    }

    fn drop_what_has_no_word(&self, fitted: &mut Fitted) {
        let request = &mut fitted.request;
        let lost = &mut fitted.lost;
        fn clear<T>(
            slot: &mut Option<T>,
            able: bool,
            field: &'static str,
            lost: &mut Vec<&'static str>,
        ) {
            if !able && slot.take().is_some() {
                lost.push(field);
            }
        }
        clear(
            &mut request.negative_prompt,
            self.negative_prompt,
            "negative_prompt",
            lost,
        );
        clear(&mut request.seed, self.seed, "seed", lost);
        clear(&mut request.steps, self.steps.is_some(), "steps", lost);
        clear(&mut request.guidance, self.guidance, "guidance", lost);
        clear(&mut request.strength, self.strength, "strength", lost);
        let knows_style = request
            .style
            .as_ref()
            .is_some_and(|style| self.styles.contains(style));
        clear(&mut request.style, knows_style, "style", lost);
        let knows_background = request
            .background
            .as_ref()
            .is_some_and(|b| self.backgrounds.contains(b));
        if request.background.as_deref() == Some("auto") && !knows_background {
            request.background = None; // `auto` demands nothing, so nothing is lost
        }
        clear(
            &mut request.background,
            knows_background,
            "background",
            lost,
        );
        clear(
            &mut request.compression,
            self.compression,
            "compression",
            lost,
        );
        let knows_safety = request
            .safety
            .is_some_and(|safety| self.safety.contains(&safety));
        if request.safety == Some(Safety::Default) && !knows_safety {
            request.safety = None;
        }
        clear(&mut request.safety, knows_safety, "safety", lost);
        if request.partial_images > 0 && !self.stream {
            request.partial_images = 0;
            lost.push("partial_images");
        }
        if !self.tiers.contains(&request.tier) {
            fitted.unmet.push(Unmet {
                wish: format!("tier {}", request.tier),
                got: format!("tier {}", Tier::Standard),
            });
            request.tier = Tier::Standard;
        }
        if let Some(format) = request.format
            && !self.formats.contains(&format)
        {
            let got = self.formats.first().copied().unwrap_or(Format::Png);
            fitted.unmet.push(Unmet {
                wish: format!("format {format}"),
                got: format!("format {got}"),
            });
            request.format = Some(got);
        }
    }

    fn fit_size(&self, fitted: &mut Fitted) {
        let wish = fitted.request.size.clone();
        let got = match (&wish, &self.sizes) {
            (Size::Auto, _) => return,
            (_, Sizes::Aspects(shapes)) => {
                let aspect = wish.aspect().unwrap_or(Aspect { wide: 1, high: 1 });
                let Some((nearest, _)) = nearest_shape(aspect, shapes) else {
                    return;
                };
                Size::Aspect {
                    aspect: nearest,
                    step: self.step(&wish),
                }
            }
            _ => {
                let (width, height) = self.expected_pixels(&wish);
                Size::Pixels { width, height }
            }
        };
        let (width, height) = self.expected_pixels(&got);
        let exact = match wish.pixels() {
            Some(pixels) => pixels == (width, height),
            None => wish.aspect() == got.aspect() && step_of(&wish) == step_of(&got),
        };
        if !exact {
            fitted.unmet.push(Unmet {
                wish: format!("size {wish}"),
                got: format!("size {width}x{height}"),
            });
        }
        fitted.request.size = got;
    }

    /// The wish's resolution, where the model has it.
    fn step(&self, wish: &Size) -> Option<String> {
        let step = step_of(wish)?;
        let known = self
            .resolutions
            .iter()
            .find(|known| known.eq_ignore_ascii_case(step))?;
        Some((*known).to_owned())
    }

    /// Of the model's qualities the highest that is not above the wish, else its lowest.
    fn fit_quality(&self, fitted: &mut Fitted) {
        let Some(wish) = fitted.request.quality else {
            return;
        };
        if self.qualities.contains(&wish) {
            return;
        }
        let Some(rank) = wish.rank().filter(|_| !self.qualities.is_empty()) else {
            fitted.request.quality = None; // a model without the choice, or `auto`: nothing to say
            if wish != Quality::Auto {
                fitted.lost.push("quality");
            }
            return;
        };
        let ranked = |want: fn(u8, u8) -> bool| {
            self.qualities
                .iter()
                .copied()
                .filter(move |q| q.rank().is_some_and(|r| want(r, rank)))
        };
        let got = ranked(|r, rank| r <= rank)
            .max_by_key(|q| q.rank())
            .or_else(|| {
                self.qualities
                    .iter()
                    .copied()
                    .filter(|q| q.rank().is_some())
                    .min_by_key(|q| q.rank())
            });
        if got.and_then(Quality::rank) != Some(rank) {
            let text = got.map_or("none", Quality::as_str);
            fitted.unmet.push(Unmet {
                wish: format!("quality {wish}"),
                got: format!("quality {text}"),
            });
        }
        fitted.request.quality = got;
    }
}

/// Fields that must not be lost on the way to another model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    #[default]
    Nothing,
    Everything,
    Fields(Vec<String>),
}

impl Keep {
    /// Whether `field` must not be lost.
    pub fn covers(&self, field: &str) -> bool {
        match self {
            Keep::Nothing => false,
            Keep::Everything => true,
            Keep::Fields(fields) => fields.iter().any(|kept| kept == field),
        }
    }
}

fn nearest_shape(aspect: Aspect, shapes: &[(Aspect, (u32, u32))]) -> Option<(Aspect, (u32, u32))> {
    let nearest = aspect.nearest(shapes.iter().map(|(shape, _)| shape))?;
    shapes.iter().copied().find(|(shape, _)| *shape == nearest)
}

/// The listed size of the nearest shape; of several, the one nearest in pixels.
fn nearest_pixels(width: u32, height: u32, list: &[(u32, u32)]) -> Option<(u32, u32)> {
    let shapes: Vec<Aspect> = list.iter().map(|&(w, h)| Aspect::of(w, h)).collect();
    let shape = Aspect::of(width, height).nearest(&shapes)?;
    let pixels = u64::from(width) * u64::from(height);
    list.iter()
        .copied()
        .filter(|&(w, h)| Aspect::of(w, h) == shape)
        .min_by_key(|&(w, h)| (u64::from(w) * u64::from(h)).abs_diff(pixels))
}

/// The name of the resolution that a size asks for.
fn step_of(size: &Size) -> Option<&str> {
    match size {
        Size::Aspect { step, .. } => step.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ModelId;

    fn stability() -> Capability {
        let shape = |text: &str, pixels| (Aspect::parse(text).unwrap(), pixels);
        Capability {
            operations: vec![Operation::Generate],
            sizes: Sizes::Aspects(vec![
                shape("1:1", (1024, 1024)),
                shape("3:2", (1216, 832)),
                shape("2:3", (832, 1216)),
            ]),
            usual: (1024, 1024),
            qualities: vec![],
            formats: vec![Format::Png, Format::Jpeg],
            max_n: 1,
            seed: true,
            negative_prompt: true,
            steps: None,
            guidance: true,
            strength: true,
            styles: vec!["anime".into()],
            backgrounds: vec![],
            compression: false,
            max_inputs: 0,
            mask: false,
            stream: false,
            safety: vec![],
            tiers: vec![Tier::Standard],
            deliveries: vec![Delivery::Base64, Delivery::Bytes],
            retired_on: None,
            successor: None,
            resolutions: Vec::new(),
        }
    }

    fn asked() -> ImageRequest {
        ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a cat")
    }

    #[test]
    fn what_the_model_has_no_word_for_is_listed_as_lost() {
        let request = ImageRequest {
            quality: Some(Quality::High),
            background: Some("transparent".into()),
            steps: Some(30),
            seed: Some(7),
            ..asked()
        };
        let fitted = stability().fit(&request, &Keep::Nothing).unwrap();
        assert_eq!(fitted.lost, ["steps", "background", "quality"]);
        assert_eq!(fitted.request.seed, Some(7));
    }

    #[test]
    fn a_kept_field_makes_the_model_no_target() {
        let request = ImageRequest {
            steps: Some(30),
            ..asked()
        };
        let misfit = stability()
            .fit(&request, &Keep::Fields(vec!["steps".into()]))
            .unwrap_err();
        assert_eq!(misfit.field, "steps");
    }

    #[test]
    fn n_is_never_lost() {
        let fit = |n| stability().fit(&ImageRequest { n, ..asked() }, &Keep::Nothing);
        assert_eq!(fit(16).unwrap().request.n, 16);
        assert_eq!(fit(17).unwrap_err().field, "n");
        assert_eq!(fit(u32::MAX).unwrap_err().field, "n");
    }

    #[test]
    fn the_calls_of_a_model_bring_as_many_pictures_as_are_wanted() {
        let calls = |max_n, n| {
            let model = Capability {
                max_n,
                ..stability()
            };
            model.calls_for(n).collect::<Vec<_>>()
        };
        assert_eq!(calls(1, 3), [1, 1, 1]);
        assert_eq!(calls(4, 4), [4]);
        assert_eq!(calls(4, 10), [4, 4, 2]);
        assert_eq!(calls(0, 2), [1, 1]);
        assert_eq!(calls(4, 0), [1]);
    }

    #[test]
    fn pixels_become_the_nearest_shape_and_say_so() {
        let request = ImageRequest {
            size: Size::Pixels {
                width: 1536,
                height: 1024,
            },
            ..asked()
        };
        let fitted = stability().fit(&request, &Keep::Nothing).unwrap();
        assert_eq!(fitted.request.size.to_string(), "3:2");
        assert_eq!(
            fitted.unmet,
            [Unmet {
                wish: "size 1536x1024".into(),
                got: "size 1216x832".into()
            }]
        );
    }

    #[test]
    fn a_free_size_is_cut_to_its_bounds() {
        let free = FreeSizes {
            multiple: 16,
            min_pixels: 655_360,
            max_pixels: 8_294_400,
            max_side: 3840,
            max_ratio: 3,
        };
        let model = Capability {
            sizes: Sizes::Free(free.clone()),
            ..stability()
        };
        assert_eq!(
            model.expected_pixels(&Size::Pixels {
                width: 1024,
                height: 1024
            }),
            (1024, 1024)
        );
        for (width, height) in [
            (256, 256),
            (1, 1),
            (8000, 8000),
            (5000, 100),
            (1000, 1003),
            (100, 9000),
        ] {
            let (w, h) = model.expected_pixels(&Size::Pixels { width, height });
            assert!(free.allows(w, h), "{width}x{height} became {w}x{h}");
        }
    }

    #[test]
    fn a_resolution_stays_where_the_model_has_it_and_is_told_where_it_has_not() {
        let wide = Size::Aspect {
            aspect: Aspect { wide: 16, high: 9 },
            step: Some("2K".to_owned()),
        };
        let request = ImageRequest {
            size: wide.clone(),
            ..ImageRequest::new(ModelId::new("google", "any"), "a cat")
        };
        let mut model = stability();
        model.sizes = Sizes::Aspects(vec![(Aspect { wide: 16, high: 9 }, (1344, 768))]);
        let fitted = model.fit(&request, &Keep::Nothing).unwrap();
        assert_eq!(fitted.unmet.len(), 1, "{:?}", fitted.unmet);
        assert_eq!(fitted.unmet[0].wish, "size 16:9 2K");
        model.resolutions = vec!["1K", "2K"];
        let fitted = model.fit(&request, &Keep::Nothing).unwrap();
        assert_eq!((fitted.request.size, fitted.unmet), (wide, vec![]));
    }
}
