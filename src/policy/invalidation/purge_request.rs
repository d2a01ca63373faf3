//! The PURGE method: what an operator, or the application itself, asks to be purged.

use http::{HeaderMap, HeaderName};

use super::{add, add_paths, readings};
use crate::policy::path::normal_form;
use crate::policy::routes::Routes;
use crate::policy::{RequestHead, tags};
use crate::purge::{Hardness, Target};

/// Tags in one request.
const MAX_TAGS: usize = 1000;

static TAG_FIELDS: [HeaderName; 2] =
    [HeaderName::from_static("cache-tag"), HeaderName::from_static("surrogate-key")];

/// `PURGE /p`, `/p?q`, `/p/*`, or by `Cache-Tag` / `Surrogate-Key`; `Purge-Mode: soft`. `absolute`: the target names
/// its host, and only that is purged. The error is for the client.
pub fn of_purge_request(
    routes: &Routes,
    request: &RequestHead<'_>,
    absolute: bool,
) -> Result<(Vec<Target>, Hardness), String> {
    let hardness = hardness(request.headers)?;
    let targets = match tags(request.headers)? {
        Some(tags) => tags.into_iter().map(Target::tag).collect(),
        None => of_url(routes, request, absolute)?,
    };
    Ok((targets, hardness))
}

fn hardness(headers: &HeaderMap) -> Result<Hardness, String> {
    let mut modes = headers.get_all("purge-mode").iter().map(|mode| mode.as_bytes());
    match (modes.next(), modes.next()) {
        (None, _) => Ok(Hardness::Hard),
        (Some(mode), None) if mode.eq_ignore_ascii_case(b"hard") => Ok(Hardness::Hard),
        (Some(mode), None) if mode.eq_ignore_ascii_case(b"soft") => Ok(Hardness::Soft),
        _ => Err("Purge-Mode is `hard` or `soft`".to_owned()),
    }
}

/// `None`: no tags are named, so the path counts.
fn tags(headers: &HeaderMap) -> Result<Option<Vec<String>>, String> {
    if !TAG_FIELDS.iter().any(|name| headers.contains_key(name)) {
        return Ok(None);
    }
    let mut tags: Vec<String> = TAG_FIELDS.iter().flat_map(|name| tags::listed_in(headers, name)).collect();
    tags.sort_unstable();
    tags.dedup();
    if tags.is_empty() {
        return Err("Cache-Tag or Surrogate-Key is there, and names no tag".to_owned());
    }
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags are too many for one request; the most is {MAX_TAGS}", tags.len()));
    }
    if tags.iter().any(|tag| tag.len() > tags::MAX_TAG_BYTES) {
        return Err(format!("a tag is longer than {} bytes, and so no response has it", tags::MAX_TAG_BYTES));
    }
    Ok(Some(tags))
}

fn of_url(routes: &Routes, request: &RequestHead<'_>, absolute: bool) -> Result<Vec<Target>, String> {
    let host = absolute.then_some(request.host);
    let path = request.path;
    if !path.starts_with('/') {
        return Err("a path to purge begins with `/`; everything is `/*`".to_owned());
    }
    if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        return Err(
            "`*` stands for all below a path, as its last segment: `/api/*`; a star in a path is `%2A`"
                .to_owned(),
        );
    }
    let mut targets = Vec::new();
    match (path.strip_suffix("/*"), request.query) {
        (Some(_), Some(_)) => {
            return Err("a path that ends in `/*` purges all queries; leave out the query".to_owned());
        }
        (Some(""), None) if !absolute => targets.push(Target::Everything),
        (Some(prefix), None) => {
            for path in readings(&format!("{prefix}/")) {
                add(&mut targets, Target::Prefix { host: host.map(str::to_owned), path });
            }
        }
        (None, None) => add_paths(&mut targets, host, path),
        (None, Some(query)) => {
            let queries = spellings(routes, path, query);
            for path in readings(path) {
                for query in &queries {
                    let (host, path) = (host.map(str::to_owned), path.clone());
                    add(&mut targets, Target::Url { host, path, query: query.clone() });
                }
            }
        }
    }
    Ok(targets)
}

/// The query as it is given, and as the routes of the path select it for their keys.
fn spellings(routes: &Routes, path: &str, query: &str) -> Vec<String> {
    let readings = readings(path);
    let loosely = readings.iter().flat_map(|reading| routes.all_loosely(reading));
    let mut queries = vec![query.to_owned()];
    for route in routes.find(&normal_form(path)).into_iter().chain(loosely) {
        let selected = route.query.select(Some(query)).unwrap_or_default().into_owned();
        if !queries.contains(&selected) {
            queries.push(selected);
        }
    }
    queries
}
