//! Answers that come encoded although identity was asked, decoded on the side.
//!
//! The caller gets the encoded bytes as they are; the reader and the cache get the plain ones.
//! Bounded: a few kilobytes that unfold to gigabytes are a bomb, not a picture.

use std::io::{self, Write};

use bytes::Bytes;
use thiserror::Error;
use zstd::stream::raw::{InBuffer, Operation as _, OutBuffer};

/// No answer unfolds to more than so many times what came of it, and a little: pictures are
/// compressed already, and one piece of a bomb must not fill the memory before anybody can count.
const MOST_TIMES: usize = 100;
const A_LITTLE: usize = 1 << 20;

/// Why an answer cannot be decoded.
#[derive(Debug, Error)]
pub enum Undecodable {
    #[error("the answer's content-encoding `{0}` is not one that was offered")]
    Unknown(String),
    #[error("the answer's {0} encoding is broken: {1}")]
    Broken(&'static str, io::Error),
    #[error("the answer unfolds to more than {MOST_TIMES} times its size")]
    Bomb,
}

/// What decoded bytes collect in, up to the bound.
#[derive(Debug)]
struct Sink {
    fresh: Vec<u8>,
    total: usize,
    most: usize,
}

impl Default for Sink {
    fn default() -> Sink {
        Sink {
            fresh: Vec::new(),
            total: 0,
            most: A_LITTLE,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len();
        if self.total > self.most {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.fresh.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An incremental decoder of one answer.
pub struct Decoder {
    name: &'static str,
    inner: Inner,
}

enum Inner {
    Gzip(Box<flate2::write::MultiGzDecoder<Sink>>),
    Deflate(Box<flate2::write::ZlibDecoder<Sink>>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(Box<Zstd>),
}

/// The library's own writer forgets a frame's end where it is reached while flushing, so its parts
/// are driven here.
struct Zstd {
    raw: zstd::stream::raw::Decoder<'static>,
    buffer: Box<[u8]>,
    /// Nothing has come since the end of a frame; another may follow.
    ended: bool,
    sink: Sink,
}

impl Zstd {
    fn new() -> io::Result<Zstd> {
        Ok(Zstd {
            raw: zstd::stream::raw::Decoder::new()?,
            buffer: vec![0; 64 << 10].into(),
            ended: false,
            sink: Sink::default(),
        })
    }

    fn feed(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(chunk);
        while input.pos() < chunk.len() {
            if self.ended {
                self.raw.reinit()?;
            }
            loop {
                let mut output = OutBuffer::around(&mut self.buffer[..]);
                self.ended = self.raw.run(&mut input, &mut output)? == 0;
                let (came, full) = (output.pos(), output.pos() == output.capacity());
                self.sink.write_all(&self.buffer[..came])?;
                if self.ended || !full {
                    break;
                }
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        match self.ended {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "incomplete frame",
            )),
        }
    }
}

impl Decoder {
    /// The decoder for a content-encoding; `None` for identity.
    ///
    /// # Errors
    /// [`Undecodable::Unknown`] for an encoding we do not know, or a stack of several.
    pub fn of(encoding: &str) -> Result<Option<Decoder>, Undecodable> {
        let encoding = encoding.trim().to_ascii_lowercase();
        let (name, inner) = match encoding.as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => (
                "gzip",
                Inner::Gzip(Box::new(
                    flate2::write::MultiGzDecoder::new(Sink::default()),
                )),
            ),
            "deflate" => (
                "deflate",
                Inner::Deflate(Box::new(flate2::write::ZlibDecoder::new(Sink::default()))),
            ),
            "br" => (
                "br",
                Inner::Brotli(Box::new(brotli::DecompressorWriter::new(
                    Sink::default(),
                    64 << 10,
                ))),
            ),
            "zstd" => {
                let decoder = Zstd::new().map_err(|error| Undecodable::Broken("zstd", error))?;
                ("zstd", Inner::Zstd(Box::new(decoder)))
            }
            _ => return Err(Undecodable::Unknown(encoding)),
        };
        Ok(Some(Decoder { name, inner }))
    }

    /// Decodes on; what came out so far, perhaps nothing yet.
    ///
    /// # Errors
    /// [`Undecodable::Broken`] and [`Undecodable::Bomb`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, Undecodable> {
        self.sink().most += chunk.len() * MOST_TIMES;
        let written = match &mut self.inner {
            Inner::Gzip(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Inner::Deflate(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Inner::Brotli(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Inner::Zstd(decoder) => decoder.feed(chunk),
        };
        self.outcome(written)
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// [`Undecodable::Broken`] where the encoding says that something is missing.
    pub fn finish(&mut self) -> Result<(), Undecodable> {
        let whole = match &mut self.inner {
            Inner::Gzip(decoder) => decoder.try_finish(),
            Inner::Deflate(decoder) => decoder.try_finish(),
            Inner::Brotli(decoder) => decoder.close(),
            Inner::Zstd(decoder) => decoder.finish(),
        };
        whole.map_err(|error| Undecodable::Broken(self.name, error))
    }

    fn outcome(&mut self, written: io::Result<()>) -> Result<Bytes, Undecodable> {
        let name = self.name;
        let sink = self.sink();
        match written {
            Err(_) if sink.total > sink.most => Err(Undecodable::Bomb),
            Err(error) => Err(Undecodable::Broken(name, error)),
            Ok(()) => Ok(std::mem::take(&mut sink.fresh).into()),
        }
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.inner {
            Inner::Gzip(decoder) => decoder.get_mut(),
            Inner::Deflate(decoder) => decoder.get_mut(),
            Inner::Brotli(decoder) => decoder.get_mut(),
            Inner::Zstd(decoder) => &mut decoder.sink,
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoding: &str, plain: &[u8]) -> Vec<u8> {
        match encoding {
            "gzip" => {
                let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                e.write_all(plain).unwrap();
                e.finish().unwrap()
            }
            "deflate" => {
                let mut e =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                e.write_all(plain).unwrap();
                e.finish().unwrap()
            }
            "br" => {
                let mut out = Vec::new();
                brotli::BrotliCompress(
                    &mut &plain[..],
                    &mut out,
                    &brotli::enc::BrotliEncoderParams {
                        quality: 2, // the best takes a minute here
                        ..Default::default()
                    },
                )
                .unwrap();
                out
            }
            "zstd" => zstd::encode_all(plain, 1).unwrap(),
            _ => plain.to_vec(),
        }
    }

    #[test]
    fn every_encoding_decodes_however_it_is_cut() {
        let plain: Vec<u8> = (0..50_000u32)
            .flat_map(|n| (n * n % 251).to_le_bytes())
            .collect();
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            for cut in [1, 100, 1 << 20] {
                let mut decoder = Decoder::of(encoding).unwrap().unwrap();
                let coded = encoded(encoding, &plain);
                let got: Vec<u8> = coded
                    .chunks(cut)
                    .flat_map(|chunk| decoder.feed(chunk).unwrap())
                    .collect();
                assert!(got == plain, "{encoding} in pieces of {cut}");
                decoder.finish().unwrap();
            }
        }
    }

    #[test]
    fn what_ends_too_soon_is_not_whole() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let coded = encoded(encoding, &plain);
            for end in [1, coded.len() / 2, coded.len() - 1, coded.len()] {
                let mut decoder = Decoder::of(encoding).unwrap().unwrap();
                decoder.feed(&coded[..end]).unwrap();
                let whole = end == coded.len();
                assert_eq!(decoder.finish().is_ok(), whole, "{encoding} to {end}");
            }
        }
    }

    /// Lengths about those of the decoder's own buffers, where an end is most easily missed.
    #[test]
    fn an_end_is_known_whatever_the_length() {
        let plain: Vec<u8> = (0..70_000u32).map(|n| (n % 251) as u8).collect();
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            for length in [
                0,
                1,
                32 << 10,
                (64 << 10) - 1,
                64 << 10,
                (64 << 10) + 1,
                70_000,
            ] {
                let coded = encoded(encoding, &plain[..length]);
                let mut decoder = Decoder::of(encoding).unwrap().unwrap();
                let got = decoder.feed(&coded).unwrap();
                assert!(got == plain[..length], "{encoding}, {length}");
                assert!(decoder.finish().is_ok(), "{encoding}, {length}");
            }
        }
        // Two frames are one answer, and half a second one is half an answer.
        let frame = encoded("zstd", &plain);
        let two = [frame.clone(), frame.clone()].concat();
        for (end, whole) in [(two.len(), true), (two.len() - 1, false)] {
            let mut decoder = Decoder::of("zstd").unwrap().unwrap();
            let got = decoder.feed(&two[..end]).unwrap();
            assert_eq!(
                (got.len() == 140_000, decoder.finish().is_ok()),
                (whole, whole)
            );
        }
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let bomb = encoded(encoding, &vec![0; 32 << 20]);
            let mut decoder = Decoder::of(encoding).unwrap().unwrap();
            let (mut came, mut unfolded) = (0, 0);
            let mut end = None;
            for chunk in bomb.chunks(512) {
                came += chunk.len();
                match decoder.feed(chunk) {
                    Ok(plain) => unfolded += plain.len(),
                    Err(error) => {
                        end = Some(error);
                        break;
                    }
                }
            }
            assert!(
                matches!(end, Some(Undecodable::Bomb)),
                "{encoding}: {end:?}"
            );
            assert!(unfolded <= came * MOST_TIMES + A_LITTLE, "{encoding}");
        }
    }

    #[test]
    fn what_is_broken_or_unknown_says_so() {
        assert!(matches!(
            Decoder::of("gzip, br"),
            Err(Undecodable::Unknown(_))
        ));
        assert!(Decoder::of("identity").unwrap().is_none());
        let mut decoder = Decoder::of("gzip").unwrap().unwrap();
        assert!(matches!(
            decoder.feed(b"this is no gzip stream"),
            Err(Undecodable::Broken("gzip", _))
        ));
    }
}
