//! Which fields are for the next recipient only (RFC 9110 §7.6.1): they are not stored (RFC 9111 §3.1), not replayed,
//! and do not update what is stored.

use http::header::{
    CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

use super::Names;

const OF_HTTP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const BY_CUSTOM: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

/// Whether some of these may be hop-by-hop; mostly none is.
pub fn may_be_among(names: Names) -> bool {
    OF_HTTP.iter().chain(&BY_CUSTOM).any(|name| names.may_hold(name))
}

/// `headers` are those that the field stands among, for what their `Connection` names.
pub fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    always(name) || named_by_connection(name, headers)
}

fn always(name: &HeaderName) -> bool {
    OF_HTTP.contains(name) || BY_CUSTOM.contains(name)
}

fn named_by_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
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
