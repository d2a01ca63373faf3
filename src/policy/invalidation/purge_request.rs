//! The PURGE method and its dialects: the targets of a purge request.

use http::HeaderMap;

use super::purge_dialects::{
    Separator, TagField, ban_tags, check_known, is_fastly_soft, parse_ban, pattern_fields, pattern_tags,
    tag_fields,
};
use super::{possible_paths, possible_routes};
use crate::policy::purge_targets::PurgeTargets;
use crate::policy::routes::Routes;
use crate::policy::{RequestHead, tags};
use crate::purge::{PurgeMode, Target};
use crate::raw_target::encode_raw;

/// Maximum number of tags in one request.
const MAX_TAGS_PER_PURGE: usize = 1000;

/// Parses `PURGE /p`, `/p?q`, `/p/*`, or tags in a field such as `Cache-Tag`; `Purge-Mode: soft`. `absolute`: the target
/// names its host, and only that is purged. `dialects` also accepts the requests of other caches.
///
/// # Errors
/// For the client: what was not understood, and what to write.
pub(crate) fn parse_purge_request(
    routes: &Routes,
    request: &RequestHead<'_>,
    absolute: bool,
    dialects: bool,
) -> Result<(Vec<Target>, PurgeMode), String> {
    let headers = request.headers;
    check_known(request.method.as_str(), headers, dialects)?;
    let is_ban = request.method.as_str() == "BAN";
    let tags = parse_tags(headers, dialects, is_ban)?;
    let mode = parse_purge_mode(headers, dialects)?;
    let banned = if is_ban { parse_ban(headers)? } else { None };
    let targets = match (tags, banned) {
        (Some(tags), _) => tags,
        (None, Some(targets)) => targets,
        (None, None) => purge_url_targets(routes, request, absolute)?,
    };
    Ok((targets, mode))
}

fn parse_purge_mode(headers: &HeaderMap, dialects: bool) -> Result<PurgeMode, String> {
    let mut modes = headers.get_all("purge-mode").iter().map(|mode| mode.as_bytes());
    let named = match (modes.next(), modes.next()) {
        (None, _) => None,
        (Some(mode), None) if mode.eq_ignore_ascii_case(b"hard") => Some(PurgeMode::Hard),
        (Some(mode), None) if mode.eq_ignore_ascii_case(b"soft") => Some(PurgeMode::Soft),
        _ => return Err("invalid `Purge-Mode`; expected one of `hard` and `soft`".to_owned()),
    };
    let fastly = is_fastly_soft(headers, dialects).then_some(PurgeMode::Soft);
    let sent = tag_fields(dialects).filter(|field| headers.contains_key(field.name));
    let mut all = sent.filter_map(|field| field.mode).chain(named).chain(fastly);
    let first = all.next().unwrap_or(PurgeMode::Hard);
    match all.all(|mode| mode == first) {
        true => Ok(first),
        false => Err("the request asks for a hard and a soft purge; send one of them".to_owned()),
    }
}

/// Returns `None` if no tags are named, so that the path counts.
fn parse_tags(headers: &HeaderMap, dialects: bool, is_ban: bool) -> Result<Option<Vec<Target>>, String> {
    let mut tags: Vec<String> = Vec::new();
    let mut is_named = false;
    for field in tag_fields(dialects) {
        for value in headers.get_all(field.name) {
            is_named = true;
            let value = String::from_utf8_lossy(value.as_bytes());
            match is_ban {
                true => tags.extend(ban_tags(&value)?),
                false => tags.extend(split_tags(field, &value)?),
            }
        }
    }
    let mut is_everything = false;
    for field in pattern_fields(dialects) {
        for value in headers.get_all(field) {
            is_named = true;
            let pattern = String::from_utf8_lossy(value.as_bytes());
            match pattern_tags(field, pattern.trim())? {
                Some(more) => tags.extend(more),
                None => is_everything = true,
            }
        }
    }
    if is_everything {
        return Ok(Some(vec![Target::Everything]));
    }
    if is_named && tags.is_empty() {
        return Err("the tag field names no tag".to_owned());
    }
    check_tags(&mut tags)?;
    Ok(is_named.then(|| tags.into_iter().map(Target::tag).collect()))
}

/// Sorts the tags of all fields, and refuses too many and too long ones.
fn check_tags(tags: &mut Vec<String>) -> Result<(), String> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS_PER_PURGE {
        return Err(format!(
            "{} tags in one request exceed the maximum of {MAX_TAGS_PER_PURGE}; send several requests",
            tags.len()
        ));
    }
    if tags.iter().any(|tag| tag.len() > tags::MAX_TAG_BYTES) {
        return Err(format!("a tag is longer than {} bytes, and so no response has it", tags::MAX_TAG_BYTES));
    }
    Ok(())
}

fn split_tags(field: &TagField, value: &str) -> Result<Vec<String>, String> {
    let is_separator = |c: char| match field.separator {
        Separator::Comma => c == ',',
        Separator::Space => c.is_whitespace(),
        Separator::Any => c == ',' || c.is_whitespace(),
    };
    let parts =
        value.split(is_separator).map(|part| part.trim_matches(|c: char| c == ',' || c.is_whitespace()));
    let tags: Vec<String> = parts.filter(|part| !part.is_empty()).map(str::to_owned).collect();
    match tags.iter().find(|tag| tag.contains(char::is_whitespace)) {
        Some(tag) => Err(format!(
            "`{}` is separated by commas, and `{tag}` has a space; write `{}`, or use `Surrogate-Key`",
            field.name,
            tag.split_whitespace().collect::<Vec<_>>().join(", "),
        )),
        None => Ok(tags),
    }
}

/// The targets that the URL of a purge request names.
///
/// # Errors
/// See [`parse_purge_request`].
pub(crate) fn purge_url_targets(
    routes: &Routes,
    request: &RequestHead<'_>,
    absolute: bool,
) -> Result<Vec<Target>, String> {
    let host = absolute.then_some(request.host);
    let path = request.path;
    check_path(path)?;
    let mut targets = PurgeTargets::default();
    match (path.strip_suffix("/*"), request.query) {
        (Some(_), Some(_)) => {
            return Err("a path that ends in `/*` purges all queries; remove the query".to_owned());
        }
        (Some(""), None) if !absolute => targets.insert_named(Target::Everything),
        (Some(prefix), None) => {
            for path in possible_paths(&format!("{prefix}/")) {
                targets.insert_named(Target::Prefix { host: host.map(str::to_owned), path });
            }
        }
        (None, None) => {
            for path in possible_paths(path) {
                targets.insert_named(Target::Path { host: host.map(str::to_owned), path });
            }
        }
        (None, Some(query)) => {
            if query.contains('*') {
                return Err("`*` in a query is not a wildcard; a path alone purges all its queries, and a star in a query is `%2A`".to_owned());
            }
            insert_urls(&mut targets, host, path, &query_spellings(routes, path, query));
        }
    }
    Ok(targets.to_vec())
}

/// Names a path with each of the queries, and the responses that answer for more queries than their own.
fn insert_urls(targets: &mut PurgeTargets, host: Option<&str>, path: &str, queries: &[String]) {
    for path in possible_paths(path) {
        for query in queries {
            let (host, path) = (host.map(str::to_owned), path.clone());
            targets.insert_named(Target::Url { host, path, query: query.clone() });
        }
        // The routes here decide nothing: another replica may have `no_vary_search`.
        targets.insert_named(Target::Equivalents { host: host.map(str::to_owned), path });
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("expected a path that begins with `/`; to purge everything, write `/*`");
    }
    if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        return Err(
            "`*` must be the last segment, as in `/api/*`; regular expressions are not supported, and a star in a path is `%2A`",
        );
    }
    Ok(())
}

/// The query as it is given, and as the routes of the path select it for their keys.
fn query_spellings(routes: &Routes, path: &str, query: &str) -> Vec<String> {
    // Requests arrive in this spelling.
    let query = &*encode_raw(query);
    let mut queries = vec![query.to_owned()];
    for route in possible_routes(routes, path) {
        let selected = route.query.select(Some(query)).unwrap_or_default().into_owned();
        if !queries.contains(&selected) {
            queries.push(selected);
        }
    }
    queries
}
