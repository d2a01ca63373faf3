//! The path that a reference in a response means (RFC 3986 §5.2), if it is of the same origin as the request.

use crate::policy::RequestHead;

/// `None` for another origin: one origin can't make another's responses invalid (RFC 9111 §4.4).
pub(super) fn path_of_same_origin(request: &RequestHead<'_>, reference: &str) -> Option<String> {
    let parts = split(reference);
    let same_scheme = parts.scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(request.scheme));
    let same_host = match parts.authority {
        Some(authority) => host_of(authority, request.scheme) == request.host.to_ascii_lowercase(),
        // `mailto:…`, or `http:/path` that no one agrees on.
        None => parts.scheme.is_none(),
    };
    (same_scheme && same_host).then(|| resolved(request, &parts))
}

/// Whatever its origin.
pub(super) fn path_of(request: &RequestHead<'_>, reference: &str) -> String {
    resolved(request, &split(reference))
}

struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    /// Without query and fragment.
    path: &'a str,
}

fn split(reference: &str) -> Parts<'_> {
    let reference = reference.trim();
    let whole = reference.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match whole.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, whole),
    };
    match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            Parts { scheme, authority: Some(authority), path: if path.is_empty() { "/" } else { path } }
        }
        None => Parts { scheme, authority: None, path: rest },
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// As [`RequestHead::host`] is written. With user information it is no host that a request can name.
fn host_of(authority: &str, scheme: &str) -> String {
    let host = authority.to_ascii_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(default).or_else(|| host.strip_suffix(':')).unwrap_or(&host).to_owned()
}

/// Dot segments stay: each reading of the path deals with them in its own way.
fn resolved(request: &RequestHead<'_>, parts: &Parts<'_>) -> String {
    if parts.path.is_empty() {
        request.path.to_owned()
    } else if parts.path.starts_with('/') {
        parts.path.to_owned()
    } else {
        let directory = request.path.rfind('/').map_or("/", |slash| &request.path[..=slash]);
        format!("{directory}{}", parts.path)
    }
}
