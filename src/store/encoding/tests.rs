use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::clock::Timestamp;
use crate::policy::accept_encoding::Codings;
use crate::policy::{CacheKey, Fingerprint, VaryFields};
use crate::purge::{Epoch, PurgeVersion, ReadVersion, Target, TargetId, ValidityCache};
use crate::stored_response::{
    EvaluatedUnder, StoredEntry, StoredFields, StoredHead, StoredResponse, Terms, Variants,
};

const KEY: CacheKey = CacheKey([7; 32]);

fn response(body: &'static [u8]) -> StoredEntry {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("application/json"));
    headers.append("link", HeaderValue::from_static("</a>"));
    headers.append("link", HeaderValue::from_static("</b>"));
    headers.append("x-raw", HeaderValue::from_bytes(b"\xfc\xff").unwrap());
    let head = StoredHead {
        key: KEY,
        fingerprint: Fingerprint(0x0123_4567_89ab_cdef),
        status: StatusCode::NOT_FOUND,
        fields: StoredFields::new(&headers, &["courses"]),
        terms: Terms {
            requested_at: Timestamp::from_micros(1_763_640_000_000_001),
            received_at: Timestamp::from_micros(1_763_640_000_000_002),
            initial_age: Duration::from_micros(3),
            freshness_lifetime: Duration::from_secs(30),
            stale_while_revalidate: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(6),
            always_validate: false,
            must_revalidate: true,
            open_to_credentials: true,
            expires_at: Timestamp::from_micros(1_763_640_041_000_000),
        }
        .into(),
        stamp: ReadVersion {
            epoch: Epoch(0xfeed_0000_0000_0000_0000_0000_0000_0001),
            version: PurgeVersion(1_763_639_999_999_999),
            time: Timestamp::from_micros(1_763_640_000_000_000),
        },
        targets: vec![Target::Everything.id(), Target::tag("courses").id()].into(),
        fetched_here: false,
        found_valid: ValidityCache::default(),
        evaluated_under: EvaluatedUnder::new(Fingerprint(0xabc)),
        usage: Default::default(),
    };
    StoredEntry::Response(StoredResponse { head: Arc::new(head), body: Bytes::from_static(body) })
}

fn variants() -> StoredEntry {
    let fields = vec![
        VaryFields::new(vec![HeaderName::from_static("accept"), HeaderName::from_static("origin")]),
        VaryFields::new(vec![HeaderName::from_static("accept-encoding")]),
    ];
    StoredEntry::Variants(Arc::new(Variants {
        fields,
        codings: Codings::from_byte(5),
        expires_at: Timestamp::from_secs(1_763_640_000),
        withdrawn_at: None,
    }))
}

fn encoded(stored: &StoredEntry) -> Bytes {
    encode(&KEY, stored, &ClockOffset::default()).unwrap()
}

fn decoded(value: &[u8]) -> Option<StoredEntry> {
    decode(&KEY, &Bytes::copy_from_slice(value), &ClockOffset::default())
}

/// All of it, in words, but for what was only found out since it was stored.
fn shown(stored: &StoredEntry) -> String {
    format!("{stored:?}")
}

#[test]
fn what_was_written_is_read_again() {
    for stored in [response(b""), response(b"{\"id\": 7}"), variants()] {
        assert_eq!(decoded(&encoded(&stored)).map(|read| shown(&read)), Some(shown(&stored)));
    }
}

/// `redis/replace.lua` reads these places.
#[test]
fn what_orders_two_responses_stands_where_the_script_looks() {
    let value = encoded(&response(b"x"));
    let number = |from: usize| u64::from_le_bytes(value[from - 1..from + 7].try_into().unwrap());
    assert_eq!(value[4..6], [FORMAT_VERSION, KIND_RESPONSE]);
    assert_eq!(value[62..78], 0xfeed_0000_0000_0000_0000_0000_0000_0001_u128.to_le_bytes());
    assert_eq!((number(79), number(89)), (1_763_639_999_999_999, 1_763_640_000_000_001));
    assert_eq!(FETCH_TIME_END, 96);
}

/// A change of the format without another version would make two releases misread each other.
#[test]
fn the_format_of_version_5_is_this_one() {
    let value = encoded(&response(b"{}"));
    assert_eq!(&value[..6], b"lrdr\x05\x01");
    let digests = [value, encoded(&variants())].map(|value| crate::hex::encode(&Sha256::digest(&value)));
    assert_eq!(digests, [GOLDEN_RESPONSE, GOLDEN_VARIANTS]);
}

const GOLDEN_RESPONSE: &str = "745e4062673065c404ce50f3a1275de98f75736f023422b0fc0ee727a9a958d6";
const GOLDEN_VARIANTS: &str = "162985a6d91336b4e473e5f000eb183a669d6d2252ba4445c625fdc9b33feef1";

#[test]
fn variants_say_when_the_resource_was_found_to_be_gone() {
    let StoredEntry::Variants(variants) = variants() else { unreachable!() };
    let withdrawn_at = Some(Timestamp::from_secs(1_763_630_000));
    let withdrawn = StoredEntry::Variants(Arc::new(Variants { withdrawn_at, ..(*variants).clone() }));
    let value = encoded(&withdrawn);
    assert_eq!(decoded(&value).map(|stored| shown(&stored)), Some(shown(&withdrawn)));
    for length in 0..value.len() {
        assert!(decoded(&value[..length]).is_none(), "{length}");
    }
}

#[test]
fn under_another_key_there_is_nothing() {
    let other = CacheKey([8; 32]);
    for stored in [response(b"x"), variants()] {
        assert!(decode(&other, &encoded(&stored), &ClockOffset::default()).is_none());
    }
}

#[test]
fn a_truncated_value_is_nothing_and_so_is_a_longer_one() {
    for stored in [response(b"content"), variants()] {
        let value = encoded(&stored);
        for length in 0..value.len() {
            assert!(decoded(&value[..length]).is_none(), "{length}");
        }
        assert!(decoded(&[&value[..], b"x"].concat()).is_none());
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for stored in [response(b"content"), variants()] {
        let value = encoded(&stored);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&flipped).is_none(), "bit {bit}");
        }
    }
}

/// A value that a newer or an older version would write: whole, and with a right checksum.
fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = encoded(&response(b"content")).to_vec();
    change(&mut value);
    let head_length = parse_length(&value[6..10]).unwrap().min(value.len() - HEAD_OFFSET);
    let sum = checksum(&value, head_length);
    value[CHECKSUM_OFFSET..HEAD_OFFSET].copy_from_slice(&sum);
    value
}

#[test]
fn a_right_checksum_does_not_make_nonsense_readable() {
    assert!(decoded(&resealed(|_| {})).is_some());
    let targets = HEAD_OFFSET + 32 + 8 + 16 + 8 + 2 + 3 * 8 + 4 * 8 + 1 + 8;
    type Change = (&'static str, fn(&mut Vec<u8>, usize));
    let changes: [Change; 8] = [
        ("another version", |value, _| value[4] = FORMAT_VERSION + 1),
        ("an unknown kind", |value, _| value[5] = 9),
        ("a status of 0", |value, _| value[HEAD_OFFSET + 64..HEAD_OFFSET + 66].fill(0)),
        ("an unknown flag", |value, targets| value[targets - 9] |= 128),
        ("4 GiB of targets", |value, targets| value[targets..targets + 4].fill(0xff)),
        ("names of 4 GiB", |value, targets| value[targets + 28..targets + 32].fill(0xff)),
        ("a head of 4 GiB", |value, _| value[6..10].fill(0xff)),
        ("content of 4 GiB", |value, _| value[10..14].fill(0xff)),
    ];
    for (name, change) in changes {
        assert!(decoded(&resealed(|value| change(value, targets))).is_none(), "{name}");
    }
}

#[test]
fn a_response_that_no_purge_can_reach_is_none_of_ours() {
    let StoredEntry::Response(response) = response(b"") else { unreachable!() };
    let mut head = encoder::encode_response_head(&KEY, &response.head, &ClockOffset::default());
    let targets = response.head.targets.len();
    let at = head.windows(4).position(|four| four == u32::try_from(targets).unwrap().to_le_bytes()).unwrap();
    head.splice(at..at + 4 + targets * TargetId::LENGTH, 0u32.to_le_bytes());
    assert!(decoder::decode_response(&KEY, head.into(), Bytes::new(), &ClockOffset::default()).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decoded(&bytes).is_none());
    }

    #[test]
    fn no_head_makes_it_panic(head in proptest::collection::vec(any::<u8>(), 0..400), kind in 1u8..=2) {
        let sealed = resealed(|value| {
            value.truncate(HEAD_OFFSET);
            value[5] = kind;
            value[6..10].copy_from_slice(&u32::try_from(head.len() + 32).unwrap().to_le_bytes());
            value[10..14].fill(0);
            value.extend_from_slice(&KEY.0);
            value.extend_from_slice(&head);
        });
        decoded(&sealed);
    }

    #[test]
    fn any_content_and_fields_come_back(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,12}", "[ -~]{0,30}"), 0..12),
        tags in proptest::collection::vec(".{0,20}", 0..6),
    ) {
        let StoredEntry::Response(template) = response(b"") else { unreachable!() };
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let head = &template.head;
        let head = StoredHead {
            fields: StoredFields::new(&headers, &tags),
            terms: head.terms,
            targets: head.targets.clone(),
            fetched_here: false,
            found_valid: ValidityCache::default(),
            evaluated_under: EvaluatedUnder::new(Fingerprint(0xabc)),
            usage: Default::default(),
            ..*template.head
        };
        let stored = StoredEntry::Response(StoredResponse { head: Arc::new(head), body: body.into() });
        prop_assert_eq!(decoded(&encoded(&stored)).map(|read| shown(&read)), Some(shown(&stored)));
    }
}
