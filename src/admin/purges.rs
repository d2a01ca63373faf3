//! `GET /purges`: what was purged, when, by whom and why. It never says what is stored.

use serde::Serialize;

use super::answer::Refusal;
use super::stats::rfc3339;
use crate::purge::{Asked, Position, Record, Why};
use crate::store::Purges;

const FEW: usize = 100;
const MOST: usize = 1000;

const FIX: &str = "`GET /purges` takes `limit` (1 to 1000), `since` (a position) and `tag`";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    purges: Vec<Line>,
    /// Redis can't be read: these are the purges that this replica took.
    own_only: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    position: u64,
    at: String,
    #[serde(flatten)]
    why: Why,
    mode: &'static str,
    targets: Vec<String>,
    target_count: usize,
    replica: String,
}

pub fn asked(query: Option<&str>) -> Result<Asked, Refusal> {
    let mut asked = Asked { limit: FEW, since: Position::default(), tag: None };
    for (name, value) in pairs(query)? {
        let wrong = || Refusal::bad_request(format!("`{name}={value}` can't be read"), FIX);
        match name.as_str() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                asked.limit = limit.ok_or_else(wrong)?;
            }
            "since" => asked.since = Position(value.parse().map_err(|_| wrong())?),
            "tag" if !value.is_empty() => asked.tag = Some(value),
            _ => return Err(wrong()),
        }
    }
    Ok(asked)
}

/// The parameters of a query, decoded.
pub fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, Refusal> {
    let decoded = |text: &str| {
        super::purge_request::percent_decoded(&text.replace('+', " "))
            .ok_or_else(|| Refusal::bad_request("the query is not UTF-8", "write it as %XX"))
    };
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

impl Told {
    pub fn new(purges: Purges) -> Self {
        let own_only = !purges.of_all_replicas;
        Self { purges: purges.records.into_iter().map(Line::of).collect(), own_only }
    }
}

impl Line {
    pub fn of(record: Record) -> Self {
        Self {
            position: record.position.0,
            at: rfc3339(record.at),
            why: record.why,
            mode: if record.soft { "soft" } else { "hard" },
            targets: record.targets,
            target_count: record.target_count,
            replica: record.replica,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_and_how_many() {
        let tag = Some("a b/c".to_owned());
        assert_eq!(asked(None).unwrap(), Asked { limit: 100, since: Position(0), tag: None });
        let query = "limit=7&since=12&tag=a+b%2Fc";
        assert_eq!(asked(Some(query)).unwrap(), Asked { limit: 7, since: Position(12), tag });
        for query in ["limit=0", "limit=1001", "limit=x", "since=-1", "tag=", "tags=a", "limit"] {
            assert!(asked(Some(query)).is_err(), "{query}");
        }
    }
}
