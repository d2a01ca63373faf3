//! What crosses the proxy: hop-by-hop fields stay behind (RFC 9110 §7.6.1), `Via` and `X-Forwarded-*` are added.
//!
//! Pure.

use std::net::IpAddr;

use http::header::{CONNECTION, EXPECT, HOST, InvalidHeaderValue, TE, TRAILER, UPGRADE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::policy::Names;
use crate::policy::hop_by_hop::{is_hop_by_hop, may_be_among};

/// What a client could say about itself to an upstream that believes its proxy; and [`OF_ADDRESS`].
static FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("forwarded"),
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-real-ip"),
];

/// What a proxy could say of the address that it was asked under. Upstreams make links of it, and some choose by it what
/// they answer.
pub static OF_ADDRESS: [HeaderName; 10] = [
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-url-scheme"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes the fields that are meant for larder alone, and those that `Connection` names. `Trailer` stays: the trailers
/// it names go on too.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !may_be_among(Names::of(headers)) {
        return;
    }
    let removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name, headers)).cloned().collect();
    for name in removed.iter().filter(|name| *name != TRAILER) {
        headers.remove(name);
    }
}

/// Where a request came from, as far as larder believes it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub peer: Option<IpAddr>,
    /// The peer is one of `trusted_proxies`: what it says of the client is kept, and added to.
    pub trusted: bool,
    pub scheme: &'static str,
    pub host: &'a str,
}

/// Makes a client's fields those of larder's request to the upstream.
pub fn to_upstream(headers: &mut HeaderMap, version: Version, origin: Origin<'_>) {
    let names = Names::of(headers);
    let wants_trailers = names.may_hold(&TE)
        && headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers);
    // `Expect: 100-continue` was between the client and larder: reading the content is the answer.
    if names.may_hold(&EXPECT) {
        headers.remove(EXPECT);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if !origin.trusted {
        let said = FORWARDED.iter().chain(&OF_ADDRESS).filter(|name| names.may_hold(name));
        said.for_each(|name| drop(headers.remove(name)));
    }
    if let Some(peer) = origin.peer {
        // All lines: the last may be the only one that the trusted proxy wrote itself.
        let before = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let chain = before.fold(String::new(), |chain, line| chain + line + ", ");
        let chain = with_address(chain, peer);
        if let Ok(chain) = HeaderValue::try_from(chain) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    if origin.host.is_empty() {
        // An empty one is none: the upstream's own takes its place.
        headers.remove(HOST);
        headers.remove(X_FORWARDED_HOST);
    } else if let Ok(host) = host_value(headers, origin.host) {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
    }
    add_via(headers, version);
}

/// As `Display` does it, with less ado.
fn with_address(mut text: String, address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return text + &address.to_string() };
    text.reserve("255.255.255.255".len());
    for (at, byte) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        let digits = [byte / 100, byte / 10 % 10, byte % 10];
        let first = if byte >= 100 {
            0
        } else if byte >= 10 {
            1
        } else {
            2
        };
        digits[first..].iter().for_each(|digit| text.push(char::from(b'0' + digit)));
    }
    text
}

/// Mostly it is what the client sent, byte for byte.
fn host_value(headers: &HeaderMap, host: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    match headers.get(HOST) {
        Some(sent) if sent == host => Ok(sent.clone()),
        _ => HeaderValue::from_str(host),
    }
}

/// Makes the upstream's fields those of larder's answer.
pub fn to_client(headers: &mut HeaderMap, version: Version) {
    remove_hop_by_hop(headers);
    add_via(headers, version);
}

/// For a connection that both sides agreed to turn into something else.
pub fn keep_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// RFC 9110 §7.6.3.
fn add_via(headers: &mut HeaderMap, version: Version) {
    let received = match version {
        Version::HTTP_10 => "1.0 larder",
        Version::HTTP_2 => "2.0 larder",
        _ => "1.1 larder",
    };
    headers.append(VIA, HeaderValue::from_static(received));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn fields_for_one_hop_stay_behind_also_those_that_connection_names() {
        let mut fields = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(fields, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn an_address_is_written_as_everybody_writes_it() {
        for address in ["0.10.200.255", "127.0.0.1", "99.100.9.109", "2001:db8::1"] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(with_address("a, ".into(), address), format!("a, {address}"));
        }
    }

    #[test]
    fn what_an_unknown_client_says_of_itself_is_not_passed_on() {
        let mut fields =
            headers(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "evil"), ("forwarded", "for=x")]);
        let origin = Origin { peer: "10.0.0.9".parse().ok(), trusted: false, scheme: "http", host: "api" };
        to_upstream(&mut fields, Version::HTTP_11, origin);
        assert_eq!(fields["x-forwarded-for"], "10.0.0.9");
        assert_eq!(fields["x-forwarded-host"], "api");
        assert!(!fields.contains_key("forwarded"));
    }

    #[test]
    fn what_a_trusted_proxy_says_of_the_client_is_kept_and_added_to() {
        let mut fields = headers(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=1.2.3.4")]);
        // As a proxy adds it that does not touch what the client claims.
        fields.append(X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        let origin = Origin { peer: "10.0.0.9".parse().ok(), trusted: true, scheme: "https", host: "api" };
        to_upstream(&mut fields, Version::HTTP_11, origin);
        assert_eq!(fields.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(fields["x-forwarded-for"], "6.6.6.6, 1.2.3.4, 10.0.0.9");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["forwarded"], "for=1.2.3.4");
    }
}
