//! A purge as people read about it afterwards. Nothing depends on it: what is valid is the index's to say.

use serde::{Deserialize, Serialize};

use super::spelling::fold_case;
use super::{Purge, PurgeMode, PurgeVersion, Target};
use crate::clock::Timestamp;

/// More targets than this are counted and not named.
pub(crate) const MAX_NAMED_TARGETS: usize = 20;

/// No text is longer than so many bytes.
const MAX_TEXT_BYTES: usize = 256;

/// Why something was purged: the request that asked for it, or that changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PurgeCause {
    /// `write`, `purge-method`, `admin` …, as the metrics name it.
    pub source: String,
    /// The name of the route that a write came in by.
    pub route: Option<String>,
    /// The method of the write.
    pub method: Option<String>,
    /// The path of the write.
    pub path: Option<String>,
    /// The sender.
    pub from: Option<String>,
    /// `X-Request-Id`.
    pub(crate) request_id: Option<String>,
    /// The reason was another purge, which larder announced. No announcement of such a purge is followed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) relayed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditRecord {
    #[serde(skip)]
    pub position: PurgeVersion,
    /// On the store's clock.
    #[serde(skip)]
    pub at: Timestamp,
    #[serde(flatten)]
    pub cause: PurgeCause,
    pub soft: bool,
    /// The first of them, as text.
    pub targets: Vec<String>,
    /// How many there were.
    pub target_count: usize,
    /// Which replica took it.
    pub replica: String,
}

/// Which records are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFilter {
    /// The most records to return.
    pub limit: usize,
    /// Only those after this position.
    pub since: PurgeVersion,
    /// Only those that name this tag, or everything.
    pub tag: Option<String>,
}

impl AuditRecord {
    /// `None` where nothing was purged: a mark was lifted.
    pub(crate) fn from_purge(purge: &Purge, replica: &str) -> Option<Self> {
        if purge.targets.is_empty() {
            return None;
        }
        Some(Self {
            position: PurgeVersion::default(),
            at: Timestamp::default(),
            cause: purge.cause.clone().unwrap_or_default().bounded(),
            soft: purge.mode == PurgeMode::Soft,
            targets: purge.describe_targets(),
            target_count: purge.targets.len(),
            replica: replica.to_owned(),
        })
    }

    pub(crate) fn matches(&self, asked: &AuditFilter) -> bool {
        let names = |tag: &String| {
            let named = fold_case(&bounded(&Target::tag(tag).to_string()));
            self.targets.iter().any(|target| target == "everything" || fold_case(target) == named)
        };
        self.position > asked.since && asked.tag.as_ref().is_none_or(names)
    }
}

impl Purge {
    /// The first of its targets, as text.
    pub(crate) fn describe_targets(&self) -> Vec<String> {
        self.targets.iter().take(MAX_NAMED_TARGETS).map(|target| bounded(&target.to_string())).collect()
    }
}

impl PurgeCause {
    fn bounded(self) -> Self {
        let short = |text: Option<String>| text.map(|text| bounded(&text));
        Self {
            source: self.source,
            route: short(self.route),
            method: short(self.method),
            path: short(self.path),
            from: short(self.from),
            request_id: short(self.request_id),
            relayed: self.relayed,
        }
    }
}

fn bounded(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(MAX_TEXT_BYTES);
    format!("{}…", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::NormalizedPath;

    #[test]
    fn a_record_is_bounded_whatever_was_purged() {
        let why = PurgeCause { path: Some("/ü".repeat(5000)), ..PurgeCause::default() };
        let targets = (0..500).map(|number| Target::tag(format!("{number}{}", "x".repeat(5000)))).collect();
        let record =
            AuditRecord::from_purge(&Purge { cause: Some(why), ..Purge::hard(targets) }, "one").unwrap();
        assert_eq!((record.targets.len(), record.target_count), (MAX_NAMED_TARGETS, 500));
        assert!(serde_json::to_string(&record).unwrap().len() < 8 * 1024);
        assert!(AuditRecord::from_purge(&Purge::hard(Vec::new()), "one").is_none());
    }

    #[test]
    fn records_are_asked_for_by_position_and_tag() {
        let record = |target| {
            let record = AuditRecord::from_purge(&Purge::hard(vec![target]), "one").unwrap();
            AuditRecord { position: PurgeVersion(7), ..record }
        };
        let asked =
            |since, tag: &str| AuditFilter { limit: 1, since: PurgeVersion(since), tag: Some(tag.into()) };
        let long = "x".repeat(500);
        for (target, since, tag, expected) in [
            (Target::tag("Courses"), 6, "courses", true),
            (Target::tag("courses"), 7, "courses", false),
            (Target::tag("course"), 0, "courses", false),
            (Target::tag(long.clone()), 0, &*long, true),
            (Target::Everything, 0, "courses", true),
            (Target::Path { host: None, path: NormalizedPath::new("/courses") }, 0, "courses", false),
        ] {
            assert_eq!(record(target.clone()).matches(&asked(since, tag)), expected, "{target}");
        }
        assert!(record(Target::tag("a")).matches(&AuditFilter { tag: None, ..asked(0, "") }));
    }
}
