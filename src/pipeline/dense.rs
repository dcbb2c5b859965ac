//! Memory for answers that are kept.
//!
//! A piece as it comes off a connection is a slice of a read buffer, which it holds whole: kept as
//! it is, an answer takes twice its size and more, and every buffer has to be fresh memory. Copied
//! into blocks of its own it takes what it weighs, and the connection reads into the same warm
//! buffer again. The blocks of large answers go round: what an evicted answer lay in, the next one
//! is written into. The copy costs a tenth of what the fresh memory does.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// The first block of an answer of unknown length; each further one is as large as all before.
const FIRST: usize = 8 << 10;
const LARGEST: usize = 256 << 10;
/// An answer of known length lies in one block, up to this: the allocator rounds each of several up,
/// and the kernel has larger pages for one.
const WHOLE: usize = 16 << 20;
/// Blocks from this size on are used again.
const WORTH: usize = 128 << 10;
/// So many bytes of them wait for the next answer at most: those of some twenty pictures.
const WAIT: usize = 32 << 20;

/// Takes an answer's bytes, piece by piece.
#[derive(Debug)]
pub(super) struct Dense {
    pool: &'static Pool,
    block: BytesMut,
    /// Where `block` goes when nobody reads it any more, if it may be used again.
    lease: Option<Arc<Lease>>,
    /// Bytes that are still to come, where the head said.
    left: Option<usize>,
    /// Bytes taken so far.
    taken: usize,
}

impl Dense {
    /// For an answer of `length` bytes.
    pub(super) fn new(length: Option<u64>) -> Dense {
        Dense::within(&POOL, length)
    }

    fn within(pool: &'static Pool, length: Option<u64>) -> Dense {
        Dense {
            pool,
            block: BytesMut::new(),
            lease: None,
            left: length.and_then(|length| usize::try_from(length).ok()),
            taken: 0,
        }
    }

    /// A copy of `data`, in as many pieces as blocks it fell into.
    pub(super) fn take(&mut self, mut data: &[u8]) -> impl Iterator<Item = Bytes> + use<> {
        // The rest of a block, and one that takes all that is left.
        let mut pieces = [None, None];
        for place in &mut pieces {
            if data.is_empty() {
                break;
            }
            if self.block.capacity() == 0 {
                self.begin(data.len());
            }
            let (now, later) = data.split_at(data.len().min(self.block.capacity()));
            self.block.extend_from_slice(now);
            let piece = self.block.split().freeze();
            *place = Some(match &self.lease {
                None => piece,
                Some(lease) => Bytes::from_owner(Lent {
                    piece,
                    _lease: Arc::clone(lease),
                }),
            });
            self.taken += now.len();
            self.left = self.left.map(|left| left.saturating_sub(now.len()));
            data = later;
        }
        pieces.into_iter().flatten()
    }

    /// Begins the next block, with `data` bytes at hand.
    fn begin(&mut self, data: usize) {
        self.end();
        let wanted = match self.left {
            Some(left) => left.min(WHOLE),
            None => self.taken.clamp(FIRST, LARGEST),
        };
        let wanted = wanted.max(data);
        if wanted < WORTH {
            self.block = BytesMut::with_capacity(wanted);
            return;
        }
        self.block = self.pool.lend(wanted);
        self.lease = Some(Arc::new(Lease {
            pool: self.pool,
            size: self.block.capacity(),
            block: Mutex::default(),
        }));
    }

    fn end(&mut self) {
        let block = std::mem::take(&mut self.block);
        if let Some(lease) = self.lease.take() {
            *lease.block.lock() = block;
        }
    }
}

impl Drop for Dense {
    fn drop(&mut self) {
        self.end();
    }
}

/// Blocks that nobody reads any more. Memory that a kept answer gave back is warm: fresh memory has
/// to be zeroed by the kernel first, which takes longer than to fill it.
#[derive(Debug)]
struct Pool(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// The oldest first, each with its size.
    blocks: VecDeque<(usize, BytesMut)>,
    bytes: usize,
}

static POOL: Pool = Pool::new();

impl Pool {
    const fn new() -> Pool {
        Pool(Mutex::new(Waiting {
            blocks: VecDeque::new(),
            bytes: 0,
        }))
    }

    /// A block of `size` bytes and at most an eighth more.
    fn lend(&self, size: usize) -> BytesMut {
        let size = sort(size);
        let mut waiting = self.0.lock();
        let found = waiting.blocks.iter().rposition(|(of, _)| *of == size);
        match found.and_then(|at| waiting.blocks.remove(at)) {
            Some((_, block)) => {
                waiting.bytes -= size;
                block
            }
            None => BytesMut::with_capacity(size),
        }
    }

    fn take_back(&self, size: usize, block: BytesMut) {
        let mut waiting = self.0.lock();
        waiting.blocks.push_back((size, block));
        waiting.bytes += size;
        while waiting.bytes > WAIT
            && let Some((size, _)) = waiting.blocks.pop_front()
        {
            waiting.bytes -= size;
        }
    }
}

/// Sizes in eight steps from one power of two to the next, so that pictures of about one size fit into
/// each other's blocks.
fn sort(size: usize) -> usize {
    size.next_multiple_of(size.next_power_of_two() / 16)
}

/// What is left of a block when it is full: its last reader gives it back.
#[derive(Debug)]
struct Lease {
    pool: &'static Pool,
    size: usize,
    block: Mutex<BytesMut>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut block = std::mem::take(self.block.get_mut());
        block.clear();
        if block.try_reclaim(self.size) {
            self.pool.take_back(self.size, block);
        }
    }
}

/// A piece of a block that will be used again. The order counts: when the lease goes, the piece has gone.
struct Lent {
    piece: Bytes,
    _lease: Arc<Lease>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.piece
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

    fn pool() -> &'static Pool {
        Box::leak(Box::new(Pool::new()))
    }

    fn waiting(pool: &Pool) -> (usize, usize) {
        let waiting = pool.0.lock();
        (waiting.blocks.len(), waiting.bytes)
    }

    #[test]
    fn a_block_is_used_again_when_its_last_reader_has_gone() {
        let pool = pool();
        let answer = |byte: u8, length: usize| -> Vec<Bytes> {
            let mut dense = Dense::within(pool, Some(length as u64));
            let pieces = vec![byte; length];
            let pieces = pieces.chunks(16_000).flat_map(|piece| dense.take(piece));
            pieces.collect()
        };
        let first = answer(1, 1_000_000);
        let at = first[0].as_ptr();
        let reader = first[0].slice(10..20);
        drop(first);
        let second = answer(2, 1_000_000);
        assert_eq!(waiting(pool), (0, 0), "both are still read");
        assert_eq!(reader, &[1; 10][..]);
        drop(reader);
        let third = answer(3, 990_000);
        assert_eq!(third[0].as_ptr(), at, "of about the same size");
        assert_eq!(second.concat(), vec![2; 1_000_000]);
        drop((second, third));
        assert_eq!(waiting(pool), (2, 2 << 20));
        drop(answer(4, 300_000));
        assert_eq!(waiting(pool).0, 3);
    }

    #[test]
    fn no_more_than_a_few_wait() {
        let pool = pool();
        let blocks: Vec<BytesMut> = (0..40).map(|_| pool.lend(1 << 20)).collect();
        blocks
            .into_iter()
            .for_each(|block| pool.take_back(1 << 20, block));
        assert_eq!(waiting(pool), (WAIT >> 20, WAIT));
    }

    #[test]
    fn an_answer_that_broke_off_gives_its_block_back() {
        let pool = pool();
        let mut dense = Dense::within(pool, Some(1 << 20));
        dense.take(&[1; 100]).for_each(drop);
        drop(dense);
        assert_eq!(waiting(pool), (1, 1 << 20));
    }

    proptest! {
        #[test]
        fn a_block_is_an_eighth_too_large_at_most(size in WORTH..=WHOLE) {
            let block = sort(size);
            prop_assert!(block >= size && block <= size + size / 8, "{size} {block}");
            prop_assert_eq!(sort(block), block);
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
