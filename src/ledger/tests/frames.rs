//! Whatever a crash or a bad disk makes of a journal, what is read from it was written.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use ulid::Ulid;

use super::{charged, hold};
use crate::image::ModelId;
use crate::ledger::entry::{Event, Hold, Numbered, Settlement};
use crate::ledger::error::LedgerError;
use crate::ledger::frame::*;
use crate::money::Usd;

const SEGMENT: SegmentHead = SegmentHead {
    owner: Ulid::from_bytes([7; 16]),
    number: 3,
};

/// A segment of these events, and where each record ends.
fn segment(events: &[Event]) -> (Vec<u8>, Vec<Numbered>, Vec<usize>) {
    let mut bytes = encode_head(SEGMENT).to_vec();
    let mut ends = vec![bytes.len()];
    let mut numbered = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let seq = index as u64 + 1;
        encode(&mut bytes, seq, event).unwrap();
        ends.push(bytes.len());
        let event = event.clone();
        numbered.push(Numbered { seq, event });
    }
    (bytes, numbered, ends)
}

fn three_events() -> Vec<Event> {
    let held = Arc::new(hold(0, 40_000_000));
    vec![
        Event::Held(Arc::clone(&held)),
        Event::Settled(held, Arc::new(charged(35_000_000))),
        Event::Released(hold(1, 1).key()),
    ]
}

#[test]
fn a_journal_cut_at_any_byte_yields_exactly_its_whole_records() {
    let (bytes, written, ends) = segment(&three_events());
    for cut in 0..=bytes.len() {
        let (_, read, end) = decode_segment(&bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(read, written[..whole.saturating_sub(1)], "cut at {cut}");
        let clean = cut == 0 || ends.contains(&cut);
        assert_eq!(end == End::Whole, clean, "cut at {cut}: {end:?}");
        assert!(!matches!(end, End::Damaged { .. }), "cut at {cut}: {end:?}");
    }
}

#[test]
fn a_journal_with_any_bit_flipped_stops_at_the_damage_and_says_so() {
    let (bytes, written, ends) = segment(&three_events());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut spoiled = bytes.clone();
            spoiled[at] ^= 1 << bit;
            let (_, read, end) = decode_segment(&spoiled);
            let sound = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(read, written[..sound.saturating_sub(1)], "byte {at}");
            let begin = if sound == 0 { 0 } else { ends[sound - 1] };
            assert_eq!(end, End::Damaged { at: begin }, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn zeros_after_the_last_record_are_damage_and_not_records() {
    let (mut bytes, written, _) = segment(&three_events());
    let end = bytes.len();
    bytes.extend_from_slice(&[0; 4096]);
    assert_eq!(
        decode_segment(&bytes),
        (Some(SEGMENT), written, End::Damaged { at: end })
    );
}

#[test]
fn a_record_that_is_too_long_is_refused_and_leaves_no_trace() {
    let mut large = hold(0, 1);
    large.tags = Some("x".repeat(MAX_BODY).into());
    let mut buffer = vec![1, 2, 3];
    let refused = encode(&mut buffer, 1, &Event::Held(Arc::new(large)));
    assert!(matches!(refused, Err(LedgerError::TooLarge { .. })));
    assert_eq!(buffer, [1, 2, 3]);
}

fn any_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("\\PC{0,12}")
}

fn any_usd() -> impl Strategy<Value = Option<Usd>> {
    proptest::option::of(any::<i64>().prop_map(Usd::from_nano))
}

prop_compose! {
    fn any_hold()(
        call in any::<[u8; 16]>(), attempt in any::<u32>(), at in 0i64..4_000_000_000_000_000,
        texts in (any_text(), any_text(), any_text()), held in any_usd(), quote in any_usd(),
    ) -> Hold {
        Hold {
            call: Ulid::from_bytes(call),
            attempt,
            at: Timestamp::from_microsecond(at).unwrap(),
            model: ModelId::new("studio", "a/b"),
            credential: texts.0.map(Into::into),
            user: texts.1.map(Into::into),
            tags: texts.2.map(Into::into),
            held,
            quote,
            ..hold(0, 1)
        }
    }
}

prop_compose! {
    fn any_settlement()(charge in any_usd(), images in any::<u32>(), request_id in any_text()) -> Settlement {
        Settlement { charge, images, request_id, ..charged(1) }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_hold().prop_map(|hold| Event::Held(Arc::new(hold))),
        (any_hold(), any_settlement())
            .prop_map(|(hold, end)| Event::Settled(Arc::new(hold), Arc::new(end))),
        any_hold().prop_map(|hold| Event::Released(hold.key())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_what_was_written(events in proptest::collection::vec(any_event(), 0..8)) {
        let (bytes, written, _) = segment(&events);
        prop_assert_eq!(decode_segment(&bytes), (Some(SEGMENT), written, End::Whole));
    }

    #[test]
    fn any_bytes_at_all_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut spoiled = encode_head(SEGMENT).to_vec();
        spoiled.extend_from_slice(&bytes);
        let (_, read, end) = decode_segment(&spoiled);
        prop_assert!(read.is_empty());
        prop_assert_eq!(end == End::Whole, bytes.is_empty());
    }
}
