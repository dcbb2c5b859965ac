//! The models that Google serves here, what they draw, and what that costs.
//!
//! Prices and tokens are those of the published list, November 2026; kept apart from the price book.

type Pixels = (u32, u32);

/// Shape, and pixels at 1K of the newer and of the older models; `None` where the older have none.
const SHAPES: &[(&str, Pixels, Option<Pixels>)] = &[
    ("1:1", (1024, 1024), Some((1024, 1024))),
    ("2:3", (848, 1264), Some((832, 1248))),
    ("3:2", (1264, 848), Some((1248, 832))),
    ("3:4", (896, 1200), Some((864, 1184))),
    ("4:3", (1200, 896), Some((1184, 864))),
    ("4:5", (928, 1152), Some((896, 1152))),
    ("5:4", (1152, 928), Some((1152, 896))),
    ("9:16", (768, 1376), Some((768, 1344))),
    ("16:9", (1376, 768), Some((1344, 768))),
    ("21:9", (1584, 672), Some((1536, 672))),
    ("1:4", (512, 2048), None),
    ("4:1", (2048, 512), None),
    ("1:8", (384, 3072), None),
    ("8:1", (3072, 384), None),
];
/// Shapes that every model has.
const COMMON: usize = 10;

const IMAGEN_SHAPES: &[(&str, Pixels)] = &[
    ("1:1", (1024, 1024)),
    ("3:4", (896, 1280)),
    ("4:3", (1280, 896)),
    ("9:16", (768, 1408)),
    ("16:9", (1408, 768)),
];

/// A model of `generateContent`.
#[derive(Debug)]
pub(super) struct Gemini {
    pub(super) id: &'static str,
    /// Gone from the Gemini API, from Vertex.
    retired: (bool, bool),
    /// Nano-dollars a token: prompt, words and thoughts, picture.
    pub(super) rates: (i64, i64, i64),
    /// Tokens of an input picture.
    pub(super) image_in: u64,
    /// What it thinks before it draws.
    pub(super) thoughts: u64,
    /// Steps and tokens of a picture at each; without a choice there is one.
    steps: &'static [(&'static str, u64)],
    shapes: usize,
    older: bool,
}

const GEMINI: &[Gemini] = &[
    Gemini {
        id: "gemini-nano-banana-2.1",
        retired: (false, false),
        rates: (1_500, 7_500, 30_000),
        image_in: 1120,
        thoughts: 95,
        steps: &[("1K", 1120), ("2K", 1680), ("4K", 3780)],
        shapes: SHAPES.len(),
        older: false,
    },
    Gemini {
        id: "gemini-3-pro-image",
        retired: (false, false),
        rates: (2_000, 12_000, 120_000),
        image_in: 560,
        thoughts: 210,
        steps: &[("1K", 1120), ("2K", 1120), ("4K", 2000)],
        shapes: COMMON,
        older: false,
    },
    Gemini {
        id: "gemini-3.1-flash-image",
        retired: (true, false),
        rates: (500, 3_000, 60_000),
        image_in: 1120,
        thoughts: 0,
        steps: &[("1K", 1120), ("512", 747), ("2K", 1680), ("4K", 2520)],
        shapes: SHAPES.len(),
        older: false,
    },
    Gemini {
        id: "gemini-3.1-flash-lite-image",
        retired: (false, false),
        rates: (250, 1_500, 30_000),
        image_in: 1120,
        thoughts: 0,
        steps: &[("1K", 1120)],
        shapes: SHAPES.len(),
        older: false,
    },
    Gemini {
        id: "gemini-2.5-flash-image",
        retired: (false, false),
        rates: (300, 2_500, 30_000),
        image_in: 258,
        thoughts: 0,
        steps: &[("", 1290)],
        shapes: COMMON,
        older: true,
    },
];

impl Gemini {
    pub(super) fn find(id: &str, vertex: bool, retired_too: bool) -> Option<&'static Gemini> {
        let gone = |model: &Gemini| {
            if vertex {
                model.retired.1
            } else {
                model.retired.0
            }
        };
        GEMINI
            .iter()
            .find(|model| model.id == id && (retired_too || !gone(model)))
    }

    /// Pixels and tokens of a shape and a step; the mistake where the model has no such.
    pub(super) fn size(
        &self,
        shape: Option<&str>,
        step: Option<&str>,
    ) -> Result<(Pixels, u64), String> {
        let shape = shape.unwrap_or("1:1");
        let known = SHAPES[..self.shapes]
            .iter()
            .find(|(name, ..)| *name == shape);
        let Some((_, newer, older)) = known else {
            return Err(format!(
                "aspect_ratio: {shape} is not supported by this model"
            ));
        };
        let usual = self.steps.first().map_or("", |(name, _)| name);
        let step = step.unwrap_or(usual);
        let Some((_, tokens)) = self.steps.iter().find(|(name, _)| *name == step) else {
            return Err(format!("image_size: {step} is not supported by this model"));
        };
        let (width, height) = older.filter(|_| self.older).unwrap_or(*newer);
        let scaled = |side: u32| match step {
            "512" => side / 2,
            "2K" => side * 2,
            "4K" => side * 4,
            _ => side,
        };
        Ok(((scaled(width), scaled(height)), *tokens))
    }
}

/// A model of `predict`, all of them gone.
#[derive(Debug)]
pub(super) struct Imagen {
    pub(super) id: &'static str,
    /// Nano-dollars a picture.
    pub(super) price: i64,
    pub(super) two_k: bool,
    /// Takes pictures to start from.
    pub(super) edits: bool,
}

const IMAGEN: &[Imagen] = &[
    Imagen {
        id: "imagen-4.0-generate-001",
        price: 40_000_000,
        two_k: true,
        edits: false,
    },
    Imagen {
        id: "imagen-4.0-fast-generate-001",
        price: 20_000_000,
        two_k: false,
        edits: false,
    },
    Imagen {
        id: "imagen-4.0-ultra-generate-001",
        price: 60_000_000,
        two_k: true,
        edits: false,
    },
    Imagen {
        id: "imagen-3.0-capability-001",
        price: 40_000_000,
        two_k: false,
        edits: true,
    },
];

impl Imagen {
    pub(super) fn find(id: &str, retired_too: bool) -> Option<&'static Imagen> {
        IMAGEN.iter().find(|model| model.id == id && retired_too)
    }

    pub(super) fn pixels(&self, shape: &str, step: &str) -> Option<Pixels> {
        let (_, (width, height)) = IMAGEN_SHAPES.iter().find(|(name, _)| *name == shape)?;
        match step {
            "1K" => Some((*width, *height)),
            "2K" if self.two_k => Some((width * 2, height * 2)),
            _ => None,
        }
    }
}

/// The ids that a list of models names.
pub(super) fn served(
    retired_too: bool,
    vertex: bool,
) -> impl Iterator<Item = &'static str> + Clone {
    let gemini = GEMINI
        .iter()
        .filter(move |model| Gemini::find(model.id, vertex, retired_too).is_some())
        .map(|model| model.id);
    let imagen = IMAGEN
        .iter()
        .filter(move |_| retired_too)
        .map(|model| model.id);
    gemini.chain(imagen).chain(["gemini-2.5-flash"])
}
