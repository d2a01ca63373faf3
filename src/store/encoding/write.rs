//! The heads, as they are written. `read` is its mirror: a change here is a change there, and another version.

use http::HeaderName;

use super::Clocks;
use crate::clock::micros;
use crate::policy::CacheKey;
use crate::stored_response::{StoredHead, Terms, Variants};

pub(super) const ALWAYS_VALIDATE: u8 = 1;
pub(super) const MUST_REVALIDATE: u8 = 2;
pub(super) const OPEN_TO_CREDENTIALS: u8 = 4;

pub(super) fn response_head(key: &CacheKey, head: &StoredHead, clocks: &Clocks) -> Vec<u8> {
    let mut written = Vec::with_capacity(1024);
    written.extend_from_slice(&key.0);
    written.extend_from_slice(&head.fingerprint.0.to_le_bytes());
    written.extend_from_slice(&head.stamp.incarnation.0.to_le_bytes());
    written.extend_from_slice(&head.stamp.as_of.0.to_le_bytes());
    written.extend_from_slice(&head.status.as_u16().to_le_bytes());
    terms(&mut written, &head.terms(), clocks);
    count(&mut written, head.targets.len());
    for target in &head.targets {
        written.extend_from_slice(&target.0);
    }
    written.extend_from_slice(&head.judged_by.latest().0.to_le_bytes());
    let (names, tags_at, text) = head.fields.written();
    part(&mut written, names);
    written.extend_from_slice(&tags_at.to_le_bytes());
    part(&mut written, text);
    written
}

pub(super) fn variants(key: &CacheKey, variants: &Variants, clocks: &Clocks) -> Vec<u8> {
    let mut written = Vec::with_capacity(256);
    written.extend_from_slice(&key.0);
    written.extend_from_slice(&clocks.to_store(variants.expires_at).as_micros().to_le_bytes());
    count(&mut written, variants.fields.len());
    for fields in &variants.fields {
        names(&mut written, fields.names());
    }
    written
}

fn terms(written: &mut Vec<u8>, terms: &Terms, clocks: &Clocks) {
    for time in [terms.requested_at, terms.received_at, terms.expires_at] {
        written.extend_from_slice(&clocks.to_store(time).as_micros().to_le_bytes());
    }
    for duration in
        [terms.initial_age, terms.freshness_lifetime, terms.stale_while_revalidate, terms.stale_if_error]
    {
        written.extend_from_slice(&micros(duration).to_le_bytes());
    }
    let flags = [
        (terms.always_validate, ALWAYS_VALIDATE),
        (terms.must_revalidate, MUST_REVALIDATE),
        (terms.open_to_credentials, OPEN_TO_CREDENTIALS),
    ];
    written.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
}

fn names(written: &mut Vec<u8>, names: &[HeaderName]) {
    count(written, names.len());
    for name in names {
        part(written, name.as_str().as_bytes());
    }
}

fn part(written: &mut Vec<u8>, part: &[u8]) {
    count(written, part.len());
    written.extend_from_slice(part);
}

/// What is longer than can be counted makes the whole too long to be written, which `encode` finds.
fn count(written: &mut Vec<u8>, count: usize) {
    written.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
