//! Names of fields that every browser, library or proxy sends, that identify nobody and have no other spelling. Nearly all
//! fields of nearly all requests are among them.

/// The number of slots that names are spread over.
pub(super) const SLOTS: usize = 128;

const USUAL_FIELDS: [&str; 44] = [
    "host",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "dnt",
    "expect",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "idempotency-key",
    "origin",
    "pragma",
    "priority",
    "proxy-authorization",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-key",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-correlation-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-user-agent",
];

/// The usual names by their slot; no name is empty.
static USUAL_BY_SLOT: [[&str; 2]; SLOTS] = by_slot();

const fn by_slot() -> [[&'static str; 2]; SLOTS] {
    let (mut slots, mut at) = ([[""; 2]; SLOTS], 0);
    while at < USUAL_FIELDS.len() {
        let slot = name_slot(USUAL_FIELDS[at]);
        let place = if slots[slot][0].is_empty() { 0 } else { 1 };
        assert!(slots[slot][place].is_empty(), "three names in one slot");
        slots[slot][place] = USUAL_FIELDS[at];
        at += 1;
    }
    slots
}

/// The slot of a name, by its length and both ends, in which most names differ.
pub(super) const fn name_slot(name: &str) -> usize {
    match name.as_bytes() {
        [first, .., last] => (name.len() + 11 * *first as usize + 29 * *last as usize) % SLOTS,
        short => short.len(),
    }
}

pub(super) fn is_usual(name: &str) -> bool {
    is_usual_in_slot(name, name_slot(name))
}

/// The same for a name whose slot is known.
pub(super) fn is_usual_in_slot(name: &str, slot: usize) -> bool {
    USUAL_BY_SLOT[slot % SLOTS].contains(&name)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::policy::is_ambiguous_name;

    #[test]
    fn exactly_the_listed_names_are_usual() {
        for name in USUAL_FIELDS {
            assert!(is_usual(name), "{name}");
            assert!(!is_ambiguous_name(&HeaderName::from_static(name)), "{name}");
            for other in [format!("{name}x"), name.to_uppercase(), name[1..].to_owned()] {
                assert!(!is_usual(&other) || USUAL_FIELDS.contains(&&*other), "{other}");
            }
        }
        for name in ["x", "cookie", "authorization", "x-api-key", "hosT", "h--t", "aZcept"] {
            assert!(!is_usual(name), "{name}");
        }
    }
}
