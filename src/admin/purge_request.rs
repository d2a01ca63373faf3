//! `POST /purge` and its kin: what an operator wants purged, as targets. What can't be understood is refused whole.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde::Deserialize;

use super::answer::Refusal;
use super::purges::pairs;
use crate::policy::RequestHead;
use crate::policy::invalidation::of_purge_request;
use crate::policy::routes::Routes;
use crate::policy::template::escaped;
use crate::purge::{Hardness, Purge, Target};
use crate::purging::waiting;

/// More at once are refused: a prefix or a common tag says the same in one.
const MAX_TARGETS: usize = 10_000;

const FORM: &str = r#"send JSON such as {"tags": ["courses"], "urls": ["/api/courses?page=1"], "prefixes": ["/api"], "soft": false} or {"everything": true}"#;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PurgeRequest {
    tags: Vec<String>,
    urls: Vec<String>,
    prefixes: Vec<String>,
    everything: bool,
    soft: bool,
}

pub fn of_body(routes: &Routes, body: &[u8]) -> Result<Purge, Refusal> {
    let request: PurgeRequest =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string(), FORM))?;
    let hardness = if request.soft { Hardness::Soft } else { Hardness::Hard };
    let targets = request.targets(routes)?;
    match targets.len() {
        0 => Err(Refusal::bad_request("nothing is named", FORM)),
        count if count > MAX_TARGETS => Err(Refusal::bad_request(
            format!("{count} targets are more than {MAX_TARGETS}"),
            "name a prefix or a tag that they have in common, or send several requests",
        )),
        _ => Ok(Purge { hardness, ..Purge::hard(targets) }),
    }
}

pub fn of_everything() -> Purge {
    Purge::hard(vec![Target::Everything])
}

/// `?wait=applied&timeout=2s`: for how long to wait until all replicas know the purge.
pub fn wait(query: Option<&str>, usual: Duration) -> Result<Option<Duration>, Refusal> {
    let refuse = |error: String| Refusal::bad_request(error, format!("as `wait`, {}", waiting::FIX));
    let mut asked = None;
    let mut bound = String::new();
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "wait" => asked = Some(value),
            "timeout" => bound = format!("; timeout={value}"),
            _ => return Err(refuse(format!("a purge has no parameter `{name}`"))),
        }
    }
    match asked {
        Some(word) => waiting::of_field(&(word + &bound), usual).map(Some).map_err(refuse),
        None if bound.is_empty() => Ok(None),
        None => Err(refuse("a `timeout` without `wait`".to_owned())),
    }
}

/// `rest` is what stands after `/cache/tags/`.
pub fn of_tag_path(rest: &str, query: Option<&str>) -> Result<Purge, Refusal> {
    if query.is_some() {
        let fix = "write `?` in a tag as %3F; this endpoint takes no query";
        return Err(Refusal::bad_request("there is a query after the tag", fix));
    }
    let fix = "write each byte of the tag's UTF-8 that is not a letter or digit as %XX";
    let tag = percent_decoded(rest).ok_or_else(|| Refusal::bad_request("the tag is not UTF-8", fix))?;
    Ok(Purge::hard(of_tag(&tag)?))
}

impl PurgeRequest {
    fn targets(&self, routes: &Routes) -> Result<Vec<Target>, Refusal> {
        let mut targets = Vec::new();
        for tag in &self.tags {
            targets.extend(of_tag(tag)?);
        }
        for url in &self.urls {
            targets.extend(of_url(routes, url)?);
        }
        for prefix in &self.prefixes {
            targets.extend(of_prefix(routes, prefix)?);
        }
        if self.everything {
            targets.push(Target::Everything);
        }
        Ok(targets)
    }
}

/// The tag as it is written, and as templates write a value that a list of tags could not hold.
fn of_tag(tag: &str) -> Result<Vec<Target>, Refusal> {
    if tag.is_empty() {
        return Err(Refusal::bad_request("a tag is empty", "name it, or leave it out"));
    }
    let escaped = escaped(tag);
    let both = [Some(Target::tag(tag)), (escaped != tag).then(|| Target::tag(escaped))];
    Ok(both.into_iter().flatten().collect())
}

/// As the method PURGE takes a URL: the path alone means all its queries, and `/*` at its end all below.
fn of_url(routes: &Routes, url: &str) -> Result<Vec<Target>, Refusal> {
    of_place(routes, url, &Place::parse(url)?)
}

/// `/api` and `/api/*` are the same; a query narrows nothing.
fn of_prefix(routes: &Routes, prefix: &str) -> Result<Vec<Target>, Refusal> {
    let place = Place::parse(prefix)?;
    let above = place.path.strip_suffix("/*").unwrap_or(&place.path).trim_end_matches('/');
    if above.ends_with('*') {
        // Less would be purged than whoever wrote this expects.
        let fix = "name the segment in full, or the prefix above it";
        return Err(Refusal::bad_request(format!("{prefix:?} ends within a segment"), fix));
    }
    of_place(routes, prefix, &Place { path: format!("{above}/*"), query: None, ..place })
}

fn of_place(routes: &Routes, written: &str, place: &Place<'_>) -> Result<Vec<Target>, Refusal> {
    let (host, headers) = (place.host.as_deref(), HeaderMap::new());
    // Only the target counts here.
    let head = RequestHead {
        scheme: place.scheme,
        host: host.unwrap_or_default(),
        query: place.query,
        ..RequestHead::new(&Method::DELETE, &place.path, &headers)
    };
    let (targets, _) = of_purge_request(routes, &head, host.is_some())
        .map_err(|error| Refusal::bad_request(error, format!("correct {written:?}")))?;
    Ok(targets)
}

/// A path, or a URL in full.
#[derive(Debug, PartialEq, Eq)]
struct Place<'u> {
    scheme: &'u str,
    /// Lower case, without the scheme's own port; `None` for a path.
    host: Option<String>,
    path: String,
    query: Option<&'u str>,
}

impl<'u> Place<'u> {
    fn parse(url: &'u str) -> Result<Self, Refusal> {
        let refuse = || {
            let fix =
                "write a path such as /api/courses, or a URL in full such as https://example.com/api/courses";
            Refusal::bad_request(format!("{url:?} is neither a path nor a URL"), fix)
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
        let own_port = match scheme {
            "http" => ":80",
            "https" => ":443",
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

/// `None` if what is decoded is not UTF-8. What is not an escape stays as it is.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        let digit = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = &rest[2..];
            }
            _ => {
                decoded.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8(decoded).ok()
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
            ("https://example.com:443/a?q", Some("example.com"), "/a", Some("q")),
            ("https://example.com:80/a", Some("example.com:80"), "/a", None),
            ("http://[::1]:80/a", Some("[::1]"), "/a", None),
            ("http://h?q", Some("h"), "/", Some("q")),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!(
                (place.host.as_deref(), place.path.as_str(), place.query),
                (host, path, query),
                "{url}"
            );
        }
        for url in ["", "a/b", "?q", "ftp://h/a", "http://", "http:///a", "http://user@h/a", "*"] {
            assert!(Place::parse(url).is_err(), "{url}");
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
            let purge = of_tag_path(rest, None).unwrap();
            assert_eq!(purge.targets[0], Target::tag(tag), "{rest}");
        }
        assert!(of_tag_path("%FF", None).is_err());
        assert!(of_tag_path("a", Some("b")).is_err());
    }
}
