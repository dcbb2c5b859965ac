//! A picture in another size or format: bought small, handed over as it was asked for.
//!
//! Pure work on bytes, tens of milliseconds of it for a large picture: whoever calls keeps it off
//! the threads that carry connections.

use std::io::Cursor;

use bytes::Bytes;
use fast_image_resize::images::Image as Pixels;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageReader, Limits};
use thiserror::Error;

use crate::image::Format;

/// The longest side that is decoded or made: no provider draws more.
const LONGEST: u32 = 16_384;
/// The most memory that one picture may take while it is worked on.
const MEMORY: u64 = 512 << 20;
/// Quality of a JPEG where nobody asked for one.
const JPEG_QUALITY: u8 = 90;

/// What a picture is to become; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    pub format: Option<Format>,
    /// From 0 to 100, for formats that compress with loss.
    pub quality: Option<u8>,
}

/// Why a picture stays as it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CannotFit {
    #[error("the picture cannot be read: {0}")]
    Unreadable(String),
    #[error("{0} cannot be written")]
    Format(Format),
    #[error("{0}x{1} is more than is made here")]
    TooLarge(u32, u32),
    #[error("the picture cannot be written: {0}")]
    Unwritable(String),
}

/// Brings a picture to what is wanted. Another aspect ratio is met by cutting off what is too much
/// on both sides alike; nothing is stretched.
///
/// # Errors
/// [`CannotFit`]; the picture is as good as it was.
pub fn fit(picture: &[u8], format: Format, wanted: &Wanted) -> Result<(Bytes, Format), CannotFit> {
    let target = wanted.format.unwrap_or(format);
    if !matches!(target, Format::Png | Format::Jpeg | Format::Webp) {
        return Err(CannotFit::Format(target));
    }
    let image = read(picture)?;
    let image = match wanted.size {
        Some(size) if size != (image.width(), image.height()) => resize(&image, size)?,
        _ => image,
    };
    write(&image, target, wanted.quality).map(|bytes| (bytes, target))
}

fn read(picture: &[u8]) -> Result<DynamicImage, CannotFit> {
    let unreadable = |error: &dyn std::fmt::Display| CannotFit::Unreadable(error.to_string());
    let mut reader = ImageReader::new(Cursor::new(picture))
        .with_guessed_format()
        .map_err(|error| unreadable(&error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST);
    limits.max_image_height = Some(LONGEST);
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| unreadable(&error))?;
    // Eight bits a channel are what these APIs draw; only whether anything shines through matters.
    Ok(if image.color().has_alpha() {
        DynamicImage::ImageRgba8(image.into_rgba8())
    } else {
        DynamicImage::ImageRgb8(image.into_rgb8())
    })
}

fn resize(image: &DynamicImage, (width, height): (u32, u32)) -> Result<DynamicImage, CannotFit> {
    if width == 0 || height == 0 || width.max(height) > LONGEST {
        return Err(CannotFit::TooLarge(width, height));
    }
    let kind = if image.color().has_alpha() {
        PixelType::U8x4
    } else {
        PixelType::U8x3
    };
    let failed = |error: &dyn std::fmt::Display| CannotFit::Unwritable(error.to_string());
    let mut pixels = image.as_bytes().to_vec();
    let source = Pixels::from_slice_u8(image.width(), image.height(), &mut pixels, kind)
        .map_err(|error| failed(&error))?;
    let mut made = Pixels::new(width, height, kind);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .fit_into_destination(Some((0.5, 0.5)));
    Resizer::new()
        .resize(&source, &mut made, &options)
        .map_err(|error| failed(&error))?;
    let bytes = made.into_vec();
    let image = match kind {
        PixelType::U8x4 => {
            image::RgbaImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8)
        }
        _ => image::RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
    };
    image.ok_or_else(|| failed(&"its pixels are not as many as they should be"))
}

fn write(image: &DynamicImage, format: Format, quality: Option<u8>) -> Result<Bytes, CannotFit> {
    let mut bytes = Vec::new();
    let flat = matches!(format, Format::Jpeg).then(|| on_white(image));
    let image = flat.as_ref().unwrap_or(image);
    let color = ExtendedColorType::from(image.color());
    let (width, height, pixels) = (image.width(), image.height(), image.as_bytes());
    let written = match format {
        Format::Jpeg => {
            let quality = quality.unwrap_or(JPEG_QUALITY).clamp(1, 100);
            JpegEncoder::new_with_quality(&mut bytes, quality)
                .write_image(pixels, width, height, color)
        }
        Format::Webp => {
            WebPEncoder::new_lossless(&mut bytes).write_image(pixels, width, height, color)
        }
        _ => PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, PngFilter::Adaptive)
            .write_image(pixels, width, height, color),
    };
    written.map_err(|error| CannotFit::Unwritable(error.to_string()))?;
    Ok(bytes.into())
}

/// The picture on white paper: JPEG knows no transparency.
fn on_white(image: &DynamicImage) -> DynamicImage {
    let DynamicImage::ImageRgba8(clear) = image else {
        return image.clone();
    };
    let flat = image::RgbImage::from_fn(clear.width(), clear.height(), |x, y| {
        let [red, green, blue, alpha] = clear.get_pixel(x, y).0.map(u32::from);
        let over = |channel| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([red, green, blue].map(over))
    });
    DynamicImage::ImageRgb8(flat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::header;

    fn painted(width: u32, height: u32, alpha: bool) -> Vec<u8> {
        let shade = |x: u32, y: u32| [(x % 256) as u8, (y % 256) as u8, 40];
        let mut bytes = Vec::new();
        let image = if alpha {
            DynamicImage::ImageRgba8(image::RgbaImage::from_fn(width, height, |x, y| {
                let [r, g, b] = shade(x, y);
                image::Rgba([r, g, b, 128])
            }))
        } else {
            DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
                image::Rgb(shade(x, y))
            }))
        };
        image
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        bytes
    }

    #[track_caller]
    fn check(picture: &[u8], wanted: Wanted, size: (u32, u32), format: Format) -> Bytes {
        let (bytes, made) = fit(picture, Format::Png, &wanted).unwrap();
        let facts = header::read(&bytes);
        assert_eq!((made, facts.format), (format, format));
        assert_eq!(facts.pixels, Some(size));
        bytes
    }

    #[test]
    fn a_picture_gets_the_size_and_format_that_is_wanted() {
        let small = painted(64, 64, false);
        let size = |width, height| Wanted {
            size: Some((width, height)),
            ..Wanted::default()
        };
        check(&small, size(200, 200), (200, 200), Format::Png);
        check(&small, size(160, 90), (160, 90), Format::Png);
        let both = Wanted {
            format: Some(Format::Jpeg),
            quality: Some(60),
            ..size(100, 50)
        };
        check(&small, both, (100, 50), Format::Jpeg);
        let format = Wanted {
            format: Some(Format::Webp),
            ..Wanted::default()
        };
        check(&painted(30, 20, true), format, (30, 20), Format::Webp);
    }

    #[test]
    fn nothing_is_stretched() {
        // A square with a dark left half, cut to a tall strip: both halves are still there.
        let square = image::RgbImage::from_fn(100, 100, |x, _| {
            image::Rgb([if x < 50 { 0 } else { 255 }; 3])
        });
        let mut bytes = Vec::new();
        DynamicImage::ImageRgb8(square)
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        let wanted = Wanted {
            size: Some((50, 100)),
            ..Wanted::default()
        };
        let (cut, _) = fit(&bytes, Format::Png, &wanted).unwrap();
        let cut = image::load_from_memory(&cut).unwrap().into_rgb8();
        assert!(cut.get_pixel(5, 50).0[0] < 30 && cut.get_pixel(44, 50).0[0] > 225);
    }

    #[test]
    fn transparency_stays_where_the_format_has_it() {
        let wanted = Wanted {
            size: Some((40, 40)),
            ..Wanted::default()
        };
        let clear = check(&painted(20, 20, true), wanted, (40, 40), Format::Png);
        let clear = image::load_from_memory(&clear).unwrap().into_rgba8();
        assert_eq!(clear.get_pixel(20, 20).0[3], 128);
    }

    #[test]
    fn what_shines_through_lies_on_white_in_a_jpeg() {
        let wanted = Wanted {
            format: Some(Format::Jpeg),
            ..Wanted::default()
        };
        let flat = check(&painted(16, 16, true), wanted, (16, 16), Format::Jpeg);
        let flat = image::load_from_memory(&flat).unwrap().into_rgb8();
        assert!(
            flat.get_pixel(1, 1).0[0] > 110,
            "half of nearly black on white"
        );
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let wanted = |size| Wanted {
            size: Some(size),
            ..Wanted::default()
        };
        assert!(matches!(
            fit(b"no picture", Format::Png, &wanted((9, 9))),
            Err(CannotFit::Unreadable(_))
        ));
        let picture = painted(8, 8, false);
        assert_eq!(
            fit(&picture, Format::Png, &wanted((0, 9))),
            Err(CannotFit::TooLarge(0, 9))
        );
        assert_eq!(
            fit(&picture, Format::Svg, &wanted((9, 9))),
            Err(CannotFit::Format(Format::Svg))
        );
    }
}
