//! Compression of stored values: a zstd frame in place of everything behind the readable prefix.
//!
//! The lengths in the prefix stay those of the plain value, so the size is known and checked before anything is expanded.
//! The checksum is that of the compressed value. Sealing comes after compression.
//!
//! ```text
//! prefix (kind + 0x40)  zstd frame
//! 96 or 54              …
//! ```

use std::cell::RefCell;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zstd::bulk::{Compressor, Decompressor};

use super::{FORMAT_VERSION, HEAD_OFFSET, MAGIC, MAX_VALUE_BYTES, parse_length, prefix_length};
use crate::config::StoreCompression;

/// Set in the kind of a compressed value.
pub(super) const COMPRESSED: u8 = 0x40;

/// Values up to this size are compressed faster than they are handed to another thread.
const MAX_INLINE_BYTES: usize = 64 * 1024;

thread_local! {
    /// Contexts of the worker threads: a new one costs more than a small value.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses values that are written, and counts their bytes.
pub(crate) struct ValueCompressor {
    level: i32,
    min_size: u64,
    /// Compresses at most one large value for each core at a time.
    large: Semaphore,
    bytes_before: AtomicU64,
    bytes_after: AtomicU64,
}

/// Bytes of the values that were long enough to be compressed, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompressionStats {
    pub bytes_before: u64,
    /// The size as written, before it is sealed.
    pub bytes_after: u64,
}

impl ValueCompressor {
    pub(crate) fn new(settings: &StoreCompression) -> Self {
        Self {
            level: i32::from(settings.level),
            min_size: settings.min_size,
            large: Semaphore::new(available_parallelism().map_or(1, usize::from)),
            bytes_before: AtomicU64::new(0),
            bytes_after: AtomicU64::new(0),
        }
    }

    /// Compresses an encoded value. `None`: one that is short, does not shrink, or is large and would wait for its turn
    /// for longer than `max_wait`.
    pub(crate) async fn compress(&self, value: &Bytes, max_wait: Duration) -> Option<Bytes> {
        if (value.len() as u64) < self.min_size {
            return None;
        }
        let compressed = match value.len() {
            ..=MAX_INLINE_BYTES => compress_inline(value, self.level),
            _ => self.compress_large(value.clone(), max_wait).await,
        };
        let compressed = compressed.filter(|compressed| compressed.len() < value.len());
        let written = compressed.as_ref().unwrap_or(value).len();
        self.bytes_before.fetch_add(value.len() as u64, Ordering::Relaxed);
        self.bytes_after.fetch_add(written as u64, Ordering::Relaxed);
        compressed
    }

    async fn compress_large(&self, value: Bytes, max_wait: Duration) -> Option<Bytes> {
        let _permit = timeout(max_wait, self.large.acquire()).await.ok()?.ok()?;
        let level = self.level;
        let compress = move || compress_with(&mut Compressor::new(level).ok()?, &value);
        spawn_blocking(compress).await.ok().flatten()
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        CompressionStats {
            bytes_before: self.bytes_before.load(Ordering::Relaxed),
            bytes_after: self.bytes_after.load(Ordering::Relaxed),
        }
    }
}

fn compress_inline(value: &[u8], level: i32) -> Option<Bytes> {
    COMPRESSOR.with_borrow_mut(|context| {
        let compressor = match context {
            Some(compressor) => compressor,
            None => context.insert(Compressor::new(level).ok()?),
        };
        // Another configuration may have set another level.
        compressor.set_compression_level(level).ok()?;
        compress_with(compressor, value)
    })
}

fn compress_with(compressor: &mut Compressor<'static>, value: &[u8]) -> Option<Bytes> {
    let (prefix, rest) = value.split_at_checked(prefix_length(*value.get(5)?)?)?;
    let frame = compressor.compress(rest).ok()?;
    let mut compressed = [prefix, &frame].concat();
    compressed[5] |= COMPRESSED;
    super::put_checksum(&mut compressed)?;
    Some(compressed.into())
}

/// The size of the plain form of a value, as far as its prefix can be believed.
pub(crate) fn plain_size(value: &[u8]) -> u64 {
    let claimed = is_compressed(value).then(|| plain_length(value)).flatten();
    claimed.unwrap_or(value.len()) as u64
}

/// The plain form of a value, without a copy if it is not compressed. `None` as in [`decompress`].
pub(crate) fn into_plain(value: Bytes) -> Option<Bytes> {
    if is_compressed(&value) { decompress(&value) } else { Some(value) }
}

/// A copy of the plain form of a value. It has exactly the length that the prefix states.
///
/// `None` if the value is damaged, or would be longer than any value that larder writes.
pub(crate) fn decompress(value: &[u8]) -> Option<Bytes> {
    if !is_compressed(value) {
        return Some(Bytes::copy_from_slice(value));
    }
    let length = plain_length(value).filter(|length| *length <= MAX_VALUE_BYTES)?;
    let kind = value[5] & !COMPRESSED;
    let (prefix, frame) = value.split_at_checked(prefix_length(kind)?)?;
    if !super::has_valid_checksum(value) {
        return None;
    }
    let mut plain = Vec::with_capacity(length);
    plain.extend_from_slice(prefix);
    plain[5] = kind;
    let mut rest = Cursor::new(plain);
    rest.set_position(prefix.len() as u64);
    DECOMPRESSOR.with_borrow_mut(|context| {
        let decompressor = match context {
            Some(decompressor) => decompressor,
            None => context.insert(Decompressor::new().ok()?),
        };
        // Never more than the capacity of the buffer.
        decompressor.decompress_to_buffer(frame, &mut rest).ok()
    })?;
    let mut plain = rest.into_inner();
    (plain.len() == length).then_some(())?;
    super::put_checksum(&mut plain)?;
    Some(plain.into())
}

fn is_compressed(value: &[u8]) -> bool {
    value.starts_with(&MAGIC)
        && value.get(4) == Some(&FORMAT_VERSION)
        && value.get(5).is_some_and(|kind| kind & COMPRESSED != 0)
}

/// The length of the plain value that the prefix states.
fn plain_length(value: &[u8]) -> Option<usize> {
    let (head, content) = (parse_length(value.get(6..10)?)?, parse_length(value.get(10..14)?)?);
    HEAD_OFFSET.checked_add(head)?.checked_add(content)
}

#[cfg(test)]
mod tests {
    use super::super::{KIND_RESPONSE, put_checksum};
    use super::*;
    use crate::config::CompressionAlgorithm;

    const LONG: Duration = Duration::from_secs(60);

    /// An encoded response with a head of 200 bytes and a content of `length` that compresses well.
    fn value(length: u32) -> Bytes {
        let lengths = [200_u32.to_le_bytes(), length.to_le_bytes()].concat();
        let mut value = [&MAGIC[..], &[FORMAT_VERSION, KIND_RESPONSE], &lengths, &[0; 8]].concat();
        value.extend((0..200 + length).map(|number| (number / 7) as u8));
        put_checksum(&mut value).unwrap();
        value.into()
    }

    fn compressor(level: u8, min_size: u64) -> ValueCompressor {
        ValueCompressor::new(&StoreCompression { algorithm: CompressionAlgorithm::Zstd, level, min_size })
    }

    #[tokio::test]
    async fn small_and_large_values_come_back_whole_at_every_level() {
        for level in 1..=9 {
            for length in [0, 5_000, 300_000] {
                let (compressor, value) = (compressor(level, 0), value(length));
                let compressed = compressor.compress(&value, LONG).await.expect("it shrinks");
                assert!(compressed.len() < value.len(), "{level} {length}");
                assert_eq!(plain_size(&compressed), value.len() as u64);
                assert_eq!(decompress(&compressed), Some(value.clone()), "{level} {length}");
                let CompressionStats { bytes_before, bytes_after } = compressor.stats();
                assert_eq!((bytes_before, bytes_after), (value.len() as u64, compressed.len() as u64));
            }
        }
    }

    #[tokio::test]
    async fn a_value_stays_plain_if_it_is_short_or_does_not_shrink() {
        let short = value(500);
        let untouched = compressor(1, 1024);
        assert_eq!(untouched.compress(&short, LONG).await, None);
        assert_eq!(untouched.stats(), CompressionStats::default());
        let random: [u8; 4096] = crate::random::random_bytes().unwrap();
        let lengths = [200_u32.to_le_bytes(), 3896_u32.to_le_bytes()].concat();
        let start = [&MAGIC[..], &[FORMAT_VERSION, KIND_RESPONSE], &lengths, &[0; 8]].concat();
        let mut value = [&start[..], &random].concat();
        put_checksum(&mut value).unwrap();
        let value = Bytes::from(value);
        assert_eq!(compressor(9, 1024).compress(&value, LONG).await, None);
        assert_eq!(decompress(&value), Some(value));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_value_that_would_wait_too_long_stays_plain() {
        let compressor = compressor(1, 0);
        let held = compressor.large.acquire_many(compressor.large.available_permits() as u32).await;
        assert_eq!(compressor.compress(&value(300_000), LONG).await, None);
        assert!(compressor.compress(&value(5_000), LONG).await.is_some(), "it needs no turn");
        drop(held);
        assert!(compressor.compress(&value(300_000), LONG).await.is_some());
    }

    #[tokio::test]
    async fn any_change_and_any_cut_is_found() {
        let compressed = compressor(3, 0).compress(&value(600), LONG).await.expect("it shrinks");
        for at in 6..compressed.len() {
            let mut changed = compressed.to_vec();
            changed[at] ^= 1;
            assert_eq!(decompress(&changed), None, "{at}");
            assert_eq!(decompress(&compressed[..at]), None, "{at}");
        }
    }

    /// Somebody who may write to Redis can compute the checksum.
    #[tokio::test]
    async fn a_forged_value_never_expands_beyond_its_length() {
        let compressed = compressor(3, 0).compress(&value(600), LONG).await.expect("it shrinks");
        let forge = |length: u32, frame: &[u8]| {
            let mut forged = [&compressed[..96], frame].concat();
            forged[10..14].copy_from_slice(&length.to_le_bytes());
            put_checksum(&mut forged).unwrap();
            forged
        };
        assert!(decompress(&forge(600, &compressed[96..])).is_some());
        for length in [0, 599, 601, 4 * 1024 * 1024, u32::MAX] {
            assert_eq!(decompress(&forge(length, &compressed[96..])), None, "{length}");
        }
        let bomb = Compressor::new(9).unwrap().compress(&vec![0; 64 * 1024 * 1024]).unwrap();
        assert!(bomb.len() < 10_000);
        for length in [600, 4_000_000, 64 * 1024 * 1024 - 126] {
            assert_eq!(decompress(&forge(length, &bomb)), None, "{length}");
        }
        // Two frames are one text for zstd.
        let twice = [&compressed[96..], &compressed[96..]].concat();
        assert_eq!(decompress(&forge(600, &twice)), None);
    }
}
