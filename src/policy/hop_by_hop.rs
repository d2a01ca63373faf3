//! Which fields are for the next recipient only (RFC 9110 §7.6.1): they are not stored (RFC 9111 §3.1), not replayed,
//! and do not update what is stored.

use http::header::{
    CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

/// `headers` are those that the field stands among, for what their `Connection` names.
pub fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    always(name) || named_by_connection(name, headers)
}

fn always(name: &HeaderName) -> bool {
    const OF_HTTP: [HeaderName; 7] =
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    const BY_CUSTOM: [&str; 4] =
        ["keep-alive", "proxy-connection", "proxy-authentication-info", "http2-settings"];
    OF_HTTP.contains(name) || BY_CUSTOM.contains(&name.as_str())
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
