//! Sizes as Google has them: a shape, and a step of resolution.

use super::super::Unsupported;
use super::unsupported;
use crate::image::{Aspect, Size};

/// A shape and the pixels that it comes in at `1K`; newer and older models differ.
pub(super) type Shape = (&'static str, &'static [(u32, u32)]);

/// After the reference on image generation: gen-3 models first, 2.5 second.
pub(super) const GEMINI: &[Shape] = &[
    ("1:1", &[(1024, 1024)]),
    ("2:3", &[(848, 1264), (832, 1248)]),
    ("3:2", &[(1264, 848), (1248, 832)]),
    ("3:4", &[(896, 1200), (864, 1184)]),
    ("4:3", &[(1200, 896), (1184, 864)]),
    ("4:5", &[(928, 1152), (896, 1152)]),
    ("5:4", &[(1152, 928), (1152, 896)]),
    ("9:16", &[(768, 1376), (768, 1344)]),
    ("16:9", &[(1376, 768), (1344, 768)]),
    ("21:9", &[(1584, 672), (1536, 672)]),
    ("1:4", &[(512, 2048)]),
    ("4:1", &[(2048, 512)]),
    ("1:8", &[(384, 3072)]),
    ("8:1", &[(3072, 384)]),
];

/// After the reference of Imagen 3 and 4.
pub(super) const IMAGEN: &[Shape] = &[
    ("1:1", &[(1024, 1024)]),
    ("3:4", &[(896, 1280)]),
    ("4:3", &[(1280, 896)]),
    ("9:16", &[(768, 1408)]),
    ("16:9", &[(1408, 768)]),
];

/// A step's name, its sides in quarters of those at `1K`, and a bound: pixels below it are nearest to
/// this step.
const STEPS: [(&str, u32, u64); 4] = [
    ("512", 2, 1 << 19),
    ("1K", 4, 1 << 21),
    ("2K", 8, 1 << 23),
    ("4K", 16, u64::MAX),
];
/// What comes when no step is named.
const USUAL: &str = "1K";

/// What a shape without a step, a step without a shape, and both make; `1:1` stands for no shape.
pub(super) fn read(aspect: Option<Aspect>, step: Option<String>) -> Size {
    match (aspect, step) {
        (None, None) => Size::Auto,
        (aspect, step) => Size::Aspect {
            aspect: aspect.unwrap_or(Aspect { wide: 1, high: 1 }),
            step,
        },
    }
}

/// Shape and step of a size. A shape stands as it is: models learn new ones.
///
/// # Errors
/// [`Unsupported`] for pixels of a shape that is not in the table.
pub(super) fn spelt(
    size: &Size,
    shapes: &[Shape],
) -> Result<(Option<String>, Option<String>), Unsupported> {
    match size {
        Size::Auto => Ok((None, None)),
        Size::Aspect { aspect, step } => {
            let exact = Aspect::of(aspect.wide, aspect.high);
            let known = shapes.iter().find(|(name, _)| lowest(name) == Some(exact));
            let name = known.map_or_else(|| aspect.to_string(), |(name, _)| (*name).to_owned());
            Ok((Some(name), step.clone()))
        }
        Size::Pixels { width, height } => of_pixels(*width, *height, shapes),
    }
}

fn of_pixels(
    width: u32,
    height: u32,
    shapes: &[Shape],
) -> Result<(Option<String>, Option<String>), Unsupported> {
    let listed = |(_, pixels): &&Shape| {
        let scaled = |&(w, h): &(u32, u32)| {
            let at = |quarters: u32| (w * quarters / 4, h * quarters / 4);
            STEPS.iter().any(|(_, q, _)| at(*q) == (width, height))
        };
        pixels.iter().any(scaled)
    };
    let exact = Aspect::of(width, height);
    let shape = shapes
        .iter()
        .find(listed)
        .or_else(|| shapes.iter().find(|(name, _)| lowest(name) == Some(exact)))
        .ok_or_else(|| unsupported("size", format!("there is no shape {width}x{height}")))?;
    let pixels = u64::from(width) * u64::from(height);
    let step = STEPS.iter().find(|(_, _, below)| pixels < *below);
    let step = step.map(|(step, ..)| *step).filter(|step| *step != USUAL);
    Ok((Some(shape.0.to_owned()), step.map(str::to_owned)))
}

fn lowest(name: &str) -> Option<Aspect> {
    Aspect::parse(name).map(|aspect| Aspect::of(aspect.wide, aspect.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_a_shape_and_a_step() {
        let check = |text: &str, shapes, expected: (&str, Option<&str>)| {
            let size = Size::parse(text).unwrap();
            let (shape, step) = spelt(&size, shapes).unwrap();
            assert_eq!(
                (shape.as_deref(), step.as_deref()),
                (Some(expected.0), expected.1),
                "{text}"
            );
        };
        check("1024x1024", GEMINI, ("1:1", None));
        check("1536x1024", GEMINI, ("3:2", None));
        check("848x1264", GEMINI, ("2:3", None));
        check("1184x864", GEMINI, ("4:3", None));
        check("2752x1536", GEMINI, ("16:9", Some("2K")));
        check("4096x4096", GEMINI, ("1:1", Some("4K")));
        check("424x632", GEMINI, ("2:3", Some("512")));
        check("21:9", GEMINI, ("21:9", None));
        check("7:3", GEMINI, ("21:9", None));
        check("5:1", GEMINI, ("5:1", None));
        check("2816x1536", IMAGEN, ("16:9", Some("2K")));
        let odd = Size::parse("1000x900").unwrap();
        assert_eq!(spelt(&odd, IMAGEN).unwrap_err().field, "size");
        assert_eq!(spelt(&Size::Auto, IMAGEN), Ok((None, None)));
    }
}
