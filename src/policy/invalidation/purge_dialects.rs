//! The purge requests of other caches: their methods, their tag fields, and the part of BAN's regular expressions
//! that names URLs and tags. Anything else that looks like a purge is an error, so that no purge is acknowledged and
//! does nothing.

use http::HeaderMap;

use super::tag_pattern::{has_any_character, literal, parse_tag_pattern};
use crate::purge::{NormalizedPath, PurgeMode, Target};

/// How a field separates its tags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Comma,
    Space,
    Any,
}

/// A field of a purge request that lists tags.
pub(super) struct TagField {
    pub name: &'static str,
    pub separator: Separator,
    pub mode: Option<PurgeMode>,
    is_dialect: bool,
}

const fn native(name: &'static str, separator: Separator) -> TagField {
    TagField { name, separator, mode: None, is_dialect: false }
}

const fn dialect(name: &'static str, mode: Option<PurgeMode>) -> TagField {
    TagField { name, separator: Separator::Any, mode, is_dialect: true }
}

/// The fields that list tags. The dialects are those of Varnish's xkey, FOSHttpCache, Drupal and Yahoo.
const TAG_FIELDS: [TagField; 9] = [
    native("cache-tag", Separator::Comma),
    native("surrogate-key", Separator::Space),
    dialect("cache-tags", None),
    dialect("x-cache-tags", None),
    dialect("purge-cache-tags", None),
    dialect("xkey", None),
    dialect("xkey-purge", Some(PurgeMode::Hard)),
    dialect("xkey-softpurge", Some(PurgeMode::Soft)),
    dialect("ykey", None),
];

/// Fields that hold a regular expression over tags: API Platform's and Magento's.
const PATTERN_FIELDS: [&str; 2] = ["apiplatform-ban-regex", "x-magento-tags-pattern"];

/// The fields of a BAN, of the dialect of FOSHttpCache.
const BAN_FIELDS: [&str; 3] = ["x-url", "x-host", "x-content-type"];

/// Other fields of a purge request.
const OTHER_FIELDS: [&str; 3] = ["purge-mode", "purge-wait", "purge-dry-run"];
const OTHER_DIALECT_FIELDS: [&str; 1] = ["fastly-soft-purge"];

/// Whether the method asks for a purge; with dialects, every one does that looks like it.
pub(crate) fn is_purge_method(method: &str, dialects: bool) -> bool {
    method == "PURGE" || (dialects && method != "GET" && looks_like_purge_method(method.as_bytes()))
}

/// Whether it has `PURGE` in it, or `BAN` at one of its ends: `SOFTPURGE`, `purge`, `URIBAN`.
fn looks_like_purge_method(method: &[u8]) -> bool {
    let is_at = |at: usize, word: &[u8]| {
        method.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word))
    };
    let ends = [Some(0), method.len().checked_sub(b"BAN".len())];
    ends.into_iter().flatten().any(|at| is_at(at, b"BAN")) || (0..method.len()).any(|at| is_at(at, b"PURGE"))
}

pub(super) fn tag_fields(dialects: bool) -> impl Iterator<Item = &'static TagField> {
    TAG_FIELDS.iter().filter(move |field| dialects || !field.is_dialect)
}

pub(super) fn pattern_fields(dialects: bool) -> impl Iterator<Item = &'static str> {
    PATTERN_FIELDS.into_iter().filter(move |_| dialects)
}

/// Refuses methods that are no purge after all, and fields that look like one's but are not known.
pub(super) fn check_known(method: &str, headers: &HeaderMap, dialects: bool) -> Result<(), String> {
    let has_tags = || tag_fields(dialects).any(|field| headers.contains_key(field.name));
    match method {
        "PURGE" | "BAN" => {}
        "PURGEKEYS" | "PURGETAGS" if has_tags() => {}
        "PURGEKEYS" | "PURGETAGS" => {
            return Err(format!("{method} without tags; list them in `xkey-purge` or `Cache-Tag`"));
        }
        _ => return Err(format!("unknown purge method {method}; use PURGE, PURGEKEYS, PURGETAGS or BAN")),
    }
    check_fields(method, headers, dialects)
}

fn check_fields(method: &str, headers: &HeaderMap, dialects: bool) -> Result<(), String> {
    let of_dialects: &[&str] = if dialects { &OTHER_DIALECT_FIELDS } else { &[] };
    let of_ban: &[&str] = if method == "BAN" { &BAN_FIELDS } else { &[] };
    let tags = tag_fields(dialects).map(|field| field.name);
    let others = [&OTHER_FIELDS[..], of_dialects, of_ban].into_iter().flatten().copied();
    let known: Vec<&str> = tags.chain(pattern_fields(dialects)).chain(others).collect();
    let mut names = headers.keys().map(http::HeaderName::as_str);
    match names.find(|name| looks_like_purge_field(name) && !known.contains(name)) {
        Some("x-url") => {
            Err("`X-Url` is a field of BAN; send PURGE to the path itself, or BAN with `X-Url`".to_owned())
        }
        Some("x-host") => {
            let fix = "send PURGE with the host in `Host`, or BAN with `X-Url` and `X-Host`";
            Err(format!("`X-Host` is a field of BAN; {fix}"))
        }
        Some(name) => Err(format!(
            "unknown purge field `{name}`; list tags in `Cache-Tag` (by comma) or `Surrogate-Key` (by space)"
        )),
        None => Ok(()),
    }
}

fn looks_like_purge_field(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "purge",
        "invalidat",
        "nuster",
        "cache-group",
        "cache-tag",
        "surrogate-key",
        "cache-key",
        "xkey",
        "ykey",
    ];
    const WORDS: [&str; 5] = ["ban", "tag", "tags", "regex", "pattern"];
    // A key alone may be a credential, such as `X-Api-Key`.
    const NAMES: [&str; 7] = ["key", "keys", "x-key", "x-keys", "x-pool", "x-url", "x-host"];
    PARTS.iter().any(|part| name.contains(part))
        || name.split('-').any(|word| WORDS.contains(&word))
        || name.starts_with("x-ban")
        || NAMES.contains(&name)
}

/// `Fastly-Soft-Purge: 1`.
pub(super) fn is_fastly_soft(headers: &HeaderMap, dialects: bool) -> bool {
    dialects && headers.get("fastly-soft-purge").is_some_and(|value| value == "1")
}

/// The targets of a BAN with `X-Url`, `X-Host` and `X-Content-Type`. `None` without `X-Url`: the path or tags count.
pub(super) fn parse_ban(headers: &HeaderMap) -> Result<Option<Vec<Target>>, String> {
    let text = |name: &str| -> Result<Option<&str>, String> {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                value.to_str().map(|text| Some(text.trim())).map_err(|_| format!("`{name}` is not ASCII"))
            }
            _ => Err(format!("`{name}` is sent twice")),
        }
    };
    if text("x-content-type")?.is_some_and(|pattern| !is_everything(pattern)) {
        return Err("BAN by `X-Content-Type` is not supported; name URLs or tags".to_owned());
    }
    let hosts = match text("x-host")? {
        Some(pattern) if !is_everything(pattern) => Some(ban_hosts(pattern)?),
        _ => None,
    };
    let Some(pattern) = text("x-url")? else {
        return match hosts {
            Some(_) => Err("BAN with `X-Host` needs `X-Url`, such as `.*`".to_owned()),
            None => Ok(None),
        };
    };
    let hosts = hosts.map_or(vec![None], |hosts| hosts.into_iter().map(Some).collect());
    hosts.into_iter().map(|host| url_pattern(pattern, host)).collect::<Result<_, _>>().map(Some)
}

/// The hosts of a pattern such as `shop.example`, `^shop$` or `^(a\.example|b\.example)$`, as responses are stored under
/// them. Both schemes are possible, so a host with the port of one of them is also the host without.
fn ban_hosts(pattern: &str) -> Result<Vec<String>, String> {
    let refuse = || {
        format!(
            "`X-Host: {pattern}`: expected a whole host such as `^shop\\.example$`, alternatives such as `^(a|b)$`, or `.*`"
        )
    };
    let (is_begun, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (is_ended, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut hosts = Vec::new();
    for part in inner.unwrap_or(rest).split('|') {
        let host = literal(part).filter(|host| is_host(host)).ok_or_else(refuse)?.to_ascii_lowercase();
        // Without anchors, a pattern may be a part of many names.
        let is_whole = host.contains(['.', ':', '[']) || host == "localhost";
        if is_begun != is_ended || !is_begun && !is_whole {
            return Err(refuse());
        }
        let bare = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).map(str::to_owned);
        hosts.extend([Some(host), bare].into_iter().flatten());
    }
    Ok(hosts)
}

/// Whether it is a name or an address, with or without a port.
fn is_host(host: &str) -> bool {
    let authority: Result<http::uri::Authority, _> = host.parse();
    let has_port = |rest: &str| rest.is_empty() || rest[1..].parse::<u16>().is_ok_and(|port| port > 0);
    authority.is_ok_and(|authority| {
        let name = authority.host();
        !name.is_empty() && host.strip_prefix(name).is_some_and(has_port)
    })
}

/// Understands `^/a/b$`, `/a/b`, `/a/.*` and `.*`. Without `$`, a pattern matches whatever begins with it, and so it is
/// widened to the prefix above its last segment.
fn url_pattern(pattern: &str, host: Option<String>) -> Result<Target, String> {
    let refuse = || {
        format!(
            "`X-Url: {pattern}`: expected a path such as `^/api/courses$`, or a prefix such as `^/api/.*`"
        )
    };
    let (is_begun, anchored) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    if is_everything(anchored) || is_everything(anchored.strip_prefix('/').unwrap_or(anchored)) {
        return Ok(match host {
            None => Target::Everything,
            host => Target::Prefix { host, path: NormalizedPath::new("/") },
        });
    }
    let (is_exact, rest) = match anchored.strip_suffix('$') {
        Some(rest) => (!rest.ends_with(".*"), rest),
        None => (false, anchored),
    };
    let rest = rest.strip_suffix(".*").unwrap_or(rest);
    // Below the prefix, a dot does not matter.
    let compared = if is_exact { rest } else { rest.rsplit_once('/').map_or(rest, |(above, _)| above) };
    let path = literal(rest).ok_or_else(refuse)?;
    if has_any_character(compared) {
        return Err(format!("`X-Url: {pattern}`: `.` matches any character; write `\\.` for a dot"));
    }
    if !path.starts_with('/') || path.contains('?') {
        return Err(refuse());
    }
    if !is_begun {
        // The expression also matches in the middle of other paths.
        return Err(format!("`X-Url: {pattern}` matches anywhere in a path: send `X-Url: ^{pattern}`"));
    }
    let path = match (is_exact, path.rsplit_once('/')) {
        (true, _) | (false, None) => path,
        (false, Some((above, _))) => format!("{above}/"),
    };
    let path = NormalizedPath::new(&path);
    Ok(if is_exact { Target::Path { host, path } } else { Target::Prefix { host, path } })
}

/// The tags of a field, where BAN may write them as an alternative: `(^|,)(a|b)(,|$)`.
pub(super) fn ban_tags(value: &str) -> Result<Vec<String>, String> {
    if let Some(tags) = parse_tag_pattern(value) {
        return Ok(tags);
    }
    let inner = value.trim();
    let inner = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(inner);
    let parts = inner.split(|c: char| c == '|' || c == ',' || c.is_whitespace());
    // A plain list is no expression.
    let is_expression = value.contains(['(', '|']);
    let text = |part| literal(part).filter(|_| !is_expression || !has_any_character(part));
    let tags = parts.filter(|part| !part.is_empty()).map(text);
    tags.collect::<Option<_>>().ok_or_else(|| {
        format!("`{value}`: expected tags, or an alternative of tags such as `(^|,)(a|b)(,|$)`")
    })
}

/// The tags of a regular expression; `None` for all responses. Unlike a list, it must say where a tag begins and ends.
pub(super) fn pattern_tags(field: &str, pattern: &str) -> Result<Option<Vec<String>>, String> {
    if !pattern.is_empty() && is_everything(pattern) {
        return Ok(None);
    }
    parse_tag_pattern(pattern).map(Some).ok_or_else(|| {
        format!(
            "`{field}: {pattern}`: expected alternatives of whole tags such as `((^|,)(a|b)(,|$))`, or `.*`"
        )
    })
}

fn is_everything(pattern: &str) -> bool {
    matches!(pattern, "" | ".*" | "^.*" | "^.*$" | ".*$" | ".+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_by_url_is_a_path_a_prefix_or_everything() {
        let path = |path: &str| Target::Path { host: None, path: NormalizedPath::new(path) };
        let prefix = |path: &str| Target::Prefix { host: None, path: NormalizedPath::new(path) };
        for (pattern, expected) in [
            (".*", Some(Target::Everything)),
            ("^/.*$", Some(Target::Everything)),
            ("^/api/courses", Some(prefix("/api"))),
            ("^/api/courses/", Some(prefix("/api/courses"))),
            ("^/api/courses$", Some(path("/api/courses"))),
            ("^/a\\.html$", Some(path("/a.html"))),
            ("^/api/.*", Some(prefix("/api"))),
            // They also match below other paths.
            ("/api/courses", None),
            ("/api/courses/", None),
            ("/courses$", None),
            ("/7$", None),
            ("/api/.*", None),
            ("^/api/courses/.*$", Some(prefix("/api/courses"))),
            ("^/api/cour", Some(prefix("/api"))),
            ("^/api/cour.*", Some(prefix("/api"))),
            ("^/(a|b)$", None),
            // A dot is any character, also a slash.
            ("^/items.7$", None),
            ("^/items/.$", None),
            ("^.items$", None),
            ("^/v1.0/.*", None),
            ("^/v1\\.0/.*", Some(prefix("/v1.0"))),
            ("^/api/cour.es", Some(prefix("/api"))),
            ("^/api/a.html.*", Some(prefix("/api"))),
            ("\\.png$", None),
            ("/a[0-9]", None),
            ("/a?", None),
        ] {
            assert_eq!(url_pattern(pattern, None).ok(), expected, "{pattern}");
        }
    }

    #[test]
    fn a_host_of_a_ban_is_whole() {
        for (pattern, expected) in [
            ("shop.example", Some(&["shop.example"][..])),
            ("^SHOP\\.Example$", Some(&["shop.example"])),
            ("shop.example:80", Some(&["shop.example:80", "shop.example"])),
            ("shop.example:443", Some(&["shop.example:443", "shop.example"])),
            ("shop.example:8080", Some(&["shop.example:8080"])),
            ("\\[::1\\]:80", Some(&["[::1]:80", "[::1]"])),
            ("^shop$", Some(&["shop"])),
            ("localhost", Some(&["localhost"])),
            ("^(a\\.example|b)$", Some(&["a.example", "b"])),
            ("shop", None),
            ("^127", None),
            ("example.com$", None),
            ("a b", None),
            ("a@b.example", None),
            ("a.example:0", None),
            ("a.example:", None),
            ("a.example/x", None),
            (".*\\.example", None),
            ("^()$", None),
        ] {
            assert_eq!(
                ban_hosts(pattern).ok().as_deref(),
                expected
                    .map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{pattern}"
            );
        }
    }

    #[test]
    fn fields_that_look_like_a_purges_are_refused() {
        let check = |method: &str, name: &'static str| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), "a".parse().unwrap())]);
            check_known(method, &headers, true)
        };
        for name in [
            "tags",
            "x-tags",
            "key",
            "x-key",
            "cache-key",
            "x-litespeed-tag",
            "x-pool",
            "x-magento-tags",
            "x-purge-regex",
            "x-ban-url",
            "x-surrogate-keys",
            "cache-groups",
            "cache-group-invalidation",
            "x-cache-invalidate",
            "nuster-host",
        ] {
            assert!(check("PURGE", name).is_err() && check("BAN", name).is_err(), "{name}");
        }
        for name in ["x-api-key", "if-none-match", "x-forwarded-host", "content-type", "x-request-id", "xkey"]
        {
            assert!(check("PURGE", name).is_ok() && check("BAN", name).is_ok(), "{name}");
        }
        assert!(check("PURGE", "x-url").unwrap_err().contains("send PURGE to the path"));
        assert!(check("PURGE", "x-host").unwrap_err().contains("in `Host`"));
        assert!(check("BAN", "x-url").is_ok() && check("BAN", "x-host").is_ok());
    }

    #[test]
    fn methods_that_look_like_a_purge_are_none_to_forward() {
        for method in
            ["PURGE", "PURGEALL", "SOFTPURGE", "SOFT_PURGE", "purge", "Purge", "BAN", "FULLBAN", "URIBAN"]
        {
            assert!(is_purge_method(method, true), "{method}");
            assert_eq!(is_purge_method(method, false), method == "PURGE", "{method}");
        }
        for method in
            ["GET", "HEAD", "POST", "PUT", "QUERY", "PROPFIND", "UNBIND", "B", "BA", "PURG", "URBANE"]
        {
            assert!(!is_purge_method(method, true), "{method}");
        }
    }

    #[test]
    fn a_pattern_names_whole_tags_or_everything() {
        let tags = pattern_tags("x-magento-tags-pattern", "((^|,)a(,|$))|((^|,)b(,|$))");
        assert_eq!(tags, Ok(Some(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(pattern_tags("x-magento-tags-pattern", ".*"), Ok(None));
        for pattern in ["", "a", "a,b"] {
            assert!(
                pattern_tags("apiplatform-ban-regex", pattern).unwrap_err().contains("whole tags"),
                "{pattern}"
            );
        }
    }

    #[test]
    fn ban_tags_may_be_an_alternative() {
        for (value, expected) in [
            ("a", Some(vec!["a"])),
            ("node:1 node_list", Some(vec!["node:1", "node_list"])),
            ("(^|,)(tag\\-one|b)(,|$)", Some(vec!["tag-one", "b"])),
            ("a|b", Some(vec!["a", "b"])),
            ("a.*", None),
            ("a.7 b", Some(vec!["a.7", "b"])),
            ("a.7|b", None),
            ("(a.7)", None),
            ("(^|,)(a.7)(,|$)", None),
            ("[ab]", None),
        ] {
            let expected = expected.map(|tags| tags.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(ban_tags(value).ok(), expected, "{value}");
        }
    }
}
