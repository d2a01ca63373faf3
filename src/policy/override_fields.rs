//! Fields by which frameworks and servers let a request ask for another method, path or host, or say how it reached them.
//!
//! Ordinary proxies pass them on as clients send them, so they are removed from all requests but for those that
//! `trusted_fields` names. A write keeps the method that it asks for if that is a write, too: the API would take the request
//! for another one without it. The fields that every proxy sets (`X-Forwarded-For`, `-Host`, `-Proto`, `-Port`, `-Prefix`,
//! `Forwarded`) are not listed here.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, Method};

use super::HeaderNameFilter;
use super::methods::is_safe;

static METHOD_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];
pub(crate) static PATH_FIELDS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];
static HOST_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
];

/// Fields by which gateways tell frameworks how a request reached them: its scheme, its prefix, its path before a rewrite.
/// A proxy that is trusted for them sets them on all requests, so they do not keep a response from being cached.
static CONTEXT_FIELDS: [HeaderName; 36] = [
    HeaderName::from_static("base-url"),
    HeaderName::from_static("cloudfront-forwarded-proto"),
    HeaderName::from_static("disguised-host"),
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("x-accel-mapping"),
    HeaderName::from_static("x-backend-host"),
    HeaderName::from_static("x-envoy-original-host"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-forwarded"),
    HeaderName::from_static("x-forwarded-base"),
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-ingress-path"),
    HeaderName::from_static("x-invoke-output"),
    HeaderName::from_static("x-invoke-path"),
    HeaderName::from_static("x-invoke-query"),
    HeaderName::from_static("x-invoke-status"),
    HeaderName::from_static("x-matched-path"),
    HeaderName::from_static("x-middleware-rewrite"),
    HeaderName::from_static("x-middleware-subrequest"),
    HeaderName::from_static("x-ms-original-url"),
    HeaderName::from_static("x-now-route-matches"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-path"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-proxy-url"),
    HeaderName::from_static("x-proxycontextpath"),
    HeaderName::from_static("x-proxyhost"),
    HeaderName::from_static("x-proxyport"),
    HeaderName::from_static("x-proxyscheme"),
    HeaderName::from_static("x-request-uri"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-script-name"),
    HeaderName::from_static("x-sendfile-type"),
    HeaderName::from_static("x-tunnel-method"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("x-waws-unencoded-url"),
];

/// Fields of clients by which a framework answers otherwise: Next.js sends a redirect as 200, and no content to a
/// prefetch. They reach the upstream.
static ANSWER_FIELDS: [HeaderName; 2] =
    [HeaderName::from_static("x-middleware-prefetch"), HeaderName::from_static("x-nextjs-data")];

/// Those whose names show that a proxy has forwarded the request.
static FORWARDED_CONTEXT_FIELDS: [HeaderName; 13] = [
    HeaderName::from_static("x-forwarded-basepath"),
    HeaderName::from_static("x-forwarded-context"),
    HeaderName::from_static("x-forwarded-https"),
    HeaderName::from_static("x-forwarded-original-host"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-pathbase"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-tls"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-forwarded-url"),
];

/// All fields for which a response is not shared.
pub fn all() -> impl Iterator<Item = &'static HeaderName> {
    METHOD_FIELDS.iter().chain(&PATH_FIELDS).chain(&HOST_FIELDS).chain(&ANSWER_FIELDS)
}

static ALL_NAMES: LazyLock<HeaderNameFilter> = LazyLock::new(|| HeaderNameFilter::from_names(all()));
static CONTEXT_NAMES: LazyLock<HeaderNameFilter> =
    LazyLock::new(|| HeaderNameFilter::from_names(CONTEXT_FIELDS.iter()));

/// The override fields that a request may have, by its filter.
pub fn candidates(names: HeaderNameFilter) -> impl Iterator<Item = &'static HeaderName> {
    let may_hold_any = names.may_hold_any_rare(*ALL_NAMES);
    all().take_while(move |_| may_hold_any).filter(move |name| names.may_hold(name))
}

/// The methods of a request: its own, and the one that overrides it.
pub(crate) fn methods<'a>(method: &'a Method, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
    let overriding = METHOD_FIELDS.iter().flat_map(|name| headers.get_all(name));
    std::iter::once(method.as_str()).chain(overriding.filter_map(|value| value.to_str().ok()))
}

/// Whether a request has one of the methods, as its own or as the one that overrides it.
pub(crate) fn has_method(method: &Method, headers: &HeaderMap, names: &[&str]) -> bool {
    methods(method, headers).any(|method| names.iter().any(|name| name.eq_ignore_ascii_case(method)))
}

/// Whether the field is believed only where `trusted_fields` names it.
pub(crate) fn is_override(name: &HeaderName) -> bool {
    let lists = [&METHOD_FIELDS[..], &PATH_FIELDS, &HOST_FIELDS, &CONTEXT_FIELDS, &FORWARDED_CONTEXT_FIELDS];
    lists.iter().any(|names| names.contains(name))
}

/// Removes all fields but those that are believed, and those of [`remove_forwarded`]. Returns why the request can't be
/// forwarded.
pub(crate) fn restrict(
    method: &Method,
    headers: &mut HeaderMap,
    names: HeaderNameFilter,
    believed: &[HeaderName],
) -> Option<&'static str> {
    let mut refusal = None;
    let is_removed = |name: &&HeaderName| names.may_hold(name) && !believed.contains(name);
    if names.may_hold_any_rare(*ALL_NAMES) {
        let keeps_method = !is_safe(method);
        if keeps_method && !METHOD_FIELDS.iter().any(|name| believed.contains(name)) {
            refusal = judge_method(headers);
        }
        let methods = METHOD_FIELDS.iter().filter(|_| !keeps_method);
        let removed = methods.chain(&PATH_FIELDS).chain(&HOST_FIELDS).filter(is_removed);
        removed.for_each(|name| drop(headers.remove(name)));
        if !believed.is_empty() {
            refusal = refusal.or_else(|| find_repeated(headers, names));
        }
    }
    if names.may_hold_any_rare(*CONTEXT_NAMES) {
        CONTEXT_FIELDS.iter().filter(is_removed).for_each(|name| drop(headers.remove(name)));
    }
    refusal
}

/// A write is one whatever other write it stands for. One that stands for a read would purge as a write, and be none.
fn judge_method(headers: &HeaderMap) -> Option<&'static str> {
    let mut lines = METHOD_FIELDS.iter().flat_map(|name| headers.get_all(name));
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some("more than one field that overrides the method");
    }
    let method = Method::from_bytes(&line.as_bytes().to_ascii_uppercase());
    let is_write = method.is_ok_and(|method| !is_safe(&method));
    (!is_write)
        .then_some("a field that overrides the method of a write by none of a write; send the method itself")
}

/// Removes the fields by which larder could tell that a proxy has forwarded the request, but those that are believed.
pub(crate) fn remove_forwarded(headers: &mut HeaderMap, names: HeaderNameFilter, believed: &[HeaderName]) {
    let present = FORWARDED_CONTEXT_FIELDS.iter().filter(|name| names.may_hold(name));
    present.filter(|name| !believed.contains(name)).for_each(|name| drop(headers.remove(name)));
}

/// Finds the first kind of override with more than one line. Upstreams disagree on which line counts, so such a request
/// has no single meaning.
fn find_repeated(headers: &HeaderMap, names: HeaderNameFilter) -> Option<&'static str> {
    let has_several = |fields: &[HeaderName]| {
        let lines = fields.iter().filter(|name| names.may_hold(name)).flat_map(|name| headers.get_all(name));
        lines.count() > 1
    };
    let kinds = [
        (&METHOD_FIELDS[..], "more than one field that overrides the method"),
        (&PATH_FIELDS[..], "more than one field that overrides the path"),
        (&HOST_FIELDS[..], "more than one field that overrides the host"),
    ];
    kinds.into_iter().find(|(fields, _)| has_several(fields)).map(|(_, error)| error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    #[test]
    fn one_line_of_each_kind_counts() {
        for (lines, expected) in [
            (&[][..], None),
            (&[("x-original-url", "/a"), ("x-http-method", "PUT"), ("x-host", "a")], None),
            (&[("x-original-url", "/a"), ("x-original-url", "/a")], Some("path")),
            (&[("x-original-url", "/a"), ("x-rewrite-url", "/b")], Some("path")),
            (&[("x-http-method", "PUT"), ("x-http-method-override", "PUT")], Some("method")),
            (&[("x-host", "a"), ("x-original-host", "a")], Some("host")),
        ] {
            let mut headers = fields(lines);
            let names = HeaderNameFilter::from_headers(&headers);
            let found = find_repeated(&headers, names);
            assert_eq!(found.and_then(|error| error.rsplit(' ').next()), expected, "{lines:?}");
            assert_eq!(restrict(&Method::GET, &mut headers, names, &[]), None);
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn a_write_may_stand_for_another_write() {
        for (method, value, kept, refused) in [
            ("POST", "DELETE", true, false),
            ("POST", "merge", true, false),
            ("PUT", "Patch", true, false),
            ("POST", "get", true, true),
            ("POST", "QUERY", true, true),
            ("POST", "DELETE, GET", true, true),
            ("POST", "", true, true),
            ("GET", "DELETE", false, false),
            ("QUERY", "DELETE", false, false),
        ] {
            let mut headers = fields(&[("x-http-method", value), ("x-original-url", "/a")]);
            let (names, method) = (HeaderNameFilter::from_headers(&headers), method.parse().unwrap());
            assert_eq!(restrict(&method, &mut headers, names, &[]).is_some(), refused, "{method} {value}");
            assert_eq!((headers.len(), headers.contains_key("x-http-method")), (usize::from(kept), kept));
            let methods: Vec<_> = methods(&method, &headers).collect();
            assert_eq!(methods, [&[method.as_str()][..], &[value][..usize::from(kept)]].concat());
        }
        let mut twice = fields(&[("x-http-method", "PUT"), ("x-http-method-override", "PUT")]);
        let names = HeaderNameFilter::from_headers(&twice);
        assert!(restrict(&Method::POST, &mut twice, names, &[]).is_some());
    }

    #[test]
    fn no_override_is_a_usual_field() {
        for name in all().chain(&CONTEXT_FIELDS) {
            assert!(HeaderNameFilter::from_names([name].into_iter()).has_unusual(), "{name}");
        }
    }

    #[test]
    fn what_gateways_tell_is_removed_unless_it_is_believed() {
        let mut headers = fields(&[
            ("x-scheme", "https"),
            ("x-script-name", "/a"),
            ("x-now-route-matches", "1"),
            ("x-schema", "kept"),
        ]);
        let names = HeaderNameFilter::from_headers(&headers);
        assert!(!all().any(|name| headers.contains_key(name)), "it may be cached");
        assert_eq!(
            restrict(&Method::POST, &mut headers, names, &[HeaderName::from_static("x-scheme")]),
            None
        );
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-scheme", "x-schema"]);
        assert_eq!(restrict(&Method::POST, &mut headers, names, &[]), None);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-schema"]);
    }
}
