//! `GET /sizes`: memory use by route, tag and path prefix, estimated from a sample of this replica's entries.

use std::collections::HashMap;

use serde::Serialize;

use super::query::query_pairs;
use super::response::AdminError;
use crate::clock::Timestamp;
use crate::policy::routes::Routes;
use crate::purge::Validity;
use crate::store::Store;
use crate::stored_response::StoredResponse;

const DEFAULT_LIMIT: usize = 20;
pub(super) const MAX_LIMIT: usize = 1000;

/// Maximum number of entries looked at.
const MAX_SAMPLED: usize = 10_000;

/// Maximum depth of path prefixes, in segments.
const MAX_PREFIX_SEGMENTS: usize = 3;

const QUERY_USAGE: &str =
    "`GET /sizes` takes `limit` (1 to 1000), `by` (bytes, responses or uses), and `scope=all` with `by=uses`";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizesQuery {
    pub limit: usize,
    pub by: SortBy,
    /// The most used paths of all replicas, and nothing else.
    pub covers_all_replicas: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SortBy {
    Bytes,
    Responses,
    Uses,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sizes {
    /// Entries in memory, valid or not.
    responses: usize,
    /// Entries looked at; the figures below are scaled up from these.
    sampled: usize,
    routes: Vec<SizeEntry>,
    tags: Vec<SizeEntry>,
    /// Only entries with hits: the path of an entry that was never hit is unknown.
    prefixes: Vec<SizeEntry>,
    /// Whole paths, of such entries.
    pub paths: Vec<SizeEntry>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SizeEntry {
    pub name: String,
    responses: u64,
    bytes: u64,
    /// Hits since the entry was stored.
    pub uses: u64,
}

pub(super) fn parse_query(query: Option<&str>) -> Result<SizesQuery, AdminError> {
    let (mut limit, mut by, mut covers_all_replicas) = (DEFAULT_LIMIT, SortBy::Bytes, false);
    for (name, value) in query_pairs(query)? {
        let wrong = || AdminError::bad_request(format!("invalid parameter `{name}={value}`"), QUERY_USAGE);
        match (name.as_str(), value.as_str()) {
            ("limit", value) => {
                let given = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                limit = given.ok_or_else(wrong)?;
            }
            ("by", "bytes") => by = SortBy::Bytes,
            ("by", "responses") => by = SortBy::Responses,
            ("by", "uses") => by = SortBy::Uses,
            ("scope", "all") => covers_all_replicas = true,
            ("scope", "replica") => covers_all_replicas = false,
            _ => return Err(wrong()),
        }
    }
    if covers_all_replicas && by != SortBy::Uses {
        return Err(AdminError::bad_request("`scope=all` lists paths by uses alone", QUERY_USAGE));
    }
    Ok(SizesQuery { limit, by, covers_all_replicas })
}

impl Sizes {
    /// Scans the store; call it off the request path.
    pub(super) fn measure(
        store: &dyn Store,
        routes: &Routes,
        now: Timestamp,
        limit: usize,
        by: SortBy,
    ) -> Self {
        let all = store.local_responses();
        let step = all.len().div_ceil(MAX_SAMPLED).max(1);
        let names: HashMap<_, _> = routes.iter().map(|route| (route.fingerprint.0, &route.name)).collect();
        let mut sampled = 0;
        let (mut of_routes, mut of_tags) = (SizeCounts::new(), SizeCounts::new());
        let (mut of_prefixes, mut of_paths) = (SizeCounts::new(), SizeCounts::new());
        for response in all.iter().step_by(step) {
            let head = &response.head;
            sampled += 1;
            if head.terms().expires_at <= now || store.validity(&head.stamp, &head.targets) == Validity::Dead
            {
                continue;
            }
            if let Some(name) = names.get(&head.fingerprint.0) {
                add_response(&mut of_routes, name, response);
            }
            head.tags().for_each(|tag| add_response(&mut of_tags, tag, response));
            if let Some(path) = head.usage.path() {
                path_prefixes(path).for_each(|prefix| add_response(&mut of_prefixes, prefix, response));
                add_response(&mut of_paths, path, response);
            }
        }
        let lines = |count| top_entries(count, step as u64, limit, by);
        Self {
            responses: all.len(),
            sampled,
            routes: lines(of_routes),
            tags: lines(of_tags),
            prefixes: lines(of_prefixes),
            paths: lines(of_paths),
        }
    }
}

/// Responses, bytes, hits.
type SizeCounts<'n> = HashMap<&'n str, [u64; 3]>;

fn add_response<'n>(count: &mut SizeCounts<'n>, name: &'n str, response: &StoredResponse) {
    let [responses, bytes, uses] = count.entry(name).or_default();
    *responses += 1;
    *bytes += response.weight();
    *uses += u64::from(response.head.usage.use_count());
}

fn top_entries(count: SizeCounts<'_>, step: u64, limit: usize, by: SortBy) -> Vec<SizeEntry> {
    let line = |(name, figures): (&str, [u64; 3])| {
        let [responses, bytes, uses] = figures.map(|figure| figure * step);
        SizeEntry { name: name.to_owned(), responses, bytes, uses }
    };
    let mut lines: Vec<SizeEntry> = count.into_iter().map(line).collect();
    let figure = |line: &SizeEntry| match by {
        SortBy::Bytes => line.bytes,
        SortBy::Responses => line.responses,
        SortBy::Uses => line.uses,
    };
    lines.sort_by(|one, other| figure(other).cmp(&figure(one)).then_with(|| one.name.cmp(&other.name)));
    lines.truncate(limit);
    lines
}

/// Yields `/api`, `/api/courses` and `/api/courses/7` for the last of them.
fn path_prefixes(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.take(MAX_PREFIX_SEGMENTS).map(|end| &path[..end]).filter(|prefix| *prefix != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_under_those_above_it() {
        let of = |path| path_prefixes(path).collect::<Vec<_>>();
        assert_eq!(of("/api/courses/7/parts"), ["/api", "/api/courses", "/api/courses/7"]);
        assert_eq!(of("/api"), ["/api"]);
        assert_eq!(of("/"), [""; 0]);
    }

    #[test]
    fn the_query_says_how_many_and_by_what() {
        let query = |limit, by, covers_all_replicas| SizesQuery { limit, by, covers_all_replicas };
        assert_eq!(parse_query(None).unwrap(), query(20, SortBy::Bytes, false));
        assert_eq!(parse_query(Some("by=uses&limit=3")).unwrap(), query(3, SortBy::Uses, false));
        assert_eq!(parse_query(Some("scope=all&by=uses")).unwrap(), query(20, SortBy::Uses, true));
        for wrong in ["limit=0", "limit=1001", "by=name", "x=1", "scope=all", "scope=some"] {
            assert!(parse_query(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
