//! Which tags a template could make, whatever the values: for those who ask what purges what, before there is a request.
//! Values of slashes alone are not thought of.

use super::{Part, Template};

/// One place of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Letter(char),
    Any,
    /// None or more.
    Rest,
}

impl Template {
    /// Whether a purge of a tag that this makes could reach a response that carries `tag`.
    pub fn may_reach(&self, tag: &str) -> bool {
        reaches(self.tokens(), letters(tag).collect())
    }

    /// Whether a purge of a tag that this makes could reach a tag that `carried` makes.
    pub fn may_reach_some_of(&self, carried: &Template) -> bool {
        reaches(self.tokens(), carried.tokens())
    }

    /// Whether this could make a tag that a purge of `tag` reaches.
    pub fn may_be_reached_by(&self, tag: &str) -> bool {
        reaches(letters(tag).collect(), self.tokens())
    }

    fn tokens(&self) -> Vec<Token> {
        let part = |part: &Part| match part {
            Part::Literal(text) => letters(text).collect(),
            // A value is never empty.
            Part::Value(_) => vec![Token::Any, Token::Rest],
        };
        self.parts.iter().flat_map(part).collect()
    }
}

fn letters(text: &str) -> impl Iterator<Item = Token> + '_ {
    text.chars().map(|c| Token::Letter(c.to_ascii_lowercase()))
}

/// A purge reaches the tag itself and all that lies below it; a slash at its end says nothing.
fn reaches(mut purged: Vec<Token>, carried: Vec<Token>) -> bool {
    while purged.len() > 1 && purged.last() == Some(&Token::Letter('/')) {
        purged.pop();
    }
    meet(&purged, &carried) || {
        purged.extend([Token::Letter('/'), Token::Rest]);
        meet(&purged, &carried)
    }
}

/// Whether some text is of both patterns.
fn meet(one: &[Token], other: &[Token]) -> bool {
    // `after[j]`: whether what is left of `one` meets `other[j..]`.
    let rest_of_none = |tokens: &[Token]| tokens.iter().all(|token| *token == Token::Rest);
    let mut after: Vec<bool> = (0..=other.len()).map(|at| rest_of_none(&other[at..])).collect();
    for (i, token) in one.iter().enumerate().rev() {
        let mut now = vec![false; other.len() + 1];
        now[other.len()] = rest_of_none(&one[i..]);
        for (j, against) in other.iter().enumerate().rev() {
            now[j] = match (token, against) {
                (Token::Rest, _) => after[j] || now[j + 1],
                (_, Token::Rest) => now[j + 1] || after[j],
                (Token::Letter(a), Token::Letter(b)) => a == b && after[j + 1],
                (Token::Any, _) | (_, Token::Any) => after[j + 1],
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
    use crate::purge::{LoosePath, Target};

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
            assert_eq!(
                template(purged).may_reach_some_of(&template(carried)),
                expected,
                "{purged} {carried}"
            );
        }
        assert!(template("course:{id}").may_reach("course:7/lessons"));
        assert!(template("course:{id}").may_be_reached_by("course:7"));
        assert!(!template("course:{id}").may_be_reached_by("courses"));
    }

    /// Nobody names a thing by slashes alone; who did would purge what lies above it.
    const VALUE: &str = "/?[ab]{1,2}/?";

    proptest! {
        /// What a purge really reaches is never left out.
        #[test]
        fn what_is_reached_could_be_reached(
            purged in "[ab/xy]{1,6}", carried in "[ab/xy]{1,6}", one in VALUE, other in VALUE,
        ) {
            let written = |text: &str| text.replace('x', "{1}").replace('y', "{2}");
            let made = |text: &str| text.replace('x', &one).replace('y', &other);
            let (named, tag) = (made(&purged), made(&carried));
            let targets = Target::all_of("h", &LoosePath::new("/"), "", [tag.as_str()]);
            if targets.contains(&Target::tag(named.as_str()).id()) {
                let (purged, carried) = (template(&written(&purged)), template(&written(&carried)));
                prop_assert!(purged.may_reach_some_of(&carried), "{named} {tag}");
                prop_assert!(purged.may_reach(&tag) && carried.may_be_reached_by(&named), "{named} {tag}");
            }
        }
    }
}
