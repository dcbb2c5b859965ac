//! Memory for answers that are kept.
//!
//! A piece as it comes off a connection is a slice of a read buffer, which it holds whole: kept as
//! it is, an answer takes twice its size and more, and every buffer has to be fresh memory. Copied
//! into blocks of its own it takes what it weighs, and the connection reads into the same warm
//! buffer again. The copy costs a tenth of what the fresh memory does.

use bytes::{Bytes, BytesMut};

/// The first block of an answer of unknown length; each further one is as large as all before.
const FIRST: usize = 8 << 10;
const LARGEST: usize = 256 << 10;
/// An answer of known length lies in one block, up to this: the allocator rounds each of several up.
const WHOLE: usize = 16 << 20;

/// Takes an answer's bytes, piece by piece.
#[derive(Debug)]
pub(super) struct Dense {
    block: BytesMut,
    /// Bytes that are still to come, where the head said.
    left: Option<usize>,
    /// Bytes taken so far.
    taken: usize,
}

impl Dense {
    /// For an answer of `length` bytes.
    pub(super) fn new(length: Option<u64>) -> Dense {
        Dense {
            block: BytesMut::new(),
            left: length.and_then(|length| usize::try_from(length).ok()),
            taken: 0,
        }
    }

    /// A copy of `data`, in as many pieces as blocks it fell into.
    pub(super) fn take(&mut self, mut data: &[u8]) -> impl Iterator<Item = Bytes> + use<> {
        let mut pieces = [None, None];
        for piece in &mut pieces {
            if data.is_empty() {
                break;
            }
            if self.block.capacity() == 0 {
                self.block = BytesMut::with_capacity(self.next(data.len()));
            }
            let (now, later) = data.split_at(data.len().min(self.block.capacity()));
            self.block.extend_from_slice(now);
            *piece = Some(self.block.split().freeze());
            self.taken += now.len();
            self.left = self.left.map(|left| left.saturating_sub(now.len()));
            data = later;
        }
        pieces.into_iter().flatten()
    }

    /// The size of the next block, for `data` bytes at least.
    fn next(&self, data: usize) -> usize {
        let wanted = match self.left {
            Some(left) => left.min(WHOLE),
            None => self.taken.clamp(FIRST, LARGEST),
        };
        wanted.max(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40_000), 0..12),
            said in proptest::option::of(0u64..200_000),
        ) {
            let mut dense = Dense::new(said);
            let mut out = Vec::new();
            for chunk in &chunks {
                dense.take(chunk).for_each(|piece| out.extend_from_slice(&piece));
            }
            prop_assert_eq!(out, chunks.concat());
        }
    }

    #[test]
    fn an_answer_of_known_length_fills_its_blocks() {
        let mut dense = Dense::new(Some(20_000));
        let pieces: Vec<Bytes> = [1000, 16_384, 2616]
            .iter()
            .flat_map(|&length| dense.take(&vec![7; length]).collect::<Vec<_>>())
            .collect();
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), 20_000);
        assert_eq!(dense.block.capacity(), 0, "one block, full");
    }
}
