//! Access rules for operating larder, shared by the admin listener and PURGE.
//!
//! Without a token only processes on this machine are trusted. A proxy on this machine does not speak for them, nor
//! does a browser, since any page that it shows can make it send requests.

use std::fmt;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use http::uri::Authority;
use http::{HeaderMap, Uri, Version};
use subtle::ConstantTimeEq;

/// Why a request may not operate larder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessDenied {
    MissingToken,
    WrongToken,
    NotLoopback,
    /// The field says that a proxy forwarded the request.
    Forwarded(HeaderName),
    /// Proxies that do not name their client mostly send HTTP/1.0.
    OldVersion,
    /// A browser sent it for a page of another site.
    CrossSite,
    /// The name in `Host` may be an attacker's that resolves to this machine.
    ForeignHost,
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingToken => f.write_str("`Authorization: Bearer TOKEN` is missing, or is there twice"),
            Self::WrongToken => f.write_str("wrong admin token"),
            Self::NotLoopback => f.write_str("without a token, only this machine is answered"),
            Self::Forwarded(name) => {
                write!(
                    f,
                    "the field `{name}` says that a proxy forwarded this request from an unknown client"
                )
            }
            Self::OldVersion => f.write_str(
                "this is HTTP/1.0, as a proxy sends it that may have forwarded it from an unknown client",
            ),
            Self::CrossSite => f.write_str("a browser sends this request for a page of another site"),
            Self::ForeignHost => {
                f.write_str("without a token, larder is operated by IP address or as localhost only")
            }
        }
    }
}

/// A request to operate larder.
pub(crate) struct AccessRequest<'r> {
    /// The other end of the connection; `None` on a Unix socket, whose file's permissions decide who may connect.
    pub peer: Option<IpAddr>,
    pub version: Version,
    pub uri: &'r Uri,
    pub headers: &'r HeaderMap,
}

/// Those who may operate larder.
pub(crate) enum Trusted<'t> {
    Token(&'t str),
    /// Clients whose address has been checked.
    Address,
    /// Processes on this machine, which name it by an IP address, as `localhost`, or as one of `hosts` (lower case, without
    /// ports); `None`: by any name.
    Machine {
        hosts: Option<&'t [String]>,
    },
}

impl AccessRequest<'_> {
    /// Checks whether the request is one of those `trusted`. `shows_pages`: pages of this address may send it.
    pub(crate) fn authorize(&self, trusted: Trusted<'_>, shows_pages: bool) -> Result<(), AccessDenied> {
        // A page of the API is no page of larder's, but may know the token.
        match shows_pages || matches!(trusted, Trusted::Token(_)) {
            true => check_same_origin(self.headers)?,
            false => refuse_browsers(self.headers)?,
        }
        match trusted {
            Trusted::Token(expected) => check_token(self.headers, expected),
            Trusted::Address => Ok(()),
            Trusted::Machine { hosts } => {
                check_loopback(self.peer, self.headers)?;
                if self.version < Version::HTTP_11 {
                    return Err(AccessDenied::OldVersion);
                }
                hosts.map_or(Ok(()), |hosts| check_host(self.uri, self.headers, hosts))
            }
        }
    }
}

/// Compares the token of the only `Authorization` field in constant time.
fn check_token(headers: &HeaderMap, expected: &str) -> Result<(), AccessDenied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(AccessDenied::MissingToken) };
    let sent = match value.as_bytes().split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
        _ => return Err(AccessDenied::MissingToken),
    };
    match !expected.is_empty() && bool::from(sent.ct_eq(expected.as_bytes())) {
        true => Ok(()),
        false => Err(AccessDenied::WrongToken),
    }
}

fn check_loopback(peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), AccessDenied> {
    if peer.is_some_and(|address| !address.to_canonical().is_loopback()) {
        return Err(AccessDenied::NotLoopback);
    }
    match headers.keys().find(|name| is_forwarding_header(name)) {
        Some(name) => Err(AccessDenied::Forwarded(name.clone())),
        None => Ok(()),
    }
}

/// Fields by which proxies and CDNs name the client that they forward for.
fn is_forwarding_header(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == VIA
        || *name == FORWARDED
        || text.starts_with("x-forwarded")
        || text.starts_with("x-original-forwarded")
        || text.starts_with("x-envoy-")
        || text.starts_with("cf-")
        || matches!(
            text,
            "x-real-ip"
                | "true-client-ip"
                | "client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-proxyuser-ip"
                | "x-azure-clientip"
                | "x-azure-socketip"
                | "x-appengine-user-ip"
                | "x-originating-ip"
                | "x-remote-ip"
                | "x-remote-addr"
                | "x-coming-from"
                | "x-host"
                | "x-original-host"
                | "fastly-client-ip"
                | "fly-client-ip"
                | "akamai-origin-hop"
                | "cdn-loop"
                | "x-amzn-trace-id"
                | "x-cloud-trace-context"
        )
}

/// Refuses what a browser sends for a page of another site.
pub(crate) fn check_same_origin(headers: &HeaderMap) -> Result<(), AccessDenied> {
    let host = headers.get(HOST).map(|host| host.as_bytes().to_ascii_lowercase());
    let is_own = |origin: &[u8]| {
        let origin = origin.to_ascii_lowercase();
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        authority.is_some() && authority == host.as_deref()
    };
    let same_origin = headers.get_all(ORIGIN).iter().all(|origin| is_own(origin.as_bytes()));
    let same_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    if same_origin && same_site { Ok(()) } else { Err(AccessDenied::CrossSite) }
}

/// Refuses whatever a browser sends: no page that larder shows sends it.
fn refuse_browsers(headers: &HeaderMap) -> Result<(), AccessDenied> {
    let is_typed = headers.get_all("sec-fetch-site").iter().all(|site| site == "none");
    if headers.contains_key(ORIGIN) || !is_typed { Err(AccessDenied::CrossSite) } else { Ok(()) }
}

/// Takes IP addresses, `localhost` and `allowed` for the name of this machine.
fn check_host(uri: &Uri, headers: &HeaderMap, allowed: &[String]) -> Result<(), AccessDenied> {
    let named = headers.get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut all = named.chain(uri.authority().map(|authority| Some(authority.clone())));
    let is_known = |authority: Authority| {
        let host = authority.host().to_ascii_lowercase();
        is_ip_or_localhost(&host) || allowed.contains(&host)
    };
    if all.all(|authority| authority.is_some_and(is_known)) { Ok(()) } else { Err(AccessDenied::ForeignHost) }
}

fn is_ip_or_localhost(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn the_right_token_alone_is_taken() {
        for (fields, expected) in [
            (&[("authorization", "Bearer s3")][..], Ok(())),
            (&[("authorization", "bearer  s3 ")], Ok(())),
            (&[("authorization", "Bearer s4")], Err(AccessDenied::WrongToken)),
            (&[("authorization", "Basic s3")], Err(AccessDenied::MissingToken)),
            (
                &[("authorization", "Bearer s3"), ("authorization", "Bearer s3")],
                Err(AccessDenied::MissingToken),
            ),
            (&[], Err(AccessDenied::MissingToken)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().expect("a value"));
            }
            assert_eq!(check_token(&map, "s3"), expected, "{fields:?}");
        }
        assert_eq!(check_token(&headers(&[("authorization", "Bearer ")]), ""), Err(AccessDenied::WrongToken));
    }

    #[test]
    fn a_proxy_on_this_machine_does_not_speak_for_it() {
        let local = Some(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(check_loopback(local, &HeaderMap::new()), Ok(()));
        assert_eq!(
            check_loopback(Some(IpAddr::from([10, 0, 0, 1])), &HeaderMap::new()),
            Err(AccessDenied::NotLoopback)
        );
        for name in [
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-real-ip",
            "cf-connecting-ip",
            "true-client-ip",
            "x-envoy-external-address",
            "x-cluster-client-ip",
            "x-client-ip",
        ] {
            let denied = check_loopback(local, &headers(&[(name, "127.0.0.1")]));
            assert_eq!(denied, Err(AccessDenied::Forwarded(HeaderName::from_static(name))));
        }
    }

    #[test]
    fn browsers_and_rebound_names_are_refused() {
        assert_eq!(
            refuse_browsers(&headers(&[("origin", "http://localhost")])),
            Err(AccessDenied::CrossSite)
        );
        assert_eq!(
            refuse_browsers(&headers(&[("sec-fetch-site", "same-origin")])),
            Err(AccessDenied::CrossSite)
        );
        assert_eq!(refuse_browsers(&headers(&[("sec-fetch-site", "none")])), Ok(()));
        let uri = Uri::from_static("/x");
        for (host, expected) in [
            ("evil.example:80", false),
            ("127.0.0.1:80", true),
            ("[::1]", true),
            ("LocalHost", true),
            ("api.test:1", true),
        ] {
            let fields = headers(&[("host", host)]);
            assert_eq!(check_host(&uri, &fields, &["api.test".to_owned()]).is_ok(), expected, "{host}");
        }
    }
}
