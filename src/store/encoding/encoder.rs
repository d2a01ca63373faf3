//! Encodes heads. `decoder` mirrors this file: a change of one is a change of both and of `FORMAT_VERSION`.

use http::HeaderName;

use super::ClockOffset;
use crate::clock::saturating_micros;
use crate::policy::CacheKey;
use crate::stored_response::{StoredHead, Terms, Variants};

pub(super) const ALWAYS_VALIDATE: u8 = 1;
pub(super) const MUST_REVALIDATE: u8 = 2;
pub(super) const OPEN_TO_CREDENTIALS: u8 = 4;

pub(super) fn encode_response_head(key: &CacheKey, head: &StoredHead, clocks: &ClockOffset) -> Vec<u8> {
    let mut written = Vec::with_capacity(1024);
    written.extend_from_slice(&key.0);
    written.extend_from_slice(&head.fingerprint.0.to_le_bytes());
    written.extend_from_slice(&head.stamp.epoch.0.to_le_bytes());
    written.extend_from_slice(&head.stamp.version.0.to_le_bytes());
    written.extend_from_slice(&head.status.as_u16().to_le_bytes());
    put_terms(&mut written, &head.terms(), clocks);
    // On the store's clock already.
    written.extend_from_slice(&head.stamp.time.as_micros().to_le_bytes());
    put_count(&mut written, head.targets.len());
    for target in &head.targets {
        written.extend_from_slice(&target.0);
    }
    written.extend_from_slice(&head.evaluated_under.current().0.to_le_bytes());
    let (names, tags_at, text) = head.fields.encoded_parts();
    put_bytes(&mut written, names);
    written.extend_from_slice(&tags_at.to_le_bytes());
    put_bytes(&mut written, text);
    written
}

pub(super) fn encode_variants(key: &CacheKey, variants: &Variants, clocks: &ClockOffset) -> Vec<u8> {
    let mut written = Vec::with_capacity(256);
    written.extend_from_slice(&key.0);
    written.extend_from_slice(&clocks.to_store(variants.expires_at).as_micros().to_le_bytes());
    written.push(variants.codings.to_byte());
    put_count(&mut written, variants.fields.len());
    for fields in &variants.fields {
        put_header_names(&mut written, fields.names());
    }
    // It stands at the end, and only where it is set: replicas that do not know it read all other variants.
    if let Some(time) = variants.withdrawn_at {
        written.extend_from_slice(&clocks.to_store(time).as_micros().to_le_bytes());
    }
    written
}

fn put_terms(written: &mut Vec<u8>, terms: &Terms, clocks: &ClockOffset) {
    for time in [terms.requested_at, terms.received_at, terms.expires_at] {
        written.extend_from_slice(&clocks.to_store(time).as_micros().to_le_bytes());
    }
    for duration in
        [terms.initial_age, terms.freshness_lifetime, terms.stale_while_revalidate, terms.stale_if_error]
    {
        written.extend_from_slice(&saturating_micros(duration).to_le_bytes());
    }
    let flags = [
        (terms.always_validate, ALWAYS_VALIDATE),
        (terms.must_revalidate, MUST_REVALIDATE),
        (terms.open_to_credentials, OPEN_TO_CREDENTIALS),
    ];
    written.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
}

fn put_header_names(written: &mut Vec<u8>, names: &[HeaderName]) {
    put_count(written, names.len());
    for name in names {
        put_bytes(written, name.as_str().as_bytes());
    }
}

fn put_bytes(written: &mut Vec<u8>, part: &[u8]) {
    put_count(written, part.len());
    written.extend_from_slice(part);
}

/// A count beyond `u32::MAX` makes the head too long, which `encode` detects.
fn put_count(written: &mut Vec<u8>, count: usize) {
    written.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
