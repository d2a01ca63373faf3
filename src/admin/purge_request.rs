//! `POST /purge`, `DELETE /cache` and `DELETE /cache/tags/{tag}`: parses them into targets, or refuses the whole
//! request.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde::Deserialize;

use super::query::{parse_object, percent_decode, query_pairs};
use super::response::AdminError;
use crate::policy::RequestHead;
use crate::policy::invalidation::purge_url_targets;
use crate::policy::routes::Routes;
use crate::policy::template::escape_value;
use crate::purge::{Purge, PurgeMode, Target};
use crate::purging::purge_wait;

/// Maximum number of targets; beyond it, a prefix or a common tag does the same in one.
const MAX_TARGETS: usize = 10_000;

const REQUEST_EXAMPLE: &str = r#"send JSON such as {"tags": ["courses"], "urls": ["/api/courses?page=1"], "prefixes": ["/api"], "soft": false} or {"everything": true}"#;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PurgeRequest {
    tags: Vec<String>,
    urls: Vec<String>,
    prefixes: Vec<String>,
    everything: bool,
    soft: bool,
}

pub(super) fn parse_body(routes: &Routes, body: &[u8]) -> Result<Purge, AdminError> {
    let request: PurgeRequest =
        parse_object(body).map_err(|error| AdminError::bad_request(error, REQUEST_EXAMPLE))?;
    let mode = if request.soft { PurgeMode::Soft } else { PurgeMode::Hard };
    let targets = request.resolve_targets(routes)?;
    match targets.len() {
        0 => Err(AdminError::bad_request("no target is named", REQUEST_EXAMPLE)),
        count if count > MAX_TARGETS => Err(AdminError::bad_request(
            format!("{count} targets exceed the maximum of {MAX_TARGETS}"),
            "name a common prefix or tag, or send several requests",
        )),
        _ => Ok(Purge { mode, ..Purge::hard(targets) }),
    }
}

/// A DELETE names what it purges by its path: content would be taken for less than everything.
pub(super) fn refuse_content(content: &[u8]) -> Result<(), AdminError> {
    match content.is_empty() {
        true => Ok(()),
        false => Err(AdminError::bad_request(
            "DELETE takes no content",
            "send the JSON by `POST /purge`, or no content to purge what the path says",
        )),
    }
}

pub(super) fn purge_everything() -> Purge {
    Purge::hard(vec![Target::Everything])
}

/// How a purge is carried out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PurgeQuery {
    /// How long to wait until all replicas have applied the purge.
    pub wait: Option<Duration>,
    pub is_dry_run: bool,
}

/// Parses `?wait=applied&timeout=2s&dry_run=true`.
pub(super) fn parse_options(query: Option<&str>, usual: Duration) -> Result<PurgeQuery, AdminError> {
    let refuse =
        |error: String| AdminError::bad_request(error, format!("as `wait`, {}", purge_wait::FIELD_HINT));
    let (mut options, mut asked, mut bound) = (PurgeQuery::default(), None, String::new());
    for (name, value) in query_pairs(query)? {
        match (name.as_str(), value.as_str()) {
            ("wait", _) => asked = Some(value),
            ("timeout", _) => bound = format!("; timeout={value}"),
            ("dry_run", "" | "true" | "1") => options.is_dry_run = true,
            ("dry_run", "false" | "0") => options.is_dry_run = false,
            _ => {
                return Err(AdminError::bad_request(
                    format!("invalid query parameter `{name}={value}`"),
                    "send `wait=applied`, `timeout=2s` or `dry_run=true`",
                ));
            }
        }
    }
    options.wait = match asked {
        Some(word) => Some(purge_wait::parse_wait_field(&(word + &bound), usual).map_err(refuse)?),
        None if bound.is_empty() => None,
        None => return Err(refuse("a `timeout` without `wait`".to_owned())),
    };
    Ok(options)
}

/// Parses `rest`, the part of the path after `/cache/tags/`.
pub(super) fn parse_tag_path(rest: &str, query: Option<&str>) -> Result<Purge, AdminError> {
    if query.is_some() {
        let fix = "write `?` in a tag as %3F; this endpoint takes no query";
        return Err(AdminError::bad_request("unexpected query after the tag", fix));
    }
    let fix = "write each byte of the tag's UTF-8 that is not a letter or digit as %XX";
    let tag = percent_decode(rest).ok_or_else(|| AdminError::bad_request("the tag is not UTF-8", fix))?;
    Ok(Purge::hard(tag_targets(&tag)?))
}

impl PurgeRequest {
    fn resolve_targets(&self, routes: &Routes) -> Result<Vec<Target>, AdminError> {
        let mut targets = Vec::new();
        for tag in &self.tags {
            if let Some(list) = space_separated(tag) {
                let path = tag.trim().replace(' ', "%20");
                return Err(AdminError::bad_request(
                    format!("the tag {tag:?} has a space"),
                    format!("write {list} for several tags, or `DELETE /cache/tags/{path}` for the one"),
                ));
            }
            targets.extend(tag_targets(tag)?);
        }
        for url in &self.urls {
            targets.extend(url_targets(routes, url)?);
        }
        for prefix in &self.prefixes {
            targets.extend(prefix_targets(routes, prefix)?);
        }
        if self.everything {
            targets.push(Target::Everything);
        }
        Ok(targets)
    }
}

/// Returns the tags of a list that was written with spaces, as JSON.
fn space_separated(tag: &str) -> Option<String> {
    let tags: Vec<&str> = tag.split_whitespace().collect();
    (tags.len() > 1).then(|| serde_json::to_string(&tags).unwrap_or_default())
}

/// Targets of a tag: as written, and in the escaped form that templates give it.
fn tag_targets(tag: &str) -> Result<Vec<Target>, AdminError> {
    if tag.is_empty() {
        return Err(AdminError::bad_request("a tag is empty", "name the tag, or leave it out"));
    }
    let escaped = escape_value(tag);
    let both = [Some(Target::tag(tag)), (escaped != tag).then(|| Target::tag(escaped))];
    Ok(both.into_iter().flatten().collect())
}

/// Targets of a URL as in a PURGE request: a path alone means all queries, `/*` at its end everything below.
fn url_targets(routes: &Routes, url: &str) -> Result<Vec<Target>, AdminError> {
    location_targets(routes, url, &PurgeLocation::parse(url)?)
}

/// Targets of a prefix; `/api` and `/api/*` are the same, and a query is ignored.
fn prefix_targets(routes: &Routes, prefix: &str) -> Result<Vec<Target>, AdminError> {
    let place = PurgeLocation::parse(prefix)?;
    let above = place.path.strip_suffix("/*").unwrap_or(&place.path).trim_end_matches('/');
    if above.ends_with('*') {
        // A partial segment would purge less than expected.
        let fix = "write the whole segment, or a shorter prefix";
        return Err(AdminError::bad_request(format!("{prefix:?} ends within a segment"), fix));
    }
    location_targets(routes, prefix, &PurgeLocation { path: format!("{above}/*"), query: None, ..place })
}

fn location_targets(
    routes: &Routes,
    written: &str,
    place: &PurgeLocation<'_>,
) -> Result<Vec<Target>, AdminError> {
    let (host, headers) = (place.host.as_deref(), HeaderMap::new());
    // Only the target of this request head is used.
    let head = RequestHead {
        scheme: place.scheme,
        host: host.unwrap_or_default(),
        query: place.query,
        ..RequestHead::new(&Method::DELETE, &place.path, &headers)
    };
    purge_url_targets(routes, &head, host.is_some())
        .map_err(|error| AdminError::bad_request(error, format!("correct {written:?}")))
}

/// A path, or an absolute URL.
#[derive(Debug, PartialEq, Eq)]
struct PurgeLocation<'u> {
    scheme: &'static str,
    /// Lower case, without the scheme's default port; `None` for a path.
    host: Option<String>,
    path: String,
    query: Option<&'u str>,
}

impl<'u> PurgeLocation<'u> {
    fn parse(url: &'u str) -> Result<Self, AdminError> {
        let refuse = || {
            let fix =
                "write a path such as /api/courses, or a URL in full such as https://example.com/api/courses";
            AdminError::bad_request(format!("{url:?} is neither a path nor a URL"), fix)
        };
        let url = url.split('#').next().unwrap_or_default();
        let (before, query) = match url.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (url, None),
        };
        if before.starts_with('/') {
            return Ok(Self { scheme: "http", host: None, path: before.to_string(), query });
        }
        let (scheme, rest) = before.split_once("://").ok_or_else(refuse)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // RFC 3986 §3.1: schemes have no case.
        let (scheme, own_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", ":80"),
            "https" => ("https", ":443"),
            _ => return Err(refuse()),
        };
        if authority.is_empty() || authority.contains('@') {
            return Err(refuse());
        }
        let host = authority.strip_suffix(own_port).unwrap_or(authority).to_ascii_lowercase();
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, host: Some(host), path: path.to_string(), query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_a_url() {
        for (url, host, path, query) in [
            ("/a/b", None, "/a/b", None),
            ("/a?x=1&y", None, "/a", Some("x=1&y")),
            ("/a?", None, "/a", Some("")),
            ("/a#part", None, "/a", None),
            ("//a", None, "//a", None),
            ("/a?u=http://b/", None, "/a", Some("u=http://b/")),
            ("http://Example.com", Some("example.com"), "/", None),
            ("HTTP://example.com:80/a", Some("example.com"), "/a", None),
            ("https://example.com:443/a?q", Some("example.com"), "/a", Some("q")),
            ("https://example.com:80/a", Some("example.com:80"), "/a", None),
            ("http://[::1]:80/a", Some("[::1]"), "/a", None),
            ("http://h?q", Some("h"), "/", Some("q")),
        ] {
            let place = PurgeLocation::parse(url).unwrap();
            assert_eq!(
                (place.host.as_deref(), place.path.as_str(), place.query),
                (host, path, query),
                "{url}"
            );
        }
        for url in ["", "a/b", "?q", "ftp://h/a", "http://", "http:///a", "http://user@h/a", "*"] {
            assert!(PurgeLocation::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_tag_in_a_path_is_decoded_once() {
        for (rest, tag) in [
            ("courses", "courses"),
            ("course:7", "course:7"),
            ("a/b", "a/b"),
            ("a%2Fb%20c", "a/b c"),
            ("caf%C3%A9", "café"),
            ("100%", "100%"),
            ("%25zz", "%zz"),
            ("%2525", "%25"),
        ] {
            let purge = parse_tag_path(rest, None).unwrap();
            assert_eq!(purge.targets[0], Target::tag(tag), "{rest}");
        }
        assert!(parse_tag_path("%FF", None).is_err());
        assert!(parse_tag_path("a", Some("b")).is_err());
    }
}
