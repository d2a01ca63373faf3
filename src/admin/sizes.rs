//! `GET /sizes`: what this replica's memory is full of, by route, tag and path. From a sample of it; Redis is not asked.

use std::collections::HashMap;

use serde::Serialize;

use super::answer::Refusal;
use super::purges::pairs;
use crate::clock::Timestamp;
use crate::policy::routes::Routes;
use crate::purge::Validity;
use crate::store::Store;
use crate::stored_response::StoredResponse;

const FEW: usize = 20;
const MOST: usize = 1000;

/// Of more responses than that, one of so many is looked at.
const SAMPLE: usize = 10_000;

/// Prefixes of a path are counted down to so many segments.
const DEPTH: usize = 3;

const FIX: &str = "`GET /sizes` takes `limit` (1 to 1000) and `by` (bytes, responses or uses)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Bytes,
    Responses,
    Uses,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// What is here, valid or not.
    responses: usize,
    /// Of which so many were looked at; the figures below are of all, by their share in these.
    sampled: usize,
    routes: Vec<Line>,
    tags: Vec<Line>,
    /// Of responses that were used: the path of one that nobody has asked for again is not known.
    prefixes: Vec<Line>,
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    name: String,
    responses: u64,
    bytes: u64,
    /// How often they were given to clients since they were stored.
    uses: u64,
}

pub fn asked(query: Option<&str>) -> Result<(usize, By), Refusal> {
    let (mut limit, mut by) = (FEW, By::Bytes);
    for (name, value) in pairs(query)? {
        let wrong = || Refusal::bad_request(format!("`{name}={value}` can't be read"), FIX);
        match (name.as_str(), value.as_str()) {
            ("limit", value) => {
                let given = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = given.ok_or_else(wrong)?;
            }
            ("by", "bytes") => by = By::Bytes,
            ("by", "responses") => by = By::Responses,
            ("by", "uses") => by = By::Uses,
            _ => return Err(wrong()),
        }
    }
    Ok((limit, by))
}

impl Sizes {
    /// Takes a moment, in which nothing else should wait.
    pub fn of(store: &dyn Store, routes: &Routes, now: Timestamp, limit: usize, by: By) -> Self {
        let all = store.known_here();
        let step = all.len().div_ceil(SAMPLE).max(1);
        let names: HashMap<_, _> = routes.iter().map(|route| (route.fingerprint.0, &route.name)).collect();
        let mut sampled = 0;
        let (mut of_routes, mut of_tags, mut of_prefixes) = (Count::new(), Count::new(), Count::new());
        for response in all.iter().step_by(step) {
            let head = &response.head;
            sampled += 1;
            if head.terms().expires_at <= now || store.judge(&head.stamp, &head.targets) == Validity::Dead {
                continue;
            }
            if let Some(name) = names.get(&head.fingerprint.0) {
                add(&mut of_routes, name, response);
            }
            head.tags().for_each(|tag| add(&mut of_tags, tag, response));
            if let Some(path) = head.usage.path() {
                prefixes(path).for_each(|prefix| add(&mut of_prefixes, prefix, response));
            }
        }
        let lines = |count| lines(count, step as u64, limit, by);
        let (routes, tags, prefixes) = (lines(of_routes), lines(of_tags), lines(of_prefixes));
        Self { responses: all.len(), sampled, routes, tags, prefixes }
    }
}

/// Responses, bytes, uses.
type Count<'n> = HashMap<&'n str, [u64; 3]>;

fn add<'n>(count: &mut Count<'n>, name: &'n str, response: &StoredResponse) {
    let [responses, bytes, uses] = count.entry(name).or_default();
    *responses += 1;
    *bytes += response.weight();
    *uses += u64::from(response.head.usage.uses());
}

fn lines(count: Count<'_>, step: u64, limit: usize, by: By) -> Vec<Line> {
    let line = |(name, figures): (&str, [u64; 3])| {
        let [responses, bytes, uses] = figures.map(|figure| figure * step);
        Line { name: name.to_owned(), responses, bytes, uses }
    };
    let mut lines: Vec<Line> = count.into_iter().map(line).collect();
    let figure = |line: &Line| match by {
        By::Bytes => line.bytes,
        By::Responses => line.responses,
        By::Uses => line.uses,
    };
    lines.sort_by(|one, other| figure(other).cmp(&figure(one)).then_with(|| one.name.cmp(&other.name)));
    lines.truncate(limit);
    lines
}

/// `/api`, `/api/courses`, `/api/courses/7` of the last.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.take(DEPTH).map(|end| &path[..end]).filter(|prefix| *prefix != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_under_those_above_it() {
        let of = |path| prefixes(path).collect::<Vec<_>>();
        assert_eq!(of("/api/courses/7/parts"), ["/api", "/api/courses", "/api/courses/7"]);
        assert_eq!(of("/api"), ["/api"]);
        assert_eq!(of("/"), [""; 0]);
    }

    #[test]
    fn the_query_says_how_many_and_by_what() {
        assert_eq!(asked(None).unwrap(), (20, By::Bytes));
        assert_eq!(asked(Some("by=uses&limit=3")).unwrap(), (3, By::Uses));
        for wrong in ["limit=0", "limit=1001", "by=name", "x=1"] {
            assert!(asked(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
