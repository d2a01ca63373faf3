//! A stored response as bytes, and back: what stands in a shared store.
//!
//! A versioned head first, the content last. Whatever can't be read for certain is `None`: foreign bytes, another
//! version, another key, a byte too few or too many, a bit that flipped. Nothing is allocated from a claimed length.
//! Pure: it knows no store.
//!
//! ```text
//! "lrdr"  version  kind  length of the head  length of the content  checksum  head     content
//! 4       1        1     4                   4                      8         …        …
//! ```
//! Numbers are little-endian. The checksum is the CRC-32 of all before it and the head, and that of the content: it finds
//! what went wrong on the way, and each hit out of Redis pays for it. It keeps nobody away who may write to Redis.

mod clocks;
mod read;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use clocks::Clocks;
use crc32fast::Hasher;

use crate::policy::CacheKey;
use crate::stored_response::Stored;

const MAGIC: [u8; 4] = *b"lrdr";

/// It also stands in the names of keys, so that two versions of larder do not overwrite each other's responses.
pub const VERSION: u8 = 3;

const RESPONSE: u8 = 1;
const VARIANTS: u8 = 2;

/// So many bytes of a response say what it is, of which incarnation, and when it was asked for: `redis/replace.lua`
/// compares them.
pub const TIMED: usize = HEAD_AT + 74;

const CHECKSUM_AT: usize = 14;
const HEAD_AT: usize = 22;

/// `None` if it is too large to be written at all.
pub fn encode(key: &CacheKey, stored: &Stored, clocks: &Clocks) -> Option<Bytes> {
    let (kind, head, content) = match stored {
        Stored::Response(response) => {
            (RESPONSE, write::response_head(key, &response.head, clocks), response.body.clone())
        }
        Stored::Variants(variants) => (VARIANTS, write::variants(key, variants, clocks), Bytes::new()),
    };
    let mut value = Vec::with_capacity(HEAD_AT + head.len() + content.len());
    value.extend_from_slice(&MAGIC);
    value.extend_from_slice(&[VERSION, kind]);
    value.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&u32::try_from(content.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&[0; HEAD_AT - CHECKSUM_AT]);
    value.extend_from_slice(&head);
    value.extend_from_slice(&content);
    let checksum = checksum(&value, head.len());
    value[CHECKSUM_AT..HEAD_AT].copy_from_slice(&checksum);
    Some(value.into())
}

/// What stands in `value`, if it was written under `key`. Fields and content are slices of `value`.
pub fn decode(key: &CacheKey, value: &Bytes, clocks: &Clocks) -> Option<Stored> {
    let fixed = value.get(..HEAD_AT)?;
    if fixed[..4] != MAGIC || fixed[4] != VERSION {
        return None;
    }
    let (head_length, content_length) = (length(&fixed[6..10])?, length(&fixed[10..14])?);
    if value.len() != HEAD_AT.checked_add(head_length)?.checked_add(content_length)? {
        return None;
    }
    if fixed[CHECKSUM_AT..] != checksum(value, head_length) {
        return None;
    }
    let head = value.slice(HEAD_AT..HEAD_AT + head_length);
    let content = value.slice(HEAD_AT + head_length..);
    match fixed[5] {
        RESPONSE => read::response(key, head, content, clocks),
        VARIANTS if content.is_empty() => read::variants(key, head, clocks),
        _ => None,
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn checksum(value: &[u8], head_length: usize) -> [u8; HEAD_AT - CHECKSUM_AT] {
    let (head, content) = value[HEAD_AT..].split_at(head_length);
    let mut of_head = Hasher::new();
    of_head.update(&value[..CHECKSUM_AT]);
    of_head.update(head);
    let both = u64::from(of_head.finalize()) | u64::from(crc32fast::hash(content)) << 32;
    both.to_le_bytes()
}
