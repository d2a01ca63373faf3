//! Hop-by-hop fields (RFC 9110 §7.6.1): neither stored (RFC 9111 §3.1) nor forwarded, and ignored in updates of a
//! stored response.

use std::sync::LazyLock;

use http::header::{
    CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

use super::HeaderNameFilter;

const STANDARD_FIELDS: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const CUSTOMARY_FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

static ALL_NAMES: LazyLock<HeaderNameFilter> =
    LazyLock::new(|| HeaderNameFilter::from_names(STANDARD_FIELDS.iter().chain(&CUSTOMARY_FIELDS)));

/// Whether any of the fields may be hop-by-hop.
pub(crate) fn may_have_hop_by_hop(names: HeaderNameFilter) -> bool {
    names.may_hold_any(*ALL_NAMES)
}

/// `headers` are the fields of the same message, whose `Connection` may name the field.
pub(crate) fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    is_always_hop_by_hop(name) || is_named_by_connection(name, headers)
}

fn is_always_hop_by_hop(name: &HeaderName) -> bool {
    STANDARD_FIELDS.contains(name) || CUSTOMARY_FIELDS.contains(name)
}

fn is_named_by_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn fields_of_the_connection_are_known_and_named() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("close, X-Mine"));
        headers.append(CONNECTION, HeaderValue::from_static("x-other"));
        for (name, expected) in [
            ("connection", true),
            ("keep-alive", true),
            ("transfer-encoding", true),
            ("x-mine", true),
            ("x-other", true),
            ("x-more", false),
            ("cache-control", false),
        ] {
            assert_eq!(is_hop_by_hop(&HeaderName::from_static(name), &headers), expected, "{name}");
        }
    }
}
