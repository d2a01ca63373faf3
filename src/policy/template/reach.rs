//! Overlap of templates: which tags could a template make, whatever the values? Answers "what purges what" without
//! a request. Values of slashes alone are ignored.

use super::{Template, TemplatePart};
use crate::purge::fold_case;

/// One position of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PatternToken {
    Letter(char),
    Any,
    /// Any number of characters.
    Rest,
}

impl Template {
    /// Whether purging a tag of this template could reach a response with `tag`.
    pub fn may_reach(&self, tag: &str) -> bool {
        can_reach(self.tokens(), letter_tokens(tag))
    }

    /// Whether purging a tag of this template could reach a response with a tag of `carried`.
    pub(crate) fn may_reach_any(&self, carried: &Template) -> bool {
        can_reach(self.tokens(), carried.tokens())
    }

    /// Whether a purge of `tag` could reach a tag of this template.
    pub(crate) fn may_be_reached_by(&self, tag: &str) -> bool {
        can_reach(letter_tokens(tag), self.tokens())
    }

    fn tokens(&self) -> Vec<PatternToken> {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => letter_tokens(text),
            // A value is never empty.
            TemplatePart::Value(_) => vec![PatternToken::Any, PatternToken::Rest],
        };
        self.parts.iter().flat_map(part).collect()
    }
}

fn letter_tokens(text: &str) -> Vec<PatternToken> {
    fold_case(text).chars().map(PatternToken::Letter).collect()
}

/// A purge reaches the tag and all tags below it; a trailing slash is ignored.
fn can_reach(mut purged: Vec<PatternToken>, carried: Vec<PatternToken>) -> bool {
    while purged.len() > 1 && purged.last() == Some(&PatternToken::Letter('/')) {
        purged.pop();
    }
    can_match_same(&purged, &carried) || {
        purged.extend([PatternToken::Letter('/'), PatternToken::Rest]);
        can_match_same(&purged, &carried)
    }
}

/// Whether some text matches both patterns.
fn can_match_same(one: &[PatternToken], other: &[PatternToken]) -> bool {
    // `after[j]`: whether the rest of `one` matches `other[j..]`.
    let rest_of_none = |tokens: &[PatternToken]| tokens.iter().all(|token| *token == PatternToken::Rest);
    let mut after: Vec<bool> = (0..=other.len()).map(|at| rest_of_none(&other[at..])).collect();
    for (i, token) in one.iter().enumerate().rev() {
        let mut now = vec![false; other.len() + 1];
        now[other.len()] = rest_of_none(&one[i..]);
        for (j, against) in other.iter().enumerate().rev() {
            now[j] = match (token, against) {
                (PatternToken::Rest, _) => after[j] || now[j + 1],
                (_, PatternToken::Rest) => now[j + 1] || after[j],
                (PatternToken::Letter(a), PatternToken::Letter(b)) => a == b && after[j + 1],
                (PatternToken::Any, _) | (_, PatternToken::Any) => after[j + 1],
            };
        }
        after = now;
    }
    after.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::purge::{NormalizedPath, Target};

    fn template(text: &str) -> Template {
        Template::parse(text).expect(text)
    }

    #[test]
    fn a_template_reaches_what_it_could_name_and_what_lies_below() {
        for (purged, carried, expected) in [
            ("courses", "courses", true),
            ("Courses", "courses", true),
            ("course:{id}", "course:7", true),
            ("course:{id}", "course:", false),
            ("course:{id}", "courses", false),
            ("course:{id}", "course:{query.x}", true),
            ("{a}:{b}", "course:{id}", true),
            ("{a}:x", "course:{id}", true),
            ("a{a}", "b{b}", false),
            // `ca` reaches `ca/b`.
            ("{a}a", "{b}b", true),
            ("tenant:{t}", "tenant:{t}/courses/{id}", true),
            ("tenant:{t}/", "tenant:a/courses", true),
            ("tenant:a/courses/{id}", "tenant:a/courses", false),
            ("tenant:a", "tenant:ab", false),
            ("a", "{a}", true),
        ] {
            assert_eq!(template(purged).may_reach_any(&template(carried)), expected, "{purged} {carried}");
        }
        assert!(template("course:{id}").may_reach("course:7/lessons"));
        assert!(template("course:{id}").may_be_reached_by("course:7"));
        assert!(!template("course:{id}").may_be_reached_by("courses"));
    }

    /// Values of slashes alone are excluded.
    const VALUE: &str = "/?[ab]{1,2}/?";

    proptest! {
        /// Every tag that a purge reaches is predicted.
        #[test]
        fn what_is_reached_could_be_reached(
            purged in "[ab/xy]{1,6}", carried in "[ab/xy]{1,6}", one in VALUE, other in VALUE,
        ) {
            let written = |text: &str| text.replace('x', "{1}").replace('y', "{2}");
            let made = |text: &str| text.replace('x', &one).replace('y', &other);
            let (named, tag) = (made(&purged), made(&carried));
            let targets = Target::ids_for_response("h", &NormalizedPath::new("/"), "", [tag.as_str()]);
            if targets.contains(&Target::tag(named.as_str()).id()) {
                let (purged, carried) = (template(&written(&purged)), template(&written(&carried)));
                prop_assert!(purged.may_reach_any(&carried), "{named} {tag}");
                prop_assert!(purged.may_reach(&tag) && carried.may_be_reached_by(&named), "{named} {tag}");
            }
        }
    }
}
