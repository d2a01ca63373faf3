//! The heads, as they are read: every step may end in `None`, and at the end nothing may be left over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::Clocks;
use super::write::{ALWAYS_VALIDATE, MUST_REVALIDATE, OPEN_TO_CREDENTIALS};
use crate::clock::Timestamp;
use crate::policy::{CacheKey, Fingerprint, VaryFields};
use crate::purge::{FoundValid, Incarnation, Position, Stamp, TargetId};
use crate::stored_response::{JudgedBy, Stored, StoredFields, StoredHead, StoredResponse, Terms, Variants};

pub(super) fn response(key: &CacheKey, head: Bytes, content: Bytes, clocks: &Clocks) -> Option<Stored> {
    let mut reader = Reader { bytes: head, at: 0 };
    reader.key(key)?;
    let fingerprint = Fingerprint(reader.number()?);
    let incarnation = Incarnation(u128::from_le_bytes(reader.array()?));
    let as_of = Position(reader.number()?);
    let status = StatusCode::from_u16(u16::from_le_bytes(reader.array()?)).ok()?;
    let terms = reader.terms(clocks)?;
    let targets: Vec<TargetId> = reader.list(|reader| reader.array().map(TargetId))?;
    let judged_by = JudgedBy::rules(Fingerprint(reader.number()?));
    let names = reader.part()?;
    let tags_at = u32::from_le_bytes(reader.array()?);
    let fields = StoredFields::read(&names, tags_at, reader.part()?)?;
    reader.end()?;
    // Every response can be reached by the purge of everything: without targets it was not written by larder.
    if targets.is_empty() {
        return None;
    }
    let head = StoredHead {
        key: *key,
        fingerprint,
        status,
        fields,
        terms: terms.into(),
        stamp: Stamp { incarnation, as_of },
        targets: targets.into(),
        found_valid: FoundValid::default(),
        judged_by,
        usage: Default::default(),
    };
    Some(Stored::Response(StoredResponse { head: Arc::new(head), body: content }))
}

pub(super) fn variants(key: &CacheKey, head: Bytes, clocks: &Clocks) -> Option<Stored> {
    let mut reader = Reader { bytes: head, at: 0 };
    reader.key(key)?;
    let expires_at = clocks.from_store(Timestamp::from_micros(reader.number()?));
    let fields = reader.list(|reader| reader.list(Reader::name).map(VaryFields::new))?;
    reader.end()?;
    Some(Stored::Variants(Arc::new(Variants { fields, expires_at })))
}

struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let array = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn part(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.part()?).ok()
    }

    /// The list grows with what is really there: a claimed count allocates nothing.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..self.count()? {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn terms(&mut self, clocks: &Clocks) -> Option<Terms> {
        let mut time = || Some(clocks.from_store(Timestamp::from_micros(self.number()?)));
        let (requested_at, received_at, expires_at) = (time()?, time()?, time()?);
        let mut duration = || self.number().map(Duration::from_micros);
        let (initial_age, freshness_lifetime) = (duration()?, duration()?);
        let (stale_while_revalidate, stale_if_error) = (duration()?, duration()?);
        let [flags] = self.array()?;
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

    /// What was asked for must be what was written: replies that are shifted by one are found here.
    fn key(&mut self, asked: &CacheKey) -> Option<()> {
        (self.array()? == asked.0).then_some(())
    }

    fn end(&self) -> Option<()> {
        (self.at == self.bytes.len()).then_some(())
    }
}
