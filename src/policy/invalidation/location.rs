//! Resolves references of the same origin to their paths (RFC 3986 §5.2).

use crate::policy::RequestHead;

/// `None` for another origin, whose responses must not be invalidated (RFC 9111 §4.4).
pub(super) fn same_origin_path(request: &RequestHead<'_>, reference: &str) -> Option<String> {
    let parts = split_reference(reference);
    let same_scheme = parts.scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(request.scheme));
    let same_host = match parts.authority {
        Some(authority) => normalize_host(authority, request.scheme) == request.host.to_ascii_lowercase(),
        // `mailto:…`, or `http:/path`, which is read in several ways.
        None => parts.scheme.is_none(),
    };
    (same_scheme && same_host).then(|| resolve(request, &parts))
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
    let default = if scheme == "https" { ":443" } else { ":80" };
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
