//! A purge as people read about it afterwards. Nothing depends on it: what is valid is the index's to say.

use serde::{Deserialize, Serialize};

use super::{Hardness, Position, Purge, Target};
use crate::clock::Timestamp;

/// More targets than this are counted and not named.
pub const NAMED: usize = 20;

/// No text is longer than so many bytes.
const LONGEST: usize = 256;

/// Why something was purged: the request that asked for it, or that changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Why {
    /// `write`, `purge-method`, `admin` …, as the metrics name it.
    pub source: String,
    /// The name of the route that a write came in by.
    pub route: Option<String>,
    pub method: Option<String>,
    pub path: Option<String>,
    /// Who sent it.
    pub from: Option<String>,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    #[serde(skip)]
    pub position: Position,
    /// On the store's clock.
    #[serde(skip)]
    pub at: Timestamp,
    #[serde(flatten)]
    pub why: Why,
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
pub struct Asked {
    pub limit: usize,
    /// Only those after this position.
    pub since: Position,
    /// Only those that name this tag, or everything.
    pub tag: Option<String>,
}

impl Record {
    /// `None` where nothing was purged: a mark was lifted.
    pub fn of(purge: &Purge, replica: &str) -> Option<Self> {
        if purge.targets.is_empty() {
            return None;
        }
        Some(Self {
            position: Position::default(),
            at: Timestamp::default(),
            why: purge.why.clone().unwrap_or_default().bounded(),
            soft: purge.hardness == Hardness::Soft,
            targets: purge.named(),
            target_count: purge.targets.len(),
            replica: replica.to_owned(),
        })
    }

    pub fn is_asked_for(&self, asked: &Asked) -> bool {
        let names = |tag: &String| {
            let named = bounded(&Target::tag(tag).to_string());
            self.targets.iter().any(|target| target == "everything" || target.eq_ignore_ascii_case(&named))
        };
        self.position > asked.since && asked.tag.as_ref().is_none_or(names)
    }
}

impl Purge {
    /// The first of its targets, as text.
    pub fn named(&self) -> Vec<String> {
        self.targets.iter().take(NAMED).map(|target| bounded(&target.to_string())).collect()
    }
}

impl Why {
    fn bounded(self) -> Self {
        let short = |text: Option<String>| text.map(|text| bounded(&text));
        Self {
            source: self.source,
            route: short(self.route),
            method: short(self.method),
            path: short(self.path),
            from: short(self.from),
            request_id: short(self.request_id),
        }
    }
}

fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::LoosePath;

    #[test]
    fn a_record_is_bounded_whatever_was_purged() {
        let why = Why { path: Some("/ü".repeat(5000)), ..Why::default() };
        let targets = (0..500).map(|number| Target::tag(format!("{number}{}", "x".repeat(5000)))).collect();
        let record = Record::of(&Purge { why: Some(why), ..Purge::hard(targets) }, "one").unwrap();
        assert_eq!((record.targets.len(), record.target_count), (NAMED, 500));
        assert!(serde_json::to_string(&record).unwrap().len() < 8 * 1024);
        assert!(Record::of(&Purge::hard(Vec::new()), "one").is_none());
    }

    #[test]
    fn records_are_asked_for_by_position_and_tag() {
        let record = |target| {
            let record = Record::of(&Purge::hard(vec![target]), "one").unwrap();
            Record { position: Position(7), ..record }
        };
        let asked = |since, tag: &str| Asked { limit: 1, since: Position(since), tag: Some(tag.into()) };
        let long = "x".repeat(500);
        for (target, since, tag, expected) in [
            (Target::tag("Courses"), 6, "courses", true),
            (Target::tag("courses"), 7, "courses", false),
            (Target::tag("course"), 0, "courses", false),
            (Target::tag(long.clone()), 0, &*long, true),
            (Target::Everything, 0, "courses", true),
            (Target::Path { host: None, path: LoosePath::new("/courses") }, 0, "courses", false),
        ] {
            assert_eq!(record(target.clone()).is_asked_for(&asked(since, tag)), expected, "{target}");
        }
        assert!(record(Target::tag("a")).is_asked_for(&Asked { tag: None, ..asked(0, "") }));
    }
}
