//! The wire format of stored entries in a shared store.
//!
//! A versioned head comes first, the content last. Decoding returns `None` for anything doubtful: foreign bytes, another
//! version, another key, a byte too few or too many, a flipped bit. It allocates nothing from a claimed length.
//!
//! ```text
//! "lrdr"  version  kind  length of the head  length of the content  checksum  head     content
//! 4       1        1     4                   4                      8         …        …
//! ```
//! Numbers are little-endian. The checksum is the CRC-32 of everything before it and the head, and that of the content.
//! It detects corruption in transit, not forgery by somebody who may write to Redis; `seal` does.

mod clock_offset;
mod compression;
mod decoder;
mod encoder;
mod seal;

#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use clock_offset::ClockOffset;
use compression::COMPRESSED;
pub(crate) use compression::{CompressionStats, ValueCompressor, decompress, into_plain, plain_size};
use crc32fast::Hasher;
pub(crate) use seal::{SealError, ValueSeal, is_sealed};

use crate::policy::CacheKey;
use crate::stored_response::StoredEntry;

const MAGIC: [u8; 4] = *b"lrdr";

/// Version of the format. Key names carry it too, so that two versions of larder don't overwrite each other's responses.
pub const FORMAT_VERSION: u8 = 5;

const KIND_RESPONSE: u8 = 1;
const KIND_VARIANTS: u8 = 2;

/// Length of the longest value that is written. Larger ones would hold up the small ones behind them on the connection.
pub(crate) const MAX_VALUE_BYTES: usize = 4 * 1024 * 1024;

/// Length of the prefix that holds magic, version, epoch and the time of the request: `redis/replace.lua` compares it.
pub(crate) const FETCH_TIME_END: usize = HEAD_OFFSET + 74;

const CHECKSUM_OFFSET: usize = 14;
const HEAD_OFFSET: usize = 22;

/// Length of a variants' prefix: up to the cache key.
const VARIANTS_PREFIX: usize = HEAD_OFFSET + 32;

/// Encodes an entry; `None` if a length does not fit into 32 bits.
pub fn encode(key: &CacheKey, stored: &StoredEntry, clocks: &ClockOffset) -> Option<Bytes> {
    let (kind, head, content) = match stored {
        StoredEntry::Response(response) => {
            (KIND_RESPONSE, encoder::encode_response_head(key, &response.head, clocks), response.body.clone())
        }
        StoredEntry::Variants(variants) => {
            (KIND_VARIANTS, encoder::encode_variants(key, variants, clocks), Bytes::new())
        }
    };
    let mut value = Vec::with_capacity(HEAD_OFFSET + head.len() + content.len());
    value.extend_from_slice(&MAGIC);
    value.extend_from_slice(&[FORMAT_VERSION, kind]);
    value.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&u32::try_from(content.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&[0; HEAD_OFFSET - CHECKSUM_OFFSET]);
    value.extend_from_slice(&head);
    value.extend_from_slice(&content);
    put_checksum(&mut value)?;
    Some(value.into())
}

/// Length of the prefix of a sealed or compressed value, which stays readable.
fn prefix_length(kind: u8) -> Option<usize> {
    match kind {
        KIND_RESPONSE => Some(FETCH_TIME_END),
        KIND_VARIANTS => Some(VARIANTS_PREFIX),
        _ => None,
    }
}

/// Writes the checksum of a value that is complete otherwise; `None` if it is shorter than its head.
fn put_checksum(value: &mut [u8]) -> Option<()> {
    let checksum = checksum(value, checksum_split(value)?);
    value[CHECKSUM_OFFSET..HEAD_OFFSET].copy_from_slice(&checksum);
    Some(())
}

fn has_valid_checksum(value: &[u8]) -> bool {
    checksum_split(value).is_some_and(|split| value[CHECKSUM_OFFSET..HEAD_OFFSET] == checksum(value, split))
}

/// How much behind the fixed part the first half of the checksum covers: the head, of a compressed value what is readable
/// of it.
fn checksum_split(value: &[u8]) -> Option<usize> {
    let kind = *value.get(5)?;
    let split = match kind & COMPRESSED {
        0 => parse_length(value.get(6..10)?)?,
        _ => prefix_length(kind & !COMPRESSED)? - HEAD_OFFSET,
    };
    (value.len() >= HEAD_OFFSET.checked_add(split)?).then_some(split)
}

/// Decodes the entry that was written under `key`. Fields and content are slices of `value`.
pub fn decode(key: &CacheKey, value: &Bytes, clocks: &ClockOffset) -> Option<StoredEntry> {
    let fixed = value.get(..HEAD_OFFSET)?;
    if fixed[..4] != MAGIC || fixed[4] != FORMAT_VERSION {
        return None;
    }
    let (head_length, content_length) = (parse_length(&fixed[6..10])?, parse_length(&fixed[10..14])?);
    if value.len() != HEAD_OFFSET.checked_add(head_length)?.checked_add(content_length)? {
        return None;
    }
    if !has_valid_checksum(value) {
        return None;
    }
    let head = value.slice(HEAD_OFFSET..HEAD_OFFSET + head_length);
    let content = value.slice(HEAD_OFFSET + head_length..);
    match fixed[5] {
        KIND_RESPONSE => decoder::decode_response(key, head, content, clocks),
        KIND_VARIANTS if content.is_empty() => decoder::decode_variants(key, head, clocks),
        _ => None,
    }
}

fn parse_length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn checksum(value: &[u8], head_length: usize) -> [u8; HEAD_OFFSET - CHECKSUM_OFFSET] {
    let (head, content) = value[HEAD_OFFSET..].split_at(head_length);
    let mut head_sum = Hasher::new();
    head_sum.update(&value[..CHECKSUM_OFFSET]);
    head_sum.update(head);
    let both = u64::from(head_sum.finalize()) | u64::from(crc32fast::hash(content)) << 32;
    both.to_le_bytes()
}
