//! Real pictures that cost little to make: flat bands of colour chosen by a digest.
//!
//! Equal digests give equal bytes, so a seed is honoured by putting it into the digest and no
//! picture has to be kept.

use std::fmt;

/// A file format that can be painted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Webp,
}

impl Format {
    /// The word in requests and content types.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Format> {
        [Format::Png, Format::Jpeg, Format::Webp]
            .into_iter()
            .find(|format| format.word() == word)
    }
}

/// What to paint. Written as text it names the picture in a URL, which is all that is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) format: Format,
    /// Pixels, 1 to 16383 a side.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) digest: u64,
    pub(super) transparent: bool,
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ground = if self.transparent { "t" } else { "o" };
        write!(
            f,
            "{:016x}-{}x{}-{ground}.{}",
            self.digest,
            self.width,
            self.height,
            self.format.word()
        )
    }
}

impl Picture {
    /// Reads the name that `Display` wrote.
    pub(super) fn parse(name: &str) -> Option<Picture> {
        let (stem, format) = name.rsplit_once('.')?;
        let mut fields = stem.split('-');
        let digest = u64::from_str_radix(fields.next()?, 16).ok()?;
        let (width, height) = fields.next()?.split_once('x')?;
        let side = |text: &str| text.parse().ok().filter(|side| (1..=16_383).contains(side));
        Some(Picture {
            format: Format::parse(format)?,
            width: side(width)?,
            height: side(height)?,
            digest,
            transparent: fields.next()? == "t",
        })
    }

    /// The file, filled up to about `pad_to` bytes with what no encoding can shrink.
    pub(super) fn paint(&self, pad_to: Option<usize>) -> Vec<u8> {
        let padding = |bare: usize| {
            let mut bytes = vec![0; pad_to.unwrap_or(0).saturating_sub(bare)];
            blake3::Hasher::new()
                .update(&self.digest.to_le_bytes())
                .finalize_xof()
                .fill(&mut bytes);
            bytes
        };
        match self.format {
            Format::Png => png(self, &padding(4096)),
            Format::Jpeg => jpeg(self, &padding(4096)),
            Format::Webp => webp(self, &padding(64)),
        }
    }

    /// The colour of one of the sixteen bands.
    fn colour(&self, band: u64) -> [u8; 3] {
        let mixed = (self.digest ^ band.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .to_le_bytes();
        [mixed[7], mixed[6], mixed[5]]
    }

    /// The band of row `y` when there are `rows` of them.
    fn band(y: u32, rows: u32) -> u8 {
        u8::try_from(u64::from(y) * 16 / u64::from(rows.max(1))).unwrap_or(15)
    }
}

/// Four bits a pixel and a palette: a quarter of a byte-wise picture's work.
fn png(picture: &Picture, padding: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(padding.len() + 16 * 1024);
    let written = write_png(picture, padding, &mut file);
    debug_assert!(written.is_ok(), "a Vec takes every byte: {written:?}");
    file
}

fn write_png(
    picture: &Picture,
    padding: &[u8],
    file: &mut Vec<u8>,
) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, picture.width, picture.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_compression(png::Compression::Fast);
    let palette: Vec<u8> = (0..16).flat_map(|band| picture.colour(band)).collect();
    encoder.set_palette(palette);
    if picture.transparent {
        encoder.set_trns(vec![0u8]);
    }
    let mut writer = encoder.write_header()?;
    if !padding.is_empty() {
        // Ancillary, private, safe to copy: every reader skips it.
        writer.write_chunk(png::chunk::ChunkType(*b"fiLl"), padding)?;
    }
    let stride = picture.width.div_ceil(2) as usize;
    let mut pixels = Vec::with_capacity(stride * picture.height as usize);
    for y in 0..picture.height {
        let band = Picture::band(y, picture.height);
        pixels.resize(pixels.len() + stride, band * 0x11);
    }
    writer.write_image_data(&pixels)?;
    writer.finish()
}

/// Bits into bytes, most significant first, with a zero after every `0xff` as JPEG wants it.
#[derive(Default)]
struct JpegBits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl JpegBits {
    fn push(&mut self, bits: u32, count: u32) {
        for shift in (0..count).rev() {
            self.pending = self.pending << 1 | (bits >> shift & 1);
            self.count += 1;
            if self.count == 8 {
                let byte = (self.pending & 0xff) as u8;
                self.bytes.push(byte);
                if byte == 0xff {
                    self.bytes.push(0);
                }
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    /// One flat block: the difference to the block before, then the end of the block.
    fn flat_block(&mut self, difference: i32) {
        let category = 32 - difference.unsigned_abs().leading_zeros();
        // Categories 0 to 15 have the four-bit codes 0 to 15 but the last, which is not needed.
        self.push(category, 4);
        let bits = if difference < 0 {
            (difference - 1) as u32 & ((1 << category) - 1)
        } else {
            difference as u32
        };
        self.push(bits, category);
        self.push(0, 1);
    }
}

/// Baseline, three components, flat blocks of 8 by 8; one tiny table for each kind of code.
fn jpeg(picture: &Picture, padding: &[u8]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    segment(&mut file, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    // Steps of 8, so that a flat block's coefficient is its value.
    let mut steps = vec![0];
    steps.resize(65, 8);
    segment(&mut file, 0xdb, &steps);
    let (height, width) = (be16(picture.height), be16(picture.width));
    let frame = [8, height[0], height[1], width[0], width[1], 3];
    let components = [1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0];
    segment(&mut file, 0xc0, &[&frame[..], &components].concat());
    let differences = [
        &[0x00, 0, 0, 0, 12][..],
        &[0; 12],
        &(0..12).collect::<Vec<u8>>(),
    ]
    .concat();
    segment(&mut file, 0xc4, &differences);
    let ends = [&[0x10, 1][..], &[0; 15], &[0]].concat();
    segment(&mut file, 0xc4, &ends);
    // After the size, which readers look for in the first kilobytes.
    for piece in padding.chunks(65_000) {
        segment(&mut file, 0xef, piece);
    }
    segment(&mut file, 0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);

    let mut bits = JpegBits::default();
    let (columns, rows) = (picture.width.div_ceil(8), picture.height.div_ceil(8));
    let mut before = [0i32; 3];
    for row in 0..rows {
        let colour = picture.colour(u64::from(Picture::band(row, rows)));
        let flat = colour.map(|value| i32::from(value) - 128);
        for _ in 0..columns {
            for (value, before) in flat.iter().zip(&mut before) {
                bits.flat_block(value - *before);
                *before = *value;
            }
        }
    }
    bits.push(0x7f, (8 - bits.count) % 8);
    file.extend_from_slice(&bits.bytes);
    file.extend_from_slice(&[0xff, 0xd9]);
    file
}

fn be16(side: u32) -> [u8; 2] {
    u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes()
}

fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    let length = u16::try_from(content.len() + 2).unwrap_or(u16::MAX);
    file.extend_from_slice(&[0xff, marker]);
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(content);
}

/// Bits into bytes, least significant first, as lossless WebP wants them.
#[derive(Default)]
struct WebpBits {
    bytes: Vec<u8>,
    count: usize,
}

impl WebpBits {
    fn push(&mut self, bits: u32, count: usize) {
        for shift in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (bits >> shift & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (self.count % 8);
            }
            self.count += 1;
        }
    }

    /// A prefix code with one symbol, which then takes no bits at all.
    fn only_symbol(&mut self, symbol: u8) {
        self.push(0b101, 3); // simple, one symbol, written in eight bits
        self.push(u32::from(symbol), 8);
    }
}

/// Lossless, one colour: five codes of one symbol each say all pixels at once.
fn webp(picture: &Picture, padding: &[u8]) -> Vec<u8> {
    let [red, green, blue] = picture.colour(0);
    let alpha = if picture.transparent { 0 } else { 255 };
    let mut bits = WebpBits::default();
    bits.push(0x2f, 8);
    bits.push(picture.width - 1, 14);
    bits.push(picture.height - 1, 14);
    bits.push(u32::from(picture.transparent), 1);
    bits.push(0, 3); // version
    bits.push(0, 3); // no transform, no colour cache, one set of codes
    for symbol in [green, red, blue, alpha] {
        bits.only_symbol(symbol);
    }
    bits.push(0b001, 3); // distances: simple, one symbol, written in one bit
    bits.push(0, 1);

    let mut chunks = Vec::new();
    if !padding.is_empty() {
        let mut extended = vec![if picture.transparent { 0x10 } else { 0 }, 0, 0, 0];
        extended.extend_from_slice(&(picture.width - 1).to_le_bytes()[..3]);
        extended.extend_from_slice(&(picture.height - 1).to_le_bytes()[..3]);
        riff(&mut chunks, b"VP8X", &extended);
    }
    riff(&mut chunks, b"VP8L", &bits.bytes);
    if !padding.is_empty() {
        riff(&mut chunks, b"fiLl", padding);
    }
    let mut file = Vec::with_capacity(chunks.len() + 12);
    riff(&mut file, b"RIFF", &[b"WEBP", chunks.as_slice()].concat());
    file
}

fn riff(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    file.extend_from_slice(name);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(content);
    if !content.len().is_multiple_of(2) {
        file.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::header;
    use proptest::prelude::*;

    fn picture(format: Format, width: u32, height: u32) -> Picture {
        Picture {
            format,
            width,
            height,
            digest: 7,
            transparent: false,
        }
    }

    #[test]
    fn a_png_decodes_to_sixteen_bands_of_the_asked_size() {
        let file = picture(Format::Png, 1024, 1536).paint(None);
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (1024, 1536));
        let bands: std::collections::BTreeSet<&[u8]> = pixels.chunks(3).collect();
        assert_eq!(bands.len(), 16);
    }

    #[test]
    fn padding_makes_a_file_large_that_stays_readable() {
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            let file = picture(format, 640, 480).paint(Some(1_500_000));
            assert!(
                (1_495_000..1_520_000).contains(&file.len()),
                "{format:?} {}",
                file.len()
            );
            let facts = header::read(&file);
            assert_eq!(facts.format.as_str(), format.word());
            assert_eq!(facts.pixels, Some((640, 480)));
        }
    }

    proptest! {
        #[test]
        fn a_header_tells_the_asked_size(width in 1u32..3000, height in 1u32..3000, format in 0usize..3) {
            let format = [Format::Png, Format::Jpeg, Format::Webp][format];
            let facts = header::read(&picture(format, width, height).paint(None));
            prop_assert_eq!(facts.pixels, Some((width, height)));
            prop_assert_eq!(facts.format.as_str(), format.word());
        }

        #[test]
        fn a_picture_is_read_back_from_its_name(digest: u64, width in 1u32..16_384, transparent: bool) {
            let picture = Picture { format: Format::Webp, width, height: 9, digest, transparent };
            prop_assert_eq!(Picture::parse(&picture.to_string()), Some(picture));
        }
    }
}
