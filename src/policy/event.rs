//! The purges of a change event: its JSON, applied to the templates of its source.
//!
//! An event that lacks a value purges the routes whose tags it could mean. Events that were missed, or that cannot be
//! read, purge everything that the source can name.

mod announcement;
mod condition;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::content::Content;
use super::invalidation::route_target;
use super::purge_targets::{PurgeOptions, PurgeRule, PurgeTargets, TargetOrigin};
use super::routes::Routes;
use super::tags::{LISTED_TAG, MAX_TAG_BYTES, MAX_TAGS};
use super::template::{EVENT_CHANNEL, RenderLimits, RenderedTexts, Template, TemplateContext};
use super::{RequestHead, Route};
use crate::purge::Target;
use announcement::{Announcement, find_announcement};
pub use condition::EventCondition;
pub(crate) use condition::ListedValue;

/// Larger events are not read.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The rules for the events of one source. Each applies on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRules(pub Vec<EventRule>);

/// The purges of the events that fulfil conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// The rules that render the targets.
    pub purge: Vec<PurgeRule>,
    /// All must hold; an event without the value may be meant.
    pub when: Vec<EventCondition>,
}

/// A change event as it arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChangeEvent<'e> {
    /// `None`: it cannot be read.
    pub content: Option<&'e Content>,
    /// The Redis channel on which it came.
    pub channel: Option<&'e str>,
}

impl<'e> From<Option<&'e Content>> for ChangeEvent<'e> {
    fn from(content: Option<&'e Content>) -> Self {
        Self { content, channel: None }
    }
}

/// The targets of several events.
#[derive(Debug, Default)]
pub struct EventTargets {
    /// Those of events from elsewhere.
    pub targets: PurgeTargets,
    /// Those that are named by announcements of purges. Announced again, they purge nothing, so that services that follow
    /// each other, or themselves, do not purge for ever.
    pub relayed: PurgeTargets,
}

/// The result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// All tags were named.
    Named,
    /// A value was missing or unusable: more was purged.
    Widened,
    /// The event could not be read: everything that the source can name was purged.
    Malformed,
    /// No rule's conditions hold, or it announces a purge that an announcement caused.
    Ignored,
}

impl EventOutcome {
    /// All outcomes.
    pub const ALL: [EventOutcome; 4] =
        [EventOutcome::Named, EventOutcome::Widened, EventOutcome::Malformed, EventOutcome::Ignored];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EventOutcome::Named => "named",
            EventOutcome::Widened => "widened",
            EventOutcome::Malformed => "malformed",
            EventOutcome::Ignored => "ignored",
        }
    }
}

impl EventRules {
    /// Adds the targets of an event; `None`: it cannot be read.
    pub fn apply(&self, routes: &Routes, event: Option<&Content>, found: &mut EventTargets) -> EventOutcome {
        self.apply_event(routes, event.into(), found)
    }

    /// Adds the targets of an event.
    pub(crate) fn apply_event(
        &self,
        routes: &Routes,
        event: ChangeEvent<'_>,
        found: &mut EventTargets,
    ) -> EventOutcome {
        if event.content.is_none() && !self.need_channel_alone() {
            self.add_all_reachable(routes, &mut found.targets);
            return EventOutcome::Malformed;
        }
        let targets = match event.content.and_then(Content::json).and_then(find_announcement) {
            None => &mut found.targets,
            Some(Announcement::Original) => &mut found.relayed,
            Some(Announcement::Relayed) => return EventOutcome::Ignored,
        };
        let outcomes: Vec<_> = self.0.iter().map(|rule| rule.apply(routes, event, targets)).collect();
        let by_severity = [EventOutcome::Widened, EventOutcome::Named];
        by_severity.into_iter().find(|outcome| outcomes.contains(outcome)).unwrap_or(EventOutcome::Ignored)
    }

    /// Whether all is said by the channel, whatever is in the messages.
    fn need_channel_alone(&self) -> bool {
        let templates = || self.0.iter().flat_map(|rule| &rule.purge).map(|rule| &rule.template);
        self.0.iter().all(|rule| rule.when.is_empty())
            && templates().any(Template::reads_event_channel)
            && !templates().any(Template::reads_event_content)
    }

    /// Adds everything that events of the source can name, for events that were missed or cannot be read.
    pub fn add_all_reachable(&self, routes: &Routes, targets: &mut PurgeTargets) {
        self.0.iter().for_each(|rule| rule.add_all_reachable(routes, targets));
    }

    /// Whether one of its events can purge a response of this route.
    pub(crate) fn can_reach(&self, route: &Route) -> bool {
        self.0.iter().any(|rule| rule.can_reach(route))
    }
}

impl EventRule {
    fn apply(&self, routes: &Routes, event: ChangeEvent<'_>, targets: &mut PurgeTargets) -> EventOutcome {
        let document = event.content.and_then(Content::json);
        if document.is_some_and(|it| self.when.iter().any(|condition| condition.is_refuted_by(it))) {
            return EventOutcome::Ignored;
        }
        let mut outcome = EventOutcome::Named;
        for PurgeRule { template, options, otherwise } in &self.purge {
            let RenderedTexts { texts: tags, is_complete } = render(template, event);
            let is_short = |tag: &String| tag.len() <= MAX_TAG_BYTES;
            if !is_complete || !(1..=MAX_TAGS).contains(&tags.len()) || !tags.iter().all(is_short) {
                outcome = EventOutcome::Widened;
                let options = PurgeOptions { at_most_every: Duration::ZERO, ..*options };
                let mut add = |target| targets.insert(target, TargetOrigin::Widened, options);
                let reached: Vec<_> = reached_routes(template, routes).collect();
                reached.iter().for_each(|route| add(route_target(route)));
                otherwise.iter().for_each(|tag| add(Target::tag(tag)));
                if reached.is_empty() && otherwise.is_empty() {
                    add(Target::tag(LISTED_TAG));
                }
            }
            for tag in tags.into_iter().filter(is_short) {
                targets.insert(Target::Tag(tag), TargetOrigin::Named, *options);
            }
        }
        outcome
    }

    fn add_all_reachable(&self, routes: &Routes, targets: &mut PurgeTargets) {
        for template in self.purge.iter().map(|rule| &rule.template) {
            if template.is_literal() {
                targets.insert_named(Target::tag(template.literal_prefix()));
                continue;
            }
            let reached: Vec<_> = reached_routes(template, routes).collect();
            if reached.is_empty() || template.literal_prefix().is_empty() {
                targets.insert_widened(Target::Everything);
            }
            targets.insert_widened(Target::tag(LISTED_TAG));
            reached.iter().for_each(|route| targets.insert_widened(route_target(route)));
        }
    }

    fn can_reach(&self, route: &Route) -> bool {
        self.purge.iter().any(|rule| route.tags.iter().any(|tag| rule.template.may_reach_any(tag)))
    }
}

/// The routes with tags that the template could make.
fn reached_routes<'r>(template: &Template, routes: &'r Routes) -> impl Iterator<Item = &'r Arc<Route>> {
    routes.iter().filter(|route| route.tags.iter().any(|tag| template.may_reach_any(tag)))
}

fn render(template: &Template, event: ChangeEvent<'_>) -> RenderedTexts {
    let headers = HeaderMap::new();
    let channel = event.channel.map(|channel| (EVENT_CHANNEL, channel.to_owned()));
    let captures: Vec<_> = channel.into_iter().collect();
    let sources = TemplateContext {
        request: RequestHead::new(&Method::POST, "/", &headers),
        captures: &captures,
        request_content: event.content,
        response_headers: None,
        response_content: None,
        limits: RenderLimits::RESPONSE,
    };
    template.render_usable(&sources).unwrap_or(RenderedTexts::NONE)
}
