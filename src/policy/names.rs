//! Which fields a request may have: one look at each of its names, so that most of the questions for a field that is not
//! there need no search.

use http::{HeaderMap, HeaderName};

/// A filter over names: what it does not hold is not there; what it holds may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u128);

impl Names {
    /// Holds as long as no field of another name is added.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |names, name| names | bit(name)))
    }

    pub fn may_hold(self, name: &HeaderName) -> bool {
        self.0 & bit(name) != 0
    }
}

/// Names mostly differ in their length, or at one of their ends.
fn bit(name: &HeaderName) -> u128 {
    let bytes = name.as_str().as_bytes();
    let (first, last) = match bytes {
        [first, .., last] => (usize::from(*first), usize::from(*last)),
        _ => (0, 0),
    };
    1 << ((bytes.len() + 11 * first + 29 * last) % 128)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_there_is_held_and_most_of_what_is_not_there_is_not() {
        let usual =
            ["host", "user-agent", "accept", "accept-encoding", "referer", "sec-fetch-mode", "x-request-id"];
        let headers: HeaderMap =
            usual.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
        let names = Names::of(&headers);
        assert!(headers.keys().all(|name| names.may_hold(name)));
        let asked = [
            "range",
            "if-none-match",
            "if-modified-since",
            "if-match",
            "if-unmodified-since",
            "upgrade",
            "via",
            "connection",
            "cookie",
            "authorization",
            "x-api-key",
            "forwarded",
            "x-forwarded-for",
            "te",
            "x-host",
            "transfer-encoding",
            "x-original-url",
            "x-http-method",
            "x-http-method-override",
            "larder-position",
        ];
        let held = asked.iter().filter(|name| names.may_hold(&HeaderName::from_static(name)));
        assert!(held.clone().count() <= 2, "{:?}", held.collect::<Vec<_>>());
    }
}
