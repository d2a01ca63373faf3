//! Resolves references of the same origin to their paths (RFC 3986 §5.2).

use http::HeaderName;

use crate::policy::forwarding_fields::X_FORWARDED_PREFIX;
use crate::policy::{RequestHead, override_fields};

/// The URL that `MOVE` and `COPY` write to (RFC 4918 §10.3).
const DESTINATION: HeaderName = HeaderName::from_static("destination");

/// Returns the value of `Destination`, if the method writes there. A second one is malformed.
pub(super) fn destination<'a>(request: &RequestHead<'a>) -> Option<&'a [u8]> {
    let headers = request.headers;
    let writes_there = override_fields::has_method(request.method, headers, &["MOVE", "COPY"]);
    headers.get(DESTINATION).filter(|_| writes_there).map(|value| value.as_bytes())
}

/// The path as it is written, and without `X-Forwarded-Prefix`.
pub(super) fn with_and_without_prefix(request: &RequestHead<'_>, path: String) -> Vec<String> {
    let prefix = request.headers.get(X_FORWARDED_PREFIX).and_then(|value| value.to_str().ok());
    let prefix = prefix.map(|prefix| prefix.trim().trim_end_matches('/')).filter(|prefix| !prefix.is_empty());
    let behind = match prefix.and_then(|prefix| path.strip_prefix(prefix)) {
        Some("") => Some("/".to_owned()),
        Some(rest) if rest.starts_with('/') => Some(rest.to_owned()),
        _ => None,
    };
    std::iter::once(path).chain(behind).collect()
}

/// `None` for another origin, whose responses must not be invalidated (RFC 9111 §4.4). `upstream_host`: the `Host` that the
/// upstream got in place of the client's. An upstream that does not read `X-Forwarded-Proto` takes each request for one
/// over `http`, and writes its own URLs so.
pub(super) fn same_origin_path(
    request: &RequestHead<'_>,
    upstream_host: Option<&str>,
    reference: &str,
) -> Option<String> {
    let parts = split_reference(reference);
    let is_scheme =
        |scheme: &str| [request.scheme, "http"].iter().any(|own| scheme.eq_ignore_ascii_case(own));
    let scheme = parts.scheme.unwrap_or(request.scheme);
    let same_host = match parts.authority {
        Some(authority) => {
            let host = normalize_host(authority, scheme);
            request.hosts().chain(upstream_host).any(|own| host == normalize_host(own, scheme))
        }
        // `mailto:…`, or `http:/path`, which is read in several ways.
        None => parts.scheme.is_none(),
    };
    (is_scheme(scheme) && same_host).then(|| resolve(request, &parts))
}

/// Resolves a reference of any origin.
pub(super) fn resolve_path(request: &RequestHead<'_>, reference: &str) -> String {
    resolve(request, &split_reference(reference))
}

struct ReferenceParts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    /// Without query and fragment.
    path: &'a str,
}

fn split_reference(reference: &str) -> ReferenceParts<'_> {
    let reference = reference.trim();
    let whole = reference.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match whole.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, whole),
    };
    match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            ReferenceParts {
                scheme,
                authority: Some(authority),
                path: if path.is_empty() { "/" } else { path },
            }
        }
        None => ReferenceParts { scheme, authority: None, path: rest },
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Spells an authority as [`RequestHead::host`] is spelled. With user information it equals no request's host.
fn normalize_host(authority: &str, scheme: &str) -> String {
    let host = authority.to_ascii_lowercase();
    let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(default).or_else(|| host.strip_suffix(':')).unwrap_or(&host).to_owned()
}

/// Dot segments stay: each reading of the path resolves them.
fn resolve(request: &RequestHead<'_>, parts: &ReferenceParts<'_>) -> String {
    if parts.path.is_empty() {
        request.path.to_owned()
    } else if parts.path.starts_with('/') {
        parts.path.to_owned()
    } else {
        let directory = request.path.rfind('/').map_or("/", |slash| &request.path[..=slash]);
        format!("{directory}{}", parts.path)
    }
}
