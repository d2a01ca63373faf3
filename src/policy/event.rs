//! What a change event purges: its JSON, in the templates of its source. What an event does not say is widened to all
//! that the source can name: an event too few is a stale answer.

#[cfg(test)]
mod tests;

use http::{HeaderMap, Method};

use super::content::Content;
use super::json_query::JsonQuery;
use super::routes::Routes;
use super::tags::{LISTED, MAX_TAG_BYTES, MAX_TAGS};
use super::template::{Sources, Template};
use super::{RequestHead, Route};
use crate::purge::{LoosePath, Target};

/// A larger event is not read.
pub const MAX_EVENT: usize = 1024 * 1024;

/// What the events of one source mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    pub purge: Vec<Template>,
    /// All must hold; an event that lacks a value may mean it.
    pub when: Vec<Condition>,
}

/// A value of the event is one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub value: JsonQuery,
    pub one_of: Vec<String>,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It said what to purge.
    Named,
    /// It lacked a value, or had one that no tag can be made of: more was purged.
    Widened,
    /// It could not be read: all that the source can name was purged.
    Malformed,
    /// It is about something else (`when`).
    Ignored,
}

impl Meaning {
    pub const ALL: [Meaning; 4] = [Meaning::Named, Meaning::Widened, Meaning::Malformed, Meaning::Ignored];

    pub fn as_str(self) -> &'static str {
        match self {
            Meaning::Named => "named",
            Meaning::Widened => "widened",
            Meaning::Malformed => "malformed",
            Meaning::Ignored => "ignored",
        }
    }
}

impl EventRule {
    /// Adds to `targets` what the event purges. `None`: it can't be read.
    pub fn apply(&self, routes: &Routes, event: Option<&Content>, targets: &mut Vec<Target>) -> Meaning {
        let Some(event) = event else {
            self.add_everything(routes, targets);
            return Meaning::Malformed;
        };
        if self.when.iter().any(|condition| condition.fails(event)) {
            return Meaning::Ignored;
        }
        let mut meaning = Meaning::Named;
        for template in &self.purge {
            let tags = render(template, event).unwrap_or_default();
            let is_short = |tag: &String| tag.len() <= MAX_TAG_BYTES;
            if !(1..=MAX_TAGS).contains(&tags.len()) || !tags.iter().all(is_short) {
                meaning = Meaning::Widened;
                widen(template, routes, targets);
            }
            targets.extend(tags.into_iter().filter(is_short).map(Target::Tag));
        }
        meaning
    }

    /// All that its events could name: for those that were missed or can't be read.
    pub fn add_everything(&self, routes: &Routes, targets: &mut Vec<Target>) {
        for template in &self.purge {
            match template.is_literal() {
                true => targets.push(Target::tag(template.beginning())),
                false => widen(template, routes, targets),
            }
        }
    }

    /// Whether one of its events can purge what this route stores.
    pub fn reaches(&self, route: &Route) -> bool {
        self.purge.iter().any(|purged| route.tags.iter().any(|tag| purged.may_reach_some_of(tag)))
    }
}

/// To the paths of each route that has such tags, and to all responses whose own fields list tags.
fn widen(template: &Template, routes: &Routes, targets: &mut Vec<Target>) {
    let reached = routes.iter().filter(|route| route.tags.iter().any(|tag| template.may_reach_some_of(tag)));
    let paths: Vec<LoosePath> = reached.map(|route| route.path.literal_prefix()).collect();
    if paths.is_empty() || template.beginning().is_empty() {
        targets.push(Target::Everything);
    }
    targets.push(Target::tag(LISTED));
    targets.extend(paths.into_iter().map(|path| Target::Prefix { host: None, path }));
}

/// `None`: there is a value that no tag can be made of.
fn render(template: &Template, event: &Content) -> Option<Vec<String>> {
    let headers = HeaderMap::new();
    let sources = Sources {
        request: RequestHead::new(&Method::POST, "/", &headers),
        captures: &[],
        request_content: Some(event),
        response_headers: None,
        response_content: None,
    };
    template.render(&sources).ok()
}

impl Condition {
    fn fails(&self, event: &Content) -> bool {
        let Some(document) = event.json() else { return false };
        let texts: Result<Vec<String>, _> = self.value.texts(document).take(MAX_TAGS).collect();
        texts.is_ok_and(|texts| !texts.is_empty() && !texts.iter().any(|text| self.one_of.contains(text)))
    }
}
