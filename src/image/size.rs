//! Sizes, as pixels or as a shape.

use std::fmt;

/// How large and of what shape a picture is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// The provider chooses, or nothing was said.
    Auto,
    Pixels {
        width: u32,
        height: u32,
    },
    /// A shape, and where the provider has resolution steps the step's name (`1K`, `2K`).
    Aspect {
        aspect: Aspect,
        step: Option<String>,
    },
}

impl Size {
    /// Reads `auto`, `1024x1536` or `16:9`; `None` for anything else and for a side of zero.
    pub fn parse(text: &str) -> Option<Size> {
        if text == "auto" {
            return Some(Size::Auto);
        }
        if let Some(aspect) = Aspect::parse(text) {
            return Some(Size::Aspect { aspect, step: None });
        }
        let (width, height) = text.split_once(['x', 'X', '×'])?;
        let side = |s: &str| s.parse::<u32>().ok().filter(|&n| n > 0);
        Some(Size::Pixels {
            width: side(width)?,
            height: side(height)?,
        })
    }

    /// Both sides, where they are known.
    pub fn pixels(&self) -> Option<(u32, u32)> {
        match *self {
            Size::Pixels { width, height } => Some((width, height)),
            _ => None,
        }
    }

    /// The shape, where it is known.
    pub fn aspect(&self) -> Option<Aspect> {
        match self {
            Size::Auto => None,
            Size::Pixels { width, height } => Some(Aspect::of(*width, *height)),
            Size::Aspect { aspect, .. } => Some(*aspect),
        }
    }
}

/// As people write it: `1024x1024`, `16:9`, `auto`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Auto => f.write_str("auto"),
            Size::Pixels { width, height } => write!(f, "{width}x{height}"),
            Size::Aspect { aspect, step: None } => aspect.fmt(f),
            Size::Aspect {
                aspect,
                step: Some(step),
            } => write!(f, "{aspect} {step}"),
        }
    }
}

/// Width to height in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aspect {
    pub wide: u32,
    pub high: u32,
}

impl Aspect {
    /// The shape of a picture; sides of zero count as one.
    pub fn of(width: u32, height: u32) -> Aspect {
        let (width, height) = (width.max(1), height.max(1));
        let divisor = gcd(width, height);
        Aspect {
            wide: width / divisor,
            high: height / divisor,
        }
    }

    /// Reads `16:9`.
    pub fn parse(text: &str) -> Option<Aspect> {
        let (wide, high) = text.split_once(':')?;
        let side = |s: &str| s.trim().parse::<u32>().ok().filter(|&n| n > 0);
        Some(Aspect {
            wide: side(wide)?,
            high: side(high)?,
        })
    }

    /// Of `choices` the shape nearest to this one; the first of equals. `None` for no choices.
    ///
    /// Nearest by the ratio of the two ratios, which is what the eye sees: 2:1 is as far from 1:1
    /// as 1:2 is.
    pub fn nearest<'a>(self, choices: impl IntoIterator<Item = &'a Aspect>) -> Option<Aspect> {
        choices
            .into_iter()
            .copied()
            .reduce(|best, next| if self.farther(best, next) { next } else { best })
    }

    /// Whether `a` is farther from this shape than `b`.
    fn farther(self, a: Aspect, b: Aspect) -> bool {
        // The distance of ratios p and q is max(p/q, q/p); compared by cross-multiplication.
        let (an, ad) = self.stretch(a);
        let (bn, bd) = self.stretch(b);
        an * bd > bn * ad
    }

    /// max(p/q, q/p) as a fraction.
    fn stretch(self, other: Aspect) -> (u128, u128) {
        let p = u128::from(self.wide) * u128::from(other.high);
        let q = u128::from(other.wide) * u128::from(self.high);
        (p.max(q), p.min(q).max(1))
    }

    /// Pixels of this shape with about `budget` pixels in all, both sides rounded down to a
    /// multiple of `step`.
    pub fn pixels_for(self, budget: u64, step: u32) -> (u32, u32) {
        let step = u64::from(step.max(1));
        let high = (budget * u64::from(self.high) / u64::from(self.wide)).isqrt();
        let wide = high * u64::from(self.wide) / u64::from(self.high);
        let floor = |side: u64| u32::try_from((side / step * step).max(step)).unwrap_or(u32::MAX);
        (floor(wide), floor(high))
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.wide, self.high)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for text in ["auto", "1024x1536", "16:9"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "0x5", "1024", "x", "16:0", "axb", "-1x5", "1024x"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_shape_is_the_one_the_eye_would_pick() {
        let stability: Vec<Aspect> = [
            "21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21",
        ]
        .iter()
        .map(|text| Aspect::parse(text).unwrap())
        .collect();
        let check = |width, height, expected: &str| {
            assert_eq!(
                Aspect::of(width, height)
                    .nearest(&stability)
                    .unwrap()
                    .to_string(),
                expected
            );
        };
        check(1024, 1024, "1:1");
        check(1536, 1024, "3:2");
        check(1792, 1024, "16:9");
        check(1024, 1792, "9:16");
        check(1000, 1010, "1:1");
        check(4000, 1000, "21:9");
    }

    #[test]
    fn a_shape_becomes_pixels_within_its_budget() {
        assert_eq!(Aspect::of(1, 1).pixels_for(1024 * 1024, 16), (1024, 1024));
        assert_eq!(Aspect::of(3, 2).pixels_for(1024 * 1024, 16), (1248, 832));
    }
}
