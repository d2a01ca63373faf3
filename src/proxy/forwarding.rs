//! Fields that cross the proxy: drops hop-by-hop fields (RFC 9110 §7.6.1), adds `Via` and `X-Forwarded-*`. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, InvalidHeaderValue, MAX_FORWARDS, PRAGMA, RANGE, SET_COOKIE, TE, TRAILER, UPGRADE,
    VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;

use crate::policy::forwarding_fields::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO, X_REAL_IP,
};
use crate::policy::hop_by_hop::{is_hop_by_hop, may_have_hop_by_hop};
use crate::policy::{HeaderNameFilter, override_fields};

/// Fields by which a client could speak about itself to an upstream that believes its proxy.
static FORWARDED_CLIENT_FIELDS: [HeaderName; 5] =
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP];

/// Fields by which a proxy says under which address it was asked. Upstreams build links from them, and some select their
/// response by them.
pub(super) static FORWARDED_ADDRESS_FIELDS: [HeaderName; 2] = [X_FORWARDED_PORT, X_FORWARDED_PREFIX];

/// Whether upstreams trust the field because only their proxies set it, or let it change the request.
pub(super) fn is_set_by_proxies(name: &HeaderName) -> bool {
    FORWARDED_CLIENT_FIELDS.contains(name)
        || FORWARDED_ADDRESS_FIELDS.contains(name)
        || override_fields::is_override(name)
        || override_fields::all().any(|field| field == name)
}

/// Fields that frame, route, authenticate or change a request (RFC 9110 §6.5.1).
static HEADER_SECTION_FIELDS: [HeaderName; 19] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    MAX_FORWARDS,
    PRAGMA,
    RANGE,
    SET_COOKIE,
    VIA,
];

/// Whether a client's trailer may be forwarded. The upstream may read it as a field of the header section.
pub(super) fn may_be_trailer(name: &HeaderName) -> bool {
    !is_set_by_proxies(name)
        && !HEADER_SECTION_FIELDS.contains(name)
        && !is_hop_by_hop(name, &HeaderMap::new())
}

/// Removes the hop-by-hop fields, and those that `Connection` names. `Trailer` stays, since trailers are forwarded.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !may_have_hop_by_hop(HeaderNameFilter::from_headers(headers)) {
        return;
    }
    let removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name, headers)).cloned().collect();
    for name in removed.iter().filter(|name| *name != TRAILER) {
        headers.remove(name);
    }
}

/// Fields that intermediaries add to say for whom they forward.
static FORWARDING_HEADERS: [HeaderName; 9] = [
    VIA,
    FORWARDED,
    X_FORWARDED_FOR,
    X_REAL_IP,
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("fastly-client-ip"),
];

static FORWARDING_NAMES: LazyLock<HeaderNameFilter> =
    LazyLock::new(|| HeaderNameFilter::from_names(FORWARDING_HEADERS.iter()));

/// The nearest address that is not one of `trusted_proxies`.
pub(super) fn client_ip(
    headers: &HeaderMap,
    names: HeaderNameFilter,
    peer: Option<IpAddr>,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let is_ours = |address: &IpAddr| trusted_proxies.iter().any(|net| net.contains(address));
    // A peer on a unix socket is on this machine.
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let is_relayed = names.may_hold_any(*FORWARDING_NAMES)
        && FORWARDING_HEADERS.iter().any(|name| headers.contains_key(name));
    if !is_relayed {
        return Some(peer);
    }
    if !is_ours(&peer) {
        return None;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default()).collect();
    for address in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let address = parse_address(address.trim())?.to_canonical();
        if !is_ours(&address) {
            // A client on the proxy's own machine is its peer, so the field is forged or not about this machine.
            return (!address.is_loopback()).then_some(address);
        }
    }
    None
}

/// An address, as some proxies send it: in brackets, or with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

/// The sender of a request, as far as it is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub peer: Option<IpAddr>,
    /// The peer is one of `trusted_proxies`: its `X-Forwarded-*` fields are kept and extended.
    pub is_trusted: bool,
    pub scheme: &'static str,
    pub host: &'a str,
    /// The `X-Forwarded-Host` of a trusted proxy, where it names another host.
    pub forwarded_host: Option<&'a str>,
}

/// Turns a client's fields into those of the upstream request.
pub(super) fn prepare_request(headers: &mut HeaderMap, version: Version, origin: Origin<'_>) {
    let names = HeaderNameFilter::from_headers(headers);
    let wants_trailers = names.may_hold(&TE)
        && headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers);
    // `Expect: 100-continue` concerns only the client's hop: hyper answers it when the content is read.
    if names.may_hold(&EXPECT) {
        headers.remove(EXPECT);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if !origin.is_trusted {
        let said = FORWARDED_CLIENT_FIELDS
            .iter()
            .chain(&FORWARDED_ADDRESS_FIELDS)
            .filter(|name| names.may_hold(name));
        said.for_each(|name| drop(headers.remove(name)));
        override_fields::remove_forwarded(headers, names, &[]);
    }
    if let Some(peer) = origin.peer {
        // Join all lines: the trusted proxy may have added only the last one.
        let before = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let chain = before.fold(String::new(), |chain, line| chain + line + ", ");
        let chain = append_address(chain, peer);
        if let Ok(chain) = HeaderValue::try_from(chain) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    if origin.host.is_empty() {
        // Without a host, the upstream's own authority is sent.
        headers.remove(HOST);
        headers.remove(X_FORWARDED_HOST);
    } else if let Ok(host) = host_value(headers, origin.host) {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
    }
    if let Some(Ok(host)) = origin.forwarded_host.map(HeaderValue::from_str) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    add_via(headers, version);
}

/// Appends the address; faster than its `Display`.
fn append_address(mut text: String, address: IpAddr) -> String {
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

/// The client's value if that is the same, so that it is not allocated again.
fn host_value(headers: &HeaderMap, host: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    match headers.get(HOST) {
        Some(sent) if sent == host => Ok(sent.clone()),
        _ => HeaderValue::from_str(host),
    }
}

/// Turns the upstream's fields into those of the response to the client.
pub(super) fn prepare_response(headers: &mut HeaderMap, version: Version) {
    remove_hop_by_hop(headers);
    add_via(headers, version);
}

/// Restores the `Upgrade` fields of a connection that both sides agreed to upgrade.
pub(super) fn keep_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// A request that came through larder as often, by its `Via`, is in a loop.
const MAX_PASSES: usize = 8;

/// Whether the request has come through larder too often (RFC 9110 §7.6.3).
pub(super) fn is_loop(headers: &HeaderMap) -> bool {
    let members = headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.filter(|member| member.trim_ascii().ends_with(b" larder")).count() >= MAX_PASSES
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

    #[test]
    fn a_request_that_came_through_larder_too_often_is_in_a_loop() {
        let mut headers = headers(&[("via", "1.1 larder, 2.0 larder"), ("via", "1.1 proxy, 1.1 larders")]);
        for _ in 2..MAX_PASSES {
            assert!(!is_loop(&headers));
            add_via(&mut headers, Version::HTTP_11);
        }
        assert!(is_loop(&headers));
    }

    #[test]
    fn a_client_is_read_with_port_and_brackets() {
        let ours = ["10.0.0.0/8".parse().expect("a network")];
        let client = |value| {
            let headers = headers(&[("x-forwarded-for", value)]);
            let names = HeaderNameFilter::from_headers(&headers);
            client_ip(&headers, names, "10.0.0.1".parse().ok(), &ours).map(|address| address.to_string())
        };
        for (value, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:5678", Some("192.0.2.1")),
            ("192.0.2.1:5678, 10.0.0.2:80", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:1", Some("2001:db8::1")),
            ("[192.0.2.1", None),
            ("192.0.2.1:", None),
            ("unknown", None),
        ] {
            assert_eq!(client(value).as_deref(), address, "{value}");
        }
    }

    #[test]
    fn a_trailer_is_no_field_that_the_header_section_must_have() {
        for (name, may_be) in [
            ("x-checksum", true),
            ("content-digest", true),
            ("grpc-status", true),
            ("host", false),
            ("content-length", false),
            ("transfer-encoding", false),
            ("connection", false),
            ("te", false),
            ("trailer", false),
            ("keep-alive", false),
            ("cookie", false),
            ("authorization", false),
            ("proxy-authorization", false),
            ("if-match", false),
            ("range", false),
            ("max-forwards", false),
            ("x-forwarded-for", false),
        ] {
            assert_eq!(may_be_trailer(&HeaderName::from_static(name)), may_be, "{name}");
        }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hop_by_hop_fields_are_removed_also_those_in_connection() {
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
    fn an_address_is_written_as_by_display() {
        for address in ["0.10.200.255", "127.0.0.1", "99.100.9.109", "2001:db8::1"] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(append_address("a, ".into(), address), format!("a, {address}"));
        }
    }

    #[test]
    fn forwarded_fields_of_an_untrusted_client_are_dropped() {
        let mut fields =
            headers(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "evil"), ("forwarded", "for=x")]);
        let origin = Origin {
            peer: "10.0.0.9".parse().ok(),
            is_trusted: false,
            scheme: "http",
            host: "api",
            forwarded_host: None,
        };
        prepare_request(&mut fields, Version::HTTP_11, origin);
        assert_eq!(fields["x-forwarded-for"], "10.0.0.9");
        assert_eq!(fields["x-forwarded-host"], "api");
        assert!(!fields.contains_key("forwarded"));
    }

    #[test]
    fn forwarded_fields_of_a_trusted_proxy_are_extended() {
        let mut fields = headers(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=1.2.3.4")]);
        // Some proxies append a field and leave the client's own in place.
        fields.append(X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        let origin = Origin {
            peer: "10.0.0.9".parse().ok(),
            is_trusted: true,
            scheme: "https",
            host: "api",
            forwarded_host: Some("public"),
        };
        prepare_request(&mut fields, Version::HTTP_11, origin);
        assert_eq!(fields.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(fields["x-forwarded-for"], "6.6.6.6, 1.2.3.4, 10.0.0.9");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["forwarded"], "for=1.2.3.4");
        assert_eq!([&fields["host"], &fields["x-forwarded-host"]], ["api", "public"]);
    }
}
