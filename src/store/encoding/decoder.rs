//! Decodes heads. Every step may end in `None`, and no byte may be left over at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::ClockOffset;
use super::encoder::{ALWAYS_VALIDATE, MUST_REVALIDATE, OPEN_TO_CREDENTIALS};
use crate::clock::Timestamp;
use crate::policy::accept_encoding::Codings;
use crate::policy::{CacheKey, Fingerprint, VaryFields};
use crate::purge::{Epoch, PurgeVersion, ReadVersion, TargetId, ValidityCache};
use crate::stored_response::{
    EvaluatedUnder, StoredEntry, StoredFields, StoredHead, StoredResponse, Terms, Variants,
};

pub(super) fn decode_response(
    key: &CacheKey,
    head: Bytes,
    content: Bytes,
    clocks: &ClockOffset,
) -> Option<StoredEntry> {
    let mut reader = HeadReader { bytes: head, offset: 0 };
    reader.expect_key(key)?;
    let fingerprint = Fingerprint(reader.take_u64()?);
    let epoch = Epoch(u128::from_le_bytes(reader.take_array()?));
    let version = PurgeVersion(reader.take_u64()?);
    let status = StatusCode::from_u16(u16::from_le_bytes(reader.take_array()?)).ok()?;
    let terms = reader.take_terms(clocks)?;
    let time = Timestamp::from_micros(reader.take_u64()?);
    let targets: Vec<TargetId> = reader.take_list(|reader| reader.take_array().map(TargetId))?;
    let judged_by = EvaluatedUnder::new(Fingerprint(reader.take_u64()?));
    let names = reader.take_bytes()?;
    let tags_at = u32::from_le_bytes(reader.take_array()?);
    let fields = StoredFields::decode(&names, tags_at, reader.take_bytes()?)?;
    reader.expect_end()?;
    // Every response has at least the target of the purge of everything.
    if targets.is_empty() {
        return None;
    }
    let head = StoredHead {
        key: *key,
        fingerprint,
        status,
        fields,
        terms: terms.into(),
        stamp: ReadVersion { epoch, version, time },
        targets: targets.into(),
        fetched_here: false,
        found_valid: ValidityCache::default(),
        evaluated_under: judged_by,
        usage: Default::default(),
    };
    Some(StoredEntry::Response(StoredResponse { head: Arc::new(head), body: content }))
}

pub(super) fn decode_variants(key: &CacheKey, head: Bytes, clocks: &ClockOffset) -> Option<StoredEntry> {
    let mut reader = HeadReader { bytes: head, offset: 0 };
    reader.expect_key(key)?;
    let expires_at = clocks.here(Timestamp::from_micros(reader.take_u64()?));
    let [codings] = reader.take_array()?;
    let codings = Codings::from_byte(codings);
    let fields =
        reader.take_list(|reader| reader.take_list(HeadReader::take_header_name).map(VaryFields::new))?;
    let withdrawn_at = match reader.expect_end() {
        Some(()) => None,
        None => Some(clocks.here(Timestamp::from_micros(reader.take_u64()?))),
    };
    reader.expect_end()?;
    Some(StoredEntry::Variants(Arc::new(Variants { fields, codings, expires_at, withdrawn_at })))
}

struct HeadReader {
    bytes: Bytes,
    offset: usize,
}

impl HeadReader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        let end = self.offset.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let taken = self.bytes.slice(self.offset..end);
        self.offset = end;
        Some(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.offset.checked_add(N)?;
        let array = self.bytes.get(self.offset..end)?.try_into().ok()?;
        self.offset = end;
        Some(array)
    }

    fn take_u64(&mut self) -> Option<u64> {
        self.take_array().map(u64::from_le_bytes)
    }

    fn take_count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take_array()?)).ok()
    }

    fn take_bytes(&mut self) -> Option<Bytes> {
        let length = self.take_count()?;
        self.take(length)
    }

    fn take_header_name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.take_bytes()?).ok()
    }

    /// The list grows as items are read: the claimed count allocates nothing.
    fn take_list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..self.take_count()? {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn take_terms(&mut self, clocks: &ClockOffset) -> Option<Terms> {
        let mut time = || Some(clocks.here(Timestamp::from_micros(self.take_u64()?)));
        let (requested_at, received_at, expires_at) = (time()?, time()?, time()?);
        let mut duration = || self.take_u64().map(Duration::from_micros);
        let (initial_age, freshness_lifetime) = (duration()?, duration()?);
        let (stale_while_revalidate, stale_if_error) = (duration()?, duration()?);
        let [flags] = self.take_array()?;
        if flags & !(ALWAYS_VALIDATE | MUST_REVALIDATE | OPEN_TO_CREDENTIALS) != 0 {
            return None;
        }
        Some(Terms {
            requested_at,
            received_at,
            initial_age,
            freshness_lifetime,
            stale_while_revalidate,
            stale_if_error,
            always_validate: flags & ALWAYS_VALIDATE != 0,
            must_revalidate: flags & MUST_REVALIDATE != 0,
            open_to_credentials: flags & OPEN_TO_CREDENTIALS != 0,
            expires_at,
        })
    }

    /// The value must have been written under the key that was requested. Detects replies that are shifted by one.
    fn expect_key(&mut self, asked: &CacheKey) -> Option<()> {
        (self.take_array()? == asked.0).then_some(())
    }

    fn expect_end(&self) -> Option<()> {
        (self.offset == self.bytes.len()).then_some(())
    }
}
