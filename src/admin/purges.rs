//! `GET /purges`: the journal of purges. It never discloses what is stored.

use serde::Serialize;

use super::query::query_pairs;
use super::response::AdminError;
use super::stats::format_rfc3339;
use crate::policy::secret_parameters::mask_parameters;
use crate::purge::{AuditFilter, AuditRecord, PurgeCause, PurgeVersion};
use crate::store::AuditPage;

const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 1000;

const QUERY_USAGE: &str = "`GET /purges` takes `limit` (1 to 1000), `since` (a position) and `tag`";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurgeList {
    purges: Vec<PurgeEntry>,
    /// Redis cannot be read, so only this replica's purges are listed.
    own_only: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurgeEntry {
    position: u64,
    at: String,
    #[serde(flatten)]
    why: PurgeCause,
    mode: &'static str,
    targets: Vec<String>,
    target_count: usize,
    replica: String,
}

pub(super) fn parse_query(query: Option<&str>) -> Result<AuditFilter, AdminError> {
    let mut asked = AuditFilter { limit: DEFAULT_LIMIT, since: PurgeVersion::default(), tag: None };
    for (name, value) in query_pairs(query)? {
        let wrong = || AdminError::bad_request(format!("invalid parameter `{name}={value}`"), QUERY_USAGE);
        match name.as_str() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                asked.limit = limit.ok_or_else(wrong)?;
            }
            "since" => asked.since = PurgeVersion(value.parse().map_err(|_| wrong())?),
            "tag" if !value.is_empty() => asked.tag = Some(value),
            _ => return Err(wrong()),
        }
    }
    Ok(asked)
}

impl PurgeList {
    pub(super) fn new(purges: AuditPage) -> Self {
        let own_only = !purges.of_all_replicas;
        Self { purges: purges.records.into_iter().map(PurgeEntry::from_record).collect(), own_only }
    }
}

impl PurgeEntry {
    pub(super) fn from_record(record: AuditRecord) -> Self {
        Self {
            position: record.position.0,
            at: format_rfc3339(record.at),
            why: record.cause,
            mode: if record.soft { "soft" } else { "hard" },
            targets: record.targets.iter().map(|target| mask_parameters(target).into_owned()).collect(),
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
        assert_eq!(parse_query(None).unwrap(), AuditFilter { limit: 100, since: PurgeVersion(0), tag: None });
        let query = "limit=7&since=12&tag=a+b%2Fc";
        assert_eq!(parse_query(Some(query)).unwrap(), AuditFilter { limit: 7, since: PurgeVersion(12), tag });
        for query in ["limit=0", "limit=1001", "limit=x", "since=-1", "tag=", "tags=a", "limit"] {
            assert!(parse_query(Some(query)).is_err(), "{query}");
        }
    }
}
