//! The host that a request is for.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Uri, Version};

use super::error::ProxyError;
use crate::policy::invalidation::is_purge_method;

const X_HOST: HeaderName = HeaderName::from_static("x-host");

/// RFC 9112 §3.2: the target's own authority wins over `Host`; without either the request has no meaning.
pub(super) fn authority(parts: &Parts) -> Result<&str, ProxyError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::BadRequest("more than one Host"));
    }
    let host = match host.map(|host| host.to_str()) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(ProxyError::BadRequest("Host is not valid")),
        None => None,
    };
    if parts.version == Version::HTTP_2 {
        check_host(&parts.uri, host)?;
    }
    match (parts.uri.authority(), host) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(ProxyError::BadRequest("a target with user information"))
        }
        (Some(authority), _) => Ok(authority.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) if parts.version == Version::HTTP_10 => Ok(""),
        (None, None) => Err(ProxyError::BadRequest("no Host")),
    }
}

/// RFC 9112 §3.2.2 lets the target win; RFC 9113 §8.3.1 calls the request malformed.
fn check_host(target: &Uri, host: Option<&str>) -> Result<(), ProxyError> {
    let (Some(authority), Some(host)) = (target.authority(), host) else { return Ok(()) };
    let normalize = |host: &str| normalize_host(host, target.scheme_str().unwrap_or("https")).ok();
    let is_same = authority.as_str() == host
        || normalize(host).is_some_and(|host| normalize(authority.as_str()) == Some(host));
    is_same.then_some(()).ok_or(ProxyError::BadRequest("a Host that differs from :authority"))
}

/// The `X-Host` of a purge, which names what a BAN purges. A client that is not trusted overrides no host by it.
#[derive(Clone)]
struct PurgeHost(HeaderMap);

/// Keeps the `X-Host` of a purge before fields that override the host are removed.
pub(super) fn keep_purge_host(parts: &mut Parts) {
    if is_purge_method(parts.method.as_str(), true) && parts.headers.contains_key(X_HOST) {
        let hosts = parts.headers.get_all(X_HOST).iter().cloned();
        parts.extensions.insert(PurgeHost(hosts.map(|host| (X_HOST, host)).collect()));
    }
}

/// The fields of a purge request, as they were sent.
pub(super) fn purge_fields(parts: &Parts) -> Cow<'_, HeaderMap> {
    match parts.extensions.get::<PurgeHost>() {
        Some(PurgeHost(hosts)) => {
            let mut headers = parts.headers.clone();
            headers.extend(hosts.clone());
            Cow::Owned(headers)
        }
        None => Cow::Borrowed(&parts.headers),
    }
}

pub(super) fn normalize_host(host: &str, scheme: &str) -> Result<String, ProxyError> {
    let kinds = host.bytes().fold(0, |kinds, byte| kinds | HOST_BYTES[usize::from(byte)]);
    if kinds & INVALID != 0 {
        return Err(ProxyError::BadRequest("Host is not valid"));
    }
    if kinds & SEPARATOR == 0 {
        // Neither a port nor an address in brackets.
        return Ok(if kinds & UPPER_CASE == 0 { host.to_owned() } else { host.to_ascii_lowercase() });
    }
    if !is_host_with_port(host) {
        return Err(ProxyError::BadRequest("Host is not a name or an address, with a port from 1 to 65535"));
    }
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    Ok(host.strip_suffix(own_port).unwrap_or(host).to_ascii_lowercase())
}

const INVALID: u8 = 1;
const SEPARATOR: u8 = 2;
const UPPER_CASE: u8 = 4;

/// The kind of each byte of a host (RFC 3986 §3.2.2).
const HOST_BYTES: [u8; 256] = {
    let (mut kinds, mut byte) = ([INVALID; 256], 0);
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'A'..=b'Z' => UPPER_CASE,
            b':' | b'[' | b']' => SEPARATOR,
            b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'%'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'=' => 0,
            _ => INVALID,
        };
        byte += 1;
    }
    kinds
};

/// `uri-host [ ":" port ]` (RFC 9110 §7.2). No port may be empty: recipients disagree on what that means.
fn is_host_with_port(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').map(|host| host.split_once(']')) {
        Some(Some((address, port))) if address.parse::<Ipv6Addr>().is_ok() => ("[]", port),
        Some(_) => return false,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let has_port = port.strip_prefix(':').map(is_port);
    let is_name = name == "[]" || !name.contains(['[', ']']);
    is_name && has_port.unwrap_or(port.is_empty()) && (has_port.is_none() || !name.is_empty())
}

/// A field that came once, with one value.
pub(super) fn single_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    (values.next().is_none() && !value.is_empty() && !value.contains(',')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_in_lower_case_without_the_own_port() {
        for (host, scheme, expected) in [
            ("a.b", "http", Some("a.b")),
            ("A.b", "https", Some("a.b")),
            ("", "http", Some("")),
            ("A:80", "http", Some("a")),
            ("a:80", "https", Some("a:80")),
            ("a:443", "https", Some("a")),
            ("[2001:DB8::1]:80", "http", Some("[2001:db8::1]")),
            ("a_-.~%!$&'()*+,;=", "http", Some("a_-.~%!$&'()*+,;=")),
            ("a b", "http", None),
            ("a/b", "http", None),
            ("a@b", "http", None),
            ("é", "http", None),
            ("a\u{7f}", "http", None),
            ("a:", "http", None),
            ("a]", "http", None),
        ] {
            assert_eq!(normalize_host(host, scheme).ok().as_deref(), expected, "{host}");
        }
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
        for byte in 0..=255 {
            assert_eq!(HOST_BYTES[usize::from(byte)] & INVALID == 0, is_valid(byte), "{byte}");
        }
    }

    #[test]
    fn a_host_has_one_port_in_range_or_none() {
        for host in ["a", "a:1", "a.b:65535", "[::1]", "[2001:db8::1]:8080", "127.0.0.1:80", "", "a_b"] {
            assert!(is_host_with_port(host), "{host}");
        }
        for host in [
            "a:1:2",
            "a:",
            ":80",
            "a:0",
            "a:65536",
            "a:99999999999",
            "a:+1",
            "a:x",
            "[::1",
            "::1",
            "[a]",
            "[::1]:",
            "[::1]x",
            "a]",
        ] {
            assert!(!is_host_with_port(host), "{host}");
        }
    }
}
