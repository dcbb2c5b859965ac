//! Format, width and height from a picture's first bytes.
//!
//! The size that really came settles the charge, so it is read off the file and not off what
//! anybody claims. Nothing is decoded: a few header fields, bounds checked, no allocation.

use super::request::Format;

/// What a picture's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub format: Format,
    /// `None` when the header is cut short or unusual.
    pub pixels: Option<(u32, u32)>,
}

/// Reads the header in `bytes`, the first part of a file.
///
/// A JPEG may carry kilobytes of metadata before its size: with 64 KiB nearly all tell.
pub fn read(bytes: &[u8]) -> Facts {
    let known = |format, pixels| Facts { format, pixels };
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => known(Format::Png, png(bytes)),
        [0xff, 0xd8, 0xff, ..] => known(Format::Jpeg, jpeg(bytes)),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => known(Format::Webp, webp(bytes)),
        [b'G', b'I', b'F', b'8', ..] => known(Format::Gif, gif(bytes)),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => known(Format::Avif, None),
        _ if starts_like_svg(bytes) => known(Format::Svg, None),
        _ => known(Format::Unknown, None),
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(
        bytes.get(at..at + 2)?.try_into().ok()?,
    )))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(
        bytes.get(at..at + 2)?.try_into().ok()?,
    )))
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at + 3)?;
    Some(u32::from(b[0]) | u32::from(b[1]) << 8 | u32::from(b[2]) << 16)
}

fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((be32(bytes, 16)?, be32(bytes, 20)?))
}

fn gif(bytes: &[u8]) -> Option<(u32, u32)> {
    Some((le16(bytes, 6)?, le16(bytes, 8)?))
}

/// Walks the segments to the start-of-frame that holds the size.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        while *bytes.get(at)? != 0xff {
            at += 1;
        }
        let marker = *bytes.get(at + 1)?;
        match marker {
            0xff => at += 1,               // fill byte
            0x01 | 0xd0..=0xd8 => at += 2, // segments without a length
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                return Some((be16(bytes, at + 7)?, be16(bytes, at + 5)?));
            }
            0xd9 | 0xda => return None, // picture data before any size
            _ => at += 2 + be16(bytes, at + 2)? as usize,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((le24(bytes, 24)? + 1, le24(bytes, 27)? + 1)),
        b"VP8L" => {
            let bits = u32::from_le_bytes(bytes.get(21..25)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => Some((le16(bytes, 26)? & 0x3fff, le16(bytes, 28)? & 0x3fff)),
        _ => None,
    }
}

fn starts_like_svg(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    start.starts_with(b"<svg") || start.starts_with(b"<?xml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_tell_format_and_size() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x04\0\0\0\x06\0\x08\x02";
        assert_eq!(
            read(png),
            Facts {
                format: Format::Png,
                pixels: Some((1024, 1536))
            }
        );
        let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\0\x11\x08\x02\x00\x03\x00\x03";
        assert_eq!(
            read(jpeg),
            Facts {
                format: Format::Jpeg,
                pixels: Some((768, 512))
            }
        );
        let webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x02\0";
        assert_eq!(
            read(webp),
            Facts {
                format: Format::Webp,
                pixels: Some((1024, 768))
            }
        );
        assert_eq!(
            read(b"GIF89a\x10\0\x20\0"),
            Facts {
                format: Format::Gif,
                pixels: Some((16, 32))
            }
        );
        assert_eq!(
            read(b" <svg xmlns="),
            Facts {
                format: Format::Svg,
                pixels: None
            }
        );
        assert_eq!(
            read(b"hello"),
            Facts {
                format: Format::Unknown,
                pixels: None
            }
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in 0usize..5) {
            let magics: [&[u8]; 5] = [b"", b"\x89PNG", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF8"];
            bytes.splice(0..0, magics[magic].iter().copied());
            read(&bytes);
        }
    }
}
