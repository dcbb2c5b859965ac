//! The journal's bytes: records that tell for themselves whether they are whole.
//!
//! A segment is a head (magic, owner, number, check) and records. A record is its length, a check
//! of the length, a check of the body, and the body. The length has a check of its own, so that a
//! spoiled length is not taken for a record that was still being written when the process died.
//! All numbers are little-endian; checks are XXH3, which finds accidents and is no signature.

use std::sync::Arc;

use jiff::Timestamp;
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_64;

use super::entry::{Claim, Event, Hold, Key, Numbered, Outcome, Settlement};
use super::error::LedgerError;
use crate::bill::ChargeFrom;
use crate::image::{Billed, ModelId, Tier};
use crate::money::Usd;

/// First bytes of a segment; the digit is the format's version.
const MAGIC: &[u8; 16] = b"pixtoll-journal1";
/// Magic, owner (16), number (4), check (8).
pub(super) const HEAD: usize = 16 + 16 + 4 + 8;
/// Length (4), its check (4), the body's check (8).
const PREFIX: usize = 16;
/// The longest body, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

const HELD: u8 = 1;
const SETTLED: u8 = 2;
const RELEASED: u8 = 3;
/// As [`HELD`] and [`SETTLED`], of a hold that counts in budgets.
const HELD_WITHIN: u8 = 4;
const SETTLED_WITHIN: u8 = 5;

/// Whose segment it is, and the how-manieth of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) owner: Ulid,
    pub(super) number: u32,
}

/// How far a segment could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To its last byte.
    Whole,
    /// The last record is cut short: it was being written when the process died, and nobody was
    /// told that it had been.
    Torn { at: usize },
    /// From here on it is not what was written.
    Damaged { at: usize },
}

/// A segment's head as bytes.
pub(super) fn encode_head(head: SegmentHead) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..32].copy_from_slice(&head.owner.to_bytes());
    bytes[32..36].copy_from_slice(&head.number.to_le_bytes());
    let check = xxh3_64(&bytes[..36]);
    bytes[36..].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn decode_head(bytes: &[u8]) -> Option<SegmentHead> {
    let mut cursor = Cursor(bytes.get(..HEAD)?);
    let sound = cursor.take(16)? == MAGIC;
    let owner = Ulid::from_bytes(cursor.array()?);
    let number = u32::from_le_bytes(cursor.array()?);
    let sound = sound && u64::from_le_bytes(cursor.array()?) == xxh3_64(&bytes[..36]);
    sound.then_some(SegmentHead { owner, number })
}

/// Appends one whole record to `buffer`; on an error `buffer` is as it was.
pub(super) fn encode(buffer: &mut Vec<u8>, seq: u64, event: &Event) -> Result<(), LedgerError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    put_event(buffer, seq, event);
    let body = start + PREFIX;
    let bytes = buffer.len() - body;
    if bytes > MAX_BODY {
        buffer.truncate(start);
        return Err(LedgerError::TooLarge {
            bytes,
            limit: MAX_BODY,
        });
    }
    let length = u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let check = xxh3_64(&buffer[body..]);
    buffer[start..start + 4].copy_from_slice(&length);
    buffer[start + 4..start + 8].copy_from_slice(&length_check(length));
    buffer[start + 8..body].copy_from_slice(&check.to_le_bytes());
    Ok(())
}

/// Never all zeros for a length of zero: a disk that lost power leaves zeros.
fn length_check(length: [u8; 4]) -> [u8; 4] {
    let check = xxh3_64(&length).to_le_bytes();
    [check[0], check[1], check[2], check[3]]
}

/// Reads a segment as far as it is sound. `None` for the head when not even that is.
pub(super) fn decode_segment(bytes: &[u8]) -> (Option<SegmentHead>, Vec<Numbered>, End) {
    let mut found = Vec::new();
    let Some(head) = decode_head(bytes) else {
        let end = match bytes.len() {
            0 => End::Whole,
            len if len < HEAD => End::Torn { at: 0 },
            _ => End::Damaged { at: 0 },
        };
        return (None, found, end);
    };
    let mut at = HEAD;
    loop {
        match decode_record(&bytes[at..]) {
            Decoded::Nothing => return (Some(head), found, End::Whole),
            Decoded::Torn => return (Some(head), found, End::Torn { at }),
            Decoded::Damaged => return (Some(head), found, End::Damaged { at }),
            Decoded::Record(record, length) => {
                found.push(record);
                at += length;
            }
        }
    }
}

enum Decoded {
    Nothing,
    Torn,
    Damaged,
    Record(Numbered, usize),
}

fn decode_record(bytes: &[u8]) -> Decoded {
    if bytes.is_empty() {
        return Decoded::Nothing;
    }
    let mut cursor = Cursor(bytes);
    let (Some(length), Some(check)) = (cursor.array::<4>(), cursor.array::<4>()) else {
        return Decoded::Torn;
    };
    let size = u32::from_le_bytes(length) as usize;
    if check != length_check(length) || size > MAX_BODY {
        return Decoded::Damaged;
    }
    let (Some(check), Some(body)) = (cursor.array::<8>(), cursor.take(size)) else {
        return Decoded::Torn;
    };
    if u64::from_le_bytes(check) != xxh3_64(body) {
        return Decoded::Damaged;
    }
    match take_event(body) {
        Some(record) => Decoded::Record(record, PREFIX + size),
        None => Decoded::Damaged,
    }
}

fn put_event(out: &mut Vec<u8>, seq: u64, event: &Event) {
    let kind = match event {
        Event::Held(hold) if hold.claims.is_empty() => HELD,
        Event::Held(_) => HELD_WITHIN,
        Event::Settled(hold, _) if hold.claims.is_empty() => SETTLED,
        Event::Settled(..) => SETTLED_WITHIN,
        Event::Released(_) => RELEASED,
    };
    out.push(kind);
    out.extend_from_slice(&seq.to_le_bytes());
    match event {
        Event::Held(hold) => put_hold(out, hold),
        Event::Settled(hold, settlement) => {
            put_hold(out, hold);
            put_settlement(out, settlement);
        }
        Event::Released(key) => put_key(out, *key),
    }
}

fn take_event(body: &[u8]) -> Option<Numbered> {
    let mut cursor = Cursor(body);
    let [kind] = cursor.array()?;
    let seq = u64::from_le_bytes(cursor.array()?);
    let event = match kind {
        HELD | HELD_WITHIN => {
            let within = kind == HELD_WITHIN;
            Event::Held(Arc::new(take_hold(&mut cursor, within)?))
        }
        SETTLED | SETTLED_WITHIN => {
            let hold = Arc::new(take_hold(&mut cursor, kind == SETTLED_WITHIN)?);
            Event::Settled(hold, Arc::new(take_settlement(&mut cursor)?))
        }
        RELEASED => Event::Released(take_key(&mut cursor)?),
        _ => return None,
    };
    cursor.0.is_empty().then_some(Numbered { seq, event })
}

fn put_key(out: &mut Vec<u8>, key: Key) {
    out.extend_from_slice(&key.call.to_bytes());
    out.extend_from_slice(&key.attempt.to_le_bytes());
}

fn take_key(from: &mut Cursor<'_>) -> Option<Key> {
    Some(Key {
        call: Ulid::from_bytes(from.array()?),
        attempt: u32::from_le_bytes(from.array()?),
    })
}

fn put_hold(out: &mut Vec<u8>, hold: &Hold) {
    put_key(out, hold.key());
    put_time(out, hold.at);
    put_text(out, &hold.app);
    put_text(out, hold.model.as_str());
    put_text(out, hold.tier.as_str());
    put_option(out, hold.credential.as_deref(), put_text);
    put_option(out, hold.user.as_deref(), put_text);
    put_option(out, hold.tags.as_deref(), put_text);
    put_option(out, hold.held, put_usd);
    put_option(out, hold.quote, put_usd);
    if !hold.claims.is_empty() {
        put_claims(out, &hold.claims);
    }
}

fn take_hold(from: &mut Cursor<'_>, within: bool) -> Option<Hold> {
    let key = take_key(from)?;
    Some(Hold {
        call: key.call,
        attempt: key.attempt,
        at: take_time(from)?,
        app: take_text(from)?.into(),
        model: ModelId::parse(take_text(from)?)?,
        tier: Tier::parse(take_text(from)?)?,
        credential: take_option(from, take_text)?.map(Arc::from),
        user: take_option(from, take_text)?.map(Arc::from),
        tags: take_option(from, take_text)?.map(Arc::from),
        held: take_option(from, take_usd)?,
        quote: take_option(from, take_usd)?,
        claims: match within {
            true => take_claims(from)?,
            false => Arc::default(),
        },
    })
}

fn put_claims(out: &mut Vec<u8>, claims: &[Claim]) {
    let count = u32::try_from(claims.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for claim in claims {
        put_text(out, &claim.budget);
        put_text(out, &claim.bucket);
        put_time(out, claim.since);
        put_usd(out, claim.amount);
    }
}

fn take_claims(from: &mut Cursor<'_>) -> Option<Arc<[Claim]>> {
    let count = u32::from_le_bytes(from.array()?);
    let claim = |_| {
        Some(Claim {
            budget: take_text(from)?.into(),
            bucket: take_text(from)?.into(),
            since: take_time(from)?,
            amount: take_usd(from)?,
        })
    };
    (0..count).map(claim).collect()
}

fn put_settlement(out: &mut Vec<u8>, settlement: &Settlement) {
    put_time(out, settlement.at);
    put_text(out, settlement.outcome.as_str());
    put_text(out, settlement.billed.as_str());
    put_option(out, settlement.charge, put_usd);
    put_text(out, settlement.from.as_str());
    out.extend_from_slice(&settlement.images.to_le_bytes());
    put_option(out, settlement.request_id.as_deref(), put_text);
}

fn take_settlement(from: &mut Cursor<'_>) -> Option<Settlement> {
    Some(Settlement {
        at: take_time(from)?,
        outcome: Outcome::parse(take_text(from)?)?,
        billed: Billed::parse(take_text(from)?)?,
        charge: take_option(from, take_usd)?,
        from: ChargeFrom::parse(take_text(from)?)?,
        images: u32::from_le_bytes(from.array()?),
        request_id: take_option(from, take_text)?.map(str::to_owned),
    })
}

fn put_time(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.as_microsecond().to_le_bytes());
}

fn take_time(from: &mut Cursor<'_>) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::from_le_bytes(from.array()?)).ok()
}

fn put_usd(out: &mut Vec<u8>, amount: Usd) {
    out.extend_from_slice(&amount.nano().to_le_bytes());
}

fn take_usd(from: &mut Cursor<'_>) -> Option<Usd> {
    from.array().map(i64::from_le_bytes).map(Usd::from_nano)
}

/// A text that is too long for its length makes the whole record too long, and that is refused.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(from: &mut Cursor<'a>) -> Option<&'a str> {
    let length = u32::from_le_bytes(from.array()?) as usize;
    std::str::from_utf8(from.take(length)?).ok()
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// The outer `None` is a body that makes no sense, the inner one a value that is not there.
fn take_option<'a, T>(
    from: &mut Cursor<'a>,
    take: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match from.array()? {
        [0] => Some(None),
        [1] => take(from).map(Some),
        _ => None,
    }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}
