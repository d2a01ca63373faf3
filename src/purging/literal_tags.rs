//! Refuses tags that were meant as a pattern or a list, so that no acknowledged purge does nothing: tags are compared
//! literally.

use super::Purger;
use crate::policy::purge_scope::route_tags;
use crate::policy::template::escape_value;
use crate::purge::Target;

impl Purger {
    /// Checks the tags that look like a pattern or a list. One that a route names literally, or that a response here
    /// carries, is meant as it is written.
    ///
    /// # Errors
    /// For the client: the tag, and what to do.
    pub(crate) async fn check_tags(&self, targets: &[Target]) -> Result<(), (String, &'static str)> {
        let is_odd = |tag: &&str| tag.contains(is_never_rendered);
        let odd: Vec<&str> = targets
            .iter()
            .filter_map(|target| match target {
                Target::Tag(tag) => Some(tag.as_str()),
                _ => None,
            })
            .filter(is_odd)
            .collect();
        if odd.is_empty() {
            return Ok(());
        }
        let forms = |tag: &str| [Target::tag(tag), Target::tag(escape_value(tag))];
        let all: Vec<Target> = odd.iter().flat_map(|tag| forms(tag)).collect();
        // Among too many responses it can't be found out: then the tag is purged as it is written.
        let Some(matched) = self.count_matches(&all).await else { return Ok(()) };
        let known = route_tags(&self.routes);
        let is_carried = |tag: &str| forms(tag).iter().any(|form| matched.targets.contains(&form.id()));
        let is_meant =
            |tag: &&str| is_carried(tag) || (!tag.contains('{') && known.iter().any(|it| it == tag));
        match odd.into_iter().find(|tag| !is_meant(tag)) {
            Some(tag) => Err((format!("no response here carries the tag {tag:?}"), choose_fix(tag))),
            None => Ok(()),
        }
    }
}

/// Whether no template renders the character, or it is an operator of patterns.
pub(super) fn is_never_rendered(c: char) -> bool {
    matches!(c, '*' | '{' | '}' | '|' | ',') || c.is_control()
}

fn choose_fix(tag: &str) -> &'static str {
    if tag.contains(['*', '{', '}']) {
        "tags are compared literally: name each tag, or one that all of the responses carry"
    } else if tag.contains(['|', ',']) {
        "name each tag by itself"
    } else {
        "leave out the control characters"
    }
}
