//! A route that the path of a write matches, and the rules by which it names tags.

use std::sync::Arc;

use super::write_exchange::WriteExchange;
use crate::policy::purge_targets::{PurgeOptions, PurgeRule};
use crate::policy::template::{RenderLimits, RenderedTexts, Template, TemplateContext};
use crate::policy::{RequestHead, Route};

/// A route that a path matches in one or more readings.
#[derive(Debug)]
pub(super) struct RouteMatch<'r> {
    pub(super) route: &'r Arc<Route>,
    /// The distinct values of its path's parameters.
    pub(super) captures: Vec<Vec<(&'r str, String)>>,
}

impl RouteMatch<'_> {
    /// Renders the tags of the usable values. `None`: finding all values takes too long.
    pub(super) fn render(
        &self,
        template: &Template,
        request: &RequestHead<'_>,
        WriteExchange { request_content, response_headers, response_content, .. }: WriteExchange<'_>,
        limits: RenderLimits<'_>,
    ) -> Option<RenderedTexts> {
        let mut tags = RenderedTexts::complete(Vec::new());
        let readings = if template.path_parameters().next().is_some() { self.captures.len() } else { 1 };
        for captures in self.captures.iter().take(readings) {
            let request = *request;
            let context = TemplateContext {
                request,
                captures,
                request_content,
                response_headers,
                response_content,
                limits,
            };
            let rendered = template.render_usable(&context).ok()?;
            tags.texts.extend(rendered.texts);
            tags.is_complete &= rendered.is_complete;
        }
        Some(tags)
    }

    /// The templates of the route with their options; `purges` overrides the options of an equal tag.
    pub(super) fn rules(&self) -> impl Iterator<Item = MatchedRule<'_>> {
        let purges = || self.route.purges.iter().flatten();
        let own = self.route.tags.iter().filter(move |tag| !purges().any(|rule| rule.template == **tag));
        let tag = |template| MatchedRule { template, options: PurgeOptions::default(), otherwise: &[] };
        own.map(tag).chain(purges().map(MatchedRule::from))
    }
}

/// A template of a route, with how its tags are purged.
pub(super) struct MatchedRule<'r> {
    pub(super) template: &'r Template,
    pub(super) options: PurgeOptions,
    pub(super) otherwise: &'r [String],
}

impl<'r> From<&'r PurgeRule> for MatchedRule<'r> {
    fn from(PurgeRule { template, options, otherwise }: &'r PurgeRule) -> Self {
        Self { template, options: *options, otherwise }
    }
}
