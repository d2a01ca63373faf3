//! Segments that stand for whoever sends the request: `/users/me`.

use super::{AffixedParameter, PathTemplate, Segment};

/// Names of segments that stand for the caller, in lower case, and letters and digits alone.
const CALLER_SEGMENTS: [&str; 22] = [
    "account",
    "authenticated",
    "authenticateduser",
    "current",
    "currentaccount",
    "currentuser",
    "identity",
    "loggedin",
    "loggedinuser",
    "me",
    "mine",
    "my",
    "myaccount",
    "myprofile",
    "myself",
    "own",
    "profile",
    "self",
    "session",
    "userinfo",
    "viewer",
    "whoami",
];

/// Whether a segment is one of [`CALLER_SEGMENTS`], in any case and spelling: `current_user`.
pub(crate) fn is_caller_segment(segment: &str) -> bool {
    let letters = || segment.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'$' | b'@' | b'!'));
    let is = |known: &&str| letters().map(|byte| byte.to_ascii_lowercase()).eq(known.bytes());
    CALLER_SEGMENTS.iter().any(is)
}

/// Formats that frameworks take off the end of a segment: `/users/me.json`.
const FORMATS: [&str; 7] = ["api", "csv", "html", "json", "jsonld", "xml", "yaml"];

impl PathTemplate {
    /// Whether a parameter has a value that stands for the caller, in some spelling, in a path that the template matches.
    pub(crate) fn names_caller_in(&self, path: &str) -> bool {
        // By bytes, since each request to a shared route comes here.
        let mut values = path.as_bytes().split(|byte| *byte == b'/').skip(1);
        self.segments.iter().any(|segment| match segment {
            Segment::Rest(_) => values.any(stands_for_caller),
            segment => values.next().is_some_and(|value| match segment {
                Segment::Parameter(_) => stands_for_caller(value),
                Segment::Affixed(AffixedParameter { prefix, suffix, .. }) => {
                    let end = value.len().saturating_sub(suffix.len());
                    value.get(prefix.len()..end).is_some_and(stands_for_caller)
                }
                Segment::Literal(_) | Segment::Rest(_) => false,
            }),
        })
    }
}

/// Whether a value, or one of a list, is read as a word for the caller: `me`, `ME`, `@me`, `me.json`, `me;v=1`, `me%20`, `me,7`,
/// or as a sign for it: `-`, `~`.
fn stands_for_caller(value: &[u8]) -> bool {
    // Most values begin otherwise, and are no lists.
    let may_be_word = |first: &u8| b"@%_$!-~ACILMOPSUVWacilmopsuvw".contains(first);
    if !value.first().is_some_and(may_be_word) && !value.iter().any(|byte| b",|+".contains(byte)) {
        return false;
    }
    str::from_utf8(value).is_ok_and(|list| list.split([',', '|', '+']).any(is_word_for_caller))
}

fn is_word_for_caller(value: &str) -> bool {
    let value = ["@", "%40"].iter().find_map(|at| value.strip_prefix(at)).unwrap_or(value);
    let word = value.split([';', ':', '%']).next().unwrap_or_default();
    let word = match word.split_once('.') {
        Some((word, format)) if FORMATS.iter().any(|it| format.eq_ignore_ascii_case(it)) => word,
        _ => word,
    };
    ["-", "~"].contains(&word) || is_caller_segment(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_caller_are_read_as_frameworks_do() {
        for value in ["me", "ME", "Self", "@me", "%40me", "me.json", "me.XML", "me;v=1", "me:show", "me%20"]
            .into_iter()
            .chain([
                "-",
                "~",
                "myself",
                "current_user",
                "current-user",
                "currentUser",
                "_self",
                "$self",
                "7,me",
                "my-profile",
            ])
        {
            assert!(stands_for_caller(value.as_bytes()), "{value}");
        }
        for value in ["", "7", "meg", "my.css", "me-too", "current.v2", "m%65", "@"] {
            assert!(!stands_for_caller(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn each_word_is_read() {
        assert!(CALLER_SEGMENTS.iter().all(|word| stands_for_caller(word.as_bytes())));
    }

    #[test]
    fn only_parameters_are_read() {
        for (template, path, expected) in [
            ("/users/{id}", "/users/me", true),
            ("/users/{id}", "/users/7", false),
            ("/users/me", "/users/me", false),
            ("/me/{id}", "/me/7", false),
            ("/users/{id}/posts", "/users/self/posts", true),
            ("/users/{id}:show", "/users/me:show", true),
            ("/users/{id}:show", "/users/7:show", false),
            ("/files/{*rest}", "/files/a/me", true),
            ("/files/{*rest}", "/files/a/b", false),
        ] {
            let template = PathTemplate::parse(template).expect("a template");
            assert_eq!(template.names_caller_in(path), expected, "{path}");
        }
    }
}
