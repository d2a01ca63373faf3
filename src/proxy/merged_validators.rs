//! The validators of merged responses, so that an answer without content (to a HEAD, or a 304) needs no merge.
//!
//! A merged response is known by the parts that it was made of: a short one by a hash, a long one by a number that it has
//! while it is held here.

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, LINK};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::policy::cache_status::Detail;

/// About 1 MiB.
const MAX_VALIDATORS: usize = 4 * 1024;

/// A shorter part is hashed: that takes less than 50 µs.
const MAX_HASHED_BYTES: usize = 16 * 1024;

/// The long parts that are held, so that no other part has the same address. They count in the memory budget.
const MAX_HELD_PARTS: usize = 256;
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct MergedValidators {
    known: Cache<MergeKey, MergedValidator>,
    held: Mutex<LongParts>,
}

/// A hash over what the merged response was made of.
pub(super) type MergeKey = [u8; 32];

/// The facts of a merged response that an answer without its content needs.
#[derive(Clone, Debug)]
pub(super) struct MergedValidator {
    pub tag: Option<HeaderValue>,
    pub length: usize,
    pub detail: Detail,
}

#[derive(Default)]
struct LongParts {
    parts: VecDeque<(Bytes, u64)>,
    bytes: usize,
    last: u64,
}

impl Default for MergedValidators {
    fn default() -> Self {
        Self { known: Cache::new(MAX_VALIDATORS), held: Mutex::default() }
    }
}

impl MergedValidators {
    /// `parts`: fields and content of each, and for one without any a name of the reason.
    pub(super) fn key<'p>(
        &self,
        route: usize,
        parts: impl Iterator<Item = Result<(&'p HeaderMap, &'p Bytes), &'static str>>,
    ) -> MergeKey {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(&route.to_be_bytes());
        for part in parts {
            let (fields, content) = match part {
                Ok(part) => part,
                Err(reason) => {
                    add(reason.as_bytes());
                    continue;
                }
            };
            for name in [CONTENT_TYPE, CONTENT_ENCODING, ETAG, LINK] {
                let values = fields.get_all(&name).iter().map(HeaderValue::as_bytes);
                add(&values.collect::<Vec<_>>().join(&b", "[..]));
            }
            match content.len() <= MAX_HASHED_BYTES {
                true => add(content),
                false => add(&self.held.lock().number(content).to_be_bytes()),
            }
        }
        hash.finalize().into()
    }

    pub(super) fn find(&self, key: &MergeKey) -> Option<MergedValidator> {
        self.known.get(key)
    }

    pub(super) fn learn(&self, key: MergeKey, validator: MergedValidator) {
        self.known.insert(key, validator);
    }
}

impl LongParts {
    /// The number of this very content, which no other one has.
    fn number(&mut self, content: &Bytes) -> u64 {
        let is_same = |held: &Bytes| held.as_ptr() == content.as_ptr() && held.len() == content.len();
        if let Some((_, number)) = self.parts.iter().find(|(held, _)| is_same(held)) {
            return *number;
        }
        self.last += 1;
        if content.len() <= MAX_HELD_BYTES {
            self.bytes += content.len();
            self.parts.push_back((content.clone(), self.last));
        }
        while self.bytes > MAX_HELD_BYTES || self.parts.len() > MAX_HELD_PARTS {
            let Some((oldest, _)) = self.parts.pop_front() else { break };
            self.bytes -= oldest.len();
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(validators: &MergedValidators, content: &Bytes) -> MergeKey {
        validators.key(1, [Ok((&HeaderMap::new(), content)), Err("anonymous")].into_iter())
    }

    #[test]
    fn short_parts_are_known_by_bytes_and_long_ones_while_held() {
        let validators = MergedValidators::default();
        let short = |text: &str| key(&validators, &Bytes::copy_from_slice(text.as_bytes()));
        assert!(short("[1]") == short("[1]") && short("[1]") != short("[2]"));
        let long = Bytes::from(vec![b'x'; 2 * MAX_HASHED_BYTES]);
        assert_eq!(key(&validators, &long), key(&validators, &long.clone()));
        assert_ne!(
            key(&validators, &long),
            key(&validators, &Bytes::from(long.to_vec())),
            "another allocation"
        );
        assert_ne!(validators.key(2, [Ok((&HeaderMap::new(), &long))].into_iter()), key(&validators, &long));
        let before = key(&validators, &long);
        for _ in 0..MAX_HELD_BYTES / (2 << 20) {
            key(&validators, &Bytes::from(vec![b'y'; 2 << 20]));
        }
        assert_ne!(
            key(&validators, &long),
            before,
            "it is not held any more, so its address may be another's"
        );
        let held = validators.held.lock();
        assert!(held.bytes <= MAX_HELD_BYTES);
        assert_eq!(held.bytes, held.parts.iter().map(|(part, _)| part.len()).sum::<usize>());
    }

    #[test]
    fn fields_that_say_how_to_read_a_part_tell_it_from_others() {
        let validators = MergedValidators::default();
        let content = Bytes::from_static(b"[]");
        let mut fields = HeaderMap::new();
        let plain = validators.key(1, [Ok((&fields, &content))].into_iter());
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_ne!(validators.key(1, [Ok((&fields, &content))].into_iter()), plain);
        fields.clear();
        fields.insert(ETAG, HeaderValue::from_static("\"a\""));
        assert_ne!(validators.key(1, [Ok((&fields, &content))].into_iter()), plain);
    }
}
